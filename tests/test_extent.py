"""A RECIST line and a box: how far a tumor can reach that they were drawn for."""

from __future__ import annotations

import numpy as np
import pytest
from half_tissue import Ball, HalfTissue, lung
from test_corrections import model, score

from clmsda.geometry import Grid
from clmsda.marks import Marks
from clmsda.prompts import Box, Point, Prompt, RecistLine
from clmsda.segmentation import segment
from clmsda.segmentation.extent import within

ONE: Ball = ((0.0, 0.0, 0.0), 20.0)
OTHER: Ball = ((17.0, 0.0, 0.0), 16.0)  # touches the first one


@pytest.mark.parametrize(
    "said",
    [RecistLine((0.0, -10.0, 0.0), (0.0, 10.0, 0.0)), Box((-10.0, -10.0, -10.0), (10.0, 10.0, 10.0))],
    ids=["line", "box"],
)
def test_what_a_line_or_a_box_leaves_out_is_not_in_the_mask(said: Prompt) -> None:
    """A network that sees all that is dense takes both balls for one, if a point is all that it is told."""
    volume = lung(ONE, OTHER)
    clicked = segment(volume, Point(ONE[0]), model(HalfTissue())).lesions[0]
    drawn = segment(volume, said, model(HalfTissue())).lesions[0]
    assert score(clicked.mask.voxels, volume.grid, ONE) < 0.85
    assert score(drawn.mask.voxels, volume.grid, ONE) > score(clicked.mask.voxels, volume.grid, ONE) + 0.05


def test_nothing_is_farther_from_an_end_than_the_line_is_long() -> None:
    grid = Grid.axial((1, 61, 61), (1.0, 1.0, 1.0), center_mm=np.zeros(3))
    possible = within(grid, Marks(ends=((-10.0, 0.0, 0.0), (10.0, 0.0, 0.0))), 1.0)
    farthest = grid.to_lps(np.argwhere(possible))
    assert farthest[:, 0].min() == -12 and farthest[:, 0].max() == 12  # 20 mm, 5 % and a voxel from the other end
    assert farthest[:, 1].max() == 19  # sqrt(22**2 - 10**2)


def test_a_box_of_one_slice_says_nothing_of_the_others() -> None:
    grid = Grid.axial((9, 31, 31), (1.0, 1.0, 1.0), center_mm=np.zeros(3))
    flat = within(grid, Marks(box=((-5.0, -5.0, 0.0), (5.0, 5.0, 0.0))), 1.0)
    assert flat[0].any() and (flat == flat[0]).all() and flat[0].sum() == 13**2
    high = within(grid, Marks(box=((-5.0, -5.0, -1.0), (5.0, 5.0, 1.0))), 1.0)
    assert high.any(axis=(1, 2)).sum() == 5

"""What the scan says against a mask."""

from __future__ import annotations

import numpy as np
import pytest
from half_tissue import Ball, distance, lung

from clmsda.geometry import Grid, Volume
from clmsda.segmentation.doubts import aerated, doubts, ends_reached

BALL: Ball = ((0.0, 0.0, 0.0), 20.0)


def test_a_tumor_in_lung_raises_none() -> None:
    ct = lung(BALL)
    mask = Volume(distance(ct.grid, BALL) <= 0, ct.grid)
    assert doubts(mask, ct) == [] and aerated(mask, ct) < 0.05


def test_a_mask_of_lung_is_doubted() -> None:
    ct = lung(BALL)
    beside = Volume(distance(ct.grid, ((0.0, 25.0, 0.0), 20.0)) <= 0, ct.grid)
    assert aerated(beside, ct) > 0.9
    assert any("as empty as lung: is it a tumor?" in doubt for doubt in doubts(beside, ct))


@pytest.mark.parametrize(
    ("where", "shape", "said"),
    [
        (np.s_[0:2, 3, 3], (8, 8, 8), "the first or last slice of the scan"),
        (np.s_[4, 3, 6:8], (8, 8, 8), "a side of the scan"),
        (np.s_[7, 0, 3], (8, 8, 8), "the first or last slice of the scan and a side of the scan"),
        (np.s_[4, 3, 3], (8, 8, 8), ""),
        (np.s_[0, 3, 3], (1, 8, 8), "the first or last slice of the scan"),
        (np.s_[3, 3, 0], (8, 8, 1), ""),
    ],
)
def test_the_ends_that_are_reached_are_named(where: tuple, shape: tuple[int, int, int], said: str) -> None:
    voxels = np.zeros(shape, bool)
    voxels[where] = True
    assert ends_reached(Volume(voxels, Grid.axial(shape, (1.0, 1.0, 1.0)))) == said

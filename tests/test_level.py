"""Where a tumor ends: at the probability whose border is the CT's."""

from __future__ import annotations

import numpy as np
import pytest
from half_tissue import LUNG_HU, distance, lung
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from clmsda.geometry import Volume
from clmsda.marks import Marks
from clmsda.segmentation.level import HARDLY, best_level

BALL = ((0.0, 0.0, 0.0), 24.0)
CLICK = Marks(inside=((0.0, 0.0, 0.0),))


def unsure(volume: Volume, bias: float) -> Volume:
    """A network that knows where the ball is, but is too sure of it or not sure enough: log odds off by so much."""
    return Volume(expit(bias - 0.4 * distance(volume.grid, BALL)).astype(np.float32), volume.grid)


@settings(max_examples=20, deadline=None)
@given(bias=st.floats(-2.0, 1.4))
def test_the_border_is_where_the_ct_changes_however_sure_the_network_is(bias: float) -> None:
    volume = lung(BALL)
    mean = unsure(volume, bias)
    level = best_level(mean, volume, np.zeros(3), 24.0, CLICK).probability
    off_mm = abs(logit(level) - bias) / 0.4
    assert off_mm < volume.grid.spacing_mm[0]


def test_where_the_ct_shows_nothing_it_is_what_most_tumors_have() -> None:
    volume = lung(BALL)
    flat = Volume(np.full_like(volume.voxels, LUNG_HU), volume.grid)
    level = best_level(unsure(volume, 0.0), flat, np.zeros(3), 24.0, CLICK)
    assert level.probability == pytest.approx(0.31, abs=0.01) and level.slope < HARDLY
    assert best_level(unsure(volume, 0.0), volume, np.zeros(3), 24.0, CLICK).slope > HARDLY


@pytest.mark.parametrize(
    "drawn",
    [
        Marks(ends=((-9.0, 0.0, 0.0), (9.0, 0.0, 0.0))),
        Marks(box=((-9.0, -9.0, -9.0), (9.0, 9.0, 9.0))),
        Marks(box=((-9.0, -9.0, 0.0), (9.0, 9.0, 0.0))),
    ],
    ids=["line", "box", "box in one slice"],
)
def test_a_mask_is_as_long_as_what_was_drawn_where_the_ct_shows_nothing(drawn: Marks) -> None:
    volume = lung(BALL)
    flat = Volume(np.full_like(volume.voxels, LUNG_HU), volume.grid)
    steep = Volume(expit(-0.4 * distance(volume.grid, BALL)).astype(np.float32), volume.grid)
    level = best_level(steep, flat, np.zeros(3), 24.0, drawn).probability
    across = int((steep.voxels > level).any(axis=(0, 1)).sum()) * volume.grid.spacing_mm[2]
    assert across == pytest.approx(18, abs=2 * volume.grid.spacing_mm[2])

"""Lesions that touch, each with a point of its own."""

from __future__ import annotations

import numpy as np
import pytest
from half_tissue import Ball, distance, lung, model
from hypothesis import given, settings
from hypothesis import strategies as st

from clmsda.geometry import Volume
from clmsda.metrics import f1
from clmsda.prompts import Point
from clmsda.segmentation import segment
from clmsda.segmentation.parting import part_at

ONE: Ball = ((-10.0, 0.0, 0.0), 22.0)
OTHER: Ball = ((8.0, 0.0, 0.0), 18.0)  # 2 mm of it within the first one


def test_two_balls_that_touch_are_two_lesions() -> None:
    volume = lung(ONE, OTHER)
    found = segment(volume, [Point((-13.0, 2.0, 0.0)), Point((10.0, 0.0, 2.0))], model())
    for lesion, ball, other in zip(found.lesions, (ONE, OTHER), (2, 1), strict=True):
        assert f1(lesion.mask.voxels, distance(volume.grid, ball) <= 0) > 0.93
        assert any(f"parted from lesion {other}" in warning for warning in lesion.warnings)
        assert lesion.measurement and lesion.measurement.long_axis_mm == pytest.approx(ball[1], abs=3)
    assert not (found.lesions[0].mask.voxels & found.lesions[1].mask.voxels).any()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_one_ball_is_never_parted(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ball = ((0.0, 0.0, 0.0), float(rng.uniform(12, 40)))
    volume = lung(ball)
    mask = Volume(distance(volume.grid, ball) <= 0, volume.grid)
    own, other = (tuple(map(float, rng.uniform(-0.28, 0.28, 3) * ball[1])) for _ in range(2))
    assert (part_at(mask, own, [other]) == mask.voxels).all()  # type: ignore[arg-type]


def test_parts_cover_the_whole_and_share_nothing() -> None:
    """Three balls in a row: each has its own part, whatever the order of their points."""
    balls: list[Ball] = [((-18.0, 0.0, 0.0), 18.0), ((0.0, 0.0, 0.0), 20.0), ((17.0, 2.0, 0.0), 16.0)]
    volume = lung(*balls)
    mask = Volume(np.min([distance(volume.grid, ball) for ball in balls], axis=0) <= 0, volume.grid)
    points = [ball[0] for ball in balls]
    parts = [part_at(mask, point, [one for one in points if one != point]) for point in points]
    assert (np.sum(parts, axis=0) == mask.voxels).mean() > 0.999
    for part, ball in zip(parts, balls, strict=True):
        assert f1(part, distance(volume.grid, ball) <= 0) > 0.9

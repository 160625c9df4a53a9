"""Fixtures that several tests share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clmsda.geometry import Grid, Volume

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real chest CTs beside the repository; without it the test is skipped."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the real chest CTs in ../shared/data, which are not part of the repository")
    return SHARED_DATA


def rotation(*degrees: float) -> np.ndarray:
    """(3, 3): turns about x, then y, then z."""
    turned = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        one, other = [a for a in range(3) if a != axis]
        turn = np.eye(3)
        turn[[one, other, one, other], [one, other, other, one]] = *[np.cos(angle)] * 2, -np.sin(angle), np.sin(angle)
        turned = turn @ turned
    return turned


@pytest.fixture(params=["upward", "downward"])
def lopsided(request: pytest.FixtureRequest) -> Volume:
    """A volume that no two axes, directions or corners of can be mixed up unnoticed, in both slice orders."""
    shape = (7, 11, 13)
    affine = np.eye(4)
    affine[:3, :3] = rotation(6, -9, 17) @ Grid.axial(shape, (2.5, 0.7, 0.8)).affine[:3, :3]
    affine[:3, 3] = (-31.25, 140.5, -512.75)
    if request.param == "downward":
        affine[:3, 3] += 6 * affine[:3, 0]
        affine[:3, 0] *= -1
    voxels = np.random.default_rng(20240613).integers(-1024, 1500, shape).astype(np.int16)
    return Volume(voxels, Grid(shape, affine), "lopsided")


@pytest.fixture
def labels(lopsided: Volume) -> Volume:
    """Three separate lopsided lesions on the lopsided grid: a solid one, one with a hole, a single voxel."""
    voxels = np.zeros(lopsided.grid.shape, np.uint8)
    voxels[1:4, 1:5, 2:9] = 1
    voxels[5, 6:11, 5:12] = 2
    voxels[5, 8, 7:10] = 0
    voxels[6, 0, 12] = 3
    return Volume(voxels, lopsided.grid, "labels")

"""Where a border cannot be seen: a ball on a wall of the same density."""

from __future__ import annotations

import numpy as np
import pytest
from half_tissue import LUNG_HU, TISSUE_HU

from clmsda.geometry import Grid, Volume
from clmsda.segmentation.borders import missing_border

GRID = Grid.axial((40, 40, 40), (2.0, 1.5, 1.5), center_mm=(0, 0, 0))
POINTS = GRID.to_lps(np.moveaxis(np.indices(GRID.shape), 0, -1))
BALL = np.linalg.norm(POINTS, axis=-1) <= 14


def shown(wall: np.ndarray, wall_hu: float = TISSUE_HU) -> Volume:
    noise = np.random.default_rng(0).normal(0, 20, GRID.shape)
    return Volume((np.where(BALL, TISSUE_HU, np.where(wall, wall_hu, LUNG_HU)) + noise).astype(np.int16), GRID)


def test_a_ball_in_lung_has_a_border_all_around() -> None:
    share, _ = missing_border(Volume(BALL, GRID), shown(np.zeros(GRID.shape, bool)))
    assert share == 0


@pytest.mark.parametrize(
    ("axis", "sign", "side"),
    [(0, 1, "left"), (0, -1, "right"), (1, 1, "back"), (1, -1, "front"), (2, 1, "head"), (2, -1, "feet")],
)
def test_the_side_without_a_border_is_named(axis: int, sign: int, side: str) -> None:
    """Half of the ball lies in the wall; a wall that differs by 100 HU shows the border."""
    wall = sign * POINTS[..., axis] > 0
    share, towards = missing_border(Volume(BALL, GRID), shown(wall))
    assert 0.3 < share < 0.6 and towards.endswith(side)
    assert missing_border(Volume(BALL, GRID), shown(wall, TISSUE_HU + 150))[0] < 0.1


def test_the_order_of_storage_changes_nothing() -> None:
    wall = POINTS[..., 0] > 0
    mask, image = Volume(BALL, GRID), shown(wall)
    affine = GRID.affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 39], [0, 0, 0, 1.0]])
    turned = Grid(GRID.shape, affine)
    found = missing_border(Volume(BALL[:, :, ::-1], turned), Volume(image.voxels[:, :, ::-1], turned))
    assert found == missing_border(mask, image)


def test_beyond_the_scan_no_border_is_seen() -> None:
    """All of a scan is mask: nothing lies outside."""
    share, _ = missing_border(Volume(np.ones(GRID.shape, bool), GRID), shown(BALL))
    assert share == 1

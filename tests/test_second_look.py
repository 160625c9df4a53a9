"""The second look of a training step: carried masks, and corrections as a person would give them."""

from __future__ import annotations

import numpy as np
import torch

from clmsda.geometry import Grid, Volume, resample
from clmsda.marks import PointMm
from clmsda.training.samples import Again, _from_first
from clmsda.training.second_look import carried, corrections, look_again


def ball(grid: Grid, radius: float) -> np.ndarray:
    points = grid.to_lps(np.moveaxis(np.indices(grid.shape), 0, -1))
    return np.clip(0.5 + radius - np.linalg.norm(points - [4.0, -6.0, 2.0], axis=-1), 0, 1).astype(np.float32)


def test_what_the_first_look_found_lies_where_it_was_in_the_patient() -> None:
    first = Grid.axial((24, 20, 28), (2.0, 2.0, 2.0), center_mm=(3, -5, 1))
    fine = Grid.axial((24, 20, 28), (0.8, 0.8, 0.8), center_mm=(9, -2, 4))
    mask = ball(first, 9)
    moved = carried(torch.from_numpy(mask)[None, None], torch.from_numpy(_from_first(fine, first))[None])[0, 0].numpy()
    expected = resample(Volume(mask, first), fine, fill=0).voxels
    np.testing.assert_allclose(moved, expected, atol=1e-4)


def test_the_largest_errors_are_clicked() -> None:
    true = np.zeros((12, 20, 20), bool)
    true[3:9, 3:9, 3:9] = True
    found = true.copy()
    found[3:9, 3:9, 6:9] = False  # 108 voxels missed
    found[3:9, 12:18, 12:15] = True  # 108 too much
    found[0, 0, 0] = True
    inside, outside = corrections(found, true, 2, np.random.default_rng(0))
    assert len(inside) == len(outside) == 1
    assert true[index(inside[0])] and not found[index(inside[0])]
    assert found[index(outside[0])] and not true[index(outside[0])] and outside[0] != (0, 0, 0)
    assert corrections(true, true, 3, np.random.default_rng(0)) == ((), ())


def index(point: PointMm) -> tuple[int, int, int]:
    k, row, column = (int(i) for i in point)
    return k, row, column


def test_the_second_look_sees_the_first_mask_and_the_corrections() -> None:
    grid = Grid.axial((8, 8, 8), (1.0, 1.0, 1.0))
    target = torch.zeros(2, 1, 8, 8, 8)
    target[:, :, 2:6, 2:6, 2:6] = 1
    found = torch.zeros_like(target)
    found[:, :, 2:6, 2:6, :4] = 0.9
    identity = torch.from_numpy(_from_first(grid, grid)).expand(2, 3, 4)
    again = Again(torch.zeros(2, 6, 8, 8, 8), target, target >= 0, identity, torch.tensor([0, 2]), torch.tensor([1, 1]))
    images = look_again(again, found, 2, "gaussian")
    assert not images[:, :2].any() and not images[:, 4].any()  # windows and extent stay as they were
    assert not images[0, 2:4].any()  # no correction was asked for
    k, row, column = np.unravel_index(int(images[1, 2].argmax()), (8, 8, 8))
    assert images[1, 2].max() == 1 and target[1, 0, k, row, column] == 1 and column >= 4
    k, row, column = np.unravel_index(int(images[1, 3].argmax()), (8, 8, 8))
    assert images[1, 3].max() == 1 and target[1, 0, k, row, column] == 0 and found[1, 0, k, row, column] > 0.5
    for one in images[:, 5]:
        assert torch.allclose(one, found[0, 0], atol=1e-5) or torch.equal(one, (found[0, 0] > 0.5).float())

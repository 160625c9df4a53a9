"""Where a simulated reader corrects a mask: deepest inside the largest error, in mm."""

from __future__ import annotations

import numpy as np

from clmsda.geometry import Grid, Volume
from clmsda.prompts import Correction, Inside, Outside
from clmsda.studies.protocols import correction


def masks(found: dict, truth: dict, spacing_mm: tuple[float, float, float] = (1, 1, 1)) -> tuple[Volume, Volume]:
    """Two masks of 12 cubed from boxes given as slices."""
    grid = Grid.axial((12, 12, 12), spacing_mm, origin_mm=(-5, 7, 100))
    volumes = []
    for boxes in (found, truth):
        voxels = np.zeros(grid.shape, bool)
        for k, row, column in boxes:
            voxels[slice(*k), slice(*row), slice(*column)] = True
        volumes.append(Volume(voxels, grid))
    return volumes[0], volumes[1]


CUBE = ((2, 7), (2, 7), (2, 7))


def at(correction_: Correction | None, grid: Grid) -> tuple[int, ...]:
    assert correction_ is not None
    return tuple(np.rint(grid.to_index(correction_.lps_mm)).astype(int).tolist())


def test_a_missed_tumor_is_clicked_in_its_middle() -> None:
    found, truth = masks([], [CUBE])
    assert at(correction(found, truth), truth.grid) == (4, 4, 4)
    assert isinstance(correction(found, truth), Inside)
    assert isinstance(correction(truth, found), Outside)  # the same mask, all of it too much
    assert correction(truth, truth) is None
    assert correction(found, found) is None


def test_the_largest_error_is_mended_first() -> None:
    """27 voxels too much, and 2 x 12 missed: more in all, but apart."""
    parts = [((9, 11), (0, 2), (0, 3)), ((9, 11), (9, 11), (9, 12))]
    found, truth = masks([CUBE, ((8, 11), (4, 7), (4, 7))], [CUBE, *parts])
    first = correction(found, truth)
    assert isinstance(first, Outside) and at(first, truth.grid) == (9, 5, 5)
    better = Volume(found.voxels & truth.voxels, found.grid)
    second = correction(better, truth)
    assert isinstance(second, Inside) and not better.voxels[at(second, truth.grid)]


def test_parts_that_touch_at_an_edge_are_two_errors() -> None:
    """2 x 8 missed voxels that share an edge only, beside 12 in one piece."""
    touching = [((0, 2), (0, 2), (0, 2)), ((2, 4), (2, 4), (0, 2))]
    found, truth = masks([((8, 10), (8, 10), (8, 11))], touching)
    assert isinstance(correction(found, truth), Outside)


def test_deepest_is_in_mm_and_never_at_the_grids_end() -> None:
    """A plate of 3 slices 5 mm apart reaches the end of the grid; it is 12 mm wide: depth is along the rows."""
    found, truth = masks([], [((9, 12), (3, 6), (0, 12))], spacing_mm=(5, 1, 1))
    _, row, column = at(correction(found, truth), truth.grid)
    assert row == 4 and 1 <= column <= 10
    found, truth = masks([], [((0, 3), (0, 3), (0, 3))])
    assert at(correction(found, truth), truth.grid) == (1, 1, 1)


def test_a_correction_lies_in_the_patients_frame_of_a_turned_grid(lopsided: Volume, labels: Volume) -> None:
    truth = Volume(labels.voxels == 1, labels.grid)
    found = Volume(np.zeros_like(truth.voxels), labels.grid)
    assert truth.voxels[at(correction(found, truth), truth.grid)]
    assert np.allclose(truth.grid.to_lps(at(correction(found, truth), truth.grid)), correction(found, truth).lps_mm)

"""Peers: masks of another system by case name, on whichever grid it wrote them, and region growing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_study import chest

from clmsda.cohorts import Cohort, add_case
from clmsda.geometry import Grid, Volume
from clmsda.images import write_mask
from clmsda.images.errors import GridMismatch
from clmsda.metrics import precision, recall
from clmsda.prompts import Point
from clmsda.studies.config import Peer, StudyError
from clmsda.studies.peers import ball, check_predictions, read_prediction, region_growing
from clmsda.studies.protocols import Target


@pytest.fixture
def whole(tmp_path: Path) -> tuple[Volume, Volume]:
    """A chest with so many slices more that its tumor's slab is a part of it."""
    image, mask = chest(40.0)
    grid = Grid.axial((60, *image.grid.shape[1:]), image.grid.spacing_mm.tolist(), center_mm=(0, 0, 0))
    voxels, truth = np.full(grid.shape, -1000, np.int16), np.zeros(grid.shape, np.uint8)
    voxels[18:42], truth[18:42] = image.voxels, mask.voxels
    return Volume(voxels, grid), Volume(truth, grid)


@pytest.fixture
def target(tmp_path: Path, whole: tuple[Volume, Volume]) -> Target:
    add_case(tmp_path / "cohort", "one", *whole, image_path="", mask_path="")
    cohort = Cohort.open(tmp_path / "cohort")
    assert cohort.slab(cohort.cases[0])[0].grid.shape[0] < 30
    return Target.open(cohort, cohort.cases[0])


def peer(tmp_path: Path) -> Peer:
    (tmp_path / "masks").mkdir(exist_ok=True)
    return Peer("nnU-Net", predictions=str(tmp_path / "masks"))


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
@pytest.mark.parametrize("turned", ["as it is", "flipped", "axes swapped"])
def test_masks_of_the_whole_ct(
    tmp_path: Path, whole: tuple[Volume, Volume], target: Target, suffix: str, turned: str
) -> None:
    mask = whole[1]
    affine = mask.grid.affine.copy()
    voxels = mask.voxels
    if turned == "flipped":
        voxels = voxels[::-1, :, ::-1]
        affine[:3, 3] = mask.grid.to_lps((59, 0, mask.grid.shape[2] - 1))
        affine[:3, [0, 2]] *= -1
    elif turned == "axes swapped":
        voxels, affine = voxels.transpose(0, 2, 1), affine[:, [0, 2, 1, 3]]
    write_mask(
        Volume(voxels.copy(), Grid(voxels.shape, affine)), Path(peer(tmp_path).predictions or "", "one" + suffix)
    )
    prediction = read_prediction(peer(tmp_path), target)
    assert prediction.mask.grid == target.truth.grid
    assert np.array_equal(prediction.mask.voxels, target.truth.voxels)
    assert prediction.note == ""


def test_masks_of_the_slab_and_what_lies_beyond_it(
    tmp_path: Path, whole: tuple[Volume, Volume], target: Target
) -> None:
    path = Path(peer(tmp_path).predictions or "", "one.nii.gz")
    write_mask(target.truth, path)
    assert np.array_equal(read_prediction(peer(tmp_path), target).mask.voxels, target.truth.voxels)
    more = whole[1].voxels.copy()
    more[0, :2, :3] = 1
    write_mask(Volume(more, whole[1].grid), path)
    prediction = read_prediction(peer(tmp_path), target)
    assert np.array_equal(prediction.mask.voxels, target.truth.voxels)
    assert prediction.note == "6 voxels beyond the slab are not counted"


@pytest.mark.parametrize(
    "grid",
    [
        Grid.axial((60, 56, 64), (5.0, 4.0, 5.0), center_mm=(0, 0, 0)),
        Grid.axial((60, 56, 64), (5.0, 5.0, 5.0), center_mm=(0, 2, 0)),
        Grid.axial((60, 56, 64), (5.0, 5.0, 5.0), center_mm=(0, 0, 2)),
        Grid.axial((60, 28, 32), (5.0, 5.0, 5.0), center_mm=(0, 0, 0)),
        Grid.axial((30, 56, 64), (10.0, 5.0, 5.0), center_mm=(0, 0, 0)),
        Grid.axial((60, 56, 64), (5.0, 5.0, 5.0), center_mm=(0, 0, 4000)),
    ],
)
def test_a_mask_on_another_grid_is_refused(tmp_path: Path, target: Target, grid: Grid) -> None:
    write_mask(Volume(np.ones(grid.shape, np.uint8), grid), Path(peer(tmp_path).predictions or "", "one.nii.gz"))
    with pytest.raises(GridMismatch, match=r"one\.nii\.gz lies on another grid"):
        read_prediction(peer(tmp_path), target)


def test_missing_masks_are_named(tmp_path: Path, target: Target) -> None:
    write_mask(target.truth, Path(peer(tmp_path).predictions or "", "one.mha"))
    check_predictions(peer(tmp_path), ["one"])
    with pytest.raises(StudyError, match=r"'nnU-Net'.* each of 3 test cases .*missing: three, two: predict them"):
        check_predictions(peer(tmp_path), ["one", "two", "three"])


def test_what_is_dense_in_a_ball_of_the_true_size(target: Target) -> None:
    """The tumor is a ball of tissue in the lung: size and center give it away."""
    found = ball(target).mask.voxels
    assert recall(found, target.truth.voxels) > 0.95 and precision(found, target.truth.voxels) > 0.9
    assert (target.image.voxels[found] > -600).all()
    first, last = target.case.tumor_slices
    assert not found[:first].any() and not found[last + 1 :].any()


def test_region_growing_stays_in_a_ball_from_one_click(target: Target) -> None:
    prediction = region_growing(target, Point(target.case.center_mm), 2.5)
    assert prediction.mask.grid == target.truth.grid
    assert precision(prediction.mask.voxels, target.truth.voxels) == 1
    assert recall(prediction.mask.voxels, target.truth.voxels) > 0.3  # it smooths the edge away

"""What an import leaves out, and why: cases that cannot be one, and further tumors of a mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cohort_sources import GRID, LEFT, RIGHT, ball, chest, labels, write_pair, write_table

from clmsda.cohorts import CohortError
from clmsda.cohorts.candidates import Candidate, Exclusion, Listing, read_exclusions, write_exclusions
from clmsda.cohorts.importing import import_cases, import_one
from clmsda.cohorts.reading import one_tumor
from clmsda.geometry import Volume
from clmsda.images import write_image, write_mask
from clmsda.measurements import EmptyMask, measure


def pair(folder: Path, name: str, *tumors: Volume) -> Candidate:
    image, mask = folder / f"{name}.nii", folder / f"{name}_mask.nii"
    write_pair(image, mask, *tumors)
    return Candidate(name, name, image, mask)


def no_tumor(folder: Path) -> Candidate:
    return pair(folder, "x")


def mask_of_another_grid(folder: Path) -> Candidate:
    candidate = pair(folder, "x", ball())
    write_mask(ball().crop((1, 0, 0), GRID.shape), candidate.mask)
    return candidate


def no_image(folder: Path) -> Candidate:
    candidate = pair(folder, "x", ball())
    candidate.image.unlink()
    return candidate


def truncated_image(folder: Path) -> Candidate:
    candidate = pair(folder, "x", ball())
    candidate.image.write_bytes(candidate.image.read_bytes()[:5000])
    return candidate


def image_of_fractions(folder: Path) -> Candidate:
    candidate = pair(folder, "x", ball())
    write_image(Volume(chest(ball()).voxels / np.float32(4000) + 1, GRID), candidate.image)
    return candidate


def unreadable_mask(folder: Path) -> Candidate:
    candidate = pair(folder, "x", ball())
    candidate.mask.unlink()
    candidate.mask.mkdir()
    return candidate


def other_label(folder: Path) -> Candidate:
    return replace(pair(folder, "x", ball()), labels=(7,))


def name_of_a_path(folder: Path) -> Candidate:
    return replace(pair(folder, "x", ball()), case="../x")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (no_tumor, "expected a mask with at least one voxel, found an empty one"),
        (mask_of_another_grid, "lies on another grid than the image: shape 13x36x44 instead of 14x36x44"),
        (no_image, "there is no file or folder"),
        (truncated_image, "cannot be read; is it truncated or damaged?"),
        (image_of_fractions, "not Hounsfield units"),
        (unreadable_mask, "expected DICOM files in"),
        (other_label, "has no voxel of label 7, which is the tumor; found 1"),
        (name_of_a_path, "a case called '../x' cannot name files"),
    ],
)
def test_what_cannot_be_a_case_is_left_out_with_the_reason(
    tmp_path: Path, make: Callable[[Path], Candidate], said: str
) -> None:
    good, bad = pair(tmp_path / "source", "good", ball()), make(tmp_path / "source")
    cohort, exclusions = import_cases(tmp_path / "cohort", Listing((bad, good), ()))
    assert [case.case for case in cohort.cases] == ["good"]
    (exclusion,) = exclusions
    assert exclusion.patient == "x" and said in exclusion.reason
    assert read_exclusions(tmp_path / "cohort") == exclusions
    assert {path.name.split(".")[0] for path in (tmp_path / "cohort" / "slabs").iterdir()} == {"good"}


def test_an_error_that_nobody_foresaw_leaves_out_its_case_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("ReferencedROINumber")

    candidate = pair(tmp_path, "x", ball())
    monkeypatch.setattr("clmsda.cohorts.reading.read_mask", broken)
    outcome = import_one(tmp_path, candidate)
    assert outcome.case is None
    reason = outcome.exclusions[0].reason
    assert "x_mask.nii is truncated or damaged" in reason and "ReferencedROINumber" not in reason  # nor other Python


def test_a_name_twice_leaves_both_out(tmp_path: Path) -> None:
    one, two, other = (pair(tmp_path / folder, name, ball()) for folder, name in (("1", "x"), ("2", "X"), ("2", "y")))
    cohort, exclusions = import_cases(tmp_path / "cohort", Listing((one, two, other), ()))
    assert [case.case for case in cohort.cases] == ["y"]
    assert [exclusion.source for exclusion in exclusions] == [str(two.mask), str(one.mask)]
    assert "2 cases are called x, expected one: rename them" in exclusions[1].reason
    assert str(two.mask) in exclusions[1].reason


def test_of_two_tumors_the_larger_is_studied_and_the_other_named(tmp_path: Path) -> None:
    candidate = pair(tmp_path / "source", "x", ball(24.0, RIGHT), ball(34.0, LEFT))
    cohort, (exclusion,) = import_cases(tmp_path / "cohort", Listing((candidate,), ()))
    (case,) = cohort.cases
    assert case.volume_ml == pytest.approx(measure(ball(34.0, LEFT)).volume_ml)
    assert cohort.slab(case)[1].voxels.sum() == ball(34.0, LEFT).voxels.sum()
    ml = measure(ball(24.0, RIGHT)).volume_ml
    assert f"a further tumor of {ml:.2f} ml at LPS -50, 0, 0 mm" in exclusion.reason
    assert exclusion.source == str(candidate.mask)
    again, kept = import_cases(tmp_path / "cohort", Listing((candidate,), ()))
    assert kept == [exclusion] and again.digest == cohort.digest  # a kept case's other tumor is not forgotten


def test_tumors_are_told_apart_by_label_and_by_piece() -> None:
    left, right = ball(34.0, LEFT), ball(24.0, RIGHT)
    touching = ball(20.0, (LEFT[0] + 24, 0, 0))
    voxels = left.voxels.copy()
    voxels[right.voxels > 0] = 1
    pieces, others = one_tumor(Volume(voxels, GRID))
    assert (pieces == left.voxels).all() and len(others) == 1
    apart = labels(left, touching)
    found, others = one_tumor(Volume(np.where(touching.voxels, 2, left.voxels), GRID))
    assert len(others) == 1 and found.sum() == (left.voxels & ~touching.voxels & 1).sum()
    together, others = one_tumor(Volume(np.minimum(apart.voxels, 2), GRID), (1, 2))
    assert not others and (together == (apart.voxels > 0)).all()


def test_specks_belong_to_the_tumor() -> None:
    tumor = ball(34.0, LEFT)
    voxels = tumor.voxels.copy()
    voxels[2, 3, 4] = 1
    found, others = one_tumor(Volume(voxels, GRID))
    assert (found == voxels).all() and not others
    with pytest.raises(EmptyMask):
        one_tumor(Volume(np.zeros_like(voxels), GRID))


def test_exclusions_are_a_table(tmp_path: Path) -> None:
    rows = [Exclusion("B", "b.dcm", 'two "tumors", of which one'), Exclusion("A", "a.dcm", "no CT")]
    write_exclusions(tmp_path, [*rows, rows[0]])
    assert read_exclusions(tmp_path) == rows[::-1]
    write_table(tmp_path / "exclusions.csv", [["patient", "reason"], ["A", "none"]])
    with pytest.raises(CohortError, match="not a table of patient, source, reason"):
        read_exclusions(tmp_path)

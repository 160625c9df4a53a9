"""A mask meets an image: frames of reference and series are compared in measure, convert and the import of cohorts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from clinic import Clinic, clinic
from cohort_sources import ball, ct_of, rtstruct_of, write_table
from command_line import clmsda, refused
from dicom_series import save
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from clmsda.cohorts.importing import import_cases
from clmsda.cohorts.pairs import pairs
from clmsda.dicom_objects import build_rtstruct, build_seg, write_dataset
from clmsda.geometry import Volume
from clmsda.images import write_image

pytestmark = pytest.mark.parametrize("lopsided", ["upward"], indirect=True)

OTHER = generate_uid(None)
Edit = Callable[[Dataset], object]


@pytest.fixture
def case(lopsided: Volume, labels: Volume, tmp_path: Path) -> Clinic:
    return clinic(tmp_path, lopsided, labels)


def drawn(case: Clinic, build: Callable[..., Dataset], path: Path, edit: Edit) -> Path:
    dataset = build(case.source, case.findings[:1])
    edit(dataset)
    write_dataset(dataset, path)
    return path


def listed_frame(dataset: Dataset, uid: str | None) -> None:
    dataset.FrameOfReferenceUID = uid
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or []:
        frame.FrameOfReferenceUID = uid


def frame(dataset: Dataset, uid: str | None = OTHER) -> None:
    listed_frame(dataset, uid)
    for roi in dataset.get("StructureSetROISequence") or []:
        roi.ReferencedFrameOfReferenceUID = uid


def series(dataset: Dataset, uid: str | None = OTHER) -> None:
    for one in dataset.get("ReferencedSeriesSequence") or []:
        one.SeriesInstanceUID = uid
    for one in dataset.get("ReferencedFrameOfReferenceSequence") or []:
        one.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0].SeriesInstanceUID = uid


@pytest.mark.parametrize("build", [build_seg, build_rtstruct])
def test_another_frame_of_reference_is_refused(case: Clinic, tmp_path: Path, build: Callable[..., Dataset]) -> None:
    """Even where the series that it names is the CT's, and the millimeters are the same."""
    mask = drawn(case, build, tmp_path / "mask.dcm", frame)
    said = f"mask.dcm lies in another frame of reference, {OTHER}, than the image, {case.source.frame_uid}"
    assert said in refused("measure", mask, "--image", case.folder)
    for option, name in (("--nifti", "n.nii.gz"), ("--dicom-seg", "s.dcm")):
        assert said in refused("convert", mask, "--reference", case.folder, option, tmp_path / name)
        assert not (tmp_path / name).exists()


@pytest.mark.parametrize("build", [build_seg, build_rtstruct])
@pytest.mark.parametrize("uid", [None, ""])
def test_no_frame_of_reference_says_nothing(
    case: Clinic, tmp_path: Path, caplog: pytest.LogCaptureFixture, build: Callable[..., Dataset], uid: str | None
) -> None:
    """As in much old software: neither a mask without one nor a CT without one is refused."""
    mask = drawn(case, build, tmp_path / "mask.dcm", lambda dataset: frame(dataset, uid))
    assert clmsda("measure", mask, "--image", case.folder).returncode == 0
    for path in case.folder.iterdir():
        head = dcmread(path)
        del head.FrameOfReferenceUID
        head.save_as(path)
    mask = drawn(case, build, tmp_path / "mask.dcm", frame)
    assert clmsda("measure", mask, "--image", case.folder).returncode == 0
    assert "frame of reference" not in caplog.text


def test_the_image_is_a_nifti(case: Clinic, tmp_path: Path) -> None:
    write_image(case.ct, tmp_path / "ct.nii.gz")
    mask = drawn(case, build_rtstruct, tmp_path / "mask.dcm", frame)
    assert clmsda("measure", mask, "--image", tmp_path / "ct.nii.gz").returncode == 0


def test_each_roi_has_its_own_frame(case: Clinic, tmp_path: Path) -> None:
    """One structure set may hold regions of a CT and of a PET: the region that is asked for counts."""
    dataset = build_rtstruct(case.source, case.findings)
    pet = Dataset()
    pet.FrameOfReferenceUID = OTHER
    dataset.ReferencedFrameOfReferenceSequence.append(pet)
    dataset.StructureSetROISequence[1].ReferencedFrameOfReferenceUID = OTHER
    write_dataset(dataset, tmp_path / "mask.dcm")
    assert clmsda("measure", tmp_path / "mask.dcm", "--image", case.folder, "--roi", "Lesion 1").returncode == 0
    said = refused("measure", tmp_path / "mask.dcm", "--image", case.folder, "--roi", "Lesion 2")
    assert f"another frame of reference, {OTHER}" in said


def test_a_frame_that_the_file_does_not_list_is_said(case: Clinic, tmp_path: Path) -> None:
    """It contradicts itself: the sequence has the image's frame, or none at all."""
    for edit in (lambda dataset: None, lambda dataset: listed_frame(dataset, None)):

        def both(dataset: Dataset, edit: Edit = edit) -> None:
            edit(dataset)
            dataset.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = OTHER

        mask = drawn(case, build_rtstruct, tmp_path / "mask.dcm", both)
        done = clmsda("measure", mask, "--image", case.folder, "--json", "-")
        (said,) = json.loads(done.stdout)["warnings"]
        assert "names a frame of reference for its region" in said


@pytest.mark.parametrize("build", [build_seg, build_rtstruct])
def test_another_series_of_the_same_frame_is_said(
    case: Clinic, tmp_path: Path, build: Callable[..., Dataset], caplog: pytest.LogCaptureFixture
) -> None:
    mask = drawn(case, build, tmp_path / "mask.dcm", series)
    done = clmsda("measure", mask, "--image", case.folder, "--json", tmp_path / "m.json")
    assert done.returncode == 0, done.stderr
    (said,) = json.loads((tmp_path / "m.json").read_text())["warnings"]
    assert said.startswith(f"mask.dcm was drawn on another series, {OTHER}, than the one given, ")
    assert said in caplog.text
    outputs = ["--dicom-seg", tmp_path / "s.dcm"]
    assert "drawn on another series" in refused("convert", mask, "--reference", case.folder, *outputs)


def test_no_series_and_the_same_series_say_nothing(case: Clinic, tmp_path: Path) -> None:
    for number, edit in enumerate((lambda dataset: None, lambda dataset: series(dataset, None))):
        mask = drawn(case, build_seg, tmp_path / f"{number}.dcm", edit)
        done = clmsda("measure", mask, "--image", case.folder, "--json", "-")
        assert json.loads(done.stdout)["warnings"] == []


def test_warnings_are_on_the_screen_once(case: Clinic, tmp_path: Path) -> None:
    mask = drawn(case, build_seg, tmp_path / "mask.dcm", series)
    done = clmsda("measure", mask, "--image", case.folder)
    assert done.stderr.count("warning: mask.dcm was drawn on another series") == 1


@pytest.mark.parametrize(("edit", "reason"), [(frame, "another frame of reference"), (series, "")])
def test_a_cohort_takes_no_mask_of_another_frame(
    tmp_path: Path, lopsided: Volume, edit: Edit, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("right", "edited"):
        ct = ct_of(name, ball(30))
        structures = rtstruct_of(ct, {"GTV-1": ball(30)})
        if name == "edited":
            edit(structures)
        save(ct, tmp_path / name / "ct")
        save([structures], tmp_path / name / "rt")
    rows = [
        ["case", "image", "mask", "roi"],
        *([n, f"{n}/ct", f"{n}/rt/IM0001.dcm", "GTV-1"] for n in ("right", "edited")),
    ]
    listing = pairs(write_table(tmp_path / "pairs.csv", rows))
    cohort, exclusions = import_cases(tmp_path / "cohort", listing)
    kept = {case.case for case in cohort.cases}
    assert kept == ({"right"} if reason else {"right", "edited"})
    assert [reason in one.reason for one in exclusions] == [True] * bool(reason)
    assert ("was drawn on another series" in caplog.text) == (not reason)

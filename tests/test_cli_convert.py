"""`clmsda convert`: from any mask to DICOM objects and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clinic import Clinic, clinic
from command_line import clmsda, refused
from dicom_series import contours_of, rtstruct, save, write_series
from pydicom import dcmread
from pydicom.uid import generate_uid

from clmsda.dicom_objects import build_rtstruct, build_seg, write_dataset
from clmsda.geometry import Grid, Volume
from clmsda.images import read_mask, write_image, write_mask

pytestmark = pytest.mark.parametrize("lopsided", ["upward"], indirect=True)


@pytest.fixture
def case(lopsided: Volume, labels: Volume, tmp_path: Path) -> Clinic:
    case = clinic(tmp_path, lopsided, labels)
    write_mask(labels, tmp_path / "mask.nii.gz")
    return case


def converted(mask: Path, case: Clinic, out: Path, *options: object) -> None:
    done = clmsda("convert", mask, "--reference", case.folder, *options)
    assert done.returncode == 0, done.stderr
    assert str(out) in done.stdout


def test_voxels_become_all_objects(case: Clinic, tmp_path: Path) -> None:
    seg, structures, report = (tmp_path / name for name in ("seg.dcm", "rt.dcm", "sr.dcm"))
    outputs = ["--dicom-seg", seg, "--rtstruct", structures, "--sr", report]
    converted(tmp_path / "mask.nii.gz", case, report, *outputs)
    np.testing.assert_array_equal(read_mask(seg, grid=case.ct.grid).voxels, case.labels.voxels)
    for label in (1, 2, 3):
        mask = read_mask(structures, grid=case.ct.grid, roi=f"Lesion {label}")
        np.testing.assert_array_equal(mask.voxels, case.labels.voxels == label)
    assert {one.SegmentAlgorithmType for one in dcmread(seg).SegmentSequence} == {"MANUAL"}
    assert dcmread(seg).SegmentSequence[0].TrackingUID in str(dcmread(report))


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_objects_become_voxels(case: Clinic, tmp_path: Path, suffix: str) -> None:
    write_dataset(build_seg(case.source, case.findings), tmp_path / "seg.dcm")
    write_dataset(build_rtstruct(case.source, case.findings), tmp_path / "rt.dcm")
    out = tmp_path / f"back{suffix}"
    converted(tmp_path / "seg.dcm", case, out, "--nifti", out)
    np.testing.assert_array_equal(read_mask(out, grid=case.ct.grid).voxels, case.labels.voxels)
    converted(tmp_path / "rt.dcm", case, out, "--nifti", out, "--roi", "lesion 2")
    np.testing.assert_array_equal(read_mask(out, grid=case.ct.grid).voxels, case.labels.voxels == 2)


def test_contours_of_a_nifti_need_no_dicom(case: Clinic, tmp_path: Path) -> None:
    write_image(case.ct, tmp_path / "ct.nii.gz")
    write_dataset(build_rtstruct(case.source, case.findings[:1]), tmp_path / "rt.dcm")
    out = tmp_path / "back.nii.gz"
    done = clmsda("convert", tmp_path / "rt.dcm", "--reference", tmp_path / "ct.nii.gz", "--nifti", out)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(read_mask(out, grid=case.ct.grid).voxels, case.labels.voxels == 1)


def test_a_segmentation_keeps_its_names_its_makers_and_its_tracking(case: Clinic, tmp_path: Path) -> None:
    write_dataset(build_seg(case.source, case.findings), tmp_path / "seg.dcm")
    converted(tmp_path / "seg.dcm", case, tmp_path / "rt.dcm", "--rtstruct", tmp_path / "rt.dcm")
    rois = dcmread(tmp_path / "rt.dcm").StructureSetROISequence
    assert [roi.ROIName for roi in rois] == ["Lesion 1", "Lesion 2", "Lesion 3"]
    assert {roi.ROIGenerationAlgorithm for roi in rois} == {"SEMIAUTOMATIC"}
    again = tmp_path / "again.dcm"
    converted(tmp_path / "seg.dcm", case, again, "--dicom-seg", again, "--roi", "Lesion 3")
    (segment,) = dcmread(again).SegmentSequence
    original = dcmread(tmp_path / "seg.dcm").SegmentSequence[2]
    for keyword in ("SegmentLabel", "TrackingID", "TrackingUID", "SegmentAlgorithmType", "SegmentAlgorithmName"):
        assert segment[keyword].value == original[keyword].value
    identification = segment.SegmentationAlgorithmIdentificationSequence[0]
    assert identification == original.SegmentationAlgorithmIdentificationSequence[0]


def test_a_roi_keeps_its_name_and_how_it_was_drawn(case: Clinic, tmp_path: Path) -> None:
    dataset = rtstruct({"Body": [], "GTV-1": contours_of(case.labels, 2)})
    for roi, kind in zip(dataset.StructureSetROISequence, ("MANUAL", "AUTOMATIC"), strict=True):
        roi.ROIGenerationAlgorithm = kind
    (path,) = save([dataset], tmp_path, name="rt{}.dcm")
    converted(path, case, tmp_path / "seg.dcm", "--dicom-seg", tmp_path / "seg.dcm", "--roi", "gtv-1")
    (segment,) = dcmread(tmp_path / "seg.dcm").SegmentSequence
    assert (segment.SegmentLabel, segment.SegmentAlgorithmType) == ("GTV-1", "AUTOMATIC")
    assert segment.SegmentAlgorithmName == "unknown"


def test_who_drew_it_can_be_said(case: Clinic, tmp_path: Path) -> None:
    said = ["--drawn", "automatic", "--software", "Other Segmenter", "--software-version", "2.1"]
    converted(tmp_path / "mask.nii.gz", case, tmp_path / "s.dcm", "--dicom-seg", tmp_path / "s.dcm", *said)
    segment = dcmread(tmp_path / "s.dcm").SegmentSequence[0]
    assert (segment.SegmentAlgorithmType, segment.SegmentAlgorithmName) == ("AUTOMATIC", "Other Segmenter")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "say what to write"),
        (["--sr", "sr.dcm"], "give --dicom-seg"),
        (["--nifti", "out.dcm"], "must end in one of .nii"),
        (["--nifti", "mask.nii.gz"], "it is the mask itself"),
        (["--dicom-seg", "a.dcm", "--drawn", "automatic"], "--software"),
        (["--dicom-seg", "a.dcm", "--software", "x"], "go with --drawn"),
        (["--dicom-seg", "a.dcm", "--roi", "GTV-1"], "labels without names"),
    ],
)
def test_options_that_cannot_be(case: Clinic, tmp_path: Path, options: list[str], said: str) -> None:
    before = sorted(tmp_path.iterdir())
    named = [str(tmp_path / word) if word.endswith((".dcm", ".gz")) else word for word in options]
    assert said in refused("convert", tmp_path / "mask.nii.gz", "--reference", case.folder, *named)
    assert sorted(tmp_path.iterdir()) == before


def test_a_mask_on_another_grid(case: Clinic, labels: Volume, tmp_path: Path) -> None:
    shifted = Grid(labels.grid.shape, labels.grid.affine + np.eye(4, k=3) * 0.35)
    write_mask(Volume(labels.voxels, shifted), tmp_path / "other.nii.gz")
    outputs = ["--dicom-seg", tmp_path / "s.dcm", "--rtstruct", tmp_path / "r.dcm"]
    said = refused("convert", tmp_path / "other.nii.gz", "--reference", case.folder, *outputs)
    assert "lies on another grid" in said
    assert not (tmp_path / "s.dcm").exists()


def test_an_empty_mask(case: Clinic, labels: Volume, tmp_path: Path) -> None:
    write_mask(Volume(np.zeros_like(labels.voxels), labels.grid), tmp_path / "empty.nii.gz")
    for option, name in (("--dicom-seg", "s.dcm"), ("--nifti", "n.nii.gz")):
        said = refused(
            "convert", tmp_path / "empty.nii.gz", "--reference", case.folder, option, tmp_path / name
        )  # fmt: skip
        assert "no voxel is marked" in said
        assert not (tmp_path / name).exists()


@pytest.mark.parametrize("build", [build_seg, build_rtstruct])
def test_a_mask_that_refers_to_another_series(case: Clinic, lopsided: Volume, tmp_path: Path, build) -> None:
    """Even where its voxels would fit: another reconstruction is another image."""
    write_dataset(build(case.source, case.findings[:1]), tmp_path / "drawn.dcm")
    write_series(tmp_path / "other", lopsided, edit=lambda dataset, _: setattr(dataset, "SeriesInstanceUID", UID))
    said = refused(
        "convert", tmp_path / "drawn.dcm", "--reference", tmp_path / "other", "--dicom-seg", tmp_path / "s.dcm"
    )  # fmt: skip
    assert f"was drawn on another series, {case.source.series_uid}" in said
    assert not (tmp_path / "s.dcm").exists()


UID = generate_uid(None)


def test_duplicate_and_two_point_contours(case: Clinic, tmp_path: Path) -> None:
    """Neither encloses anything more; the rest is converted."""
    outlines = contours_of(case.labels, 1)
    dataset = rtstruct({"GTV": [*outlines, outlines[0], outlines[0][:2]]})
    (path,) = save([dataset], tmp_path, name="rt{}.dcm")
    converted(path, case, tmp_path / "rt.dcm", "--rtstruct", tmp_path / "rt.dcm")
    np.testing.assert_array_equal(read_mask(tmp_path / "rt.dcm", grid=case.ct.grid).voxels, case.labels.voxels == 1)

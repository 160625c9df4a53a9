"""`clmsda segment` for the reading room: DICOM objects beside the mask, and what is left out on request."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from command_line import chest, clmsda, refused, save_constant_model
from dicom_series import write_series
from pydicom import Dataset, dcmread

from clmsda.dicom_objects import tracking_uid
from clmsda.geometry import Volume
from clmsda.images import read_ct, read_mask, write_image

POINT = "--point=60,-60,-40"
LINES = ("--recist=50,-60,-40,70,-60,-40", "--recist=51,-60,-40,69,-60,-40", "--recist=-70,-60,-40,-50,-60,-40")
"""The second is the first tumor once more, which gives no lesion."""
OBJECTS = ("seg.dcm", "rt.dcm", "sr.dcm")


@pytest.fixture(scope="module")
def volume() -> Volume:
    """Ten slices of the chest, with the ball in them."""
    return chest().crop((15, 0, 0), (25, 120, 140))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_constant_model(tmp_path_factory.mktemp("model"), 5.0)


@pytest.fixture(scope="module")
def ct(volume: Volume, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def edit(dataset: Dataset, number: int) -> None:
        dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "Somebody^Known", "ID-4711", "19500401"

    folder = tmp_path_factory.mktemp("series")
    write_series(folder, volume, edit=edit)
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def objects(out: Path) -> list[object]:
    seg, structures, report = (out / name for name in OBJECTS)
    return ["-o", out / "m.nii.gz", "--dicom-seg", seg, "--rtstruct", structures, "--sr", report]


def test_all_outputs_of_two_lesions_agree(ct: Path, model: Path, out: Path) -> None:
    done = clmsda("segment", ct, *LINES, *objects(out), "--json", out / "m.json", "--model", model)
    assert done.returncode == 0, done.stderr
    assert not any(known in done.stdout + done.stderr for known in ("Somebody", "4711", "1950"))
    grid = read_ct(ct).grid
    mask = read_mask(out / "m.nii.gz", grid=grid).voxels
    segments, seg = read_mask(out / "seg.dcm", grid=grid).voxels, dcmread(out / "seg.dcm")
    report = json.loads((out / "m.json").read_text())
    found = [lesion for lesion in report["lesions"] if lesion["volume_ml"]]
    assert [lesion["label"] for lesion in found] == [1, 3]
    for lesion, segment in zip(found, seg.SegmentSequence, strict=True):
        name = f"Lesion {lesion['label']}"
        inside = mask == lesion["label"]
        np.testing.assert_array_equal(segments == segment.SegmentNumber, inside)
        np.testing.assert_array_equal(read_mask(out / "rt.dcm", grid=grid, roi=name).voxels, inside)
        assert segment.SegmentLabel == name
        assert segment.TrackingUID == lesion["tracking_uid"] == tracking_uid(report["image"], lesion["label"])
        assert segment.SegmentAlgorithmType == "SEMIAUTOMATIC"
        parameters = segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters
        assert parameters == f"model={report['model']}"
        assert lesion["tracking_uid"] in str(dcmread(out / "sr.dcm"))
    for name in OBJECTS:
        assert dcmread(out / name).PatientID == "ID-4711"


def test_a_label_map_from_a_zip(ct: Path, model: Path, tmp_path: Path, out: Path) -> None:
    with zipfile.ZipFile(tmp_path / "ct.zip", "w") as archive:
        for path in ct.iterdir():
            archive.write(path, path.name)
    outputs = ["-o", out / "m.nii.gz", "--dicom-seg", out / "seg.dcm", "--labelmap"]
    done = clmsda("segment", tmp_path / "ct.zip", POINT, *outputs, "--model", model)
    assert done.returncode == 0, done.stderr
    seg = dcmread(out / "seg.dcm")
    assert seg.SegmentationType == "LABELMAP"
    assert seg.file_meta.TransferSyntaxUID.name == "RLE Lossless"


def test_the_json_tells_when_the_scan_was_and_which(ct: Path, model: Path, out: Path) -> None:
    done = clmsda("segment", ct, POINT, "-o", out / "m.nii.gz", "--json", "-", "--model", model)
    report = json.loads(done.stdout)
    assert report["image"] == read_ct(ct).source
    assert report["scan"]["date"] == "2024-01-02"
    assert report["scan"]["patient_check"]
    assert "4711" not in done.stdout


def test_anonymous_outputs_lead_back_to_nobody(ct: Path, model: Path, out: Path) -> None:
    header = dcmread(next(ct.iterdir()))
    given = ["-o", out / "m.nii.gz", "--json", out / "m.json", "--preview", out / "m.png", "--anonymize"]
    done = clmsda("segment", ct, POINT, *given, "--model", model)
    assert done.returncode == 0, done.stderr
    report = json.loads((out / "m.json").read_text())
    assert report["image"] == ""
    assert (report["scan"]["date"], report["scan"]["patient_check"]) == (None, None)
    assert report["scan"]["slice_spacing_mm"] == pytest.approx(3.0)
    assert "tracking_uid" not in report["lesions"][0]
    known = ["Somebody", "4711", "1950", "20240102", "2024-01-02", header.SeriesInstanceUID, header.StudyInstanceUID]
    mask = zlib.decompress((out / "m.nii.gz").read_bytes(), wbits=31)
    for content in ((out / "m.json").read_bytes(), (out / "m.png").read_bytes(), mask):
        assert not [word for word in known if word.encode() in content]


def test_an_anonymous_json_does_not_repeat_a_file_name(volume: Volume, model: Path, tmp_path: Path, out: Path) -> None:
    write_image(volume, tmp_path / "somebody.nii.gz")
    given = ["-o", out / "m.nii.gz", "--json", "-", "--anonymize", "--model", model]
    done = clmsda("segment", tmp_path / "somebody.nii.gz", POINT, *given)
    assert done.returncode == 0, done.stderr
    assert "somebody" not in done.stdout


def test_anonymous_dicom_objects_there_are_none(ct: Path, model: Path, out: Path) -> None:
    """They keep the patient, which is said, and the JSON beside them does not."""
    done = clmsda("segment", ct, POINT, *objects(out), "--json", out / "m.json", "--anonymize", "--model", model)
    assert "DICOM objects carry the patient's identifiers" in done.stderr
    assert dcmread(out / "seg.dcm").PatientID == "ID-4711"
    assert json.loads((out / "m.json").read_text())["image"] == ""


def test_objects_of_a_nifti_are_refused_with_the_remedy(volume: Volume, model: Path, tmp_path: Path, out: Path) -> None:
    write_image(volume, tmp_path / "ct.nii.gz")
    for kind in ("--dicom-seg", "--rtstruct"):
        outputs = ["-o", out / "m.nii.gz", kind, out / "x.dcm"]
        said = refused("segment", tmp_path / "ct.nii.gz", POINT, *outputs, "--model", model)
        assert "names no patient and no study" in said
        assert "clmsda convert" in said
    assert not list(out.iterdir())


def test_a_series_without_a_frame_of_reference_has_a_mask_but_no_objects(
    volume: Volume, model: Path, tmp_path: Path, out: Path
) -> None:
    def edit(dataset: Dataset, number: int) -> None:
        del dataset.FrameOfReferenceUID

    write_series(tmp_path / "ct", volume, edit=edit)
    said = refused("segment", tmp_path / "ct", POINT, *objects(out), "--model", model)
    assert "has no FrameOfReferenceUID" in said
    assert not list(out.iterdir())
    done = clmsda("segment", tmp_path / "ct", POINT, "-o", out / "m.nii.gz", "--model", model)
    assert done.returncode == 0, done.stderr


def test_nothing_found_writes_nothing(ct: Path, tmp_path: Path, out: Path) -> None:
    said = refused("segment", ct, POINT, *objects(out), "--model", save_constant_model(tmp_path, -5.0))
    assert "lesion 1" in said
    assert not list(out.iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sr", "sr.dcm"], "give --dicom-seg"),
        (["--labelmap"], "give --dicom-seg"),
        (["--dicom-seg", "seg.nii.gz"], "must end in one of .dcm"),
        (["--dicom-seg", "one.dcm", "--rtstruct", "one.dcm"], "twice"),
        (["--dicom-seg", "missing/seg.dcm"], "does not exist"),
    ],
)
def test_options_that_cannot_be(ct: Path, out: Path, options: list[str], said: str) -> None:
    named = [str(out / word) if "." in word else word for word in options]
    assert said in refused("segment", ct, POINT, "-o", out / "m.nii.gz", *named)
    assert not list(out.iterdir())


def test_a_slice_of_the_ct_is_not_overwritten(ct: Path, out: Path) -> None:
    slice_ = next(ct.iterdir())
    before = slice_.read_bytes()
    assert "slice of a CT" in refused("segment", ct, POINT, "-o", out / "m.nii.gz", "--dicom-seg", slice_)
    assert slice_.read_bytes() == before

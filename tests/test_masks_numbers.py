"""Numbers, names and tracking UIDs of regions: through SEG, RTSTRUCT, SR and back, and choosing a region by them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clinic import Clinic, clinic
from command_line import clmsda, refused
from dicom_series import contours_of, rtstruct, save
from pydicom import dcmread
from pydicom.uid import generate_uid

from clmsda.dicom_objects import build_seg, tracking_uid, write_dataset
from clmsda.errors import InputError
from clmsda.geometry import Volume
from clmsda.images import errors, list_rois, read_mask, write_mask
from clmsda.response.matching import follow
from clmsda.response.reading import read_time_point
from clmsda.response.statements import Statements

pytestmark = pytest.mark.parametrize("lopsided", ["upward"], indirect=True)

JAPANESE = "腫瘍 GTV①"


@pytest.fixture
def case(lopsided: Volume, labels: Volume, tmp_path: Path) -> Clinic:
    """Lesions 2, 3 and 7."""
    voxels = np.array([0, 2, 3, 7], np.uint8)[labels.voxels]
    write_mask(Volume(voxels, labels.grid), tmp_path / "mask.nii.gz")
    return clinic(tmp_path, lopsided, Volume(voxels, labels.grid))


def run(*arguments: object) -> str:
    done = clmsda(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def measured(mask: Path, case: Clinic, *options: object) -> list[dict[str, Any]]:
    return json.loads(run("measure", mask, "--image", case.folder, "--json", "-", *options))["lesions"]


@pytest.mark.parametrize("labelmap", [False, True])
def test_lesions_keep_their_numbers_through_a_segmentation(case: Clinic, tmp_path: Path, labelmap: bool) -> None:
    options = ["--labelmap"] * labelmap
    seg = tmp_path / "seg.dcm"
    run("convert", tmp_path / "mask.nii.gz", "--reference", case.folder, "--dicom-seg", seg, *options)
    numbers = [segment.SegmentNumber for segment in dcmread(seg).SegmentSequence]
    assert numbers[labelmap:] == [1, 2, 3]  # the standard wants it; a label map has a background, too
    found = measured(seg, case)
    assert [lesion["label"] for lesion in found] == [2, 3, 7]
    assert [lesion["name"] for lesion in found] == ["Lesion 2", "Lesion 3", "Lesion 7"]
    assert [lesion["tracking_uid"] for lesion in found] == [tracking_uid(case.source.series_uid, n) for n in (2, 3, 7)]
    assert [one["volume_ml"] for one in found] == [one["volume_ml"] for one in measured(tmp_path / "mask.nii.gz", case)]
    assert [lesion["label"] for lesion in measured(seg, case, "--roi", "Lesion 3")] == [3]
    run("convert", seg, "--reference", case.folder, "--nifti", tmp_path / "back.nii.gz")
    np.testing.assert_array_equal(read_mask(tmp_path / "back.nii.gz", grid=case.ct.grid).voxels, case.labels.voxels)


def test_lesions_keep_their_numbers_through_a_structure_set(case: Clinic, tmp_path: Path) -> None:
    rt, seg, report = (tmp_path / name for name in ("rt.dcm", "seg.dcm", "sr.dcm"))
    run("convert", tmp_path / "mask.nii.gz", "--reference", case.folder, "--dicom-seg", tmp_path / "first.dcm")
    run("convert", tmp_path / "first.dcm", "--reference", case.folder, "--rtstruct", rt)
    assert [roi.ROINumber for roi in dcmread(rt).StructureSetROISequence] == [2, 3, 7]
    assert [roi.ReferencedROINumber for roi in dcmread(rt).ROIContourSequence] == [2, 3, 7]
    found = measured(rt, case, "--roi", "7", "--roi", "lesion 2")
    assert [(lesion["label"], lesion["name"]) for lesion in found] == [(7, "Lesion 7"), (2, "Lesion 2")]
    assert "lesion 7 is measured already" in refused(
        "measure", rt, "--image", case.folder, "--roi", "7", "--roi", "Lesion 7"
    )
    outputs = ["--dicom-seg", seg, "--sr", report]
    run("convert", rt, "--reference", case.folder, "--roi", "3", *outputs)
    (lesion,) = measured(seg, case)
    assert (lesion["label"], lesion["tracking_uid"]) == (3, tracking_uid(case.source.series_uid, 3))
    (told,) = read_time_point(report).lesions
    assert (told.label, told.tracking_uid) == (3, lesion["tracking_uid"])


def test_the_tracking_of_others_survives_every_object(case: Clinic, tmp_path: Path) -> None:
    """Their identifiers hold no number of a lesion, and their segment 3 becomes segment 1."""
    uids = [generate_uid(None) for _ in range(3)]
    dataset = build_seg(case.source, case.findings)
    for segment, name, uid in zip(dataset.SegmentSequence, ("upper", "middle", JAPANESE), uids, strict=True):
        segment.SegmentLabel, segment.TrackingID, segment.TrackingUID = name, f"{name} in study A", uid
        segment.pop("SegmentDescription", None)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    write_dataset(dataset, tmp_path / "theirs.dcm")
    assert [lesion["label"] for lesion in measured(tmp_path / "theirs.dcm", case)] == [1, 2, 3]
    seg, rt, again, report = (tmp_path / name for name in ("seg.dcm", "rt.dcm", "again.dcm", "sr.dcm"))
    for number in ("3", JAPANESE):
        run("convert", tmp_path / "theirs.dcm", "--reference", case.folder, "--roi", number, "--dicom-seg", seg)
    run("convert", seg, "--reference", case.folder, "--rtstruct", rt)
    run("convert", rt, "--reference", case.folder, "--dicom-seg", again, "--sr", report)
    for mask in (seg, rt, again):
        (lesion,) = measured(mask, case)
        assert (lesion["label"], lesion["name"], lesion["tracking_uid"]) == (3, JAPANESE, uids[2])
    (segment,) = dcmread(again).SegmentSequence
    assert (segment.TrackingID, segment.SegmentLabel) == (f"{JAPANESE} in study A", JAPANESE)
    assert read_time_point(report).lesions[0].tracking_uid == uids[2]


def test_names_of_any_script_are_kept(case: Clinic, tmp_path: Path) -> None:
    """Beside a patient whose name is in another character set, which is written anew, the same."""
    for path in case.folder.iterdir():
        slice_ = dcmread(path)
        slice_.SpecificCharacterSet, slice_.PatientName = "ISO_IR 100", "Müller^Änne"
        slice_.save_as(path)
    dataset = rtstruct({JAPANESE: contours_of(case.labels, 3)})
    dataset.SpecificCharacterSet = "ISO_IR 192"
    (path,) = save([dataset], tmp_path, name="drawn{}.dcm")
    outputs = {"--dicom-seg": tmp_path / "s.dcm", "--rtstruct": tmp_path / "r.dcm", "--sr": tmp_path / "m.dcm"}
    run("convert", path, "--reference", case.folder, *(word for pair in outputs.items() for word in pair))
    for out in outputs.values():
        written = dcmread(out)
        assert written.SpecificCharacterSet == "ISO_IR 192"
        assert str(written.PatientName) == "Müller^Änne"
    assert dcmread(outputs["--dicom-seg"]).SegmentSequence[0].SegmentLabel == JAPANESE
    structures = dcmread(outputs["--rtstruct"])
    assert structures.StructureSetROISequence[0].ROIName == JAPANESE
    assert structures.RTROIObservationsSequence[0].ROIObservationLabel == JAPANESE
    assert list_rois(outputs["--rtstruct"]) == [JAPANESE]
    run("convert", tmp_path / "mask.nii.gz", "--reference", case.folder, "--rtstruct", tmp_path / "plain.dcm")
    assert dcmread(tmp_path / "plain.dcm").SpecificCharacterSet == "ISO_IR 100"  # ASCII names leave it as it was


def test_of_two_rois_of_one_name_the_one_that_is_drawn(case: Clinic, tmp_path: Path) -> None:
    outlines = contours_of(case.labels, 2)
    (path,) = save([rtstruct({"GTV-1": outlines, "gtv-1": []})], tmp_path, name="rt{}.dcm")
    dataset = dcmread(path)
    dataset.StructureSetROISequence[1].ROIName = "GTV-1"
    dataset.save_as(path)
    for roi in ("GTV-1", "gtv-1", "5"):
        np.testing.assert_array_equal(read_mask(path, grid=case.ct.grid, roi=roi).voxels, case.labels.voxels == 2)
    with pytest.raises(errors.BadContour, match="no closed contour"):
        read_mask(path, grid=case.ct.grid, roi="6")


def test_two_rois_of_one_name_are_told_apart_by_number(case: Clinic, tmp_path: Path) -> None:
    rois = {"GTV-1": contours_of(case.labels, 2), "other": contours_of(case.labels, 3)}
    dataset = rtstruct(rois)
    dataset.StructureSetROISequence[1].ROIName = "GTV-1"
    (path,) = save([dataset], tmp_path, name="rt{}.dcm")
    with pytest.raises(errors.RoiNotFound, match="holds 2 regions named 'GTV-1': choose one by its number: 5, 6"):
        read_mask(path, grid=case.ct.grid, roi="GTV-1")
    for number, label in ((5, 2), (6, 3)):
        mask = read_mask(path, grid=case.ct.grid, roi=str(number))
        np.testing.assert_array_equal(mask.voxels, case.labels.voxels == label)
    said = refused("convert", path, "--reference", case.folder, "--rtstruct", tmp_path / "out.dcm")
    assert "or by number: 5, 6" in said
    assert [lesion["label"] for lesion in measured(path, case, "--roi", "6")] == [6]


def test_a_name_wins_over_a_number(case: Clinic, tmp_path: Path) -> None:
    rois = {"6": contours_of(case.labels, 2), "GTV": contours_of(case.labels, 3)}  # numbers 5 and 6
    (path,) = save([rtstruct(rois)], tmp_path, name="rt{}.dcm")
    np.testing.assert_array_equal(read_mask(path, grid=case.ct.grid, roi="6").voxels, case.labels.voxels == 2)
    np.testing.assert_array_equal(read_mask(path, grid=case.ct.grid, roi="GTV").voxels, case.labels.voxels == 3)
    with pytest.raises(errors.RoiNotFound, match=r"no region '9'; found '6', 'GTV' \(or by number: 5, 6\)"):
        read_mask(path, grid=case.ct.grid, roi="9")


@pytest.mark.parametrize("roi", ["2", " 7 "])
def test_a_label_of_a_voxel_file_is_chosen_by_number(case: Clinic, tmp_path: Path, roi: str) -> None:
    mask = read_mask(tmp_path / "mask.nii.gz", grid=case.ct.grid, roi=roi)
    np.testing.assert_array_equal(mask.voxels, case.labels.voxels == int(roi))
    assert [lesion["label"] for lesion in measured(tmp_path / "mask.nii.gz", case, "--roi", roi)] == [int(roi)]
    run("convert", tmp_path / "mask.nii.gz", "--reference", case.folder, "--roi", roi, "--rtstruct", tmp_path / "r.dcm")
    assert dcmread(tmp_path / "r.dcm").StructureSetROISequence[0].ROINumber == int(roi)


def test_a_label_that_is_not_there(case: Clinic, tmp_path: Path) -> None:
    with pytest.raises(errors.RoiNotFound, match="has no label 4; found 2, 3, 7"):
        read_mask(tmp_path / "mask.nii.gz", roi="4")


@pytest.mark.parametrize("numbers", [(0, 1), (-3, 4), (70000, 2)])
def test_numbers_that_no_voxel_can_hold_give_way_to_the_order(
    case: Clinic, tmp_path: Path, numbers: tuple[int, int]
) -> None:
    dataset = rtstruct({"a": contours_of(case.labels, 2), "b": contours_of(case.labels, 3)})
    for roi, drawing, number in zip(dataset.StructureSetROISequence, dataset.ROIContourSequence, numbers, strict=True):
        roi.ROINumber = drawing.ReferencedROINumber = number
    (path,) = save([dataset], tmp_path, name="rt{}.dcm")
    assert [one["label"] for one in measured(path, case, "--roi", "b", "--roi", "a")] == [2, 1]


@pytest.mark.parametrize("keyword", ["StructureSetROISequence", "ROIContourSequence"])
@pytest.mark.parametrize("fault", ["missing", "twice"])
def test_regions_without_a_number_of_their_own(case: Clinic, tmp_path: Path, keyword: str, fault: str) -> None:
    dataset = rtstruct({"a": contours_of(case.labels, 2), "b": contours_of(case.labels, 3)})
    item = dataset[keyword].value[1]
    number = "ROINumber" if keyword == "StructureSetROISequence" else "ReferencedROINumber"
    if fault == "missing":
        del item[number]
    else:
        setattr(item, number, 5)
    (path,) = save([dataset], tmp_path, name="rt{}.dcm")
    with pytest.raises(InputError, match=r"rt1\.dcm"):
        read_mask(path, grid=case.ct.grid, roi="b")


def test_response_pairs_the_same_lesions_whichever_way_they_came(case: Clinic, tmp_path: Path) -> None:
    """Lesion 2 of the baseline is gone at the follow-up, so its segment 1 is lesion 3."""
    later = case.labels.voxels.copy()
    later[later == 2] = 0
    write_mask(Volume(later, case.labels.grid), tmp_path / "later.nii.gz")
    points = {}
    for mask, name in ((tmp_path / "mask.nii.gz", "before"), (tmp_path / "later.nii.gz", "after")):
        seg, rt, report = (tmp_path / f"{name}-{kind}.dcm" for kind in ("seg", "rt", "sr"))
        outputs = ["--dicom-seg", seg, "--rtstruct", rt, "--sr", report]
        run("convert", mask, "--reference", case.folder, *outputs)
        rois = [word for roi in list_rois(rt)[::-1] for word in ("--roi", roi)]
        ways: dict[str, Path] = {"sr": report}
        for kind, source, options in (("seg", seg, []), ("rt", rt, rois), ("nii", mask, [])):
            ways[kind] = tmp_path / f"{name}-{kind}.json"
            run("measure", source, "--image", case.folder, "--json", ways[kind], *options)
        points[name] = {kind: read_time_point(path, int(name == "after")) for kind, path in ways.items()}
    for before in points["before"].values():
        for after in points["after"].values():
            matching = follow([before, after], Statements())
            seen = {course.label: course.sightings[1].labels for course in matching.courses}
            assert seen == {2: (), 3: (3,), 7: (7,)}
            assert not matching.new


def test_response_pairs_by_name_where_numbers_differ(case: Clinic, tmp_path: Path) -> None:
    """A planning system numbers its regions anew each time."""
    points = []
    for number, names in enumerate((("GTV-1", "GTV-2"), ("heart", "gtv-2", "GTV-1"))):
        contours = {"GTV-1": contours_of(case.labels, 2), "gtv-2": contours_of(case.labels, 3)}
        rois = {name: contours.get(name, contours["gtv-2"]) for name in names}
        (path,) = save([rtstruct(rois)], tmp_path, name=f"rt{number}-{{}}.dcm")
        out = tmp_path / f"{number}.json"
        run("measure", path, "--image", case.folder, "--json", out, "--roi", "GTV-1", "--roi", "GTV-2")
        points.append(read_time_point(out, number))
    matching = follow(points, Statements())
    assert [(one.label, one.sightings[1].labels) for one in matching.courses] == [(5, (7,)), (6, (6,))]
    assert not matching.new
    by_label = follow(points, Statements(), "label")
    assert [one.sightings[1].labels for one in by_label.courses] == [(), (6,)]


def test_a_scan_of_strangers_is_said(case: Clinic, tmp_path: Path) -> None:
    points = []
    for number, label in enumerate((2, 3)):
        out = tmp_path / f"{number}.json"
        run("measure", tmp_path / "mask.nii.gz", "--image", case.folder, "--json", out, "--roi", label)
        points.append(read_time_point(out, number))
    (note,) = follow(points, Statements()).notes
    assert "all of them count as new: say which is which with --same" in note

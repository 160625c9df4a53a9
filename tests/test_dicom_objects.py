"""DICOM SEG and SR out: they read back, and say what was found and by whom."""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from clinic import MODEL, Clinic, by_highdicom, clinic, saved
from command_line import chest
from pydicom import Dataset

from clmsda.dicom_objects import (
    BY_HAND,
    NothingToWrite,
    build_rtstruct,
    build_seg,
    build_sr,
    by_clmsda,
    finding,
    findings_of,
    tracking_uid,
    write_dataset,
    write_objects,
)
from clmsda.dicom_objects.side import side_of
from clmsda.files import OutputError
from clmsda.geometry import Grid, Volume
from clmsda.images import errors, read_mask


@pytest.fixture
def case(lopsided: Volume, labels: Volume, tmp_path: Path) -> Clinic:
    return clinic(tmp_path, lopsided, labels)


@pytest.mark.parametrize("labelmap", [False, True])
def test_a_segmentation_reads_back_to_the_same_labels(case: Clinic, labelmap: bool) -> None:
    seg = build_seg(case.source, case.findings, labelmap=labelmap)
    np.testing.assert_array_equal(case.read_back(seg).voxels, case.labels.voxels)
    np.testing.assert_array_equal(case.read_back(seg, roi="Lesion 2").voxels, case.labels.voxels == 2)


@pytest.mark.parametrize("labelmap", [False, True])
def test_highdicom_reads_the_segmentation(case: Clinic, tmp_path: Path, labelmap: bool) -> None:
    write_dataset(build_seg(case.source, case.findings, labelmap=labelmap), tmp_path / "seg.dcm")
    np.testing.assert_array_equal(by_highdicom(case, tmp_path / "seg.dcm"), case.labels.voxels)


def test_segments_are_coded_tracked_and_signed(case: Clinic) -> None:
    seg = build_seg(case.source, case.findings)
    assert seg.SegmentationType == "BINARY"
    assert seg.Modality == "SEG"
    assert [segment.SegmentNumber for segment in seg.SegmentSequence] == [1, 2, 3]
    for segment, one in zip(seg.SegmentSequence, case.findings, strict=True):
        assert segment.SegmentLabel == one.name
        assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
        assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "108369006"
        assert segment.AnatomicRegionSequence[0].CodeValue == "39607008"
        assert segment.SegmentAlgorithmType == "SEMIAUTOMATIC"
        assert segment.SegmentAlgorithmName == "clmsda"
        identification = segment.SegmentationAlgorithmIdentificationSequence[0]
        assert identification.AlgorithmParameters == f"model={MODEL}"
        assert segment.TrackingUID == one.tracking_uid


def test_an_outline_by_hand_names_no_software(case: Clinic) -> None:
    findings = findings_of(case.labels, case.ct, series_uid=case.source.series_uid, algorithm=BY_HAND)
    segment = build_seg(case.source, findings).SegmentSequence[0]
    assert segment.SegmentAlgorithmType == "MANUAL"
    assert "SegmentAlgorithmName" not in segment
    assert "SegmentationAlgorithmIdentificationSequence" not in segment


def test_nobody_prompted_is_automatic() -> None:
    assert by_clmsda(MODEL, prompted=False).kind == "AUTOMATIC"


def test_tracking_uids_are_the_same_each_time_and_differ_by_series_and_label() -> None:
    assert tracking_uid("1.2.3", 1) == tracking_uid("1.2.3", 1)
    uids = {tracking_uid(series, label) for series in ("1.2.3", "1.2.31") for label in (1, 2, 11)}
    assert len(uids) == 6
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)


def test_objects_are_new_instances_each_time(case: Clinic) -> None:
    first, second = (build_seg(case.source, case.findings) for _ in range(2))
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.SegmentSequence[0].TrackingUID == second.SegmentSequence[0].TrackingUID


def groups(report: Dataset) -> list[Dataset]:
    (measurements,) = [
        item for item in report.ContentSequence if item.ConceptNameCodeSequence[0].CodeMeaning == "Imaging Measurements"
    ]
    return list(measurements.ContentSequence)


def item(container: Dataset, meaning: str) -> Dataset:
    (found,) = [one for one in container.ContentSequence if one.ConceptNameCodeSequence[0].CodeMeaning == meaning]
    return found


def number(container: Dataset, meaning: str) -> float:
    return float(item(container, meaning).MeasuredValueSequence[0].NumericValue)


def test_the_report_holds_what_was_measured(case: Clinic, tmp_path: Path) -> None:
    seg = build_seg(case.source, case.findings)
    report = saved(build_sr(case.source, case.findings, seg), tmp_path / "sr.dcm")
    assert report.ConceptNameCodeSequence[0].CodeValue == "126000"
    found = groups(report)
    assert len(found) == 2 * len(case.findings)
    for position, one in enumerate(case.findings):
        of_segment, of_slice = found[2 * position : 2 * position + 2]
        measured = one.measurement
        for group in (of_segment, of_slice):
            assert one.tracking_uid == item(group, "Tracking Unique Identifier").UID
            assert item(group, "Finding").ConceptCodeSequence[0].CodeValue == "108369006"
        assert number(of_segment, "Volume") == pytest.approx(measured.volume_ml, abs=1e-3)
        assert number(of_segment, "Attenuation Coefficient") == pytest.approx(measured.mean_hu, abs=0.06)
        assert item(of_segment, "Size group").ConceptCodeSequence[0].CodeValue == f"size-group-{measured.size_group}"
        referred = item(of_segment, "Referenced Segment").ReferencedSOPSequence[0]
        assert referred.ReferencedSOPInstanceUID == seg.SOPInstanceUID
        assert referred.ReferencedSegmentNumber == position + 1
        assert case.source.series_uid == item(of_segment, "Source Series for Segmentation").UID
        assert number(of_slice, "Long Axis") == pytest.approx(measured.long_axis_mm, abs=6e-3)
        assert number(of_slice, "Short Axis") == pytest.approx(measured.short_axis_mm, abs=6e-3)


def test_axes_lie_where_they_were_measured(case: Clinic, tmp_path: Path) -> None:
    """Back to the patient by highdicom's own transform, from the image that the line refers to."""
    seg = build_seg(case.source, case.findings)
    report = saved(build_sr(case.source, case.findings, seg), tmp_path / "sr.dcm")
    by_uid = {str(image.SOPInstanceUID): image for image in case.source.images}
    for position, one in enumerate(case.findings):
        group = groups(report)[2 * position + 1]
        for meaning, axis in (
            ("Long Axis", one.measurement.long_axis_lps),
            ("Short Axis", one.measurement.short_axis_lps),
        ):
            (line,) = item(group, meaning).ContentSequence
            assert (line.ValueType, line.GraphicType) == ("SCOORD", "POLYLINE")
            (source,) = line.ContentSequence
            image = by_uid[source.ReferencedSOPSequence[0].ReferencedSOPInstanceUID]
            to_patient = hd.spatial.ImageToReferenceTransformer.for_image(image)
            ends = to_patient(np.array(line.GraphicData, float).reshape(-1, 2))
            np.testing.assert_allclose(ends, axis, atol=2e-3)


def test_the_report_names_a_device_and_no_person(case: Clinic) -> None:
    report = build_sr(case.source, case.findings, build_seg(case.source, case.findings))
    text = str(report)
    assert "Device Observer Name" in text
    assert "Person Observer" not in text
    assert (report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag) == (
        "COMPLETE",
        "UNVERIFIED",
        "PRELIMINARY",
    )


def test_confidence_and_probability_are_reported_where_there_are_some(case: Clinic) -> None:
    sure, unsure = (
        finding(
            label,
            Volume(case.labels.voxels == label, case.ct.grid),
            case.ct,
            series_uid=case.source.series_uid,
            algorithm=by_clmsda(MODEL, prompted=True),
            confidence=confidence,
            probability=probability,
        )
        for label, confidence, probability in ((1, 0.8123, 0.3456), (2, float("nan"), None))
    )
    report = build_sr(case.source, [sure, unsure], build_seg(case.source, [sure, unsure]))
    assert number(groups(report)[0], "Confidence (F1 to expect)") == pytest.approx(0.812)
    assert number(groups(report)[0], "Probability (that it is a tumor)") == pytest.approx(0.346)
    assert "Confidence" not in str(groups(report)[2]) and "Probability" not in str(groups(report)[2])


def test_islands_with_empty_slices_between_survive(lopsided: Volume, tmp_path: Path) -> None:
    voxels = np.zeros(lopsided.grid.shape, np.uint8)
    voxels[0, 3, 4] = voxels[3, 3:5, 4:6] = voxels[6, 10, 12] = 1
    case = clinic(tmp_path, lopsided, Volume(voxels, lopsided.grid))
    mask = case.read_back(build_seg(case.source, case.findings))
    np.testing.assert_array_equal(mask.voxels, case.labels.voxels)


def test_a_finding_on_another_grid_is_refused(case: Clinic) -> None:
    shifted = Grid(case.ct.grid.shape, case.ct.grid.affine + np.eye(4, k=3) * 0.35)
    other = findings_of(
        Volume(case.labels.voxels, shifted), Volume(case.ct.voxels, shifted), series_uid="1.2", algorithm=BY_HAND
    )
    for build in (build_seg, build_rtstruct):
        with pytest.raises(errors.GridMismatch, match="lies on another grid"):
            build(case.source, other)


def test_overlapping_findings_are_refused(case: Clinic) -> None:
    with pytest.raises(errors.NotLabels, match="lesion 1 overlaps"):
        build_seg(case.source, [case.findings[0], case.findings[0]])


def test_nothing_found_is_refused(case: Clinic) -> None:
    empty = Volume(np.zeros_like(case.labels.voxels), case.ct.grid, "mask.nii.gz")
    with pytest.raises(NothingToWrite, match=r"mask.nii.gz: no voxel is marked"):
        findings_of(empty, case.ct, series_uid="1.2", algorithm=BY_HAND)
    for build in (build_seg, build_rtstruct):
        with pytest.raises(NothingToWrite, match="nothing was found"):
            build(case.source, [])


def test_all_objects_or_none(case: Clinic, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(errors.NotLabels):
        write_objects(case.source, [*case.findings, case.findings[0]], rtstruct=out / "a.dcm", seg=out / "b.dcm")
    with pytest.raises(OutputError, match="does not exist"):
        write_objects(case.source, case.findings, seg=tmp_path / "missing" / "b.dcm")
    assert list(out.iterdir()) == []
    write_objects(case.source, case.findings, seg=out / "a.dcm", rtstruct=out / "b.dcm", sr=out / "c.dcm")
    np.testing.assert_array_equal(read_mask(out / "a.dcm", grid=case.ct.grid).voxels, case.labels.voxels)


@pytest.mark.parametrize(("x_mm", "side"), [(60, "left"), (-60, "right"), (10, None), (-20, None)])
@pytest.mark.parametrize("flipped", [False, True])
def test_the_side_is_named_where_it_is_certain(x_mm: float, side: str | None, flipped: bool) -> None:
    ct = chest()
    if flipped:  # columns run to the patient's right
        affine = ct.grid.affine.copy()
        affine[:3, 3] = ct.grid.to_lps((0, 0, ct.grid.shape[2] - 1))
        affine[:3, 2] *= -1
        ct = Volume(ct.voxels[:, :, ::-1], Grid(ct.grid.shape, affine))
    k, row, column = np.rint(ct.grid.to_index((x_mm, -60, -40))).astype(int)
    voxels = np.zeros(ct.grid.shape, bool)
    voxels[k, row - 2 : row + 3, column - 2 : column + 3] = True
    assert side_of(Volume(voxels, ct.grid), ct, k) == side


def test_no_side_where_a_lung_is_cut_off_or_the_lesion_crosses_the_middle() -> None:
    ct = chest()
    k, row, column = np.rint(ct.grid.to_index((60, -60, -40))).astype(int)
    voxels = np.zeros(ct.grid.shape, bool)
    voxels[k, row, column] = True
    assert side_of(Volume(voxels, ct.grid), ct, k) == "left"
    for lower, upper in ((30, 140), (0, 120)):
        box = ((0, 0, lower), (40, 120, upper))
        assert side_of(Volume(voxels, ct.grid).crop(*box), ct.crop(*box), k) is None
    voxels[k, row, 66:123] = True
    assert side_of(Volume(voxels, ct.grid), ct, k) is None


def test_no_side_where_a_lung_holds_no_air() -> None:
    ct = chest()
    collapsed = Volume(ct.voxels.copy(), ct.grid)
    collapsed.voxels[:, :, 72:125] = 20
    k, row, column = np.rint(ct.grid.to_index((-60, -60, -40))).astype(int)
    voxels = np.zeros(ct.grid.shape, bool)
    voxels[k, row, column] = True
    assert side_of(Volume(voxels, ct.grid), ct, k) == "right"
    assert side_of(Volume(voxels, ct.grid), collapsed, k) is None


def test_the_side_is_coded_in_all_objects(tmp_path: Path) -> None:
    ct = chest().crop((15, 0, 0), (25, 120, 140))
    k, row, column = np.rint(ct.grid.to_index((60, -60, -40))).astype(int)
    voxels = np.zeros(ct.grid.shape, np.uint8)
    voxels[k - 1 : k + 2, row - 5 : row + 6, column - 5 : column + 6] = 1
    case = clinic(tmp_path, ct, Volume(voxels, ct.grid))
    seg = build_seg(case.source, case.findings)
    region = seg.SegmentSequence[0].AnatomicRegionSequence[0]
    assert region.AnatomicRegionModifierSequence[0].CodeValue == "7771000"
    for group in groups(build_sr(case.source, case.findings, seg)):
        (laterality,) = item(group, "Finding Site").ContentSequence
        assert laterality.ConceptCodeSequence[0].CodeValue == "7771000"

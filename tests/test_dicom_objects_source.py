"""The series that objects are made from: what they take over from it, and what it must have."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from clinic import Clinic, clinic, dicom_errors, found_in, saved
from dicom_series import Edit, slices, write_series
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation
from pydicom.uid import generate_uid

from clmsda.dicom_objects import (
    IncompleteSource,
    NoSource,
    build_rtstruct,
    build_seg,
    build_sr,
    read_source,
    write_dataset,
)
from clmsda.dicom_objects.source import TYPE_2
from clmsda.geometry import Grid, Volume
from clmsda.images import read_mask, write_image
from clmsda.images.errors import MixedSeries

pytestmark = pytest.mark.parametrize("lopsided", ["upward"], indirect=True)


def all_of(case: Clinic) -> list[Dataset]:
    seg = build_seg(case.source, case.findings)
    return [seg, build_rtstruct(case.source, case.findings), build_sr(case.source, case.findings, seg)]


def without(*keywords: str) -> Edit:
    def edit(dataset: Dataset, number: int) -> None:
        for keyword in keywords:
            del dataset[keyword]

    return edit


def test_objects_file_into_the_study_of_the_ct(lopsided: Volume, labels: Volume, tmp_path: Path) -> None:
    def edit(dataset: Dataset, number: int) -> None:
        dataset.SpecificCharacterSet = "ISO_IR 192"
        dataset.PatientName, dataset.PatientID, dataset.IssuerOfPatientID = "Müller^Jürgen", "A-17", "Clinic"
        dataset.PatientAge, dataset.StudyDescription = "064Y", "Thorax"
        dataset.AccessionNumber, dataset.ReferringPhysicianName = "77", "Ärztin^Eine"

    case = clinic(tmp_path, lopsided, labels, edit=edit)
    for number, dataset in enumerate(all_of(case)):
        back = saved(dataset, tmp_path / f"{number}.dcm")
        assert str(back.PatientName) == "Müller^Jürgen"
        assert (back.PatientID, back.IssuerOfPatientID, back.PatientAge) == ("A-17", "Clinic", "064Y")
        assert (back.StudyDescription, back.AccessionNumber) == ("Thorax", "77")
        assert str(back.ReferringPhysicianName) == "Ärztin^Eine"
        assert (back.StudyInstanceUID, back.StudyDate) == (case.source.study_uid, "20240102")
        assert back.SeriesInstanceUID != case.source.series_uid
        assert dicom_errors(tmp_path / f"{number}.dcm") == []


def test_japanese_names_survive(lopsided: Volume, labels: Volume, tmp_path: Path) -> None:
    def edit(dataset: Dataset, number: int) -> None:
        dataset.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
        dataset.PatientName = "Yamada^Tarou=山田^太郎"

    case = clinic(tmp_path, lopsided, labels, edit=edit)
    for number, dataset in enumerate(all_of(case)):
        assert str(saved(dataset, tmp_path / f"{number}.dcm").PatientName) == "Yamada^Tarou=山田^太郎"


@pytest.mark.parametrize("keywords", [["PatientID"], ["StudyDate"], TYPE_2], ids=["PatientID", "StudyDate", "all"])
def test_what_may_be_empty_stays_empty(
    lopsided: Volume, labels: Volume, tmp_path: Path, keywords: Sequence[str]
) -> None:
    """Type 2 in the standard: the attribute is there, without a value. Nothing is made up for it."""
    case = clinic(tmp_path, lopsided, labels, edit=without(*keywords))
    for number, dataset in enumerate(all_of(case)):
        back = saved(dataset, tmp_path / f"{number}.dcm")
        for keyword in keywords:
            assert keyword in back
            assert not back[keyword].value
        assert dicom_errors(tmp_path / f"{number}.dcm") == []


@pytest.mark.parametrize("keyword", ["FrameOfReferenceUID", "StudyInstanceUID"])
def test_what_must_be_there_is_asked_for(lopsided: Volume, tmp_path: Path, keyword: str) -> None:
    """Type 1 in the standard: other objects refer by it, so it cannot be made up."""
    write_series(tmp_path / "ct", lopsided, edit=without(keyword))
    with pytest.raises(IncompleteSource, match=rf"IM0001.dcm has no {keyword}.*export the series again"):
        read_source(tmp_path / "ct")


def test_a_series_of_two_patients_is_refused(lopsided: Volume, tmp_path: Path) -> None:
    def edit(dataset: Dataset, number: int) -> None:
        dataset.PatientID = "P1" if number < 3 else "P2"

    write_series(tmp_path / "ct", lopsided, edit=edit)
    with pytest.raises(MixedSeries, match="different patients") as caught:
        read_source(tmp_path / "ct")
    assert "P2" not in str(caught.value)


def test_a_thickness_that_is_missing_or_no_number(lopsided: Volume, labels: Volume, tmp_path: Path) -> None:
    case = clinic(tmp_path, lopsided, labels, edit=without("SliceThickness"))
    measures = build_seg(case.source, case.findings).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SliceThickness) == pytest.approx(2.5)
    assert float(measures.SpacingBetweenSlices) == pytest.approx(2.5)


def test_removed_identities_are_said_to_be_removed_only_with_a_method(
    lopsided: Volume, labels: Volume, tmp_path: Path
) -> None:
    def edit(dataset: Dataset, number: int) -> None:
        dataset.PatientIdentityRemoved = "YES"

    case = clinic(tmp_path / "bare", lopsided, labels, edit=edit)
    assert "PatientIdentityRemoved" not in case.source.patient

    def with_method(dataset: Dataset, number: int) -> None:
        dataset.PatientIdentityRemoved, dataset.DeidentificationMethod = "YES", "by hand"

    case = clinic(tmp_path / "method", lopsided, labels, edit=with_method)
    for number, dataset in enumerate(all_of(case)):
        back = saved(dataset, tmp_path / f"{number}.dcm")
        assert (back.PatientIdentityRemoved, back.DeidentificationMethod) == ("YES", "by hand")
        assert dicom_errors(tmp_path / f"{number}.dcm") == []


def test_odd_values_of_a_patient_are_carried_over_in_silence(
    lopsided: Volume, labels: Volume, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Libraries would quote them in logs and warnings, or refuse them."""
    odd = {
        "PatientName": "Oddly " * 20, "PatientID": "X" * 80, "PatientSex": "female",
        "PatientBirthDate": "1.4.1950", "StudyDate": "yesterday",
    }  # fmt: skip

    def edit(dataset: Dataset, number: int) -> None:
        for keyword, value in odd.items():
            setattr(dataset, keyword, value)

    with disable_value_validation():
        write_series(tmp_path / "ct", lopsided, edit=edit)
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        case = found_in(tmp_path / "ct", labels)
        for number, dataset in enumerate(all_of(case)):
            write_dataset(dataset, tmp_path / f"{number}.dcm")
    said = [record.getMessage() for record in caplog.records] + [str(one.message) for one in warned]
    assert [text for text in said if any(value[:5] in text for value in odd.values())] == []
    with disable_value_validation():
        for number in range(3):
            back = dcmread(tmp_path / f"{number}.dcm")
            assert {keyword: str(back[keyword].value) for keyword in odd} == {k: v.strip() for k, v in odd.items()}


def test_nifti_is_refused_with_the_reason_and_the_remedy(lopsided: Volume, tmp_path: Path) -> None:
    write_image(lopsided, tmp_path / "ct.nii.gz")
    with pytest.raises(NoSource, match=r"no patient and no study .* give the DICOM series, .*convert"):
        read_source(tmp_path / "ct.nii.gz")


def test_a_zip_and_files_in_any_order(lopsided: Volume, labels: Volume, tmp_path: Path) -> None:
    paths = write_series(tmp_path / "ct", lopsided)
    for path, name in zip(paths, "gabfced", strict=True):
        path.rename(path.with_name(name))
    shutil.make_archive(str(tmp_path / "series"), "zip", tmp_path / "ct")
    case = found_in(tmp_path / "series.zip", labels)
    for dataset in all_of(case)[:1]:
        np.testing.assert_array_equal(case.read_back(dataset).voxels, case.labels.voxels)


def test_a_cropped_series_keeps_its_place(lopsided: Volume, labels: Volume, tmp_path: Path) -> None:
    """Objects made from a part of the slices lie where the whole has them."""
    box = ((1, 2, 2), (7, 11, 13))
    case = clinic(tmp_path, lopsided.crop(*box), labels.crop(*box))
    saved(build_seg(case.source, case.findings), tmp_path / "seg.dcm")
    whole = read_mask(tmp_path / "seg.dcm", grid=lopsided.grid)
    np.testing.assert_array_equal(whole.voxels[1:, 2:, 2:], labels.crop(*box).voxels)


def test_a_coronal_series(labels: Volume, lopsided: Volume, tmp_path: Path) -> None:
    """It is read as axial slices; contours, frames and diameters lie on its own."""
    turned = [1, 0, 2]
    grid = Grid((11, 7, 13), lopsided.grid.affine[:, [1, 0, 2, 3]])
    coronal = Volume(lopsided.voxels.transpose(turned), grid)
    case = clinic(tmp_path, coronal, Volume(labels.voxels.transpose(turned), grid))
    assert case.ct.grid.shape == (7, 11, 13)
    assert case.source.grid.shape == (11, 7, 13)
    seg, structures, report = all_of(case)
    np.testing.assert_array_equal(case.read_back(seg).voxels, case.labels.voxels)
    np.testing.assert_array_equal(case.read_back(structures, roi="Lesion 2").voxels, case.labels.voxels == 2)
    by_uid = {str(image.SOPInstanceUID): image for image in case.source.images}
    lines = [one for one in report.iterall() if one.keyword == "GraphicData"]
    images = [
        one.value for one in report.iterall() if one.keyword == "ReferencedSOPInstanceUID" and one.value in by_uid
    ]
    for line, uid in zip(lines, images[-len(lines) :], strict=True):
        to_patient = hd.spatial.ImageToReferenceTransformer.for_image(by_uid[uid])
        ends = to_patient(np.array(line.value, float).reshape(-1, 2))
        index = case.ct.grid.to_index(ends.mean(axis=0))
        assert case.labels.voxels[tuple(np.rint(index).astype(int))]


def test_an_enhanced_series_is_referred_to_by_frame(lopsided: Volume, labels: Volume, tmp_path: Path) -> None:
    backwards = Volume(lopsided.voxels[::-1], Grid(lopsided.grid.shape, lopsided.grid.affine.copy()))
    enhanced = LegacyConvertedEnhancedCTImage(slices(backwards), generate_uid(), 2, generate_uid(), 1)
    enhanced.save_as(tmp_path / "enhanced.dcm")
    case = found_in(tmp_path / "enhanced.dcm", labels)
    seg, structures, report = all_of(case)
    np.testing.assert_array_equal(case.read_back(seg).voxels, case.labels.voxels)
    np.testing.assert_array_equal(case.read_back(structures, roi="Lesion 2").voxels, case.labels.voxels == 2)
    for dataset in (structures, report):
        frames = [one.value for one in dataset.iterall() if one.keyword == "ReferencedFrameNumber"]
        assert frames
    first = structures.ROIContourSequence[0].ContourSequence[0]
    z_index = case.source.grid.to_index(np.array(first.ContourData, float)[:3])[0]
    assert case.source.frames[round(float(z_index))] == first.ContourImageSequence[0].ReferencedFrameNumber
    saved(structures, tmp_path / "rt.dcm")
    assert dicom_errors(tmp_path / "rt.dcm") == []

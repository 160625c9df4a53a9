"""Contours and RT structure sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clinic import Clinic, clinic, saved
from hypothesis import example, given
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage
from skimage.draw import polygon2mask

from clmsda.dicom_objects import BY_HAND, build_rtstruct, findings_of
from clmsda.dicom_objects.outlines import outlines
from clmsda.geometry import Grid, Volume
from clmsda.images.rtstruct import _fill

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9))

RING = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool)
NESTED = np.pad(np.pad(np.pad(np.ones((1, 1), bool), 1), 1, constant_values=True), 1)
SIEVE = np.indices((7, 9)).prod(axis=0) % 2 == 0


@given(masks)
@example(RING)
@example(NESTED)
@example(SIEVE)
def test_filling_gives_the_mask_again(mask: np.ndarray) -> None:
    """By exclusive or, as our reader does it, and as a union of polygons filled one by one, by another's code."""
    ours, union = np.zeros(mask.shape, np.uint8), np.zeros(mask.shape, bool)
    for outline in outlines(mask):
        _fill(ours, outline)
        union |= polygon2mask(mask.shape, outline)
    np.testing.assert_array_equal(ours, mask)
    np.testing.assert_array_equal(union, mask)


@given(masks)
@example(NESTED)
def test_one_polygon_for_each_part_that_is_connected_by_edges(mask: np.ndarray) -> None:
    assert len(outlines(mask)) == ndimage.label(mask)[1]


@given(masks)
@example(SIEVE)
def test_no_pixel_center_lies_on_a_contour(mask: np.ndarray) -> None:
    """Else rounding, or another reader's rule for points on a border, could turn it over."""
    centers = np.argwhere(np.ones(mask.shape, bool))
    for outline in outlines(mask):
        following = np.roll(outline, -1, axis=0)
        for start, end in zip(outline, following, strict=True):
            along = np.clip(((centers - start) @ (end - start)) / ((end - start) ** 2).sum(), 0, 1)
            distance = np.linalg.norm(centers - (start + along[:, None] * (end - start)), axis=1)
            assert distance.min() >= np.sqrt(0.125) - 1e-9


def test_a_single_pixel_is_a_diamond() -> None:
    (outline,) = outlines(np.pad(np.ones((1, 1), bool), ((2, 0), (3, 0))))
    assert sorted(map(tuple, outline.tolist())) == [(1.5, 3), (2, 2.5), (2, 3.5), (2.5, 3)]


def test_straight_runs_have_no_points_between() -> None:
    (outline,) = outlines(np.ones((5, 9), bool))
    assert len(outline) == 8


def test_a_hole_is_keyed_in_from_its_upper_left_corner() -> None:
    """There and back between two rows: points of the channel come twice, none of them on a pixel's row."""
    (outline,) = outlines(RING)
    points, counts = np.unique(outline, axis=0, return_counts=True)
    assert points[counts == 2].tolist() == [[0.5, -0.5], [0.5, 1.0]]


@pytest.fixture
def case(lopsided: Volume, labels: Volume, tmp_path: Path) -> Clinic:
    return clinic(tmp_path, lopsided, labels)


def test_contours_read_back_to_the_same_masks(case: Clinic) -> None:
    """A solid lesion, one with a hole, a single voxel in a corner; oblique, both slice orders, pixels not square."""
    structures = build_rtstruct(case.source, case.findings)
    for one in case.findings:
        mask = case.read_back(structures, roi=one.name)
        np.testing.assert_array_equal(mask.voxels, case.labels.voxels == one.label)


def test_contours_refer_to_the_slice_that_they_lie_on(case: Clinic, tmp_path: Path) -> None:
    structures = saved(build_rtstruct(case.source, case.findings), tmp_path / "rt.dcm")
    by_uid = {str(image.SOPInstanceUID): k for k, image in enumerate(case.source.images)}
    (series,) = structures.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence
    assert series.SeriesInstanceUID == case.source.series_uid
    assert {item.ReferencedSOPInstanceUID for item in series.ContourImageSequence} == set(by_uid)
    for roi in structures.ROIContourSequence:
        for contour in roi.ContourSequence:
            (image,) = contour.ContourImageSequence
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            assert contour.NumberOfContourPoints == len(points)
            slices = case.source.grid.to_index(points)[:, 0]
            np.testing.assert_allclose(slices, by_uid[str(image.ReferencedSOPInstanceUID)], atol=1e-3)


def test_numbers_fit_their_representation(case: Clinic) -> None:
    for roi in build_rtstruct(case.source, case.findings).ROIContourSequence:
        for contour in roi.ContourSequence:
            assert contour.ContourGeometricType == "CLOSED_PLANAR"
            assert all(len(str(value)) <= 16 for value in contour["ContourData"].value)


def test_rois_say_what_they_are_and_who_drew_them(case: Clinic) -> None:
    structures = build_rtstruct(case.source, case.findings)
    assert [roi.ROIName for roi in structures.StructureSetROISequence] == ["Lesion 1", "Lesion 2", "Lesion 3"]
    assert {roi.ROIGenerationAlgorithm for roi in structures.StructureSetROISequence} == {"SEMIAUTOMATIC"}
    assert all("clmsda" in roi.ROIGenerationDescription for roi in structures.StructureSetROISequence)
    assert float(structures.StructureSetROISequence[0].ROIVolume) == pytest.approx(
        case.findings[0].measurement.volume_ml, abs=1e-3
    )
    assert [item.RTROIInterpretedType for item in structures.RTROIObservationsSequence] == [None] * 3
    assert structures.ApprovalStatus == "UNAPPROVED"
    numbers = {roi.ROINumber for roi in structures.StructureSetROISequence}
    assert numbers == {roi.ReferencedROINumber for roi in structures.ROIContourSequence}
    assert numbers == {one.ReferencedROINumber for one in structures.RTROIObservationsSequence}


def test_drawn_by_hand_names_no_software(case: Clinic) -> None:
    findings = findings_of(case.labels, case.ct, series_uid=case.source.series_uid, algorithm=BY_HAND)
    for roi in build_rtstruct(case.source, findings).StructureSetROISequence:
        assert roi.ROIGenerationAlgorithm == "MANUAL"
        assert "ROIGenerationDescription" not in roi


def test_islands_with_empty_slices_between_survive(lopsided: Volume, tmp_path: Path) -> None:
    """The reader takes such gaps for a thicker reconstruction unless the file says on how many images it was drawn."""
    voxels = np.zeros(lopsided.grid.shape, np.uint8)
    voxels[0, 3, 4] = voxels[3, 3:5, 4:6] = voxels[6, 10, 12] = 1
    case = clinic(tmp_path, lopsided, Volume(voxels, lopsided.grid))
    mask = case.read_back(build_rtstruct(case.source, case.findings))
    np.testing.assert_array_equal(mask.voxels, case.labels.voxels)


def test_a_long_ragged_contour_fits(tmp_path: Path) -> None:
    """More than 65,534 bytes of coordinates, which explicit VR has no room for."""
    grid = Grid.axial((2, 130, 130), (1.0, 0.7031, 0.7031), origin_mm=(-91.2345, -123.4567, -512.3))
    rng = np.random.default_rng(0)
    plane = ndimage.gaussian_filter(rng.random((130, 130)), 0.6) > 0.45
    largest = ndimage.label(plane)[0] == 1
    voxels = np.stack([largest, largest]).astype(np.uint8)
    ct = Volume(rng.integers(-1024, 500, grid.shape).astype(np.int16), grid)
    case = clinic(tmp_path, ct, Volume(voxels, grid))
    structures = saved(build_rtstruct(case.source, case.findings), tmp_path / "rt.dcm")
    longest = max(contour.NumberOfContourPoints for contour in structures.ROIContourSequence[0].ContourSequence)
    assert longest * 3 * 8 > 65_534
    np.testing.assert_array_equal(case.read_back(structures).voxels, voxels)

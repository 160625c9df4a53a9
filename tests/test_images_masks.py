"""RTSTRUCT and DICOM SEG in."""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from dicom_series import contours_of, rtstruct, save, slices, write_series
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, generate_uid
from same_voxels import assert_same_voxels
from skimage.draw import polygon2mask

from clmsda.errors import InputError
from clmsda.geometry import Grid, Volume
from clmsda.images import errors, list_rois, read_ct, read_mask
from clmsda.images.rtstruct import _fill


def write(dataset: Dataset, folder: Path) -> Path:
    return save([dataset], folder, name="mask{}")[0]


@pytest.mark.parametrize("label", [1, 2, 3])
def test_outlines_fill_to_the_mask_they_came_from(labels: Volume, tmp_path: Path, label: int) -> None:
    """Solid, with a hole, and a single voxel in a corner of the volume."""
    path = write(rtstruct({"body": [], "GTV-1": contours_of(labels, label)}), tmp_path)
    mask = read_mask(path, grid=labels.grid, roi="GTV-1")
    assert mask.grid == labels.grid
    assert mask.voxels.dtype == np.uint8
    np.testing.assert_array_equal(mask.voxels, labels.voxels == label)


def test_outlines_on_coronal_planes(labels: Volume, tmp_path: Path) -> None:
    coronal = Volume(labels.voxels.transpose(1, 0, 2), Grid((11, 7, 13), labels.grid.affine[:, [1, 0, 2, 3]]))
    path = write(rtstruct({"GTV": contours_of(coronal, 1)}), tmp_path)
    np.testing.assert_array_equal(read_mask(path, grid=labels.grid).voxels, labels.voxels == 1)


@given(st.integers(0, 2**32 - 1), st.integers(3, 12))
def test_filling_agrees_with_scikit_image_also_where_polygons_leave_the_slice(seed: int, corners: int) -> None:
    polygon = np.random.default_rng(seed).uniform(-6, 18, (corners, 2))
    plane = np.zeros((11, 13), np.uint8)
    _fill(plane, polygon)
    expected = polygon2mask((30, 30), polygon + 8)[8:19, 8:21]
    np.testing.assert_array_equal(plane, expected)


def test_neighbors_share_no_voxel_of_their_common_border() -> None:
    plane = np.zeros((8, 8), np.uint8)
    for lower, upper in [(1, 4), (4, 7)]:
        _fill(plane, np.array([(1.0, lower), (1, upper), (6, upper), (6, lower)]))
    assert plane.sum() == 5 * 6
    assert plane[1:6, 1:7].all()


def test_names_are_found_exactly_then_in_any_case(labels: Volume, tmp_path: Path) -> None:
    outlines = contours_of(labels, 1)
    path = write(rtstruct({"GTV-1": outlines, "gtv-2": outlines, "Lung": outlines, "LUNG": outlines}), tmp_path)
    assert list_rois(path) == list_rois(tmp_path) == ["GTV-1", "gtv-2", "Lung", "LUNG"]
    for name in ("GTV-1", "gtv-1", "GTV-2", "Lung"):
        assert read_mask(path, grid=labels.grid, roi=name).voxels.any()
    with pytest.raises(errors.RoiNotFound, match="2 regions named 'lung'"):
        read_mask(path, grid=labels.grid, roi="lung")
    with pytest.raises(errors.RoiNotFound, match="no region 'heart'; found 'GTV-1', 'gtv-2', 'Lung', 'LUNG'"):
        read_mask(path, grid=labels.grid, roi="heart")
    with pytest.raises(errors.RoiNotFound, match="4 regions: choose one by name: 'GTV-1'"):
        read_mask(path, grid=labels.grid)
    with pytest.raises(errors.GridMismatch, match="need the image"):
        read_mask(path, roi="GTV-1")


def square(grid: Grid, height: float, size: float = 4) -> np.ndarray:
    """(4, 3) LPS: a square of `size` voxels on the plane at slice index `height`."""
    corners = np.array([(2.5, 2.5), (2.5, 2.5 + size), (2.5 + size, 2.5 + size), (2.5 + size, 2.5)])
    return grid.to_lps(np.column_stack([np.full(4, height), corners]))


def test_contours_between_slices_are_drawn_on_the_nearer(labels: Volume, tmp_path: Path) -> None:
    path = write(rtstruct({"GTV": [square(labels.grid, 2.3), square(labels.grid, 3.3)]}), tmp_path)
    voxels = read_mask(path, grid=labels.grid).voxels
    assert list(np.flatnonzero(voxels.any(axis=(1, 2)))) == [2, 3]
    assert voxels.sum() == 2 * 4 * 4


def test_contours_that_enclose_nothing_or_repeat(
    labels: Volume, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = square(labels.grid, 2)
    path = write(rtstruct({"GTV": [one, one[:2], one[:1], one]}), tmp_path)
    assert read_mask(path, grid=labels.grid).voxels.sum() == 16
    assert "contour 2 of ROI 'GTV' (CLOSED_PLANAR, 2 points) encloses no area" in caplog.text
    assert "contour 4 of ROI 'GTV' repeats another" in caplog.text


@pytest.mark.parametrize(
    ("contours", "message"),
    [
        (lambda g: [square(g, 9)], r"lies on slice 9, outside the image's slices 0 to 6"),
        (lambda g: [square(g, 2.2), square(g, 1.8)], "on different planes within slice 2"),
        (lambda g: [square(g, 2) + np.linspace(0, 9, 4)[:, None] * [0.1, 0.2, 1]], "across .* slices"),
        (lambda g: [], "no closed contour"),
        (lambda g: [square(g, 2)[:2]], "no closed contour"),
    ],
)
@pytest.mark.parametrize("lopsided", ["upward"], indirect=True)
def test_contours_that_cannot_be_filled(labels: Volume, tmp_path: Path, contours: object, message: str) -> None:
    path = write(rtstruct({"GTV": contours(labels.grid)}), tmp_path)  # type: ignore[operator]
    with pytest.raises(errors.BadContour, match=message):
        read_mask(path, grid=labels.grid)


def test_open_contours_are_not_filled(labels: Volume, tmp_path: Path) -> None:
    path = write(rtstruct({"line": [square(labels.grid, 2)]}, kind="OPEN_PLANAR"), tmp_path)
    with pytest.raises(errors.BadContour, match="no closed contour"):
        read_mask(path, grid=labels.grid)


def test_folders_without_one_mask(lopsided: Volume, tmp_path: Path) -> None:
    write_series(tmp_path, lopsided)
    with pytest.raises(errors.UnknownFormat, match=r"expected an RTSTRUCT or a DICOM SEG in .*, found CT"):
        read_mask(tmp_path, grid=lopsided.grid)
    for _ in range(2):
        save([rtstruct({})], tmp_path / str(generate_uid()))
    with pytest.raises(InputError, match="2 masks in"):
        read_mask(tmp_path, grid=lopsided.grid)


def segmentation(
    sources: list[Dataset], pixels: np.ndarray, kind: str, *, names: list[str], syntax: str = ExplicitVRLittleEndian
) -> Dataset:
    """A DICOM SEG by highdicom: all-zero frames left out."""
    algorithm = hd.AlgorithmIdentificationSequence("test", codes.DCM.ArtificialIntelligence, "1")
    descriptions = [
        hd.seg.SegmentDescription(
            number,
            name,
            codes.SCT.MorphologicallyAbnormalStructure,
            codes.SCT.Neoplasm,
            hd.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
            algorithm,
        )
        for number, name in enumerate(names, start=1)
    ]
    return hd.seg.Segmentation(
        sources, pixels, kind, descriptions, generate_uid(), 1, generate_uid(), 1, "m", "m", "1", "s",
        transfer_syntax_uid=syntax, omit_empty_frames=True,
    )  # fmt: skip


NAMES = ["solid", "holey", "dot"]


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_segmentations_by_highdicom(labels: Volume, tmp_path: Path, kind: str) -> None:
    sources = slices(labels)
    pixels = labels.voxels
    if kind == "FRACTIONAL":
        pixels = np.stack([0.7 * (labels.voxels == n) for n in (1, 2, 3)], axis=-1).astype(np.float32)
    path = write(segmentation(sources, pixels, kind, names=NAMES), tmp_path / "seg")
    on_grid = read_mask(path, grid=labels.grid)
    assert on_grid.grid == labels.grid
    np.testing.assert_array_equal(on_grid.voxels, labels.voxels)
    holey = read_mask(path, grid=labels.grid, roi="Holey")
    np.testing.assert_array_equal(holey.voxels, labels.voxels == 2)
    assert list_rois(path)[-3:] == NAMES
    alone = read_mask(path)
    assert alone.voxels.shape == (6, 11, 13)
    assert_same_voxels(alone, labels.crop((1, 0, 0), (7, 11, 13)))


def test_a_segmentation_lies_on_the_ct_that_it_was_made_of(labels: Volume, lopsided: Volume, tmp_path: Path) -> None:
    sources = slices(lopsided)
    path = write(segmentation(sources, labels.voxels, "BINARY", names=NAMES), tmp_path / "seg")
    save(sources, tmp_path / "ct")
    ct = read_ct(tmp_path)
    assert_same_voxels(read_mask(path, grid=ct.grid), labels)


def test_a_compressed_segmentation(labels: Volume, tmp_path: Path) -> None:
    seg = segmentation(slices(labels), labels.voxels, "LABELMAP", names=NAMES, syntax=RLELossless)
    np.testing.assert_array_equal(read_mask(write(seg, tmp_path), grid=labels.grid).voxels, labels.voxels)


def test_a_segmentation_of_a_cropped_series_is_placed_on_the_whole(labels: Volume, tmp_path: Path) -> None:
    part = labels.crop((1, 1, 1), (4, 7, 10))
    path = write(segmentation(slices(part), part.voxels, "BINARY", names=NAMES[:1]), tmp_path)
    np.testing.assert_array_equal(read_mask(path, grid=labels.grid).voxels, labels.voxels == 1)


def test_a_segmentation_of_another_image_is_refused(labels: Volume, tmp_path: Path) -> None:
    path = write(segmentation(slices(labels), labels.voxels, "BINARY", names=NAMES), tmp_path)
    other = Grid(labels.grid.shape, labels.grid.affine + np.eye(4, k=3) * 0.35)
    with pytest.raises(errors.GridMismatch, match="lies on another grid"):
        read_mask(path, grid=other)
    with pytest.raises(errors.GridMismatch, match="lies on another grid"):
        read_mask(path, grid=labels.grid.crop((0, 0, 0), (6, 11, 13)))


def test_overlapping_segments_need_a_choice(labels: Volume, tmp_path: Path) -> None:
    both = np.stack([labels.voxels == 1, labels.voxels > 0], axis=-1).astype(np.uint8)
    path = write(segmentation(slices(labels), both, "BINARY", names=["one", "all"]), tmp_path)
    with pytest.raises(errors.NotLabels, match="overlap"):
        read_mask(path, grid=labels.grid)
    np.testing.assert_array_equal(read_mask(path, grid=labels.grid, roi="all").voxels, labels.voxels > 0)


def test_a_truncated_segmentation_is_refused(labels: Volume, tmp_path: Path) -> None:
    path = write(segmentation(slices(labels), labels.voxels, "LABELMAP", names=NAMES), tmp_path)
    whole = path.read_bytes()
    for part in (0.3, 0.999):
        path.write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(errors.UnreadableFile, match="mask1"):
            read_mask(path, grid=labels.grid)


def test_the_ibsi_referee_agrees(shared_data: Path) -> None:
    folder = shared_data / "ibsi-ct-phantom"
    ct = read_ct(folder / "dicom")
    assert ct.voxels.shape == (60, 201, 204)
    assert list_rois(folder / "dicom") == ["GTV-1"]
    mask = read_mask(folder / "dicom", grid=ct.grid, roi="gtv-1").voxels > 0
    referee = read_mask(folder / "mask.nii.gz", grid=ct.grid).voxels > 0
    dice = 2 * (mask & referee).sum() / (mask.sum() + referee.sum())
    assert dice >= 0.999
    assert mask.sum() * ct.grid.voxel_ml == pytest.approx(358.7, abs=0.1)


def test_the_seed_papers_tumor(shared_data: Path) -> None:
    folder = shared_data / "nsclc-radiomics" / "NSCLC-Radiomics" / "LUNG1-001"
    ct = read_ct(folder)
    tumor = read_mask(folder, grid=ct.grid, roi="GTV-1")
    assert tumor.voxels.sum() * ct.grid.voxel_ml == pytest.approx(156, abs=1)
    assert np.count_nonzero(tumor.voxels.any(axis=(1, 2))) == 21
    inside = np.rint(ct.grid.to_index((82.5, -199.8, -459.5))).astype(int)
    assert tumor.voxels[tuple(inside)] == 1


@pytest.mark.parametrize("lopsided", ["upward"], indirect=True)
def test_what_was_drawn_on_a_thicker_reconstruction_is_refused(labels: Volume, tmp_path: Path) -> None:
    """On every third slice of this image, volume would silently be a third."""
    path = write(rtstruct({"GTV": [square(labels.grid, k) for k in (0, 3, 6)]}), tmp_path / "rt")
    with pytest.raises(errors.BadContour, match=r"every 3rd slice .* thicker reconstruction"):
        read_mask(path, grid=labels.grid)
    thick = Grid(labels.grid.crop((0, 0, 0), (3, 11, 13)).shape, labels.grid.affine * [3, 1, 1, 1])
    image = Volume(np.zeros(thick.shape, np.int16), thick)
    path = write(segmentation(slices(image), np.ones(thick.shape, np.uint8), "BINARY", names=["a"]), tmp_path / "seg")
    assert read_mask(path).voxels.shape == thick.shape
    with pytest.raises(errors.GridMismatch, match=r"every 3 slices .* thicker reconstruction"):
        read_mask(path, grid=labels.grid)


def test_contours_that_leave_the_image_are_refused(labels: Volume, tmp_path: Path) -> None:
    """What lies outside would be lost without a word; a border of half a voxel is none."""
    path = write(rtstruct({"GTV": [square(labels.grid, 2, size=9)]}), tmp_path)
    with pytest.raises(errors.BadContour, match=r"reaches 1.0 voxels beyond the image"):
        read_mask(path, grid=labels.grid)


def test_contours_of_either_closed_kind_are_filled(labels: Volume, tmp_path: Path) -> None:
    for label in (1, 2):
        dataset = rtstruct({"GTV": contours_of(labels, label)}, kind="CLOSEDPLANAR_XOR")
        path = write(dataset, tmp_path / str(label))
        np.testing.assert_array_equal(read_mask(path, grid=labels.grid).voxels, labels.voxels == label)


def test_a_segmentation_of_slices_with_rounded_positions(labels: Volume, tmp_path: Path) -> None:
    """Position headers of a tenth of a millimeter place frames a little beside the CT's even grid."""
    dataset = segmentation(slices(labels), labels.voxels, "BINARY", names=NAMES)
    for number, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        position = group.PlanePositionSequence[0]
        nudge = 0.03 * (-1) ** number
        position.ImagePositionPatient = [round(float(x) + nudge, 4) for x in position.ImagePositionPatient]
    path = write(dataset, tmp_path)
    np.testing.assert_array_equal(read_mask(path, grid=labels.grid).voxels, labels.voxels)


def test_a_truncated_segmentation_is_named(labels: Volume, tmp_path: Path) -> None:
    path = write(segmentation(slices(labels), labels.voxels, "BINARY", names=NAMES), tmp_path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    for roi in (None, "GTV"):
        with pytest.raises(InputError, match="mask"):
            read_mask(path, grid=labels.grid, roi=roi)

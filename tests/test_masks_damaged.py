"""Segmentations that are malformed, and geometry that a segmentation states against its own frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dicom_series import decimals, save, slices
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence
from pydicom.uid import RLELossless
from test_images_masks import NAMES, segmentation

from clmsda.errors import InputError
from clmsda.geometry import Grid, Volume
from clmsda.images import errors, read_mask

Spoil = Callable[[Dataset], object]


def write(labels: Volume, folder: Path, spoil: Spoil, kind: str = "BINARY") -> Path:
    pixels = labels.voxels
    if kind == "FRACTIONAL":
        pixels = np.stack([0.7 * (labels.voxels == n) for n in (1, 2, 3)], axis=-1).astype(np.float32)
    dataset = segmentation(slices(labels), pixels, kind, names=NAMES)
    (path,) = save([dataset], folder, name="mask{}.dcm")
    plain = dcmread(path)  # without the checks of the library that made it
    spoil(plain)
    plain.save_as(path)
    return path


def drop(keyword: str) -> Spoil:
    return lambda dataset: dataset.pop(keyword)


def of_frames(sequence: str, keyword: str, value: object, frame: int = 1) -> Spoil:
    """Set (or with None drop) what one frame says, wherever it says it."""

    def spoil(dataset: Dataset) -> None:
        for groups in (dataset.PerFrameFunctionalGroupsSequence[frame], dataset.SharedFunctionalGroupsSequence[0]):
            for item in groups.get(sequence) or []:
                if value is None:
                    item.pop(keyword, None)
                elif keyword in item:
                    setattr(item, keyword, value)

    return spoil


def fewer(dataset: Dataset) -> None:
    dataset.PerFrameFunctionalGroupsSequence = Sequence(list(dataset.PerFrameFunctionalGroupsSequence)[:-1])


def more(dataset: Dataset) -> None:
    groups = list(dataset.PerFrameFunctionalGroupsSequence)
    dataset.PerFrameFunctionalGroupsSequence = Sequence([*groups, groups[-1]])


POSITION, MEASURES = "PlanePositionSequence", "PixelMeasuresSequence"
ORIENTATION, SEGMENT = "PlaneOrientationSequence", "SegmentIdentificationSequence"

FAULTS: dict[str, Spoil] = {
    "fewer groups than frames": fewer,
    "more groups than frames": more,
    "no groups": drop("PerFrameFunctionalGroupsSequence"),
    "empty groups": lambda dataset: setattr(dataset, "PerFrameFunctionalGroupsSequence", Sequence([])),
    "no shared groups": drop("SharedFunctionalGroupsSequence"),
    "no segments": drop("SegmentSequence"),
    "no segment number": lambda dataset: dataset.SegmentSequence[1].pop("SegmentNumber"),
    "one number twice": lambda dataset: setattr(dataset.SegmentSequence[1], "SegmentNumber", 1),
    "no type": drop("SegmentationType"),
    "a strange type": lambda dataset: setattr(dataset, "SegmentationType", "SURFACE"),
    "no rows": drop("Rows"),
    "other rows": lambda dataset: setattr(dataset, "Rows", dataset.Rows + 4),
    "no pixels": drop("PixelData"),
    "no bits": drop("BitsAllocated"),
    "wrong bits": lambda dataset: setattr(dataset, "BitsAllocated", 16),
    "more frames than pixels": lambda dataset: setattr(dataset, "NumberOfFrames", 4000),
    "frames without end": lambda dataset: setattr(dataset, "NumberOfFrames", 2**31 - 1),
    "three values per voxel": lambda dataset: setattr(dataset, "SamplesPerPixel", 3),
    "a segment that is not described": of_frames(SEGMENT, "ReferencedSegmentNumber", 9),
    "no segment in a frame": of_frames(SEGMENT, "ReferencedSegmentNumber", None),
    "no position": of_frames(POSITION, "ImagePositionPatient", None),
    "two coordinates": of_frames(POSITION, "ImagePositionPatient", ["1", "2"]),
    "a frame far away": of_frames(POSITION, "ImagePositionPatient", ["1", "2", "900000000"]),
    "a frame on no slice": of_frames(POSITION, "ImagePositionPatient", ["1", "2", "3.3"]),
    "no orientation": of_frames(ORIENTATION, "ImageOrientationPatient", None),
    "no direction": of_frames(ORIENTATION, "ImageOrientationPatient", ["0"] * 6),
    "no spacing": of_frames(MEASURES, "PixelSpacing", None),
    "a spacing of 0": of_frames(MEASURES, "PixelSpacing", ["0", "0"]),
    "a negative spacing": of_frames(MEASURES, "PixelSpacing", ["-1", "1"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_malformed_segmentation_is_refused_in_one_line(labels: Volume, tmp_path: Path, fault: str) -> None:
    path = write(labels, tmp_path, FAULTS[fault])
    for grid in (labels.grid, None):
        with pytest.raises(InputError, match=r"mask1\.dcm") as caught:
            read_mask(path, grid=grid)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keyword", ["MaximumFractionalValue", "BitsAllocated"])
def test_fractions_need_to_say_of_what(labels: Volume, tmp_path: Path, keyword: str) -> None:
    with pytest.raises(InputError, match="mask1"):
        read_mask(write(labels, tmp_path, drop(keyword), "FRACTIONAL"), grid=labels.grid)


def test_a_label_map_with_a_value_that_is_not_described(labels: Volume, tmp_path: Path) -> None:
    path = write(labels, tmp_path, lambda dataset: dataset.SegmentSequence.pop(), "LABELMAP")
    with pytest.raises(errors.UnreadableFile, match="belong to segment 3, which it does not describe"):
        read_mask(path, grid=labels.grid)


def test_a_binary_segmentation_may_carry_what_fractions_need(labels: Volume, tmp_path: Path) -> None:
    """Half of 255 is more than 1: nothing would be inside."""
    path = write(labels, tmp_path, lambda dataset: setattr(dataset, "MaximumFractionalValue", 255))
    np.testing.assert_array_equal(read_mask(path, grid=labels.grid).voxels, labels.voxels)


def test_damaged_run_lengths(labels: Volume, tmp_path: Path) -> None:
    dataset = segmentation(slices(labels), labels.voxels, "LABELMAP", names=NAMES, syntax=RLELossless)
    (path,) = save([dataset], tmp_path, name="mask{}.dcm")
    whole = bytearray(path.read_bytes())
    for at in range(len(whole) - 200, len(whole) - 8, 3):
        whole[at] ^= 0xFF
    path.write_bytes(whole)
    with pytest.raises(errors.UnreadableFile, match=r"mask1\.dcm is truncated or damaged"):
        read_mask(path, grid=labels.grid)


@pytest.mark.parametrize("stated", ["0.7", "1.2", "40", "0", "nan", None])
def test_frames_lie_where_their_positions_say(labels: Volume, tmp_path: Path, stated: str | None) -> None:
    """Not where a spacing, a thickness, or the order of the frames would have them; with and without the image."""

    def spoil(dataset: Dataset) -> None:
        measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        for keyword in ("SpacingBetweenSlices", "SliceThickness"):
            step = labels.grid.spacing_mm[0]
            value = stated if stated in ("0", "nan", None) else decimals([step * float(stated)])[0]
            measures.pop(keyword, None)
            if value is not None:
                measures[keyword] = type(dataset["PatientID"])(keyword, "DS", value, validation_mode=0)

    path = write(labels, tmp_path, spoil)
    np.testing.assert_array_equal(read_mask(path, grid=labels.grid).voxels, labels.voxels)
    alone = read_mask(path)
    assert (alone.voxels > 0).sum() * alone.grid.voxel_ml == pytest.approx(
        (labels.voxels > 0).sum() * labels.grid.voxel_ml, rel=1e-3
    )


@pytest.mark.parametrize("part", [2, 3])
def test_frames_farther_apart_than_stated_need_the_image(labels: Volume, tmp_path: Path, part: int) -> None:
    """Are the slices between empty, or is the statement wrong? Half or a third of the volume hangs on it."""
    step = decimals([labels.grid.spacing_mm[0] / part])[0]
    path = write(labels, tmp_path, of_frames(MEASURES, "SpacingBetweenSlices", step))
    with pytest.raises(errors.UnevenSpacing, match=r"give the image that it was drawn on \(--image CT\)"):
        read_mask(path)
    np.testing.assert_array_equal(read_mask(path, grid=labels.grid).voxels, labels.voxels)


def test_pixels_of_another_size_than_the_images_are_refused(labels: Volume, tmp_path: Path) -> None:
    path = write(labels, tmp_path, of_frames(MEASURES, "PixelSpacing", decimals(labels.grid.spacing_mm[1:] * 1.02)))
    with pytest.raises(errors.GridMismatch, match="another grid than the image"):
        read_mask(path, grid=labels.grid)


def test_gaps_of_a_segment_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    grid = Grid.axial((8, 12, 10), (2.0, 1.0, 1.0))
    voxels = np.zeros(grid.shape, np.uint8)
    voxels[[1, 2, 4, 5, 7], 3:9, 2:8] = 1
    labels = Volume(voxels, grid)
    dataset = segmentation(slices(labels), voxels, "BINARY", names=["tumor"])
    (path,) = save([dataset], tmp_path, name="mask{}.dcm")
    np.testing.assert_array_equal(read_mask(path, grid=grid).voxels, voxels)
    assert "segment 'tumor' in mask1.dcm has no voxel on 2 slices (" in caplog.text

"""Labels from DICOM Segmentation objects (PS3.3 A.51, C.8.20): BINARY, FRACTIONAL and LABELMAP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.utils import pixel_array

from clmsda.geometry import Grid, Volume
from clmsda.images.dicom_files import DicomFile
from clmsda.images.errors import GridMismatch, IncompleteHeader, NotLabels, UnevenSpacing, UnreadableFile
from clmsda.images.orientation import axial_first, onto
from clmsda.images.rtstruct import choose_name

Group = Callable[[str], Dataset]


def segment_names(file: DicomFile) -> list[str]:
    """The segments' labels, in the file's order (which for a LABELMAP may include the background)."""
    _groups(file)  # refuses what is no whole segmentation
    return [str(segment.get("SegmentLabel") or "").strip() for segment in file.header.SegmentSequence]


def read_segments(file: DicomFile, grid: Grid | None, segment: str | None) -> Volume:
    """The segments as labels: each voxel has its segment's number, or 1 if one `segment` is named.

    Frames are placed by position; those that are all zero may be missing. Fractions of at least one
    half count as inside. On `grid` if it is given, else on the smallest grid that holds all frames.

    Raises RoiNotFound, NotLabels (overlapping segments), UnevenSpacing, GridMismatch,
    IncompleteHeader, UnreadableFile.
    """
    chosen = None
    if segment is not None:
        index = choose_name(segment_names(file), segment, file.name)
        chosen = int(file.header.SegmentSequence[index].SegmentNumber)
    groups = _groups(file)
    positions, own = _stack(file, groups, grid)
    frames = _frames(file)
    labels = np.zeros(own.shape, np.uint16)
    for frame, group, position in zip(frames, groups, positions, strict=True):
        if file.header.SegmentationType == "LABELMAP":
            values = frame.astype(np.uint16)
        else:
            inside = frame >= max(1, int(file.header.get("MaximumFractionalValue") or 1) / 2)
            number = _needed(group, "SegmentIdentificationSequence", "ReferencedSegmentNumber", file)
            values = inside * np.uint16(number)
        if chosen is not None:
            values = (values == chosen).astype(np.uint16)
        _add(labels[position], values, file)
    mask = Volume(labels, own, file.name)
    return axial_first(mask) if grid is None else onto(mask, grid, part=True)


def _add(plane: NDArray[np.uint16], values: NDArray[np.uint16], file: DicomFile) -> None:
    if ((plane > 0) & (values > 0) & (plane != values)).any():
        raise NotLabels(f"segments in {file.name} overlap, which labels cannot hold: choose one segment by name")
    np.maximum(plane, values, out=plane)


def _frames(file: DicomFile) -> NDArray:
    """(frames, rows, columns) stored values."""
    try:
        frames = pixel_array(file.header)
    except Exception as error:  # each decoder has its own
        raise UnreadableFile(f"{file.name} is truncated or damaged ({error}); fetch it again") from error
    return frames.reshape(-1, *frames.shape[-2:])


def _groups(file: DicomFile) -> list[Group]:
    """For each frame, the function that finds a functional group: the frame's own, else the shared one."""
    if "PerFrameFunctionalGroupsSequence" not in file.header or "SegmentSequence" not in file.header:
        raise UnreadableFile(f"{file.name} is no complete DICOM segmentation: it has no frames or segments")
    shared = (file.header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]

    def finder(own: Dataset) -> Group:
        return lambda name: (own.get(name) or shared.get(name) or [Dataset()])[0]

    return [finder(own) for own in file.header.PerFrameFunctionalGroupsSequence]


def _needed(group: Group, sequence: str, attribute: str, file: DicomFile) -> Any:
    value = group(sequence).get(attribute)
    if value is None:
        raise IncompleteHeader(f"{file.name} needs {attribute} in every frame: export it again")
    return value


def _stack(file: DicomFile, groups: list[Group], wanted: Grid | None) -> tuple[NDArray[np.int64], Grid]:
    """The slice number of each frame, and the grid that they lie on, along the normal of the planes."""
    origins = np.array([_needed(g, "PlanePositionSequence", "ImagePositionPatient", file) for g in groups], float)
    directions = [_needed(g, "PlaneOrientationSequence", "ImageOrientationPatient", file) for g in groups]
    if np.ptp(np.array(directions, float), axis=0).max() > 1e-4:
        raise UnevenSpacing(f"{file.name} has frames of different orientations: expected one stack")
    row, column = np.array(directions[0], float).reshape(2, 3)
    normal = np.cross(row, column)
    heights = origins @ normal
    step = _step(groups[0]("PixelMeasuresSequence"), heights, wanted, normal)
    numbers = (heights - heights.min()) / step
    positions = np.rint(numbers).astype(np.int64)
    gaps = np.diff(np.unique(positions))
    if wanted is not None and gaps.size and gaps.min() > 1 and not _is_step(groups[0]("PixelMeasuresSequence"), step):
        raise GridMismatch(
            f"{file.name} has frames on every {gaps.min()} slices of the image ({gaps.min() * step:.4g} mm) at most: "
            "it was drawn on a thicker reconstruction; give that one"
        )
    first = origins[heights.argmin()]
    away = np.linalg.norm(origins - first - np.outer(positions * step, normal), axis=1).max()
    if away > 0.1 * step:
        raise UnevenSpacing(f"{file.name} has frames {away:.3g} mm off an even stack of {step:.4g} mm: expected one")
    spacing = np.array(_needed(groups[0], "PixelMeasuresSequence", "PixelSpacing", file), float)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([normal * step, column * spacing[0], row * spacing[1]], axis=1)
    affine[:3, 3] = first
    return positions, Grid((int(positions.max()) + 1, file.header.Rows, file.header.Columns), affine)


def _step(measures: Dataset, heights: NDArray[np.float64], wanted: Grid | None, normal: NDArray[np.float64]) -> float:
    """The distance between slices in mm: as on the image's grid, as stated, or the smallest that occurs."""
    if wanted is not None:
        axis = np.abs(normal @ (wanted.affine[:3, :3] / wanted.spacing_mm)).argmax()
        return float(wanted.spacing_mm[axis])
    stated = measures.get("SpacingBetweenSlices")
    if stated:
        return abs(float(stated))
    gaps = np.diff(np.unique(np.round(heights, 3)))
    return float(gaps.min()) if gaps.size else float(measures.get("SliceThickness") or 1.0)


def _is_step(measures: Dataset, step: float) -> bool:
    """Whether the file states this distance between its slices, so that the empty ones between frames are left out."""
    stated = measures.get("SpacingBetweenSlices")
    return bool(stated) and abs(abs(float(stated)) - step) < 0.1 * step

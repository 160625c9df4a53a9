"""Labels from DICOM Segmentation objects (PS3.3 A.51, C.8.20): BINARY, FRACTIONAL and LABELMAP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.utils import pixel_array

from clmsda.geometry import Grid, Volume
from clmsda.images.dicom_files import DicomFile
from clmsda.images.errors import GridMismatch, IncompleteHeader, NotLabels, UnevenSpacing, UnreadableFile
from clmsda.images.gaps import say_gaps
from clmsda.images.orientation import axial_first, onto
from clmsda.images.plausibility import check_spacing
from clmsda.images.region_names import Region, choose, regions_of

Group = Callable[[str], Dataset]

TYPES = ("BINARY", "FRACTIONAL", "LABELMAP")
MOST_SLICES = 10_000
"""Frames farther apart than so many slices lie on no CT: their positions are damaged."""
MOST_VOXELS = 1 << 32
"""What a header may claim: a CT has a tenth of it."""


def read_segments(file: DicomFile, grid: Grid | None, segment: str | None) -> Volume:
    """The segments as labels: each voxel has its segment's number, or 1 if one `segment` is named.

    Frames are placed by position; those that are all zero may be missing. Fractions of at least one
    half count as inside. On `grid` if it is given, else on the smallest grid that holds all frames.
    Slices without a voxel between others of a segment are said.

    Raises RoiNotFound, NotLabels (overlapping segments), UnevenSpacing, GridMismatch,
    IncompleteHeader, UnreadableFile.
    """
    groups = _groups(file)
    regions = regions_of(file)
    chosen = None if segment is None else choose(regions, segment, file.name)
    positions, own = _stack(file, groups, grid)
    frames = _frames(file, len(groups))
    labels = np.zeros(own.shape, np.uint16)
    for frame, group, position in zip(frames, groups, positions, strict=True):
        numbers = frame.astype(np.uint16)
        if file.header.SegmentationType != "LABELMAP":
            number = int(_needed(group, "SegmentIdentificationSequence", "ReferencedSegmentNumber", file))
            numbers = (frame >= _least_inside(file)) * np.uint16(number)
        _check_described(numbers, regions, file)
        _add(labels[position], numbers if chosen is None else (numbers == chosen.number).astype(np.uint16), file)
    _say_gaps(labels, regions, chosen, file)
    mask = Volume(labels, own, file.name)
    return axial_first(mask) if grid is None else onto(mask, grid, part=True)


def _least_inside(file: DicomFile) -> float:
    """The lowest stored value that counts as inside."""
    if file.header.SegmentationType == "BINARY":
        return 1
    highest = file.header.get("MaximumFractionalValue")
    if not highest or file.header.get("BitsAllocated") != 8:
        raise IncompleteHeader(
            f"{file.name} holds fractions, so it needs MaximumFractionalValue and 8 bits per voxel, found "
            f"{highest or 'none'} and {file.header.get('BitsAllocated')}: export it again"
        )
    return max(1.0, int(highest) / 2)


def _check_described(numbers: NDArray[np.uint16], regions: Sequence[Region], file: DicomFile) -> None:
    strange = set(np.unique(numbers).tolist()) - {0, *(region.number for region in regions)}
    if strange:
        raise UnreadableFile(
            f"{file.name} is damaged: frames belong to segment {min(strange)}, which it does not describe; export it "
            "again"
        )


def _add(plane: NDArray[np.uint16], values: NDArray[np.uint16], file: DicomFile) -> None:
    if ((plane > 0) & (values > 0) & (plane != values)).any():
        raise NotLabels(f"segments in {file.name} overlap, which labels cannot hold: choose one segment by name")
    np.maximum(plane, values, out=plane)


def _say_gaps(labels: NDArray[np.uint16], regions: Sequence[Region], chosen: Region | None, file: DicomFile) -> None:
    for region in regions if chosen is None else [chosen]:
        value = region.number if chosen is None else 1
        if value:
            slices = np.flatnonzero((labels == value).any(axis=(1, 2)))
            say_gaps(slices.tolist(), f"segment {region.name!r} in {file.name}", "voxel")


def _frames(file: DicomFile, count: int) -> NDArray:
    """(frames, rows, columns) stored values. count: of the groups that place them."""
    header = file.header
    claimed = int(header.get("NumberOfFrames") or 1)
    if claimed != count:
        raise UnreadableFile(
            f"{file.name} is damaged: it has {claimed} frames, but places {count} of them; export it again"
        )
    if claimed * int(header.Rows) * int(header.Columns) > MOST_VOXELS:
        raise UnreadableFile(f"{file.name} is damaged: it claims {claimed} frames of {header.Rows} x {header.Columns}")
    try:
        frames = pixel_array(header)
    except Exception as error:  # each decoder has its own
        raise UnreadableFile(f"{file.name} is truncated or damaged in its pixels; fetch it again") from error
    if frames.size != count * int(header.Rows) * int(header.Columns):
        raise UnreadableFile(f"{file.name} is damaged: expected one value per voxel, found {frames.shape}")
    return frames.reshape(count, *frames.shape[-2:])


def _groups(file: DicomFile) -> list[Group]:
    """For each frame, the function that finds a functional group: the frame's own, else the shared one."""
    header = file.header
    if not header.get("PerFrameFunctionalGroupsSequence") or not header.get("SegmentSequence"):
        raise UnreadableFile(f"{file.name} is no complete DICOM segmentation: it has no frames or segments")
    if header.get("SegmentationType") not in TYPES:
        raise UnreadableFile(
            f"{file.name} is no complete DICOM segmentation: expected SegmentationType {', '.join(TYPES)}, found "
            f"{header.get('SegmentationType') or 'none'}"
        )
    shared = (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]

    def finder(own: Dataset) -> Group:
        return lambda name: (own.get(name) or shared.get(name) or [Dataset()])[0]

    return [finder(own) for own in header.PerFrameFunctionalGroupsSequence]


def _needed(group: Group, sequence: str, attribute: str, file: DicomFile) -> Any:
    value = group(sequence).get(attribute)
    if value is None or value == "":
        raise IncompleteHeader(f"{file.name} needs {attribute} in every frame: export it again")
    return value


def _vectors(groups: list[Group], sequence: str, attribute: str, length: int, file: DicomFile) -> NDArray[np.float64]:
    """(frames, length) numbers that every frame has."""
    try:
        values = np.array([_needed(group, sequence, attribute, file) for group in groups], np.float64)
    except (TypeError, ValueError):
        values = np.empty((0, 0))
    if values.shape != (len(groups), length) or not np.isfinite(values).all():
        raise IncompleteHeader(f"{file.name} needs {attribute} of {length} numbers in every frame: export it again")
    return values


def _stack(file: DicomFile, groups: list[Group], wanted: Grid | None) -> tuple[NDArray[np.int64], Grid]:
    """The slice number of each frame, and the grid that they lie on, along the normal of the planes."""
    origins = _vectors(groups, "PlanePositionSequence", "ImagePositionPatient", 3, file)
    directions = _vectors(groups, "PlaneOrientationSequence", "ImageOrientationPatient", 6, file)
    spacings = _vectors(groups, "PixelMeasuresSequence", "PixelSpacing", 2, file)
    if np.ptp(directions, axis=0).max() > 1e-4 or np.ptp(spacings, axis=0).max() > 1e-4:
        raise UnevenSpacing(f"{file.name} has frames of different orientations or spacings: expected one stack")
    axes, spacing = directions[0].reshape(2, 3), spacings[0]
    if np.abs(axes @ axes.T - np.eye(2)).max() > 0.01 or spacing.min() <= 0:
        raise IncompleteHeader(
            f"{file.name} has frames without perpendicular axes or with a spacing of 0: export it again"
        )
    row, column = axes
    normal = np.cross(row, column)
    heights = origins @ normal
    step = _step(groups[0]("PixelMeasuresSequence"), heights, wanted, normal, file)
    numbers = (heights - heights.min()) / step
    if numbers.max() >= (MOST_SLICES if wanted is None else max(wanted.shape) + 1):
        raise GridMismatch(
            f"{file.name} has frames {np.ptp(heights):.4g} mm apart, which is more than the image: give the image that "
            "it was drawn on"
        )
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
    affine = np.eye(4)
    affine[:3, :3] = np.stack([normal * step, column * spacing[0], row * spacing[1]], axis=1)
    affine[:3, 3] = first
    grid = Grid((int(positions.max()) + 1, file.header.Rows, file.header.Columns), affine)
    check_spacing(grid, file.name)
    return positions, grid


def _step(
    measures: Dataset, heights: NDArray[np.float64], wanted: Grid | None, normal: NDArray[np.float64], file: DicomFile
) -> float:
    """The distance between slices in mm: as on the image's grid, else the smallest that occurs between frames.

    What the file states counts where there is but one frame, and never against the frames. Where they lie farther
    apart than it states, only the image tells whether slices between are empty or the statement is wrong.
    """
    if wanted is not None:
        axis = np.abs(normal @ (wanted.affine[:3, :3] / wanted.spacing_mm)).argmax()
        return float(wanted.spacing_mm[axis])
    levels = np.unique(np.round(heights, 2))
    if len(levels) < 2:
        thickness = _stated(measures, "SpacingBetweenSlices") or _stated(measures, "SliceThickness")
        if not thickness:
            raise IncompleteHeader(f"{file.name} does not tell how thick its one slice is: give the image (--image CT)")
        return thickness
    smallest, stated = float(np.diff(levels).min()), _stated(measures, "SpacingBetweenSlices")
    if 0 < stated < 0.9 * smallest and abs(smallest / stated % 1 - 0.5) > 0.4:
        raise UnevenSpacing(
            f"{file.name} has frames at least {smallest:.4g} mm apart, but states slices every {stated:.4g} mm: give "
            "the image that it was drawn on (--image CT), which tells which is true"
        )
    above = heights - heights.min()
    numbers = np.rint(above / smallest)
    step = float((above * numbers).sum() / (numbers**2).sum())  # positions are rounded: all of them count
    return stated if abs(stated - step) < 1e-3 * step else step


def _stated(measures: Dataset, keyword: str) -> float:
    """A distance in mm that the file states; 0 for none."""
    try:
        value = abs(float(measures.get(keyword) or 0))
    except (TypeError, ValueError):
        return 0.0
    return value if value < np.inf else 0.0


def _is_step(measures: Dataset, step: float) -> bool:
    """Whether the file states this distance between its slices, so that the empty ones between frames are left out."""
    return abs(_stated(measures, "SpacingBetweenSlices") - step) < 0.1 * step

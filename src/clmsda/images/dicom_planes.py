"""From DICOM's position and orientation of each slice to one grid, or a refusal by name.

Attributes: PS3.3 C.7.6.2 (image plane), C.7.6.16.2 (the same per frame of multi-frame objects).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from clmsda.geometry import Grid
from clmsda.images.damage import damage_named
from clmsda.images.dicom_files import DicomFile
from clmsda.images.dicom_mixture import taken, warn_of_mixture, warn_of_tilt
from clmsda.images.errors import (
    DuplicateSlice,
    GantryTilt,
    IncompleteHeader,
    MissingSlice,
    MixedSeries,
    NotCT,
    UnevenSpacing,
    UnreadableFile,
)
from clmsda.images.plausibility import DRIFT_MM, check_size, check_spacing

SAME_PLACE_MM = 0.01
OTHER_QUANTITIES = ("OD", "MGML", "PCT", "Z_EFF", "ED", "EDW")
"""RescaleType of optical density, concentration, percent, atomic number, electron density (PS3.3 C.11.1.1.2)."""
DIRECTION_TOLERANCE = 2e-3
UNEVEN_PART = 0.1
"""How far a slice may lie from its place in an even stack, as a part of the spacing (headers are rounded)."""


@dataclass(frozen=True)
class Plane:
    """One slice: where its pixels are, and the line from stored values to HU.

    position_mm: (3,) LPS of the first pixel. row, column: (3,) unit directions in which the column
    and the row index grow. spacing_mm: between rows, between columns. stated: what of the line the header states;
    the rest is assumed.
    """

    file: DicomFile
    frame: int
    position_mm: NDArray[np.float64]
    row: NDArray[np.float64]
    column: NDArray[np.float64]
    spacing_mm: tuple[float, float]
    slope: float
    intercept: float
    stated: str = "slope and intercept"

    @property
    def name(self) -> str:
        return self.file.name if "NumberOfFrames" not in self.file.header else f"{self.file.name} frame {self.frame}"


def planes_of(file: DicomFile) -> list[Plane]:
    """The slices in a file: one, or one per frame of an enhanced CT object.

    Raises IncompleteHeader, UnreadableFile (no pixels), NotCT (color, floating point, another quantity).
    """
    with damage_named(file.name):
        return _planes(file)


def _planes(file: DicomFile) -> list[Plane]:
    header = file.header
    if "FloatPixelData" in header or "DoubleFloatPixelData" in header:
        raise NotCT(f"{file.name} has pixels in floating point, as maps of other quantities have, not a CT slice's")
    if not {"PixelData", "Rows", "Columns"} <= set(header.dir()):
        raise UnreadableFile(f"{file.name} is truncated: it ends before its pixels; fetch it again")
    if header.get("SamplesPerPixel", 1) != 1:
        raise NotCT(f"{file.name} has {header.SamplesPerPixel} values per pixel: a color picture, not a CT slice")
    if header.get("ModalityLUTSequence") or str(header.get("RescaleType") or "HU") in OTHER_QUANTITIES:
        raise NotCT(
            f"{file.name} does not hold Hounsfield units (RescaleType {header.get('RescaleType') or 'none'}, or a "
            "table of values): give the reconstruction in HU"
        )
    if "PerFrameFunctionalGroupsSequence" not in header:
        if header.get("NumberOfFrames") not in (None, 0, 1):
            raise IncompleteHeader(
                f"{file.name} has {header.NumberOfFrames} frames but does not say where each lies "
                "(PerFrameFunctionalGroupsSequence): give single slices or an enhanced CT"
            )
        return [_plane(file, 0, lambda _: header)]
    shared = header.get("SharedFunctionalGroupsSequence") or [Dataset()]
    groups = header.PerFrameFunctionalGroupsSequence or ()
    frames = int(_numbers(header, "NumberOfFrames", 1, file)[0])
    if frames != len(groups):
        raise UnreadableFile(
            f"{file.name} has {frames} frames but describes {len(groups)} (PerFrameFunctionalGroupsSequence): damaged"
        )

    def finder(frame: int) -> Callable[[str], Dataset]:
        return lambda group: next((s[0] for s in (groups[frame].get(group), shared[0].get(group)) if s), Dataset())

    return [_plane(file, frame, finder(frame)) for frame in range(len(groups))]


def _plane(file: DicomFile, frame: int, group: Callable[[str], Dataset]) -> Plane:
    """Read one slice; `group` gives the dataset that holds the attributes of a functional group."""

    def numbers(sequence: str, attribute: str, count: int) -> NDArray[np.float64]:
        return _numbers(group(sequence), attribute, count, file)

    directions = numbers("PlaneOrientationSequence", "ImageOrientationPatient", 6).reshape(2, 3)
    if np.abs(directions @ directions.T - np.eye(2)).max() > 0.01:
        raise IncompleteHeader(f"{file.name}: ImageOrientationPatient is no pair of perpendicular unit vectors")
    spacing = numbers("PixelMeasuresSequence", "PixelSpacing", 2)
    rescale = group("PixelValueTransformationSequence")
    slope, intercept = (
        float(_numbers(rescale, name, 1, file)[0]) if rescale.get(name) is not None else None
        for name in ("RescaleSlope", "RescaleIntercept")
    )
    if slope == 0:
        raise IncompleteHeader(f"{file.name} has a RescaleSlope of 0, by which all values are one: export it again")
    return Plane(
        file=file,
        frame=frame,
        position_mm=numbers("PlanePositionSequence", "ImagePositionPatient", 3),
        row=directions[0],
        column=directions[1],
        spacing_mm=(float(spacing[0]), float(spacing[1])),
        slope=1.0 if slope is None else slope,
        intercept=0.0 if intercept is None else intercept,
        stated=stated(slope is not None, intercept is not None),
    )


def stated(slope: bool, intercept: bool) -> str:
    """`Plane.stated`, in words."""
    return " and ".join(word for word, there in (("slope", slope), ("intercept", intercept)) if there) or "none"


def _numbers(header: Dataset, attribute: str, count: int, file: DicomFile) -> NDArray[np.float64]:
    """(count,) finite numbers of an attribute. Raises IncompleteHeader."""
    try:
        value: Any = header.get(attribute)
        values = np.array(value if value is not None else [], dtype=np.float64).ravel()
    except (ValueError, TypeError):  # as text that is no number, which pydicom hands on
        element = header.get_item(attribute)
        value, values = getattr(element, "value", None), np.empty(0)
    if values.size != count or not np.isfinite(values).all():
        found = "none" if value is None else value
        wanted = f"{count} numbers" if count > 1 else "a number"
        raise IncompleteHeader(f"{file.name} needs {wanted} in {attribute}, found {found}: export it again")
    return values


def stack(planes: list[Plane], name: str) -> tuple[list[Plane], Grid]:
    """Order slices along the normal (row direction x column direction) and lay a grid through them.

    This is also the order of ITK and 3D Slicer: for the usual axial series from inferior to superior.

    Raises MixedSeries, DuplicateSlice, MissingSlice, UnevenSpacing, GantryTilt, ImpossibleSpacing, TooLarge.
    """
    first = planes[0].file.header
    check_size((len(planes), first.Rows, first.Columns), name)
    _check_alike(planes)
    row = np.mean([plane.row for plane in planes], axis=0)
    row /= np.linalg.norm(row)
    column = np.mean([plane.column for plane in planes], axis=0)
    column -= row * (row @ column)
    column /= np.linalg.norm(column)
    normal = np.cross(row, column)
    planes = sorted(planes, key=lambda plane: float(plane.position_mm @ normal))
    if len(planes) < 2:
        raise MissingSlice(f"{name} holds a single slice ({planes[0].name}): give the folder with the whole series")
    distances = np.array([plane.position_mm @ normal for plane in planes])
    step = _check_even(planes, distances, normal)
    _check_straight(planes, row, column, distances)
    warn_of_mixture([taken(plane.file.header) for plane in planes], name)
    warn_of_tilt(planes[0].file.header)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([normal * step, column * planes[0].spacing_mm[0], row * planes[0].spacing_mm[1]], axis=1)
    affine[:3, 3] = planes[0].position_mm
    grid = Grid((len(planes), int(first.Rows), int(first.Columns)), affine)
    check_spacing(grid, name)
    return planes, grid


def _check_alike(planes: list[Plane]) -> None:
    """Raise MixedSeries unless all slices share patient, size, spacing, orientation, frame of reference, and what of
    the line to HU they state."""
    first = planes[0]
    for plane in planes[1:]:
        patients = {str(p.file.header.get("PatientID") or "").strip() for p in (first, plane)}
        if len(patients - {""}) > 1:  # whose names are no message's business
            raise MixedSeries(f"{first.name} and {plane.name} are of different patients: split the series")
        pairs = {
            "size": [f"{p.file.header.Rows}x{p.file.header.Columns}" for p in (first, plane)],
            "rescale to HU": [p.stated for p in (first, plane)],
            "frame of reference": [str(p.file.header.get("FrameOfReferenceUID") or "none") for p in (first, plane)],
        }
        if not np.allclose(first.spacing_mm, plane.spacing_mm, rtol=1e-3):
            pairs["pixel spacing"] = [f"{p.spacing_mm} mm" for p in (first, plane)]
        if np.abs(np.subtract((first.row, first.column), (plane.row, plane.column))).max() > DIRECTION_TOLERANCE:
            pairs["orientation"] = [str(np.round([*p.row, *p.column], 4).tolist()) for p in (first, plane)]
        for what, (one, other) in pairs.items():
            if one != other:
                raise MixedSeries(
                    f"one stack needs slices of one {what}, found {one} in {first.name} and {other} in {plane.name}: "
                    "split the series or export it again"
                )


def _check_even(planes: list[Plane], distances: NDArray[np.float64], normal: NDArray[np.float64]) -> float:
    """The distance between slices in mm; raise DuplicateSlice, MissingSlice or UnevenSpacing if there is none."""
    axis = int(np.abs(normal).argmax())
    gaps = np.diff(distances)

    def place(index: int) -> str:
        return f"{'xyz'[axis]} = {planes[index].position_mm[axis]:.6g} mm ({planes[index].name})"

    repeated = np.flatnonzero(gaps < SAME_PLACE_MM)
    if repeated.size:
        first, second = planes[repeated[0]], planes[repeated[0] + 1]
        uids = [plane.file.header.get("SOPInstanceUID") for plane in (first, second)]
        remedy = "remove the copies" if uids[0] == uids[1] else "the series mixes acquisitions: export one of them"
        raise DuplicateSlice(
            f"{repeated.size} duplicated slices: {first.name} and {second.name} both lie at "
            f"{'xyz'[axis]} = {first.position_mm[axis]:.6g} mm; {remedy}"
        )
    usual = float(np.median(gaps))
    wide = np.flatnonzero(gaps > 1.5 * usual)
    if wide.size:
        places = "; ".join(f"between {place(i)} and {place(i + 1)}" for i in wide[:3])
        missing = int(np.rint(gaps[wide] / usual - 1).sum())
        raise MissingSlice(
            f"{missing} missing slice{'s' * (missing != 1)} {places}: expected one every {usual:.4g} mm; "
            "fetch the series again"
        )
    step = float(distances[-1] - distances[0]) / (len(planes) - 1)
    away = np.abs(distances - distances[0] - step * np.arange(len(planes)))
    if away.max() > UNEVEN_PART * step:
        worst = int(gaps.argmax())
        raise UnevenSpacing(
            f"expected even distances between slices, found {gaps.min():.4g} to {gaps.max():.4g} mm, the widest "
            f"between {place(worst)} and {place(worst + 1)}: use a reconstruction with one spacing"
        )
    return step


def _check_straight(
    planes: list[Plane], row: NDArray[np.float64], column: NDArray[np.float64], distances: NDArray[np.float64]
) -> None:
    """Raise GantryTilt or MixedSeries if the slices do not lie straight above each other."""
    origins = np.array([plane.position_mm for plane in planes])
    drift = (origins - origins[0]) @ np.stack([row, column], axis=1)
    far = np.linalg.norm(drift, axis=1)
    if far.max() <= DRIFT_MM:
        return
    slope = drift[-1] / (distances[-1] - distances[0])
    if np.abs(drift - np.outer(distances - distances[0], slope)).max() <= DRIFT_MM:
        raise GantryTilt(
            f"slices are sheared by {np.degrees(np.arctan(np.linalg.norm(slope))):.1f} degrees against their normal "
            f"({planes[0].name} to {planes[-1].name}), as by a tilted gantry: use an untilted reconstruction"
        )
    before, after = max(enumerate(pairwise(far)), key=lambda pair: abs(pair[1][1] - pair[1][0]))[0] + np.array([0, 1])
    raise MixedSeries(
        f"slices are shifted sideways by {far.max():.4g} mm, first between {planes[before].name} and "
        f"{planes[after].name}: expected one straight stack"
    )

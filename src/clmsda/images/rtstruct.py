"""Regions of interest from an RT Structure Set (PS3.3 A.19, C.8.8.5, C.8.8.6): contours in, voxels out."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from clmsda.geometry import Grid, Volume
from clmsda.images.dicom_files import DicomFile
from clmsda.images.errors import BadContour, RoiNotFound

OFF_PLANE = 0.5
"""How far the points of one contour may lie from its slice, in slices."""
OFF_EDGE = 0.5
"""How far contours may reach beyond the image's outermost voxels, in voxels."""
CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
"""Contours that enclose an area; in either kind, one within another is a hole (PS3.3 C.8.8.6.3)."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Contour:
    """A closed polygon: (N, 3) points in LPS mm, and its number within the ROI."""

    points_mm: NDArray[np.float64]
    number: int


def roi_names(file: DicomFile) -> list[str]:
    """The names of all ROIs, in the file's order."""
    return [str(roi.get("ROIName") or "").strip() for roi in file.header.get("StructureSetROISequence") or []]


def choose_name(names: list[str], roi: str | None, where: str) -> int:
    """The position of `roi` in `names`: the exact name, else the only one that differs in case.

    Without `roi` there must be only one name. Raises RoiNotFound, listing the names.
    """
    listed = ", ".join(map(repr, names)) or "none"
    if roi is None:
        if len(names) == 1:
            return 0
        raise RoiNotFound(f"{where} holds {len(names)} regions: choose one by name: {listed}")
    for found in (
        [n for n, name in enumerate(names) if name == roi],
        [n for n, name in enumerate(names) if name.casefold() == roi.strip().casefold()],
    ):
        if len(found) == 1:
            return found[0]
        if found:
            raise RoiNotFound(f"{where} holds {len(found)} regions named {roi!r}; names must differ: {listed}")
    raise RoiNotFound(f"{where} holds no region {roi!r}; found {listed}")


def read_roi(file: DicomFile, grid: Grid, roi: str | None) -> Volume:
    """Fill the contours of one ROI on `grid`: uint8, 1 inside.

    A voxel is inside if its center is within an odd number of the contours of its slice, so that
    inner contours are holes. Contours may lie on slices in any direction of the grid. One that lies
    between two slices is drawn on the nearer (on the upper one in the middle). A contour of fewer
    than three points encloses nothing; one that repeats another is drawn once.

    Raises RoiNotFound; BadContour where contours leave the image, lie across slices, on two planes
    that share a slice, or skip slices throughout (they were drawn on another image) and the file does
    not say that it was drawn on as many images as the grid has slices.
    """
    names = roi_names(file)
    index = choose_name(names, roi, file.name)
    contours = _contours(file, file.header.StructureSetROISequence[index].ROINumber, names[index])
    where = f"ROI {names[index]!r} in {file.name}"
    polygons = [grid.to_index(contour.points_mm) for contour in contours]
    axis = int(np.argmin(np.max([np.ptp(polygon, axis=0) for polygon in polygons], axis=0)))
    voxels = np.zeros(grid.shape, np.uint8)
    planes: dict[int, float] = {}
    for contour, polygon in zip(contours, polygons, strict=True):
        number = _slice_of(polygon[:, axis], grid.shape[axis], f"contour {contour.number} of {where}")
        height = float(np.mean(polygon[:, axis]))
        if abs(planes.setdefault(number, height) - height) > 0.05:
            raise BadContour(
                f"{where} has contours on different planes within slice {number} of the image "
                f"({grid.spacing_mm[axis]:.4g} mm): it was drawn on another image; give that one"
            )
        outline = np.delete(polygon, axis, axis=1)
        _check_within(outline, np.delete(grid.shape, axis), f"contour {contour.number} of {where}")
        _fill(np.moveaxis(voxels, axis, 0)[number], outline)
    if not _drawn_on(file, grid.shape[axis]):
        _check_gaps(sorted(planes), where)
    return Volume(voxels, grid, f"{file.name} {names[index]}")


def referenced_series(header: Dataset) -> list[Dataset]:
    """The series that a structure set says it was drawn on (RT Referenced Series, PS3.3 C.8.8.5)."""
    series: list[Dataset] = []
    for frame in header.get("ReferencedFrameOfReferenceSequence") or []:
        for study in frame.get("RTReferencedStudySequence") or []:
            series += study.get("RTReferencedSeriesSequence") or []
    return series


def _drawn_on(file: DicomFile, count: int) -> bool:
    """Whether the file says that it was drawn on one series of this many images."""
    series = referenced_series(file.header)
    return len(series) == 1 and len(series[0].get("ContourImageSequence") or []) == count


def _contours(file: DicomFile, number: int, name: str) -> list[Contour]:
    """The contours of an ROI that enclose an area, each once. Raises BadContour if there is none."""
    items: list[Dataset] = []
    for roi in file.header.get("ROIContourSequence") or []:
        if roi.get("ReferencedROINumber") == number:
            items.extend(roi.get("ContourSequence") or [])
    contours: list[Contour] = []
    seen: set[bytes] = set()
    for position, item in enumerate(items, start=1):
        kind = item.get("ContourGeometricType") or CLOSED[0]
        points = np.array(item.get("ContourData") or [], dtype=np.float64)
        if points.size % 3 or not np.isfinite(points).all():
            raise BadContour(f"contour {position} of ROI {name!r} in {file.name} has {points.size} coordinates")
        if points.size < 9 or kind not in CLOSED:
            log.warning("contour %d of ROI %r (%s, %d points) encloses no area", position, name, kind, points.size // 3)
        elif points.tobytes() in seen:
            log.warning("contour %d of ROI %r repeats another: drawn once", position, name)
        else:
            seen.add(points.tobytes())
            contours.append(Contour(points.reshape(-1, 3), position))
    if not contours:
        raise BadContour(f"ROI {name!r} in {file.name} has no closed contour: expected at least one")
    return contours


def _slice_of(heights: NDArray[np.float64], count: int, what: str) -> int:
    """The slice that a contour is drawn on; `heights` are its points' indices across the slices."""
    number = int(np.floor(heights.mean() + 0.5))
    if np.abs(heights - heights.mean()).max() > OFF_PLANE:
        raise BadContour(f"{what} runs across {np.ptp(heights):.1f} slices: expected contours within slices")
    if not 0 <= number < count:
        raise BadContour(
            f"{what} lies on slice {number}, outside the image's slices 0 to {count - 1}: "
            "give the whole series that it was drawn on"
        )
    return number


def _check_within(outline: NDArray[np.float64], shape: NDArray[np.int64], what: str) -> None:
    """Raise BadContour for a contour (N, 2) that leaves its slice: what lies outside would be lost."""
    beyond = max(float((-0.5 - outline).max()), float((outline - (shape - 0.5)).max()))
    if beyond > OFF_EDGE:
        raise BadContour(
            f"{what} reaches {beyond:.1f} voxels beyond the image: give the whole image that it was drawn on"
        )


def _check_gaps(slices: list[int], where: str) -> None:
    """Raise BadContour for contours that never lie on neighboring slices: the volume between them would be lost."""
    gaps = np.diff(slices)
    if gaps.size and gaps.min() > 1:
        raise BadContour(
            f"{where} has contours on every {_ordinal(int(gaps.min()))} slice of the image at most: it was drawn on "
            "a thicker reconstruction, or not interpolated; give the series that it was drawn on"
        )


def _ordinal(number: int) -> str:
    return {2: "2nd", 3: "3rd"}.get(number, f"{number}th")


def _fill(plane: NDArray[np.uint8], polygon: NDArray[np.float64]) -> None:
    """Flip the pixels of `plane` whose centers lie in `polygon`, (N, 2) in indices (even-odd rule).

    Row by row: where the border crosses a row, every pixel from there on changes sides. A center on
    the border belongs to the polygon on its left or upper border only, so that neighbors share none.
    """
    following = np.roll(polygon, -1, axis=0)
    lower, upper = np.sort(np.ceil([polygon[:, 0], following[:, 0]]).astype(np.int64), axis=0)
    count = upper - lower  # an edge crosses the rows from lower to upper - 1
    edge = np.repeat(np.arange(len(polygon)), count)
    row = lower[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    slope = (following - polygon)[edge]
    column = np.ceil(polygon[edge, 1] + (row - polygon[edge, 0]) * slope[:, 1] / slope[:, 0]).astype(np.int64)
    column = np.clip(column, 0, plane.shape[1])
    inside = (row >= 0) & (row < plane.shape[0])
    row, column = row[inside], column[inside]
    if row.size == 0:
        return
    rows, columns = slice(row.min(), row.max() + 1), slice(column.min(), column.max() + 1)
    crossings = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.int64)
    np.add.at(crossings, (row - rows.start, column - columns.start), 1)
    part = plane[rows, columns]
    part ^= (np.cumsum(crossings, axis=1)[:, : part.shape[1]] % 2).astype(np.uint8)

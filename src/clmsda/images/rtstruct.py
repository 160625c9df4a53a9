"""Regions of interest from an RT Structure Set (PS3.3 A.19, C.8.8.5, C.8.8.6): contours in, voxels out."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from clmsda.geometry import Grid, Volume
from clmsda.images.dicom_files import DicomFile
from clmsda.images.errors import BadContour
from clmsda.images.gaps import say_gaps
from clmsda.images.polygons import TOLERANCE, same, solids_and_holes, without_repeats
from clmsda.images.region_names import Region, choose, regions_of

OFF_PLANE = 0.5
"""How far the points of one contour may lie from its slice, in slices."""
OFF_EDGE = 0.5
"""How far contours may reach beyond the image's outermost voxels, in voxels."""
SAME_PLANE = 0.05
"""How far the contours of one slice may lie apart, in slices."""
CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
"""Contours that enclose an area; the latter are combined by exclusive or (PS3.3 C.8.8.6.3)."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Contour:
    """A closed polygon: (N, 3) points in LPS mm, its number within the ROI, and whether it is CLOSEDPLANAR_XOR."""

    points_mm: NDArray[np.float64]
    number: int
    is_exclusive: bool


def read_roi(file: DicomFile, grid: Grid, roi: str | None) -> Volume:
    """Fill the contours of one ROI on `grid`: uint8, 1 inside.

    A voxel is inside if its center is. What the contours of one slice mean together is decided by how they lie
    (`polygons`): copies count once, inner contours are holes, strokes that overlap in part are a union. Only
    CLOSEDPLANAR_XOR contours are always combined by exclusive or. Contours may lie on slices in any direction of the
    grid. One that lies between two slices is drawn on the nearer (on the upper one in the middle). A contour of fewer
    than three points encloses nothing. Slices without a contour between others are said.

    Raises RoiNotFound; BadContour where contours leave the image, lie across slices, on two planes
    that share a slice, or skip slices throughout (they were drawn on another image) and the file does
    not say that it was drawn on as many images as the grid has slices.
    """
    region = choose(regions_of(file), roi, file.name)
    where = f"ROI {region.name!r} in {file.name}"
    contours = _contours(file, region)
    points = [grid.to_index(contour.points_mm) for contour in contours]
    axis = int(np.argmin(np.max([np.ptp(one, axis=0) for one in points], axis=0)))
    slices: dict[int, list[_Outline]] = {}
    for contour, index in zip(contours, points, strict=True):
        what = f"contour {contour.number} of {where}"
        number = _slice_of(index[:, axis], grid.shape[axis], what)
        outline = without_repeats(np.delete(index, axis, axis=1))
        _check_within(outline, np.delete(grid.shape, axis), what)
        slices.setdefault(number, []).append(_Outline(outline, float(index[:, axis].mean()), contour))
    voxels = np.zeros(grid.shape, np.uint8)
    for number, outlines in slices.items():
        once = _once(outlines, region.name)
        if np.ptp([one.height for one in once]) > SAME_PLANE:
            raise BadContour(
                f"{where} has contours on different planes within slice {number} of the image "
                f"({grid.spacing_mm[axis]:.4g} mm): it was drawn on another image; give that one"
            )
        _draw(np.moveaxis(voxels, axis, 0)[number], once)
    if not _drawn_on(file, grid.shape[axis]):
        _check_gaps(sorted(slices), where)
    say_gaps(sorted(slices), where, "contour")
    return Volume(voxels, grid, f"{file.name} {region.name}")


@dataclass(frozen=True)
class _Outline:
    """A contour on its slice: (N, 2) in voxels, and its height in slices."""

    polygon: NDArray[np.float64]
    height: float
    contour: Contour


def _once(outlines: list[_Outline], name: str) -> list[_Outline]:
    """The contours of one slice without those that repeat an earlier one."""
    once: list[_Outline] = []
    for one in outlines:
        if any(abs(one.height - other.height) <= TOLERANCE and same(one.polygon, other.polygon) for other in once):
            log.warning("contour %d of ROI %r repeats another: drawn once", one.contour.number, name)
        else:
            once.append(one)
    return once


def _draw(plane: NDArray[np.uint8], outlines: list[_Outline]) -> None:
    """Fill the contours of one slice, each given once."""
    polygons = [one.polygon for one in outlines]
    if len(polygons) == 1 or all(one.contour.is_exclusive for one in outlines):
        for polygon in polygons:
            _fill(plane, polygon)
        return
    filled = np.zeros((len(polygons), *plane.shape), bool)
    for mask, polygon in zip(filled, polygons, strict=True):
        _fill(mask.view(np.uint8), polygon)
    for solid, holes in solids_and_holes(polygons, filled):
        plane |= filled[solid] & ~filled[holes].any(axis=0)


def referenced_series(frames: Iterable[Dataset]) -> list[Dataset]:
    """The series that contours were drawn on. frames: of the Referenced Frame of Reference Sequence (PS3.3 C.8.8.5)."""
    studies = [study for frame in frames for study in frame.get("RTReferencedStudySequence") or []]
    return [series for study in studies for series in study.get("RTReferencedSeriesSequence") or []]


def _drawn_on(file: DicomFile, count: int) -> bool:
    """Whether the file says that it was drawn on one series of this many images."""
    series = referenced_series(file.header.get("ReferencedFrameOfReferenceSequence") or [])
    return len(series) == 1 and len(series[0].get("ContourImageSequence") or []) == count


def _contours(file: DicomFile, region: Region) -> list[Contour]:
    """The contours of an ROI that enclose an area. Raises BadContour if there is none."""
    contours: list[Contour] = []
    name = f"ROI {region.name!r}"
    items = (item for drawing in region.drawings for item in drawing.get("ContourSequence") or [])
    for position, item in enumerate(items, start=1):
        kind = item.get("ContourGeometricType") or CLOSED[0]
        try:
            points = np.atleast_1d(np.array(item.get("ContourData") or [], dtype=np.float64))
        except (TypeError, ValueError) as error:  # what is no number
            raise BadContour(f"contour {position} of {name} in {file.name} is damaged: {error}") from error
        if points.size % 3 or not np.isfinite(points).all():
            raise BadContour(f"contour {position} of {name} in {file.name} has {points.size} coordinates")
        if points.size < 9 or kind not in CLOSED:
            log.warning("contour %d of %s (%s, %d points) encloses no area", position, name, kind, points.size // 3)
        else:
            contours.append(Contour(points.reshape(-1, 3), position, kind == CLOSED[1]))
    if not contours:
        raise BadContour(f"{name} in {file.name} has no closed contour: expected at least one")
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

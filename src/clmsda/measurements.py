"""What a radiologist reads off a mask: volume, long and short axis, size group.

Diameters are read on the contour of one slice, drawn halfway between the centers of mask voxels
and of their neighbors (marching squares at 0.5: the contour that viewers and RTSTRUCT files show).
A single voxel is therefore as wide as its spacing, and a row of n voxels n spacings long. As the
longest of all diameters, a round tumor's long axis reads about 0.8 of a pixel too long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull

from clmsda.contours import border_steps
from clmsda.errors import InputError
from clmsda.geometry import Grid, GridError, Volume, box_around

PointMm = tuple[float, float, float]
AxisMm = tuple[PointMm, PointMm]

SIZE_LIMITS_MM = (30.0, 50.0)
"""The largest sizes of groups 1 and 2."""


class EmptyMask(InputError):
    """A mask without a voxel, or without one where it was looked for."""


@dataclass(frozen=True)
class Measurement:
    """One lesion, measured. Positions are LPS mm; slices count from 0 along the mask's first axis.

    long_axis_mm: longest diameter in the slice of largest area (S in section 2.1 of the paper).
    short_axis_mm: longest line inside the contour of that slice at a right angle to the long axis.
    center_mm: centroid in that slice, or the nearest mask voxel where the centroid lies outside.
    slices: first and last slice with mask. mean_hu: None where no image was given.
    """

    volume_ml: float
    center_mm: PointMm
    long_axis_mm: float
    short_axis_mm: float
    long_axis_lps: AxisMm
    short_axis_lps: AxisMm
    slices: tuple[int, int]
    measured_slice: int
    mean_hu: float | None = None

    @property
    def size_mm(self) -> float:
        """The tumor's size as the paper defines it: its long axis."""
        return self.long_axis_mm

    @property
    def size_group(self) -> int:
        """See `size_group`."""
        return size_group(self.long_axis_mm)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and lists: volume to 0.001 ml, lengths to 0.01 mm, HU to 0.1."""
        return {
            "volume_ml": round(self.volume_ml, 3),
            "long_axis_mm": round(self.long_axis_mm, 2),
            "short_axis_mm": round(self.short_axis_mm, 2),
            "long_axis_lps": [[round(x, 2) for x in end] for end in self.long_axis_lps],
            "short_axis_lps": [[round(x, 2) for x in end] for end in self.short_axis_lps],
            "center_lps": [round(x, 2) for x in self.center_mm],
            "slices": list(self.slices),
            "measured_slice": self.measured_slice,
            "size_group": self.size_group,
            "mean_hu": None if self.mean_hu is None else round(self.mean_hu, 1),
        }


def size_group(size_mm: float) -> int:
    """1 up to 30 mm (T1), 2 up to 50 mm (T2), 3 beyond (T3 and T4); section 2.1 of the paper."""
    return 1 + sum(size_mm > limit_mm for limit_mm in SIZE_LIMITS_MM)


def measure(mask: Volume, *, image: Volume | None = None) -> Measurement:
    """Measure the one lesion of a mask (every voxel that is not 0 belongs to it).

    mask: (slices, rows, columns). image: HU on the same grid, for `mean_hu`.
    Where several slices share the largest area, the one nearest to the lesion's middle is measured.
    Raises EmptyMask, and GridError where the image lies on another grid.
    """
    lower, upper = bounding_box(mask.voxels)
    part = mask.crop(lower, upper)
    inside = part.voxels != 0
    candidates = [(_axes(inside[k], part.grid.affine[:3, 1:3]), k) for k in _largest_slices(inside)]
    (long, short), k = max(candidates, key=lambda one: [round(axis[0], 6) for axis in one[0]])
    first = int(lower[0])
    return Measurement(
        volume_ml=int(inside.sum()) * mask.grid.voxel_ml,
        center_mm=_point(part.grid.to_lps((k, *_center(inside[k], part.grid.spacing_mm[1:])))),
        long_axis_mm=long[0],
        short_axis_mm=short[0],
        long_axis_lps=_to_lps(part, k, long[1]),
        short_axis_lps=_to_lps(part, k, short[1]),
        slices=(first, int(upper[0]) - 1),
        measured_slice=first + k,
        mean_hu=None if image is None else _mean_hu(image, mask, inside, lower, upper),
    )


def component_at(mask: Volume, lps_mm: ArrayLike, *, within_mm: float = 5.0) -> Volume:
    """The connected part of a mask at a point, or the nearest one within `within_mm` of it.

    Voxels are connected where they share a face, an edge or a corner (26 neighbors), so that no voxel
    of a small lesion is lost. The result is bool on the mask's grid.
    Raises EmptyMask where nothing lies that near.
    """
    lower, upper = bounding_box(mask.voxels)
    part = mask.crop(lower, upper)
    point_mm = np.asarray(lps_mm, np.float64)
    reach_mm = within_mm + float(np.linalg.norm(mask.grid.spacing_mm)) / 2  # a voxel begins before its center
    around = Grid.axial((2, 2, 2), [reach_mm] * 3, center_mm=point_mm)  # a cube of twice the reach
    low, high = box_around(part.grid, around)
    near = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    index = np.argwhere(part.voxels[near]) + low
    distance_mm = np.linalg.norm(part.grid.to_lps(index) - point_mm, axis=1)
    if not len(index) or distance_mm.min() > reach_mm:
        raise EmptyMask(f"expected a mask within {within_mm:g} mm of the point, found none: click on the lesion")
    labels, _ = ndimage.label(part.voxels != 0, structure=np.ones((3, 3, 3)))
    nearest = int(distance_mm.argmin())
    voxels = np.zeros(mask.grid.shape, bool)
    where = tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))
    voxels[where] = labels == labels[tuple(index[nearest])]
    return Volume(voxels, mask.grid, mask.source)


def bounding_box(voxels: NDArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The smallest index box (lower, upper) around all voxels that are not 0. Raises EmptyMask."""
    lower, upper = np.zeros(3, np.int64), np.array(voxels.shape, np.int64)
    for axis in range(3):
        part = voxels[tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))]
        occupied = np.flatnonzero(part.any(axis=tuple(other for other in range(3) if other != axis)))
        if occupied.size == 0:
            raise EmptyMask("expected a mask with at least one voxel, found an empty one: there is nothing to measure")
        lower[axis], upper[axis] = occupied[0], occupied[-1] + 1
    return lower, upper


# A length in mm and its two ends as (row, column) indices.
_Line = tuple[float, NDArray[np.float64]]


def _largest_slices(inside: NDArray[np.bool_]) -> list[int]:
    """The slice of largest area; two where a tie is symmetric about the lesion's middle."""
    areas = inside.sum(axis=(1, 2))
    tied = np.flatnonzero(areas == areas.max())
    off_middle = np.abs(tied - (len(areas) - 1) / 2)
    return [int(k) for k in tied[off_middle == off_middle.min()]]


def _axes(inside: NDArray[np.bool_], plane: NDArray[np.float64]) -> tuple[_Line, _Line]:
    """Long and short axis of a slice. plane: (3, 2), the steps of a row and of a column in LPS mm.

    Among equally long axes the one with the longest short axis counts: no flip changes the result.
    """
    segments = border_steps(inside) / 2.0  # pairs of (row, column)
    metric = np.linalg.qr(plane)[1]  # (row, column) to mm in the plane, whatever its tilt
    vertices = segments.reshape(-1, 2)
    points = vertices @ metric.T
    hull = ConvexHull(points).vertices
    distances = np.linalg.norm(points[hull, None] - points[None, hull], axis=-1)
    length = float(distances.max())
    ties = np.argwhere(np.triu(distances >= length * (1 - 1e-9)))
    found = []
    for a, b in ties:
        ends = vertices[hull[[a, b]]]
        found.append(((length, ends), _widest(segments, metric, ends)))
    return max(found, key=lambda axes: axes[1][0])


def _widest(segments: NDArray[np.float64], metric: NDArray[np.float64], axis: NDArray[np.float64]) -> _Line:
    """The longest line inside the contour at a right angle to an axis (two ends, (row, column)).

    A line's length changes linearly between the contour's vertices as it sweeps along the axis, so
    it is longest beside one of them: lines just before and just after every vertex find it exactly.
    """
    along = metric @ (axis[1] - axis[0])
    along /= np.linalg.norm(along)
    across = np.array([-along[1], along[0]])
    to_sweep = np.stack([along, across]) @ metric
    # No matrix product here: a vertex that two segments share must come out the same, bit for bit.
    u, v = (segments[..., 0] * a + segments[..., 1] * b for a, b in to_sweep)
    lines = np.unique(np.concatenate([u.ravel() - 1e-6, u.ravel() + 1e-6]))
    before, after = np.searchsorted(lines, u.min(axis=1)), np.searchsorted(lines, u.max(axis=1))
    crossings = after - before
    segment = np.repeat(np.arange(len(segments)), crossings)
    line = np.arange(len(segment)) - np.repeat(np.cumsum(crossings) - crossings, crossings) + before[segment]
    fraction = (lines[line] - u[segment, 0]) / (u[segment, 1] - u[segment, 0])
    height = v[segment, 0] + fraction * (v[segment, 1] - v[segment, 0])
    order = np.lexsort((height, line))
    enter, leave = order[0::2], order[1::2]  # a closed contour is crossed an even number of times
    lengths = height[leave] - height[enter]
    longest = np.flatnonzero(lengths >= lengths.max() - 1e-5)  # of equal ones, the nearest to the axis's middle
    middle = along @ metric @ axis.mean(axis=0)
    best = longest[np.abs(lines[line[enter[longest]]] - middle).argmin()]
    low, high = float(height[enter[best]]), float(height[leave[best]])
    ends = np.linalg.solve(to_sweep, np.array([[lines[line[enter[best]]]] * 2, [low, high]])).T
    return high - low, ends


def _center(inside: NDArray[np.bool_], spacing_mm: NDArray[np.float64]) -> tuple[float, float]:
    """(row, column) of the centroid, or of the mask voxel nearest to a centroid outside the mask."""
    index = np.argwhere(inside)
    center = index.mean(axis=0)
    if not inside[tuple(np.rint(center).astype(int))]:
        center = index[(((index - center) * spacing_mm) ** 2).sum(axis=1).round(9).argmin()]
    return float(center[0]), float(center[1])


def _mean_hu(image: Volume, mask: Volume, inside: NDArray, lower: NDArray, upper: NDArray) -> float:
    if not image.grid.same_as(mask.grid):
        raise GridError(
            f"expected image and mask on one grid, found shapes {image.grid.shape} and {mask.grid.shape} "
            "or other positions: resample one of them"
        )
    return float(image.crop(lower, upper).voxels[inside].mean(dtype=np.float64))


def _to_lps(volume: Volume, k: int, ends: NDArray[np.float64]) -> AxisMm:
    first, second = (_point(volume.grid.to_lps((k, row, column))) for row, column in ends)
    return first, second


def _point(lps_mm: NDArray[np.float64]) -> PointMm:
    x, y, z = (float(value) for value in lps_mm)
    return x, y, z

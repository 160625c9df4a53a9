"""How the contours of one region on one slice belong together: copies, holes, islands, overlapping strokes.

The standard leaves open what contours of one slice mean together (PS3.3 C.8.8.6.3 names keyholes and exclusive or).
Here geometry decides, and neither the order nor the direction of contours:

- a contour that repeats another counts once, whatever its starting point, direction, rounding or closing point;
- one that lies within another is a hole in it, one within a hole an island, and so on;
- one that lies neither within another nor around it adds to it: strokes that overlap in part are a union.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 0.2
"""Contours nearer to each other than this all along are the same (in voxels): rounding moves points by less."""
STEP = 0.5
"""At most so far apart, in voxels, are the points by which it is told whether one contour lies within another."""

_CHUNK = 1 << 20
"""Pairs of points and edges that are compared at once: some ten arrays of this length."""

Polygon = NDArray[np.float64]
"""(N, 2) points in voxels; the last is joined to the first."""


def without_repeats(polygon: Polygon) -> Polygon:
    """The polygon once where its points go around it twice or more, which would cancel by the even-odd rule."""
    count = len(polygon)
    if count > 3 and np.abs(polygon[-1] - polygon[0]).max() <= 1e-6:
        polygon, count = polygon[:-1], count - 1
    for rounds in range(2, count // 3 + 1):
        if count % rounds == 0 and np.abs(polygon - np.roll(polygon, count // rounds, axis=0)).max() <= TOLERANCE / 2:
            return without_repeats(polygon[: count // rounds])
    return polygon


def same(one: Polygon, other: Polygon) -> bool:
    """Whether two polygons are one but for starting point, direction, rounding and points on straight edges."""
    return within(one, other) and within(other, one)


def solids_and_holes(polygons: Sequence[Polygon], filled: NDArray[np.bool_]) -> list[tuple[int, list[int]]]:
    """For every polygon that adds to the region, its number and those of the holes in it. No polygon may be a copy.

    filled: (polygons, rows, columns), the voxels within each. What fills the hole of a keyhole shares none with it.
    """
    numbers = range(len(polygons))
    inside = np.array([[i != j and within(polygons[i], polygons[j]) for j in numbers] for i in numbers])
    for i, j in np.argwhere(inside):
        inside[i, j] = (filled[i] & filled[j]).any()
    around = [np.flatnonzero(row) for row in inside]
    hole = [_groups(containers, inside) % 2 == 1 for containers in around]
    return [(i, [j for j in numbers if hole[j] and inside[j, i]]) for i in numbers if not hole[i]]


def _groups(polygons: Iterable[int], inside: NDArray[np.bool_]) -> int:
    """How many polygons lie around each other; those that overlap in part are one."""
    groups: list[set[int]] = []
    for one in polygons:
        overlapping = [group for group in groups if any(not inside[one, n] and not inside[n, one] for n in group)]
        groups = [group for group in groups if group not in overlapping] + [{one}.union(*overlapping)]
    return len(groups)


def within(inner: Polygon, outer: Polygon) -> bool:
    """Whether the border of one polygon lies within another (even-odd rule), or no farther outside than `TOLERANCE`."""
    if (inner.min(axis=0) < outer.min(axis=0) - TOLERANCE).any():
        return False
    if (inner.max(axis=0) > outer.max(axis=0) + TOLERANCE).any():
        return False
    points = _along(inner)
    size = max(1, _CHUNK // len(outer))
    return all(_near_or_in(points[start : start + size], outer) for start in range(0, len(points), size))


def _near_or_in(points: NDArray[np.float64], polygon: Polygon) -> bool:
    start, edge = polygon, np.roll(polygon, -1, axis=0) - polygon
    away = points[:, None] - start
    above = away[..., 0] >= 0
    crosses = above != (away[..., 0] >= edge[:, 0])  # the edge passes the point's row
    with np.errstate(divide="ignore", invalid="ignore"):
        beyond = crosses & (away[..., 0] * edge[:, 1] / edge[:, 0] > away[..., 1])
    outside = beyond.sum(axis=1) % 2 == 0
    if not outside.any():
        return True
    away = away[outside]
    length = np.maximum((edge**2).sum(axis=1), 1e-12)
    part = np.clip((away * edge).sum(axis=-1) / length, 0, 1)
    distance = np.hypot(*np.moveaxis(away - part[..., None] * edge, -1, 0))
    return bool((distance.min(axis=1) <= TOLERANCE).all())


def _along(polygon: Polygon) -> NDArray[np.float64]:
    """Points along the border, at most `STEP` apart: its corners, and as many as needed between them."""
    edge = np.roll(polygon, -1, axis=0) - polygon
    counts = np.maximum(1, np.ceil(np.hypot(*edge.T) / STEP).astype(np.int64))
    which = np.repeat(np.arange(len(polygon)), counts)
    part = (np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)) / counts[which]
    return np.asarray(polygon[which] + part[:, None] * edge[which])

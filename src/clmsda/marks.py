"""`Marks`: what a person has said about one lesion, and how a network sees it: as channels on a patch's grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clmsda.geometry import Grid

PointMm = tuple[float, float, float]
Shape = Literal["gaussian", "distance"]

DEVIATION = 2.0
"""Of a Gaussian mark, in voxels of the patch."""
REACH = 10.0
"""A distance mark falls from 1 to 0 over so many voxels."""


@dataclass(frozen=True)
class Marks:
    """Positions in LPS mm that belong to one lesion.

    inside, outside: points in the tumor, and points that are not. ends: both ends of a RECIST line.
    box: lower and upper corner along x, y and z; it may be flat in z.
    """

    inside: tuple[PointMm, ...] = ()
    outside: tuple[PointMm, ...] = ()
    ends: tuple[PointMm, ...] = ()
    box: tuple[PointMm, PointMm] | None = None


def paint(marks: Marks, grid: Grid, shape: Shape = "gaussian", *, all_kinds: bool = True) -> NDArray[np.float32]:
    """Marks on a grid: (3, *grid.shape) float32 in 0..1, of points inside, points outside, and the extent.

    The extent is both ends of a line, or the surface of a box. all_kinds: False gives the first channel alone.
    """
    planes = [points(marks.inside, grid, shape)]
    if all_kinds:
        extent = points(marks.ends, grid, shape)
        if marks.box is not None:
            extent = np.maximum(extent, _fade(_to_surface(marks.box, grid), shape))
        planes += [points(marks.outside, grid, shape), extent]
    return np.stack(planes)


def points(positions_mm: tuple[PointMm, ...], grid: Grid, shape: Shape) -> NDArray[np.float32]:
    """A mark at each position, the highest of them in every voxel: grid.shape, float32."""
    painted = np.zeros(grid.shape, np.float32)
    for position in positions_mm:
        index = grid.to_index(position)
        squares = [(np.arange(n, dtype=np.float32) - c) ** 2 for n, c in zip(grid.shape, index, strict=True)]
        if shape == "gaussian":  # separable
            a, b, c = (np.exp(-square / (2 * DEVIATION**2)) for square in squares)
            mark = a[:, None, None] * b[None, :, None] * c[None, None, :]
        else:
            a, b, c = squares
            mark = _fade(np.sqrt(a[:, None, None] + b[None, :, None] + c[None, None, :]), shape)
        np.maximum(painted, mark, out=painted)
    return painted


def _fade(distance: NDArray, shape: Shape) -> NDArray[np.float32]:
    """How strong a mark is so many voxels away."""
    faded = np.exp(-(distance**2) / (2 * DEVIATION**2)) if shape == "gaussian" else 1 - distance / REACH
    return np.clip(faded, 0, 1).astype(np.float32)


def _to_surface(box: tuple[ArrayLike, ArrayLike], grid: Grid) -> NDArray[np.float32]:
    """Distance of every voxel's center to the surface of a box, in voxels."""
    lower, upper = (np.asarray(corner, dtype=np.float64) for corner in box)
    axes = [np.arange(n, dtype=np.float32) for n in grid.shape]
    outside, inside = np.zeros(grid.shape, np.float32), np.full(grid.shape, -np.inf, np.float32)
    for axis in range(3):
        step = grid.affine[axis, :3].astype(np.float32)
        x = grid.affine[axis, 3] - (lower[axis] + upper[axis]) / 2
        x = x + step[0] * axes[0][:, None, None] + step[1] * axes[1][None, :, None] + step[2] * axes[2]
        beyond = np.abs(x) - (upper[axis] - lower[axis]) / 2  # < 0 between both faces
        outside += np.maximum(beyond, 0) ** 2
        np.maximum(inside, beyond, out=inside)
    distance = np.where(inside > 0, np.sqrt(outside), -inside)
    return (distance / grid.spacing_mm[1]).astype(np.float32)

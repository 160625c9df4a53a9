"""Lesions that touch: one mask that holds the points of several is parted where it is thinnest between them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clmsda.geometry import Grid, Volume
from clmsda.measurements import bounding_box
from clmsda.prompts.kinds import PointMm

NECK = 0.85
"""Two points are of two lesions where the mask is thinner between them than this part of what it is at either. Of 41
validation tumors with two random points none was parted, at 0.9 one."""
SMOOTHED_MM = 1.0
"""Standard deviation by which depth is smoothed: a lesion has one deepest place, and not one in each bump."""
LEVELS = 12
"""Levels of depth, one after the other, on which what is not yet of a lesion goes to the nearest one."""


def part_at(mask: Volume, own_mm: PointMm, others_mm: Sequence[PointMm]) -> NDArray[np.bool_]:
    """The part of a mask in which a point lies, without those in which other lesions' points lie.

    mask: bool, of one piece. Without a neck between two points nothing is parted: they are of one lesion.
    """
    lower, upper = bounding_box(mask.voxels)
    where = tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))
    part = mask.crop(lower, upper)
    depth = _depth(part)
    own = _hilltop(depth, part, own_mm)
    tops = [top for one in others_mm if _apart(depth, own, top := _hilltop(depth, part, one))]
    if not tops:
        return mask.voxels
    left = np.zeros_like(mask.voxels)
    left[where] = _basin(depth, own, tops, part.grid)
    return left


def _depth(part: Volume) -> NDArray[np.float32]:
    """mm to the mask's border, smoothed; 0 outside."""
    grid = part.grid
    deep = ndimage.distance_transform_edt(np.pad(part.voxels, 1), sampling=grid.spacing_mm)[1:-1, 1:-1, 1:-1]
    smooth = ndimage.gaussian_filter(deep, SMOOTHED_MM / grid.spacing_mm, mode="constant")
    return np.where(part.voxels, np.maximum(smooth, 1e-3), 0).astype(np.float32)


def _hilltop(depth: NDArray[np.float32], part: Volume, point_mm: PointMm) -> tuple[int, ...]:
    """The deepest place that is reached from a point by going ever deeper."""
    here = _nearest(depth > 0, part.grid, point_mm)
    while True:
        near = tuple(slice(max(i - 1, 0), i + 2) for i in here)
        around = depth[near]
        step = np.unravel_index(int(around.argmax()), around.shape)
        after = tuple(int(a.start + i) for a, i in zip(near, step, strict=True))
        if depth[after] <= depth[here]:
            return here
        here = after


def _nearest(mask: NDArray[np.bool_], grid: Grid, point_mm: PointMm) -> tuple[int, ...]:
    """The voxel of a mask that is nearest to a point."""
    voxels = np.argwhere(mask)
    away = (voxels - grid.to_index(point_mm)) * grid.spacing_mm
    return tuple(int(i) for i in voxels[(away**2).sum(axis=1).argmin()])


def _apart(depth: NDArray[np.float32], one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether a neck lies between two deepest places."""
    least = float(min(depth[one], depth[other]))
    labels, _ = ndimage.label(depth > NECK * least, np.ones((3, 3, 3)))
    return bool(labels[one] != labels[other])


def _basin(
    depth: NDArray[np.float32], own: tuple[int, ...], others: Sequence[tuple[int, ...]], grid: Grid
) -> NDArray[np.bool_]:
    """What belongs to `own` and not to another of these places: a watershed, from the deepest level to the border."""
    labels = np.zeros(depth.shape, np.int16)
    for number, top in enumerate((own, *others), 1):
        labels[top] = number
    for level in np.linspace(float(depth.max()), 0, LEVELS, endpoint=False)[1:].tolist() + [0.0]:
        pieces, _ = ndimage.label(depth > level, np.ones((3, 3, 3)))
        new = np.isin(pieces, np.setdiff1d(pieces[labels > 0], 0)) & (labels == 0)
        _, nearest = ndimage.distance_transform_edt(labels == 0, sampling=grid.spacing_mm, return_indices=True)
        labels[new] = labels[tuple(nearest)][new]
    return labels == 1

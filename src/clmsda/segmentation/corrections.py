"""Corrections: a point inside or outside moves the border near it, where the CT looks as it does at the point.

What speaks for tumor (log odds) becomes what is asked for at each point, and is interpolated between them: a point that
lies deepest in an error is about as far from the mask's border as from the true one, so that distance says how far its
word reaches; and what is as dense as the point follows it further than what is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clmsda.geometry import Grid, Volume
from clmsda.measurements import bounding_box
from clmsda.prompts import Request
from clmsda.prompts.kinds import PointMm, text_of

REACH = 2.0
"""Standard deviation of a point's weight in space, over its distance to the mask's border."""
ALIKE_HU = 250.0
"""Standard deviation of its weight in density."""
SURE = 2.0
"""Log odds of a point where the mask says the contrary. With the two above: best of 40 settings, drawn for 19 lesions
of validation patients with three corrections each."""
HELD = 0.05
"""Log odds, at the least, of what the mask says."""
DENSITY_MM = 1.0
"""Standard deviation by which density is smoothed before it is compared."""
NEAR_MM = 5.0
"""A change belongs to a correction that lies in it, or this near."""


@dataclass(frozen=True, eq=False)
class _Said:
    """A point on a grid. sign: 1 inside, -1 outside. depth_mm: from the border. wrong: the mask says no."""

    index: tuple[int, int, int]
    sign: int
    depth_mm: float
    wrong: bool


def followed(
    mask: NDArray[np.bool_], evidence: NDArray[np.float32] | None, image: Volume, request: Request
) -> NDArray[np.bool_]:
    """The mask, changed near the corrections so that it follows them; what no correction touches stays.

    evidence: log odds of tumor as a model sees it; the mask's word counts where both contradict. None: how deep a voxel
    lies in the mask, or beyond it, takes its place. image: HU. All on one grid; points beyond it change nothing.
    """
    said = _said(mask, image.grid, request)
    wrong = [one for one in said if one.wrong]
    if not wrong:
        return mask
    if evidence is None:
        evidence = SURE * _depth(mask, image.grid) / float(np.mean([one.depth_mm for one in wrong]))
    field = np.where(mask, np.maximum(evidence, HELD), np.minimum(evidence, -HELD))
    density = ndimage.gaussian_filter(image.voxels.astype(np.float32), DENSITY_MM / image.grid.spacing_mm)
    asked = wrong
    while True:
        moved = field + _interpolated(asked, said, field, density, image.grid)
        broken = [one for one in said if one not in asked and one.sign * moved[one.index] <= 0]
        if not broken:
            return localized(mask, moved > 0, image.grid, request)
        asked = [*asked, *broken]


def ignored(mask: NDArray[np.bool_], grid: Grid, request: Request) -> list[str]:
    """A warning for each correction that the mask does not follow."""
    said = []
    for points, value, word in ((request.inside, True, "inside"), (request.outside, False, "outside")):
        for point in points:
            k, row, column = np.clip(np.rint(grid.to_index(point)).astype(int), 0, np.array(mask.shape) - 1)
            if bool(mask[k, row, column]) != value:
                said.append(f"the point {word} at {text_of(point)} LPS mm was not followed: give another one near it")
    return said


def surroundings(mask: NDArray[np.bool_], grid: Grid, request: Request) -> tuple[slice, slice, slice]:
    """The part of a CT that the corrections of a mask can change, which is not empty: about twice as large as both."""
    lower, upper = bounding_box(mask)
    corners = np.array([lower, upper - 1, *(grid.to_index(p) for p in (*request.inside, *request.outside))])
    margin = np.ceil((corners.max(axis=0) - corners.min(axis=0)) / 2) + 2
    low = np.maximum(corners.min(axis=0) - margin, 0).astype(int)
    high = np.minimum(corners.max(axis=0) + margin + 1, mask.shape).astype(int)
    k, row, column = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return k, row, column


def _said(mask: NDArray[np.bool_], grid: Grid, request: Request) -> list[_Said]:
    depth, found = _depth(mask, grid), []
    for points, sign in ((request.marks.inside, 1), (request.outside, -1)):
        for point in points:
            if grid.contains(point):
                k, row, column = (int(i) for i in np.rint(grid.to_index(point)))
                here = float(depth[k, row, column])
                found.append(_Said((k, row, column), sign, max(abs(here), 1.0), sign * here < 0))
    return found


def _depth(mask: NDArray[np.bool_], grid: Grid) -> NDArray[np.float32]:
    """mm from the other side of the mask's border, negative outside."""
    if mask.all() or not mask.any():
        return np.where(mask, 1.0, -1.0).astype(np.float32)
    inner = ndimage.distance_transform_edt(mask, sampling=grid.spacing_mm)
    outer = ndimage.distance_transform_edt(~mask, sampling=grid.spacing_mm)
    return (inner - outer).astype(np.float32)


def _interpolated(
    asked: list[_Said], said: list[_Said], field: NDArray, density: NDArray[np.float32], grid: Grid
) -> NDArray[np.float32]:
    """What to add to the field, so that it is what the points ask for at each of them."""
    weights = [_weight(one, _reach(one, said, grid), density, grid) for one in asked]
    missing = [
        one.sign * max(SURE if one.wrong else HELD, one.sign * field[one.index]) - field[one.index] for one in asked
    ]
    between = np.array([[weight[one.index] for weight in weights] for one in asked])
    shares = np.linalg.solve(between + 0.01 * np.eye(len(asked)), missing)
    return np.einsum("i,i...->...", shares, np.stack(weights))


def _reach(one: _Said, said: list[_Said], grid: Grid) -> float:
    """mm; no point outweighs one that says the contrary."""
    contrary = [
        float(np.linalg.norm(np.subtract(one.index, other.index) * grid.spacing_mm))
        for other in said
        if other.sign != one.sign
    ]
    return max(min([REACH * one.depth_mm, *(0.5 * distance for distance in contrary)]), 0.5)


def _weight(one: _Said, reach_mm: float, density: NDArray[np.float32], grid: Grid) -> NDArray[np.float32]:
    squares = [
        ((np.arange(n) - i) * step) ** 2 for n, i, step in zip(grid.shape, one.index, grid.spacing_mm, strict=True)
    ]
    k, row, column = (axis.astype(np.float32) for axis in squares)
    apart = (k[:, None, None] + row[:, None] + column) / reach_mm**2 + ((density - density[one.index]) / ALIKE_HU) ** 2
    return np.exp(-apart / 2)


def localized(before: NDArray[np.bool_], after: NDArray[np.bool_], grid: Grid, request: Request) -> NDArray[np.bool_]:
    """The mask before, changed only where a correction asks for it.

    What is new counts where a point inside lies in it or near it, what is gone where a point outside does.
    """
    changed = before.copy()
    for points, difference, value in (
        (request.inside, after & ~before, True),
        (request.outside, before & ~after, False),
    ):
        labels, _ = ndimage.label(difference, structure=np.ones((3, 3, 3)))
        for point in points:
            for label in _near(labels, grid, point):
                changed[labels == label] = value
    return changed


def _near(labels: NDArray, grid: Grid, point: PointMm) -> set[int]:
    """The labels within `NEAR_MM` of a point."""
    index = np.rint(grid.to_index(point)).astype(int)
    reach = np.ceil(NEAR_MM / grid.spacing_mm).astype(int)
    lower, upper = np.maximum(index - reach, 0), np.minimum(index + reach + 1, labels.shape)
    if (lower >= upper).any():
        return set()
    part = labels[tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))]
    offsets = (np.moveaxis(np.indices(part.shape), 0, -1) + lower - grid.to_index(point)) * grid.spacing_mm
    return set(part[np.linalg.norm(offsets, axis=-1) <= NEAR_MM].tolist()) - {0}

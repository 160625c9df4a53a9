"""Corrections: a point inside or outside moves the border near it, where the CT looks as it does at the point.

How deep a voxel lies in the mask, or beyond it, becomes what is asked for at each point, and is interpolated between
them: a point that lies deepest in an error is about as far from the mask's border as from the true one, so that this
says how far its word reaches; and what is as dense as the point follows it further than what is not.

No network is asked. One that sees the corrections (the second model's fine look) was worse by 0.03 after three of them,
and took eight times as long; its first look's probabilities in the place of depth were as good (+0.004). Measured on 43
lesions of validation patients. That no rim is left gained 0.004 after three corrections on 89 lesions (0.820).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from clmsda.geometry import Grid, Volume
from clmsda.measurements import bounding_box
from clmsda.prompts import Point, Request
from clmsda.prompts.kinds import text_of
from clmsda.prompts.request import FAR, FAR_MM, voxel_of

REACH = 2.0
"""Standard deviation of a point's weight in space, over its distance to the mask's border."""
ALIKE_HU = 250.0
"""Standard deviation of its weight in density. Halves and doubles of both were no better on the same lesions."""
SHALLOWEST_MM = 0.5
DEEPEST = 0.3
"""A point's distance to the border counts as at least so many mm, at most this part of the mask's longest side: where
slices are thick, the next one is far from the border of a small nodule."""
HELD = 0.025
"""What the mask says counts at least so much, where a point that says the contrary counts 1."""
COARSE = 1.5
"""Along axes whose voxels are this many times longer than the shortest, what is one voxel thin is no rim."""
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


def followed(mask: NDArray[np.bool_], image: Volume, request: Request) -> NDArray[np.bool_]:
    """The mask, changed near the corrections so that it follows them; what no correction touches stays.

    image: HU, on the mask's grid. Points beyond it change nothing.
    """
    depth = _depth(mask, image.grid)
    said = _said(mask, depth, image.grid, request)
    wrong = [one for one in said if one.wrong]
    if not wrong:
        return mask
    field = depth / float(np.mean([one.depth_mm for one in wrong]))
    field = np.where(mask, np.maximum(field, HELD), np.minimum(field, -HELD))
    density = ndimage.gaussian_filter(image.voxels.astype(np.float32), DENSITY_MM / image.grid.spacing_mm)
    asked = wrong
    while True:
        moved = field + _interpolated(asked, said, field, density, image.grid)
        broken = [one for one in said if one not in asked and one.sign * moved[one.index] <= 0]
        if not broken:
            after = localized(mask, moved > 0, image.grid, request)
            after = _without_rim(mask, after, said, image.grid)
            return _without_cut_off(mask, after, said, image.grid)
        asked = [*asked, *broken]


def ignored(mask: NDArray[np.bool_], grid: Grid, request: Request) -> list[str]:
    """A warning for each point that the mask does not follow."""
    said = []
    inside = request.told_inside if isinstance(request.prompt, Point) else request.inside
    for points, value, word in ((inside, True, "inside"), (request.outside, False, "outside")):
        for point in points:
            k, row, column = np.clip(voxel_of(grid, point), 0, np.array(mask.shape) - 1)
            if bool(mask[k, row, column]) != value:
                said.append(f"the point {word} at {text_of(point)} LPS mm was not followed: give another one near it")
    return said


def apart(before: NDArray[np.bool_], after: NDArray[np.bool_], grid: Grid, request: Request) -> list[str]:
    """A warning for each point inside whose part of the mask has nothing of what the mask was before."""
    parts, _ = ndimage.label(after, structure=np.ones((3, 3, 3)))
    lesion = set(np.unique(parts[before]).tolist())
    said = []
    for point in request.inside:
        k, row, column = np.clip(voxel_of(grid, point), 0, np.array(after.shape) - 1)
        part = int(parts[k, row, column])
        if part and part not in lesion:
            said.append(f"the point inside at {text_of(point)} LPS mm made a part of its own: is it another lesion?")
    return said


def surroundings(mask: NDArray[np.bool_], grid: Grid) -> tuple[slice, slice, slice]:
    """The part of a CT that corrections of a mask, which is not empty, can change: as far beyond it as it is long."""
    lower, upper = bounding_box(mask)
    reach_mm = max(FAR * float(((upper - lower) * grid.spacing_mm).max()), FAR_MM)
    margin = np.ceil(reach_mm / grid.spacing_mm).astype(int)
    low, high = np.maximum(lower - margin, 0), np.minimum(upper + margin, mask.shape)
    k, row, column = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return k, row, column


def _said(mask: NDArray[np.bool_], depth: NDArray[np.float32], grid: Grid, request: Request) -> list[_Said]:
    found = []
    lower, upper = bounding_box(mask)
    deepest = DEEPEST * float(((upper - lower) * grid.spacing_mm).max())
    for points, sign in ((request.told_inside, 1), (request.outside, -1)):
        for point in points:
            if grid.contains(point):
                k, row, column = np.clip(voxel_of(grid, point), 0, np.array(mask.shape) - 1).tolist()
                here = float(depth[k, row, column])
                depth_mm = min(max(_to_border(mask, (k, row, column), abs(here), grid), SHALLOWEST_MM), deepest)
                found.append(_Said((k, row, column), sign, depth_mm, sign * here < 0))
    if found and not request.told_inside:
        found.append(_implied(depth, found, grid))
    return found


def _implied(depth: NDArray[np.float32], said: list[_Said], grid: Grid) -> _Said:
    """Where the lesion is of which it is only said what does not belong to it: deep in the mask, and far from that."""
    worth = depth.copy()
    for one in said:
        along = _squares(one.index, grid)
        np.minimum(worth, 0.5 * np.sqrt(along[0][:, None, None] + along[1][:, None] + along[2]), out=worth)
    k, row, column = (int(i) for i in np.unravel_index(int(worth.argmax()), worth.shape))
    return _Said((k, row, column), 1, float(depth[k, row, column]), False)


def _squares(index: tuple[int, int, int], grid: Grid) -> list[NDArray[np.float32]]:
    """Squared distances from a voxel along each axis, mm2."""
    return [
        (((np.arange(n) - i) * step) ** 2).astype(np.float32)
        for n, i, step in zip(grid.shape, index, grid.spacing_mm, strict=True)
    ]


def _to_border(mask: NDArray[np.bool_], index: tuple[int, int, int], distance_mm: float, grid: Grid) -> float:
    """mm from a voxel to the mask's border, of which the nearest voxel beyond is so far.

    The border is about half a step nearer than that voxel: no matter on fine voxels, on which `REACH` was measured,
    but a point in the next of thick slices may be hardly outside of a nodule that is right.
    """
    reach = np.ceil(distance_mm / grid.spacing_mm).astype(int)
    lower, upper = np.maximum(np.array(index) - reach, 0), np.array(index) + reach + 1
    part = mask[tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))]
    steps = np.argwhere(part != mask[index]) + lower - index
    if not len(steps):
        return distance_mm
    nearest = steps[((steps * grid.spacing_mm) ** 2).sum(axis=1).argmin()]
    step = distance_mm / float(np.abs(nearest).max())
    return distance_mm - 0.5 * max(step - float(grid.spacing_mm.min()), 0.0)


def _depth(mask: NDArray[np.bool_], grid: Grid) -> NDArray[np.float32]:
    """mm from the other side of the mask's border, negative outside. The mask is not empty."""
    if mask.all():
        return np.ones(mask.shape, np.float32)
    inner = ndimage.distance_transform_edt(mask, sampling=grid.spacing_mm)
    outer = ndimage.distance_transform_edt(~mask, sampling=grid.spacing_mm)
    return (inner - outer).astype(np.float32)


def _interpolated(
    asked: list[_Said], said: list[_Said], field: NDArray, density: NDArray[np.float32], grid: Grid
) -> NDArray[np.float32]:
    """What to add to the field, so that it is what the points ask for at each of them."""
    weights = [_weight(one, _reach(one, said, grid), density, grid) for one in asked]
    missing = [
        one.sign * max(1.0 if one.wrong else HELD, one.sign * field[one.index]) - field[one.index] for one in asked
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
    k, row, column = _squares(one.index, grid)
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


def _without_rim(
    before: NDArray[np.bool_], after: NDArray[np.bool_], said: list[_Said], grid: Grid
) -> NDArray[np.bool_]:
    """The mask after, without what is one voxel thin beside what has gone.

    The rim of what a point outside takes away is half as dense as the rest, and would stay as a shell.
    """
    gone = before & ~after
    if not gone.any():
        return after
    coarse = grid.spacing_mm >= COARSE * grid.spacing_mm.min()
    steps = np.abs(np.indices((3, 3, 3)) - 1)
    cross = (steps.sum(axis=0) <= 1) & (steps[coarse] == 0).all(axis=0)
    thick = ndimage.binary_opening(np.pad(after, 1, mode="edge"), cross)[1:-1, 1:-1, 1:-1]
    rim = after & ~thick & ndimage.binary_dilation(gone, np.ones((3, 3, 3)))
    for one in said:
        rim[one.index] = False
    return after & ~rim


def _without_cut_off(
    before: NDArray[np.bool_], after: NDArray[np.bool_], said: list[_Said], grid: Grid
) -> NDArray[np.bool_]:
    """The mask after, without what a point outside has cut off from the parts in which points inside lie."""
    parts, _ = ndimage.label(after, structure=np.ones((3, 3, 3)))
    held = set[int]().union(*(_near(parts, grid, grid.to_lps(one.index)) for one in said if one.sign > 0))
    if not held:
        return after
    wholes, _ = ndimage.label(before, structure=np.ones((3, 3, 3)))
    kept = np.isin(parts, list(held))
    cut = np.isin(wholes, np.setdiff1d(wholes[kept], 0)) & ~kept
    return after & ~cut


def _near(labels: NDArray, grid: Grid, point: ArrayLike) -> set[int]:
    """The labels within `NEAR_MM` of a point."""
    index = np.rint(grid.to_index(point)).astype(int)
    reach = np.ceil(NEAR_MM / grid.spacing_mm).astype(int)
    lower, upper = np.maximum(index - reach, 0), np.minimum(index + reach + 1, labels.shape)
    if (lower >= upper).any():
        return set()
    part = labels[tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))]
    offsets = (np.moveaxis(np.indices(part.shape), 0, -1) + lower - grid.to_index(point)) * grid.spacing_mm
    return set(part[np.linalg.norm(offsets, axis=-1) <= NEAR_MM].tolist()) - {0}

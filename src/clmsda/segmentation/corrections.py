"""Corrections by geometry: which changes of a mask a point asks for, and a ball where a model does not follow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clmsda.geometry import Grid, Volume
from clmsda.measurements import bounding_box
from clmsda.prompts import Request
from clmsda.prompts.kinds import PointMm, text_of
from clmsda.segmentation.views import AERATED_HU

BEYOND = 1.25
"""How far a ball reaches that stands for a correction, over the distance to the mask's border."""
NEAR_MM = 5.0
"""A change belongs to a correction that lies in it, or this near."""


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


def by_rule(mask: NDArray[np.bool_], image: Volume, request: Request) -> tuple[NDArray[np.bool_], list[str]]:
    """Balls alone, for a model that takes no corrections; worked out near the mask and the points, not on the whole CT.

    mask: on the grid of image, HU, not empty. Returns the mask, changed, and what was done.
    """
    lower, upper = bounding_box(mask)
    corners = np.array([lower, upper - 1, *(image.grid.to_index(p) for p in (*request.inside, *request.outside))])
    margin = np.ceil((corners.max(axis=0) - corners.min(axis=0)) * (BEYOND - 1)) + 2
    lower = np.maximum(corners.min(axis=0) - margin, 0).astype(int)
    upper = np.minimum(corners.max(axis=0) + margin + 1, mask.shape).astype(int)
    where = tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))
    changed = mask.copy()
    changed[where], done = by_balls(mask[where], image.crop(lower, upper), request)
    said = [f"the model takes no corrections; at {text_of(point)} LPS mm {what}" for point, what in done]
    return changed, said + ignored(changed, image.grid, request)


def by_balls(
    mask: NDArray[np.bool_], image: Volume, request: Request
) -> tuple[NDArray[np.bool_], list[tuple[PointMm, str]]]:
    """Follow by geometry the corrections that a mask does not follow; returns it, and what was done at which points.

    A point that lies deepest in an error is about as far from the mask's border as from the true one. So a ball
    that reaches `BEYOND` the mask's border is taken away around a point outside, and added around a point inside (lung
    and air left out), but never as far as a point that says the contrary. image: HU on the mask's grid.
    """
    grid, done = image.grid, []
    for points, value, contrary in (
        (request.outside, False, request.marks.inside),
        (request.inside, True, request.outside),
    ):
        for point in points:
            k, row, column = np.rint(grid.to_index(point)).astype(int)
            if not grid.contains(point) or mask[k, row, column] == value or mask.all() or not mask.any():
                continue
            depth = ndimage.distance_transform_edt(mask != value, sampling=grid.spacing_mm)[k, row, column]
            reach = min([BEYOND * depth, *(0.9 * float(np.linalg.norm(np.subtract(point, o))) for o in contrary)])
            index = np.moveaxis(np.indices(mask.shape), 0, -1) - grid.to_index(point)
            ball = np.linalg.norm(index * grid.spacing_mm, axis=-1) <= reach
            mask = mask | (ball & (image.voxels > AERATED_HU)) if value else mask & ~ball
            done.append((point, f"a ball of {reach:.1f} mm was {'added' if value else 'taken away'} around it"))
    return mask, done


def _near(labels: NDArray, grid: Grid, point: Sequence[float]) -> set[int]:
    """The labels within `NEAR_MM` of a point."""
    index = np.rint(grid.to_index(point)).astype(int)
    reach = np.ceil(NEAR_MM / grid.spacing_mm).astype(int)
    lower, upper = np.maximum(index - reach, 0), np.minimum(index + reach + 1, labels.shape)
    if (lower >= upper).any():
        return set()
    part = labels[tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))]
    offsets = (np.moveaxis(np.indices(part.shape), 0, -1) + lower - grid.to_index(point)) * grid.spacing_mm
    return set(part[np.linalg.norm(offsets, axis=-1) <= NEAR_MM].tolist()) - {0}


def ignored(mask: NDArray[np.bool_], grid: Grid, request: Request) -> list[str]:
    """A warning for each correction that the mask does not follow."""
    said = []
    for points, value, word in ((request.inside, True, "inside"), (request.outside, False, "outside")):
        for point in points:
            k, row, column = np.clip(np.rint(grid.to_index(point)).astype(int), 0, np.array(mask.shape) - 1)
            if bool(mask[k, row, column]) != value:
                said.append(f"the point {word} at {text_of(point)} LPS mm was not followed: give another one near it")
    return said

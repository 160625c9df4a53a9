"""Prompts as people give them, drawn for training: a click off the center, a line or a box that is not exact."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clmsda.geometry import Volume
from clmsda.marks import Marks, PointMm
from clmsda.measurements import measure
from clmsda.training.config import PromptingConfig

_LINE_END = 0.06
"""Ends of a drawn line lie this far off, as a share of its length (standard deviation along each axis)."""


def draw(
    mask: Volume, center_mm: NDArray, radius: float, prompting: PromptingConfig, rng: np.random.Generator
) -> tuple[NDArray[np.float64], Marks]:
    """A prompt for a tumor: the point that it names (LPS mm), and its marks.

    mask: bool or 0/1, the tumor. center_mm: the tumor's center. radius: how far towards the edge a click goes.
    """
    inside = np.argwhere(mask.voxels)
    if not len(inside):
        return center_mm, Marks(inside=(_point(center_mm),))
    kind = rng.random()
    if kind < prompting.lines:
        return _line(mask, rng)
    points = mask.grid.to_lps(inside)
    if kind < prompting.lines + prompting.boxes:
        return _box(points, rng)
    share = rng.uniform(0.9, 1.0) if rng.random() < prompting.edge else radius * rng.uniform()
    click = center_mm + share * (points[rng.integers(len(points))] - center_mm)
    return click, Marks(inside=(_point(click),))


def _line(mask: Volume, rng: np.random.Generator) -> tuple[NDArray[np.float64], Marks]:
    """The long axis, somewhat short, slanted and aside."""
    found = measure(mask)
    ends = np.array(found.long_axis_lps)
    middle = ends.mean(axis=0)
    ends = middle + rng.uniform(0.85, 1.05) * (ends - middle)
    ends += rng.normal(0, _LINE_END, ends.shape) * found.long_axis_mm * [1, 1, 0]
    middle = ends.mean(axis=0)
    return middle, Marks(inside=(_point(middle),), ends=(_point(ends[0]), _point(ends[1])))


def _box(points: NDArray[np.float64], rng: np.random.Generator) -> tuple[NDArray[np.float64], Marks]:
    """The box around the tumor, mostly loose; one in three is flat, drawn on one slice."""
    lower, upper = points.min(axis=0), points.max(axis=0)
    sides = np.maximum(upper - lower, 1.0)
    lower = lower - rng.uniform(-0.05, 0.25, 3) * sides
    upper = upper + rng.uniform(-0.05, 0.25, 3) * sides
    if rng.random() < 1 / 3:
        lower[2] = upper[2] = points[rng.integers(len(points))][2]
    middle = (lower + upper) / 2
    return middle, Marks(inside=(_point(middle),), box=(_point(lower), _point(upper)))


def _point(position: ArrayLike | Sequence[float]) -> PointMm:
    x, y, z = (float(value) for value in np.asarray(position))
    return x, y, z

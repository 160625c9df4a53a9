"""Where a tumor ends: of its masks at many probabilities, the one whose border lies where the CT changes most.

How sure a network is of a tumor's last millimeters differs from one tumor to the next, by the density around it and by
the assumed sizes: one threshold for all is too tight for some and too wide for others. The CT shows which.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit

from clmsda.geometry import Grid, Volume, resample
from clmsda.marks import Marks
from clmsda.measurements import bounding_box, measure
from clmsda.segmentation.answer import fill_slices
from clmsda.segmentation.views import lesion_at

LEVELS = np.linspace(-2.4, 1.8, 22)
"""Log odds that are tried."""
LOWEST = float(expit(LEVELS[0]))
EXPECTED = -0.8
"""Log odds where most tumors end: a probability of 0.31."""
PER_LEVEL = 0.1
"""A border is worth so much less for each unit of log odds away from there (worth: the mean logarithm of its slope)."""
PER_EXTENT = 2.0
"""And for each e-fold that the mask is longer or shorter than what was drawn. These three: 89 lesions of validation
patients by one click, 43 of them by a line and a box; any half or double of them is nearly as good."""

SMOOTHED_MM = 1.0
"""Standard deviation by which the CT is smoothed before its slope is taken."""
WINDOW_HU = (-1000.0, 200.0)
"""Contrast medium and bone show no tumor's border."""
FAINT = 10.0
"""HU a mm: slopes below it are noise."""
SIDE = 48
"""Voxels along the longest side of what is looked at: a level needs no finer ones."""

HARDLY = 70.0
"""HU a mm: a border of less is worth a word. When it was chosen, 7 of 89 validation lesions had less, 5 of them with F1
below 0.4."""


class Level(NamedTuple):
    """probability: above it is the tumor. slope: of the CT at its border, HU a mm (geometric mean)."""

    probability: float
    slope: float


def best_level(mean: Volume, image: Volume, click_mm: NDArray[np.float64], size_mm: float, marks: Marks) -> Level:
    """The probability above which a tumor's mask fits the CT best.

    mean: probabilities on a part of the CT's grid. image: the CT, HU. size_mm: of the tumor, about. marks: a line or
    a box among them says how far it reaches.
    """
    grid = _coarser(mean.grid)
    seen = resample(mean, grid, fill=0.0).voxels
    slope = _slope(resample(image, grid, fill=None).voxels, grid)
    best, found = -np.inf, Level(float(expit(EXPECTED)), 0.0)
    for odds in LEVELS:
        lesion = lesion_at(Volume(seen > expit(odds), grid), click_mm, size_mm)
        if lesion is None:
            continue
        fill_slices(lesion.voxels)
        steep = float(np.log(slope[_rim(lesion.voxels)] + FAINT).mean())
        worth = steep - PER_LEVEL * abs(odds - EXPECTED) - PER_EXTENT * _misfit(lesion, marks)
        if worth > best:
            best, found = worth, Level(float(expit(odds)), float(np.exp(steep)) - FAINT)
    return found


def _coarser(grid: Grid) -> Grid:
    """The same box, in voxels that are not finer than `SIDE` of them along its longest side."""
    sides = np.array(grid.shape) * grid.spacing_mm
    counts = np.maximum(np.minimum(grid.shape, np.ceil(sides * SIDE / sides.max())), 1).astype(int)
    steps = np.array(grid.shape) / counts
    affine = grid.affine.copy()
    affine[:3, :3] = grid.affine[:3, :3] * steps
    affine[:3, 3] = grid.to_lps((steps - 1) / 2)
    return Grid(tuple(counts.tolist()), affine)


def _slope(hu: NDArray[np.float32], grid: Grid) -> NDArray[np.float32]:
    """HU a mm, (slices, rows, columns)."""
    smooth = ndimage.gaussian_filter(np.clip(hu, *WINDOW_HU), SMOOTHED_MM / grid.spacing_mm)
    axes = [axis for axis, n in enumerate(grid.shape) if n > 1]
    squares = [(np.gradient(smooth, axis=axis) / grid.spacing_mm[axis]) ** 2 for axis in axes]
    return np.sqrt(np.sum(squares, axis=0)) if squares else np.zeros_like(smooth)


def _rim(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The voxels on both sides of a mask's border."""
    return ndimage.binary_dilation(mask) & ~ndimage.binary_erosion(mask)


def _misfit(lesion: Volume, marks: Marks) -> float:
    """Mean absolute logarithm of how much longer a mask is than what was drawn; 0 for a point."""
    if marks.ends:
        start, last = marks.ends
        return abs(float(np.log(measure(lesion).long_axis_mm / np.linalg.norm(np.subtract(last, start)))))
    if marks.box is None:
        return 0.0
    lower, upper = bounding_box(lesion.voxels)
    corners = lesion.grid.to_lps(lower - 0.5 + np.array(list(np.ndindex(2, 2, 2))) * (upper - lower))
    drawn = np.subtract(marks.box[1], marks.box[0])
    sides = np.ptp(corners, axis=0)[drawn > 0]  # one that is flat in z says nothing of the slices
    return float(np.abs(np.log(sides / drawn[drawn > 0])).mean())

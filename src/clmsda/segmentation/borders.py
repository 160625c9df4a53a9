"""Where a mask's border lies in tissue of one density: nothing there shows where the tumor ends."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clmsda.geometry import Volume
from clmsda.measurements import bounding_box

NEAR_MM = 3.0
"""Inside and outside are compared as means within about this distance (a Gaussian's standard deviation)."""
FAINT_HU = 60.0
"""A border shows where inside and outside differ by more; soft tissues differ by less from each other."""
FAINT = 0.35
"""A border that is missing on less of the surface than this is not worth a word."""

_SIDES = (("the patient's right", "the patient's left"), ("the front", "the back"), ("the feet", "the head"))
_EXTREME_HU = (-1000.0, 300.0)  # metal and calcium say nothing of a border


def missing_border(mask: Volume, image: Volume) -> tuple[float, str]:
    """On which share of its surface a lesion has no border to be seen, and towards which side mostly.

    mask: bool, not empty, on the grid of image (HU). What lies beyond the scan counts as a missing border.
    """
    grid = mask.grid
    margin = np.ceil(2 * NEAR_MM / grid.spacing_mm).astype(int) + 1
    lower, upper = bounding_box(mask.voxels)
    inside_box = [slice(max(a - m, 0), b + m) for a, b, m in zip(lower, upper, margin, strict=True)]
    inside = mask.voxels[tuple(inside_box)]
    hu = np.clip(image.voxels[tuple(inside_box)].astype(np.float32), *_EXTREME_HU)
    sigma = NEAR_MM / grid.spacing_mm
    contrast = np.abs(_mean(hu, inside, sigma) - _mean(hu, ~inside, sigma))
    surface = inside & ~ndimage.binary_erosion(inside)
    faint = surface & ~(contrast > FAINT_HU)  # nan, where there is no outside, is no border
    share = float(faint.sum() / surface.sum())
    where = np.argwhere(faint) if faint.any() else np.argwhere(surface)
    away = grid.affine[:3, :3] @ (where.mean(axis=0) - np.argwhere(inside).mean(axis=0))
    axis = int(np.abs(away).argmax())
    return share, _SIDES[axis][int(away[axis] > 0)]


def _mean(hu: NDArray[np.float32], where: NDArray[np.bool_], sigma: NDArray[np.float64]) -> NDArray[np.float32]:
    """The mean HU of what is marked near each voxel; nan where nothing is."""
    weight = ndimage.gaussian_filter(where.astype(np.float32), sigma, truncate=2.0)
    total = ndimage.gaussian_filter(np.where(where, hu, 0), sigma, truncate=2.0)
    return np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 1e-4)

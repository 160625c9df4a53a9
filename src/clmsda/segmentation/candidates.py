"""Where a detector sees tumors in a whole chest: the tops of the bumps that it was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clmsda.geometry import Grid, Volume
from clmsda.lungs import around, coarse, lungs, missing
from clmsda.models import Model
from clmsda.patches import channels

APART_MM = 8.0
"""Of two tops nearer to each other than this along every axis, the higher one counts."""

MIRRORED = ((), (2,), (1,), (1, 2))
"""Axes along which the chest is mirrored (none, left and right, front and back, both): the mean of what is seen counts.
Lungs are as good in a mirror, and a detector is surer of what it sees four times."""


@dataclass(frozen=True)
class Candidate:
    """A place that looks like a tumor's center. probability: that it is one, 0..1."""

    center_mm: tuple[float, float, float]
    probability: float


def candidates(volume: Volume, detector: Model, least: float) -> tuple[list[Candidate], str]:
    """All places that are at least so probable, the most probable first; and what `missing` says of the lungs.

    volume: a chest CT in HU. Only the lungs and what lies between them are searched. Raises NoLungs.
    """
    seen = coarse(volume, detector.config.patches.spacing_mm)
    air = lungs(seen)
    region = around(seen, air)
    (box,) = ndimage.find_objects(region.astype(np.int8))
    part = seen.crop([s.start for s in box], [s.stop for s in box])
    heat = np.where(region[box], _heat(part, detector), 0.0)
    width = 2 * round(APART_MM / detector.config.patches.spacing_mm) - 1
    tops, count = ndimage.label((heat >= least) & (heat == ndimage.maximum_filter(heat, width)), np.ones((3, 3, 3)))
    numbers = range(1, count + 1)  # a flat top is one, too
    places = zip(ndimage.center_of_mass(tops > 0, tops, numbers), ndimage.maximum(heat, tops, numbers), strict=True)
    found = [Candidate(_point(volume.grid, part.grid.to_lps(top)), float(height)) for top, height in places]
    return sorted(found, key=lambda one: (-one.probability, one.center_mm)), missing(seen, air)


def _heat(part: Volume, detector: Model) -> NDArray[np.float32]:
    """The detector's mean answer at each voxel, its sides filled up to what the network takes."""
    step = detector.config.network.size_multiple
    wider = np.pad(part.voxels, [(0, -n % step) for n in part.grid.shape], mode="edge")
    seen = channels(wider, part.grid, detector.config.patches)
    heat = np.zeros(wider.shape, np.float32)
    for axes in MIRRORED:
        (answer,) = detector.probabilities(np.flip(seen, tuple(axis + 1 for axis in axes))[None])
        heat += np.flip(answer.reshape(wider.shape), axes)
    heat /= len(MIRRORED)
    return heat[tuple(slice(n) for n in part.grid.shape)]


def _point(grid: Grid, lps_mm: NDArray[np.float64]) -> tuple[float, float, float]:
    """A place, moved onto the CT where it is half a coarse voxel beyond."""
    index = np.clip(grid.to_index(lps_mm), 0, np.array(grid.shape) - 1)
    x, y, z = (float(value) for value in grid.to_lps(index))
    return x, y, z

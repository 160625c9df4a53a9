"""Views of one tumor through a network: the same place at several assumed sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clmsda.geometry import Grid, Volume, fill_outside, resample
from clmsda.marks import Marks
from clmsda.measurements import EmptyMask, Measurement, component_at, measure
from clmsda.models import Model
from clmsda.patches import cut, view_grid

THRESHOLD = 0.5
FUSED = 0.35
"""The mean of several views marks tumor from here on: at a border some of them see it and some do not."""
AERATED_HU = -700.0
"""Below this a voxel is lung or air."""


@dataclass(frozen=True, eq=False)
class View:
    """A network's answer for one patch: probabilities (slices, rows, columns) on the patch's grid.

    hu: what the patch shows, within the model's first window; scan: the grid of the CT. None where nobody kept them.
    """

    assumed_mm: float
    grid: Grid
    probabilities: NDArray[np.float32]
    hu: NDArray[np.float32] | None = None
    scan: Grid | None = None

    def lesion(self, click_mm: NDArray) -> Volume | None:
        """The tumor at the click as a bool mask on the patch's grid; None where there is none."""
        return lesion_at(Volume(self.probabilities > THRESHOLD, self.grid), click_mm, self.assumed_mm)


def lesion_at(mask: Volume, click_mm: NDArray, size_mm: float) -> Volume | None:
    """The component of a mask at a click, or near it as tumors of this size go; None where there is none."""
    try:
        return component_at(mask, click_mm, within_mm=max(3.0, 0.2 * size_mm))
    except EmptyMask:
        return None


@dataclass(frozen=True, eq=False)
class Sighting:
    """What one view saw: the lesion in it, how large, and whether the patch's border cuts it off.

    air: how much of it is. ended: how much of its surface lies where the scan ends.
    """

    view: View
    mask: Volume
    measurement: Measurement
    cut_off: bool
    air: float = 0.0
    ended: float = 0.0


def look(
    volume: Volume,
    model: Model,
    click_mm: NDArray,
    center_mm: NDArray,
    sizes_mm: Sequence[float],
    directions: NDArray,
    marks: Marks | None = None,
) -> list[View]:
    """Predict, in one batch, the patches around `center_mm` that assume these tumor sizes.

    marks: what was said about the lesion; by default the click alone.
    A size-variant view is the one that assumes S_mean; the size-invariant one assumes the true size.
    A 2-D view shows the one slice in which its center lies, as in training.
    """
    config, scan = model.config.patches, volume.grid
    if config.spatial_dims == 2:
        k = round(float(scan.to_index(center_mm)[0]))
        volume = volume.crop((k, 0, 0), (k + 1, *scan.shape[1:]))
    x, y, z = (float(value) for value in click_mm)
    told = Marks(inside=((x, y, z),)) if marks is None else marks
    grids = [view_grid(config, center_mm, config.ratio(size), directions=directions) for size in sizes_mm]
    patches = np.stack([cut(volume, grid, config, told) for grid in grids])
    return answers(model, patches, grids, sizes_mm, scan)


def answers(
    model: Model, patches: NDArray[np.float32], grids: Sequence[Grid], sizes_mm: Sequence[float], scan: Grid
) -> list[View]:
    """The network's answers for patches of one shape, as views.

    There is no tumor where there is no scan: beyond it a patch only continues the border, and probabilities are 0.
    """
    low, high = model.config.patches.windows_hu[0]
    found = model.probabilities(patches)
    views = []
    for size, grid, patch, answer in zip(sizes_mm, grids, patches, found, strict=True):
        probabilities = answer.reshape(grid.shape)
        fill_outside(probabilities, grid, scan, 0.0)
        hu = low + (high - low) * patch[0].reshape(grid.shape)
        views.append(View(float(size), grid, probabilities, hu, scan))
    return views


def sight(view: View, click_mm: NDArray) -> Sighting | None:
    """Find and measure the tumor at the click in one view; None where the view shows none."""
    mask = view.lesion(click_mm)
    if mask is None:
        return None
    air = 0.0 if view.hu is None else float((view.hu[mask.voxels] < AERATED_HU).mean())
    ended = 0.0 if view.scan is None else at_ends(mask, view.scan)
    return Sighting(view, mask, measure(mask), touches_border(mask.voxels), air, ended)


def at_ends(mask: Volume, scan: Grid) -> float:
    """The share of a mask's surface that lies where the scan ends, along any axis that is longer than one."""
    surface = mask.voxels & ~ndimage.binary_erosion(mask.voxels)
    index = scan.to_index(mask.grid.to_lps(np.argwhere(surface)))
    step = mask.grid.spacing_mm.max() / scan.spacing_mm
    last = np.array(scan.shape) - 1
    ends = (index < step - 0.5) | (index > last + 0.5 - step)
    return float(ends[:, last > 0].any(axis=1).mean())


def touches_border(mask: NDArray[np.bool_]) -> bool:
    """Whether a mask reaches the first or last index of any axis that is longer than one."""
    faces = (mask.take(end, axis=axis) for axis, n in enumerate(mask.shape) if n > 1 for end in (0, n - 1))
    return any(bool(face.any()) for face in faces)


def agreement(a: Sighting, b: Sighting) -> float:
    """F1 between two views' masks, on the finer of their grids, within what both can see."""
    fine, coarse = (a, b) if a.view.grid.spacing_mm[1] <= b.view.grid.spacing_mm[1] else (b, a)
    other = resample(Volume(coarse.mask.voxels.astype(np.float32), coarse.mask.grid), fine.mask.grid, fill=-1).voxels
    seen = other >= 0
    found, true = fine.mask.voxels & seen, (other > THRESHOLD) & seen
    total = int(found.sum()) + int(true.sum())
    return 2 * int((found & true).sum()) / total if total else 1.0

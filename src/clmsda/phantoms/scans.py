"""A whole CT of a phantom, slab by slab."""

from __future__ import annotations

import numpy as np
import torch

from clmsda.geometry import Grid, Volume
from clmsda.phantoms.acquisition import VIEW_Y_MM, acquire
from clmsda.phantoms.phantom import Phantom
from clmsda.phantoms.rendering import render

_SLAB_VOXELS = 1 << 20


def scan_grid(phantom: Phantom, matrix: int = 512) -> Grid:
    """The CT's grid: `matrix` x `matrix` pixels, from below the lungs to above their apex.

    At 512 the pixels are the acquisition's; a smaller matrix shows the same field of view coarser.
    """
    a = phantom.acquisition
    pixel = max(a.pixel_mm, min(0.98, 2 * (phantom.wall.torso.half_width_mm + 12) / 512)) * 512 / matrix
    count = int((a.high_mm - a.low_mm) / a.slice_mm) + 1
    return Grid.axial(
        (count, matrix, matrix),
        (a.slice_mm, pixel, pixel),
        center_mm=(0.0, VIEW_Y_MM, a.low_mm + 0.5 * (count - 1) * a.slice_mm),
    )


def scan(phantom: Phantom, *, matrix: int = 512) -> tuple[Volume, Volume]:
    """The CT (int16 HU) and its tumor mask (uint8), both on `scan_grid`."""
    grid = scan_grid(phantom, matrix)
    hu = np.empty(grid.shape, dtype=np.int16)
    mask = np.empty(grid.shape, dtype=np.uint8)
    layers = max(1, round(grid.spacing_mm[0] / max(1.25, grid.spacing_mm[1])))
    thickness = max(1, _SLAB_VOXELS // (matrix * matrix * layers))
    for first in range(0, grid.shape[0], thickness):
        last = min(first + thickness, grid.shape[0])
        part = grid.crop((first, 0, 0), (last, matrix, matrix))
        fine = _layered(part, layers)
        values, inside = render(phantom, fine)
        values = values.reshape(last - first, layers, matrix, matrix).mean(dim=1)
        share = inside.reshape(last - first, layers, matrix, matrix).float().mean(dim=1)
        values = acquire(values, part, phantom.acquisition, phantom.seed * 1000 + first)
        hu[first:last] = values.round_().to(torch.int16).numpy()
        mask[first:last] = (share >= 0.5).to(torch.uint8).numpy()
    name = f"phantom-{phantom.seed}"
    return Volume(hu, grid, name), Volume(mask, grid, name)


def _layered(grid: Grid, layers: int) -> Grid:
    """`grid` with each slice split into `layers` thinner ones."""
    affine = grid.affine.copy()
    affine[:3, 0] /= layers
    affine[:3, 3] -= affine[:3, 0] * (layers - 1) / 2
    return Grid((grid.shape[0] * layers, *grid.shape[1:]), affine)

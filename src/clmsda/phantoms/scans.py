"""What a scanner shows of a phantom: a whole CT, slab by slab, or a patch."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from torch import Tensor

from clmsda.geometry import Grid, Volume
from clmsda.phantoms.acquisition import VIEW_Y_MM, acquire
from clmsda.phantoms.insets import Inset, render_inset
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


def scan(
    phantom: Phantom, *, matrix: int = 512, progress: Callable[[float], None] | None = None
) -> tuple[Volume, Volume]:
    """The CT (int16 HU) and its tumor mask (uint8), both on `scan_grid`.

    progress: called with the share that is drawn, slab by slab. As many slabs at a time are drawn as torch may use
    threads, each by one thread, so that their number does not change the CT.
    """
    grid = scan_grid(phantom, matrix)
    hu = np.empty(grid.shape, dtype=np.int16)
    mask = np.empty(grid.shape, dtype=np.uint8)
    thickness = max(1, _SLAB_VOXELS // (matrix * matrix * _layers(grid)))

    def draw(first: int) -> int:
        last = min(first + thickness, grid.shape[0])
        part = grid.crop((first, 0, 0), (last, matrix, matrix))
        values, share = render_slices(phantom, part)
        values = acquire(values, part, phantom.acquisition, phantom.seed * 1000 + first)
        hu[first:last] = values.round_().to(torch.int16).numpy()
        mask[first:last] = (share >= 0.5).to(torch.uint8).numpy()
        return last

    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=partial(torch.set_num_threads, 1)) as pool:
            for last in pool.map(draw, range(0, grid.shape[0], thickness)):
                if progress:
                    progress(last / grid.shape[0])
    finally:
        torch.set_num_threads(threads)
    name = f"phantom-{phantom.seed}"
    return Volume(hu, grid, name), Volume(mask, grid, name)


def render_slices(phantom: Phantom, grid: Grid, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """HU and share of tumor of slices as thick as they are apart: what a scanner averages over, before blur and noise.

    Returns float32 HU and float32 shares in 0..1, (slices, rows, columns) both.
    """
    layers = _layers(grid)
    hu, inside = render(phantom, _layered(grid, layers), device)
    hu, share = (part.reshape(grid.shape[0], layers, *grid.shape[1:]) for part in (hu, inside.float()))
    return hu.mean(dim=1), share.mean(dim=1)


def show(scene: Phantom | Inset, grid: Grid) -> tuple[Tensor, Tensor]:
    """What a patch on `grid` shows: HU as the scanner gives them there, and the share of tumor, both float32.

    A grid of one slice (2-D patches) is made as thick as the scanner's slices, whose mean it shows.
    """
    single = grid.shape[0] == 1
    if single:
        grid = _as_thick(grid, scene.acquisition.slice_mm)
    if isinstance(scene, Inset):
        hu, mask = render_inset(scene, grid)
        return hu, mask.float()
    if single:
        hu, share = render_slices(scene, grid)
    else:
        hu, mask = render(scene, grid)
        share = mask.float()
    return acquire(hu, grid, scene.acquisition, scene.seed), share


def _as_thick(grid: Grid, slice_mm: float) -> Grid:
    """A grid of one slice, so thick."""
    affine = grid.affine.copy()
    affine[:3, 0] *= slice_mm / grid.spacing_mm[0]
    return Grid(grid.shape, affine)


def _layers(grid: Grid) -> int:
    """Into how many thin ones a slice is split to be averaged over."""
    return max(1, round(float(grid.spacing_mm[0] / max(1.25, grid.spacing_mm[1]))))


def _layered(grid: Grid, layers: int) -> Grid:
    """`grid` with each slice split into `layers` thinner ones."""
    affine = grid.affine.copy()
    affine[:3, 0] /= layers
    affine[:3, 3] -= affine[:3, 0] * (layers - 1) / 2
    return Grid((grid.shape[0] * layers, *grid.shape[1:]), affine)

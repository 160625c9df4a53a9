"""What a scanner does to a chest: thick slices, blur or edge enhancement, noise, motion, streaks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clmsda.geometry import Grid
from clmsda.phantoms.space import Space

VIEW_Y_MM = 8.0
_SLICES_MM = np.array([0.625, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 3.75, 5.0, 7.5, 10.0])
_LONG, _BLOCK = 384, 64
"""A matrix with more columns is multiplied in blocks of so many rows, by no more columns than they need."""
_SHARES = np.array([0.05, 0.12, 0.14, 0.05, 0.08, 0.14, 0.17, 0.05, 0.14, 0.03, 0.03])


@dataclass(frozen=True)
class Acquisition:
    """pixel_mm, slice_mm: of the CT (slices touch each other). blur_mm: SD of the kernel. sharpen: how much a sharp
    kernel enhances edges, 0 none. noise_hu: SD on the CT's own pixels. motion_mm: shift between two ghosts.
    streak_hu: SD of horizontal streaks at the shoulders, above shoulder_mm. low_mm, high_mm: heights between which
    the patient was scanned; beyond them the last slice goes on, as in `patches.cut`. view_mm: radius of the
    reconstructed circle, outside of which is -1024.
    """

    pixel_mm: float
    slice_mm: float
    blur_mm: float
    sharpen: float
    noise_hu: float
    motion_mm: float
    streak_hu: float
    shoulder_mm: float
    low_mm: float
    high_mm: float
    view_mm: float


def sample_acquisition(
    rng: np.random.Generator,
    apex_mm: float,
    base_mm: float,
    half_width_mm: float,
    tumor_mm: tuple[float, float],
    size_mm: float,
) -> Acquisition:
    """apex_mm, base_mm: of the lungs. half_width_mm: of the body. tumor_mm: heights that must be on the scan.

    size_mm: of the tumor; slices thicker than half of it are not drawn (RECIST 1.1 calls it not measurable then).
    """
    fine = max(2.5, size_mm / 2) >= _SLICES_MM
    slice_mm = float(rng.choice(_SLICES_MM[fine], p=_SHARES[fine] / _SHARES[fine].sum()))
    sharp = rng.random() < 0.4
    quiet = float(np.clip(rng.lognormal(2.6, 0.45), 5, 45)) * float(np.sqrt(2.5 / max(slice_mm, 1.0)))
    return Acquisition(
        pixel_mm=float(rng.uniform(0.55, 0.98)),
        slice_mm=slice_mm,
        blur_mm=float(rng.uniform(0.3, 0.5) if sharp else rng.uniform(0.45, 0.85)),
        sharpen=float(rng.uniform(0.3, 1.5)) if sharp else 0.0,
        noise_hu=min(130.0, quiet * (float(rng.uniform(1.5, 3.2)) if sharp else 0.9)),
        motion_mm=float(rng.uniform(1.5, 5)) if rng.random() < 0.1 else 0.0,
        streak_hu=float(rng.uniform(8, 45)) if rng.random() < 0.35 else 0.0,
        shoulder_mm=apex_mm - 35,
        low_mm=min(base_mm + float(rng.normal(-25, 25)), tumor_mm[0] - slice_mm - 3),
        high_mm=max(apex_mm + float(rng.normal(25, 15)), tumor_mm[1] + slice_mm + 3),
        view_mm=half_width_mm * float(rng.uniform(0.93, 1.35)),
    )


@torch.no_grad()
def acquire(hu: Tensor, grid: Grid, acquisition: Acquisition, seed: int) -> Tensor:
    """HU of a perfect rendering on `grid` as the scanner would show them there.

    Slices are averaged over their thickness at the CT's own slice positions and interpolated in between; noise has
    the CT's grain: averaged where the grid's voxels are larger than the CT's, smooth where they are smaller.
    hu: (slices, rows, columns). Same seed, same result.
    """
    rng = np.random.default_rng([seed, 77])
    spacing = grid.spacing_mm
    a = acquisition
    phases = rng.uniform(size=3)
    hu = _along(hu, 0, _slice_matrix(hu.shape[0], spacing[0], a.slice_mm, float(phases[0])))
    row, column = (float(s) for s in spacing[1:])
    soft = [
        _blur_matrix(n, np.hypot(a.blur_mm, 0.29 * a.pixel_mm) / s)
        for n, s in zip(hu.shape[1:], (row, column), strict=True)
    ]
    if a.motion_mm:
        hu = _along(hu, 1, _ghost_matrix(hu.shape[1], a.motion_mm / row))
    smooth = _along(_along(hu, 1, soft[0]), 2, soft[1])
    if a.sharpen and a.blur_mm * 2.2 > 0.3 * column:
        wide = [_blur_matrix(n, 2.2 * a.blur_mm / s) for n, s in zip(hu.shape[1:], (row, column), strict=True)]
        smooth = smooth + a.sharpen * (smooth - _along(_along(smooth, 1, wide[0]), 2, wide[1]))
    smooth = smooth + _noise(hu, grid, a, rng)
    smooth = _end(smooth, grid, a)
    _cut_out(smooth, grid, a)
    return smooth.clamp_(-1024, 3071)


def _heights(grid: Grid) -> NDArray[np.float64]:
    """(slices,) z of each slice's first voxel."""
    return grid.to_lps(np.column_stack([np.arange(grid.shape[0]), np.zeros((grid.shape[0], 2))]))[:, 2]


def _end(hu: Tensor, grid: Grid, a: Acquisition) -> Tensor:
    """Above and below the scan its last slice goes on; unchanged where the whole grid lies beyond it."""
    z = _heights(grid)
    scanned = np.flatnonzero((z >= a.low_mm) & (z <= a.high_mm))
    if len(scanned) in (0, len(z)):
        return hu
    nearest = np.clip(np.arange(len(z)), scanned[0], scanned[-1])
    return hu[torch.from_numpy(nearest).to(hu.device)]


def _cut_out(hu: Tensor, grid: Grid, a: Acquisition) -> None:
    """Nothing was seen outside the reconstructed circle."""
    space = Space.of_grid(grid, hu.device)
    if np.abs([space.lower_mm[:2], space.upper_mm[:2]]).max() > 0.7 * a.view_mm:
        hu.masked_fill_(space.x.square() + (space.y - VIEW_Y_MM).square() > a.view_mm**2, -1024.0)


def _along(field: Tensor, axis: int, matrix: NDArray | None) -> Tensor:
    """Matrix product along one axis; None is the identity."""
    if matrix is None:
        return field
    m = torch.from_numpy(np.ascontiguousarray(matrix, dtype=np.float32)).to(field.device)
    if axis == 0:
        return (m @ field.reshape(field.shape[0], -1)).reshape(len(m), *field.shape[1:])
    if m.shape[1] <= _LONG:
        return torch.matmul(m, field) if axis == 1 else torch.matmul(field, m.T)
    shape = list(field.shape)
    shape[axis] = len(m)
    result = field.new_empty(shape)
    for first in range(0, len(m), _BLOCK):
        rows = m[first : first + _BLOCK]
        used = (rows != 0).any(dim=0).nonzero()  # a blur reaches a few voxels: most of its matrix is zeros
        low, high = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
        part, rows = field.narrow(axis, low, high - low), rows[:, low:high]
        product = torch.matmul(rows, part) if axis == 1 else torch.matmul(part, rows.T)
        result.narrow(axis, first, len(rows)).copy_(product)
    return result


@lru_cache(maxsize=64)
def _slice_matrix(count: int, step_mm: float, slice_mm: float, phase: float) -> NDArray | None:
    """(count, count): average over each CT slice, then interpolate linearly between slice positions."""
    if count == 1 or slice_mm <= 1.01 * step_mm:
        return None
    z = np.arange(count) * step_mm
    first = (phase - 1) * slice_mm
    centers = first + slice_mm * np.arange(int(np.ceil((z[-1] - first) / slice_mm)) + 2)
    low = np.clip(z[None] - step_mm / 2, (centers - slice_mm / 2)[:, None], (centers + slice_mm / 2)[:, None])
    high = np.clip(z[None] + step_mm / 2, (centers - slice_mm / 2)[:, None], (centers + slice_mm / 2)[:, None])
    average = high - low
    average[centers < z[0], 0] += 1e-6  # slices beyond the grid show its first or last slice
    average[centers > z[-1], -1] += 1e-6
    average /= np.maximum(average.sum(axis=1, keepdims=True), 1e-9)
    return _interpolation((z - first) / slice_mm, len(centers)) @ average


def _interpolation(positions: NDArray, count: int) -> NDArray:
    """(len(positions), count) linear interpolation at fractional positions."""
    low, high, weight = _neighbors(positions, count)
    matrix = np.zeros((len(positions), count))
    rows = np.arange(len(positions))
    matrix[rows, low] += 1 - weight
    matrix[rows, high] += weight
    return matrix


def _neighbors(positions: NDArray, count: int) -> tuple[NDArray, NDArray, NDArray]:
    """Index below and above each fractional position, and the weight of the one above."""
    low = np.clip(np.floor(positions).astype(int), 0, count - 1)
    return low, np.minimum(low + 1, count - 1), np.clip(positions - low, 0, 1)


@lru_cache(maxsize=64)
def _blur_matrix(count: int, deviation: float) -> NDArray | None:
    """(count, count) Gaussian with clamped ends; None where it would do nothing."""
    if deviation < 0.2 or count == 1:
        return None
    offsets = np.arange(count)
    matrix = np.exp(-0.5 * ((offsets[:, None] - offsets[None]) / deviation) ** 2)
    return matrix / matrix.sum(axis=1, keepdims=True)


def _ghost_matrix(count: int, shift: float) -> NDArray:
    positions = np.arange(count)
    moved = _interpolation(np.clip(positions + shift / 2, 0, count - 1), count)
    return 0.5 * (moved + _interpolation(np.clip(positions - shift / 2, 0, count - 1), count))


def _noise(hu: Tensor, grid: Grid, a: Acquisition, rng: np.random.Generator) -> Tensor:
    """Noise as `geometry.resample` would bring it from the CT's own voxels to the grid's.

    Where the grid's voxels are much larger, the resampling averages (by a Gaussian of 0.289 voxels' deviation) and
    what is left is drawn on the grid itself; else noise of the CT's grain is drawn on its lattice and read between.
    """
    grain_mm = 0.45 * a.pixel_mm if a.sharpen else a.blur_mm
    matrices, shape, gain = [], [], a.noise_hu
    for axis, (count, step) in enumerate(zip(hu.shape, map(float, grid.spacing_mm), strict=True)):
        own, grain = (a.pixel_mm, grain_mm) if axis else (a.slice_mm, 0.0)
        averaged = step > 1.5 * own
        lattice = step if averaged else own
        phase = rng.uniform() * (not averaged and not np.isclose(step, own))  # the CT's own grid is read as it is
        length = int(np.ceil(count * step / lattice)) + 2
        read = _noise_matrix(count, step / lattice, phase, length, grain / lattice)
        if averaged:
            kernel = np.exp(-0.5 * (np.arange(-20, 21) * own / max(grain, 1e-3)) ** 2)
            deviation = 0.282 * own * kernel.sum() ** 2 / (kernel**2).sum()  # of a Gaussian that averages alike
            gain *= float(np.sqrt(deviation / np.hypot(deviation, 0.289 * step)))
        matrices.append(read)
        shape.append(length)
    generator = torch.Generator(device="cpu").manual_seed(int(rng.integers(2**62)))
    noise = torch.randn(shape, generator=generator).to(hu.device)
    for axis in (0, 1, 2):
        noise = _along(noise, axis, matrices[axis])
    noise.mul_(float(gain))
    if a.streak_hu:
        noise = noise + _streaks(hu, grid, a, rng)
    return noise


@lru_cache(maxsize=6)
def _noise_matrix(count: int, step: float, phase: float, length: int, grain: float) -> NDArray:
    """(count, length): white noise on a lattice, blurred but as strong as before, then read at `count` points."""
    positions = np.arange(count) * step + phase
    blur = _blur_matrix(length, grain)
    if blur is None:
        return _interpolation(positions, length)
    low, high, weight = _neighbors(positions, length)
    blur = blur / np.sqrt((blur**2).sum(axis=1, keepdims=True))
    return (1 - weight)[:, None] * blur[low] + weight[:, None] * blur[high]


def _streaks(hu: Tensor, grid: Grid, a: Acquisition, rng: np.random.Generator) -> Tensor:
    """Noise stretched from left to right where the shoulders take most of the dose."""
    z = _heights(grid)
    strength = a.streak_hu * np.clip((z - a.shoulder_mm) / 30, 0, 1)
    if strength.max() <= 0:
        return torch.zeros((1, 1, 1), device=hu.device)
    rows, columns = hu.shape[1:]
    step, across = float(grid.spacing_mm[1]), float(grid.spacing_mm[2])
    coarse = max(2, int(np.ceil(columns * across / 25)) + 2)
    generator = torch.Generator(device="cpu").manual_seed(int(rng.integers(2**62)))
    field = torch.randn((hu.shape[0], rows, coarse), generator=generator).to(hu.device)
    field = _along(field, 1, _blur_matrix(rows, max(0.6, 1.0 / step)))
    field = _along(field, 2, _interpolation(np.arange(columns) * across / 25, coarse))
    field = field / field.std().clamp_(min=1e-6)
    scale = torch.from_numpy(strength.astype(np.float32)).to(hu.device)[:, None, None]
    return field * (scale * float(min(1.0, np.sqrt(2.0 / step))))

"""A synthetic tumor in a real chest: what a phantom is, but for the chest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clmsda.geometry import Grid, resample
from clmsda.phantoms.acquisition import Acquisition, acquire
from clmsda.phantoms.backgrounds import Background
from clmsda.phantoms.phantom import fit_to_size, measure_extent, sample_size, tumor_mask
from clmsda.phantoms.shapes import blend, coverage
from clmsda.phantoms.siting import choose_site, nearest_wall
from clmsda.phantoms.space import Space
from clmsda.phantoms.tubes import tube_coverage
from clmsda.phantoms.tumors import CAVITIES, Tumor, sample_tumor

_LONGEST_STRAND_MM = 20.0
_LARGEST_SHARE = 0.7  # of the height of a background that a tumor may take


@dataclass(frozen=True, eq=False)
class Inset:
    """A tumor set into a real chest CT, as that CT's scanner would have shown it."""

    seed: int
    background: Background
    tumor: Tumor
    acquisition: Acquisition

    def tumor_mask(self, grid: Grid) -> NDArray[np.bool_]:
        """As `Phantom.tumor_mask`."""
        return tumor_mask(self.background, self.tumor, grid)

    def tumor_extent(self) -> tuple[NDArray[np.float64], float]:
        """As `Phantom.tumor_extent`."""
        center, size = self._extent
        return center.copy(), size

    @cached_property
    def _extent(self) -> tuple[NDArray[np.float64], float]:
        return measure_extent(self.background, self.tumor, 44)


def sample_inset(
    seed: int,
    backgrounds: list[Background],
    *,
    tumor_size_mm: float | None = None,
    kind: str | None = None,
    cavities: float = CAVITIES,
) -> Inset:
    """The inset of a seed: one of the backgrounds, and a tumor as `sample` draws them, in it.

    tumor_size_mm: size S asked for; by default as in `sample`, and never more than the slices have room for.
    kind, cavities: as in `sample`.
    """
    rng = np.random.default_rng([seed, 3])
    background = backgrounds[int(rng.integers(len(backgrounds)))]
    low, high = background.heights_mm
    size = min(sample_size(rng) if tumor_size_mm is None else tumor_size_mm, _LARGEST_SHARE * (high - low))
    # A real chest's walls are not told apart: what grows on one of them grows on any.
    site = "free" if choose_site(rng, size) in ("free", "vessel") else "wall"
    center, outward = _choose_center(rng, background, site, size)
    wall_hu = background.tissue_hu + rng.normal(0, 10)
    tumor = sample_tumor(rng, center, site, size, wall_hu, outward, kind=kind, cavities=cavities)
    tumor = fit_to_size(background, tumor, size)
    return Inset(seed, background, tumor, _acquisition(background))


def _choose_center(
    rng: np.random.Generator, background: Background, site: str, size_mm: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(center, unit vector towards the nearest wall), as `choose_center`."""
    radius = size_mm / 2
    depth = radius * rng.uniform(0.3, 0.95)
    points, lung = background.points_mm, background.depths_mm
    noise = rng.gumbel(0, 0.25 * radius + 2, size=len(points))
    cost = 4 * np.maximum(lung + radius + 2, 0) if site == "free" else 2 * np.abs(lung + depth)
    low, high = background.heights_mm
    beyond = np.maximum(np.maximum(low - points[:, 2], points[:, 2] - high) + radius, 0)
    center = points[int((cost + noise + 8 * beyond).argmin())]
    value, outward = nearest_wall(background, center)
    if site == "wall":
        center = center - np.clip(value + depth, -12, 12) * outward
    return center, outward


def _acquisition(background: Background) -> Acquisition:
    spacing = background.ct.grid.spacing_mm
    low, high = background.heights_mm
    return Acquisition(
        pixel_mm=float(spacing[1]),
        slice_mm=float(spacing[0]),
        blur_mm=background.grain_mm,
        sharpen=0.0,
        noise_hu=background.noise_hu,
        motion_mm=0.0,
        streak_hu=0.0,
        shoulder_mm=high,
        low_mm=low,
        high_mm=high,
        view_mm=np.inf,
    )


@torch.no_grad()
def render_inset(inset: Inset, grid: Grid) -> tuple[Tensor, Tensor]:
    """HU and mask at the voxel centers of `grid`: the CT, with the tumor blurred and as noisy as its surroundings."""
    tumor, scanner = inset.tumor, inset.acquisition
    hu = torch.from_numpy(resample(inset.background.ct, grid, fill=None).voxels)
    mask = torch.zeros(grid.shape, dtype=torch.bool)
    blurred_mm = 3 * scanner.blur_mm + scanner.slice_mm
    reach_mm = 2 * tumor.halo_mm + tumor.softness_mm + _LONGEST_STRAND_MM + blurred_mm
    found = Space.of_grid(grid).sub(*tumor.bounds(reach_mm))
    if not found:
        return hu, mask
    index, space = found
    fields = inset.background.fields(space)
    distance = tumor.distance(space, fields)
    mask[index] = tumor.outlined.distance(space, fields) < 0
    in_lung = coverage(fields.lung, space.width_mm)
    noise = acquire(torch.zeros(grid.shape), grid, scanner, inset.seed)[index]

    def lay(alpha: Tensor, value: Tensor | float) -> None:
        """Paint as the scanner would: the tissue's own blur and noise instead of the CT's."""
        whole = torch.zeros(grid.shape)
        whole[index] = alpha
        shown = acquire(whole, grid, replace(scanner, noise_hu=0.0), inset.seed)[index].clamp_(0, 1)
        blend(hu[index], shown, value + noise)

    strands = tube_coverage(space, tumor.strands)
    if strands is not None:
        lay(strands * in_lung, tumor.strand_hu)
    if tumor.halo_mm:
        halo = (distance / -tumor.halo_mm).exp_().clamp_(max=1) * in_lung
        hu[index].add_(halo * (tumor.halo_hu * (hu[index] < -500)))
    value = tumor.interior(space, distance)
    if tumor.kind != "solid":  # vessels show through ground glass
        value = torch.where(hu[index] > -500, torch.maximum(value, hu[index]), value)
    lay(coverage(distance, space.width_mm + tumor.softness_mm), value)
    return hu, mask

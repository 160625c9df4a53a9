"""Training samples: pairs of views, drawn so that (seed, epoch, number) fixes every one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from clmsda import phantoms
from clmsda.cohorts import Case, Cohort, Split, check_split, hold_out
from clmsda.geometry import Grid, Volume
from clmsda.patches import AXIAL, NO_AUGMENTATION, PatchConfig, channels, cut, cut_mask, directions_of, view_grid
from clmsda.training.config import PHANTOMS, ConfigError, DataConfig, TrainingConfig, ViewConfig

VALIDATION_SEED = 1_000_000_007
"""Phantoms of the validation set are numbered from here: training never reaches them."""


class Pair(NamedTuple):
    """Both views of one sample; all float32. ratio maps the variant view onto the invariant one."""

    variant: torch.Tensor  # (channels, *shape) in 0..1
    variant_mask: torch.Tensor  # (1, *shape) in 0..1
    invariant: torch.Tensor
    invariant_mask: torch.Tensor
    ratio: torch.Tensor  # ()
    size_mm: torch.Tensor  # (), the tumor's true size


class Samples(Protocol):
    """A numbered set of samples. Validation asks for epoch 0 every time, and gets the same pairs."""

    def __len__(self) -> int: ...

    def pair(self, epoch: int, number: int) -> Pair: ...


def open_samples(config: TrainingConfig) -> tuple[Samples, Samples, TrainingConfig]:
    """Training samples, validation samples, and the configuration with what the data decided.

    A cohort decides its reference spacing (the smallest pixel spacing, paper section 2.1) and the
    mean tumor size where the configuration leaves them open, from the training part alone.

    Raises CohortError for a cohort that is damaged or not the one that was split, ConfigError for a fold
    that the split does not have.
    """
    data, views = config.data, config.views
    still = replace(views, augmentation=NO_AUGMENTATION)
    if data.source == PHANTOMS:
        backgrounds = phantoms.read_backgrounds(data.backgrounds) if data.backgrounds else []
        cavities = phantoms.CAVITIES if data.cavity_share is None else data.cavity_share
        scene = partial(scene_of, backgrounds=backgrounds, share=data.background_share, cavities=cavities)
        return (
            PhantomSamples(config.patches, views, config.seed * 10_000_019, data.samples_per_epoch, scene=scene),
            PhantomSamples(config.patches, still, VALIDATION_SEED, data.validation_samples, fresh=False),
            config,
        )
    cohort = Cohort.open(data.source)
    training, validation = _parts(cohort, data, config.seed)
    spacing = config.patches.reference_spacing_mm or min(case.pixel_mm for case in training.cases)
    mean = config.patches.mean_size_mm or float(np.mean([case.size_mm for case in training.cases]))
    patches = replace(config.patches, reference_spacing_mm=float(spacing), mean_size_mm=round(mean, 3))
    return (
        CohortSamples(training, patches, views, config.seed, data.samples_per_slice),
        CohortSamples(validation, patches, still, config.seed, 1),
        replace(config, patches=patches),
    )


def scene_of(seed: int, backgrounds: list[phantoms.Background], share: float, cavities: float) -> phantoms.Scene:
    """A tumor in a real chest for this share of the seeds, where there are any; a phantom for the others."""
    real = bool(backgrounds) and np.random.default_rng([seed, 5]).random() < share
    if real:
        return phantoms.sample_inset(seed, backgrounds, cavities=cavities)
    return phantoms.sample(seed, cavities=cavities)


def _parts(cohort: Cohort, data: DataConfig, seed: int) -> tuple[Cohort, Cohort]:
    """The cases to train on, and those to validate on."""
    if data.split is None:
        names, held = hold_out(cohort.cases, data.validation_fraction, seed)
        return cohort.subset(names), cohort.subset(held)
    split = Split.read(data.split)
    check_split(split, cohort)
    count = len(split.folds)
    if (data.fold or 0) >= count or (data.fold is None and count > 1):
        raise ConfigError(f"data.fold: expected 0 to {count - 1}, as {data.split} has {count} folds; found {data.fold}")
    fold = split.folds[data.fold or 0]
    return cohort.subset(set(fold.training)), cohort.subset(set(fold.validation))


class PhantomSamples:
    """Synthetic chests, rendered straight onto the patch grids: no CT is ever made or resampled.

    fresh: draw new phantoms in every epoch; otherwise the same ones, for validation. scene: what a seed shows.
    """

    def __init__(
        self,
        patches: PatchConfig,
        views: ViewConfig,
        seed: int,
        count: int,
        *,
        fresh: bool = True,
        scene: Callable[[int], phantoms.Scene] = phantoms.sample,
    ) -> None:
        self.patches, self.views, self.seed, self.count, self.fresh = patches, views, seed, count, fresh
        self.scene = scene

    def __len__(self) -> int:
        return self.count

    def pair(self, epoch: int, number: int) -> Pair:
        seed = self.seed + number + (epoch * self.count if self.fresh else 0)
        phantom = self.scene(seed)
        rng = np.random.default_rng([seed, 1])
        center, size = phantom.tumor_extent()
        click = _click(phantom, center, size, self.views.click_radius, rng)
        if self.patches.spatial_dims == 2 and self.views.click_radius == 0:
            click = click + np.array([0, 0, _slice_offset(phantom, center, size, rng)])
        augmentation = self.views.augmentation.draw(rng, self.patches.spatial_dims)
        sizes = view_sizes(self.patches, self.views, size, rng)
        middle = view_center(self.views, click, center, size, rng)
        if self.patches.spatial_dims == 2:
            middle = np.array([*middle[:2], click[2]])  # a 2-D view shows the click's slice

        def view(assumed_mm: float) -> tuple[torch.Tensor, torch.Tensor]:
            ratio = self.patches.ratio(assumed_mm)
            grid = view_grid(self.patches, middle, ratio, augmentation=augmentation)
            hu, share = phantoms.show(phantom, grid)
            image = channels(hu.numpy(), grid, self.patches, click)
            return torch.from_numpy(image), share.reshape(1, *self.patches.shape)

        return _pair(view, sizes, size)


class CohortSamples:
    """Tumor slices (2-D) or whole tumors (3-D) of real or synthetic CTs, read from mapped slabs."""

    def __init__(self, cohort: Cohort, patches: PatchConfig, views: ViewConfig, seed: int, repeats: int) -> None:
        self.cohort, self.patches, self.views, self.seed = cohort, patches, views, seed
        slices = [
            (case, k)
            for case in cohort.cases
            for k in (range(case.tumor_slices[0], case.tumor_slices[1] + 1) if patches.spatial_dims == 2 else [0])
        ]
        self.entries: list[tuple[Case, int]] = slices * repeats

    def __len__(self) -> int:
        return len(self.entries)

    def pair(self, epoch: int, number: int) -> Pair:
        case, k = self.entries[number]
        rng = np.random.default_rng([self.seed, epoch, number])
        image, mask = self.cohort.slab(case)
        click = center = np.array(case.center_mm)
        if self.views.click_radius:
            click = _click_in_mask(mask, center, self.views.click_radius, rng)
            center = view_center(self.views, click, center, case.size_mm, rng)
        if self.patches.spatial_dims == 2:
            click, center = (_into_slice(image, point, k) for point in (click, center))
            low, high = (k, 0, 0), (k + 1, *image.grid.shape[1:])
            image, mask = image.crop(low, high), mask.crop(low, high)
        augmentation = self.views.augmentation.draw(rng, self.patches.spatial_dims)
        sizes = view_sizes(self.patches, self.views, case.size_mm, rng)
        directions = directions_of(image.grid) if self.patches.spatial_dims == 2 else AXIAL

        def view(assumed_mm: float) -> tuple[torch.Tensor, torch.Tensor]:
            ratio = self.patches.ratio(assumed_mm)
            grid = view_grid(self.patches, center, ratio, directions=directions, augmentation=augmentation)
            patch = cut(image, grid, self.patches, click)
            return torch.from_numpy(patch), torch.from_numpy(cut_mask(mask, grid, self.patches))

        return _pair(view, sizes, case.size_mm)


def view_sizes(
    patches: PatchConfig, views: ViewConfig, size_mm: float, rng: np.random.Generator
) -> tuple[float, float]:
    """Sizes that the size-variant and the size-invariant view assume; see `ViewConfig.size_error`."""
    if views.size_error == 1:
        return patches.ratio(1.0), size_mm  # ratio(1) is S_mean: the variant view at the reference spacing
    low, high = np.clip([size_mm / views.size_error, size_mm * views.size_error], *views.assumed_mm)
    return float(np.exp(rng.uniform(np.log(low), np.log(high)))), size_mm * float(np.exp(rng.normal(0, 0.15)))


def view_center(
    views: ViewConfig, click: NDArray, center: NDArray, size_mm: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Where both views are centered: at the click, or about the tumor's center; see `ViewConfig.recentered`."""
    return center + rng.normal(0, 0.1, 3) * size_mm if rng.random() < views.recentered else click


def _pair(
    view: Callable[[float], tuple[torch.Tensor, torch.Tensor]], sizes: tuple[float, float], size_mm: float
) -> Pair:
    variant, variant_mask = view(sizes[0])
    invariant, invariant_mask = view(sizes[1])
    ratio = torch.tensor(sizes[0] / sizes[1], dtype=torch.float32)
    return Pair(variant, variant_mask, invariant, invariant_mask, ratio, torch.tensor(size_mm, dtype=torch.float32))


def _click(
    phantom: phantoms.Scene, center: NDArray, size_mm: float, radius: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """A point of the tumor, up to `radius` of the way from its center towards its edge."""
    if radius == 0:
        return center
    step = size_mm / 12
    inside = phantom.tumor_mask(Grid.axial((17, 17, 17), (step, step, step), center_mm=center))
    return _toward(np.argwhere(inside) * step - 8 * step, center, radius, rng)


def _slice_offset(phantom: phantoms.Scene, center: NDArray, size_mm: float, rng: np.random.Generator) -> float:
    """Height of a random tumor slice above the center, for 2-D samples."""
    step = size_mm / 24
    inside = phantom.tumor_mask(Grid.axial((49, 25, 25), (step, step, step), center_mm=center)).any(axis=(1, 2))
    return float((rng.choice(np.flatnonzero(inside)) - 24) * step) if inside.any() else 0.0


def _click_in_mask(mask: Volume, center: NDArray, radius: float, rng: np.random.Generator) -> NDArray[np.float64]:
    points = mask.grid.to_lps(np.argwhere(mask.voxels)) - center
    return _toward(points[:, ::-1], center, radius, rng)


def _toward(offsets: NDArray, center: NDArray, radius: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """`center` plus a random share, up to `radius`, of one of the (n, 3) offsets (slice, row, column) in mm."""
    if not len(offsets):
        return center
    return center + radius * rng.uniform() * offsets[rng.integers(len(offsets))][::-1]


def _into_slice(image: Volume, point_mm: NDArray, k: int) -> NDArray[np.float64]:
    """A point moved along the slice axis into slice k (the paper: one center for all slices of a tumor)."""
    _, row, column = image.grid.to_index(point_mm)
    return image.grid.to_lps([k, row, column])

"""Training samples: pairs of views, drawn so that (seed, epoch, number) fixes every one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from clmsda import phantoms
from clmsda.cohorts import Case, Cohort
from clmsda.geometry import Grid, Volume, resample
from clmsda.marks import Marks
from clmsda.patches import (
    AXIAL,
    PatchConfig,
    channels,
    cut_mask,
    directions_of,
    known,
    view_grid,
)
from clmsda.training import centers, ending, prompting
from clmsda.training.config import AgainConfig, ViewConfig


class Again(NamedTuple):
    """The second look at a tumor, but for what the first one finds; see `clmsda.training.second_look`.

    image, mask, known: as a view's. from_first: (3, 4), from this grid to the size-invariant view's, both in
    the -1..1 of `affine_grid`. clicks: how many corrections. seed: of what is drawn for them.
    """

    image: torch.Tensor
    mask: torch.Tensor
    known: torch.Tensor
    from_first: torch.Tensor
    clicks: torch.Tensor
    seed: torch.Tensor


class Pair(NamedTuple):
    """Both views of one sample; float32. ratio maps the variant view onto the invariant one.

    known: bool, where a view shows the scan and the mask is known. again: empty tensors without a second look.
    """

    variant: torch.Tensor  # (channels, *shape) in 0..1
    variant_mask: torch.Tensor  # (1, *shape) in 0..1
    variant_known: torch.Tensor  # (1, *shape) bool
    invariant: torch.Tensor
    invariant_mask: torch.Tensor
    invariant_known: torch.Tensor
    ratio: torch.Tensor  # ()
    size_mm: torch.Tensor  # (), the tumor's true size
    again: Again


NO_AGAIN = Again(*[torch.empty(0)] * 6)


class Samples(Protocol):
    """A numbered set of samples. Validation asks for epoch 0 every time, and gets the same pairs."""

    def __len__(self) -> int: ...

    def pair(self, epoch: int, number: int) -> Pair: ...


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
        step = size / 20  # reaches as far again in height as the tumor is wide
        coarse = Grid.axial((41, 25, 25), (step, step, step), center_mm=center)
        mask = Volume(phantom.tumor_mask(coarse), coarse) if self.views.click_radius or self.views.again else None
        click, marks = _prompt(mask, center, self.views, rng)
        middle = view_center(self.views, click, center, size, rng)
        if self.patches.spatial_dims == 2:  # a 2-D view shows the click's slice
            if self.views.click_radius == 0:
                click = click + np.array([0, 0, _slice_offset(phantom, center, size, rng)])
                marks = Marks(inside=(_point(click),))
            middle = np.array([*middle[:2], click[2]])

        if self.views.search is not None:
            middle = centers.window_middle(self.views.search, center, rng, strays=True)

        def show(grid: Grid) -> tuple[NDArray, torch.Tensor, torch.Tensor]:
            hu, share = phantoms.show(phantom, grid)
            share = share.reshape(1, *self.patches.shape)
            if self.views.search is not None:
                return hu.numpy(), centers.bump(grid, center, size), ~centers.unsaid(phantom, grid)
            return hu.numpy(), share, torch.ones_like(share, dtype=torch.bool)

        return _pair(Subject(size, middle, marks, AXIAL, mask, show), self.patches, self.views, rng)


class CohortSamples:
    """Tumor slices (2-D) or whole tumors (3-D) of real or synthetic CTs, read from mapped slabs.

    step_mm: see `DataConfig.slice_step_mm`.
    """

    def __init__(
        self,
        cohort: Cohort,
        patches: PatchConfig,
        views: ViewConfig,
        seed: int,
        repeats: int,
        step_mm: float | None = None,
    ) -> None:
        self.cohort, self.patches, self.views, self.seed = cohort, patches, views, seed
        flat = patches.spatial_dims == 2
        slabs = [(case, part) for case in cohort.cases for part in (_steps(case, step_mm) if flat else [range(1)])]
        self.entries: list[tuple[Case, range]] = slabs * repeats

    def __len__(self) -> int:
        return len(self.entries)

    def pair(self, epoch: int, number: int) -> Pair:
        case, slices = self.entries[number]
        rng = np.random.default_rng([self.seed, epoch, number])
        k = slices[rng.integers(len(slices))] if len(slices) > 1 else slices[0]
        image, mask = self.cohort.slab(case)
        center = np.array(case.center_mm)
        click, marks = _prompt(mask, center, self.views, rng)
        if self.views.click_radius:
            center = view_center(self.views, click, center, case.size_mm, rng)
        if self.patches.spatial_dims == 2:
            click, center = (_into_slice(image, point, k) for point in (click, center))
            marks = Marks(inside=(_point(click),))
            low, high = (k, 0, 0), (k + 1, *image.grid.shape[1:])
            image, mask = image.crop(low, high), mask.crop(low, high)
        directions = directions_of(image.grid) if self.patches.spatial_dims == 2 else AXIAL
        if self.views.search is not None:
            center = centers.window_middle(self.views.search, np.array(case.center_mm), rng, strays=False)

        def show(grid: Grid) -> tuple[NDArray, torch.Tensor, torch.Tensor]:
            hu = resample(image, grid, fill=None).voxels
            seen = torch.from_numpy(known(image, grid, self.patches))
            if self.views.search is not None:
                return hu, centers.bump(grid, np.array(case.center_mm), case.size_mm), seen
            return hu, torch.from_numpy(cut_mask(mask, grid, self.patches)), seen

        return _pair(Subject(case.size_mm, center, marks, directions, mask, show), self.patches, self.views, rng)


def _steps(case: Case, step_mm: float | None) -> list[range]:
    """The tumor's slices in steps of so many mm, the last of which may be shorter; each alone without a step."""
    first, last = case.tumor_slices
    step = max(1, round(step_mm / case.slice_mm)) if step_mm else 1
    return [range(k, min(k + step, last + 1)) for k in range(first, last + 1, step)]


class Subject(NamedTuple):
    """One tumor, ready to be shown.

    size_mm: true size. middle: where the views are centered. marks: the prompt. mask: the tumor, for a second look.
    show: HU, share of tumor, and where both are known, on a grid. ends_mm: (2, 3), how far before and after the
    middle, along a grid's axes, the scan is taken to end; None for where it does end.
    """

    size_mm: float
    middle: NDArray[np.float64]
    marks: Marks
    directions: NDArray[np.float64]
    mask: Volume | None
    show: Callable[[Grid], tuple[NDArray, torch.Tensor, torch.Tensor]]
    ends_mm: NDArray[np.float64] | None = None

    def view(
        self, grid: Grid, patches: PatchConfig, noise_hu: float, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The network's input on a grid, the share of tumor, and where it is known."""
        hu, share, seen = self.show(grid)
        if noise_hu:
            hu = hu + rng.normal(0, noise_hu, hu.shape).astype(np.float32)
        if self.ends_mm is not None:
            hu, within = ending.ended(hu, grid, self.middle, self.ends_mm)
            seen = seen & torch.from_numpy(within).reshape(seen.shape)
        return torch.from_numpy(channels(hu, grid, patches, self.marks)), share, seen


def _pair(subject: Subject, patches: PatchConfig, views: ViewConfig, rng: np.random.Generator) -> Pair:
    augmentation = views.augmentation.draw(rng, patches.spatial_dims)
    if views.cropped and rng.random() < views.cropped:
        ends = ending.anywhere(rng) if views.search is not None else ending.ends(subject.size_mm, rng)
        subject = subject._replace(ends_mm=ends)
    variant_mm, invariant_mm = view_sizes(patches, views, subject.size_mm, rng)

    def grid_of(assumed_mm: float, middle: NDArray) -> Grid:
        ratio = patches.ratio(assumed_mm)
        return view_grid(patches, middle, ratio, directions=subject.directions, augmentation=augmentation)

    noise = augmentation.noise_hu
    first = grid_of(invariant_mm, subject.middle)
    variant = subject.view(grid_of(variant_mm, subject.middle), patches, noise, rng)
    invariant = variant if views.search is not None else subject.view(first, patches, noise, rng)
    again = NO_AGAIN
    if views.again is not None:
        grid, clicks = _second_grid(subject, views, views.again, first, grid_of, rng)
        seen = subject.view(grid, patches, noise, rng)
        seed = torch.tensor(int(rng.integers(2**62)))
        again = Again(*seen, torch.from_numpy(_from_first(grid, first)), torch.tensor(clicks), seed)
    ratio, size = (torch.tensor(x, dtype=torch.float32) for x in (variant_mm / invariant_mm, subject.size_mm))
    return Pair(*variant, *invariant, ratio, size, again)


def _second_grid(
    subject: Subject,
    views: ViewConfig,
    again: AgainConfig,
    first: Grid,
    grid_of: Callable[[float, NDArray], Grid],
    rng: np.random.Generator,
) -> tuple[Grid, int]:
    """Where the second look goes, and after how many corrections."""
    if rng.random() >= again.fine:
        return first, int(rng.integers(1, again.corrections + 1)) if again.corrections else 0
    middle = subject.middle
    if subject.mask is not None and len(voxels := np.argwhere(subject.mask.voxels)):
        middle = subject.mask.grid.to_lps(voxels[rng.integers(len(voxels))])
    clicks = int(rng.integers(0, again.corrections + 1)) if rng.random() < 0.5 else 0
    return grid_of(subject.size_mm / rng.uniform(*again.span), middle), clicks


def _from_first(grid: Grid, first: Grid) -> NDArray[np.float32]:
    """(3, 4): where in `first` a position of `grid` lies, both in -1..1 along (column, row, slice)."""
    to_index = np.linalg.inv(first.affine) @ grid.affine
    steps, offset = to_index[:3, :3], to_index[:3, 3]
    half, half_first = (np.array(grid.shape) - 1) / 2, (np.array(first.shape) - 1) / 2
    matrix = steps * half / half_first[:, None]
    shift = (steps @ half + offset - half_first) / half_first
    return np.column_stack([matrix[::-1, ::-1], shift[::-1]]).astype(np.float32)


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


def _prompt(
    mask: Volume | None, center: NDArray, views: ViewConfig, rng: np.random.Generator
) -> tuple[NDArray[np.float64], Marks]:
    """The point that is prompted and its marks: the true center, or as people prompt."""
    if not views.click_radius or mask is None:
        return center, Marks(inside=(_point(center),))
    return prompting.draw(mask, center, views.click_radius, views.prompting, rng)


def _point(position: NDArray) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in position)
    return x, y, z


def _slice_offset(phantom: phantoms.Scene, center: NDArray, size_mm: float, rng: np.random.Generator) -> float:
    """Height of a random tumor slice above the center, for 2-D samples."""
    step = size_mm / 24
    inside = phantom.tumor_mask(Grid.axial((49, 25, 25), (step, step, step), center_mm=center)).any(axis=(1, 2))
    return float((rng.choice(np.flatnonzero(inside)) - 24) * step) if inside.any() else 0.0


def _into_slice(image: Volume, point_mm: NDArray, k: int) -> NDArray[np.float64]:
    """A point moved along the slice axis into slice k (the paper: one center for all slices of a tumor)."""
    _, row, column = image.grid.to_index(point_mm)
    return image.grid.to_lps([k, row, column])

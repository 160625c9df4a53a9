"""Patches: the size-variant and the size-invariant view of a tumor, each one affine away from the CT.

Resampling to the reference spacing, cropping, size normalization and augmentation (paper section
2.1) only ever change the *grid* of a patch. The voxels move once, in `cut`, from the original CT;
`restore` carries probabilities back through the same grid. See also `clmsda.zoom`, which moves
between the two views of one tensor batch inside the consistency loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clmsda.errors import InputError
from clmsda.geometry import Grid, Volume, box_around, fill_outside, resample
from clmsda.marks import Marks, Shape, paint

AXIAL = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
"""Directions as columns (slice, row, column) in LPS: slices go up, rows to the back, columns to the left."""

LUNG_WINDOW_HU = (-1350.0, 150.0)
"""WW 1500, WL -600 (paper section 2.1)."""


class PatchError(InputError):
    """Patches that cannot be cut as configured."""


@dataclass(frozen=True)
class PatchConfig:
    """What a network sees of a tumor.

    shape: (rows, columns) of a 2-D patch or (slices, rows, columns) of a 3-D one; 3-D voxels are cubes.
    reference_spacing_mm: voxel spacing of the size-variant view (the paper: 0.52 or 0.977).
    mean_size_mm: S_mean, the mean tumor size over the training set only.
    windows_hu: one input channel per window, each (lower, upper) in HU and rescaled to 0..1.
    mark_prompt: add a channel with a mark at the prompted point, so that the network knows
        which of two neighboring lesions is meant.
    corrections: add three more: marks of points outside, marks of the extent (both ends of a RECIST
        line, a box's surface), and the mask before (0 where there is none).
    marks: how a mark looks, see `clmsda.marks`.
    None for the spacing or the size means "measure it on the training cohort".
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    shape: tuple[int, ...] = (256, 256)
    reference_spacing_mm: float | None = None
    mean_size_mm: float | None = None
    windows_hu: tuple[tuple[float, float], ...] = (LUNG_WINDOW_HU,)
    mark_prompt: bool = False
    corrections: bool = False
    marks: Shape = "gaussian"

    def __post_init__(self) -> None:
        if len(self.shape) not in (2, 3) or min(self.shape) < 2:
            found = list(self.shape)
            raise PatchError(f"shape must be [rows, columns] or [slices, rows, columns], each >= 2, found {found}")
        for name in ("reference_spacing_mm", "mean_size_mm"):
            value = getattr(self, name)
            if value is not None and not 0 < value < np.inf:
                raise PatchError(f"{name} must be a positive length, found {value}")
        if not self.windows_hu or not all(-np.inf < low < high < np.inf for low, high in self.windows_hu):
            raise PatchError(f"windows_hu must be pairs [lower, upper] with lower < upper, found {self.windows_hu}")
        if self.corrections and not self.mark_prompt:
            raise PatchError("corrections need mark_prompt: a correction is a further mark")

    @property
    def spatial_dims(self) -> int:
        return len(self.shape)

    @property
    def channels(self) -> int:
        return len(self.windows_hu) + int(self.mark_prompt) + 3 * int(self.corrections)

    @property
    def spacing_mm(self) -> float:
        if self.reference_spacing_mm is None:
            raise PatchError("reference_spacing_mm is not known yet: it is measured on the training cohort")
        return self.reference_spacing_mm

    def ratio(self, size_mm: float) -> float:
        """Size-normalization ratio r = S_mean / S (paper section 2.1)."""
        if self.mean_size_mm is None:
            raise PatchError("mean_size_mm is not known yet: it is measured on the training cohort")
        return self.mean_size_mm / size_mm


@dataclass(frozen=True)
class AugmentationConfig:
    """Ranges of the paper's augmentation (section 2.1), each drawn uniformly about no change.

    rotation_deg: in the axial plane, about the center. scaling: relative, 0.2 is 0.8 to 1.2.
    shift: in voxels of the size-variant view; along the slices, too, in 3-D. mirrored: each axis as
    often as not; a patch, not a chest, is mirrored. noise_hu: standard deviation of white noise, at most.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    rotation_deg: float = 20.0
    scaling: float = 0.2
    shift: float = 20.0
    mirrored: bool = False
    noise_hu: float = 0.0

    def __post_init__(self) -> None:
        lengths = self.shift, self.noise_hu
        if not (0 <= self.rotation_deg <= 180 and 0 <= self.scaling < 1 and all(0 <= n < np.inf for n in lengths)):
            found = f"rotation_deg {self.rotation_deg:g}, scaling {self.scaling:g}, shift {self.shift:g}"
            raise PatchError(
                "expected 0 <= rotation_deg <= 180, 0 <= scaling < 1, shift >= 0 and noise_hu >= 0, "
                f"found {found}, noise_hu {self.noise_hu:g}"
            )

    def draw(self, rng: np.random.Generator, spatial_dims: int) -> Augmentation:
        angle, scale, *shift = rng.uniform(-1, 1, 5) * [self.rotation_deg, self.scaling, *[self.shift] * 3]
        moved = (shift[0] if spatial_dims == 3 else 0.0, shift[1], shift[2])
        flips = tuple(rng.choice([-1.0, 1.0], 3)) if self.mirrored else (1.0, 1.0, 1.0)
        noise = float(rng.uniform(0, self.noise_hu)) if self.noise_hu else 0.0
        return Augmentation(angle, 1 + scale, moved, flips, noise)


@dataclass(frozen=True)
class Augmentation:
    """One draw, shared by both views of a pair; but for the noise it only changes the grid. flips: 1 or -1 an axis."""

    rotation_deg: float = 0.0
    scale: float = 1.0
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    flips: tuple[float, ...] = (1.0, 1.0, 1.0)
    noise_hu: float = 0.0


NO_AUGMENTATION = AugmentationConfig(0.0, 0.0, 0.0)


def directions_of(grid: Grid) -> NDArray[np.float64]:
    """(3, 3) unit vectors as columns: the grid's own slice, row and column axes, turned towards `AXIAL`.

    Rows run to posterior, columns to the left and slices upwards, whatever the order of storage: a
    network should never see a mirrored chest.
    """
    directions = grid.affine[:3, :3] / grid.spacing_mm
    if abs(directions[1, 2]) > abs(directions[1, 1]):  # rows and columns are stored in exchanged order
        directions = directions[:, [0, 2, 1]]
    return directions * np.where((directions * AXIAL).sum(axis=0) < 0, -1.0, 1.0)


def view_grid(
    config: PatchConfig,
    center_mm: ArrayLike,
    ratio: float = 1.0,
    *,
    directions: NDArray[np.float64] = AXIAL,
    augmentation: Augmentation = Augmentation(),
) -> Grid:
    """The grid of one view around `center_mm`: size-variant at ratio 1, size-invariant at S_mean / S.

    ratio: > 1 enlarges (finer voxels). A 2-D patch becomes a grid of one slice through the center.
    """
    angle = np.deg2rad(augmentation.rotation_deg)
    rotation = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    linear = directions @ rotation * augmentation.flips * (config.spacing_mm / (ratio * augmentation.scale))
    shape = (1, *config.shape) if config.spatial_dims == 2 else config.shape
    middle = np.asarray(center_mm) - directions @ np.array(augmentation.shift) * config.spacing_mm
    affine = np.eye(4)
    affine[:3, :3] = linear
    affine[:3, 3] = middle - linear @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)  # type: ignore[arg-type]


def channels(
    hu: NDArray, grid: Grid, config: PatchConfig, marks: Marks | None = None, before: NDArray | None = None
) -> NDArray[np.float32]:
    """(slices, rows, columns) HU on a patch's grid to the network's input (channels, *config.shape).

    marks: what was said about the lesion; None for a point in the patch's middle. before: the mask or
    the probabilities before, on the same grid; None where there are none. A 3-D patch may be larger than config.shape.
    """
    planes: list[NDArray] = [np.clip((hu - low) / (high - low), 0, 1) for low, high in config.windows_hu]
    if config.mark_prompt:
        told = Marks(inside=(middle_of(grid),)) if marks is None else marks
        planes.extend(paint(told, grid, config.marks, all_kinds=config.corrections))
    if config.corrections:
        planes.append(np.zeros(hu.shape) if before is None else before)
    shape = config.shape if config.spatial_dims == 2 else hu.shape
    return np.stack(planes).astype(np.float32, copy=False).reshape(len(planes), *shape)


def middle_of(grid: Grid) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in grid.center_mm)
    return x, y, z


def cut(
    volume: Volume, grid: Grid, config: PatchConfig, marks: Marks | None = None, before: Volume | None = None
) -> NDArray[np.float32]:
    """Sample a CT on a patch's grid: (channels, *config.shape) float32 in 0..1.

    before: the mask or the probabilities before, on any grid; 0 beyond it.
    Where the patch reaches beyond the CT, its border goes on: a scan that ends is not a chest that does.
    """
    earlier = None if before is None else resample(before, grid, fill=0).voxels
    return channels(resample(volume, grid, fill=None).voxels, grid, config, marks, earlier)


def known(volume: Volume, grid: Grid, config: PatchConfig) -> NDArray[np.bool_]:
    """(1, *config.shape) bool: where a patch shows the CT itself, and not its continued border."""
    seen = np.ones(grid.shape, bool)
    fill_outside(seen, grid, volume.grid, False)
    return seen.reshape(1, *config.shape)


def cut_mask(mask: Volume, grid: Grid, config: PatchConfig) -> NDArray[np.float32]:
    """Sample a mask on a patch's grid: (1, *config.shape) float32, the fraction of tumor per voxel."""
    return resample(mask, grid, fill=0).voxels.reshape(1, *config.shape)


def restore(probabilities: Sequence[tuple[NDArray, Grid]], grid: Grid) -> Volume:
    """Mean of patches' probabilities on (a part of) the CT's grid, each within its field of view.

    probabilities: (array of the patch grid's shape or config.shape, patch grid) of each view.
    Returns a float32 volume on the crop of `grid` that the patches cover; 0 where none reaches.
    Probabilities travel, not labels: thresholding comes after (design section 2.1).
    """
    views = [(np.asarray(values, np.float32), _thicken(patch, grid)) for values, patch in probabilities]
    boxes = [box_around(grid, patch, margin=-1) for _, patch in views]  # -1: voxels whose centers lie within
    lower = np.minimum(np.min([low for low, _ in boxes], axis=0), np.array(grid.shape) - 1)
    upper = np.max([high for _, high in boxes], axis=0)
    part = grid.crop(lower, np.maximum(upper, lower + 1))
    total, weight = np.zeros(part.shape, np.float32), np.zeros(part.shape, np.float32)
    for values, patch in views:
        sampled = resample(Volume(values.reshape(patch.shape), patch), part, fill=-1.0).voxels
        seen = sampled >= 0
        total[seen] += sampled[seen]
        weight += seen
    return Volume(np.divide(total, weight, out=total, where=weight > 0), part)


def _thicken(patch: Grid, grid: Grid) -> Grid:
    """Give a 2-D patch the thickness of the CT's slice, so that it covers that slice and no other."""
    if patch.shape[0] > 1:
        return patch
    affine = patch.affine.copy()
    affine[:3, 0] *= 0.98 * grid.spacing_mm[0] / patch.spacing_mm[0]
    return Grid(patch.shape, affine)

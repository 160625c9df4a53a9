"""Where voxels are: `Grid`, `Volume`, and the one function that moves voxels.

Arrays are indexed (slice, row, column). World coordinates are LPS millimeters (x grows to the
patient's left, y to posterior, z to superior), the convention of DICOM (PS3.3 C.7.6.2.1.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, sparse

from clmsda.errors import InputError

Shape = tuple[int, int, int]
Corner = Sequence[int] | NDArray[np.integer]
"""A (slice, row, column) index."""

AIR_HU = -1024.0

AVERAGED = 1.5
"""From so many voxels a step on, the source is averaged first, by a Gaussian of a box's deviation."""

FARTHEST_MM = 1e7
"""No scanner places voxels farther away; beyond, sums of places lose their millimeters, and overflow."""

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""RAS (NIfTI, Slicer's display) to LPS and back: the matrix is its own inverse."""


class GridError(InputError):
    """A shape or an affine that does not describe a grid of voxels."""


@dataclass(frozen=True, eq=False)
class Grid:
    """A box of voxels in the patient.

    shape: number of (slices, rows, columns).
    affine: (4, 4) float64, from (slice, row, column, 1) of voxel *centers* to (x, y, z, 1) in LPS mm.
    """

    shape: Shape
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        affine = np.array(self.affine, dtype=np.float64)
        if len(shape) != 3 or min(shape) < 1:
            raise GridError(f"a grid needs three positive lengths (slices, rows, columns), found {self.shape}")
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or not np.array_equal(affine[3], [0, 0, 0, 1]):
            raise GridError(f"a grid needs a finite 4x4 affine with last row 0 0 0 1, found {affine.tolist()}")
        if np.abs(affine).max() > FARTHEST_MM:
            raise GridError(f"the grid has steps or a place of kilometers: {affine.tolist()}")
        if abs(np.linalg.det(affine[:3, :3])) < 1e-12:
            raise GridError(f"the grid's axes are not independent (determinant 0): {affine[:3, :3].tolist()}")
        affine.setflags(write=False)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    @classmethod
    def axial(
        cls,
        shape: Shape,
        spacing_mm: Sequence[float],
        *,
        origin_mm: ArrayLike | None = None,
        center_mm: ArrayLike | None = None,
    ) -> Grid:
        """An axial grid: columns run to the left, rows to posterior, slices to superior.

        spacing_mm: (slice, row, column). Give the LPS position of the first voxel (`origin_mm`)
        or of the middle of the box (`center_mm`); without either, the first voxel is at 0, 0, 0.
        """
        linear = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], dtype=np.float64) * np.asarray(spacing_mm)
        affine = np.eye(4)
        affine[:3, :3] = linear
        if center_mm is not None:
            affine[:3, 3] = np.asarray(center_mm) - linear @ ((np.array(shape) - 1) / 2)
        elif origin_mm is not None:
            affine[:3, 3] = origin_mm
        return cls(shape, affine)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Grid) and self.shape == other.shape and np.array_equal(self.affine, other.affine)

    def __hash__(self) -> int:
        return hash((self.shape, self.affine.tobytes()))

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """(3,): distance between neighboring voxel centers along slice, row, column."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def center_mm(self) -> NDArray[np.float64]:
        """(3,) LPS position of the middle of the box."""
        return self.to_lps((np.array(self.shape) - 1) / 2)

    @property
    def voxel_ml(self) -> float:
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    def to_lps(self, index: ArrayLike) -> NDArray[np.float64]:
        """(..., 3) indices (slice, row, column) to (..., 3) LPS mm."""
        return np.asarray(index, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_index(self, lps_mm: ArrayLike) -> NDArray[np.float64]:
        """(..., 3) LPS mm to (..., 3) fractional indices (slice, row, column)."""
        return (np.asarray(lps_mm, np.float64) - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T

    def contains(self, lps_mm: ArrayLike) -> NDArray[np.bool_]:
        """(...) whether the points lie inside the box (voxels reach half a voxel beyond their centers)."""
        index = self.to_index(lps_mm)
        return np.asarray(((index >= -0.5) & (index <= np.array(self.shape) - 0.5)).all(axis=-1))

    def same_as(self, other: Grid, tolerance_mm: float = 1e-2) -> bool:
        """Whether both grids have the same shape and all eight corners agree within `tolerance_mm`."""
        if self.shape != other.shape:
            return False
        corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(self.shape) - 1)
        return bool(np.abs(self.to_lps(corners) - other.to_lps(corners)).max() <= tolerance_mm)

    def crop(self, lower: Corner, upper: Corner) -> Grid:
        """The part from index `lower` up to, not including, `upper`."""
        affine = self.affine.copy()
        affine[:3, 3] = self.to_lps(lower)
        return Grid(tuple(int(b - a) for a, b in zip(lower, upper, strict=True)), affine)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxel values on a grid: Hounsfield units of a CT, probabilities, or the labels of a mask.

    voxels: (slices, rows, columns). source: what it was read from (a series UID or a file's name).
    """

    voxels: NDArray
    grid: Grid
    source: str = ""

    def __post_init__(self) -> None:
        if self.voxels.shape != self.grid.shape:
            raise GridError(f"voxels of shape {self.voxels.shape} do not fit a grid of shape {self.grid.shape}")

    def crop(self, lower: Corner, upper: Corner) -> Volume:
        """A view on the part from index `lower` up to, not including, `upper`."""
        part = tuple(slice(int(a), int(b)) for a, b in zip(lower, upper, strict=True))
        return Volume(self.voxels[part], self.grid.crop(lower, upper), self.source)


def place(part: Grid, whole: Grid) -> tuple[slice, slice, slice]:
    """Where a crop of `whole` lies in it: `whole_voxels[place(part, whole)]` are the crop's voxels."""
    lower = np.rint(whole.to_index(part.affine[:3, 3])).astype(int)
    k, j, i = (slice(int(a), int(a) + n) for a, n in zip(lower, part.shape, strict=True))
    return k, j, i


def box_around(grid: Grid, other: Grid, margin: int = 1) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The smallest index box (lower, upper) of `grid` that covers `other`, clipped to `grid`.

    The box is empty (lower == upper along an axis) where the two do not meet.
    """
    corners = np.array(list(np.ndindex(2, 2, 2))) * np.array(other.shape) - 0.5
    index = grid.to_index(other.to_lps(corners))
    lower = np.clip(np.floor(index.min(axis=0)).astype(np.int64) - margin, 0, grid.shape)
    upper = np.clip(np.ceil(index.max(axis=0)).astype(np.int64) + 1 + margin, 0, grid.shape)
    return lower, np.maximum(lower, upper)


def resample(volume: Volume, grid: Grid, *, fill: float | None = AIR_HU, order: int = 1) -> Volume:
    """Sample `volume` at the voxel centers of `grid`: voxels move once, here.

    order: 1 interpolates linearly (images, probabilities), 0 takes the nearest voxel (labels).
    Where `grid` is coarser than `volume`, a linear read would alias noise, so the source is first
    averaged over the width of a target voxel. Outside `volume` the result is `fill`, or with None
    the nearest voxel's value.

    Returns float32 voxels for order 1, the input's type for order 0.
    """
    dtype = np.float32 if order else volume.voxels.dtype
    steps = np.linalg.solve(volume.grid.affine[:3, :3], grid.affine[:3, :3])  # target steps in source voxels
    widths = np.abs(steps).max(axis=1) if order else np.ones(3)
    lower, upper = box_around(volume.grid, grid, margin=1 + int(np.ceil(widths.max())))
    if fill is None:  # at least the nearest layer of voxels, to be continued
        lower = np.minimum(lower, np.array(volume.grid.shape) - 1)
        upper = np.maximum(upper, lower + 1)
    elif (lower == upper).any():
        return Volume(np.full(grid.shape, fill, dtype), grid, volume.source)
    part = volume.crop(lower, upper)
    offset = part.grid.to_index(grid.affine[:3, 3])
    deviations = [0.289 * w if w > AVERAGED and n > 1 else 0.0 for w, n in zip(widths, part.voxels.shape, strict=True)]
    if order and np.allclose(steps, np.diag(np.diag(steps)), atol=1e-9):
        sampled = _along_axes(part.voxels, grid.shape, np.diag(steps), offset, deviations)
    else:
        voxels = part.voxels.astype(dtype, copy=False)
        for axis, deviation in enumerate(deviations):
            if deviation:
                voxels = ndimage.gaussian_filter1d(voxels, deviation, axis=axis, mode="nearest")
        sampled = ndimage.affine_transform(
            voxels, steps, offset, output_shape=grid.shape, output=dtype, order=order, mode="nearest", prefilter=False
        )
    if fill is not None:
        fill_outside(sampled, grid, volume.grid, fill)
    return Volume(sampled, grid, volume.source)


def _along_axes(
    voxels: NDArray, shape: Shape, steps: NDArray, offset: NDArray, deviations: Sequence[float]
) -> NDArray[np.float32]:
    """Sample an axis after the other, where none is turned: the same numbers in a fraction of the time."""
    slices, rows, columns = (
        _sampling(length, step * np.arange(n) + start, deviation)
        for length, n, step, start, deviation in zip(voxels.shape, shape, steps, offset, deviations, strict=True)
    )
    # Plane by plane, since all voxels as float32 would take twice the memory of the CT.
    planes = np.stack([rows @ plane.astype(np.float32, copy=False) for plane in voxels])
    lines = (slices @ planes.reshape(len(planes), -1)).reshape(-1, planes.shape[2])
    return np.ascontiguousarray((columns @ lines.T).T).reshape(shape)


def _sampling(length: int, positions: NDArray, deviation: float) -> sparse.csr_array:
    """(positions, length) weights that average an axis by a Gaussian, then interpolate linearly; its ends go on."""
    positions = np.clip(positions, 0, length - 1)
    first = np.minimum(positions.astype(int), max(length - 2, 0))
    reach = int(4 * deviation + 0.5)
    around = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (around / deviation) ** 2) if deviation else np.ones(1)
    second = (positions - first)[:, None] * kernel / kernel.sum()
    whole = np.zeros((len(positions), len(kernel) + 1))
    whole[:, :-1] = kernel / kernel.sum() - second
    whole[:, 1:] += second
    where = np.clip(first[:, None] + np.arange(-reach, reach + 2), 0, length - 1)
    ends = np.arange(len(positions) + 1) * whole.shape[1]
    weights = sparse.csr_array((whole.ravel().astype(np.float32), where.ravel(), ends), (len(positions), length))
    weights.sum_duplicates()
    return weights


def fill_outside(voxels: NDArray, grid: Grid, source: Grid, fill: float) -> None:
    """Write `fill` into every voxel of `grid` whose center lies outside the box of `source`."""
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(grid.shape) - 1)
    if source.contains(grid.to_lps(corners)).all():
        return
    steps = np.linalg.solve(source.affine[:3, :3], grid.affine[:3, :3])
    offset = source.to_index(grid.affine[:3, 3])
    axes = [np.arange(n, dtype=np.float64) for n in grid.shape]
    outside = np.zeros(grid.shape, dtype=bool)
    for axis in range(3):
        k, j, i = (steps[axis, d] * axes[d] for d in range(3))
        index = offset[axis] + k[:, None, None] + j[None, :, None] + i[None, None, :]
        outside |= (index < -0.5) | (index > source.shape[axis] - 0.5)
    voxels[outside] = fill

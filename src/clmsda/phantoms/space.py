"""Where shapes are evaluated: the voxel centers of a grid, or loose points."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clmsda.geometry import Grid

Index = tuple[slice, ...]
Field = TypeVar("Field", Tensor, Tensor | None)
_PIECE_VOXELS = 1 << 18


@dataclass(frozen=True, eq=False)
class Space:
    """Points in LPS mm at which fields are evaluated.

    x, y, z: float32, broadcastable to `shape`; an axis along which a coordinate does not change has
    length 1, so on an axial grid most of the arithmetic happens on vectors and planes.
    width_mm: over how many mm an edge is smeared (about one voxel in the plane).
    lower_mm, upper_mm: (3,) bounds. affine: (4, 4) from index to LPS mm, None for loose points.
    whole, at: of a part that is painted by itself, the space that it is cut from, and where. drawn: what is not
    computed voxel by voxel (tubes, textures), kept for the parts of this space.
    """

    x: Tensor
    y: Tensor
    z: Tensor
    shape: tuple[int, ...]
    width_mm: float
    lower_mm: NDArray[np.float64]
    upper_mm: NDArray[np.float64]
    affine: NDArray[np.float64] | None = None
    inverse: NDArray | None = None
    whole: Space | None = None
    at: Index = ()
    drawn: dict[tuple[object, ...], Any] = field(default_factory=dict)

    @classmethod
    def of_grid(cls, grid: Grid, device: torch.device | str = "cpu") -> Space:
        affine = np.asarray(grid.affine)
        spacing = grid.spacing_mm
        corners = grid.to_lps(np.array(list(np.ndindex(2, 2, 2))) * (np.array(grid.shape) - 1))
        x, y, z = (_coordinate(affine[row], grid.shape, device) for row in range(3))
        return cls(
            x,
            y,
            z,
            grid.shape,
            float(spacing[1] + spacing[2]) / 2,
            corners.min(axis=0),
            corners.max(axis=0),
            affine,
            np.linalg.inv(affine),
        )

    @classmethod
    def of_points(cls, points_mm: NDArray, width_mm: float = 1.0) -> Space:
        """points_mm: (n, 3) LPS."""
        x, y, z = torch.from_numpy(np.asarray(points_mm, dtype=np.float32).T.copy())
        return cls(x, y, z, tuple(x.shape), width_mm, points_mm.min(axis=0), points_mm.max(axis=0))

    @property
    def device(self) -> torch.device:
        return self.x.device

    def full(self, value: float) -> Tensor:
        return torch.full(self.shape, value, dtype=torch.float32, device=self.device)

    def coordinates(self) -> Tensor:
        """(n, 3) all points, in the order of a flattened field."""
        return torch.stack([c.expand(self.shape).reshape(-1) for c in (self.x, self.y, self.z)], dim=1)

    def sub(self, lower_mm: NDArray, upper_mm: NDArray) -> tuple[Index, Space] | None:
        """The part inside the LPS box, with the index that cuts the same part out of a field; None if empty."""
        slack = self.width_mm
        for low, high, own_low, own_high in zip(lower_mm, upper_mm, self.lower_mm, self.upper_mm, strict=True):
            if high < own_low - slack or low > own_high + slack:
                return None
        if self.affine is None or self.inverse is None:
            return (slice(None),), self
        middle, half = (lower_mm + upper_mm) / 2, (upper_mm - lower_mm) / 2 + self.width_mm
        center = self.inverse[:3, :3] @ middle + self.inverse[:3, 3]
        reach = np.abs(self.inverse[:3, :3]) @ half
        first = np.clip(np.floor(center - reach), 0, self.shape).astype(int)
        last = np.clip(np.ceil(center + reach) + 1, 0, self.shape).astype(int)
        if (first >= last).any():
            return None
        return self._cut(first, last)

    def part(self, lower_mm: NDArray, upper_mm: NDArray) -> tuple[Index, Space] | None:
        """As `sub`, for a large part: what is near its border is drawn as on this space, to the last bit."""
        found = self.sub(lower_mm, upper_mm)
        return found and (found[0], replace(found[1], whole=self, at=found[0]))

    def pieces(self) -> Iterator[tuple[Index, Space]]:
        """All of it, some slices at a time: few enough voxels to stay in the processor's cache.
        What is not computed voxel by voxel is drawn on the whole, as matrix products of few rows are rounded otherwise.
        """
        step = max(1, _PIECE_VOXELS // (self.shape[1] * self.shape[2]))
        for first in range(0, self.shape[0], step):
            low, high = np.array([first, 0, 0]), np.array([min(first + step, self.shape[0]), *self.shape[1:]])
            index, piece = self._cut(low, high)
            yield index, replace(piece, lower_mm=self.lower_mm, upper_mm=self.upper_mm, whole=self, at=index)

    def from_whole(self, key: tuple[object, ...], draw: Callable[[Space], Field]) -> Field:
        """This part of a field that is drawn once, on the whole. key: what the field is."""
        assert self.whole is not None
        if key not in self.whole.drawn:
            self.whole.drawn[key] = draw(self.whole)
        values: Field = self.whole.drawn[key]
        if values is None:
            return values
        return values[tuple(s if n > 1 else slice(None) for s, n in zip(self.at, values.shape, strict=True))]

    def inside(self, distance: Tensor) -> list[tuple[Index, Space]]:
        """Boxes, left and right of the middle of the body, that hold all voxels that a shape covers in part."""
        near = distance.amin(dim=0) < 0.5 * self.width_mm
        assert self.inverse is not None
        middle = int(np.clip(self.inverse[2, 3], 0, self.shape[2]))
        boxes = []
        for first, last in ((0, middle), (middle, self.shape[2])):
            rows, columns = near[:, first:last].any(dim=1).nonzero(), near[:, first:last].any(dim=0).nonzero()
            if len(rows):
                low = np.array([0, int(rows[0]), first + int(columns[0])])
                high = np.array([self.shape[0], int(rows[-1]) + 1, first + int(columns[-1]) + 1])
                index, box = self._cut(low, high)
                boxes.append((index, replace(box, whole=self, at=index)))
        return boxes

    def chosen(self, mask: Tensor) -> tuple[tuple[Tensor, ...], Space]:
        """The voxels of a mask as loose points, and their index."""
        index = mask.nonzero(as_tuple=True)
        x, y, z = (pick(c, index) for c in (self.x, self.y, self.z))
        return index, Space(x, y, z, tuple(x.shape), self.width_mm, self.lower_mm, self.upper_mm)

    def _cut(self, first: NDArray, last: NDArray) -> tuple[Index, Space]:
        assert self.affine is not None
        index = tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
        x, y, z = (
            c[tuple(s if n > 1 else slice(None) for s, n in zip(index, c.shape, strict=True))]
            for c in (self.x, self.y, self.z)
        )
        affine = self.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ first
        shape = tuple(int(n) for n in last - first)
        middle = affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3]
        half = np.abs(affine[:3, :3]) @ ((np.array(shape) - 1) / 2)
        space = Space(x, y, z, shape, self.width_mm, middle - half, middle + half, affine, np.linalg.inv(affine))
        return index, space


def pick(values: Tensor, index: tuple[Tensor, ...]) -> Tensor:
    """(n,) values at n voxels; an axis of length 1 is the same everywhere."""
    return values[tuple(i if n > 1 else torch.zeros_like(i) for i, n in zip(index, values.shape, strict=True))]


def _coordinate(row: NDArray, shape: tuple[int, int, int], device: torch.device | str) -> Tensor:
    """One LPS coordinate of all voxel centers; axes along which it does not change keep length 1."""
    total = np.full((1, 1, 1), row[3], dtype=np.float64)
    for axis, length in enumerate(shape):
        if abs(row[axis]) * length > 1e-6:
            total = total + (row[axis] * np.arange(length)).reshape([-1 if a == axis else 1 for a in range(3)])
    return torch.from_numpy(total.astype(np.float32)).to(device)

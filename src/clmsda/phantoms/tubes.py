"""Thousands of tapered tubes on a grid at once: vessels, bronchi, spicules, great vessels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clmsda.phantoms.shapes import FAR_MM
from clmsda.phantoms.space import Index, Space

_BOXES = np.array([3, 4, 5, 6, 8, 10, 12, 16, 20])
"""Edge lengths, in voxels, of the boxes in which short tubes are evaluated in one batch."""
_BATCH_VOXELS = 1 << 20

Batch = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Tubes:
    """start_mm, end_mm: (n, 3) LPS. start_radius_mm, end_radius_mm: (n,)."""

    start_mm: NDArray[np.float64]
    end_mm: NDArray[np.float64]
    start_radius_mm: NDArray[np.float64]
    end_radius_mm: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.start_mm)

    @classmethod
    def none(cls) -> Tubes:
        return cls(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0), np.zeros(0))

    @classmethod
    def along(cls, points_mm: NDArray, radii_mm: NDArray) -> Tubes:
        """One tube through (n, 3) points with (n,) radii."""
        points, radii = np.asarray(points_mm, float), np.asarray(radii_mm, float)
        return cls(points[:-1], points[1:], radii[:-1], radii[1:])

    @classmethod
    def joined(cls, parts: list[Tubes]) -> Tubes:
        if not parts:
            return cls.none()
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in cls.__dataclass_fields__))

    def __getitem__(self, chosen: NDArray | slice) -> Tubes:
        return Tubes(
            self.start_mm[chosen], self.end_mm[chosen], self.start_radius_mm[chosen], self.end_radius_mm[chosen]
        )

    def near(self, space: Space, margin_mm: float) -> Index:
        """The part of a space that holds all that is within the margin of a tube; all of it for loose points."""
        if space.affine is None:
            return (slice(None),)
        radius = np.maximum(self.start_radius_mm, self.end_radius_mm)[:, None] + margin_mm
        lower, upper = np.minimum(self.start_mm, self.end_mm) - radius, np.maximum(self.start_mm, self.end_mm) + radius
        close = np.all((upper >= space.lower_mm) & (lower <= space.upper_mm), axis=1)
        found = space.sub(lower[close].min(axis=0), upper[close].max(axis=0)) if close.any() else None
        return found[0] if found else (slice(0),)

    def grown(self, factor: float = 1.0, plus_mm: float = 0.0) -> Tubes:
        return Tubes(
            self.start_mm, self.end_mm, self.start_radius_mm * factor + plus_mm, self.end_radius_mm * factor + plus_mm
        )


def tube_coverage(space: Space, tubes: Tubes) -> Tensor | None:
    """How much of each voxel tubes cover, 0..1; None where no tube comes near.

    A tube thinner than a voxel never covers more than its cross section.
    """
    if space.whole is not None:
        return space.from_whole((tubes,), lambda whole: tube_coverage(whole, tubes))
    width = space.width_mm
    field = None
    for base, flat, distance, radius in _boxes(space, tubes, width / 2):
        if field is None:
            field = space.full(0.0)
        tube, voxel = (distance < width / 2).nonzero(as_tuple=True)
        most = radius[tube, voxel].square_().mul_(math.pi / width**2).clamp_(max=1)
        alpha = torch.minimum((0.5 - distance[tube, voxel] / width).clamp_(max=1), most)
        field.view(-1).scatter_reduce_(0, base[tube] + flat[voxel], alpha, "amax")
    return field


def tube_distance(space: Space, tubes: Tubes, reach_mm: float) -> Tensor | None:
    """Distance (mm) to the nearest tube's surface, FAR_MM beyond `reach_mm`; None where no tube comes near.

    At loose points it is exact however far away.
    """
    if space.whole is not None:
        return space.from_whole((tubes, reach_mm), lambda whole: tube_distance(whole, tubes, reach_mm))
    if space.affine is None:
        return _point_distance(space, tubes)
    field = None
    for base, flat, distance, _ in _boxes(space, tubes, reach_mm):
        if field is None:
            field = space.full(FAR_MM)
        tube, voxel = (distance < reach_mm).nonzero(as_tuple=True)
        field.view(-1).scatter_reduce_(0, base[tube] + flat[voxel], distance[tube, voxel], "amin")
    return field


def _point_distance(space: Space, tubes: Tubes) -> Tensor:
    distance, _ = _distance(space.coordinates()[None], _parameters(tubes, space.device, extra=True))
    return distance.amin(dim=-2).reshape(space.shape)


def _parameters(tubes: Tubes, device: torch.device, extra: bool = False) -> tuple[Tensor, ...]:
    step = tubes.end_mm - tubes.start_mm
    length2 = np.maximum((step**2).sum(axis=1), 1e-6)
    values = (tubes.start_mm, step, 1 / length2, tubes.start_radius_mm, tubes.end_radius_mm - tubes.start_radius_mm)
    tensors = tuple(torch.from_numpy(v.astype(np.float32)).to(device) for v in values)
    return tuple(t[:, None] if extra and t.dim() == 1 else t for t in tensors)


def _distance(points: Tensor, parameters: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """(1, m, 3) points and n tubes to (n, m) distances and radii."""
    start, step, inverse, radius, change = parameters
    relative = points - start[:, None]
    along = ((relative * step[:, None]).sum(-1) * inverse).clamp_(0, 1)
    gap = (relative - along[..., None] * step[:, None]).norm(dim=-1)
    thickness = radius + along * change
    return gap - thickness, thickness


def _boxes(space: Space, tubes: Tubes, margin_mm: float) -> Iterator[Batch]:
    """Yield batches of tubes, each in a box of one size, until all are done.

    (n,) flat index of each box's first voxel, (m,) offsets of its voxels, (n, m) distances and radii in mm.
    """
    if not len(tubes):
        return
    assert space.affine is not None and space.inverse is not None
    inverse = space.inverse[:3, :3]
    radius = np.maximum(tubes.start_radius_mm, tubes.end_radius_mm)[:, None] + margin_mm
    lower = np.minimum(tubes.start_mm, tubes.end_mm) - radius
    upper = np.maximum(tubes.start_mm, tubes.end_mm) + radius
    near: NDArray = np.flatnonzero(np.all((upper >= space.lower_mm) & (lower <= space.upper_mm), axis=1))
    if not near.size:
        return
    tubes = _split(tubes[near], space.width_mm, margin_mm)
    radius = np.maximum(tubes.start_radius_mm, tubes.end_radius_mm)[:, None] + margin_mm
    lower = np.minimum(tubes.start_mm, tubes.end_mm) - radius
    upper = np.maximum(tubes.start_mm, tubes.end_mm) + radius
    center = ((lower + upper) / 2) @ inverse.T + space.inverse[:3, 3]
    reach = ((upper - lower) / 2) @ np.abs(inverse).T
    shape = np.array(space.shape)
    first = np.clip(np.ceil(center - reach), 0, shape).astype(np.int64)
    size = np.clip(np.floor(center + reach) + 1, 0, shape).astype(np.int64) - first
    inside = (size > 0).all(axis=1)
    tubes, first, size = tubes[inside], first[inside], size[inside]
    edge = size.max(axis=1, initial=0)
    small = edge <= _BOXES[-1]
    bucket = _BOXES[np.searchsorted(_BOXES, edge[small])]
    chosen = np.flatnonzero(small)
    for length in np.unique(bucket):
        box = np.minimum(length, shape)
        step = max(1, _BATCH_VOXELS // int(box.prod()))
        members = chosen[bucket == length]
        for start in range(0, len(members), step):
            part = members[start : start + step]
            yield _evaluate(space, tubes[part], np.clip(first[part], 0, shape - box), box)
    for one in np.flatnonzero(~small):
        box = np.minimum((size[one] + 7) // 8 * 8, shape)  # few sizes, so that what belongs to a box is made once
        yield _evaluate(space, tubes[one : one + 1], np.minimum(first[one : one + 1], shape - box), box)


def _split(tubes: Tubes, width_mm: float, margin_mm: float) -> Tubes:
    """The same tubes in shorter pieces, so that the boxes around them hold little else."""
    step = tubes.end_mm - tubes.start_mm
    radius = np.maximum(tubes.start_radius_mm, tubes.end_radius_mm) + margin_mm
    pieces = np.ceil(np.linalg.norm(step, axis=1) / (3.0 * width_mm + 1.5 * radius)).astype(np.int64).clip(1)
    tube = np.repeat(np.arange(len(tubes)), pieces)
    number = np.arange(len(tube)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    first, last = number / pieces[tube], (number + 1) / pieces[tube]
    start, change = tubes.start_radius_mm[tube], (tubes.end_radius_mm - tubes.start_radius_mm)[tube]
    origin, step = tubes.start_mm[tube], step[tube]
    return Tubes(
        origin + first[:, None] * step, origin + last[:, None] * step, start + first * change, start + last * change
    )


@lru_cache(maxsize=24)
def _box_offsets(
    box: tuple[int, ...], linear: tuple[float, ...], shape: tuple[int, ...], device: str
) -> tuple[Tensor, Tensor, Tensor]:
    """For the m voxels of a box: (3, m) mm from its middle, their squares' sum (m,), steps in a flat field (m,)."""
    axes = np.array(linear).reshape(3, 3)
    k, j, i = (
        torch.arange(n, device=device).reshape([-1 if a == axis else 1 for a in range(3)]) for axis, n in enumerate(box)
    )
    flat = ((k * shape[1] + j) * shape[2] + i).reshape(-1)
    k, j, i = (c - (n - 1) / 2 for c, n in zip((k, j, i), box, strict=True))
    offsets = torch.stack([(k * row[0] + j * row[1] + i * row[2]).reshape(-1) for row in axes.tolist()])
    return offsets, offsets.square().sum(dim=0), flat


def _evaluate(space: Space, tubes: Tubes, first: NDArray, box: NDArray) -> Batch:
    """n tubes in n boxes of one size. Distances squared come from matrix products, not from coordinates."""
    assert space.affine is not None
    device, linear, shape = space.device, space.affine[:3, :3], space.shape
    key = (tuple(box.tolist()), tuple(linear.ravel().tolist()), shape, str(device))
    offsets, offsets2, flat = _box_offsets(*key)
    corner = (first + (box - 1) / 2) @ linear.T + space.affine[:3, 3] - tubes.start_mm
    axis = tubes.end_mm - tubes.start_mm
    length2 = np.maximum((axis**2).sum(axis=1), 1e-6)

    def tensor(values: NDArray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(device)

    dot = torch.addmm(tensor((corner * axis).sum(axis=1))[:, None], tensor(axis), offsets)
    square = torch.addmm(offsets2[None], tensor(2 * corner), offsets)
    square += tensor((corner**2).sum(axis=1))[:, None]
    along = (dot * tensor(1 / length2)[:, None]).clamp_(0, 1)
    square -= dot.mul_(2).addcmul_(along, tensor(length2)[:, None], value=-1).mul_(along)
    radius = along.mul_(tensor(tubes.end_radius_mm - tubes.start_radius_mm)[:, None])
    radius += tensor(tubes.start_radius_mm)[:, None]
    distance = square.clamp_(min=0).sqrt_().sub_(radius)
    base = first @ np.array([shape[1] * shape[2], shape[2], 1])
    return torch.from_numpy(base).to(device), flat, distance, radius

"""Signed distances (mm, negative inside) of simple shapes, and how they join and are painted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clmsda.phantoms.space import Space

FAR_MM = 1000.0


def smooth_step(t: Tensor) -> Tensor:
    t = t.clamp(0, 1)
    return t * t * (3 - 2 * t)


def smooth_max(a: Tensor, b: Tensor, radius_mm: float) -> Tensor:
    """Intersection whose edges are rounded."""
    bulge = (radius_mm - (a - b).abs_()).clamp_(min=0)
    return torch.maximum(a, b).add_(bulge.square_(), alpha=0.25 / radius_mm)


def smooth_min(a: Tensor, b: Tensor, radius_mm: float) -> Tensor:
    """Union with a fillet."""
    bulge = (radius_mm - (a - b).abs_()).clamp_(min=0)
    return torch.minimum(a, b).sub_(bulge.square_(), alpha=0.25 / radius_mm)


def coverage(distance: Tensor, width_mm: float) -> Tensor:
    """How much of a voxel the shape covers, 0..1."""
    return (distance * (-1 / width_mm)).add_(0.5).clamp_(0, 1)


def sheet_coverage(distance: Tensor, half_thickness_mm: float, width_mm: float) -> Tensor:
    """Coverage of a sheet around distance 0; never more than its thickness fills of a voxel."""
    most = min(1.0, 2 * half_thickness_mm / width_mm)
    return (distance.abs() - half_thickness_mm).mul_(-1 / width_mm).add_(0.5).clamp_(0, most)


def blend(hu: Tensor, alpha: Tensor, value: Tensor | float) -> None:
    """Paint `value` over `hu` in place."""
    if isinstance(value, Tensor):
        hu.add_((value - hu).mul_(alpha))
    else:
        hu.add_((hu - value).mul_(alpha), alpha=-1)


def rotation(rng: np.random.Generator, amount: float = 1.0) -> NDArray[np.float64]:
    """(3, 3) random rotation; `amount` below 1 keeps it near the identity."""
    vector = rng.normal(size=3) * 1.2 * amount
    return rotation_about(vector)


def rotation_about(vector: NDArray) -> NDArray[np.float64]:
    """(3, 3) rotation about `vector` by its length in radians (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-9:
        return np.eye(3)
    a, b, c = np.asarray(vector) / angle
    cross = np.array([[0, -c, b], [c, 0, -a], [-b, a, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)


def axes_along(direction: NDArray) -> NDArray[np.float64]:
    """(3, 3) right-handed axes as columns, the first of them along a unit vector."""
    helper = np.eye(3)[int(np.abs(direction).argmin())]
    second = np.cross(direction, helper)
    second /= np.linalg.norm(second)
    return np.column_stack([direction, second, np.cross(direction, second)])


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """center_mm: (3,). radii_mm: (3,). axes: (3, 3), columns are the directions of the radii."""

    center_mm: NDArray[np.float64]
    radii_mm: NDArray[np.float64]
    axes: NDArray[np.float64]

    @classmethod
    def upright(cls, center_mm: object, radii_mm: object, axes: NDArray | None = None) -> Ellipsoid:
        return cls(np.asarray(center_mm, float), np.asarray(radii_mm, float), np.eye(3) if axes is None else axes)

    def bounds(self, margin_mm: float) -> tuple[NDArray, NDArray]:
        half = np.sqrt(((self.axes * self.radii_mm) ** 2).sum(axis=1)) + margin_mm
        return self.center_mm - half, self.center_mm + half

    def distance(self, space: Space) -> Tensor:
        x, y, z = (c - float(m) for c, m in zip((space.x, space.y, space.z), self.center_mm, strict=True))
        first: Tensor | None = None
        second: Tensor | None = None
        for radius, (a, b, c) in zip(self.radii_mm, self.axes.T, strict=True):
            along = (x * float(a / radius) + y * float(b / radius) + z * float(c / radius)).square_()
            scaled = along * float(1 / radius**2)
            first, second = (along, scaled) if first is None else (first + along, second + scaled)  # type: ignore[operator]
        assert first is not None and second is not None
        norm = first.sqrt_()
        return norm * (norm - 1) / second.sqrt_().clamp_(min=1e-6)

"""Star-shaped lumpy surfaces: a radius for every direction."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clmsda.phantoms.shapes import rotation
from clmsda.phantoms.space import Space
from clmsda.phantoms.textures import texture

SPIKE = 35.0
"""Bumps of this sharpness are narrower than a fifth of the radius."""
_CHUNK = 8192


@dataclass(frozen=True, eq=False)
class Star:
    """A surface at distance radius_mm * (1 + bumps) from its center, stretched along three axes.

    stretch: (3,) and axes: (3, 3) of the ellipsoid. directions: (n, 3) unit vectors of the bumps, heights: (n,)
    relative, sharpness: (n,) (2 broad lobe .. 150 spike); a bump is (1 - s (1 - cos) / 4)**4, nearly exp(-s (1 - cos)),
    and ends. rough: noise on the surface, relative to the radius.
    most: largest relative radius.
    """

    center_mm: NDArray[np.float64]
    radius_mm: float
    stretch: NDArray[np.float64]
    axes: NDArray[np.float64]
    directions: NDArray[np.float64]
    heights: NDArray[np.float64]
    sharpness: NDArray[np.float64]
    rough: float
    grain: float
    offset: NDArray[np.float64]
    most: float = 1.0

    def outlined(self) -> Star:
        """The surface that a reader draws: without the spikes, which are too thin to follow."""
        broad = self.sharpness < SPIKE
        return replace(
            self, directions=self.directions[broad], heights=self.heights[broad], sharpness=self.sharpness[broad]
        )

    def reach_mm(self) -> NDArray[np.float64]:
        """(3,) half extents of a box around it, loosely."""
        return self.most * self.radius_mm * np.sqrt(((self.axes * self.stretch) ** 2).sum(axis=1))

    def bounds(self, margin_mm: float) -> tuple[NDArray, NDArray]:
        reach = self.reach_mm() + margin_mm
        return self.center_mm - reach, self.center_mm + reach

    def swell(self, units: Tensor) -> Tensor:
        """(n, 3) unit vectors to (n,) relative radii."""
        slopes = torch.from_numpy((self.directions * self.sharpness[:, None] / 4).astype(np.float32)).to(units.device)
        offsets = torch.from_numpy((1 - self.sharpness / 4).astype(np.float32)).to(units.device)
        heights = torch.from_numpy(self.heights.astype(np.float32)).to(units.device)
        parts = units.split(_CHUNK)  # small enough to stay in the cache
        bumps = (torch.addmm(offsets, part, slopes.T).clamp_(min=0).square_().square_() @ heights for part in parts)
        return torch.cat(list(bumps)).add_(1).clamp_(min=0.15)

    def distance(self, space: Space) -> Tensor:
        matrix = (self.axes / self.stretch).T.astype(np.float32)
        center = torch.from_numpy(self.center_mm.astype(np.float32)).to(space.device)
        points = (space.coordinates() - center) @ torch.from_numpy(matrix.T.copy()).to(space.device)
        away = points.norm(dim=1).clamp_(min=1e-3)
        radius = self.swell(points.div_(away[:, None]))
        distance = (away - radius * self.radius_mm).reshape(space.shape)
        if self.rough > 0:
            distance = distance + (self.rough * self.radius_mm) * texture(
                space, self.grain * self.radius_mm, self.offset
            )
        return distance.mul_(0.85 * float(self.stretch.mean()))


def sample_star(
    rng: np.random.Generator, center_mm: NDArray, size_mm: float, lumpiness: float, spikes: int = 0
) -> Star:
    """A star whose longest axial diameter is about `size_mm`, were it free."""
    lobes = int(rng.integers(6, 16))
    spurs = int(rng.integers(1, 7)) if rng.random() < 0.3 * lumpiness else 0
    directions = rng.normal(size=(lobes + spurs + spikes, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    heights = np.concatenate(
        [rng.normal(0.0, 0.22, lobes) * lumpiness, rng.uniform(0.2, 0.8, spurs), rng.uniform(0.12, 0.5, spikes)]
    )
    sharpness = np.concatenate([rng.uniform(1.5, 14, lobes), rng.uniform(12, 45, spurs), rng.uniform(40, 160, spikes)])
    stretch = np.exp(rng.normal(0, 0.2, size=3))
    star = Star(
        center_mm=np.asarray(center_mm, float),
        radius_mm=1.0,
        stretch=stretch / stretch.max(),
        axes=rotation(rng),
        directions=directions,
        heights=heights,
        sharpness=sharpness,
        rough=rng.uniform(0.01, 0.08) * lumpiness,
        grain=rng.uniform(0.2, 0.8),
        offset=rng.uniform(size=3),
    )
    reach = _relative_radii(star, np.vstack([_UNITS, directions])).max()
    return replace(star, radius_mm=size_mm / axial_diameter(star), most=1.05 * reach + 2.5 * star.rough)


_SPHERE = np.arange(400) + 0.5
_HEIGHT = 1 - 2 * _SPHERE / 400
_TURN = np.pi * (1 + 5**0.5) * _SPHERE
_UNITS = np.column_stack([np.sqrt(1 - _HEIGHT**2) * np.cos(_TURN), np.sqrt(1 - _HEIGHT**2) * np.sin(_TURN), _HEIGHT])


def _relative_radii(star: Star, units: NDArray) -> NDArray[np.float64]:
    slopes = 1 + (units @ star.directions.T - 1) * (star.sharpness / 4)
    return np.maximum(1 + np.maximum(slopes, 0) ** 4 @ star.heights, 0.15)


def axial_diameter(star: Star) -> float:
    """Longest diameter near the star's equator."""
    radii = _relative_radii(star, _UNITS)
    points = (_UNITS * radii[:, None] * star.stretch) @ star.axes.T * star.radius_mm
    flat = points[np.abs(points[:, 2]) < 0.25 * star.radius_mm][:, :2]
    angles = np.linspace(0, np.pi, 24, endpoint=False)
    along = flat @ np.stack([np.cos(angles), np.sin(angles)])
    return float((along.max(axis=0) - along.min(axis=0)).max())


def scaled(star: Star, factor: float, center_mm: NDArray) -> Star:
    """Larger or smaller as seen from `center_mm`."""
    return replace(star, center_mm=center_mm + factor * (star.center_mm - center_mm), radius_mm=star.radius_mm * factor)

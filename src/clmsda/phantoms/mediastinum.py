"""Between the lungs: heart, great vessels, airways, esophagus, spine's front, and the fat around them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clmsda.phantoms.great_vessels import GreatVessels, sample_great_vessels
from clmsda.phantoms.shapes import Ellipsoid, rotation_about, smooth_min, smooth_step
from clmsda.phantoms.space import Space
from clmsda.phantoms.tubes import tube_distance

_REACH_MM = 7.0
"""How far beyond its fat a structure is felt: more than the radius with which it joins its neighbors."""


def interpolate(z: Tensor, heights: NDArray, values: NDArray) -> Tensor:
    """Piecewise linear in z."""
    table = np.interp(z.detach().cpu().numpy(), heights, values).astype(np.float32)
    return torch.from_numpy(table).to(z.device)


@dataclass(frozen=True, eq=False)
class Mediastinum:
    """heart: muscle. chambers: its blood. arteries, veins: great vessels.

    airways: trachea and main bronchi, outer wall.

    core_heights_mm, core_widths_mm: half width of the middle part by height.
    spine_y_mm: of the vertebral bodies' center at heights spine_z_mm; spine_radius_mm (x, y).
    fat_mm: layer of fat around vessels and heart.
    """

    heart: tuple[Ellipsoid, ...]
    chambers: tuple[Ellipsoid, ...]
    great: GreatVessels
    airway_wall_mm: float
    core_heights_mm: NDArray[np.float64]
    core_widths_mm: NDArray[np.float64]
    core_x_mm: float
    front_mm: float
    taper_mm: float
    waist: float
    bow_mm: float
    spine_z_mm: NDArray[np.float64]
    spine_y_mm: NDArray[np.float64]
    spine_radius_mm: tuple[float, float]
    fat_mm: float

    def spine_y(self, z: Tensor) -> Tensor:
        return interpolate(z, self.spine_z_mm, self.spine_y_mm)

    def distances(self, space: Space) -> tuple[Tensor, Tensor, tuple[Tensor | None, ...]]:
        """(mediastinum with its fat, the great solid structures alone, each of `GreatVessels.parts`)."""
        great = self._spine(space)
        reach = _REACH_MM + self.fat_mm
        for part in self.heart:
            inside = space.sub(*part.bounds(reach))
            if inside is not None:
                index, sub = inside
                great = _minimum(great, index, part.distance(sub), space)
        tubes = tuple(tube_distance(space, part, reach) for part in self.great.parts)
        for part_tubes, distance in zip(self.great.parts, tubes, strict=True):
            if distance is not None:
                index = part_tubes.near(space, reach)  # where it is not, it is farther than all else
                great = _minimum(great, index, distance[index], space)
        core = self._core(space)
        return smooth_min(core, great - self.fat_mm, 5.0), great, tubes

    def _core(self, space: Space) -> Tensor:
        """Half a width that narrows to a thin line behind the sternum and to a waist before the spine."""
        width = interpolate(space.z, self.core_heights_mm, self.core_widths_mm)
        front = smooth_step((space.y + self.front_mm) / self.taper_mm)
        back = 1 - self.waist * smooth_step((space.y - 12) / 25)
        aside = self.core_x_mm + self.bow_mm * (space.y / 60)
        return (space.x - aside).abs() - ((width - 3) * (front * back) + 3)

    def _spine(self, space: Space) -> Tensor:
        """Vertebral bodies and, behind them, the arch up to the cage."""
        rx, ry = self.spine_radius_mm
        y = space.y - self.spine_y(space.z)
        near = (space.x.square() + (y * (rx / ry)).square()).sqrt_() - rx
        behind = torch.maximum(space.x.abs() - (rx + 3) - 0.25 * y.clamp(-20, 30), 4 - y)
        return smooth_min(near, behind, 5.0)

    @staticmethod
    def sample(
        rng: np.random.Generator, back_mm: float, front_mm: float, dome_mm: float, apex_mm: float
    ) -> Mediastinum:
        spine_z = np.array([-260.0, -150.0, -60.0, 30.0, 110.0, 170.0])
        kyphosis = rng.uniform(8, 24)
        radius = rng.uniform(15.5, 20), rng.uniform(14, 18)
        middle = back_mm - radius[1] - rng.uniform(14, 22)
        spine_y = middle - kyphosis * np.array([1.6, 0.8, 0.0, 0.1, 0.9, 2.0])
        aorta_r, top = rng.uniform(11.5, 17), rng.uniform(38, 60)
        great = sample_great_vessels(rng, aorta_r, top, middle, dome_mm, apex_mm)
        heart, chambers = _heart(rng, dome_mm)
        widths = rng.normal(0, 2.0) + np.array([22.0, 20, 20, 24, 26, 29, 36, 48])
        return Mediastinum(
            heart=heart,
            chambers=chambers,
            great=great,
            core_heights_mm=np.array([-250.0, -120, -60, 0, 40, 80, apex_mm, 170]),
            core_widths_mm=widths,
            core_x_mm=rng.normal(0, 3),
            taper_mm=rng.uniform(45, 85),
            waist=rng.uniform(0.25, 0.6),
            bow_mm=rng.normal(0, 5),
            front_mm=front_mm * rng.uniform(0.75, 0.95),
            spine_z_mm=spine_z,
            spine_y_mm=spine_y,
            spine_radius_mm=radius,
            fat_mm=rng.uniform(0.8, 6.5),
            airway_wall_mm=rng.uniform(1.2, 2.2),
        )


def _minimum(field: Tensor, index: tuple[slice, ...], part: Tensor, space: Space) -> Tensor:
    if field.shape != torch.Size(space.shape):
        field = field.expand(space.shape).clone()
    field[index] = torch.minimum(field[index], part)
    return field


def _heart(rng: np.random.Generator, dome_mm: float) -> tuple[tuple[Ellipsoid, ...], tuple[Ellipsoid, ...]]:
    size = rng.normal(1.0, 0.1)
    bottom = dome_mm - rng.uniform(5, 20)
    center = np.array([rng.uniform(18, 34), rng.uniform(-38, -22), bottom + 48 * size])
    axes = rotation_about(np.array([0.0, 0.0, -rng.uniform(0.45, 0.8)])) @ rotation_about(
        np.array([0.0, rng.uniform(0.1, 0.5), 0.0])
    )
    main = Ellipsoid(center, size * np.array([rng.uniform(56, 68), rng.uniform(40, 48), rng.uniform(44, 54)]), axes)
    atrium = Ellipsoid.upright(
        [rng.uniform(-28, -14), rng.uniform(-22, -6), center[2] + rng.uniform(4, 16)],
        size * np.array([rng.uniform(26, 34), rng.uniform(32, 42), rng.uniform(38, 48)]),
    )
    left = Ellipsoid.upright([8, 14, center[2] + 22], size * np.array([34.0, 22.0, 26.0]))

    def chamber(x: float, y: float, z: float, radii: tuple[float, float, float]) -> Ellipsoid:
        return Ellipsoid(center + axes @ (size * np.array([x, y, z])), size * np.array(radii), axes)

    chambers = (
        chamber(18, 8, 0, (32, 17, 26)),
        chamber(4, -22, 2, (40, 13, 30)),
        Ellipsoid(atrium.center_mm, atrium.radii_mm - 4, atrium.axes),
        Ellipsoid(left.center_mm, left.radii_mm - 3, left.axes),
    )
    return (main, atrium, left), chambers

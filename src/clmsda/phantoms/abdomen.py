"""What lies below the diaphragm: liver, spleen, stomach, kidneys, bowel and the fat between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clmsda.phantoms.anatomy import Fields
from clmsda.phantoms.shapes import Ellipsoid, blend, coverage, smooth_max
from clmsda.phantoms.space import Space
from clmsda.phantoms.textures import texture


@dataclass(frozen=True, eq=False)
class Abdomen:
    """liver_edge_mm: where the left lobe ends, and how steeply the liver's underside rises to the left.

    organs: (shape, HU) of spleen, stomach, kidneys; gas: bubbles in stomach and colon.
    """

    fat_hu: float
    liver_hu: float
    liver_edge_mm: float
    liver_bottom_mm: float
    gap_mm: float
    organs: tuple[tuple[Ellipsoid, float], ...]
    gas: tuple[Ellipsoid, ...]
    top_mm: float
    offset: NDArray[np.float64]

    def paint(self, hu: Tensor, space: Space, fields: Fields) -> None:
        found = space.sub(np.array([-999.0, -999, -999]), np.array([999.0, 999, self.top_mm + 5]))
        if not found:
            return
        whole, space = found
        hu, fields, width = hu[whole], fields.at(whole), space.width_mm
        below = -fields.diaphragm
        cavity = smooth_max(below, fields.cage, 4.0)
        alpha = coverage(cavity, width)
        grain = texture(space, 9.0, self.offset)
        blend(hu, alpha, 50.0)  # the diaphragm's muscle and the wall's
        deep = smooth_max(below + self.gap_mm, fields.cage + self.gap_mm, 4.0)
        blend(hu, coverage(deep, width), self.fat_hu + 10 * grain)
        left = (space.x - self.liver_edge_mm) * 0.8 + 0.35 * (space.y + 20)
        bottom = self.liver_bottom_mm - space.z + 0.45 * space.x
        liver = smooth_max(smooth_max(deep + 0.5, left, 12.0), bottom + 0 * deep, 15.0)
        blend(hu, coverage(liver, width), self.liver_hu + 4 * grain)
        for shape, value in self.organs:
            found = space.sub(*shape.bounds(3.0))
            if found:
                index, sub = found
                inside = torch.maximum(shape.distance(sub), deep[index] + 0.5)
                blend(hu[index], coverage(inside, width), value)
        for shape in self.gas:
            found = space.sub(*shape.bounds(3.0))
            if found:
                index, sub = found
                inside = torch.maximum(shape.distance(sub), deep[index] + 4.0)
                blend(hu[index], coverage(inside, width), -950.0)


def sample_abdomen(rng: np.random.Generator, dome_mm: float, contrast: bool, half_width_mm: float) -> Abdomen:
    enhanced = rng.uniform(0.5, 1.0) if contrast else 0.0
    spleen = Ellipsoid.upright(
        [half_width_mm * 0.72, 48, dome_mm - rng.uniform(45, 70)],
        [rng.uniform(24, 36), rng.uniform(36, 52), rng.uniform(40, 55)],
    )
    stomach = Ellipsoid.upright(
        [half_width_mm * 0.42, -12, dome_mm - rng.uniform(35, 60)],
        [rng.uniform(30, 45), rng.uniform(42, 60), rng.uniform(30, 45)],
    )
    kidneys = [
        Ellipsoid.upright([s * rng.uniform(50, 62), 55, dome_mm - rng.uniform(95, 130)], [26.0, 25, 52])
        for s in (-1, 1)
    ]
    gas = []
    if rng.random() < 0.6:
        gas.append(
            Ellipsoid.upright(
                stomach.center_mm + [0, -0.55 * stomach.radii_mm[1], 8], stomach.radii_mm * [0.7, 0.35, 0.6]
            )
        )
    if rng.random() < 0.5:
        gas.append(
            Ellipsoid.upright(
                [half_width_mm * 0.7, -35, dome_mm - rng.uniform(25, 60)],
                [rng.uniform(10, 22), 16, rng.uniform(10, 25)],
            )
        )
    return Abdomen(
        fat_hu=rng.uniform(-112, -92),
        liver_hu=rng.uniform(48, 66) + 55 * enhanced,
        liver_edge_mm=rng.uniform(15, 75),
        liver_bottom_mm=dome_mm - rng.uniform(110, 160),
        gap_mm=rng.uniform(1.2, 3.0),
        organs=(
            (spleen, rng.uniform(42, 54) + 70 * enhanced),
            (stomach, rng.uniform(5, 50)),
            (kidneys[0], 32 + 130 * enhanced),
            (kidneys[1], 32 + 130 * enhanced),
        ),
        gas=tuple(gas),
        top_mm=dome_mm + 15,
        offset=rng.uniform(size=3),
    )

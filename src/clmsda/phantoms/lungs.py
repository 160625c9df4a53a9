"""Lung tissue: parenchyma, emphysema, fibrosis, fissures, pleura; vessels and bronchi."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clmsda.phantoms.anatomy import Fields
from clmsda.phantoms.shapes import blend, coverage, sheet_coverage, smooth_step
from clmsda.phantoms.space import Space
from clmsda.phantoms.textures import texture
from clmsda.phantoms.tubes import Tubes, tube_coverage


@dataclass(frozen=True, eq=False)
class Lungs:
    """base_hu: of the tissue in the middle. gravity_hu: rise over 100 mm towards the back.

    emphysema, fibrosis: 0 none .. 1 severe. fissures_mm: (2,) height at y = 0 of the oblique ones.
    effusion_mm: (2,) greatest thickness of fluid right and left. plaque_mm: thickened pleura.
    """

    base_hu: float
    gravity_hu: float
    mottle_hu: float
    emphysema: float
    hole_mm: float
    hole_depth: float
    fibrosis: float
    fissure_mm: float
    fissures_mm: tuple[float, float]
    slope: float
    minor_mm: float
    effusion_mm: tuple[float, float]
    fluid_hu: float
    plaque_mm: float
    vessel_hu: float
    vessels: Tubes
    bronchi: Tubes
    offsets: NDArray[np.float64]

    @cached_property
    def lumina(self) -> Tubes:
        return self.bronchi.grown(0.82, -0.35)

    def tissue(self, space: Space, fields: Fields) -> Tensor:
        """HU of lung tissue, without vessels."""
        coarse = fields.wobble
        hu = (self.base_hu + self.gravity_hu * space.y / 100 + 12 * coarse).clamp_(-965, -600)
        hu = hu + self.mottle_hu * texture(space, 5.0, self.offsets[0])
        if self.emphysema > 0:
            holes = texture(space, self.hole_mm, self.offsets[1])
            where = smooth_step(holes.add(coarse, alpha=0.7).add_(2.0 * self.emphysema - 1.2).mul_(0.6))
            hu = hu + where.mul_(self.hole_depth) * (-985 - hu)
        if self.fibrosis > 0:
            net = texture(space, 7.0, self.offsets[2]).abs_()
            lines = (1 - net * 2.2).clamp_(min=0)
            low = smooth_step(0.5 - (space.z + 20) / 160) * (0.6 + 0.4 * smooth_step(space.y / 100 + 0.5))
            depth = torch.maximum(fields.cage, fields.diaphragm)
            rim = (depth / (12 + 20 * self.fibrosis)).exp().clamp_(max=1) * low
            hu = hu + lines.mul_(520 * self.fibrosis).add_(130 * self.fibrosis) * rim
        return hu

    def paint_tissue(self, hu: Tensor, space: Space, fields: Fields) -> None:
        """Tissue and fissures: what opacities hide."""
        alpha = coverage(fields.lung, space.width_mm)
        blend(hu, alpha, self.tissue(space, fields))
        self._paint_fissures(hu, space, fields, alpha)

    def paint_trees(self, hu: Tensor, space: Space, fields: Fields) -> None:
        """Vessels and bronchi, which opacities show all the more, then what fills the pleural space."""
        alpha = coverage(fields.lung, space.width_mm)
        vessels = tube_coverage(space, self.vessels)
        if vessels is not None:
            blend(hu, vessels * alpha, self.vessel_hu)
        self._paint_bronchi(hu, space, alpha)
        self._paint_pleura(hu, space, fields, alpha)

    def _paint_bronchi(self, hu: Tensor, space: Space, alpha: Tensor) -> None:
        walls = tube_coverage(space, self.bronchi)
        if walls is None:
            return
        blend(hu, walls * alpha, 10.0)
        lumen = tube_coverage(space, self.lumina)
        if lumen is not None:
            blend(hu, lumen * alpha, -985.0)

    def _paint_fissures(self, hu: Tensor, space: Space, fields: Fields, alpha: Tensor) -> None:
        right, left = self.fissures_mm
        height = right + (left - right) * smooth_step(space.x / 20 + 0.5)
        bend = 5.0 * fields.wobble
        oblique = (space.z - height - self.slope * space.y + bend) * float(1 / np.hypot(1, self.slope))
        line = sheet_coverage(oblique, self.fissure_mm, space.width_mm)
        if space.lower_mm[0] < 0:
            minor = space.z - self.minor_mm + bend + 0.001 * (space.x + 80).square()
            flat = sheet_coverage(minor, self.fissure_mm, space.width_mm)
            line = torch.maximum(line, flat * (coverage(space.x, 1.0) * coverage(-oblique, 1.0)))
        blend(hu, line * alpha, -250.0)

    def _paint_pleura(self, hu: Tensor, space: Space, fields: Fields, alpha: Tensor) -> None:
        width = space.width_mm
        right, left = self.effusion_mm
        if (
            max(right, left) > 0
            and not (right == 0 and space.upper_mm[0] < 0)
            and not (left == 0 and space.lower_mm[0] > 0)
        ):
            most = right + (left - right) * smooth_step(space.x / 10 + 0.5)
            crescent = most * (smooth_step((space.y + 10) / 95) * smooth_step(0.8 - (space.z + 10) / 140))
            fluid = coverage(-fields.cage - crescent - 1.5 * fields.wobble, width) * (crescent > 1)
            fluid = torch.maximum(fluid, coverage(-fields.diaphragm - 0.5 * crescent, width) * (crescent > 1))
            squeezed = coverage(-fields.cage - 1.6 * crescent - 4 * fields.wobble, 6.0) * (crescent > 4)
            blend(hu, squeezed * alpha * 0.75, 20.0)
            blend(hu, fluid * alpha, self.fluid_hu)
        if self.plaque_mm > 0:
            thick = self.plaque_mm * (texture(space, 40.0, self.offsets[3]) - 0.5).clamp_(0, 1)
            blend(hu, coverage(-fields.cage - thick, width) * (thick > 0.3) * alpha, 50.0)


def sample_lungs(rng: np.random.Generator, vessels: Tubes, bronchi: Tubes, vessel_hu: float) -> Lungs:
    kind = rng.random()
    emphysema = rng.uniform(0.25, 1.0) if kind < 0.4 else 0.0
    fibrosis = rng.uniform(0.2, 1.0) if 0.35 < kind < 0.5 else 0.0
    fluid = rng.uniform(4, 45, size=2) * (rng.random(2) < 0.14)
    slope = rng.uniform(0.8, 1.4)
    return Lungs(
        base_hu=rng.uniform(-915, -815),
        gravity_hu=rng.uniform(5, 50),
        mottle_hu=rng.uniform(5, 22),
        emphysema=emphysema,
        hole_mm=rng.uniform(5, 16),
        hole_depth=rng.uniform(0.3, 0.95),
        fibrosis=fibrosis,
        fissure_mm=rng.uniform(0.2, 0.55),
        fissures_mm=(rng.uniform(-55, -25), rng.uniform(-45, -15)),
        slope=slope,
        minor_mm=rng.uniform(-30, 0),
        effusion_mm=(float(fluid[0]), float(fluid[1])),
        fluid_hu=rng.uniform(2, 30),
        plaque_mm=rng.uniform(2, 9) if rng.random() < 0.12 else 0.0,
        vessel_hu=vessel_hu,
        vessels=vessels,
        bronchi=bronchi,
        offsets=rng.uniform(size=(4, 3)),
    )

"""The chest wall and what lies outside: skin, fat, muscles, shoulders, arms, breasts, table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clmsda.phantoms.anatomy import Anatomy, Contour, Fields
from clmsda.phantoms.shapes import Ellipsoid, blend, coverage, sheet_coverage, smooth_min, smooth_step
from clmsda.phantoms.space import Space
from clmsda.phantoms.textures import texture
from clmsda.phantoms.tubes import Tubes, tube_distance


@dataclass(frozen=True, eq=False)
class Wall:
    """torso: skin. shoulders, breasts: bumps on it. limbs: arms and neck.

    fat_mm: fat under the skin at the front and at the back. table_mm: depth of the table behind the back, 0 none.
    """

    torso: Contour
    shoulders: tuple[Ellipsoid, ...]
    breasts: tuple[Ellipsoid, ...]
    limbs: Tubes
    bones: Tubes
    fat_mm: tuple[float, float]
    fat_hu: float
    muscle_hu: float
    streaks: float
    table_mm: float
    offset: NDArray[np.float64]

    def bounds(self, space: Space) -> tuple[NDArray, NDArray]:
        """(3,) corners of a box around all of the body that lies at the heights of a space."""
        if space.upper_mm[2] > self.torso.top_mm - 20:
            return np.full(3, -9999.0), np.full(3, 9999.0)
        lean = self.torso.lean_mm * self.torso.rise(torch.from_numpy(np.array([space.lower_mm[2], space.upper_mm[2]])))
        lower = [np.array([-self.torso.half_width_mm, float(lean.min()) - self.torso.front_mm, -9999.0])]
        upper = [np.array([self.torso.half_width_mm, float(lean.max()) + self.torso.back_mm, 9999.0])]
        for part in self.shoulders + self.breasts:
            low, high = part.bounds(30.0)
            if low[2] <= space.upper_mm[2] + space.width_mm and high[2] >= space.lower_mm[2] - space.width_mm:
                lower.append(low)
                upper.append(high)
        return np.min(lower, axis=0) - space.width_mm, np.max(upper, axis=0) + space.width_mm

    def skin(self, space: Space) -> Tensor:
        """Distance to the skin."""
        skin = self.torso.distance(space)
        above = space.z - self.torso.top_mm
        if space.upper_mm[2] > self.torso.top_mm - 20:
            skin = smooth_min(torch.maximum(skin, above * 0.8 + 0 * skin), _limb(space, self.limbs), 25.0)
        for part in self.shoulders + self.breasts:
            found = space.sub(*part.bounds(30.0))
            if found:
                index, sub = found
                skin[index] = smooth_min(skin[index], part.distance(sub), 20.0)
        return skin

    def paint(self, hu: Tensor, space: Space, fields: Fields, skin: Tensor) -> None:
        """The body over air and table."""
        width = space.width_mm
        inside = coverage(skin, width)
        ripple = texture(space, 14.0, self.offset)
        blend(hu, inside, self.muscle_hu + 4 * ripple)
        toward_back = smooth_step(space.y / 160 + 0.5)
        depth = self.fat_mm[0] + (self.fat_mm[1] - self.fat_mm[0]) * toward_back
        under_skin = coverage(-skin - depth * (1 + 0.25 * fields.wobble) - 1.5 * ripple, width)
        for part in self.breasts:
            found = space.sub(*part.bounds(0.0))
            if found:
                index, sub = found
                under_skin[index] = torch.maximum(under_skin[index], coverage(part.distance(sub), 4.0))
        planes = self._planes(space, fields, ripple)
        fat = torch.maximum(under_skin, planes)
        fat.mul_(inside)
        blend(hu, fat, self.fat_hu + 7 * ripple)
        blend(hu, sheet_coverage(skin + 1.0, 1.0, width) * inside, 10.0)

    def _planes(self, space: Space, fields: Fields, ripple: Tensor) -> Tensor:
        """Fat between muscles: a layer outside the ribs, one inside them, and streaks within the muscles."""
        width = space.width_mm
        layer = sheet_coverage(fields.cage - 17 - 4 * fields.wobble + 1.5 * ripple, 0.6 + 0.9 * self.streaks, width)
        inner = sheet_coverage(fields.cage - 1.4 - 0.5 * ripple, 0.25 + 0.6 * self.streaks, width)
        broad = texture(space, 42.0, self.offset + 0.21)
        between = sheet_coverage(broad * 18 + 2.5 * ripple, 0.2 + 1.2 * self.streaks, width) * coverage(
            10 - fields.cage, 4.0
        )
        return torch.maximum(torch.maximum(layer, inner), between)

    def paint_table(self, hu: Tensor, space: Space) -> None:
        back = self.torso.back_mm + self.table_mm
        found = space.sub(np.array([-194.0, back - 16, -9999]), np.array([194.0, back + 30, 9999]))
        if not self.table_mm or not found:
            return
        index, space = found
        hu = hu[index]
        bow = space.x.square() / 900.0
        top = self.torso.back_mm + self.table_mm - space.y - 0.3 * bow
        flat = torch.maximum(sheet_coverage(top, 1.2, space.width_mm), sheet_coverage(top + 26, 1.0, space.width_mm))
        blend(hu, flat * coverage(space.x.abs() - 190, 2.0), -350.0)

    def paint_limb_bones(self, hu: Tensor, space: Space) -> None:
        bone = tube_distance(space, self.bones, 2.0) if len(self.bones) else None
        if bone is not None:
            blend(hu, coverage(bone, space.width_mm), 900.0)
            blend(hu, coverage(bone + 3.5, space.width_mm), 60.0)


def _limb(space: Space, limbs: Tubes) -> Tensor:
    found = tube_distance(space, limbs, 60.0)
    return space.full(60.0) if found is None else found


def sample_wall(rng: np.random.Generator, anatomy: Anatomy) -> Wall:
    cage, apex = anatomy.cage, anatomy.apex_mm
    fat = float(np.clip(rng.lognormal(2.8, 0.5), 4, 55))
    muscle = rng.uniform(4, 16)
    side, front, back = (fat * f + muscle + plus for f, plus in ((0.9, 10), (0.75, 7), (0.7, 15)))
    torso = Contour(
        cage.half_width_mm + side,
        cage.front_mm + front,
        cage.back_mm + back,
        rng.uniform(0.35, 0.75),
        0.12,
        0.6 * cage.lean_mm,
        cage.low_mm + 40,
        apex + 38,
    )
    breasts = _sample_breasts(rng, torso.front_mm)
    width = cage.half_width_mm
    lift = rng.uniform(0, 30)
    shoulders = tuple(
        Ellipsoid.upright([s * (width + 8), cage.lean_mm + 8, apex - 20 + 0.5 * lift], [62.0, 55 + 0.3 * fat, 78.0])
        for s in (-1, 1)
    )
    neck = np.array([[0, cage.lean_mm + 10, apex - 20], [0, cage.lean_mm, apex + 120]])
    limbs, bones = [Tubes.along(neck, np.array([85.0, 58.0]))], []
    raised = rng.random() < 0.85
    for s in (-1, 1):
        joint = np.array([s * (width + 28), cage.lean_mm + 5, apex - 5 + lift])
        elbow = joint + ([s * 20, -15, 190] if raised else [s * 45, 5, -270])
        limbs.append(Tubes.along(np.stack([joint, elbow]), np.array([52.0, 42.0])))
        bones.append(Tubes.along(np.stack([joint, joint + (elbow - joint) * 0.2, elbow]), np.array([23.0, 12.0, 11.0])))
    return Wall(
        torso=torso,
        shoulders=shoulders,
        breasts=breasts,
        limbs=Tubes.joined(limbs),
        bones=Tubes.joined(bones),
        fat_mm=(fat * rng.uniform(0.6, 1.0), fat * rng.uniform(0.6, 1.1)),
        fat_hu=rng.uniform(-115, -90),
        muscle_hu=rng.uniform(40, 68),
        streaks=rng.uniform(0.1, 1.0),
        table_mm=rng.choice([0.0, 6.0, 14.0]),
        offset=rng.uniform(size=3),
    )


def _sample_breasts(rng: np.random.Generator, front_mm: float) -> tuple[Ellipsoid, ...]:
    if rng.random() > 0.45:
        return ()
    radii = rng.uniform(0.6, 1.3) * np.array([55.0, 34, 60])
    return tuple(
        Ellipsoid.upright([side * rng.uniform(65, 85), -0.88 * front_mm, rng.uniform(-60, -20)], radii)
        for side in (-1, 1)
    )

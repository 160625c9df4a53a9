"""The form of one chest: cage, diaphragm, mediastinum, lungs, all as one set of distances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from clmsda.phantoms.mediastinum import Mediastinum
from clmsda.phantoms.shapes import smooth_max, smooth_step
from clmsda.phantoms.space import Space
from clmsda.phantoms.textures import texture

# World: x to the patient's left, y to posterior, z to superior; 0, 0, 0 is in the middle of the
# chest at the height of the carina.


@dataclass(frozen=True, eq=False)
class Contour:
    """An oval cross section that narrows and leans back towards the top: rib cage, skin.

    half_width_mm, front_mm, back_mm: half axes. squareness: 0 ellipse, 1 nearly a rounded box.
    taper: share of the width lost at the top; lean_mm: shift to posterior at the top; between low_mm and top_mm.
    """

    half_width_mm: float
    front_mm: float
    back_mm: float
    squareness: float
    taper: float
    lean_mm: float
    low_mm: float
    top_mm: float

    def rise(self, z: Tensor) -> Tensor:
        return ((z - self.low_mm) / (self.top_mm - self.low_mm)).clamp(0, 1.25).square()

    def distance(self, space: Space) -> Tensor:
        rise = self.rise(space.z)
        y = space.y - self.lean_mm * rise
        u2 = (space.x / self.half_width_mm).square_()
        v2 = (
            y * (0.5 / self.back_mm + 0.5 / self.front_mm) + y.abs() * (0.5 / self.back_mm - 0.5 / self.front_mm)
        ).square_()
        oval = (u2 + v2).sqrt_()
        box = (u2.square() + v2.square_()).sqrt_().sqrt_()
        norm = oval.lerp_(box, self.squareness)
        away = (space.x.square() + y.square_()).sqrt_()
        return (norm - (1 - self.taper * rise)).mul_(away).div_(norm.clamp_(min=1e-3))


@dataclass(frozen=True, eq=False)
class Diaphragm:
    """Two domes; right first. top_mm, drop_mm: (2,) height, and how far the dome falls at the cage."""

    top_mm: tuple[float, float]
    drop_mm: tuple[float, float]
    center_x_mm: float
    center_y_mm: float
    reach_x_mm: float
    reach_y_mm: float
    front_share: float
    power: float

    def height(self, x: Tensor, y: Tensor) -> Tensor:
        aside = x.abs() - self.center_x_mm
        aside = aside.clamp(min=0) + 0.3 * aside.clamp(max=0)  # medially it runs flat into the mediastinum
        behind = y - self.center_y_mm
        behind = behind.clamp(min=0) + self.front_share * behind.clamp(max=0)
        away = (aside / self.reach_x_mm).square() + (behind / self.reach_y_mm).square()
        fall = away.clamp(max=4.0).pow(self.power)
        left = smooth_step(x / 90 + 0.5)
        top = self.top_mm[0] + (self.top_mm[1] - self.top_mm[0]) * left
        return top - (self.drop_mm[0] + (self.drop_mm[1] - self.drop_mm[0]) * left) * fall

    def distance(self, space: Space) -> Tensor:
        """Negative above the diaphragm."""
        return (self.height(space.x, space.y) - space.z) * 0.8


@dataclass(frozen=True, eq=False)
class Fields:
    """Distances (mm, negative inside) on the points of one space.

    cage: inside the ribs. diaphragm: above it. mediastinum: inside it. great: inside great vessels,
    heart, spine or airways. lung: inside the pleural cavity. wobble: noise of coarse grain.
    tubes: inside each of `GreatVessels.parts`, None where it is far.
    """

    cage: Tensor
    diaphragm: Tensor
    mediastinum: Tensor
    great: Tensor
    lung: Tensor
    wobble: Tensor
    tubes: tuple[Tensor | None, ...] = ()

    def at(self, index: tuple[slice, ...]) -> Fields:
        cage, diaphragm, mediastinum, great, lung, wobble = (
            t[tuple(s if n > 1 else slice(None) for s, n in zip(index, t.shape, strict=True))]
            for t in (self.cage, self.diaphragm, self.mediastinum, self.great, self.lung, self.wobble)
        )
        tubes = tuple(None if t is None else t[index] for t in self.tubes)
        return Fields(cage, diaphragm, mediastinum, great, lung, wobble, tubes)


class Chest(Protocol):
    """What a tumor grows in, synthetic or real."""

    def fields(self, space: Space) -> Fields: ...


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The chest without its tissues: where lungs, walls and the mediastinum are."""

    cage: Contour
    diaphragm: Diaphragm
    mediastinum: Mediastinum
    apex_mm: float
    apex_x_mm: float
    apex_y_mm: float
    apex_width_mm: float
    apex_depth_mm: float
    wobble_mm: float
    wobble_grain_mm: float
    wobble_offset: NDArray[np.float64]

    def fields(self, space: Space) -> Fields:
        wobble = texture(space, self.wobble_grain_mm, self.wobble_offset)
        cage = self.cage.distance(space)
        cage.add_(wobble, alpha=self.wobble_mm)
        diaphragm = self.diaphragm.distance(space) + wobble * (1.5 * self.wobble_mm)
        mediastinum, great, tubes = self.mediastinum.distances(space)
        mediastinum = mediastinum + wobble * self.wobble_mm
        lung = smooth_max(cage, diaphragm, 5.0)
        lung = smooth_max(lung, -mediastinum, 5.0)
        if space.upper_mm[2] > self.apex_mm - 1.6 * self.apex_depth_mm:  # below, the dome is wider than any chest
            lung = smooth_max(lung, self._apex(space), 8.0)
        return Fields(cage, diaphragm, mediastinum, great, lung, wobble, tubes)

    def _apex(self, space: Space) -> Tensor:
        """Each lung ends in its own dome beside the neck."""
        u2 = ((space.x.abs() - self.apex_x_mm) / self.apex_width_mm).square_()
        v2 = ((space.y - self.apex_y_mm) / (1.25 * self.apex_width_mm)).square_()
        below = (self.apex_mm - space.z) / self.apex_depth_mm
        reach = below.sign() * below.abs().sqrt() * (1 + 0.6 * below.clamp(min=0))
        return ((u2 + v2).sqrt_() - reach) * (0.7 * self.apex_width_mm)


def sample_anatomy(rng: np.random.Generator) -> Anatomy:
    scale = rng.normal(1.0, 0.07)
    half_width, depth = scale * rng.uniform(114, 146), scale * rng.uniform(82, 106)
    apex = scale * rng.uniform(92, 122)
    cage = Contour(
        half_width_mm=half_width,
        front_mm=depth * rng.uniform(0.92, 1.05),
        back_mm=depth * rng.uniform(0.95, 1.08),
        squareness=rng.uniform(0.15, 0.6),
        taper=rng.uniform(0.4, 0.58),
        lean_mm=rng.uniform(12, 32),
        low_mm=rng.uniform(-140, -60),
        top_mm=apex + 10,
    )
    right = rng.uniform(-140, -80)
    diaphragm = Diaphragm(
        top_mm=(right, right + rng.normal(-10, 8)),
        drop_mm=(rng.uniform(50, 85), rng.uniform(50, 85)),
        center_x_mm=half_width * 0.46,
        center_y_mm=rng.uniform(-25, -5),
        reach_x_mm=half_width * 0.56,
        reach_y_mm=depth * 1.08,
        front_share=rng.uniform(0.4, 0.9),
        power=rng.uniform(1.2, 1.9),
    )
    return Anatomy(
        cage=cage,
        diaphragm=diaphragm,
        mediastinum=Mediastinum.sample(rng, cage.back_mm, cage.front_mm, right, apex),
        apex_mm=apex,
        apex_x_mm=rng.uniform(42, 52),
        apex_y_mm=cage.lean_mm + rng.uniform(0, 14),
        apex_width_mm=scale * rng.uniform(52, 62),
        apex_depth_mm=rng.uniform(60, 80),
        wobble_mm=rng.uniform(0.6, 2.0),
        wobble_grain_mm=rng.uniform(35, 70),
        wobble_offset=rng.uniform(size=3),
    )

"""Tumors: a star-shaped lumpy surface, cut by the walls that it grows against, and what is inside."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clmsda.phantoms.anatomy import Fields
from clmsda.phantoms.shapes import smooth_max, smooth_min
from clmsda.phantoms.space import Space
from clmsda.phantoms.stars import Star, axial_diameter, sample_star, scaled
from clmsda.phantoms.textures import texture
from clmsda.phantoms.tubes import Tubes


@dataclass(frozen=True, eq=False)
class Tumor:
    """The tumor that is clicked, as it is painted; the mask shows it `outlined`.

    body: its main surface, lobes: others that it merges with; it grows `invasion_mm` beyond the lung and never
    closer than `clearance_mm` to great vessels.
    kind: solid, part-solid or ground-glass. hu, rim_hu: of the solid part and of the ground glass.
    core: the solid part of a part-solid tumor; else what is hollow in it: "cavity", "necrosis" or nothing.
    stones: (n, 4) calcifications: center (LPS mm) and radius. bronchogram: how open the bronchi within are, 0..1.
    softness_mm: how far its edge is smeared. halo_mm, halo_hu: denser lung around it, no part of the mask and so
    fainter than ground glass, which is.
    strands: thin lines that leave it and are no part of the mask.
    """

    body: Star
    lobes: tuple[Star, ...]
    site: str
    kind: str
    hu: float
    rim_hu: float
    invasion_mm: float
    clearance_mm: float
    core: Star | None
    hollow: str
    hollow_hu: float
    fluid_level: bool
    mottle_hu: float
    softness_mm: float
    halo_mm: float
    halo_hu: float
    bronchogram: float
    stones: NDArray[np.float64]
    stone_hu: float
    strands: Tubes
    strand_hu: float
    offset: NDArray[np.float64]

    @property
    def center_mm(self) -> NDArray[np.float64]:
        return self.body.center_mm

    @cached_property
    def outlined(self) -> Tumor:
        """The tumor that the mask shows: as a reader outlines it, see `Star.outlined`."""
        return replace(self, body=self.body.outlined(), lobes=tuple(lobe.outlined() for lobe in self.lobes))

    def bounds(self, margin_mm: float = 0.0) -> tuple[NDArray, NDArray]:
        bounds = [star.bounds(margin_mm) for star in (self.body, *self.lobes)]
        return np.min([low for low, _ in bounds], axis=0), np.max([high for _, high in bounds], axis=0)

    def scaled(self, factor: float) -> Tumor:
        """Larger or smaller about the same center."""
        center = self.body.center_mm
        lobes = tuple(scaled(star, factor, center) for star in self.lobes)
        core = None if self.core is None else scaled(self.core, factor, center)
        return replace(self, body=scaled(self.body, factor, center), lobes=lobes, core=core)

    def _outline(self, space: Space) -> Tensor:
        distance = self.body.distance(space)
        for star in self.lobes:
            found = space.sub(*star.bounds(0.3 * self.body.radius_mm))
            if found:
                index, sub = found
                distance[index] = smooth_min(distance[index], star.distance(sub), 0.25 * star.radius_mm)
        return distance

    def distance(self, space: Space, fields: Fields) -> Tensor:
        """Negative inside the tumor; fields on the same space."""
        distance = smooth_max(self._outline(space), fields.lung - self.invasion_mm, 2.0)
        if fields.great.shape != torch.Size(()):
            distance = torch.maximum(distance, self.clearance_mm - fields.great)
        return distance

    def interior(self, space: Space, distance: Tensor) -> Tensor:
        """HU inside."""
        grain = max(3.0, 0.35 * self.body.radius_mm)
        value = self.hu + self.mottle_hu * texture(space, grain, self.offset)
        if value.shape != distance.shape:
            value = value.expand(distance.shape).clone()
        if self.kind != "solid":
            fine = texture(space, 4.0, self.offset + 0.37)
            glass = self.rim_hu + 45 * fine
            if self.core is None:
                return glass.expand(distance.shape).clone()
            solid = (0.5 - self.core.distance(space) / (2.0 + space.width_mm)).clamp_(0, 1)
            return glass + (value - glass) * solid
        if self.core is not None and self.hollow:
            inner = torch.maximum(self.core.distance(space), distance + 2.0)
            edge = space.width_mm + (0.5 if self.hollow == "cavity" else 5.0)
            share = (0.5 - inner / edge).clamp_(0, 1)
            value = value + (self._content(space) - value) * share
        for x, y, z, radius in self.stones:
            gap = (
                (space.x - float(x)).square() + (space.y - float(y)).square() + (space.z - float(z)).square()
            ).sqrt_()
            share = (0.5 - (gap - float(radius)) / (space.width_mm + 0.3)).clamp_(
                0, min(1.0, 4 * (radius / space.width_mm) ** 3)
            )
            value = value + (self.stone_hu - value) * share
        return value

    def _content(self, space: Space) -> Tensor | float:
        if self.hollow == "cavity" and self.fluid_level and self.core is not None:
            level = float(self.core.center_mm[1]) + 0.3 * self.core.radius_mm
            return self.hollow_hu + (15 - self.hollow_hu) * (0.5 + (space.y - level) / space.width_mm).clamp(0, 1)
        return self.hollow_hu


def _sample_lobes(rng: np.random.Generator, body: Star, size_mm: float, lumpiness: float) -> tuple[Star, ...]:
    """Nodular outgrowths; large tumors have more."""
    if rng.random() > min(0.65, 0.15 + size_mm / 100):
        return ()
    lobes = []
    for _ in range(int(rng.integers(1, 4))):
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        size = size_mm * rng.uniform(0.25, 0.7)
        center = body.center_mm + direction * body.radius_mm * body.stretch.mean() * rng.uniform(0.6, 1.05)
        lobes.append(sample_star(rng, center, size, lumpiness, 0))
    return tuple(lobes)


KINDS = ("solid", "part-solid", "ground-glass")
CAVITIES = 0.16
"""Share of solid tumors above 14 mm with a cavity."""


def sample_tumor(
    rng: np.random.Generator,
    center_mm: NDArray,
    site: str,
    size_mm: float,
    wall_hu: float,
    outward: NDArray,
    *,
    kind: str | None = None,
    cavities: float = CAVITIES,
) -> Tumor:
    """outward: (3,) unit vector from the tumor to the nearest wall. kind: one of `KINDS`; None to draw it as is usual
    for the size. cavities: see `CAVITIES`."""
    spiky = rng.random() < 0.45
    lumpiness = float(rng.choice([0.4, 0.8, 1.2, 1.7], p=[0.15, 0.35, 0.3, 0.2]))
    body = sample_star(rng, center_mm, size_mm, lumpiness, int(rng.integers(4, 24)) if spiky else 0)
    usual = str(rng.choice(KINDS, p=_kind_weights(size_mm)))
    kind = usual if kind is None else kind
    hu = wall_hu + rng.normal(0, 10) if site != "free" and rng.random() < 0.6 else rng.uniform(5, 85)
    hollow = ""
    if kind == "solid" and size_mm > 14 and rng.random() < cavities:
        hollow = "cavity"
    elif kind == "solid" and size_mm > 28 and rng.random() < 0.35:
        hollow = "necrosis"
    core = _core(rng, body, kind, hollow)
    stones = np.zeros((0, 4))
    if rng.random() < 0.1:
        number = int(rng.integers(1, 6))
        radius = np.minimum(rng.uniform(0.6, 3.0, number), 0.3 * body.radius_mm)
        stones = np.column_stack([body.center_mm + rng.normal(0, 0.3, (number, 3)) * body.radius_mm, radius])
    attached = site != "free" and site != "vessel"
    lobes = _sample_lobes(rng, body, size_mm, lumpiness)
    return Tumor(
        body=body,
        lobes=lobes,
        site=site,
        kind=kind,
        hu=float(hu),
        rim_hu=rng.uniform(-700, -380),
        invasion_mm=_invasion(rng, site, size_mm),
        clearance_mm=rng.uniform(-1.5, 1.5) if attached else 1.0,
        core=core,
        hollow=hollow,
        hollow_hu=-960.0 if hollow == "cavity" else hu - rng.uniform(12, 35),
        fluid_level=rng.random() < 0.2,
        mottle_hu=rng.uniform(1, 9),
        softness_mm=rng.uniform(0, 1.5) if kind == "solid" else rng.uniform(1, 4),
        halo_mm=rng.uniform(2, 8) if rng.random() < 0.2 else 0.0,
        halo_hu=rng.uniform(30, 110),
        bronchogram=rng.uniform(0.3, 1.0) if rng.random() < 0.3 else 0.0,
        stones=stones,
        stone_hu=rng.uniform(150, 900),
        strands=_strands(rng, body, outward, spiky),
        strand_hu=rng.uniform(-250, 20),
        offset=rng.uniform(size=3),
    )


def _kind_weights(size_mm: float) -> list[float]:
    if size_mm < 35:
        return [0.76, 0.14, 0.10]
    return [0.92, 0.06, 0.02]


def _invasion(rng: np.random.Generator, site: str, size_mm: float) -> float:
    if site in ("free", "vessel"):
        return -1.0
    if site == "mediastinum" or site == "hilum":
        return float(rng.uniform(0, min(16.0, 1.0 + 0.2 * size_mm)))
    return float(rng.uniform(0.2, 2.0) if rng.random() < 0.8 else rng.uniform(2, min(9.0, 0.15 * size_mm + 2)))


def _core(rng: np.random.Generator, body: Star, kind: str, hollow: str) -> Star | None:
    if kind == "part-solid" or hollow:
        share = rng.uniform(0.3, 0.75) if kind == "part-solid" else rng.uniform(0.35, 0.8)
        shift = rng.normal(0, 0.25 * (1 - share), 3) * body.radius_mm
        own = sample_star(rng, body.center_mm + shift, 1.0, float(rng.uniform(0.4, 1.4)), 0)
        return replace(own, radius_mm=body.radius_mm * share / axial_diameter(own) * 2 * own.radius_mm)
    return None


def _strands(rng: np.random.Generator, body: Star, outward: NDArray, spiky: bool) -> Tubes:
    number = int(rng.integers(8, 40)) if spiky else int(rng.integers(0, 5))
    directions = rng.normal(size=(number, 3))
    if rng.random() < 0.4:
        directions[: 1 + number // 6] = outward + 0.35 * directions[: 1 + number // 6]
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-6)
    surface = body.radius_mm * float(body.stretch.mean())
    length = np.minimum(rng.uniform(0.15, 1.1, number) * surface, 18) + 2
    start = body.center_mm + directions * surface * 0.8
    bend = rng.normal(0, 0.12, (number, 3))
    end = body.center_mm + (directions + bend) * (surface + length)[:, None]
    return Tubes(start, end, rng.uniform(0.35, 1.2, number), rng.uniform(0.15, 0.4, number))

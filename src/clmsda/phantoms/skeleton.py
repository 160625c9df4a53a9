"""Spine, ribs, sternum, clavicles, shoulder blades. Ribs and vertebrae repeat: all of them cost one evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clmsda.phantoms.anatomy import Anatomy, Fields
from clmsda.phantoms.shapes import Ellipsoid, blend, coverage, smooth_step
from clmsda.phantoms.space import Space, pick
from clmsda.phantoms.textures import texture
from clmsda.phantoms.tubes import Tubes, tube_distance


@dataclass(frozen=True, eq=False)
class Skeleton:
    """pitch_mm: from rib to rib and vertebra to vertebra. slant_mm: how far a rib falls from the spine to the front."""

    pitch_mm: float
    phase_mm: float
    slant_mm: float
    rib_mm: tuple[float, float]
    gap_mm: float
    cortex_mm: float
    cortex_hu: float
    marrow_hu: float
    cartilage_hu: float
    disc_mm: float
    canal_mm: float
    sternum: tuple[Ellipsoid, ...]
    clavicles: Tubes
    blade_angle: float
    blade_mm: tuple[float, float]

    def paint(self, hu: Tensor, space: Space, anatomy: Anatomy, fields: Fields) -> None:
        self._paint_ribs(hu, space, anatomy, fields)
        self._paint_blades(hu, space, anatomy, fields)
        self._paint_spine(hu, space, anatomy)
        for part in self.sternum:
            found = space.sub(*part.bounds(3.0))
            if found:
                index, sub = found
                self._paint_bone(hu[index], part.distance(sub), space.width_mm)
        found_tubes = tube_distance(space, self.clavicles, 2.0)
        if found_tubes is not None:
            self._paint_bone(hu, found_tubes, space.width_mm)

    def _paint_bone(
        self, hu: Tensor, distance: Tensor, width_mm: float, cortex_hu: Tensor | float | None = None
    ) -> None:
        blend(hu, coverage(distance, width_mm), self.cortex_hu if cortex_hu is None else cortex_hu)
        blend(hu, coverage(distance + self.cortex_mm, width_mm), self.marrow_hu)

    def _paint_ribs(self, hu: Tensor, space: Space, anatomy: Anatomy, fields: Fields) -> None:
        thick, high = self.rib_mm
        if space.upper_mm[2] < anatomy.diaphragm.top_mm[0] - 120:
            return
        out = fields.cage - (self.gap_mm + thick)
        if float(out.amax()) < -thick - 2 or float(out.amin()) > thick + 2:
            return
        around = torch.atan2(space.x.abs(), space.y - anatomy.cage.lean_mm * 0.5) / np.pi
        index, space = space.chosen(out.abs() < thick + 0.5 * space.width_mm + 0.01)  # a thin shell: few voxels
        out, bone, around = out[index], hu[index], pick(around, index)
        fall = smooth_step(around * 1.25) - 0.55 * smooth_step((around - 0.8) * 5)
        turn = (space.z + self.slant_mm * fall + self.phase_mm) / self.pitch_mm
        up = (turn - turn.round()) * (self.pitch_mm * 0.85)
        norm = ((out / thick).square_() + (up / high).square_()).sqrt_()
        distance = (norm - 1) * thick
        distance = torch.maximum(distance, space.z - (anatomy.apex_mm + 22))
        distance = torch.maximum(distance, 9 - space.x.abs())
        front = smooth_step((around - 0.80) * 14)
        cortex = self.cortex_hu + (self.cartilage_hu - self.cortex_hu) * front
        marrow = self.marrow_hu + (self.cartilage_hu - 15 - self.marrow_hu) * front
        blend(bone, coverage(distance, space.width_mm), cortex)
        blend(bone, coverage(distance + self.cortex_mm, space.width_mm), marrow)
        hu[index] = bone

    def _paint_spine(self, hu: Tensor, space: Space, anatomy: Anatomy) -> None:
        rx, ry = anatomy.mediastinum.spine_radius_mm
        centers = anatomy.mediastinum.spine_y_mm
        found = space.sub(np.array([-48.0, centers.min() - ry - 3, -500]), np.array([48.0, centers.max() + 75, 500]))
        if not found:
            return
        index, space = found
        hu, width = hu[index], space.width_mm
        y = space.y - anatomy.mediastinum.spine_y(space.z)
        turn = (space.z + self.phase_mm) / self.pitch_mm + 0.5
        turn = turn - turn.round()
        level = turn.abs() * self.pitch_mm
        flat = (y - 0.55 * ry).clamp(min=0)  # the back of a vertebral body is flat
        column = (space.x.square() + ((y + 0.8 * flat) * (rx / ry)).square()).sqrt_()
        column = column - rx * (1 - 0.1 * (1 - (2 * turn).square()))
        body = torch.maximum(column, level - (self.pitch_mm - self.disc_mm) / 2)
        back = y - 0.85 * ry - self.canal_mm
        self._paint_arch(hu, space, back, turn)
        blend(hu, coverage(column + 1.0, width), 85.0)
        grain = texture(space, 5.0, np.array([0.3, 0.7, 0.1]))
        blend(hu, coverage(body, width), self.cortex_hu * 0.55)
        blend(hu, coverage(body + 0.7 * self.cortex_mm, width), self.marrow_hu * 0.9 + 30 * grain)
        canal = (space.x.square() + back.square()).sqrt_() - self.canal_mm
        blend(hu, coverage(canal, width), 25.0)
        blend(hu, coverage(canal + 3.0, width), 38.0)

    def _paint_arch(self, hu: Tensor, space: Space, back: Tensor, turn: Tensor) -> None:
        """Lamina around the canal, spinous and transverse processes. back: mm behind the canal's middle."""
        ring = ((space.x.square() + back.square()).sqrt_() - (self.canal_mm + 2.5)).abs_() - 2.8
        ring = torch.maximum(ring, (turn.abs() - 0.34) * self.pitch_mm)
        slope = (turn + back / (2.2 * self.pitch_mm)) * self.pitch_mm
        spinous = torch.maximum(torch.maximum(space.x.abs() - 3.2, slope.abs() - 6), (back - 24).abs() - 15)
        wing = torch.maximum((back - 4 - 0.3 * space.x.abs()).abs() - 4.5, (turn.abs() * self.pitch_mm) - 5.5)
        wing = torch.maximum(torch.maximum(wing, space.x.abs() - 34), 10 - space.x.abs())
        arch = torch.minimum(torch.minimum(ring, spinous), wing)
        self._paint_bone(hu, arch, space.width_mm)

    def _paint_blades(self, hu: Tensor, space: Space, anatomy: Anatomy, fields: Fields) -> None:
        low, high = self.blade_mm
        if space.upper_mm[2] < low or space.lower_mm[2] > high:
            return
        around = torch.atan2(space.x.abs(), space.y - anatomy.cage.lean_mm * 0.5)
        rise = (space.z - low) / (high - low)
        spread = 0.10 + 0.24 * rise.clamp(0, 1)
        plate = (fields.cage - 26 - 18 * (around - self.blade_angle).abs()).abs() - 2.6
        across = ((around - self.blade_angle).abs() - spread) * anatomy.cage.half_width_mm
        edge = torch.maximum(across, torch.maximum(low - space.z, space.z - high))
        blade = torch.maximum(plate, edge)
        blend(hu, coverage(blade, space.width_mm), self.cortex_hu * 0.8)


def sample_skeleton(rng: np.random.Generator, anatomy: Anatomy) -> Skeleton:
    cage = anatomy.cage
    tilt = 0.25 * cage.lean_mm / 22
    front = -cage.front_mm - rng.uniform(4, 8)
    sternum = (
        Ellipsoid.upright(
            [rng.normal(0, 3), front, rng.uniform(-50, -30)], [rng.uniform(15, 21), rng.uniform(5, 7), 75.0]
        ),
        Ellipsoid.upright(
            [rng.normal(0, 3), front * (1 - 0.5 * cage.taper) + 22 * tilt + 4, rng.uniform(48, 64)],
            [31.0, rng.uniform(7, 9), 26.0],
        ),
    )
    collar = []
    for side in (-1, 1):
        inner = [side * 24, front * (1 - 0.6 * cage.taper) + 12, anatomy.apex_mm - rng.uniform(18, 34)]
        middle = [side * 75, inner[1] + 8, inner[2] + 12]
        outer = [side * (cage.half_width_mm + 15), inner[1] + 50, inner[2] + 30]
        collar.append(Tubes.along(np.array([inner, middle, outer]), np.array([9.0, 6.0, 6.5])))
    return Skeleton(
        pitch_mm=rng.uniform(24, 30),
        phase_mm=rng.uniform(0, 30),
        slant_mm=rng.uniform(65, 110),
        rib_mm=(rng.uniform(3.2, 4.6), rng.uniform(5.5, 8.0)),
        gap_mm=rng.uniform(1.0, 3.0),
        cortex_mm=rng.uniform(0.9, 1.8),
        cortex_hu=rng.uniform(450, 1000),
        marrow_hu=rng.uniform(90, 260),
        cartilage_hu=rng.uniform(70, 150),
        disc_mm=rng.uniform(3.5, 6.5),
        canal_mm=rng.uniform(7.5, 9.5),
        sternum=sternum,
        clavicles=Tubes.joined(collar),
        blade_angle=rng.uniform(0.75, 1.15),
        blade_mm=(rng.uniform(-40, 10), anatomy.apex_mm - rng.uniform(-5, 15)),
    )

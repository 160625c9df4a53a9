"""What else a chest shows: lymph nodes, other nodules, consolidation, atelectasis, implants."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clmsda.phantoms.anatomy import Anatomy, Fields
from clmsda.phantoms.shapes import Ellipsoid, axes_along, blend, coverage, rotation
from clmsda.phantoms.siting import LungPoints
from clmsda.phantoms.space import Space
from clmsda.phantoms.stars import Star, sample_star
from clmsda.phantoms.textures import texture
from clmsda.phantoms.tubes import Tubes, tube_coverage
from clmsda.phantoms.tumors import Tumor


@dataclass(frozen=True, eq=False)
class Opacity:
    """A cloud of denser lung with a frayed edge: ground glass, consolidation, atelectasis."""

    shape: Ellipsoid
    hu: float
    edge_mm: float
    fray_mm: float
    patchy: float
    offset: NDArray[np.float64]

    def paint(self, hu: Tensor, space: Space, fields: Fields) -> None:
        found = space.sub(*self.shape.bounds(self.fray_mm * 2 + self.edge_mm))
        if not found:
            return
        index, sub = found
        grain = texture(sub, 9.0, self.offset)
        distance = self.shape.distance(sub) + self.fray_mm * grain
        alpha = coverage(distance, sub.width_mm + self.edge_mm) * coverage(fields.at(index).lung, sub.width_mm)
        if self.patchy > 0:
            alpha = alpha * (1 - self.patchy * (0.5 + texture(sub, 5.0, self.offset + 0.5)).clamp_(0, 1))
        blend(hu[index], alpha, self.hu + 6 * grain)


@dataclass(frozen=True, eq=False)
class Findings:
    nodes: tuple[Ellipsoid, ...]
    node_hu: float
    nodules: tuple[Star, ...]
    nodule_hu: float
    opacities: tuple[Opacity, ...]
    wires: Tubes
    metal_hu: float

    def paint_opacities(self, hu: Tensor, space: Space, fields: Fields) -> None:
        for opacity in self.opacities:
            opacity.paint(hu, space, fields)

    def paint_nodules(self, hu: Tensor, space: Space, fields: Fields) -> None:
        for nodule in self.nodules:
            found = space.sub(*nodule.bounds(2.0))
            if found:
                index, sub = found
                distance = torch.maximum(nodule.distance(sub), fields.at(index).lung)
                blend(hu[index], coverage(distance, space.width_mm), self.nodule_hu)

    def paint_nodes(self, hu: Tensor, space: Space) -> None:
        for node in self.nodes:
            found = space.sub(*node.bounds(2.0))
            if found:
                index, sub = found
                blend(hu[index], coverage(node.distance(sub), space.width_mm), self.node_hu)

    def paint_metal(self, hu: Tensor, space: Space) -> None:
        alpha = tube_coverage(space, self.wires)
        if alpha is not None:
            blend(hu, alpha, self.metal_hu)


def sample_findings(
    rng: np.random.Generator, anatomy: Anatomy, cloud: LungPoints, tumor: Tumor, wall_hu: float, contrast: bool
) -> Findings:
    """wall_hu: of muscle, near which nodes are. contrast: whether contrast medium was given."""
    return Findings(
        nodes=_nodes(rng, anatomy),
        node_hu=wall_hu + rng.normal(-5, 12),
        nodules=_nodules(rng, cloud, tumor),
        nodule_hu=rng.uniform(-100, 90),
        opacities=_opacities(rng, cloud, tumor, contrast),
        wires=_wires(rng, anatomy),
        metal_hu=rng.uniform(2000, 3500),
    )


def _nodes(rng: np.random.Generator, anatomy: Anatomy) -> tuple[Ellipsoid, ...]:
    stations = np.vstack(
        [
            anatomy.mediastinum.great.hila_mm,
            anatomy.mediastinum.great.hila_mm + [0, 4, -16],
            [[-16, -6, 22], [2, 12, -20], [14, -14, 12], [-4, -50, 30], [22, -24, 34], [-14, -8, 44], [4, 24, -50]],
        ]
    )
    kind = rng.random()  # normal, enlarged, bulky
    size = rng.uniform(2.5, 7.0) if kind < 0.65 else rng.uniform(7, 14) if kind < 0.9 else rng.uniform(12, 22)
    chosen = stations[rng.random(len(stations)) < rng.uniform(0.2, 0.8)]
    return tuple(Ellipsoid(s + rng.normal(0, 5, 3), size * rng.uniform(0.6, 1.4, 3), rotation(rng)) for s in chosen)


def _nodules(rng: np.random.Generator, cloud: LungPoints, tumor: Tumor) -> tuple[Star, ...]:
    if rng.random() > 0.3:
        return ()
    found = []
    for _ in range(int(rng.integers(1, 5))):
        size = rng.uniform(3, 14) if rng.random() < 0.8 else rng.uniform(14, 45)  # the larger ones: other lesions
        center = cloud.points_mm[rng.integers(len(cloud.points_mm))]
        if np.linalg.norm(center - tumor.center_mm) > 1.5 * tumor.body.radius_mm + size:
            found.append(sample_star(rng, center, size, 0.7, 0))
    return tuple(found)


def _opacities(rng: np.random.Generator, cloud: LungPoints, tumor: Tumor, contrast: bool) -> tuple[Opacity, ...]:
    found = []
    central = tumor.site in ("hilum", "mediastinum")
    blocks = tumor.kind == "solid" and tumor.body.radius_mm > (9 if central else 15)
    if blocks and rng.random() < (0.4 if central else 0.15):
        found.append(_behind(rng, tumor, contrast))
    if rng.random() < 0.22:
        for _ in range(int(rng.integers(1, 4))):
            center = cloud.points_mm[rng.integers(len(cloud.points_mm))]
            shape = Ellipsoid(center, rng.uniform(8, 40, 3), rotation(rng))
            apart = np.linalg.norm(center - tumor.center_mm) > tumor.body.radius_mm + shape.radii_mm.max() + 10
            cloudy = Opacity(
                shape,
                rng.uniform(-700, 0),
                rng.uniform(5, 20),
                rng.uniform(3, 9),
                rng.uniform(0, 0.9),
                rng.uniform(size=3),
            )
            if apart or tumor.kind == "solid":  # where glass meets glass, nobody can tell which is the tumor
                found.append(cloudy)
    return tuple(found)


def _behind(rng: np.random.Generator, tumor: Tumor, contrast: bool) -> Opacity:
    """Lung that a tumor has closed off: from it outward, collapsed or clouded, with the tumor at its tip.

    Collapsed lung takes up more contrast medium than a tumor does; without any the two differ by little. What else
    tells them apart are the vessels and open bronchi in it, which are painted over it.
    """
    radius = tumor.body.radius_mm
    away = tumor.center_mm - np.array([np.sign(tumor.center_mm[0]) * 30.0, 5, -10])
    away = away / max(float(np.linalg.norm(away)), 1e-6) + rng.normal(0, 0.3, 3)
    away /= np.linalg.norm(away)
    reach = rng.uniform(1, 2.5) if rng.random() < 0.4 else 1.0  # a segment, or much of a lobe
    radii = radius * reach * np.array([rng.uniform(0.7, 1.3), *rng.uniform(0.4, 0.9, 2)]) + 4
    center = tumor.center_mm + away * (radius * rng.uniform(0.4, 0.8) + 0.8 * radii[0])
    shape = Ellipsoid(center, radii, axes_along(away))
    if rng.random() < 0.6:
        differs = rng.uniform(25, 70) if contrast else rng.uniform(8, 25) * rng.choice([-1, 1])
        return Opacity(shape, tumor.hu + differs, rng.uniform(1, 5), rng.uniform(1, 6), 0.0, rng.uniform(size=3))
    hu, patchy = rng.uniform(-550, -100), rng.uniform(0, 0.8)
    return Opacity(shape, hu, rng.uniform(1, 10), rng.uniform(1, 6), patchy, rng.uniform(size=3))


def _wires(rng: np.random.Generator, anatomy: Anatomy) -> Tubes:
    if rng.random() > 0.06:
        return Tubes.none()
    front = -anatomy.cage.front_mm
    box = [[70, front - 6, 60], [72, front - 6, 78]]
    lead = np.array([box[1], [40, -45, anatomy.apex_mm - 5], [-20, -30, 40], [-24, -18, -30], [10, -50, -90]])
    return Tubes.joined([Tubes.along(np.array(box), np.array([14.0, 14.0])), Tubes.along(lead, np.full(5, 1.0))])

"""Aorta, pulmonary arteries, great veins, trachea, main bronchi and esophagus, as tubes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clmsda.phantoms.tubes import Tubes


@dataclass(frozen=True, eq=False)
class GreatVessels:
    """airways: the outer walls. hila_mm: (2, 3) where right and left artery enter the lung."""

    veins: Tubes
    pulmonary: Tubes
    aorta: Tubes
    airways: Tubes
    esophagus: Tubes
    hila_mm: NDArray[np.float64]

    @property
    def parts(self) -> tuple[Tubes, Tubes, Tubes, Tubes]:
        """In the order in which they are painted; the esophagus is no border of the lung."""
        return self.veins, self.pulmonary, self.aorta, self.airways


def sample_great_vessels(
    rng: np.random.Generator, radius_mm: float, top_mm: float, spine_y_mm: float, dome_mm: float, apex_mm: float
) -> GreatVessels:
    """radius_mm: of the aorta. top_mm: of its arch. spine_y_mm: middle of the vertebrae. dome_mm: of the diaphragm."""
    aorta = _aorta(rng, radius_mm, top_mm, spine_y_mm)
    y = rng.uniform(-4, 8)
    right = np.array([rng.uniform(-50, -38), y + 4, rng.uniform(-28, -14)])
    left = np.array([rng.uniform(38, 50), y + 8, rng.uniform(-18, -4)])
    gullet = np.array([
        [rng.normal(4, 3), y + 6, apex_mm + 60], [6, spine_y_mm - 26, 40], [6, spine_y_mm - 26, -40],
        [12, spine_y_mm - 28, -130],
    ])  # fmt: skip
    return GreatVessels(
        veins=_veins(rng, top_mm, dome_mm, right, left),
        pulmonary=_pulmonary(rng, right, left),
        aorta=aorta,
        airways=_airways(rng, y, apex_mm, right, left),
        esophagus=Tubes.along(gullet, np.full(4, rng.uniform(5, 8.5))),
        hila_mm=np.stack([right, left]),
    )


def _jitter(rng: np.random.Generator, points: list[tuple[float, float, float]], amount_mm: float) -> NDArray:
    return np.array(points, float) + rng.normal(0, amount_mm, size=(len(points), 3))


def _tube(points_mm: NDArray, radius_mm: float, *shares: float) -> Tubes:
    return Tubes.along(points_mm, radius_mm * np.array(shares or (1.0,) * len(points_mm)))


def _aorta(rng: np.random.Generator, radius: float, top: float, spine_y: float) -> Tubes:
    """Ascending part, arch with three branches, descending part beside the spine."""
    x = rng.uniform(16, 30)
    front = spine_y - rng.uniform(4, 14)
    angle = np.linspace(0, np.pi, 7)
    start, end = np.array([-16.0, -36.0]), np.array([x, front])
    across = start + (end - start) * (0.5 - 0.5 * np.cos(angle))[:, None]
    arch = np.column_stack([across, top - 28 + 28 * np.sin(angle)])
    rising = _jitter(rng, [(4, -22, -38), (-12, -36, -12)], 2)
    falling = _jitter(rng, [(x, front, 0), (x - 3, front, -50), (x - 8, front + 2, -110), (x - 16, front + 2, -250)], 2)
    shares = (1.15, 1.2, 1.15, 1.1, 1.05, 1, 1, 1, 1, 0.95, 0.92, 0.88, 0.8)
    tips = _jitter(rng, [(-22, -22, top + 45), (8, -8, top + 45), (26, 8, top + 45)], 4)
    roots = arch[[2, 3, 4]] + [0, 0, radius * 0.5]
    branches = [
        _tube(np.vstack([a, b, b * [2.2, 1.3, 1] + [0, 0, 22]]), rng.uniform(3.5, 6))
        for a, b in zip(roots, tips, strict=True)
    ]
    return Tubes.joined([_tube(np.vstack([rising, arch, falling]), radius, *shares), *branches])


def _pulmonary(rng: np.random.Generator, right: NDArray, left: NDArray) -> Tubes:
    radius = rng.uniform(10.5, 15)
    trunk = _jitter(rng, [(16, -46, -34), (18, -36, -12), (16, -22, -6)], 2)
    return Tubes.joined([
        _tube(trunk, radius, 1.1, 1.1, 1.0),
        _tube(np.vstack([trunk[-1], [-10, -8, -14], right]), radius, 0.9, 0.85, 0.75),
        _tube(np.vstack([trunk[-1], [30, -4, -2], left]), radius, 0.9, 0.85, 0.75),
    ])  # fmt: skip


def _veins(rng: np.random.Generator, top: float, dome: float, right: NDArray, left: NDArray) -> Tubes:
    """Both venae cavae, the brachiocephalic veins, and two pulmonary veins on each side."""
    cava = rng.uniform(7, 11)
    parts = [
        _tube(_jitter(rng, [(-26, -26, top + 8), (-27, -24, 5), (-24, -16, -32)], 2), cava, 0.9, 1, 1.1),
        _tube(_jitter(rng, [(46, -30, top + 40), (10, -42, top + 14), (-24, -30, top + 6)], 3), 0.7 * cava),
        _tube(_jitter(rng, [(-62, -20, top + 48), (-30, -30, top + 28), (-26, -27, top + 6)], 3), 0.7 * cava),
        _tube(_jitter(rng, [(-22, 6, dome + 10), (-22, 12, -180), (-18, 25, -260)], 2), rng.uniform(10, 14)),
    ]
    for side, hilum in ((-1, right), (1, left)):
        for below in (16, 42):
            root = [side * 18, 14, -52]
            parts.append(_tube(np.vstack([root, hilum + [0, 4, -below]]), rng.uniform(0.85, 1.15), 7.5, 5.5))
    return Tubes.joined(parts)


def _airways(rng: np.random.Generator, y: float, apex: float, right: NDArray, left: NDArray) -> Tubes:
    radius = rng.uniform(7.5, 10.5)
    carina = np.array([rng.normal(2, 2), y + 8, 0.0])
    return Tubes.joined([
        _tube(np.array([[rng.normal(0, 3), y - 14, apex + 60], [rng.normal(-2, 3), y - 4, 60], carina]), radius),
        _tube(np.vstack([carina, [-22, y + 10, -14], right + [2, 8, -4]]), radius, 0.85, 0.8, 0.72),
        _tube(np.vstack([carina, [22, y + 14, -18], left + [-2, 8, -16]]), radius, 0.8, 0.7, 0.64),
    ])  # fmt: skip

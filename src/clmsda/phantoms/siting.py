"""Where in the lungs a tumor sits: free, on a vessel, against a wall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from clmsda.phantoms.anatomy import Anatomy, Chest, Fields
from clmsda.phantoms.space import Space

SITES = ("free", "vessel", "wall", "mediastinum", "hilum", "diaphragm", "apex")
_WEIGHTS = {
    30.0: (0.40, 0.12, 0.22, 0.08, 0.07, 0.05, 0.06),
    60.0: (0.14, 0.06, 0.33, 0.17, 0.16, 0.06, 0.08),
    999.0: (0.03, 0.00, 0.42, 0.24, 0.15, 0.08, 0.08),
}


@dataclass(frozen=True, eq=False)
class LungPoints:
    """Points inside the lungs, (n, 3) LPS mm, with the distances there (each (n,))."""

    points_mm: NDArray[np.float64]
    cage: NDArray[np.float64]
    diaphragm: NDArray[np.float64]
    mediastinum: NDArray[np.float64]
    lung: NDArray[np.float64]


def scatter(rng: np.random.Generator, anatomy: Anatomy, count: int) -> LungPoints:
    """Random points inside the lungs, out of `count` tries."""
    cage = anatomy.cage
    low = min(anatomy.diaphragm.top_mm) - max(anatomy.diaphragm.drop_mm)
    lower = np.array([-cage.half_width_mm, -cage.front_mm, low])
    upper = np.array([cage.half_width_mm, cage.back_mm + cage.lean_mm, anatomy.apex_mm])
    points = rng.uniform(lower, upper, size=(count, 3))
    fields = anatomy.fields(Space.of_points(points))
    values = [_numpy(fields, name, count) for name in ("cage", "diaphragm", "mediastinum", "lung")]
    inside = values[-1] < -1.5
    return LungPoints(points[inside], *(v[inside] for v in values))


def _numpy(fields: Fields, name: str, count: int) -> NDArray[np.float64]:
    return getattr(fields, name).expand(count).numpy().astype(np.float64)


def choose_site(rng: np.random.Generator, size_mm: float) -> str:
    weights = next(w for limit, w in _WEIGHTS.items() if size_mm <= limit)
    return str(rng.choice(SITES, p=weights))


def choose_center(
    rng: np.random.Generator, anatomy: Anatomy, cloud: LungPoints, vessels_mm: NDArray, site: str, size_mm: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(center, unit vector towards the nearest wall), both (3,) in LPS."""
    radius = size_mm / 2
    depth = radius * rng.uniform(0.3, 0.95)
    noise = rng.gumbel(0, 0.25 * radius + 2, size=len(cloud.points_mm))
    deep = np.maximum(cloud.lung + radius + 2, 0)
    others = {
        "wall": np.minimum(-cloud.mediastinum, 0) + cloud.diaphragm,
        "mediastinum": cloud.cage,
        "diaphragm": cloud.cage,
    }
    if site == "free":
        cost = 4 * deep + noise
    elif site == "vessel":
        near = vessels_mm[rng.integers(len(vessels_mm))]
        cost = np.linalg.norm(cloud.points_mm - near, axis=1) + 2 * deep
    elif site == "hilum":
        side = anatomy.mediastinum.great.hila_mm[rng.integers(2)]
        cost = np.abs(np.linalg.norm(cloud.points_mm - side, axis=1) - 0.7 * depth) + 0.3 * noise
    elif site == "apex":
        cost = np.abs(cloud.points_mm[:, 2] - (anatomy.apex_mm - depth - 4)) + np.abs(cloud.lung + depth) + 0.5 * noise
    else:
        own = -cloud.mediastinum if site == "mediastinum" else getattr(cloud, {"wall": "cage"}.get(site, site))
        cost = 2 * np.abs(own + depth) + np.maximum(others[site] + 0.7 * radius, 0) + noise
    center = cloud.points_mm[int(cost.argmin())]
    value, outward = nearest_wall(anatomy, center)
    if site in ("wall", "mediastinum", "diaphragm", "apex"):
        center = center - np.clip(value + depth, -12, 12) * outward
    return center, outward


def nearest_wall(chest: Chest, center: NDArray) -> tuple[float, NDArray[np.float64]]:
    """Distance from the lungs' surface at a point (mm, negative inside), and the unit vector in which it grows."""
    step = 3.0
    points = np.vstack([center, center + step * np.eye(3), center - step * np.eye(3)])
    with torch.no_grad():
        lung = chest.fields(Space.of_points(points)).lung.numpy().astype(np.float64)
    gradient = lung[1:4] - lung[4:7]
    return float(lung[0]), gradient / max(float(np.linalg.norm(gradient)), 1e-6)

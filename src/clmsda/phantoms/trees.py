"""Branching pulmonary vessels and bronchi that fill the lungs.

A tree halves the cloud of points that it has to reach and steps towards each half's middle, again
and again; radii follow Murray's law. All branches of a generation are made at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clmsda.phantoms.tubes import Tubes


@dataclass(frozen=True, eq=False)
class Tree:
    """generations: one `Tubes` per generation, from the hilum outwards; each twice as many as the one before."""

    generations: tuple[Tubes, ...]

    def tubes(self) -> Tubes:
        return Tubes.joined(list(self.generations))


def grow(
    points_mm: NDArray, root_mm: NDArray, tip_radius_mm: float, rng: np.random.Generator, exponent: float = 2.7
) -> Tree:
    """A tree from `root_mm` to all points; (2**n, 3) LPS mm."""
    count = len(points_mm)
    groups = points_mm[None]
    parents = np.asarray(root_mm, float)[None]
    generations = []
    radius = tip_radius_mm * count ** (1 / exponent)
    while True:
        number, size = groups.shape[:2]
        middle = groups.mean(axis=1)
        last = size == 1
        share = 1.0 if last else rng.uniform(0.3, 0.6, size=(number, 1))
        step = share * (middle - parents)
        nodes = parents + step
        if not last:
            nodes += rng.normal(0, 0.12, size=nodes.shape) * np.linalg.norm(step, axis=1, keepdims=True)
        child = max(tip_radius_mm, tip_radius_mm * (size / 2) ** (1 / exponent))
        uneven = rng.uniform(0.85, 1.15, size=number)
        generations.append(Tubes(parents, nodes, radius * uneven, 0.5 * (radius + child) * uneven))
        if last:
            return Tree(tuple(generations))
        groups = _halve(groups, rng)
        parents = np.repeat(nodes, 2, axis=0)
        radius = child


def _halve(groups: NDArray, rng: np.random.Generator) -> NDArray:
    """Split each of (n, m, 3) clouds across its longest side, slightly askew: (2n, m / 2, 3)."""
    number, size, _ = groups.shape
    axis = 0.25 * rng.normal(size=(number, 3))
    axis[np.arange(number), groups.var(axis=1).argmax(axis=1)] += 1
    along = np.matmul(groups, axis[:, :, None])[..., 0]
    half = size // 2
    order = np.argpartition(along, half, axis=1) if size > 2 else np.argsort(along, axis=1)
    return np.take_along_axis(groups, order[..., None], axis=1).reshape(2 * number, half, 3)


def bronchi(arteries: Tree, generations: int, rng: np.random.Generator) -> Tubes:
    """Airways beside the first generations of the arteries, as wide as these; outer wall."""
    parts = []
    shift = np.zeros((1, 3))
    for tubes in arteries.generations[:generations]:
        side = rng.normal(size=(len(tubes), 3))
        axis = tubes.end_mm - tubes.start_mm
        side -= (side * axis).sum(1, keepdims=True) / np.maximum((axis**2).sum(1, keepdims=True), 1e-6) * axis
        side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-6)
        after = side * (2.0 * tubes.end_radius_mm + 0.6)[:, None]
        widest = 4.6
        parts.append(
            Tubes(
                tubes.start_mm + shift,
                tubes.end_mm + after,
                np.minimum(tubes.start_radius_mm, widest),
                np.minimum(tubes.end_radius_mm, widest),
            )
        )
        shift = np.repeat(after, 2, axis=0)
    return Tubes.joined(parts)

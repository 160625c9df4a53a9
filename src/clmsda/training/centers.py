"""What a detector is trained on: a bump at the center of every tumor, wherever in a window that lies."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from clmsda import phantoms
from clmsda.geometry import Grid
from clmsda.training.config import SearchConfig

NARROWEST_MM, WIDEST_MM = 3.5, 12.0
"""Standard deviations of the bumps of the smallest and the largest tumors; else a fifth of the size."""


def bump(grid: Grid, center_mm: NDArray[np.float64], size_mm: float) -> torch.Tensor:
    """(1, slices, rows, columns): 1 at the center of a tumor, falling off within it like a Gaussian."""
    width = float(np.clip(size_mm / 5, NARROWEST_MM, WIDEST_MM))
    return torch.exp(-0.5 * (_distance(grid, center_mm) / width) ** 2)[None]


def unsaid(scene: phantoms.Scene, grid: Grid) -> torch.Tensor:
    """(1, slices, rows, columns) bool: where a synthetic chest has nodules that are not its tumor.

    Nobody says whether these are to be found.
    """
    found = torch.zeros(grid.shape, dtype=torch.bool)
    for nodule in scene.findings.nodules if isinstance(scene, phantoms.Phantom) else ():
        found |= _distance(grid, nodule.center_mm) < 1.3 * nodule.radius_mm + NARROWEST_MM
    return found[None]


def window_middle(
    search: SearchConfig, center_mm: NDArray[np.float64], rng: np.random.Generator, *, strays: bool
) -> NDArray[np.float64]:
    """Where a window about a tumor lies. strays: whether it may lie far from it."""
    far = strays and rng.random() < search.strays
    return center_mm + rng.uniform(-1, 1, 3) * (search.stray_mm if far else search.shift_mm)


def _distance(grid: Grid, point_mm: NDArray[np.float64]) -> torch.Tensor:
    """mm from a point, on a grid; of axes that are at right angles, as all of our windows' are."""
    index, spacing = grid.to_index(point_mm), grid.spacing_mm
    squares = [((np.arange(n) - i) * step) ** 2 for n, i, step in zip(grid.shape, index, spacing, strict=True)]
    k, j, i = (torch.from_numpy(one.astype(np.float32)) for one in squares)
    return (k[:, None, None] + j[:, None] + i).sqrt()

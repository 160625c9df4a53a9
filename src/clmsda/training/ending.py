"""Scans that end near a tumor or within it, as crops do: nothing is known beyond, and the border goes on outwards."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clmsda.geometry import Grid


def ends(size_mm: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Where a scan is taken to end, (2, 3) mm: two faces in three, from within the tumor to well beyond it."""
    ends = size_mm * np.exp(rng.uniform(np.log(0.3), np.log(2.5), (2, 3)))
    return np.where(rng.random((2, 3)) < 2 / 3, ends, np.inf)


def anywhere(rng: np.random.Generator) -> NDArray[np.float64]:
    """Where a scan is taken to end about a window's middle, (2, 3) mm, its tumor within or not: two faces in three."""
    return np.where(rng.random((2, 3)) < 2 / 3, rng.uniform(10, 70, (2, 3)), np.inf)


def ended(
    hu: NDArray, grid: Grid, middle: NDArray[np.float64], ends_mm: NDArray[np.float64]
) -> tuple[NDArray, NDArray[np.bool_]]:
    """HU continued outwards from where the scan is taken to end, and where it has not ended yet."""
    center, last = grid.to_index(middle), np.array(grid.shape) - 1
    low = np.clip(np.ceil(center - ends_mm[0] / grid.spacing_mm), 0, last).astype(int)
    high = np.clip(np.floor(center + ends_mm[1] / grid.spacing_mm), low, last).astype(int)
    index = np.ix_(*(np.arange(n + 1).clip(a, b) for n, a, b in zip(last, low, high, strict=True)))
    within = np.zeros(grid.shape, bool)
    within[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))] = True
    return hu[index], within

"""How position attention's keys and values are averaged down to a budget of tokens. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray


def pooled_shape(shape: Sequence[int], tokens: int) -> tuple[int, ...]:
    """The largest shape of about these proportions with at most `tokens` voxels, halving the longest side; 0: any."""
    pooled = list(shape)
    while tokens and prod(pooled) > tokens:
        longest = max(pooled)
        pooled[pooled.index(longest)] = -(-longest // 2)
    return tuple(pooled)


def averages(length: int, pooled: int) -> NDArray[np.float64]:
    """(pooled, length) weights of the mean over `pooled` equal parts of an axis, exact where voxels are cut."""
    edges = np.linspace(0, length, pooled + 1)
    voxel = np.arange(length, dtype=np.float64)
    overlap = np.minimum(edges[1:, None], voxel + 1) - np.maximum(edges[:-1, None], voxel)
    return np.clip(overlap, 0, None) * (pooled / length)

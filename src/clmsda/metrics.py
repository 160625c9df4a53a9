"""How well a mask agrees with the truth: F1, recall, precision, surface Dice, Hausdorff distance.

Two empty masks agree: 1 (a distance of 0). Of an empty and a filled one, nothing agrees: 0
(a distance of infinity).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from clmsda.errors import InputError


class ShapeMismatch(InputError):
    """Two masks, or a mask and a spacing, that do not fit each other."""


def f1(pred: ArrayLike, truth: ArrayLike) -> float:
    """F1 score (Dice coefficient) of two masks of one shape: 2 TP / (2 TP + FP + FN)."""
    a, b = _pair(pred, truth)
    return _ratio(2 * _count(a & b), _count(a) + _count(b))


def recall(pred: ArrayLike, truth: ArrayLike) -> float:
    """Found part of the truth: TP / (TP + FN); 0 where only one of the masks is empty."""
    a, b = _pair(pred, truth)
    return _ratio(_count(a & b), _count(b)) if a.any() == b.any() else 0.0


def precision(pred: ArrayLike, truth: ArrayLike) -> float:
    """True part of what was found: TP / (TP + FP); 0 where only one of the masks is empty."""
    return recall(truth, pred)


def surface_dice(pred: ArrayLike, truth: ArrayLike, spacing_mm: Sequence[float], tolerance_mm: float = 2.0) -> float:
    """Part of both surfaces that lies within `tolerance_mm` of the other one (Nikolov et al. 2018).

    pred, truth: masks of one shape. spacing_mm: one length per axis.
    The surface consists of the cells between voxel centers (2x2x2) whose corners are not alike, each
    weighted by its share of the area (see `_surface`). Distances run between the cells' centers.
    """
    surfaces = _surface_distances(pred, truth, spacing_mm)
    if surfaces is None:
        return 0.0 if np.any(pred) or np.any(truth) else 1.0
    near = sum(float(area[distance <= tolerance_mm + 1e-9].sum()) for distance, area in surfaces)
    return near / sum(float(area.sum()) for _, area in surfaces)


def hd95(pred: ArrayLike, truth: ArrayLike, spacing_mm: Sequence[float]) -> float:
    """95 % Hausdorff distance in mm: 95 % of each surface's area lies within it of the other one.

    The larger of both directions. Surfaces as in `surface_dice`.
    """
    surfaces = _surface_distances(pred, truth, spacing_mm)
    if surfaces is None:
        return float("inf") if np.any(pred) or np.any(truth) else 0.0
    return max(_quantile(distance, area, 0.95) for distance, area in surfaces)


def _pair(pred: ArrayLike, truth: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    a, b = np.asarray(pred, dtype=bool), np.asarray(truth, dtype=bool)
    if a.shape != b.shape:
        raise ShapeMismatch(f"expected two masks of one shape, found {a.shape} and {b.shape}: put them on one grid")
    return a, b


def _count(mask: NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(mask))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


_Surface = tuple[NDArray[np.float64], NDArray[np.float64]]


def _surface_distances(pred: ArrayLike, truth: ArrayLike, spacing_mm: Sequence[float]) -> list[_Surface] | None:
    """Per surface (pred, truth): distance in mm to the other one and area of each of its cells.

    None where a mask is empty.
    """
    a, b = _pair(pred, truth)
    if len(spacing_mm) != a.ndim:
        raise ShapeMismatch(f"expected one spacing per axis of a mask of shape {a.shape}, found {tuple(spacing_mm)}")
    if not a.any() or not b.any():
        return None
    box = ndimage.find_objects((a | b).astype(np.uint8))[0]
    area_a, area_b = (_surface(np.pad(mask[box], 1), spacing_mm) for mask in (a, b))
    result = []
    for own, other in ((area_a, area_b), (area_b, area_a)):
        distance = ndimage.distance_transform_edt(other == 0, sampling=spacing_mm)
        result.append((distance[own > 0], own[own > 0]))
    return result


def _surface(mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> NDArray[np.float64]:
    """Area (mm2; in two dimensions length) of a mask's surface in each cell between voxel centers.

    A cell has 2**(n-1) edges along each axis. The part of them that leaves the mask, times the area of
    a cell's face across that axis, is the surface's projection on the axis; the area is the length of
    the vector of projections. Exact for surfaces along the axes and along diagonals.
    """
    squares = np.zeros([n - 1 for n in mask.shape])
    for axis in range(mask.ndim):
        crossed = np.diff(mask, axis=axis).astype(np.float64)
        for other in (d for d in range(mask.ndim) if d != axis):
            head = tuple(slice(None, -1) if d == other else slice(None) for d in range(mask.ndim))
            tail = tuple(slice(1, None) if d == other else slice(None) for d in range(mask.ndim))
            crossed = (crossed[head] + crossed[tail]) / 2
        face = float(np.prod([spacing_mm[d] for d in range(mask.ndim) if d != axis]))
        squares += (crossed * face) ** 2
    return np.sqrt(squares)


def _quantile(values: NDArray[np.float64], weights: NDArray[np.float64], q: float) -> float:
    """The smallest value that at least a part `q` of the weight does not exceed."""
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(cumulative, q * cumulative[-1] * (1 - 1e-12))])

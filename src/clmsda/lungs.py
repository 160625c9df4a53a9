"""Where the lungs are in a chest CT: by their air; and where a tumor of theirs may be, which has none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull

from clmsda.errors import InputError
from clmsda.geometry import Grid, Volume, resample

STEP_MM = 2.0
"""Lungs are looked for on voxels of this size."""

_DENSEST_HU, _EMPTIEST_HU = -400.0, -960.0
"""Lung is denser than air, on the whole, even with emphysema."""
_ROOM_HU = -930.0
_BODY_HU = -300.0
_SMALLEST_ML = 100.0
_MARGIN_MM = 12.0


class NoLungs(InputError):
    """A CT without lungs: of the head or the abdomen, or not in Hounsfield units."""


def coarse(ct: Volume, step_mm: float = STEP_MM) -> Volume:
    """The whole CT on an axial grid of cubic voxels."""
    corners = ct.grid.to_lps(np.array(list(np.ndindex(2, 2, 2))) * (np.array(ct.grid.shape) - 1))
    low, high = corners.min(axis=0), corners.max(axis=0)
    shape = tuple(int(n) for n in np.ceil((high - low)[::-1] / step_mm) + 1)
    grid = Grid.axial(shape, (step_mm,) * 3, center_mm=(low + high) / 2)  # type: ignore[arg-type]
    return resample(ct, grid, fill=None)


def lungs(ct: Volume) -> NDArray[np.bool_]:
    """The air of both lungs and the large airways, in a CT as `coarse` gives it: bool, of its shape.

    What reaches a corner of a slice is the room's, with what lies about in it; but for a lung in a crop. Raises
    NoLungs where no air of at least 100 ml is like a lung's.
    """
    labels, count = ndimage.label(ndimage.gaussian_filter(ct.voxels, 0.5) < _DENSEST_HU)
    numbers = np.arange(1, count + 1)
    numbers = numbers[np.bincount(labels.ravel())[1:] * ct.grid.voxel_ml >= _SMALLEST_ML]
    kept: NDArray[np.bool_] = np.zeros(count + 1, bool)
    corners = set(labels[:, [0, 0, -1, -1], [0, -1, 0, -1]].ravel().tolist())
    for number in map(int, numbers):
        low, middle = np.percentile(ct.voxels[labels == number], (25, 50))
        kept[number] = middle > _EMPTIEST_HU and (low > _ROOM_HU or number not in corners)
    if not kept.any():
        raise NoLungs(
            f"{ct.source or 'the CT'}: found no lungs (at least {_SMALLEST_ML:g} ml of air like theirs): "
            "expected a CT of the chest in Hounsfield units"
        )
    return np.asarray(kept[labels])


def around(ct: Volume, air: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where a tumor of the lungs may be: bool, of a coarse CT's shape.

    What lies between both lungs, slice by slice, and about 12 mm beyond; each lung counts on the other side, too,
    for a tumor may fill one.
    """
    chest = np.flatnonzero(air.any(axis=(1, 2)))
    body = np.nonzero((ct.voxels[chest] > _BODY_HU).any(axis=1))[1]
    middle = float(np.median(body)) if len(body) else (air.shape[2] - 1) / 2
    found: NDArray[np.bool_] = np.zeros(air.shape, bool)
    for plane, lung in zip(found, air, strict=True):
        points = np.argwhere(lung & ~ndimage.binary_erosion(lung)).astype(float)
        both = np.vstack([points, np.column_stack([points[:, 0], 2 * middle - points[:, 1]])])
        if len(points) and np.ptp(both, axis=0).min() >= 1:
            plane[:] = _within(ConvexHull(both), plane.shape)
    found |= air
    (near,) = ndimage.find_objects(found.astype(np.int8))
    reach = np.ceil(_MARGIN_MM / ct.grid.spacing_mm).astype(int)
    box = tuple(slice(max(s.start - r, 0), s.stop + r) for s, r in zip(near, reach, strict=True))
    found[box] = ndimage.distance_transform_edt(~found[box], sampling=ct.grid.spacing_mm) <= _MARGIN_MM
    return found


def _within(hull: ConvexHull, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The pixels (rows, columns) within a convex polygon."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    inside = np.ones(shape, bool)
    for row, column, offset in hull.equations:
        inside &= row * rows + column * columns + offset <= 1e-9
    return inside

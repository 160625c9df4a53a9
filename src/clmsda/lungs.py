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
_EMPHYSEMA_HU, _VESSELS_HU, _EMPHYSEMA_ML = -985.0, -950.0, 1000.0
"""With severe emphysema half of it is still denser than the first of these, and a quarter than the second, as gas in
the bowel seldom is, of which there is less, too."""
_ROOM_HU = -930.0
_BODY_HU = -300.0
_SMALLEST_ML = 100.0
_MARGIN_MM = 12.0
_CHANNEL_MM = 12.0
"""What is narrower does not make a lung a part of the room: the mouth, a drain, a wound."""
_LEAST_TISSUE = 0.25
"""With less tissue than this share of what slices have, a slice shows the room alone, or padding."""

_WHOLE_CHEST_ML = 1000.0
_CUT_SHARE = 0.7
"""An end slice with more lung than this share of what the fullest one has cuts the lungs; 0.55 is often seen, where
scans end within the bases."""
_SIDE_CM2 = 2.0

_IN_SLICE: NDArray[np.bool_] = ndimage.generate_binary_structure(3, 1) & np.array([False, True, False])[:, None, None]
"""Neighbors within a slice."""


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

    What reaches a corner of a slice is the room's, with what lies about in it; but for a lung in a crop, and for lungs
    that only a channel, or slices without a body, link to the room. Raises NoLungs where no air of at least 100 ml is
    like a lung's.
    """
    air = ndimage.gaussian_filter(ct.voxels, 0.5) < _DENSEST_HU
    air[~shown(ct)] = False
    found, room = _apart(ct, air)
    if room.any():
        found |= _apart(ct, _behind_channels(ct, room))[0]
    if not found.any():
        raise NoLungs(
            f"{ct.source or 'the CT'}: found no lungs (at least {_SMALLEST_ML:g} ml of air like theirs): "
            "expected a CT of the chest in Hounsfield units"
        )
    return found


def shown(ct: Volume) -> NDArray[np.bool_]:
    """Which slices of a coarse CT show more than the room or padding: (slices,) bool."""
    tissue = (ct.voxels >= _DENSEST_HU).mean(axis=(1, 2))
    usual = np.median(tissue[tissue > 0]) if tissue.any() else 0.0
    low = np.percentile(ct.voxels, 25, axis=(1, 2))
    return np.asarray((low > _ROOM_HU) | (tissue > _LEAST_TISSUE * usual))


def _apart(ct: Volume, air: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Of all connected air what is lung, and what is the room."""
    labels, count = ndimage.label(air)
    sizes_ml = np.bincount(labels.ravel(), minlength=count + 1) * ct.grid.voxel_ml
    kept: NDArray[np.bool_] = np.zeros(count + 1, bool)
    room = kept.copy()
    corners = set(labels[:, [0, 0, -1, -1], [0, -1, 0, -1]].ravel().tolist())
    for number in (n for n in range(1, count + 1) if sizes_ml[n] >= _SMALLEST_ML):
        low, middle, high = np.percentile(ct.voxels[labels == number], (25, 50, 75))
        room[number] = number in corners and low <= _ROOM_HU
        emphysema = middle > _EMPHYSEMA_HU and high > _VESSELS_HU and sizes_ml[number] >= _EMPHYSEMA_ML
        kept[number] = (middle > _EMPTIEST_HU or emphysema) and not room[number]
    return np.asarray(kept[labels]), np.asarray(room[labels])


def _behind_channels(ct: Volume, room: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What a channel alone links to the room: in its slice it lies in the body, apart from all that is wide outside."""
    inside = _in_body(ct)
    kept: NDArray[np.bool_] = np.zeros(room.shape, bool)
    box = next(iter(ndimage.find_objects(inside.astype(np.int8))), None)
    if box is None:
        return kept
    reach = max(1, round(_CHANNEL_MM / 2 / float(ct.grid.spacing_mm[1])))
    square = (1, 2 * reach + 1, 2 * reach + 1)
    wide, count = ndimage.label(ndimage.minimum_filter(room[box], square, mode="nearest"), _IN_SLICE)
    within = ndimage.mean(inside[box], wide, np.arange(count + 1)) > 0.5
    within[0] = False
    outside = ndimage.maximum_filter((wide > 0) & ~within[wide], square)
    kept[box] = ndimage.binary_dilation(within[wide], _IN_SLICE, iterations=2 * reach, mask=room[box] & ~outside)
    return kept


def _in_body(ct: Volume) -> NDArray[np.bool_]:
    """Which voxels have tissue, thicker than a table's shell, on all four sides in their slice."""
    tissue = ndimage.binary_opening(ct.voxels > _BODY_HU, np.ones((1, 3, 3)))
    inside: NDArray[np.bool_] = np.ones(tissue.shape, bool)
    for axis in (1, 2):
        inside &= np.logical_or.accumulate(tissue, axis=axis)
        inside &= np.flip(np.logical_or.accumulate(np.flip(tissue, axis), axis=axis), axis)
    return inside


def missing(ct: Volume, air: NDArray[np.bool_]) -> str:
    """Why a scan may not show all of the lungs; empty where it seems to. ct, air: a coarse CT, and its `lungs`."""
    total_ml = float(air.sum() * ct.grid.voxel_ml)
    reasons = [f"only {total_ml:.0f} ml of lung were found"] * (total_ml < _WHOLE_CHEST_ML)
    areas = air.sum(axis=(1, 2))[shown(ct)]
    ends = [
        name
        for name, area in zip(("lowest", "highest"), areas[[0, -1]], strict=True)
        if area > _CUT_SHARE * areas.max()
    ]
    if ends:
        reasons.append(f"they are cut off at the {' and the '.join(ends)} slice")
    faces = {"right": air[:, :, 0], "left": air[:, :, -1], "front": air[:, 0], "back": air[:, -1]}
    pixel_cm2 = float(ct.grid.spacing_mm[0] * ct.grid.spacing_mm[1]) / 100
    sides = [name for name, face in faces.items() if face.sum() * pixel_cm2 > _SIDE_CM2]
    if sides:
        reasons.append(f"they reach the image's {' and '.join(sides)} side")
    return f"the scan may not show all of the lungs: {', '.join(reasons)}" if reasons else ""


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

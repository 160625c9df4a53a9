"""Are these the Hounsfield units of a chest CT?"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from clmsda.geometry import Grid, Volume
from clmsda.images.errors import GantryTilt, ImpossibleSpacing, NotHounsfield, TooLarge

SPACING_MM = (0.05, 25.0)
"""Shortest and longest distance between voxels that is believed."""

AIR_BELOW_HU = -500
SOFT_TISSUE_HU = (-200, 300)
LEAST_PART = 0.001
"""At least this part of the voxels must be air or lung, and at least this part soft tissue."""

PIECE_MM = 80.0
LOWEST_HU = -1100
"""A CT whose longest side is shorter may be a piece of lung: most of it air or lung, nothing below this, and a nodule
that is no soft tissue, such as ground glass, in it."""

MOST_VOXELS = 1 << 31
"""Eight times as many as the largest CTs have: what claims more is damaged or malicious."""

DRIFT_MM = 0.5
"""How far the first voxels of the slices may leave their common line: rounding in headers, not tilt."""


def check_size(shape: Sequence[int], name: str) -> None:
    """Raise TooLarge for more than `MOST_VOXELS`, before memory is asked for."""
    if prod(int(length) for length in shape) > MOST_VOXELS:
        raise TooLarge(
            f"{name} claims {'x'.join(str(int(length)) for length in shape)} voxels; expected at most "
            f"{MOST_VOXELS:,} in all: it is damaged, or give a part of it"
        )


def check_straight(grid: Grid, name: str) -> None:
    """Raise GantryTilt if the axes are sheared so that an edge's end is more than `DRIFT_MM` away from where it ought
    to be."""
    directions = grid.affine[:3, :3] / grid.spacing_mm
    lengths = grid.spacing_mm * (np.array(grid.shape) - 1)
    cosines = np.abs(directions.T @ directions - np.eye(3))
    if (cosines * np.maximum.outer(lengths, lengths)).max() > DRIFT_MM:
        raise GantryTilt(
            f"{name}: its axes are sheared by {np.degrees(np.arcsin(min(1.0, cosines.max()))):.1f} degrees against "
            "each other, as by a tilted gantry: use an untilted reconstruction, or resample it"
        )


def check_spacing(grid: Grid, name: str) -> None:
    """Raise ImpossibleSpacing unless every spacing lies in `SPACING_MM` (0.0007 is meters, not mm)."""
    spacing = grid.spacing_mm
    if spacing.min() < SPACING_MM[0] or spacing.max() > SPACING_MM[1]:
        found = " x ".join(f"{s:.4g}" for s in spacing)
        raise ImpossibleSpacing(
            f"{name}: voxels of {found} mm (slice, row, column) are not those of a chest CT: expected "
            f"{SPACING_MM[0]} to {SPACING_MM[1]:g} mm; correct the header (is the unit millimeters?)"
        )


def check_ct(volume: Volume) -> None:
    """Raise NotHounsfield unless the values can be Hounsfield units of a chest CT.

    Plausible is: finite; more than one value; not within 0..255 (a rescaled picture) or 0..1;
    at least 0.1 % of the voxels air or lung (below -500 HU) and at least 0.1 % soft tissue
    (-200 to 300 HU) or, where it is smaller than `PIECE_MM`, lung with something denser in it. Every part of a chest
    larger than a fist passes; stored values without their rescale intercept, windowed pictures, masks and MR images
    do not.
    """
    name = volume.source or "the image"
    voxels = volume.voxels
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        count = int(np.count_nonzero(~np.isfinite(voxels)))
        raise NotHounsfield(f"{name}: {count} voxels are not a number or infinite; expected Hounsfield units")
    lowest, highest = float(voxels.min()), float(voxels.max())
    found = f"found {lowest:g} to {highest:g}"
    if lowest == highest:
        raise NotHounsfield(f"{name}: all voxels have one value, {lowest:g}; expected Hounsfield units of a chest CT")
    if lowest >= 0 and highest <= 255:
        raise NotHounsfield(
            f"{name}: {found}: a picture rescaled to 0..{'255' if highest > 1 else '1'}, not Hounsfield units "
            "(air -1000, water 0); convert it again from DICOM without rescaling"
        )
    air, soft = _parts(voxels)
    if air < LEAST_PART:
        raise NotHounsfield(
            f"{name}: no air or lung (below {AIR_BELOW_HU} HU), {found}: not a chest CT in Hounsfield units; "
            "is the rescale intercept (often -1024) missing?"
        )
    if soft < LEAST_PART and not _piece_of_lung(volume, air):
        raise NotHounsfield(
            f"{name}: no soft tissue ({SOFT_TISSUE_HU[0]} to {SOFT_TISSUE_HU[1]} HU), {found}: "
            "not a chest CT in Hounsfield units"
        )


def _piece_of_lung(volume: Volume, air: float) -> bool:
    """Whether this is so small, and so like lung, that soft tissue need not be seen. air: the part that is so."""
    small = (volume.grid.spacing_mm * volume.grid.shape).max() < PIECE_MM
    return bool(small and volume.voxels.min() >= LOWEST_HU and 0.5 <= air <= 1 - LEAST_PART)


def _parts(voxels: NDArray) -> tuple[float, float]:
    """The parts of the voxels that are air or lung, and soft tissue: of every fourth row and column if large."""
    step = 4 if voxels.size > 2_000_000 else 1
    sample = voxels[:, ::step, ::step]
    lower, upper = SOFT_TISSUE_HU
    return float(np.mean(sample < AIR_BELOW_HU)), float(np.mean((sample >= lower) & (sample <= upper)))

"""What the scan says against a mask, whoever made it: a line for each doubt."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from clmsda.geometry import Volume
from clmsda.measurements import bounding_box
from clmsda.segmentation.borders import FAINT, missing_border
from clmsda.segmentation.views import AERATED_HU

EMPTY = 0.5
"""Most of a mask as empty as lung is worth a word: of 89 validation lesions 5 were, 4 of them with F1 below 0.1."""
SMOOTHED_MM = 1.0
"""Standard deviation by which the CT is smoothed before air is looked for: noise is none."""


def doubts(mask: Volume, image: Volume) -> list[str]:
    """mask: bool, not empty, on the grid of image (HU)."""
    said = []
    if ends := ends_reached(mask):
        said.append(f"the tumor reaches {ends}: it may be incomplete")
    share, side = missing_border(mask, image)
    if share > FAINT:
        said.append(f"no border to be seen on {share:.0%} of its surface, mostly towards {side}: check it there")
    if (empty := aerated(mask, image)) > EMPTY:
        said.append(f"{empty:.0%} of it is as empty as lung: is it a tumor?")
    return said


def ends_reached(mask: Volume) -> str:
    """Where a mask, which is not empty, reaches the end of the scan, as words; "" where it does not.

    A scan that is one voxel wide along an axis has no ends there, but for slices.
    """
    faces = [any(mask.voxels.take(end, axis=axis).any() for end in (0, -1)) for axis in range(3)]
    first, *sides = faces[0], *(face and n > 1 for face, n in zip(faces[1:], mask.grid.shape[1:], strict=True))
    places = (["the first or last slice of the scan"] if first else []) + (["a side of the scan"] if any(sides) else [])
    return " and ".join(places)


def aerated(mask: Volume, image: Volume) -> float:
    """Which share of a lesion is as empty as lung. mask: bool, not empty, on the grid of image (HU)."""
    lower, upper = bounding_box(mask.voxels)
    inside, part = mask.crop(lower, upper).voxels, image.crop(lower, upper)
    hu = ndimage.gaussian_filter(part.voxels.astype(np.float32), SMOOTHED_MM / part.grid.spacing_mm, mode="nearest")
    return float((hu[inside] < AERATED_HU).mean())

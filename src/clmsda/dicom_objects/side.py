"""Which lung a lesion lies in, where its slice shows it beyond doubt.

A wrong side in a report is worse than none. So both lungs must show in the lesion's largest slice, apart from each
other as lungs are, and the lesion must lie well to one side of the middle between them.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clmsda.geometry import Volume
from clmsda.measurements import bounding_box

Side = Literal["left", "right"]

LUNG_BELOW_HU = -500
LUNG_MEAN_HU = (-960, -600)
"""Means of what counts as a lung: not of the air between arm and chest."""
LUNG_CM2 = 20.0
"""The smallest lung that counts, and no less than a third of the other."""
APART_MM = 90.0
"""How far apart the middles of two lungs are at least. Two lobes of one lung are nearer."""
OFF_MIDDLE_MM = 25.0
"""How far from the middle between the lungs a lesion's center must lie."""


def side_of(mask: Volume, image: Volume, k: int) -> Side | None:
    """The side of the lesion whose largest slice is k; None where it is not certain.

    mask: bool, on the grid of image. image: HU. None also for slices that do not run from side to side.
    """
    plane = image.grid.affine[:3, 1:3]
    lower, upper = bounding_box(mask.voxels)
    lungs = _lungs(image.voxels[k], abs(float(np.linalg.norm(np.cross(*plane.T)))) / 100)
    if len(lungs) != 2:
        return None
    # Distances along x, which grows to the patient's left, from any origin.
    one, other = (float(plane[0] @ middle) for middle in lungs)
    extent = plane[0] @ np.array([(lower[1], lower[2]), (upper[1] - 1, upper[2] - 1)], float).T
    off_mm = float(extent.mean()) - (one + other) / 2
    crosses = extent.min() <= (one + other) / 2 <= extent.max()
    if abs(one - other) < APART_MM or abs(off_mm) < OFF_MIDDLE_MM or crosses:
        return None
    return "left" if off_mm > 0 else "right"


def _lungs(plane: NDArray, pixel_cm2: float) -> list[NDArray[np.float64]]:
    """The middles (row, column) of the lungs in a slice: two, where both show clearly.

    Lungs are the largest regions of their density that the image does not cut off.
    """
    labels, count = ndimage.label(np.pad(plane < LUNG_BELOW_HU, 1, constant_values=True))
    outside = labels[0, 0]  # all that touches the edge of the image
    labels, numbers = labels[1:-1, 1:-1], np.arange(1, count + 1)
    areas_cm2 = ndimage.sum_labels(np.ones_like(plane), labels, numbers) * pixel_cm2
    means = ndimage.mean(plane, labels, numbers)
    fits = (numbers != outside) & (areas_cm2 >= LUNG_CM2) & (means > LUNG_MEAN_HU[0]) & (means < LUNG_MEAN_HU[1])
    largest = sorted(numbers[fits], key=lambda number: -areas_cm2[number - 1])[:2]
    if len(largest) < 2 or areas_cm2[largest[1] - 1] < areas_cm2[largest[0] - 1] / 3:
        return []
    return [np.argwhere(labels == number).mean(axis=0) for number in largest]

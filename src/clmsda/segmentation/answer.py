"""What a way through a tumor gives: `Answer`. `walk` is the 2-D network's way, `whole` the 3-D network's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clmsda.geometry import Volume, place
from clmsda.measurements import bounding_box
from clmsda.segmentation.views import lesion_at


@dataclass(frozen=True, eq=False)
class Answer:
    """Where a model sees the lesion.

    mask: bool, on (a part of) the CT's grid: candidates, of which the component at the click is the lesion.
    click_mm: where the lesion is. size_mm: how large, about. agreement: of different looks, 0..1; nan for one look.
    """

    mask: Volume
    click_mm: NDArray[np.float64]
    size_mm: float
    agreement: float
    warnings: tuple[str, ...] = ()

    def lesion(self, whole: Volume) -> Volume | None:
        """The lesion as a mask on the whole CT's grid; None where there is none at the click."""
        mask = np.zeros(whole.grid.shape, bool)
        mask[place(self.mask.grid, whole.grid)] = self.mask.voxels
        return lesion_at(Volume(mask, whole.grid, whole.source), self.click_mm, self.size_mm)


def fill_slices(mask: NDArray[np.bool_]) -> None:
    """Fill in place what the mask encloses within a slice: readers outline tumors, with cavities and open bronchi."""
    lower, upper = bounding_box(mask)
    part = mask[tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))]
    for plane in part:
        plane |= ndimage.binary_fill_holes(plane)

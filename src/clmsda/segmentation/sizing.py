"""Self-sizing: how large is the tumor at a click, when nobody says? (design section 2.6)

A network that was taught to agree with itself over sizes answers the same for every assumed size
near the true one, and differently far from it. So many sizes are tried at once, and the one whose
measured size is what it assumed, and whose neighbors say the same, is kept and refined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clmsda.geometry import Volume
from clmsda.marks import Marks
from clmsda.models import Model
from clmsda.segmentation.views import Sighting, agreement, look, sight

SMALLEST_MM, LARGEST_MM = 6.0, 150.0
CANDIDATES_MM = tuple(np.geomspace(8.0, 128.0, 9))
ROUNDS = 3
AIRY = 0.25
"""More air than this share is no tumor: ground glass and cavities have less, a mask of half a lung has nearly all."""
ENDED = 0.5
"""What ends where the scan does on more of its surface than this is no tumor: it fills a crop, or a half of one."""
LESS = 0.25
"""A look that is by more than this (octaves, of air and of the scan's ends) less like something is not followed."""
SETTLED = 0.1  # a size settles when a round changes it by less than this share


BELIEVED = 1.5
"""A prompt's size is followed where self-sizing is off it by more than this factor; else self-sizing is more exact."""
UNSETTLED = "the size did not settle: give a RECIST line or a box to be sure"


@dataclass(frozen=True)
class Sized:
    """Where self-sizing ended. settled: False where the size was still moving."""

    center_mm: NDArray[np.float64]
    size_mm: float
    settled: bool


def find_size(
    volume: Volume, model: Model, click_mm: NDArray, directions: NDArray, marks: Marks | None = None
) -> Sized | None:
    """The size and center of the tumor at a click; None where no assumed size shows a tumor.

    marks: what was said about the lesion; by default the click alone.
    """
    views = look(volume, model, click_mm, click_mm, CANDIDATES_MM, directions, marks)
    start = choose([sight(view, click_mm) for view in views])
    return None if start is None else settle(volume, model, click_mm, start, directions, marks)


def as_told(found: Sized | None, click_mm: NDArray, size_mm: float | None) -> Sized | None:
    """What self-sizing found, or the prompt's own size and center where it has one that says otherwise."""
    if size_mm is None:
        return found
    told = float(np.clip(size_mm, SMALLEST_MM, LARGEST_MM))
    if found is not None and 1 / BELIEVED < found.size_mm / told < BELIEVED:
        return replace(found, settled=True)
    return Sized(click_mm, told, True)


def choose(sightings: Sequence[Sighting | None]) -> Sighting | None:
    """The most self-consistent of neighboring assumed sizes.

    The cost of a candidate is how far (in octaves) its measured size is from the assumed one, plus
    how much it disagrees with its neighbors; a lesion cut off by the patch's border costs one octave,
    and so does one that is all air, or ends nowhere but with the scan: a size must also look like
    something (see `AIRY`, `ENDED`). Without the last, 3 of 90 validation lesions became all of a small crop.
    """
    best, lowest = None, np.inf
    for k, sighting in enumerate(sightings):
        if sighting is None:
            continue
        neighbors = [s for s in (*sightings[max(k - 1, 0) : k], *sightings[k + 1 : k + 2]) if s is not None]
        disagreement = 1 - np.mean([agreement(sighting, other) for other in neighbors]) if neighbors else 1.0
        octaves = abs(np.log2(sighting.measurement.size_mm / sighting.view.assumed_mm))
        cost = octaves + disagreement + sighting.cut_off + _nothing(sighting)
        if cost < lowest:
            best, lowest = sighting, cost
    return best


def _nothing(sighting: Sighting) -> float:
    """How little a lesion looks like something, in octaves: 0 for a tumor, 1 for air, 2 for air that fills the scan."""
    parts = ((sighting.air, AIRY), (sighting.ended, ENDED))
    return sum(max(0.0, share - limit) / (1 - limit) for share, limit in parts)


def settle(
    volume: Volume,
    model: Model,
    click_mm: NDArray,
    start: Sighting,
    directions: NDArray,
    marks: Marks | None = None,
) -> Sized:
    """Look again at the size and center just measured, until they stop moving (at most three rounds).

    A look that shows nothing, or much less of a tumor than the one before, is not followed: the size and the place
    that showed the tumor last are kept.
    """
    sighting, size = start, float(np.clip(start.measurement.size_mm, SMALLEST_MM, LARGEST_MM))
    for _ in range(ROUNDS):
        center = middle(sighting, click_mm, volume)
        (view,) = look(volume, model, click_mm, center, [size], directions, marks)
        again = sight(view, click_mm)
        if again is None or _nothing(again) > _nothing(sighting) + LESS:
            return Sized(sighting.view.grid.center_mm, sighting.view.assumed_mm, False)
        measured = again.measurement.size_mm * (1.4 if again.cut_off else 1.0)  # zoom out of what is cut off
        before, size = size, float(np.clip(measured, SMALLEST_MM, LARGEST_MM))
        sighting = again
        if abs(size / before - 1) < SETTLED:
            return Sized(middle(sighting, click_mm, volume), size, True)
    return Sized(middle(sighting, click_mm, volume), size, False)


def middle(sighting: Sighting, click_mm: NDArray, volume: Volume) -> NDArray[np.float64]:
    """Where to look next: the middle of the lesion's extent; for a 2-D view, within the clicked slice."""
    index = np.argwhere(sighting.mask.voxels)
    center = sighting.mask.grid.to_lps((index.min(axis=0) + index.max(axis=0)) / 2)
    if sighting.view.grid.shape[0] > 1:
        return center
    k = volume.grid.to_index(click_mm)[0]
    _, row, column = volume.grid.to_index(center)
    return volume.grid.to_lps([k, row, column])

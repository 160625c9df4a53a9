"""A 3-D network's way to a tumor: one patch holds it all. Found among sizes, looked at as a whole, then finely.

The fine look is the same network on finer voxels, in a window that follows the tumor; it sees what was found before.
A model that was not trained to stops before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from clmsda.geometry import Grid, Volume, box_around
from clmsda.marks import Marks
from clmsda.measurements import bounding_box, measure
from clmsda.models import Model
from clmsda.patches import AXIAL, cut, restore, view_grid
from clmsda.prompts import Request
from clmsda.segmentation.answer import Answer
from clmsda.segmentation.extent import confined
from clmsda.segmentation.level import HARDLY, LOWEST, best_level
from clmsda.segmentation.sizing import LARGEST_MM, SMALLEST_MM, UNSETTLED, Sized, as_told, find_size
from clmsda.segmentation.views import (
    FUSED,
    Sighting,
    View,
    agreement,
    answers,
    lesion_at,
    look,
    sight,
    touches_border,
)

SPREAD = (0.65, 0.8, 1.0)
"""Assumed sizes of the views of the whole, over the size found: fused, they are the first mask; how far they agree
is its worth. Finer than the size asks for, as borders gain more from small voxels than they lose with what is far."""

FINE = 2.4
"""The fine look's voxels are so many times finer than those that the size asks for."""
FINE_THRESHOLD = 0.5
MARGIN = 12
"""Voxels of the fine look beyond the first mask, on each side."""
LONGEST = 112
"""The fine look's longest side, in voxels: of what is longer it sees less finely."""


def whole(volume: Volume, model: Model, request: Request, say: Callable[[str], None]) -> Answer | None:
    """Where a 3-D model sees the lesion that is asked for; None where it sees nothing, at any size.

    Corrections come after it.
    """
    request = replace(request, corrections=())
    if request.mask is not None:
        say("looking again")
        return _again(volume, model, request, request.mask)
    found = _first(volume, model, request, np.asarray(request.center_mm, dtype=np.float64), say)
    return None if found is None else confined(found, volume, request)


def _first(volume: Volume, model: Model, request: Request, click: NDArray, say: Callable[[str], None]) -> Answer | None:
    """Sizes, the whole, and the fine look."""
    say("trying sizes")
    sized = as_told(find_size(volume, model, click, AXIAL, request.marks), click, request.size_mm)
    if sized is None:
        return None
    warnings = [] if sized.settled else [UNSETTLED]
    say("looking at the whole")
    views, cut_off = _views(volume, model, request.marks, click, sized)
    if cut_off:
        warnings.append("the tumor reaches the border of the patch: it may be incomplete")
    size = views[-1].assumed_mm
    coarse = restore([(v.probabilities, v.grid) for v in views], where_any_sees(views, volume.grid, FUSED))
    mask = Volume(coarse.voxels > FUSED, coarse.grid)
    sightings = [sight(view, click) for view in views]
    before = lesion_at(mask, click, size)
    if not model.config.patches.corrections or before is None:
        return Answer(mask, click, size, _mean_agreement(sightings), tuple(warnings))
    say("looking finely")
    fine = _fine(volume, model, request.marks, coarse, before)
    sightings.append(sight(fine, click))
    looks = [*views, fine]
    mean = restore([(v.probabilities, v.grid) for v in looks], where_any_sees(looks, volume.grid, LOWEST))
    level = best_level(mean, volume, click, size, request.marks)
    if level.slope < HARDLY:
        warnings.append(f"the CT hardly changes at its border, by {level.slope:.0f} HU a mm: it may end elsewhere")
    mask = Volume(mean.voxels > level.probability, mean.grid)
    return Answer(mask, click, size, _mean_agreement(sightings), tuple(warnings))


def _views(volume: Volume, model: Model, marks: Marks, click: NDArray, sized: Sized) -> tuple[list[View], bool]:
    """Views of the whole around the size found, zoomed out while the border cuts it off; whether it still does."""
    size = sized.size_mm
    for _ in range(4):
        views = look(volume, model, click, sized.center_mm, [size * factor for factor in SPREAD], AXIAL, marks)
        cut_off = any(s is not None and s.cut_off for s in (sight(view, click) for view in views[1:]))
        if size >= LARGEST_MM or not cut_off:
            break
        size = min(1.4 * size, LARGEST_MM)
    return views, cut_off


def _fine(volume: Volume, model: Model, marks: Marks, before: Volume, mask: Volume) -> View:
    """The same network on fine voxels, in a window around a mask that it found before.

    before: its probabilities, or a mask: what the network sees of it. Where the answer reaches the window's border,
    the window moves out once.
    """
    view = _look_finely(volume, model, marks, before, mask)
    found = view.probabilities > FINE_THRESHOLD
    if found.any() and touches_border(found):
        wider = Volume(found, view.grid)
        view = _look_finely(volume, model, marks, before, wider)
    return view


def _look_finely(volume: Volume, model: Model, marks: Marks, before: Volume, mask: Volume) -> View:
    config = model.config.patches
    size = float(np.clip(measure(mask).size_mm, SMALLEST_MM, LARGEST_MM))
    grid = _window(model, mask, size)
    patch = cut(volume, grid, replace(config, shape=grid.shape), marks, _float(before))
    (view,) = answers(model, patch[None], [grid], [size], volume.grid)
    return view


def _window(model: Model, mask: Volume, size_mm: float) -> Grid:
    """A grid of fine, cubic voxels around a mask; its sides are multiples of what the network takes."""
    config, step = model.config.patches, model.config.network.size_multiple
    lower, upper = bounding_box(mask.voxels)
    corners = mask.grid.to_lps(lower + np.array(list(np.ndindex(2, 2, 2))) * (upper - 1 - lower))
    low, high = corners.min(axis=0), corners.max(axis=0)
    sides_mm = (high - low)[::-1] + mask.grid.spacing_mm.max()
    spacing = config.spacing_mm / (config.ratio(size_mm) * FINE)
    spacing = max(spacing, float(sides_mm.max()) / (LONGEST - 2 * MARGIN))
    sides = np.ceil((sides_mm / spacing + 2 * MARGIN) / step) * step
    shape = tuple(int(side) for side in np.maximum(sides, 4 * step))
    ratio = config.spacing_mm / spacing
    return view_grid(replace(config, shape=shape), (low + high) / 2, ratio)


def _again(volume: Volume, model: Model, request: Request, mask: Volume) -> Answer:
    """The fine look alone, on a mask that somebody made."""
    size = float(np.clip(measure(mask).size_mm, SMALLEST_MM, LARGEST_MM))
    view = _fine(volume, model, request.marks, mask, mask)
    seen = restore([(view.probabilities, view.grid)], where_any_sees([view], volume.grid, FINE_THRESHOLD))
    mask = Volume(seen.voxels > FINE_THRESHOLD, seen.grid)
    return Answer(mask, np.asarray(request.center_mm), size, float("nan"))


def where_any_sees(views: Sequence[View], grid: Grid, threshold: float) -> Grid:
    """The part of the CT's grid where a view sees tumor: elsewhere their mean stays below the threshold.

    On a thin-slice CT the patches cover a hundred times more voxels than the tumor.
    """
    boxes = []
    for view in views:
        seen = view.probabilities > threshold
        if seen.any():
            lower, upper = bounding_box(seen)
            part = view.grid.crop(np.maximum(lower - 1, 0), np.minimum(upper + 1, seen.shape))
            boxes.append(box_around(grid, part))
    lower = np.min([low for low, _ in boxes], axis=0) if boxes else np.zeros(3, np.int64)
    upper = np.max([high for _, high in boxes], axis=0) if boxes else lower
    lower = np.minimum(lower, np.array(grid.shape) - 1)
    return grid.crop(lower, np.maximum(upper, lower + 1))


def _mean_agreement(sightings: Sequence[Sighting | None]) -> float:
    """Mean F1 between the looks' masks; a look without a tumor agrees with none."""
    pairs = list(combinations(sightings, 2))
    return float(np.mean([agreement(a, b) if a is not None and b is not None else 0.0 for a, b in pairs]))


def _float(mask: Volume) -> Volume:
    return Volume(mask.voxels.astype(np.float32, copy=False), mask.grid)

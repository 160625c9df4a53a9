"""From a prompt to a mask: sizing, the views, their fusion on the CT's grid, measurement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clmsda import models
from clmsda.geometry import Grid, Volume, box_around, place
from clmsda.images import check_ct
from clmsda.measurements import bounding_box, measure
from clmsda.models import Model
from clmsda.patches import AXIAL, directions_of, restore
from clmsda.prompts import Prompt, PromptError, check_inside
from clmsda.segmentation.lesion import Lesion, Segmentation
from clmsda.segmentation.sizing import LARGEST_MM, SMALLEST_MM, Sized, find_size
from clmsda.segmentation.views import View, agreement, lesion_at, look, sight
from clmsda.segmentation.walk import walk

SPREAD = (0.65, 0.8, 1.0)
"""Assumed sizes of the final views, over the size found: fused, they are the mask; how far they agree is its worth.
Finer than the size asks for, as borders gain more from small voxels than they lose with what is far."""

FUSED = 0.35
"""The views' mean marks tumor from here on: at a border some of them see it and some do not."""

BELIEVED = 1.5
"""A prompt's size is followed where self-sizing is off it by more than this factor; else self-sizing is more exact."""

SAME = 0.5
"""From this share of it within an earlier lesion on, a lesion is that one once more."""


def segment(
    volume: Volume,
    prompts: Prompt | Sequence[Prompt],
    model: Model | str = models.SHIPPED,
    *,
    device: str = "auto",
    progress: Callable[[str], None] | None = None,
) -> Segmentation:
    """Outline and measure the tumor at each prompt.

    volume: a chest CT in HU. prompts: points, RECIST lines or boxes in LPS mm; they become labels
    1, 2, ... in their order. model: a loaded model, the name of a shipped one, or a file.

    Raises InputError (PromptError, NotHounsfield, ModelError, ...) for input that cannot be used, before
    any long work. A prompt that leads to nothing gives an empty lesion whose warnings say why.
    """
    say = progress or (lambda text: None)
    wanted = list(prompts) if isinstance(prompts, Sequence) else [prompts]
    if not wanted:
        raise PromptError("expected at least one prompt, found none: give a point, a RECIST line or a box")
    check_ct(volume)
    for prompt in wanted:
        check_inside(prompt, volume)
    if not isinstance(model, Model):
        model = models.load(model, device)
    lesions: list[Lesion] = []
    for label, prompt in enumerate(wanted, 1):
        say(f"lesion {label} of {len(wanted)}")
        lesions.append(_distinct(_lesion(volume, prompt, model, label), lesions, volume))
    return Segmentation(volume.grid, volume.source, model.version, tuple(lesions))


def _lesion(volume: Volume, prompt: Prompt, model: Model, label: int) -> Lesion:
    flat = model.config.patches.spatial_dims == 2
    click = _on_slice(volume, prompt) if flat else np.asarray(prompt.center_mm, dtype=np.float64)
    directions = directions_of(volume.grid) if flat else AXIAL
    warnings: list[str] = []
    sized = _as_told(find_size(volume, model, click, directions), click, prompt.size_mm)
    if sized is None:
        return _empty(volume, prompt, label, "the model sees no tumor at the prompt, at any size: move the point")
    if not sized.settled:
        warnings.append("the size did not settle: give a RECIST line or a box to be sure")
    if flat:
        probabilities, agreed = walk(volume, model, click, sized, directions)
    else:
        probabilities, agreed = _whole(volume, model, click, sized, directions, warnings)
    confidence = model.config.confidence(agreed)
    mask = lesion_at(_mask(probabilities, volume), click, sized.size_mm)
    if mask is None:
        return _empty(volume, prompt, label, "the views of different size found no common tumor at the prompt")
    fill_slices(mask.voxels)
    if _reaches_end(mask):
        warnings.append("the tumor reaches the first or last slice of the scan: it may be incomplete")
    if confidence < 0.5:
        warnings.append("low confidence: views of different size disagree")
    return Lesion(label, prompt, mask, measure(mask, image=volume), confidence, tuple(warnings))


def _as_told(found: Sized | None, click: NDArray, size_mm: float | None) -> Sized | None:
    """What self-sizing found, or the prompt's own size and center where it has one that says otherwise."""
    if size_mm is None:
        return found
    told = float(np.clip(size_mm, SMALLEST_MM, LARGEST_MM))
    if found is not None and 1 / BELIEVED < found.size_mm / told < BELIEVED:
        return replace(found, settled=True)
    return Sized(click, told, True)


def _on_slice(volume: Volume, prompt: Prompt) -> NDArray[np.float64]:
    """The prompt's center, moved into the middle of the slice in which it lies."""
    k, row, column = volume.grid.to_index(prompt.center_mm)
    return volume.grid.to_lps((np.clip(np.rint(k), 0, volume.grid.shape[0] - 1), row, column))


def _whole(
    volume: Volume, model: Model, click: NDArray, sized: Sized, directions: NDArray, warnings: list[str]
) -> tuple[Volume, float]:
    """One 3-D patch holds it all: fuse views around the size found; zoom out while the border cuts the tumor off."""
    size = sized.size_mm
    for _ in range(4):
        views = look(volume, model, click, sized.center_mm, [size * factor for factor in SPREAD], directions)
        sightings = [sight(view, click) for view in views]
        cut_off = any(s is not None and s.cut_off for s in sightings[1:])
        if size >= LARGEST_MM or not cut_off:
            break
        size = min(1.4 * size, LARGEST_MM)
    if cut_off:
        warnings.append("the tumor reaches the border of the patch: it may be incomplete")
    probabilities = restore([(view.probabilities, view.grid) for view in views], _where_any_sees(views, volume.grid))
    return probabilities, _agreement(views, click)


def _where_any_sees(views: Sequence[View], grid: Grid) -> Grid:
    """The part of the CT's grid where a view sees tumor: elsewhere their mean stays below the threshold.

    On a thin-slice CT the patches cover a hundred times more voxels than the tumor.
    """
    boxes = []
    for view in views:
        seen = view.probabilities > FUSED
        if seen.any():
            lower, upper = bounding_box(seen)
            part = view.grid.crop(np.maximum(lower - 1, 0), np.minimum(upper + 1, seen.shape))
            boxes.append(box_around(grid, part))
    lower = np.min([low for low, _ in boxes], axis=0) if boxes else np.zeros(3, np.int64)
    upper = np.max([high for _, high in boxes], axis=0) if boxes else lower
    lower = np.minimum(lower, np.array(grid.shape) - 1)
    return grid.crop(lower, np.maximum(upper, lower + 1))


def _distinct(lesion: Lesion, earlier: Sequence[Lesion], volume: Volume) -> Lesion:
    """A voxel belongs to one lesion: take away what earlier prompts hold already, and say so."""
    for other in earlier:
        shared = lesion.mask.voxels & other.mask.voxels
        if not shared.any():
            continue
        share = shared.sum() / lesion.mask.voxels.sum()
        if share > SAME:
            return _empty(volume, lesion.prompt, lesion.label, f"the same tumor as lesion {other.label}")
        left = Volume(lesion.mask.voxels & ~shared, lesion.mask.grid, lesion.mask.source)
        warning = f"{share:.0%} of it belongs to lesion {other.label}: are they one tumor?"
        measured = measure(left, image=volume)
        lesion = replace(lesion, mask=left, measurement=measured, warnings=(*lesion.warnings, warning))
    return lesion


def _agreement(views: Sequence[View], click: NDArray) -> float:
    """Mean F1 between the views' masks; a view without a tumor agrees with none."""
    sightings = [sight(view, click) for view in views]
    pairs = list(combinations(sightings, 2))
    if not pairs:
        return float("nan")
    return float(np.mean([agreement(a, b) if a is not None and b is not None else 0.0 for a, b in pairs]))


def fill_slices(mask: NDArray[np.bool_]) -> None:
    """Fill in place what the mask encloses within a slice: readers outline tumors, with cavities and open bronchi."""
    lower, upper = bounding_box(mask)
    part = mask[tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))]
    for plane in part:
        plane |= ndimage.binary_fill_holes(plane)


def _mask(probabilities: Volume, volume: Volume) -> Volume:
    """Probabilities on a crop of the CT's grid to a mask on all of it."""
    mask = np.zeros(volume.grid.shape, bool)
    mask[place(probabilities.grid, volume.grid)] = probabilities.voxels > FUSED
    return Volume(mask, volume.grid, volume.source)


def _empty(volume: Volume, prompt: Prompt, label: int, reason: str) -> Lesion:
    nothing = Volume(np.zeros(volume.grid.shape, bool), volume.grid, volume.source)
    return Lesion(label, prompt, nothing, None, float("nan"), (reason,))


def _reaches_end(mask: Volume) -> bool:
    return bool(mask.voxels[0].any() or mask.voxels[-1].any())

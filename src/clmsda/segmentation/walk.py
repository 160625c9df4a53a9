"""A 2-D network's way through a tumor: slice by slice, up and down from the prompted one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clmsda.geometry import Volume, place
from clmsda.models import Model
from clmsda.patches import directions_of, restore
from clmsda.prompts import Request
from clmsda.segmentation.answer import Answer
from clmsda.segmentation.extent import confined
from clmsda.segmentation.sizing import LARGEST_MM, UNSETTLED, Sized, as_told, find_size
from clmsda.segmentation.views import FUSED, THRESHOLD, agreement, look, sight


def walk(volume: Volume, model: Model, request: Request, say: Callable[[str], None]) -> Answer | None:
    """Where a 2-D model sees the lesion that is asked for; None where it sees nothing at the click, at any size."""
    click, directions = _on_slice(volume, request.center_mm), directions_of(volume.grid)
    say("trying sizes")
    sized = as_told(find_size(volume, model, click, directions), click, request.size_mm)
    if sized is None:
        return None
    say("following it through the slices")
    probabilities, agreed = _through(volume, model, click, sized, directions)
    warnings = () if sized.settled else (UNSETTLED,)
    mask = Volume(probabilities.voxels > FUSED, probabilities.grid)
    return confined(Answer(mask, click, sized.size_mm, agreed, warnings), volume, request)


def _on_slice(volume: Volume, center_mm: Sequence[float]) -> NDArray[np.float64]:
    """A prompt's center, moved into the middle of the slice in which it lies."""
    k, row, column = volume.grid.to_index(center_mm)
    return volume.grid.to_lps((np.clip(np.rint(k), 0, volume.grid.shape[0] - 1), row, column))


def _through(
    volume: Volume, model: Model, click_mm: NDArray, sized: Sized, directions: NDArray
) -> tuple[Volume, float]:
    """Tumor probabilities on the CT's grid (0 beyond the tumor's ends), and the views' mean agreement.

    A slice belongs to the tumor while its fused mask overlaps the one before; the walk ends at the
    first that does not, or one LARGEST_MM away.
    """
    start = round(float(volume.grid.to_index(click_mm)[0]))
    probabilities = np.zeros(volume.grid.shape, np.float32)
    scores: list[float] = []

    def go_on(k: int, before: NDArray | None) -> NDArray[np.bool_] | None:
        """Keep what goes on in slice k; returns it as a mask of the whole slice, None where the tumor ends."""
        fused, score = _slice(volume, model, click_mm, sized, directions, k)
        kept = _follow(fused, before, volume, click_mm)
        if kept is None:
            return None
        where = place(fused.grid, volume.grid)
        probabilities[where] = np.where(kept, fused.voxels, 0)
        scores.append(score)
        mask = np.zeros(volume.grid.shape[1:], bool)
        mask[where[1:]] = kept[0]
        return mask

    first = go_on(start, None)
    for step in (1, -1):
        before = first
        for k in _slices(volume, start, step):
            before = None if before is None else go_on(k, before)
            if before is None:
                break
    confidence = float(np.nanmean(scores)) if scores and not np.isnan(scores).all() else float("nan")
    return Volume(probabilities, volume.grid, volume.source), confidence


def _slices(volume: Volume, start: int, step: int) -> Iterator[int]:
    """The slices beside `start`, as far as the largest tumor can reach."""
    reach = int(LARGEST_MM / volume.grid.spacing_mm[0])
    return (k for k in range(start + step, start + step * (reach + 1), step) if 0 <= k < volume.grid.shape[0])


def _slice(
    volume: Volume, model: Model, click_mm: NDArray, sized: Sized, directions: NDArray, k: int
) -> tuple[Volume, float]:
    """Fused probabilities of slice k, and the agreement of its views (nan where there is one view)."""
    _, row, column = volume.grid.to_index(sized.center_mm)
    center = volume.grid.to_lps([k, row, column])
    _, row, column = volume.grid.to_index(click_mm)
    click = volume.grid.to_lps([k, row, column])
    patches = model.config.patches
    mean_mm = patches.ratio(1.0)
    sizes = [mean_mm, sized.size_mm] if model.config.pairs else [mean_mm]
    views = look(volume, model, click, center, sizes, directions)
    fused = restore([(view.probabilities, view.grid) for view in views], volume.grid)
    if len(views) == 1:
        return fused, float("nan")
    a, b = (sight(view, click) for view in views)
    return fused, agreement(a, b) if a is not None and b is not None else 0.0


def _follow(fused: Volume, before: NDArray | None, volume: Volume, click_mm: NDArray) -> NDArray[np.bool_] | None:
    """The components of a slice's mask that go on from the slice before; from the click in the first."""
    labels, count = ndimage.label(fused.voxels > THRESHOLD, structure=np.ones((3, 3, 3)))
    if not count:
        return None
    if before is None:
        index = fused.grid.to_index(click_mm)
        distance, nearest = ndimage.distance_transform_edt(labels == 0, return_indices=True)
        at = tuple(np.clip(np.rint(index).astype(int), 0, np.array(labels.shape) - 1))
        if distance[at] * fused.grid.spacing_mm[1] > 5.0:
            return None
        touched = {labels[tuple(nearest[(slice(None), *at)])]}
    else:
        touched = set(labels[0][before[place(fused.grid, volume.grid)[1:]]].tolist()) - {0}
    return np.isin(labels, list(touched)) if touched else None

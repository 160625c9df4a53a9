"""The protocols: what a method is told about a tumor, and the mask that it gives for that (design: paper section 2.5).

    oracle      the true center, size and slices: the paper's
    estimated   the true center and slices; the size comes from self-sizing
    prompted    one click in the tumor; everything else is found, on every slice of the slab
    automatic   nothing: a detector says where tumors may be in the slab, and each is outlined from one point

Everything reads the cohort's slab, the tumor's slices with a margin of one tumor size: it is what a cohort keeps of
a CT, and every method gets the same. Scores of the prompted and the automatic protocol count all its slices; what a
method would mark farther away is not seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clmsda.cohorts import Case, Cohort
from clmsda.errors import InputError
from clmsda.geometry import Volume, place
from clmsda.measurements import bounding_box
from clmsda.models import Model
from clmsda.patches import AXIAL, cut, directions_of, restore, view_grid
from clmsda.prompts import Correction, Inside, Outside, Point, PromptError
from clmsda.segmentation import find, segment
from clmsda.segmentation.sizing import find_size
from clmsda.segmentation.views import THRESHOLD, View, look
from clmsda.studies.config import ClickConfig, Protocol
from clmsda.training.second_look import largest_parts

BATCH = 8
"""So many slices go through a network at once."""


@dataclass(frozen=True, eq=False)
class Target:
    """A case to be outlined: its slab of CT (HU), and the true mask (bool) on the same grid."""

    case: Case
    image: Volume
    truth: Volume

    @classmethod
    def open(cls, cohort: Cohort, case: Case) -> Target:
        """Raises CohortError where the slab is missing or damaged."""
        image, mask = cohort.slab(case)
        return cls(case, image, Volume(mask.voxels != 0, mask.grid, mask.source))

    @property
    def center_mm(self) -> NDArray[np.float64]:
        return np.array(self.case.center_mm)

    @property
    def directions(self) -> NDArray[np.float64]:
        """Of 2-D patches."""
        return directions_of(self.image.grid)


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a method outlined. mask: bool on the slab's grid.

    outside: share of the true tumor that lies outside the patch, and so is missed; nan where there is no one patch.
    confidence: what the method says of itself, nan where it says nothing. note: what a reader should know.
    """

    mask: Volume
    outside: float = float("nan")
    confidence: float = float("nan")
    note: str = ""


def predict(
    target: Target,
    model: Model,
    protocols: Sequence[Protocol],
    clicks: Sequence[Point],
    *,
    at_size: bool,
    detector: Model | None = None,
) -> dict[Protocol, list[Prediction]]:
    """A network's prediction by each protocol that is available; for prompted, one for each click.

    at_size: whether the network was taught to see tumors scaled to average size (pairs of views, or wrong sizes).
    Then it is shown the size-invariant view, else the size-variant one, for which the size does not matter.
    detector: of the automatic protocol, which is not available without one.
    """
    found: dict[Protocol, list[Prediction]] = {}
    if "oracle" in protocols or ("estimated" in protocols and not at_size):
        known = around(target, model, target.case.size_mm if at_size else model.config.patches.ratio(1.0))
        found["oracle"] = [known]
        found["estimated"] = [replace(known, note="the size is not used")]
    if "estimated" in protocols and at_size:
        found["estimated"] = [estimated(target, model)]
    if "prompted" in protocols:
        found["prompted"] = [prompted(target, model, click) for click in clicks]
    if "automatic" in protocols and detector is not None:
        found["automatic"] = [automatic(target, model, detector)]
    return {protocol: found[protocol] for protocol in protocols if protocol in found}


def around(target: Target, model: Model, size_mm: float) -> Prediction:
    """The mask on the tumor's slices, from patches around its true center that assume this size.

    A 2-D network sees each slice once, around the one center that the tumor has for all of them (paper
    section 2.1); a 3-D one sees one patch. Voxels beyond the patch are not marked.
    """
    grid, (first, last) = target.image.grid, target.case.tumor_slices
    views = views_at(target, model, size_mm)
    mask = np.zeros(grid.shape, bool)
    for view in views:
        part = restore([(view.probabilities, view.grid)], grid)
        mask[place(part.grid, grid)] |= part.voxels > THRESHOLD
    mask[:first] = mask[last + 1 :] = False
    return Prediction(Volume(mask, grid, target.case.case), outside=outside(target, views[0]))


def views_at(target: Target, model: Model, size_mm: float) -> list[View]:
    """The patches around the true center that assume this size: one for each slice, or for a 3-D network one in all."""
    if model.config.patches.spatial_dims == 2:
        return list(_slices(target, model, size_mm))
    return look(target.image, model, target.center_mm, target.center_mm, [size_mm], AXIAL)


def estimated(target: Target, model: Model) -> Prediction:
    """As `around`, with the size that self-sizing finds at the true center."""
    flat = model.config.patches.spatial_dims == 2
    sized = find_size(target.image, model, target.center_mm, target.directions if flat else AXIAL)
    if sized is None:
        return nothing(target, "the model sees no tumor at its center, at any size")
    note = "" if sized.settled else "the size did not settle"
    return replace(around(target, model, sized.size_mm), note=note)


def prompted(target: Target, model: Model, click: Point) -> Prediction:
    """What `clmsda.segment` gives for a click on the slab."""
    try:
        (lesion,) = segment(target.image, click, model).lesions
    except PromptError as error:
        return nothing(target, str(error))
    return Prediction(lesion.mask, confidence=lesion.confidence, note="; ".join(lesion.warnings))


def automatic(target: Target, model: Model, detector: Model) -> Prediction:
    """All that `clmsda.find` finds in the slab, as one mask; the confidence is that of the most probable finding.

    A slab that cannot be searched, as a crop without lungs, is one in which nothing is found.
    """
    try:
        found = find(target.image, model, detector=detector)
    except InputError as error:
        return nothing(target, str(error))
    if not found.lesions:
        return nothing(target, "no findings")
    first = max(found.lesions, key=lambda lesion: lesion.probability or 0.0)
    count = f"{len(found.lesions)} findings, the most probable one" if len(found.lesions) > 1 else "1 finding,"
    note = f"{count} with probability {first.probability:.2f}"
    mask = Volume(found.mask.voxels != 0, found.grid, target.case.case)
    return Prediction(mask, confidence=first.confidence, note=note)


def nothing(target: Target, reason: str) -> Prediction:
    """An empty mask, and why."""
    return Prediction(Volume(np.zeros(target.image.grid.shape, bool), target.image.grid, target.case.case), note=reason)


def outside(target: Target, view: View) -> float:
    """Share of the true tumor outside a view; the patches of a tumor's slices all look at the same part of them."""
    points = target.truth.grid.to_lps(np.argwhere(target.truth.voxels))
    index, shape = view.grid.to_index(points), np.array(view.grid.shape)
    inside = (index >= -0.5) & (index <= shape - 0.5)
    return 1 - float(inside[:, shape > 1].all(axis=1).mean())


def clicks(target: Target, config: ClickConfig) -> list[Point]:
    """The clicks of a case: they depend on the configuration and the case's name alone."""
    name = int.from_bytes(hashlib.sha256(target.case.case.encode()).digest()[:8], "big")
    points = inner_clicks(target.truth, target.center_mm, config.per_case, [config.seed, name], reach=config.jitter)
    return [into(target.truth, point) for point in points]


def inner_clicks(
    mask: Volume, center_mm: NDArray, count: int, seed: int | Sequence[int], *, reach: float = 0.5
) -> list[Point]:
    """Clicks at most `reach` of the way from a tumor's center to its edge, evenly spread over that part of it."""
    rng = np.random.default_rng(seed)
    points = mask.grid.to_lps(np.argwhere(mask.voxels))
    chosen = points[rng.integers(len(points), size=count)]
    return [Point(tuple(center_mm + reach * (point - center_mm))) for point in chosen]


def into(mask: Volume, point: Point) -> Point:
    """A click moved onto the tumor where it fell beside it, as in the hollow of a bent one."""
    index = np.rint(mask.grid.to_index(point.lps_mm)).astype(int)
    if mask.grid.contains(point.lps_mm) and mask.voxels[tuple(index)]:
        return point
    points = mask.grid.to_lps(np.argwhere(mask.voxels))
    nearest = points[np.linalg.norm(points - point.lps_mm, axis=1).argmin()]
    return Point(tuple(nearest))


def correction(found: Volume, truth: Volume) -> Correction | None:
    """The click that a careful reader would add next: deepest inside the largest error. None where there is no error.

    found, truth: masks on one grid. An error is a part of the missed tumor, or of what is too much, that hangs
    together by faces. Deepest is farthest from what is no part of it, in mm; beyond the grid nothing is.
    """
    missed = (truth.voxels != 0) & (found.voxels == 0)
    excess = (found.voxels != 0) & (truth.voxels == 0)
    if not (missed | excess).any():
        return None
    lower, upper = bounding_box(missed | excess)
    box = tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))
    errors = [*largest_parts(missed[box], 1), *largest_parts(excess[box], 1)]
    _, error = max(errors, key=lambda one: one[0])
    depth = ndimage.distance_transform_edt(np.pad(error, 1), sampling=truth.grid.spacing_mm)
    index = np.unravel_index(depth.argmax(), depth.shape)
    where = lower + np.array(index) - 1
    x, y, z = truth.grid.to_lps(where)
    return (Inside if missed[tuple(where)] else Outside)((float(x), float(y), float(z)))


def _slices(target: Target, model: Model, size_mm: float) -> Iterator[View]:
    """A view of each of the tumor's slices, many in one forward pass."""
    config, grid = model.config.patches, target.image.grid
    first, last = target.case.tumor_slices
    _, row, column = grid.to_index(target.center_mm)
    for start in range(first, last + 1, BATCH):
        patches, grids = [], []
        for k in range(start, min(start + BATCH, last + 1)):
            center = grid.to_lps((k, row, column))
            patch = view_grid(config, center, config.ratio(size_mm), directions=target.directions)
            plane = target.image.crop((k, 0, 0), (k + 1, *grid.shape[1:]))
            patches.append(cut(plane, patch, config))
            grids.append(patch)
        answers = model.probabilities(np.stack(patches))
        for patch, answer in zip(grids, answers, strict=True):
            yield View(size_mm, patch, answer.reshape(patch.shape))

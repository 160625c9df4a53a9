"""From a chest CT alone to masks: a detector says where tumors may be, the segmenter outlines what is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from clmsda import models
from clmsda.errors import InputError
from clmsda.geometry import Volume
from clmsda.images import check_ct
from clmsda.models import Model, Trained
from clmsda.prompts import Point, PromptError, Request, check
from clmsda.prompts.kinds import PointMm
from clmsda.segmentation.candidates import Candidate, candidates
from clmsda.segmentation.lesion import Lesion, Segmentation
from clmsda.segmentation.prompted import distinct, holds, lesion_at_prompt

Say = Callable[[str], None]

MOST_FALSE = 0.5
"""False findings in a scan that the default operating point allows, on what the detector was measured on: synthetic
chests."""

HOPELESS = 0.75
"""Below this part of the least probability, what is found at a candidate is not looked at again."""

UNMEASURED = 0.5
"""From this probability on candidates of a detector count whose operating points nobody measured."""

MOST = 20
"""Of more candidates, the most probable ones are outlined: more say that the scan is not like any that was learned."""


def find(
    volume: Volume,
    model: Model | str = models.DEFAULT,
    *,
    detector: Model | str = models.DETECTOR,
    sensitivity: float | None = None,
    device: str = "auto",
    runtime: str = "auto",
    progress: Callable[[str], None] | None = None,
) -> Segmentation:
    """Find, outline and measure the lung tumors of a chest CT; nobody says where they are.

    volume: a chest CT in HU. model, device, runtime, progress: as of `segment`. detector: a model whose recipe has
    `views.search`. sensitivity: as of `least_probability`.

    Lesions are numbered by their probability, the most probable one first; there may be none. What was left out is
    said in `warnings`: lungs that the scan does not show, places beyond the `MOST` most probable. Raises InputError
    (NotHounsfield, NoLungs, ModelError, ...) for input that cannot be used.
    """
    say = progress or (lambda text: None)
    check_ct(volume)
    seeker = detector if isinstance(detector, Model) else models.load(detector, device, runtime=runtime)
    least = least_probability(seeker, sensitivity)
    outliner = model if isinstance(model, Model) else models.load(model, device, runtime=runtime)
    models.check_outliner(outliner)
    return search(volume, seeker, outliner, least, say)


def search(volume: Volume, detector: Model, outliner: Model, least: float, say: Say) -> Segmentation:
    """The lesions that are at least so probable: the detector's probability times the confidence of the outline.

    What is no tumor has no outline that looks of different size agree on.
    """
    say("searching the lungs")
    places, unseen = candidates(volume, detector, least)
    warnings = [unseen] if unseen else []
    if len(places) > MOST:
        warnings.append(f"{len(places)} places look like tumors; only the {MOST} most probable were outlined")
    found = sorted(_lesions(volume, places[:MOST], outliner, least, say), key=lambda one: -(one.probability or 0))
    lesions = tuple(replace(one, label=label) for label, one in enumerate(found, 1))
    return Segmentation(volume.grid, volume.source, f"{outliner.version}, {detector.version}", lesions, tuple(warnings))


def _lesions(volume: Volume, places: Sequence[Candidate], outliner: Model, least: float, say: Say) -> list[Lesion]:
    """The lesions at the candidates, each voxel in one of them."""
    lesions: list[Lesion] = []
    for number, place in enumerate(places, 1):
        of = f"candidate {number} of {len(places)}"
        say(of)
        if any(holds(lesion.mask, place.center_mm) for lesion in lesions):
            continue
        found = _outlined(volume, place, outliner, least, len(lesions) + 1, lambda what, of=of: say(f"{of}: {what}"))  # type: ignore[misc]
        if found is not None and (found := distinct(found, lesions, volume)).measurement:
            lesions.append(found)
    return lesions


def _outlined(volume: Volume, place: Candidate, model: Model, least: float, label: int, say: Say) -> Lesion | None:
    """The lesion at a candidate, outlined once more from its middle: a candidate lies anywhere in a large tumor.

    From the middle the tumors of the labeled CTs at hand came out better by 0.07, 0.06 and 0 (F1). What is far from
    probable enough the first time is not looked at again.
    """
    first = _lesion_at(volume, place, place.center_mm, model, label, say)
    if first is None or first.measurement is None or (first.probability or 0) < HOPELESS * least:
        return None
    second = _lesion_at(volume, place, first.measurement.center_mm, model, label, say) or first
    return second if (second.probability or 0) >= least else None


def _lesion_at(
    volume: Volume, place: Candidate, point_mm: PointMm, model: Model, label: int, say: Say
) -> Lesion | None:
    """What a point leads to, with its probability; None for nothing, and for a point in air."""
    request = Request(Point(point_mm))
    try:
        check(request, volume)
    except PromptError:
        return None
    found = lesion_at_prompt(volume, request, model, label, say)
    certainty = float(np.nan_to_num(found.confidence, nan=1.0))
    return replace(found, probability=place.probability * certainty) if found.measurement else None


def least_probability(detector: Model | Trained, sensitivity: float | None) -> float:
    """From which probability on a candidate counts.

    sensitivity: the share of tumors to be found on what the detector was measured on, 0..1. The highest probability
    that finds them counts, as it comes with the fewest false findings; but of the best share that there is the lowest
    one, which gives all that was measured. None: what comes with `MOST_FALSE` false findings in a scan.

    Raises ModelError, and InputError for what cannot be reached.
    """
    if not detector.config.searches:
        raise models.ModelError(
            f"the model {detector.name} finds no tumors by itself: expected one that was trained with views.search, "
            f"such as the one called {models.DETECTOR}"
        )
    table = detector.config.operating
    if sensitivity is None:
        return min((row[0] for row in table if row[2] <= MOST_FALSE), default=max(table)[0] if table else UNMEASURED)
    if not table:
        raise models.ModelError(f"nobody measured the sensitivity of {detector.name}: benchmarks/froc.py --write does")
    best = max(share for _, share, _ in table)
    if not 0 < sensitivity <= best:
        raise InputError(f"expected a sensitivity above 0, and at most {best:g}, found {sensitivity:g}")
    return min(table)[0] if sensitivity == best else max(row for row in table if row[1] >= sensitivity)[0]

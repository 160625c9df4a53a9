"""From prompts to masks: a request per lesion, the model's way to it, measurement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from clmsda import models
from clmsda.geometry import Volume
from clmsda.images import check_ct
from clmsda.measurements import measure
from clmsda.models import Model
from clmsda.prompts import Correction, Prompt, PromptError, Request, check, check_near, requests
from clmsda.prompts.kinds import PointMm
from clmsda.segmentation.answer import fill_slices
from clmsda.segmentation.corrections import apart, followed, ignored, surroundings
from clmsda.segmentation.doubts import doubts
from clmsda.segmentation.lesion import Lesion, Segmentation
from clmsda.segmentation.parting import part_at
from clmsda.segmentation.walk import walk
from clmsda.segmentation.whole import whole

SAME = 0.5
"""From this share of it within an earlier lesion on, a lesion is that one once more."""
WORTH_A_WORD = 0.01


def segment(
    volume: Volume,
    prompts: Prompt | Correction | Sequence[Prompt | Correction] = (),
    model: Model | str = models.DEFAULT,
    *,
    refine: Volume | None = None,
    device: str = "auto",
    runtime: str = "auto",
    progress: Callable[[str], None] | None = None,
) -> Segmentation:
    """Outline and measure the tumor at each prompt.

    volume: a chest CT in HU. prompts: points, RECIST lines or boxes in LPS mm, each a lesion; they become labels
    1, 2, ... in their order. `Inside` and `Outside` correct the lesion of the prompt before them. model: a loaded
    model, or what `models.load` takes, beside device and runtime. refine: a mask of one lesion, on the CT's grid, to
    start from. progress: is called with what is being done; what it raises ends the work.

    Raises InputError (PromptError, NotHounsfield, ModelError, ...) for input that cannot be used, before
    any long work; PromptError also for a point inside that is far from what its prompt led to. A prompt that
    leads to nothing gives an empty lesion whose warnings say why.
    """
    say = progress or (lambda text: None)
    wanted = requests(prompts, refine)
    check_ct(volume)
    for request in wanted:
        check(request, volume)
    if not isinstance(model, Model):
        model = models.load(model, device, runtime=runtime)
    _check_model(wanted, model)
    lesions: list[Lesion] = []
    for label, request in enumerate(wanted, 1):
        of = f"lesion {label} of {len(wanted)}"
        say(of)
        found = lesion_at_prompt(volume, request, model, label, lambda what, of=of: say(f"{of}: {what}"))  # type: ignore[misc]
        lesions.append(distinct(parted(found, wanted, volume), lesions, volume))
    return Segmentation(volume.grid, volume.source, model.version, tuple(lesions))


def correct(volume: Volume, mask: Volume, prompts: Sequence[Prompt | Correction]) -> Lesion:
    """Correct a mask of one lesion, whoever made it, by geometry and density alone: no model is asked.

    volume: the CT, HU. mask: on its grid. prompts: all that was said of the lesion, corrections among them. Only what a
    correction touches changes (`clmsda.segmentation.corrections`). Raises PromptError, as `segment`.
    """
    (request,) = requests(prompts, mask)
    check(request, volume)
    assert request.mask is not None
    return _described(volume, request, request.mask.voxels, float("nan"), [], 1)


def _check_model(wanted: Sequence[Request], model: Model) -> None:
    """Refuse a detector; a mask to start from, without corrections, for a model that cannot look again. PromptError."""
    if model.config.searches:
        raise PromptError(f"the model {model.name} says where tumors are (clmsda find), and outlines none: use another")
    if not model.config.patches.corrections and any(one.mask is not None and not one.corrections for one in wanted):
        raise PromptError(
            f"the model {model.name} cannot start from a mask: expected a point, a RECIST line or a box, or "
            "corrections to the mask; or a model trained with patches.corrections, such as the one called second"
        )


def holds(mask: Volume, point_mm: PointMm) -> bool:
    """Whether a point lies in a mask, or in a voxel next to it."""
    index = np.rint(mask.grid.to_index(point_mm)).astype(int)
    near = tuple(slice(max(i - 1, 0), i + 2) for i in index)
    return bool(mask.voxels[near].any())


def lesion_at_prompt(volume: Volume, request: Request, model: Model, label: int, say: Callable[[str], None]) -> Lesion:
    """The lesion at a prompt, looked at once, or of a mask; and what corrections make of it."""
    if request.mask is not None and request.corrections:
        return _described(volume, request, request.mask.voxels, float("nan"), [], label)
    way = walk if model.config.patches.spatial_dims == 2 else whole
    answer = way(volume, model, request, say)
    if answer is None:
        return _empty(volume, request, label, "the model sees no tumor at the prompt, at any size: move the point")
    mask = answer.lesion(volume)
    if mask is None:
        return _empty(volume, request, label, "looks of different size found no common tumor at the prompt")
    fill_slices(mask.voxels)
    check_near(request.inside, mask, "what the prompt leads to")
    confidence = model.config.confidence(answer.agreement)
    warnings = list(answer.warnings)
    if confidence < 0.5:
        warnings.append("low confidence: views of different size disagree")
    return _described(volume, request, mask.voxels, confidence, warnings, label)


def _described(
    volume: Volume, request: Request, voxels: NDArray[np.bool_], confidence: float, warnings: Sequence[str], label: int
) -> Lesion:
    """A lesion as its mask is after all corrections: measured, with what is to be said of it.

    What was corrected has no confidence: nobody measured what it is worth then.
    """
    after, said = _corrected(volume, request, voxels)
    if not after.any():
        return _empty(volume, request, label, "the corrections leave nothing of it")
    mask = Volume(after, volume.grid, volume.source)
    said = [*warnings, *said, *doubts(mask, volume)]
    sure = confidence if after is voxels else float("nan")
    start = "" if request.mask is None else request.mask.source or "a mask"
    measured = measure(mask, image=volume)
    return Lesion(label, request.prompt, mask, measured, sure, tuple(said), request.corrections, start=start)


def _corrected(volume: Volume, request: Request, voxels: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], list[str]]:
    """A mask as its corrections want it, the same where they change nothing, and what was not followed."""
    said: list[str] = []
    if request.corrections:
        where = surroundings(voxels, volume.grid)
        image = volume.crop([part.start for part in where], [part.stop for part in where])
        before, after = voxels[where], followed(voxels[where], image, request)
        if (before != after).any():
            said = apart(before, after, image.grid, request)
            voxels = voxels.copy()
            voxels[where] = after
    if request.corrections or request.mask is not None:
        said = [*ignored(voxels, volume.grid, request), *said]
    return voxels, said


def parted(lesion: Lesion, wanted: Sequence[Request], volume: Volume) -> Lesion:
    """A lesion whose mask holds other lesions' points: without what is theirs, where there is a neck between them."""
    others = {number: one.center_mm for number, one in enumerate(wanted, 1) if number != lesion.label}
    held = {number: point for number, point in others.items() if lesion.measurement and holds(lesion.mask, point)}
    if not held:
        return lesion
    voxels = part_at(lesion.mask, wanted[lesion.label - 1].center_mm, list(held.values()))
    if voxels is lesion.mask.voxels:
        return lesion
    mask = replace(lesion.mask, voxels=voxels)
    from_whom = ", ".join(str(number) for number, point in held.items() if not holds(mask, point))
    said = (*lesion.warnings, f"parted from lesion {from_whom}, with which it is one mass: check it there")
    measured = measure(mask, image=volume)
    return replace(lesion, mask=mask, measurement=measured, confidence=float("nan"), warnings=said)


def distinct(lesion: Lesion, earlier: Sequence[Lesion], volume: Volume) -> Lesion:
    """A voxel belongs to one lesion: take away what earlier prompts hold already, and say so."""
    for other in earlier:
        shared = lesion.mask.voxels & other.mask.voxels
        if not shared.any():
            continue
        share = float(shared.sum() / lesion.mask.voxels.sum())
        if share > SAME:
            request = Request(lesion.prompt, lesion.corrections)
            return _empty(volume, request, lesion.label, f"the same tumor as lesion {other.label}")
        left = Volume(lesion.mask.voxels & ~shared, lesion.mask.grid, lesion.mask.source)
        measured = measure(left, image=volume)
        lesion = replace(
            lesion, mask=left, measurement=measured, warnings=(*lesion.warnings, *overlap(share, other.label))
        )
    return lesion


def overlap(share: float, label: int) -> list[str]:
    """What is to be said of a lesion of which a share belongs to an earlier one; a rim of a few voxels is nothing."""
    return [f"{share:.0%} of it belongs to lesion {label}: are they one tumor?"] if share >= WORTH_A_WORD else []


def _empty(volume: Volume, request: Request, label: int, reason: str) -> Lesion:
    nothing = Volume(np.zeros(volume.grid.shape, bool), volume.grid, volume.source)
    return Lesion(label, request.prompt, nothing, None, float("nan"), (reason,), request.corrections)

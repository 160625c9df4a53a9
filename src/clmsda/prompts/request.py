"""`Request`: all that is said about one lesion, in its order: a prompt, corrections, and a mask to start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clmsda.geometry import Grid, Volume
from clmsda.marks import Marks
from clmsda.prompts.kinds import (
    Box,
    Correction,
    Inside,
    Outside,
    PointMm,
    Prompt,
    PromptError,
    RecistLine,
    described,
    text_of,
)  # fmt: skip
from clmsda.prompts.placement import check_in_image, check_inside

SAME_MM = 0.5
"""A point inside and one outside that are nearer than this, or in one voxel, contradict each other."""
FAR = 1.0
"""A point inside this many sizes beyond a line, a box or a mask is of another lesion."""
FAR_MM = 20.0
"""And at least so far beyond it."""


@dataclass(frozen=True, eq=False)
class Request:
    """prompt: what names the lesion; None where a mask and corrections do. mask: bool, on the CT's grid."""

    prompt: Prompt | None
    corrections: tuple[Correction, ...] = ()
    mask: Volume | None = None

    @property
    def inside(self) -> tuple[PointMm, ...]:
        return tuple(one.lps_mm for one in self.corrections if isinstance(one, Inside))

    @property
    def outside(self) -> tuple[PointMm, ...]:
        return tuple(one.lps_mm for one in self.corrections if isinstance(one, Outside))

    @property
    def told_inside(self) -> tuple[PointMm, ...]:
        """The points that somebody said lie in the lesion: the prompt's middle, and the points inside."""
        return (*([self.prompt.center_mm] if self.prompt is not None else []), *self.inside)

    @property
    def center_mm(self) -> PointMm:
        """A point in the lesion: the prompt's, else the first one inside, else the deepest of the mask."""
        if self.prompt is not None:
            return self.prompt.center_mm
        if self.inside:
            return self.inside[0]
        if self.mask is None:
            raise PromptError("expected a point inside the lesion, or a mask to start from; found corrections alone")
        return _deepest(self.mask)

    @property
    def size_mm(self) -> float | None:
        return None if self.prompt is None else self.prompt.size_mm

    @property
    def marks(self) -> Marks:
        """As the network sees them."""
        line, box = self.prompt, self.prompt
        return Marks(
            inside=self.told_inside or (self.center_mm,),
            outside=self.outside,
            ends=(line.start_mm, line.end_mm) if isinstance(line, RecistLine) else (),
            box=(box.lower_mm, box.upper_mm) if isinstance(box, Box) else None,
        )


def requests(
    prompts: Prompt | Correction | Sequence[Prompt | Correction], refine: Volume | None = None
) -> list[Request]:
    """One request per lesion: `Inside` and `Outside` belong to the prompt before them.

    refine: a mask to start from, for one lesion, which then needs no other prompt.
    Raises PromptError for corrections without a lesion, none at all, and a mask for several lesions.
    """
    wanted = list(prompts) if isinstance(prompts, Sequence) else [prompts]
    found: list[Request] = [Request(None)] if refine is not None else []
    for one in wanted:
        if isinstance(one, Inside | Outside):
            if not found:
                raise PromptError(
                    f"{described(one)} corrects a lesion, and none was named before it: "
                    "give a point in the tumor first, or a mask to start from"
                )
            found[-1] = replace(found[-1], corrections=(*found[-1].corrections, one))
        elif found and found[-1].prompt is None:
            found[-1] = replace(found[-1], prompt=one)
        else:
            found.append(Request(one))
    if not found:
        raise PromptError("expected at least one prompt, found none: give a point, a RECIST line or a box")
    if refine is None:
        return found
    if len(found) > 1:
        raise PromptError(f"a mask to start from is of one lesion, found prompts of {len(found)}: give those of one")
    return [replace(found[0], mask=_one_lesion(refine))]


def check(request: Request, volume: Volume) -> None:
    """Refuse what cannot be meant: a prompt outside the patient or in air, contradicting points, a mask elsewhere.

    volume: the CT, HU. Raises PromptError.
    """
    grid = volume.grid
    if request.mask is not None and not request.mask.grid.same_as(grid):
        raise PromptError(
            "the mask to start from lies on another grid than the CT: found "
            f"{_describe(request.mask.grid)}, expected {_describe(grid)}"
        )
    for said in (request.prompt, *request.corrections):
        if isinstance(said, Outside):
            check_in_image(said, grid)
        elif said is not None:
            check_inside(said, volume)
    _check_contradictions(request, grid)
    if isinstance(request.prompt, RecistLine | Box):
        reach = max(FAR * request.prompt.size_mm, FAR_MM)
        for point in request.inside:
            _refuse_far(point, *_bounds(request.prompt), reach, described(request.prompt))
    if request.mask is not None:
        check_near(request.told_inside, request.mask, "the mask to start from")


def _check_contradictions(request: Request, grid: Grid) -> None:
    """A point that is inside and outside at once, or in one voxel with one that says the contrary."""
    ends = (request.prompt.start_mm, request.prompt.end_mm) if isinstance(request.prompt, RecistLine) else ()
    for outside in request.outside:
        for inside in (*request.told_inside, *ends):
            near = np.linalg.norm(np.subtract(outside, inside)) < SAME_MM
            if near or (voxel_of(grid, outside) == voxel_of(grid, inside)).all():
                raise PromptError(
                    f"{text_of(outside)} LPS mm is said to lie inside the tumor and outside of it: leave one out"
                )


def check_near(points: Sequence[PointMm], mask: Volume, what: str) -> None:
    """Refuse points inside that are far from a mask, which is not empty: they are of another lesion. PromptError."""
    lower, upper = _extent(mask)
    reach = max(FAR * float(np.subtract(upper, lower)[:2].max()), FAR_MM)
    for point in points:
        _refuse_far(point, lower, upper, reach, what)


def voxel_of(grid: Grid, point: PointMm) -> NDArray[np.int64]:
    """The index of the voxel in which a point lies: between two always the same, on any part of a grid."""
    return np.floor(grid.to_index(point) + 0.5 + 1e-6).astype(int)


def _refuse_far(point: PointMm, lower: PointMm, upper: PointMm, reach: float, what: str) -> None:
    beyond = np.maximum(np.maximum(np.subtract(lower, point), np.subtract(point, upper)), 0)
    away = float(np.linalg.norm(beyond))
    if away > reach:
        raise PromptError(
            f"a point inside, {text_of(point)} LPS mm, lies {away:.0f} mm from {what}: is it another lesion? "
            "Give that one a prompt of its own"
        )


def _bounds(prompt: RecistLine | Box) -> tuple[PointMm, PointMm]:
    if isinstance(prompt, Box):
        return prompt.lower_mm, prompt.upper_mm
    ends = np.array([prompt.start_mm, prompt.end_mm])
    lower, upper = ends.min(axis=0).tolist(), ends.max(axis=0).tolist()
    return tuple(lower), tuple(upper)


def _one_lesion(mask: Volume) -> Volume:
    """The mask as bool. Raises PromptError for one that is empty or holds several labels."""
    labels = [int(one) for one in np.unique(mask.voxels) if one]
    if len(labels) != 1:
        found = f"the labels {', '.join(map(str, labels[:8]))}" if labels else "no voxel"
        raise PromptError(f"a mask to start from holds one lesion, found {found} in {mask.source or 'it'}")
    return Volume(mask.voxels != 0, mask.grid, mask.source)


def _deepest(mask: Volume) -> PointMm:
    """The point of a mask that is farthest from its border."""
    part, lower = _cropped(mask)
    depth = ndimage.distance_transform_edt(np.pad(part, 1), sampling=mask.grid.spacing_mm)
    index = np.array(np.unravel_index(int(depth.argmax()), depth.shape)) - 1 + lower
    x, y, z = (float(value) for value in mask.grid.to_lps(index))
    return x, y, z


def _extent(mask: Volume) -> tuple[PointMm, PointMm]:
    part, lower = _cropped(mask)
    points = mask.grid.to_lps(np.argwhere(part) + lower)
    return tuple(points.min(axis=0).tolist()), tuple(points.max(axis=0).tolist())


def _cropped(mask: Volume) -> tuple[np.ndarray, np.ndarray]:
    where = np.argwhere(mask.voxels)
    lower, upper = where.min(axis=0), where.max(axis=0) + 1
    return mask.voxels[tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))], lower


def _describe(grid: Grid) -> str:
    shape, spacing = " x ".join(map(str, grid.shape)), " x ".join(f"{s:g}" for s in grid.spacing_mm)
    return f"{shape} voxels of {spacing} mm from {', '.join(f'{x:.1f}' for x in grid.affine[:3, 3])}"

"""Prompts from text, such as the command line's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clmsda.geometry import Grid
from clmsda.prompts.kinds import (
    Box,
    Correction,
    Inside,
    Outside,
    Point,
    Prompt,
    PromptError,
    RecistLine,
    position,
)  # fmt: skip
from clmsda.prompts.placement import check_in_image, corners, to_lps

_KINDS = {"point": 3, "recist": 6, "box": 6}
_NAMES = {
    "point": "a point", "recist": "a RECIST line", "box": "a box", "inside": "a point inside",
    "outside": "a point outside",
}  # fmt: skip


def parse(text: str, kind: str, frame: str, grid: Grid) -> Prompt:
    """Read a prompt from numbers with commas between them, such as "55.5,85.6,-117.5".

    kind: "point" (X,Y,Z), "recist" or "box" (X1,Y1,Z1,X2,Y2,Z2).
    frame: "lps" or "ras" (mm), or "index" (column, row, slice, counted from 0, as ITK and Slicer
    write them). In the index frame a box runs along the voxels of `grid`; the result is the box in
    patient mm around it.
    Raises PromptError: wrong numbers, zero size, or outside the image.
    """
    if kind not in _KINDS:
        raise PromptError(f"expected a prompt of the kind {', '.join(_KINDS)}, found {kind!r}")
    points = to_lps(_numbers(text, kind), frame, grid)
    prompt: Prompt
    if kind == "point":
        prompt = Point(position(points[0], "a point"))
    elif kind == "recist":
        prompt = RecistLine(position(points[0], "a RECIST line"), position(points[1], "a RECIST line"))
    else:
        if frame == "index":
            points = grid.to_lps(corners(grid.to_index(points)))
        prompt = Box(position(points.min(axis=0), "a box"), position(points.max(axis=0), "a box"))
    check_in_image(prompt, grid, frame=frame)
    return prompt


def parse_correction(text: str, kind: str, frame: str, grid: Grid) -> Correction:
    """Read a correction, "inside" or "outside", from X,Y,Z; frame and errors as for `parse`."""
    (point,) = to_lps(_numbers(text, kind), frame, grid)
    where = position(point, _NAMES[kind])
    correction = Inside(where) if kind == "inside" else Outside(where)
    check_in_image(correction, grid, frame=frame)
    return correction


def _numbers(text: str, kind: str) -> NDArray[np.float64]:
    """(1 or 2, 3) numbers of a prompt's text."""
    count = _KINDS.get(kind, 3)
    shape = "X,Y,Z" if count == 3 else "X1,Y1,Z1,X2,Y2,Z2"
    try:
        values = np.array([float(word) for word in text.split(",")])
    except ValueError:
        raise PromptError(f"{_NAMES[kind]} needs numbers {shape}, found {text!r}") from None
    if len(values) != count:
        raise PromptError(f"{_NAMES[kind]} needs {count} numbers {shape}, found {len(values)} in {text!r}")
    if not np.isfinite(values).all():
        raise PromptError(f"{_NAMES[kind]} needs finite numbers {shape}, found {text!r}")
    return values.reshape(-1, 3)

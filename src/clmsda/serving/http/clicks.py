"""Clicks as MONAI Label's viewers send them: all of a lesion each time, in (column, row, slice) of the image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
from annotated_types import Len
from pydantic.dataclasses import dataclass

from clmsda.errors import InputError
from clmsda.geometry import Grid
from clmsda.prompts import Correction, Outside, Prompt
from clmsda.serving.http.outlining import box, point
from clmsda.serving.sessions import Lesion, Session

Say = Callable[[str], None]
Said = Prompt | Correction
_Index = Annotated[list[float], Len(3, 3)]


@dataclass
class Clicks:
    """foreground: in the lesion; background: not in it. roi: first and last column, row and slice. label: its name."""

    foreground: Annotated[list[_Index], Len(0, 256)] = ()  # type: ignore[assignment]
    background: Annotated[list[_Index], Len(0, 256)] = ()  # type: ignore[assignment]
    roi: Annotated[list[float], Len(6, 6)] | None = None
    label: str = "tumor"


def said_by(clicks: Clicks, stored: Grid, grid: Grid) -> list[Said]:
    """What they say of a lesion, first what names it. stored: the grid that they count on; grid: the CT's.

    Raises PromptError, InputError where they name no lesion.
    """
    said: list[Said] = []
    if clicks.roi is not None:
        corners = np.array(clicks.roi).reshape(3, 2)[::-1].T
        if not np.isfinite(corners).all() or np.abs(corners).max() > 2**31:
            raise InputError(f"roi: expected six voxel numbers, found {clicks.roi}")
        ends = np.rint(np.sort(grid.to_index(stored.to_lps(corners)), axis=0)).astype(int)
        said.append(box((ends + [[0], [1]]).T.tolist(), grid))
    said += [point(one[::-1], stored) for one in clicks.foreground]
    if not said:
        raise InputError("expected a click in the tumor (foreground) or a box around it (roi): click into it first")
    return said + [Outside(point(one[::-1], stored).lps_mm) for one in clicks.background]


def outlined(session: Session, said: Sequence[Said], say: Say) -> Lesion:
    """The session's one lesion, by all that was said of it: gone on with where that says more, else begun anew.

    Raises PromptError, SessionError.
    """
    before = [_where(one) for one in session.lesions[-1].said] if session.lesions else []
    wanted = [_where(one) for one in said]
    if session.lesions and (not before or before[0] != wanted[0] or not set(before) <= set(wanted)):
        session.clear()
        before = []
    for one, where in zip(said, wanted, strict=True):
        if where not in before:
            session.prompt(one, session.lesions[-1].label if session.lesions else None, say)
            before.append(where)
    return session.lesions[-1]


def started(session: Session, mask: np.ndarray, said: Sequence[Said], say: Say) -> Lesion:
    """A mask that was sent with the clicks, corrected by them. Raises PromptError, SessionError."""
    session.clear()
    lesion = session.start(mask)
    for one in said:
        lesion = session.prompt(one, lesion.label, say)
    return lesion


def _where(said: Said) -> tuple[bool, object]:
    """What tells prompts apart; a further point of a lesion is kept as one inside, and is the same."""
    return isinstance(said, Outside), getattr(said, "lps_mm", said)

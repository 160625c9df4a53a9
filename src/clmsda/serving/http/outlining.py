"""`Outlining`: one lesion after another on a CT that a viewer sent, told in voxels; and what of it the viewer does not
show yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clmsda.geometry import Grid, Volume, place
from clmsda.measurements import EmptyMask, bounding_box
from clmsda.prompts import Box, Correction, Outside, Point, Prompt, PromptError, RecistLine
from clmsda.serving.sessions import Lesion, Session

Say = Callable[[str], None]
Said = Prompt | Correction
Bounds = list[list[int]]
"""[[first, beyond the last], ...] along slice, row and column."""


@dataclass(frozen=True, eq=False)
class Change:
    """The smallest box of the viewer's buffer that changed, and what is in it now: 0 and 1, in the buffer's type."""

    bounds: Bounds
    voxels: NDArray


class Outlining:
    """One viewer at one lesion of its CT. Its methods are called one at a time; `said` takes as long as a prediction.

    A prompt is heard at once or waits for `predict`; one outside waits for a lesion. undo takes back the last one.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._waiting: tuple[Said, ...] = ()
        self._before: list[tuple[tuple[Said, ...], int]] = []  # what waited, and steps in the session, per interaction
        self._shown: Volume | None = None
        self._dtype = np.dtype(np.uint8)

    @property
    def lesion(self) -> Lesion | None:
        return self.session.lesions[-1] if self.session.lesions else None

    @property
    def found(self) -> bool:
        """Whether there is a lesion, and something in it."""
        return self.lesion is not None and self.lesion.now.measurement is not None

    def said(self, said: Said, *, now: bool, say: Say) -> bool:
        """A prompt: heard now, or kept until `predict`. Returns whether the lesion was looked at anew.

        Raises PromptError, SessionError; nothing is changed then, but that a prompt which waited and cannot be is
        forgotten.
        """
        before = self._waiting
        if not now:
            self._waiting, steps = (*before, said), 0
        else:
            steps = self._hear((*before, said), say)
        self._before.append((before, steps))
        return steps > 0

    def predict(self, say: Say) -> bool:
        """Hear what waits. Returns whether the lesion was looked at anew. Raises as `said`."""
        before = self._waiting
        steps = self._hear(before, say)
        if self._before and steps:  # it belongs to the last interaction, whose undo takes it back
            waited, earlier = self._before[-1]
            self._before[-1] = waited, earlier + steps
        return steps > 0

    def start(self, mask: NDArray[np.bool_]) -> None:
        """Begin anew with a mask of the viewer's, which shows it already; empty: with nothing."""
        waited, steps = self._waiting, 0
        if self.session.lesions:
            self.session.clear()
            steps += 1
        if mask.any():
            self.session.start(mask)
            steps += 1
        self._waiting = ()
        self._before.append((waited, steps))
        self._shown = self.lesion.now.mask if self.lesion else None

    def undo(self) -> bool:
        """Take back the last prompt or mask. Returns whether there was one."""
        if not self._before:
            return False
        self._waiting, steps = self._before.pop()
        self._take_back(steps)
        return True

    def reset(self) -> None:
        """Go on to the next lesion; the viewer has emptied its buffer."""
        self.session.clear()
        self._waiting, self._before, self._shown = (), [], None

    def new_buffer(self, dtype: np.dtype) -> None:
        """The viewer has a new buffer, which is empty."""
        self._shown, self._dtype = None, dtype

    def change(self) -> Change | None:
        """What the viewer does not show yet, and is taken to show from now on."""
        now = self.lesion.now.mask if self.lesion else None
        before, self._shown = self._shown, now
        return difference(before, now, self.session.volume.grid, self._dtype)

    def _hear(self, said: Sequence[Said], say: Say) -> int:
        """Prompts in their order, those that name a lesion first where there is none. Returns the session's steps."""
        before, steps, waiting = self._waiting, 0, list(said)
        while (one := self._next(waiting)) is not None:
            try:
                self.session.prompt(one, self.lesion.label if self.lesion else None, say)
            except Exception as error:
                self._take_back(steps)
                if isinstance(error, PromptError):
                    self._waiting = tuple(other for other in before if other is not one)
                raise
            waiting.remove(one)
            steps += 1
        self._waiting = tuple(waiting)
        return steps

    def _next(self, waiting: Sequence[Said]) -> Said | None:
        return next((one for one in waiting if self.found or not isinstance(one, Outside)), None)

    def _take_back(self, steps: int) -> None:
        for _ in range(steps):
            if self.session.can_undo:  # a session forgets what is very long ago
                self.session.undo()


def point(index: Sequence[float], grid: Grid) -> Point:
    """A click at a voxel (slice, row, column). Raises PromptError outside of the image."""
    at = np.array(index, np.float64)
    if at.shape != (3,) or not np.isfinite(at).all() or (at < -0.5).any() or (at > np.array(grid.shape) - 0.5).any():
        raise PromptError(
            f"expected a click within the image of {_text(grid.shape)} voxels, found {list(index)[:8]}: "
            "click into the tumor"
        )
    return Point(_lps(grid, at))


def box(bounds: Bounds, grid: Grid) -> Box | RecistLine:
    """A box of voxels; what lies beyond the image is left out. Raises PromptError where nothing is left.

    Drawn on one slice it is flat. Drawn on a sagittal or coronal plane it says how wide the tumor is there, and not
    how deep: that is a line across its middle.
    """
    lower, upper = np.array(bounds, np.int64).T
    lower, upper = np.maximum(lower, 0), np.minimum(upper, grid.shape)
    sides = upper - lower
    if (sides < 1).any() or sides[1:].max() < 2:
        raise PromptError(
            f"expected a box around the tumor within the image of {_text(grid.shape)} voxels, as three times first and "
            f"beyond the last; found {bounds}: draw it around the tumor"
        )
    first, last = lower - 0.5, upper - 0.5
    if sides[1] == 1 or sides[2] == 1:
        middle, along = (first + last) / 2, np.array([0, sides[1] > 1, sides[2] > 1])
        return RecistLine(_lps(grid, np.where(along, first, middle)), _lps(grid, np.where(along, last, middle)))
    if sides[0] == 1:
        first[0] = last[0] = lower[0]
    return Box(_lps(grid, first), _lps(grid, last))


def difference(before: Volume | None, now: Volume | None, grid: Grid, dtype: np.dtype) -> Change | None:
    """Where two masks on parts of a grid differ. None is a mask of nothing; the result None where they do not."""
    parts = [(mask, place(mask.grid, grid)) for mask in (before, now) if mask is not None]
    if not parts:
        return None
    lower = np.min([[side.start for side in where] for _, where in parts], axis=0)
    upper = np.max([[side.stop for side in where] for _, where in parts], axis=0)
    were, are = (_within(mask, grid, lower, upper) for mask in (before, now))
    try:
        first, beyond = bounding_box(were != are)
    except EmptyMask:
        return None
    bounds = [[int(at + a), int(at + b)] for at, a, b in zip(lower, first, beyond, strict=True)]
    return Change(bounds, are[tuple(slice(a, b) for a, b in zip(first, beyond, strict=True))].astype(dtype))


def _within(mask: Volume | None, grid: Grid, lower: NDArray, upper: NDArray) -> NDArray[np.bool_]:
    voxels = np.zeros(upper - lower, bool)
    if mask is not None:
        where = place(mask.grid, grid)
        voxels[tuple(slice(s.start - a, s.stop - a) for s, a in zip(where, lower, strict=True))] = mask.voxels
    return voxels


def _lps(grid: Grid, index: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in grid.to_lps(index))
    return x, y, z


def _text(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))

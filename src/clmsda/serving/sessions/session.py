"""`Session`: one CT, its lesions, and every change to them, which can be undone and is kept on disk."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clmsda.files import OutputError
from clmsda.geometry import Volume, place
from clmsda.measurements import measure
from clmsda.models import Model
from clmsda.prompts import Box, Correction, Inside, Outside, Point, Prompt, RecistLine
from clmsda.segmentation import Lesion as Found
from clmsda.segmentation import Segmentation, correct, overlap, segment
from clmsda.serving.sessions import keeping
from clmsda.serving.sessions.errors import Changed, NoSuchLesion, NoSuchStep, SessionError
from clmsda.serving.sessions.lesions import Lesion, Step, cropped

SAME = 0.5
"""From this share of it within another lesion on, a new lesion is that one once more."""
ORGANS = ("lung", "lymph node", "other")
LONGEST_NAME = 64

Say = Callable[[str], None]
_log = logging.getLogger(__name__)


class Session:
    """One CT and its lesions. Methods may be called from any thread.

    Every change makes a new tuple of lesions; undo and redo walk among them. folder: where all of it is kept, None for
    nowhere. What was kept there for the same CT is gone on with. unsaved: why the last change is not on disk, or "".
    ct: the digest of the CT.
    """

    def __init__(self, volume: Volume, model: Model, folder: Path | None = None, *, ct: str = "") -> None:
        self.volume, self.model, self.folder = volume, model, folder
        self.unsaved = ""
        self._lock = threading.RLock()
        self.ct = ct or keeping.digest(volume)  # a third of a second for a large CT, so done once
        kept = keeping.load(folder, volume, self.ct) if folder is not None else None
        self._history, self._at = kept or ([()], 0)

    @property
    def lesions(self) -> tuple[Lesion, ...]:
        return self._history[self._at]

    @property
    def revision(self) -> tuple[int, int]:
        """Differs whenever the lesions may differ."""
        return self._at, id(self.lesions)

    @property
    def can_undo(self) -> bool:
        return self._at > 0

    @property
    def can_redo(self) -> bool:
        return self._at + 1 < len(self._history)

    def lesion(self, label: int) -> Lesion:
        """Raises NoSuchLesion."""
        for one in self.lesions:
            if one.label == label:
                return one
        known = ", ".join(str(one.label) for one in self.lesions) or "none"
        raise NoSuchLesion(f"there is no lesion {label} (any more): found {known}")

    def step(self, uid: str) -> Step:
        """A step of a lesion, also of one that was undone. Raises NoSuchStep."""
        for lesions in [self.lesions, *self._history]:
            for lesion in lesions:
                for one in reversed(lesion.steps):
                    if one.uid == uid:
                        return one
        raise NoSuchStep("there is no such step (any more): ask for the session once more")

    def prompt(self, said: Prompt | Correction, label: int | None = None, say: Say = lambda text: None) -> Lesion:
        """Say something of a lesion; of a new one where label is None. Returns it as it is then.

        A correction changes only what it touches. A further point is one inside, unless nothing was found yet; it then
        stands for the prompt before it, as another line or box does, and corrections stay. Raises PromptError,
        SessionError; nothing is changed then.
        """
        before = None if label is None else self.lesion(label)
        if before is None:
            if isinstance(said, Inside | Outside):
                raise SessionError("a correction needs a lesion: click into the tumor first")
            found = segment(self.volume, said, self.model, progress=say).lesions[0]
        else:
            if isinstance(said, Point) and before.now.measurement is not None:
                said = Inside(said.lps_mm)
            found = self._said_more(before, said, say)
        return self._add(before, said, found)

    def _said_more(self, before: Lesion, said: Prompt | Correction, say: Say) -> Found:
        first = _one_prompt(before.said)
        corrections = [one for one in before.said if isinstance(one, Inside | Outside)]
        if isinstance(said, Inside | Outside):
            corrections.append(said)
            if before.now.measurement is not None:
                mask = Volume(before.full(self.volume.grid), self.volume.grid, self.volume.source)
                return correct(self.volume, mask, [*first, *corrections])
        else:
            first = [said]
        if not first:
            raise SessionError("nothing is left of the lesion: undo, or delete it")
        return segment(self.volume, [*first, *corrections], self.model, progress=say).lesions[0]

    def start(self, mask: NDArray[np.bool_], label: int | None = None) -> Lesion:
        """Take a mask on the CT's grid for a lesion, as it is: a new one, or what `label` is from now on."""
        before = None if label is None else self.lesion(label)
        if mask.shape != self.volume.grid.shape:
            raise SessionError(f"expected a mask of the CT's shape {self.volume.grid.shape}, found {mask.shape}")
        if not mask.any():
            raise SessionError("the mask to start from is empty: mark the lesion first")
        whole = Volume(mask.astype(bool), self.volume.grid, self.volume.source)
        measured = measure(whole, image=self.volume)
        return self._add(before, None, Found(1, None, whole, measured, float("nan"), ()))

    def _add(self, before: Lesion | None, said: Prompt | Correction | None, found: Found) -> Lesion:
        """A further step of a lesion, or a new one, unless it changed meanwhile."""
        with self._lock:
            now = None if before is None else self.lesion(before.label)
            if now is not None and before is not None and now.steps is not before.steps:
                raise Changed("the lesion was changed while it was worked on: nothing was done; say it once more")
            label = self._next_label() if now is None else now.label
            step = self._distinct(label, said, found)
            after = Lesion(label, (step,))
            if now is not None:
                after = replace(now, steps=(*now.steps, step), accepted=False)
            self._put(after)
            return after

    def _distinct(self, label: int, said: Prompt | Correction | None, found: Found) -> Step:
        """A voxel belongs to one lesion: what others hold already is taken away, and said."""
        voxels, grid, warnings = found.mask.voxels, self.volume.grid, list(found.warnings)
        size = int(voxels.sum())
        for other in self.lesions if size else ():
            where = place(other.now.mask.grid, grid)
            share = (voxels[where] & other.now.mask.voxels).sum() / size
            if other.label == label or not share:
                continue
            if share > SAME:
                raise SessionError(f"that is the same tumor as lesion {other.label}: correct or delete that one first")
            voxels = voxels.copy()
            voxels[where] &= ~other.now.mask.voxels
            warnings += overlap(float(share), other.label)
        measured = found.measurement
        if voxels is not found.mask.voxels:
            measured = measure(Volume(voxels, grid), image=self.volume)
        return Step(said, cropped(voxels, grid), measured, found.confidence, tuple(warnings))

    def _next_label(self) -> int:
        """A number that no lesion has or had: what was written of lesion 3 stays true of it alone."""
        return 1 + max((one.label for lesions in self._history for one in lesions), default=0)

    def describe(
        self, label: int, *, name: str | None = None, organ: str | None = None, accepted: bool | None = None
    ) -> None:
        """Say what is not None, as one change. name: "" for its number. organ: RECIST counts two of an organ."""
        name = None if name is None else " ".join(name.split())
        if name is not None and (len(name) > LONGEST_NAME or not name.isprintable()):
            raise SessionError(f"a lesion's name is one line of at most {LONGEST_NAME} characters")
        if organ is not None and organ not in ORGANS:
            raise SessionError(f"expected an organ of {', '.join(ORGANS)}; found {organ[:40]!r}")
        with self._lock:
            before = self.lesion(label)
            if accepted and before.now.measurement is None:
                raise SessionError(f"lesion {label} is empty: there is nothing to accept")
            said = {"name": name, "organ": organ, "accepted": accepted}
            changes: dict[str, Any] = {key: value for key, value in said.items() if value is not None}
            after = replace(before, **changes)
            if any(getattr(after, key) != getattr(before, key) for key in said):
                self._put(after)

    def rename(self, label: int, name: str) -> None:
        self.describe(label, name=name)

    def place_in(self, label: int, organ: str) -> None:
        self.describe(label, organ=organ)

    def accept(self, label: int, accepted: bool = True) -> None:
        self.describe(label, accepted=accepted)

    def delete(self, label: int) -> None:
        with self._lock:
            gone = self.lesion(label)
            self._go_on(tuple(one for one in self.lesions if one is not gone))

    def clear(self) -> None:
        """Delete all lesions; undo brings them back."""
        with self._lock:
            if self.lesions:
                self._go_on(())

    def undo(self) -> None:
        with self._lock:
            if not self.can_undo:
                raise SessionError("there is nothing to undo")
            self._at -= 1
            self._keep()

    def redo(self) -> None:
        with self._lock:
            if not self.can_redo:
                raise SessionError("there is nothing to redo")
            self._at += 1
            self._keep()

    def found(self, lesions: Sequence[Lesion] | None = None) -> Segmentation:
        """All lesions that hold something (or those given) as `clmsda.segment` gives them."""
        chosen = [one for one in (self.lesions if lesions is None else lesions) if one.now.measurement]
        grid, source = self.volume.grid, self.volume.source
        return Segmentation(grid, source, self.model.version, tuple(_as_found(one, self.volume) for one in chosen))

    def _put(self, lesion: Lesion) -> None:
        """A lesion in place of the one with its label, or after all others."""
        others = self.lesions
        known = any(one.label == lesion.label for one in others)
        self._go_on(
            tuple(lesion if one.label == lesion.label else one for one in others) if known else (*others, lesion)
        )

    def _go_on(self, lesions: tuple[Lesion, ...]) -> None:
        history = [*self._history[: self._at + 1], lesions][-keeping.LONGEST :]
        self._history, self._at = history, len(history) - 1
        self._keep()

    def _keep(self) -> None:
        if self.folder is None:
            return
        try:
            keeping.save(self.folder, self.volume, self._history, self._at, self.ct)
            self.unsaved = ""
        except (OSError, OutputError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self.unsaved = f"not saved ({reason}): make room in {self.folder}, then change anything to save all of it"
            _log.warning("%s", self.unsaved)


def _one_prompt(said: Sequence[Prompt | Correction]) -> list[Prompt]:
    """The last prompt of a lesion, which stands for those before it."""
    return [one for one in said if isinstance(one, Point | RecistLine | Box)][-1:]


def _as_found(lesion: Lesion, volume: Volume) -> Found:
    step = lesion.now
    mask = Volume(lesion.full(volume.grid), volume.grid, volume.source)
    corrections = tuple(one for one in lesion.said if isinstance(one, Inside | Outside))
    prompt = next(iter(_one_prompt(lesion.said)), None)
    return Found(lesion.label, prompt, mask, step.measurement, step.confidence, step.warnings, corrections)

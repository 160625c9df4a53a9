"""What a session knows of a lesion: all that was said of it, and what came of it each time. Nothing here changes."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clmsda.dicom_objects.findings import lesion_name
from clmsda.geometry import Grid, Volume, place
from clmsda.measurements import EmptyMask, Measurement, bounding_box
from clmsda.prompts import Correction, Prompt, to_json


@dataclass(frozen=True, eq=False)
class Step:
    """One thing that was said of a lesion, and the lesion as it was then.

    said: None for a mask to start from. mask: bool, on the part of the CT's grid that holds the lesion.
    measurement: None where nothing was found, and `warnings` says why. confidence: nan where the model has none.
    uid: names the step's file.
    """

    said: Prompt | Correction | None
    mask: Volume
    measurement: Measurement | None
    confidence: float
    warnings: tuple[str, ...] = ()
    uid: str = field(default_factory=lambda: secrets.token_hex(8))


@dataclass(frozen=True, eq=False)
class Lesion:
    """One lesion. label: its number, kept while it lives. steps: in their order; the last one is the lesion now."""

    label: int
    steps: tuple[Step, ...]
    name: str = ""
    organ: str = "lung"
    accepted: bool = False

    @property
    def now(self) -> Step:
        return self.steps[-1]

    @property
    def title(self) -> str:
        return self.name or lesion_name(self.label)

    @property
    def said(self) -> list[Prompt | Correction]:
        """All prompts and corrections since the last mask to start from."""
        said: list[Prompt | Correction] = []
        for step in self.steps:
            said = [] if step.said is None else [*said, step.said]
        return said

    def full(self, grid: Grid) -> NDArray[np.bool_]:
        """The lesion on the whole CT's grid."""
        voxels = np.zeros(grid.shape, bool)
        voxels[place(self.now.mask.grid, grid)] = self.now.mask.voxels
        return voxels

    def to_json(self) -> dict[str, Any]:
        """The lesion for tables: measurements as `clmsda segment` writes them."""
        step = self.now
        return {
            "label": self.label,
            "name": self.title,
            "organ": self.organ,
            "accepted": self.accepted,
            "steps": [to_json(one.said) if one.said is not None else {"kind": "Mask"} for one in self.steps],
            "confidence": None if np.isnan(step.confidence) else round(step.confidence, 3),
            "warnings": list(step.warnings),
            "measurement": step.measurement.to_json() if step.measurement else None,
        }


def cropped(mask: NDArray[np.bool_], grid: Grid) -> Volume:
    """The part of a mask that holds something; one voxel of nothing where none does."""
    try:
        lower, upper = bounding_box(mask)
    except EmptyMask:
        lower, upper = np.zeros(3, np.int64), np.ones(3, np.int64)
    part = mask[tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))].copy()
    return Volume(part, grid.crop(lower, upper))

"""What segmentation gives: a `Lesion` for every prompt, and all of them as one `Segmentation`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clmsda.errors import InputError
from clmsda.geometry import Grid, Volume
from clmsda.measurements import Measurement
from clmsda.prompts import Correction, Prompt, to_json
from clmsda.version import software


class NoLesion(InputError):
    """No prompt led to a lesion: there is nothing to write, and the message says why."""


@dataclass(frozen=True, eq=False)
class Lesion:
    """One prompted tumor. prompt: None where a mask to start from named it.

    mask: bool volume on the CT's grid. measurement: None where nothing was found, and then
    `warnings` says why. confidence: the F1 to expect, from how far the views of different size
    agree (`ModelConfig.calibration`; without one, that agreement); nan where there is only one view, and of what was
    corrected, parted from another, or cut to a line or a box.
    probability: that there is a tumor at all, of one that nobody prompted; None of those that somebody did.
    start: where the mask came from that it was started from; "" without one.
    """

    label: int
    prompt: Prompt | None
    mask: Volume
    measurement: Measurement | None
    confidence: float
    warnings: tuple[str, ...]
    corrections: tuple[Correction, ...] = ()
    probability: float | None = None
    start: str = ""

    def to_json(self) -> dict[str, Any]:
        found = self.measurement.to_json() if self.measurement else _NOTHING
        confidence = None if np.isnan(self.confidence) else round(self.confidence, 3)
        notes = {"confidence": confidence, "warnings": list(self.warnings)}
        said: dict[str, Any] = {"prompt": to_json(self.prompt) if self.prompt else None}
        if self.start:
            said["start"] = self.start
        if self.corrections:
            said["corrections"] = [to_json(one) for one in self.corrections]
        if self.probability is not None:
            notes = {"probability": round(self.probability, 3), **notes}
        return {"label": self.label, **found, **notes, **said}


_NOTHING: dict[str, Any] = {
    "volume_ml": 0.0, "long_axis_mm": None, "short_axis_mm": None, "long_axis_lps": None,
    "short_axis_lps": None, "center_lps": None, "slices": None, "measured_slice": None,
    "size_group": None, "mean_hu": None,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Segmentation:
    """All lesions of one CT, prompted or found. model: name and digest of the weights.

    warnings: what is to be said of all of it, such as that the scan may not show all of the lungs.
    """

    grid: Grid
    source: str
    model: str
    lesions: tuple[Lesion, ...]
    warnings: tuple[str, ...] = ()

    @property
    def mask(self) -> Volume:
        """Labels 1, 2, ... in the order of the lesions, on the CT's grid."""
        labels: NDArray = np.zeros(self.grid.shape, np.uint8 if len(self.lesions) < 256 else np.uint16)
        for lesion in self.lesions:
            labels[lesion.mask.voxels] = lesion.label
        return Volume(labels, self.grid, self.source)

    def to_json(self) -> dict[str, Any]:
        """Measurements of every lesion; positions in LPS mm, slices counted from 0."""

        return {
            "software": software(),
            "model": self.model,
            "image": self.source,
            "notice": "For research use only. Not for clinical decisions.",
            "warnings": list(self.warnings),
            "lesions": [lesion.to_json() for lesion in self.lesions],
        }

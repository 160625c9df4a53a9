"""The detector of the automatic protocol: loaded once in a process, and refused before any long work; whom it has seen.

Patients that it was trained on are not unseen, whichever part of a study's own split they are in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from clmsda import models
from clmsda.cohorts.parts import read_parts
from clmsda.segmentation.automatic import least_probability
from clmsda.studies.config import AutomaticConfig

load = cache(models.load)
"""As `models.load`, once: it takes a second, and a study has many runs."""


def check_detector(config: AutomaticConfig) -> None:
    """Raise ModelError for what is no detector, CohortError for a table of patients that is missing or damaged."""
    least_probability(models.read(config.detector), None)
    seen(config, ())


def seen(config: AutomaticConfig, patients: Iterable[str]) -> list[str] | None:
    """Those of the patients whom the detector was trained on, or stopped by; None where no table tells.

    Raises CohortError.
    """
    if config.patients is None:
        return None
    parts = read_parts(Path(config.patients))
    return sorted({patient for patient in patients if parts.get(patient, "test") != "test"})


def reservation(config: AutomaticConfig, known: Sequence[str] | None, tested: set[str]) -> str:
    """What to know of automatic scores of these patients, in words; empty where the detector had seen none of them.

    known: as `seen` gives it.
    """
    if known is None:
        return (
            f"automatic protocol: whether the detector ({config.detector}) was trained on patients that are tested is "
            "not known: set automatic.patients to the table of its training (models/real_tumors_split.csv for the "
            "shipped one)"
        )
    count = len(tested.intersection(known))
    if not count:
        return ""
    return (
        f"automatic protocol: the detector ({config.detector}) was trained on, or stopped by, {count} of the "
        f"{len(tested)} patients that are tested: automatic scores are not those of unseen patients"
    )

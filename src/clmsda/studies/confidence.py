"""Whether a confidence holds: what a model says of its masks beside the F1 that they have."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

FAILED_BELOW = 0.5
"""A mask of lower F1 is wrong: its reader should have been told."""

DOUBTED_BELOW = 0.6
"""A confidence below this tells a reader that the mask may be wrong."""


@dataclass(frozen=True)
class Fifth:
    """A fifth of the masks, by confidence. low, high: its confidences; confidence, f1: its means."""

    n: int
    low: float
    high: float
    confidence: float
    f1: float


@dataclass(frozen=True)
class Announced:
    """failed: masks below 0.5. share: of them announced; alarms: of the others. None where there are none."""

    failed: int
    share: float | None
    alarms: float | None


def fifths(confidence: ArrayLike, scores: ArrayLike) -> list[Fifth]:
    """Equal fifths of the masks in order of confidence, lowest first; of fewer than five masks, as many as there are.

    A confidence of nan (nothing was found) is 0.
    """
    said, f1 = np.nan_to_num(np.asarray(confidence, np.float64)), np.asarray(scores, np.float64)
    parts = [part for part in np.array_split(np.argsort(said, kind="stable"), 5) if part.size]
    return [
        Fifth(part.size, float(said[part[0]]), float(said[part[-1]]), float(said[part].mean()), float(f1[part].mean()))
        for part in parts
    ]


def rank_correlation(confidence: ArrayLike, scores: ArrayLike) -> float:
    """Spearman's, ties at their mean rank; nan where one of them is the same for all, or for fewer than two masks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        return float(stats.spearmanr(*np.nan_to_num(np.array([confidence, scores], np.float64))).statistic)


def announced(confidence: ArrayLike, scores: ArrayLike, warned: ArrayLike) -> Announced:
    """Whether the failed masks were announced: by a confidence below 0.6, or by a warning (`warned`, a bool each)."""
    failed = np.asarray(scores, np.float64) < FAILED_BELOW
    doubted = (np.asarray(confidence, np.float64) < DOUBTED_BELOW) | np.asarray(warned, bool)
    share = float(doubted[failed].mean()) if failed.any() else None
    alarms = float(doubted[~failed].mean()) if not failed.all() else None
    return Announced(int(failed.sum()), share, alarms)

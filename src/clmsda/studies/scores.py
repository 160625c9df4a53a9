"""What is measured of a mask beside the truth: the rows of scores.csv and slices.csv (see `score_rows`)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from clmsda.measurements import measure
from clmsda.metrics import f1, hd95, precision, recall, surface_dice
from clmsda.studies.protocols import Prediction, Target
from clmsda.studies.score_rows import SCORES, SLICES, Row

TOLERANCE_MM = 2.0
"""Of surface Dice (design: paper section 2.5)."""


def score(target: Target, protocol: str, predictions: Sequence[Prediction], run: Mapping[str, object]) -> Row:
    """A row of scores.csv. run: variant, fold and seed. Several predictions (clicks) are scored by their means."""
    each = [_metrics(target, prediction) for prediction in predictions]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a mean of nothing is not defined, and so left empty
        means = {name: float(np.nanmean([metrics[name] for metrics in each])) for name in each[0]}
    notes = dict.fromkeys(prediction.note for prediction in predictions if prediction.note)
    several = [f"mean of {len(predictions)} clicks"] if len(predictions) > 1 else []
    case = target.case
    facts = {"protocol": protocol, "case": case.case, "patient": case.patient, "size_group": case.size_group}
    numbers = {"size_mm": case.size_mm} | means
    values = dict(run) | facts | {name: number(value) for name, value in numbers.items()}
    values["note"] = "; ".join([*several, *notes])
    return {name: str(values[name]) for name in SCORES}


def score_slices(target: Target, protocol: str, prediction: Prediction, run: Mapping[str, object]) -> list[Row]:
    """The rows of slices.csv for one prediction."""
    rows = []
    found, true = prediction.mask.voxels, target.truth.voxels
    for k in np.flatnonzero((found | true).any(axis=(1, 2))):
        metrics = {"f1": f1, "recall": recall, "precision": precision}
        values = {name: number(metric(found[k], true[k])) for name, metric in metrics.items()}
        facts = {"protocol": protocol, "case": target.case.case, "slice": int(k)}
        rows.append({name: str((dict(run) | facts | values)[name]) for name in SLICES})
    return rows


def number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6g}"


def _metrics(target: Target, prediction: Prediction) -> dict[str, float]:
    found, true, spacing = prediction.mask.voxels, target.truth.voxels, target.truth.grid.spacing_mm.tolist()
    any_found = bool(found.any())
    return {
        "f1": f1(found, true),
        "recall": recall(found, true),
        "precision": precision(found, true),
        "surface_dice": surface_dice(found, true, spacing, TOLERANCE_MM),
        "hd95_mm": hd95(found, true, spacing) if any_found else float("nan"),
        "volume_ml": float(found.sum()) * target.truth.grid.voxel_ml,
        "true_volume_ml": target.case.volume_ml,
        "long_axis_mm": measure(prediction.mask).long_axis_mm if any_found else float("nan"),
        "true_long_axis_mm": target.case.size_mm,
        "outside": prediction.outside,
        "confidence": prediction.confidence,
    }

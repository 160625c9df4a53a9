"""Scores of one run: a row per case and protocol, and a row per slice, as CSV.

    scores.csv    what `SCORES` names: F1 over the stacked slices, surface Dice, HD95, volume, diameter, ...
    slices.csv    what `SLICES` names, for each slice that holds truth or prediction, counted in the slab

Numbers have six significant digits; a cell is empty where its number is not defined.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from clmsda.errors import InputError
from clmsda.files import replacing
from clmsda.measurements import measure
from clmsda.metrics import f1, hd95, precision, recall, surface_dice
from clmsda.studies.protocols import Prediction, Target

RUN = ("variant", "fold", "seed")
METRICS = ("f1", "recall", "precision", "surface_dice", "hd95_mm", "volume_ml", "true_volume_ml", "long_axis_mm",
           "true_long_axis_mm", "outside", "confidence")  # fmt: skip
SCORES = (*RUN, "protocol", "case", "patient", "size_mm", "size_group", *METRICS, "note")
SLICES = (*RUN, "protocol", "case", "slice", "f1", "recall", "precision")
TEXTS = ("variant", "protocol", "case", "patient", "note")

TOLERANCE_MM = 2.0
"""Of surface Dice (design: paper section 2.5)."""

Row = dict[str, str]


class StudyError(InputError):
    """A study's folder that is damaged, belongs to another study, or lacks what the study needs."""


def score(target: Target, protocol: str, predictions: Sequence[Prediction], run: Mapping[str, object]) -> Row:
    """A row of scores.csv. run: variant, fold and seed. Several predictions (clicks) are scored by their means."""
    each = [_metrics(target, prediction) for prediction in predictions]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a mean of nothing is not defined, and so left empty
        means = {name: float(np.nanmean([metrics[name] for metrics in each])) for name in METRICS}
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


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write a table, whole or not at all."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def read_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """The rows of a table; none where there is no file yet. Raises StudyError for a damaged one."""
    if not path.is_file():
        return []
    remedy = "delete it, and the same `clmsda study run` scores the run's cases again"
    try:
        with path.open(newline="", encoding="utf8") as file:
            reader = csv.DictReader(file, strict=True)
            if tuple(reader.fieldnames or ()) != tuple(columns):
                raise StudyError(f"{path}: expected the columns {', '.join(columns)}, found others: {remedy}")
            rows = list(reader)
    except (csv.Error, UnicodeDecodeError) as error:
        raise StudyError(f"{path} is not a table of comma-separated values ({error}): {remedy}") from error
    for line, row in enumerate(rows, 2):
        wrong = [name for name in columns if not _sound(name, row[name])]
        if wrong or None in row:
            raise StudyError(f"{path}, line {line}: damaged at {wrong[0] if wrong else 'its end'}: {remedy}")
    return rows


def _sound(name: str, text: str | None) -> bool:
    if text is None:
        return False
    if name in TEXTS or not text:
        return True
    try:
        return not np.isnan(float(text))
    except ValueError:
        return False


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

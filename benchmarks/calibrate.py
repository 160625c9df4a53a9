"""Teach a model what its confidence is worth: the F1 to expect at each agreement of its views.

    clmsda phantom calibration --cases 60 --seed 1000002007 --matrix 256
    python benchmarks/calibrate.py calibration runs/shipped/model.safetensors calibrated.safetensors

One click on every tumor of a cohort that the model was not trained on; isotonic regression of F1 on the agreement,
kept as a few knots in the model's header. Weights stay as they are. `cohort_scores.py`, on another cohort, shows
whether the confidence holds.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from cohort_scores import column, score_all
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from clmsda import models
from clmsda.cohorts import Cohort

KNOTS = 8


def knots(agreement: NDArray, scores: NDArray) -> tuple[tuple[float, float], ...]:
    """Ascending (agreement, F1): means of equal parts of the cases, after isotonic regression."""
    order = np.argsort(agreement, kind="stable")
    rising = isotonic_regression(scores[order]).x
    parts = np.array_split(np.arange(len(order)), min(KNOTS, len(order)))
    points = [(round(float(agreement[order][p].mean()), 3), round(float(rising[p].mean()), 3)) for p in parts]
    return tuple(dict(sorted(points)).items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=Path, help="scores of each case; a run that is stopped goes on from there")
    options = parser.parse_args()
    model = models.load(options.model)
    raw = replace(model, config=replace(model.config, calibration=()))
    rows = score_all(Cohort.open(options.cohort), raw, options.rows)
    found = knots(column(rows, "confidence"), column(rows, "f1"))
    models.save(model.network, replace(model.config, calibration=found), options.out)
    print("agreement of the views: F1 to expect   " + "  ".join(f"{a:.2f}: {b:.2f}" for a, b in found))


if __name__ == "__main__":
    main()

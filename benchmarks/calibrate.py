"""Teach a model what its confidence is worth: the F1 to expect at each agreement of its views.

    clmsda phantom calibration --cases 60 --seed 1000002007 --matrix 256
    python benchmarks/calibrate.py calibration runs/shipped/model.safetensors calibrated.safetensors --real real.csv

One click on every tumor of a cohort that the model was not trained on and, with --real, on the real tumors of the
validation patients (`real_tumors.py`; the file keeps their rows). Isotonic regression of F1 on the agreement, kept as
a few knots in the model's header. Weights stay as they are. `cohort_scores.py` on another cohort, and `real_tumors.py`
on the test patients, show whether the confidence holds.

Real lesions weigh 1 each. A phantom weighs 0.5 (--phantom-weight): its agreement promises more than that of a real
tumor does, so that phantoms alone make a confidence that is too high; and without them it would be unknown for the
large tumors in whole chests, of which crops have few. A tumor where nothing was found has no agreement: it is left out.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import real_tumors
from cohort_scores import column, score_all
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression

from clmsda import models
from clmsda.cohorts import Cohort

KNOTS = 8
ABOVE_MM = 6.0
"""Smaller real nodules are left out: a voxel more or less decides their F1."""


def knots(agreement: ArrayLike, scores: ArrayLike, weights: ArrayLike) -> tuple[tuple[float, float], ...]:
    """Ascending (agreement, F1): means of parts of equal weight, after isotonic regression, and 0 of no agreement.

    Without that, the mean of the lowest part would be the least that is ever promised.
    """
    order = np.argsort(agreement, kind="stable")
    x, y, w = (np.asarray(values, np.float64)[order] for values in (agreement, scores, weights))
    rising = isotonic_regression(y, weights=w).x
    part = np.floor(KNOTS * (np.cumsum(w) - w / 2) / w.sum())
    groups = [part == number for number in np.unique(part)]
    points = [(np.average(x[g], weights=w[g]), np.average(rising[g], weights=w[g])) for g in groups]
    return tuple(dict(sorted([(0.0, 0.0), *((round(float(a), 3), round(float(f), 3)) for a, f in points)])).items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=Path, help="scores of each phantom; a run that is stopped goes on from there")
    parser.add_argument("--real", type=Path, help="the same of real tumors of validation patients, who count with it")
    parser.add_argument("--phantom-weight", type=float, default=0.5)
    parser.add_argument("--shared", type=Path, default=real_tumors.ROOT.parent / "shared" / "data")
    parser.add_argument("--split", type=Path, default=real_tumors.SPLIT)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    model, trained = models.load(options.model), models.read(options.model)
    raw = replace(model, config=replace(model.config, calibration=()))
    rows = score_all(Cohort.open(options.cohort), raw, options.rows)
    sources = [(column(rows, "confidence"), column(rows, "f1"), options.phantom_weight if options.real else 1.0)]
    said = f"{len(rows)} phantoms, weight {sources[0][2]:g} each"
    if options.real:
        everyone = real_tumors.every_tumor(options.shared, options.split)
        tumors = [one for one in everyone if one.part == "validation" and one.diameter_mm > ABOVE_MM]
        asked = real_tumors.Asked(("click",), raw=True)
        found = real_tumors.score_all(tumors, asked, options.shared, options.model, options.real, options.processes)
        sources.append((np.array([float(row["confidence"] or 0) for row in found]), column(found, "f1"), 1.0))
        said += f"; {len(found)} lesions of {len({one.patient for one in tumors})} validation patients, weight 1 each"
    agreement, scores = (np.concatenate([source[which] for source in sources]) for which in (0, 1))
    weights = np.concatenate([np.full(len(source[0]), source[2]) for source in sources])
    seen = agreement > 0
    points = knots(agreement[seen], scores[seen], weights[seen])
    facts = model.config.provenance | {"calibration": said}
    models.save(trained.weights, replace(model.config, calibration=points, provenance=facts), options.out)
    print(said)
    print("agreement of the views: F1 to expect   " + "  ".join(f"{a:.2f}: {b:.2f}" for a, b in points))


if __name__ == "__main__":
    main()

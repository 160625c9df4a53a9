"""One click on every tumor of a cohort: F1, size error and confidence, by size group, and whether confidence holds.

    clmsda phantom validation --cases 60 --seed 1000001007 --matrix 512
    python benchmarks/cohort_scores.py validation [MODEL ...] [--rows scores.csv] [--curve confidence.png]

The click is the center of the true mask's largest slice, moved inside the mask; nothing else is given. Scores count
every slice of the scan. Intervals are 95 % bootstrap intervals of the mean over cases. --rows keeps each case's
scores: a run that is stopped goes on from there.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clmsda.cohorts import Case, Cohort
from clmsda.images import read_ct, read_mask
from clmsda.metrics import f1
from clmsda.models import Model, load
from clmsda.prompts import Point
from clmsda.segmentation import segment
from clmsda.studies.confidence import fifths, rank_correlation
from clmsda.studies.statistics import estimate

COLUMNS = ("model", "case", "size_mm", "size_group", "f1", "size_error", "confidence")


def score(cohort: Cohort, case: Case, model: Model) -> dict[str, str]:
    """One case's row; an error of 1 and a confidence of 0 where nothing was found."""
    ct, truth = read_ct(cohort.folder / case.image), read_mask(cohort.folder / case.mask)
    found = segment(ct, Point(case.center_mm), model)
    (lesion,) = found.lesions
    error = lesion.measurement.long_axis_mm / case.size_mm - 1 if lesion.measurement else -1.0
    values = (f1(found.mask.voxels > 0, truth.voxels > 0), error, np.nan_to_num(lesion.confidence))
    numbers = [f"{value:.4f}" for value in values]
    facts = [model.version, case.case, f"{case.size_mm:g}", str(case.size_group)]
    return dict(zip(COLUMNS, facts + numbers, strict=True))


def score_all(cohort: Cohort, model: Model, rows: Path | None) -> list[dict[str, str]]:
    """Every case's row, those in the file `rows` read from there and new ones added to it."""
    kept = list(csv.DictReader(rows.open())) if rows and rows.is_file() else []
    known = {row["case"]: row for row in kept if row["model"] == model.version}
    for number, case in enumerate(cohort.cases, 1):
        if case.case not in known:
            known[case.case] = row = score(cohort, case, model)
            if rows:
                new = not rows.is_file()
                with rows.open("a", newline="") as file:
                    writer = csv.DictWriter(file, COLUMNS)
                    if new:
                        writer.writeheader()
                    writer.writerow(row)
        print(f"\r{number}/{len(cohort.cases)}", end="", flush=True)
    print("\r", end="")
    return [known[case.case] for case in cohort.cases]


def column(rows: Iterable[dict[str, str]], name: str) -> NDArray[np.float64]:
    return np.array([float(row[name]) for row in rows])


def report(rows: list[dict[str, str]]) -> None:
    """F1 and size error overall and by size group, then F1 by fifths of confidence."""
    print(rows[0]["model"])
    for group in ("all", "1", "2", "3"):
        part = [row for row in rows if group in ("all", row["size_group"])]
        if not part:
            continue
        scores, errors = column(part, "f1"), np.abs(column(part, "size_error"))
        f1_mean = estimate(scores)
        print(
            f"  size group {group:3s} n {len(part):3d}  F1 mean {f1_mean.mean:.3f} "
            f"[{f1_mean.low or np.nan:.3f}, {f1_mean.high or np.nan:.3f}] "
            f"median {np.median(scores):.3f}  below 0.5: {(scores < 0.5).mean():4.0%}  "
            f"size error median {np.median(errors):.0%}, over a quarter: {(errors > 0.25).mean():.0%}"
        )
    confidence, scores = column(rows, "confidence"), column(rows, "f1")
    for part in fifths(confidence, scores):
        print(f"  confidence {part.low:.2f} to {part.high:.2f}: mean {part.confidence:.2f}, F1 {part.f1:.3f}")
    print(f"  rank correlation of confidence and F1: {rank_correlation(confidence, scores):.2f}")


def draw(rows: list[dict[str, str]], path: Path) -> None:
    """F1 against confidence, each case a point, with the mean of each fifth."""
    from matplotlib.figure import Figure

    confidence, scores, groups = (column(rows, name) for name in ("confidence", "f1", "size_group"))
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for group, name in ((1, "up to 3 cm"), (2, "3 to 5 cm"), (3, "above 5 cm")):
        axes.scatter(confidence[groups == group], scores[groups == group], s=14, alpha=0.7, label=name)
    means = np.array([(part.confidence, part.f1) for part in fifths(confidence, scores)])
    axes.plot(*means.T, "k.-", label="means of fifths")
    axes.set(xlabel="reported confidence", ylabel="F1", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.legend(loc="upper left")
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("models", nargs="*", default=["shipped"])
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--curve", type=Path, help="picture of F1 against confidence, of the last model")
    options = parser.parse_args()
    cohort = Cohort.open(options.cohort)
    for model in map(load, options.models):
        rows = score_all(cohort, model, options.rows)
        report(rows)
    if options.curve:
        draw(rows, options.curve)


if __name__ == "__main__":
    main()

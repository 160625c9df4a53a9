"""Which view makes the networks of a study good: each scored on its test cases at both views, and on their mean.

    python benchmarks/study_views.py runs/phantom [--csv views.csv]

The true center, size and slices are given, as by the oracle protocol, whose score is among them: the size-invariant
view's for networks trained on pairs, else the size-variant one's. Seeds are averaged for each case; intervals are
95 % bootstrap intervals over cases.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from rich.progress import track

from clmsda.geometry import place
from clmsda.metrics import f1
from clmsda.models import Model, load
from clmsda.patches import restore
from clmsda.segmentation.views import THRESHOLD
from clmsda.studies.config import StudyError, Variant
from clmsda.studies.protocols import Target, views_at
from clmsda.studies.results import open_cohort, read_results
from clmsda.studies.statistics import estimate, per_patient

VIEWS = ("size-variant", "size-invariant", "mean of both")
COLUMNS = ("variant", "seed", "case", "size_group", *VIEWS)


def scores(target: Target, model: Model) -> dict[str, float]:
    """F1 by view; probabilities of both are averaged on the CT's grid, where a patch ends the other one counts."""
    first, last = target.case.tumor_slices
    sizes = (model.config.patches.ratio(1.0), target.case.size_mm)
    views = list(zip(*(views_at(target, model, size) for size in sizes), strict=True))
    found = {}
    for name, chosen in zip(VIEWS, ([0], [1], [0, 1]), strict=True):
        mask = np.zeros(target.truth.voxels.shape, bool)
        for pair in views:
            part = restore([(pair[k].probabilities, pair[k].grid) for k in chosen], target.image.grid)
            mask[place(part.grid, target.image.grid)] |= part.voxels > THRESHOLD
        mask[:first] = mask[last + 1 :] = False
        found[name] = f1(mask, target.truth.voxels)
    return found


def rows(out: Path) -> Iterator[dict[str, str]]:
    """A row for every finished network and each of its test cases. Raises StudyError where there is no such study."""
    results = read_results(out)
    cohort, reason = open_cohort(results)
    if cohort is None:
        raise StudyError(reason)
    records = [one for one in results.records if one.finished and isinstance(one.run.row, Variant)]
    for record in track(records, "networks"):
        run, model = record.run, load(record.folder / "model.safetensors", "cpu")
        tested = {score.case for score in results.scores if (score.variant, score.fold) == (run.row.name, run.fold)}
        for case in cohort.subset(tested).cases:
            found = scores(Target.open(cohort, case), model)
            facts = (run.row.name, str(run.seed), case.case, str(case.size_group))
            yield dict(zip(COLUMNS, (*facts, *(f"{found[view]:.4f}" for view in VIEWS)), strict=True))


def report(table: list[dict[str, str]]) -> None:
    """F1 in percent with its interval, a line for each variant and group of sizes."""
    wide = max(len(row["variant"]) for row in table)
    print(f"{'':{wide}s} {'tumors':8s} {'n':>3s}  " + "  ".join(f"{view:21s}" for view in VIEWS))
    for name in dict.fromkeys(row["variant"] for row in table):
        for group in ("all", "1", "2", "3"):
            part = [row for row in table if row["variant"] == name and group in ("all", row["size_group"])]
            cells = []
            for view in VIEWS:
                found = estimate(list(per_patient((row["case"], float(row[view])) for row in part).values()))
                low, high = (np.nan if limit is None else limit for limit in (found.low, found.high))
                cells.append(f"{100 * found.mean:5.1f} [{100 * low:5.1f}, {100 * high:5.1f}]")
            print(
                f"{name:{wide}s} {'all' if group == 'all' else 'group ' + group:8s} {found.n:3d}  "
                + "  ".join(f"{c:21s}" for c in cells)
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--csv", type=Path, help="the score of every network, case and view")
    options = parser.parse_args()
    with options.csv.open("w", newline="") if options.csv else nullcontext() as file:
        writer = csv.DictWriter(file, COLUMNS) if file else None
        if writer:
            writer.writeheader()
        table = []
        for row in rows(options.out):
            table.append(row)
            if writer:
                writer.writerow(row)
    report(table)


if __name__ == "__main__":
    main()

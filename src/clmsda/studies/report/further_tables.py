"""Tables that the paper does not have: paired tests, protocols, surfaces, slices, agreement, patches, runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from clmsda.studies.report.table import NOT_AVAILABLE, Cell, Column, Table
from clmsda.studies.results import GROUPS, Results, diameter_differences, volume_differences
from clmsda.studies.score_rows import Score
from clmsda.studies.statistics import agreement, clustered, spread


def comparisons(results: Results) -> Table:
    """Every pair of methods on the patients that both were tested on, overall and by size group."""
    columns = (
        Column("Tumors"), Column("Comparison"), Column("n"),
        Column("Difference of mean F1 (points)", show="mean [interval]"),
        Column("p", show="p"), Column("p (Holm)", show="p"), Column("left out"),
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for group, words in ((None, "all"), *GROUPS.items()):
        for one in results.compared(group):
            title = f"{one.second} \N{MINUS SIGN} {one.first}"
            left_out = one.only_first + one.only_second
            rows.append((words, title, one.difference.n, one.difference, one.p, one.p_holm, left_out))
    caption = (
        f"Paired comparisons of F1, {results.headline} protocol. Difference of the means over the n patients that "
        "both methods were scored on, 95 % bootstrap interval; two-sided Wilcoxon signed-rank test, corrected by "
        "Holm over the pairs of each block. Left out: patients that only one of both was scored on."
    )
    return Table("table_s1_comparisons", "Table S1", results.caption(caption), columns, tuple(rows))


def protocols(results: Results) -> Table:
    """Mean F1 of every method under each protocol, in columns of their own; overall and by size group."""
    columns = [Column("Tumors"), Column("Method")]
    scored = {score.protocol for score in results.scores}
    for protocol in results.shown_protocols:
        columns.append(Column("F1 (%)", protocol, "mean (SD)"))
        if protocol in scored:
            columns += [Column("95 % interval", protocol, "interval", 1), Column("n", protocol)]
    rows = []
    for group, words in ((None, "all"), *GROUPS.items()):
        for name in (row.name for row in results.rows):
            row: list[Cell] = [words, name]
            for protocol in results.shown_protocols:
                f1 = results.percent(name, protocol, "f1", group)
                cells: tuple[Cell, ...] = (f1, f1, f1.n) if f1.n else (NOT_AVAILABLE, None, None)
                row += cells if protocol in scored else cells[:1]
            rows.append(tuple(row))
    caption = (
        "The protocols side by side: what a method is told about the tumor decides what its F1 means, so columns "
        "must not be compared as if they were methods. Mean (standard deviation) over n patients, 95 % bootstrap "
        f"interval.{results.searched}"
    )
    return Table("table_s2_protocols", "Table S2", results.caption(caption), tuple(columns), tuple(rows))


def surfaces(results: Results) -> Table:
    """Surface Dice, Hausdorff distance and empty predictions."""
    columns = (
        Column("Protocol"), Column("Method"), Column("n"), Column("Surface Dice at 2 mm (%)", show="mean (SD)"),
        Column("95 % interval", show="interval", digits=1), Column("HD95 (mm), median [quartiles]", digits=1),
        Column("HD95 infinite (%)", digits=1),
    )  # fmt: skip

    def row(name: str, protocol: str, scores: Sequence[Score]) -> tuple[Cell, ...]:
        dice = results.percent(name, protocol, "surface_dice")
        distances = spread([s.distance_mm for s in scores if s.distance_mm is not None])
        infinite = None if distances.infinite is None else 100 * distances.infinite
        return protocol, name, dice.n, dice, dice, distances, infinite

    caption = (
        "Distance of surfaces. Surface Dice: mean (standard deviation) over n patients, 95 % bootstrap interval. "
        "HD95: median and quartiles over all predictions, of which the empty ones are infinitely far away, so that "
        "a mean would say nothing."
    )
    return Table("table_s3_surfaces", "Table S3", results.caption(caption), columns, _by_method(results, row))


def per_slice(results: Results) -> Table:
    """F1, recall and precision of single slices."""
    columns = (
        Column("Protocol"), Column("Method"), Column("slices"), Column("F1 (%)", show="mean (SD)"),
        Column("95 % interval", show="interval", digits=1), Column("Recall (%)", show="mean (SD)"),
        Column("Precision (%)", show="mean (SD)"),
    )  # fmt: skip
    patient_of = {score.case: score.patient for score in results.scores}
    values: dict[tuple[str, str], dict[str, dict[tuple[str, int], list[tuple[float, float, float]]]]] = {}
    for one in results.slices:
        patients = values.setdefault((one.variant, one.protocol), {})
        slices = patients.setdefault(patient_of[one.case], {})
        slices.setdefault((one.case, one.slice), []).append((one.f1, one.recall, one.precision))

    def row(name: str, protocol: str, scores: Sequence[Score]) -> tuple[Cell, ...]:
        patients = values.get((name, protocol), {})
        means = [100 * np.array([np.mean(seeds, axis=0) for seeds in slices.values()]) for slices in patients.values()]
        f1, recall, precision = (clustered([each[:, column] for each in means]) for column in range(3))
        return protocol, name, f1.n, f1, f1, recall, precision

    caption = (
        "Single slices that hold truth or prediction, each averaged over seeds. Mean (standard deviation) over "
        "slices; the 95 % bootstrap interval draws patients, since slices of one patient are alike."
    )
    return Table("table_s4_slices", "Table S4", results.caption(caption), columns, _by_method(results, row))


def agreements(results: Results) -> Table:
    """Bland-Altman: bias and limits of agreement of volume and long axis."""
    volume, diameter = "volume (% of the mean)", "long axis (mm)"
    columns = [Column("Protocol"), Column("Method"), Column("n")]
    columns += [
        Column(words, group, digits=1)
        for group in (volume, diameter)
        for words in ("bias", "lower limit", "upper limit")
    ]
    columns.append(Column("empty"))

    def row(name: str, protocol: str, scores: Sequence[Score]) -> tuple[Cell, ...]:
        of_volume, of_axis = agreement(volume_differences(scores)[1]), agreement(diameter_differences(scores)[1])
        limits = (of_volume.bias, of_volume.low, of_volume.high, of_axis.bias, of_axis.low, of_axis.high)
        return protocol, name, of_volume.n, *limits, sum(s.volume_ml == 0 for s in scores)

    caption = (
        "Agreement of measured with true volume and long axis (Bland and Altman): bias is measured minus true, and "
        "95 % of the differences lie within the limits (1.96 standard deviations). n predictions (tumors and "
        "seeds); empty ones are left out."
    )
    return Table("table_s5_agreement", "Table S5", results.caption(caption), tuple(columns), _by_method(results, row))


def coverage(results: Results) -> Table:
    """How much of the tumors lies outside the patches that the networks saw, and so counts as missed."""
    columns = (
        Column("Protocol"), Column("Method"),
        *(Column(words, "mean share outside the patch (%)") for words in ("all", *GROUPS.values())),
        Column("patients with more than 1 %"), Column("largest share (%)", digits=1), Column("n"),
    )  # fmt: skip

    def row(name: str, protocol: str, scores: Sequence[Score]) -> tuple[Cell, ...]:
        shares = [results.percent(name, protocol, "outside", group).mean for group in (None, *GROUPS)]
        patients = [100 * share for share in results.patients(name, protocol, "outside").values()]
        return protocol, name, *shares, sum(share > 1 for share in patients), max(patients, default=None), len(patients)

    caption = (
        "Tumor outside the patch, by size group: no network can find it, and it counts as missed. Means over n "
        "patients; a dash where a protocol has no one patch."
    )
    return Table("table_s6_coverage", "Table S6", results.caption(caption), columns, _by_method(results, row))


def runs(results: Results) -> Table:
    """What every run cost, and where it ended."""
    columns = (
        Column("Method"), Column("Fold"), Column("Seed"), Column("epochs"), Column("best epoch"),
        Column("best validation F1 (%)"), Column("test F1 (%)"), Column("minutes", digits=1), Column("state"),
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for record in results.records:
        run, epochs = record.run, record.epochs
        best = max(epochs, key=lambda epoch: epoch.get("f1", 0.0), default=None)
        own = [s.f1 for s in results.of(run.row.name, results.headline) if (s.variant, s.fold, s.seed) == run.key]
        known = [100 * f1 for f1 in own if f1 is not None]
        minutes = record.seconds if record.seconds is not None else epochs[-1].get("seconds") if epochs else None
        rows.append((
            run.row.name, run.fold, run.seed, len(epochs) or None, int(best["epoch"]) + 1 if best else None,
            100 * best["f1"] if best and "f1" in best else None, float(np.mean(known)) if known else None,
            None if minutes is None else minutes / 60, "finished" if record.finished else "not finished",
        ))  # fmt: skip
    caption = f"Runs. Validation F1 is over samples, and decides when to stop; test F1 over cases ({results.headline})."
    return Table("table_s7_runs", "Table S7", results.caption(caption), columns, tuple(rows))


def _by_method(
    results: Results, row: Callable[[str, str, Sequence[Score]], tuple[Cell, ...]]
) -> tuple[tuple[Cell, ...], ...]:
    """A row for every method that was scored under each protocol; protocols are blocks of their own."""
    return tuple(
        row(name, protocol, scores)
        for protocol in results.shown_protocols
        for name in results.names(protocol)
        if (scores := results.of(name, protocol))
    )

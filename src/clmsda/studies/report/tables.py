"""Tables 4 to 6, the paper's scores beside ours, and the list of all tables.

The layout is reconstructed from the paper's abstract and the design, not copied: the printed tables were not at hand.
"""

from __future__ import annotations

from clmsda.cohorts import Cohort
from clmsda.studies.config import PROTOCOLS
from clmsda.studies.report import further_tables as further
from clmsda.studies.report.published import ORDER, PUBLISHED, Published
from clmsda.studies.report.setting_tables import table_1, table_2, table_3
from clmsda.studies.report.table import PAPER, Cell, Column, Table, best_of
from clmsda.studies.results import GROUPS, Results

METRICS = ("f1", "recall", "precision")


def all_tables(results: Results, cohort: Cohort | None) -> list[Table]:
    """The paper's six, then what it does not have."""
    return [
        table_1(results, cohort),
        table_2(results),
        table_3(results, cohort),
        table_4(results),
        table_5(results),
        table_6(results),
        further.comparisons(results),
        further.protocols(results),
        further.surfaces(results),
        further.per_slice(results),
        further.agreements(results),
        further.coverage(results),
        further.runs(results),
    ]


def is_about(results: Results, key: str) -> bool:
    """Whether this study stands in the place of one of the paper's: named so, or validated alike."""
    if results.study.published is not None:
        return results.study.published == key
    return (results.folds > 1) == (key == "vhsmc")


def table_4(results: Results) -> Table:
    """The ablation by cross-validation (the paper: on the hospital's cohort)."""
    return _ablation(results, "vhsmc", "Table 4", "table_4_as_vhsmc")


def table_5(results: Results) -> Table:
    """The ablation on a hold-out (the paper: on NSCLC-Radiomics)."""
    return _ablation(results, "nsclc_radiomics", "Table 5", "table_5_as_nsclc_radiomics")


def _ablation(results: Results, key: str, label: str, name: str) -> Table:
    theirs = PUBLISHED[key]
    beside = results.study.published == key
    if not is_about(results, key):
        return _theirs_alone(theirs, label, name)
    columns = [Column("Method"), *_SCORES]
    if beside:
        columns += [Column(f"{metric.capitalize()} (%)", f"{PAPER}: {theirs.name}", paper=True) for metric in METRICS]
    rows = []
    for method in results.names(results.headline):
        row: tuple[Cell, ...] = (method, *_scores(results, method))
        rows.append(row + tuple(getattr(theirs, metric).get(method) for metric in METRICS) if beside else row)
    best = best_of(rows, (1, 3, 4), range(len(rows)))
    notes = _notes(theirs) if beside else ()
    caption = (
        f"Segmentation by each method, {results.validation}, {protocol_words(results.headline)}. Mean (standard "
        "deviation) over n patients, each averaged over seeds; 95 % bootstrap interval of the mean F1. Best means "
        "in bold."
    )
    return Table(name, label, results.caption(caption), tuple(columns), tuple(rows), notes, frozenset(best))


def _theirs_alone(theirs: Published, label: str, name: str) -> Table:
    columns = [Column("Method")]
    columns += [Column(f"{metric.capitalize()} (%)", f"{PAPER}: {theirs.name}", paper=True) for metric in METRICS]
    rows = tuple((method, *(getattr(theirs, metric).get(method) for metric in METRICS)) for method in ORDER)
    caption = f"Not part of this study: the paper's figures for {theirs.name}, {theirs.validation}, for reference only."
    return Table(name, label, caption, tuple(columns), rows, _notes(theirs))


def _notes(theirs: Published) -> tuple[str, ...]:
    return (
        f"Columns headed {PAPER}: {theirs.name}, {theirs.patients} patients, as published; a dash is not known to us.",
    )


def table_6(results: Results) -> Table:
    """Every method within each size group."""
    theirs = PUBLISHED.get(results.study.published or "")
    columns = [Column("Size group"), Column("Method"), *_SCORES]
    if theirs:
        columns.append(Column("F1 (%)", f"{PAPER}: {theirs.name}", paper=True))
    rows: list[tuple[Cell, ...]] = []
    best: set[tuple[int, int]] = set()
    for group, words in GROUPS.items():
        first = len(rows)
        for method in results.names(results.headline):
            row: tuple[Cell, ...] = (words, method, *_scores(results, method, group))
            rows.append((*row, theirs.group_f1.get((method, group))) if theirs else row)
        best |= best_of(rows, (2, 4, 5), range(first, len(rows)))
    caption = (
        f"Segmentation by size of the tumor, {results.validation}, {protocol_words(results.headline)}. Mean (standard "
        "deviation) over n patients; 95 % bootstrap interval of the mean F1. Best means of each group in bold."
    )
    notes = _notes(theirs) if theirs else ()
    words = results.caption(caption)
    return Table("table_6_size_groups", "Table 6", words, tuple(columns), tuple(rows), notes, frozenset(best))


_SCORES = (
    Column("F1 (%)", "this study", "mean (SD)"), Column("95 % interval", "this study", "interval", 1),
    Column("Recall (%)", "this study", "mean (SD)"), Column("Precision (%)", "this study", "mean (SD)"),
    Column("n", "this study"),
)  # fmt: skip


def _scores(results: Results, method: str, group: int | None = None) -> tuple[Cell, ...]:
    """A method's cells below `_SCORES`."""
    f1, recall, precision = (results.percent(method, results.headline, metric, group) for metric in METRICS)
    return f1, f1, recall, precision, f1.n


def protocol_words(protocol: str) -> str:
    return f"{protocol} protocol: {PROTOCOLS.get(protocol, 'as the study defines it')}"

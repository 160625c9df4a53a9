"""Figures 6 and 7: CT, truth, and what each variant outlined, for cases that a rule picks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clmsda.cohorts import Case, Cohort
from clmsda.images import read_mask
from clmsda.studies.report.figures.slices import Slice, cut_slice, outline, scale_bar, show, write
from clmsda.studies.report.figures.style import FOUND, INK, TRUTH, WIDTH, new_figure, wrapped
from clmsda.studies.results import GROUPS, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picked:
    """A case, and why it is shown. f1: mean over all variants and seeds."""

    case: Case
    rank: str
    f1: float


def pick(results: Results, cohort: Cohort) -> dict[int, list[Picked]]:
    """Best, median and worst case of each size group, by mean F1 over all variants and seeds.

    Only cases that every variant was scored on. A group of fewer than three has fewer.
    """
    variants = [row.name for row in results.study.variants]
    scores: dict[str, dict[str, list[float]]] = {}
    for variant in variants:
        for score in results.of(variant, results.headline):
            if score.f1 is not None:
                scores.setdefault(score.case, {}).setdefault(variant, []).append(score.f1)
    means = {
        case: float(np.mean([np.mean(values) for values in own.values()]))
        for case, own in scores.items()
        if len(own) == len(variants)
    }
    picked: dict[int, list[Picked]] = {}
    for group in GROUPS:
        ranked = sorted(
            (c for c in cohort.cases if c.case in means and c.size_group == group),
            key=lambda c: (means[c.case], c.case),
        )
        places = {"median": (len(ranked) - 1) // 2, "best": len(ranked) - 1, "worst": 0}
        taken: dict[int, str] = {}
        for rank, place in places.items():
            if ranked:
                taken.setdefault(place, rank)
        picked[group] = [Picked(ranked[place], rank, means[ranked[place].case]) for place, rank in taken.items()]
    return picked


ACROSS = 6
"""Panels side by side; the variants of a larger study go on in further rows."""


def compare(results: Results, cohort: Cohort, picked: Sequence[Picked]) -> Figure:
    """Panels for each case: CT, truth, then truth and prediction of every variant."""
    titles = ["CT", "Truth", *(variant.name for variant in results.study.variants)]
    rows = -(-len(titles) // ACROSS)
    across = -(-len(titles) // rows)
    side = (WIDTH - 0.35) / across
    heads = len(picked) * rows if rows > 1 else 1
    figure = new_figure(len(picked) * rows * (side + 0.04) + 0.2 * heads + 0.25, gap=0.015)
    grid = figure.subplots(len(picked) * rows, across, squeeze=False)
    for number, one in enumerate(picked):
        found = cut_slice(cohort, one.case)
        panels = list(grid[number * rows : (number + 1) * rows].ravel())
        for unused in panels[len(titles) :]:
            unused.set_visible(False)
        for panel, title in zip(panels, titles, strict=False):
            show(panel, found.hu)
            if title not in ("CT", "Truth"):
                _prediction(panel, results, cohort, found, title)
            if rows > 1 or number == 0:
                panel.set_title(wrapped(title, 96 // across), fontsize=7.5, color=INK)
        scale_bar(panels[0], found.field_mm, found.grid.shape[1])
        outline(panels[1], found.truth, TRUTH)
        words = f"group {one.case.size_group}, {one.rank}\n{one.case.size_mm / 10:.1f} cm"
        panels[0].set_ylabel(words, fontsize=7, color=INK)
    _legend(figure)
    return figure


def _prediction(panel: Axes, results: Results, cohort: Cohort, found: Slice, variant: str) -> None:
    """Truth and prediction of the first run of a variant that tested the case, with its F1 over all slices."""
    outline(panel, found.truth, TRUTH, 0.7)
    own = [score for score in results.of(variant, results.headline) if score.case == found.case.case]
    first = min(own, key=lambda score: score.seed)
    (run,) = (one for one in results.records if one.run.key == (variant, first.fold, first.seed))
    path = run.folder / "predictions" / results.headline / f"{found.case.case}.nii.gz"
    if not path.is_file():
        write(panel, 0.5, 0.5, "no mask kept", ha="center", va="center")
        return
    mask = read_mask(path, grid=cohort.slab(found.case)[1].grid)
    outline(panel, found.cut_mask(mask), FOUND)
    if first.f1 is not None:
        write(panel, 0.95, 0.05, f"{100 * first.f1:.0f}", ha="right", va="bottom")


def _legend(figure: Figure) -> None:
    """What the colors of the contours mean."""
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=color, linewidth=1.6) for color in (TRUTH, FOUND)]
    figure.legend(lines, ["truth", "prediction"], loc="outside lower left", ncols=2)

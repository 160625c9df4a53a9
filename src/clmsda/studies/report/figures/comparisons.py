"""F1 of the methods: bars by size group, against size, and under each protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clmsda.studies.report.figures.style import (
    DARK,
    FAINT,
    HAIR,
    INK,
    color,
    legend,
    marker,
    new_figure,
    panels,
    wrapped,
)
from clmsda.studies.results import GROUPS, Results
from clmsda.studies.score_rows import Score
from clmsda.studies.statistics import Estimate, per_patient

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def ablation(results: Results) -> Figure:
    """Bars of mean F1 with intervals, over all tumors and within each size group."""
    figure = new_figure(2.9)
    (panel,) = panels(figure, 1)
    names = results.names(results.headline)
    width = 0.82 / len(names)
    ticks = []
    for place, (group, words) in enumerate(((None, "all"), *GROUPS.items())):
        counts = []
        for order, name in enumerate(names):
            found = results.percent(name, results.headline, "f1", group)
            counts.append(found.n)
            if found.mean is None:
                continue
            x = place + (order - (len(names) - 1) / 2) * width
            label = name if place == 0 else None
            panel.bar(x, found.mean, width * 0.9, color=color(results.place(name)), label=label)
            _whisker(panel, x, found)
        n = f"n = {counts[0]}" if len(set(counts)) == 1 else f"n = {min(counts)} to {max(counts)}"
        ticks.append(f"{words}\n{n}")
    panel.axvline(0.5, color=HAIR, linewidth=0.8)
    return _blocks(figure, panel, ticks)


def _blocks(figure: Figure, panel: Axes, ticks: list[str]) -> Figure:
    """F1 from 0 to 100 %, in blocks that are named below."""
    panel.set_xticks(range(len(ticks)), ticks)
    panel.tick_params(axis="x", length=0)
    panel.set_ylim(0, 100)
    panel.set_ylabel("F1 (%)")
    legend(figure, panel)
    return figure


def _whisker(panel: Axes, x: float, found: Estimate, ink: str = DARK) -> None:
    if found.low is not None and found.high is not None:
        panel.plot([x, x], [found.low, found.high], color=ink, linewidth=0.9, solid_capstyle="butt")


def against_size(results: Results) -> Figure:
    """A point for each patient, and how the mean runs with size; one panel for each method."""
    names = results.names(results.headline)
    figure, used = _by_size(names, 2.35, "F1 (%)")
    baseline: tuple[NDArray, NDArray] | None = None
    for panel, name in zip(used, names, strict=True):
        sizes, f1 = _by_patient(results.of(name, results.headline))
        index = results.place(name)
        panel.scatter(sizes, f1, s=9, color=color(index), marker=marker(index), alpha=0.65, linewidths=0, clip_on=False)
        trend = _trend(sizes, f1)
        if baseline is not None and len(baseline[0]):
            panel.plot(*baseline, color=FAINT, linewidth=0.9, linestyle=(0, (2, 1.5)))
        panel.plot(*trend, color=color(index), linewidth=1.5)
        baseline = trend if baseline is None else baseline
        panel.set_title(wrapped(name), color=INK)
        _size_axis(panel)
        panel.set_ylim(0, 103)
    return figure


def _by_size(names: list[str], height: float, words: str) -> tuple[Figure, list[Axes]]:
    """A panel for each method, at most four in a row; height: inches of a row."""
    across = min(len(names), 4)
    figure = new_figure(height * -(-len(names) // across))
    figure.supylabel(words, fontsize=8)
    figure.supxlabel("longest diameter (cm)", fontsize=8)
    return figure, panels(figure, len(names), across=across, sharex=True, sharey=True)


def _by_patient(scores: list[Score]) -> tuple[NDArray, NDArray]:
    """Sizes (cm) and F1 (%) of each patient, averaged over seeds and tumors."""
    sizes = per_patient((score.patient, score.size_mm / 10) for score in scores)
    f1 = per_patient((score.patient, None if score.f1 is None else 100 * score.f1) for score in scores)
    return np.array([sizes[patient] for patient in f1]), np.array(list(f1.values()))


def _trend(sizes: NDArray, values: NDArray) -> tuple[NDArray, NDArray]:
    """A running mean over size: Gaussian weights of a fifth of the range of log size."""
    if len(sizes) < 3 or np.ptp(sizes) == 0:
        return np.array([]), np.array([])
    logs = np.log(sizes)
    at = np.linspace(logs.min(), logs.max(), 60)
    weights = np.exp(-0.5 * ((at[:, None] - logs) / (0.2 * np.ptp(logs))) ** 2)
    return np.exp(at), (weights * values).sum(axis=1) / weights.sum(axis=1)


def _size_axis(panel: Axes) -> None:
    from matplotlib.ticker import FixedLocator, NullFormatter, StrMethodFormatter

    panel.set_xscale("log")
    panel.xaxis.set_major_locator(FixedLocator([0.5, 1, 2, 3, 5, 10]))
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.tick_params(labelbottom=True)  # of every panel: there may be none below
    for limit in (3, 5):
        panel.axvline(limit, color=FAINT, linewidth=0.5, linestyle=(0, (1, 2)))


def protocols(results: Results) -> Figure:
    """Mean F1 with its interval under every protocol, each a block of its own."""
    figure = new_figure(2.8)
    (panel,) = panels(figure, 1)
    names = [row.name for row in results.rows]
    named = set()
    ticks = []
    for place, protocol in enumerate(results.shown_protocols):
        any_found = False
        for order, name in enumerate(names):
            found = results.percent(name, protocol, "f1")
            if found.mean is None:
                continue
            any_found = True
            x, shade = place + (order - (len(names) - 1) / 2) * 0.72 / len(names), color(order)
            _whisker(panel, x, found, shade)
            label = None if name in named else name
            named.add(name)
            panel.plot(
                x, found.mean, marker(order), color=shade, markersize=5, linestyle="none", label=label, clip_on=False
            )
        ticks.append(protocol if any_found else f"{protocol}\nnot available")
        if place:
            panel.axvline(place - 0.5, color=HAIR, linewidth=0.8)
    panel.set_xlim(-0.5, len(ticks) - 0.5)
    return _blocks(figure, panel, ticks)


def coverage(results: Results) -> Figure:
    """Share of each tumor that lies outside its patch, against size; one panel for each method."""
    names = [n for n in results.names(results.headline) if results.patients(n, results.headline, "outside")]
    figure, used = _by_size(names, 2.2, "tumor outside the patch (%)")
    for panel, name in zip(used, names, strict=True):
        scores = results.of(name, results.headline)
        sizes = per_patient((score.patient, score.size_mm / 10) for score in scores)
        outside = results.patients(name, results.headline, "outside")
        index = results.place(name)
        x, y = [sizes[patient] for patient in outside], [100 * share for share in outside.values()]
        panel.scatter(x, y, s=10, color=color(index), marker=marker(index), linewidths=0, alpha=0.8, clip_on=False)
        panel.set_title(wrapped(name), color=INK)
        panel.text(0.05, 0.93, f"mean {np.mean(y):.2f} %", transform=panel.transAxes, va="top", color=INK,
                   fontsize=7.5, backgroundcolor="white")  # fmt: skip
        _size_axis(panel)
        panel.set_ylim(0, max(1.0, panel.get_ylim()[1]))
    return figure

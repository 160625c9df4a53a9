"""Bland-Altman: measured against true volume and long axis, with bias and limits of agreement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from clmsda.studies.report.figures.style import FAINT, INK, color, marker, new_figure, rim, wrapped
from clmsda.studies.report.table import decimal
from clmsda.studies.results import Results, diameter_differences, volume_differences
from clmsda.studies.statistics import agreement

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


KINDS = (
    (volume_differences, "mean volume (ml)", "difference of volume (%)", "%"),
    (diameter_differences, "mean long axis (mm)", "difference of long axis (mm)", "mm"),
)


def bland_altman(results: Results) -> Figure:
    """A column for each method: volumes (differences in percent) above, long axes (in mm) below; at most four a row."""
    names = results.names(results.headline)
    across = min(len(names), 4)
    chunks = -(-len(names) // across)
    figure = new_figure(4.2 * chunks)
    grid = figure.subplots(2 * chunks, across, squeeze=False)
    for row, (read, x_label, y_label, unit) in enumerate(KINDS):
        used = [grid[2 * (n // across) + row, n % across] for n in range(len(names))]
        for number, (panel, name) in enumerate(zip(used, names, strict=True)):
            if number:
                panel.sharex(used[0])
                panel.sharey(used[0])
            index = results.place(name)
            means, differences = read(results.of(name, results.headline))
            panel.scatter(means, differences, s=9, color=color(index), marker=marker(index), alpha=0.65, linewidths=0)
            _lines(panel, differences, unit)
            panel.set_xlabel(x_label)
            if number % across == 0:
                panel.set_ylabel(y_label)
            else:
                panel.tick_params(labelleft=False)
            if row == 0:
                panel.set_title(wrapped(name), color=INK)
        if row == 0:
            _log(used[0])
        for unused in range(len(names), chunks * across):
            grid[2 * (unused // across) + row, unused % across].set_visible(False)
    return figure


def _log(panel: Axes) -> None:
    """A logarithmic axis of plain numbers, for all that share it."""
    from matplotlib.ticker import StrMethodFormatter

    panel.set_xscale("log")
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _lines(panel: Axes, differences: Sequence[float], unit: str) -> None:
    """Zero, bias, and the limits of agreement with their values."""
    found = agreement(differences)
    panel.axhline(0, color=INK, linewidth=0.6)
    if found.bias is not None:
        panel.axhline(found.bias, color=FAINT, linewidth=1.0)
    if found.bias is not None and found.low is not None and found.high is not None:
        for limit in (found.low, found.high):
            panel.axhline(limit, color=FAINT, linewidth=0.8, linestyle=(0, (3, 2)))
        bias, low, high = (decimal(value, 1, "+") for value in (found.bias, found.low, found.high))
        text = f"{bias} [{low}, {high}] {unit}"
        panel.text(0.03, 0.02, text, transform=panel.transAxes, fontsize=6.5, color=INK, path_effects=rim(0, "white"))
    panel.margins(y=0.16)

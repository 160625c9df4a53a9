"""Every ratio as a dot with its range: how many times clmsda's processor time each peer takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib import rc_context
from matplotlib.patheffects import withStroke

from clmsda.studies.report.figures.style import COLORS, FAINT, HAIR, STYLE, new_figure
from peers.rounds import Spread, short
from peers.tables import Results, compared, timed, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FASTER, SLOWER = COLORS[6], COLORS[3]
DPI = 120


def draw(results: Results, path: Path) -> None:
    """Write a PNG."""
    panels = {
        title(name) + ", for each GFLOP" * name.startswith("steps"): compared(name, timed(part))
        for name, part in results.items()
    }
    with rc_context(STYLE):
        figure = new_figure(0.75 + sum(0.5 + 0.17 * len(rows) for rows in panels.values()))
        axes = figure.subplots(len(panels), 1, sharex=True, height_ratios=[2 + len(rows) for rows in panels.values()])
        for one, (name, rows) in zip(axes, panels.items(), strict=True):
            dots(one, name, rows)
        axes[-1].set_xlabel("times clmsda's processor time: left of 1 the peer is faster, right of it clmsda is")
        figure.savefig(path, dpi=DPI)


def dots(axes: Axes, name: str, rows: dict[str, Spread]) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.margins(x=0.08)
    axes.axvline(1, color=FAINT, linewidth=0.8)
    for row, (label, spread) in enumerate(reversed(rows.items())):
        color = COLORS[0] if label.startswith("clmsda") else SLOWER if spread.median < 1 else FASTER
        axes.plot([spread.low, spread.high], [row, row], color=color, linewidth=2.2, solid_capstyle="round")
        axes.plot(spread.median, row, "o", color=color, markersize=5)
        axes.annotate(
            short(spread.median), (spread.high, row), xytext=(6, 0), textcoords="offset points", va="center",
            fontsize=7, color=color, path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [label.replace("`", "") for label in reversed(rows)])
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.grid(True, axis="x", color=HAIR, linewidth=0.5)
    axes.grid(False, axis="y")
    axes.set_title(name)

"""The one look of all figures: type, lines, colors that color-blind readers tell apart, and how a figure is written."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

INK, FAINT, HAIR, DARK = "#1d2129", "#69707d", "#d5d9e0", "#0b0d10"

STYLE: Any = {
    "font.family": "DejaVu Sans", "font.size": 8.0, "mathtext.default": "regular",
    "axes.titlesize": 8.5, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.titlepad": 5.0,
    "axes.labelsize": 8.0, "axes.labelcolor": INK, "axes.edgecolor": FAINT, "axes.linewidth": 0.6,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.grid.axis": "y",
    "axes.axisbelow": True, "grid.color": HAIR, "grid.linewidth": 0.5, "text.color": INK,
    "xtick.labelsize": 7.5, "ytick.labelsize": 7.5, "xtick.color": FAINT, "ytick.color": FAINT,
    "xtick.labelcolor": INK, "ytick.labelcolor": INK, "xtick.major.width": 0.6, "ytick.major.width": 0.6,
    "xtick.major.size": 3.0, "ytick.major.size": 3.0, "xtick.minor.size": 1.8, "xtick.minor.width": 0.4,
    "lines.linewidth": 1.2, "lines.markersize": 3.6, "legend.frameon": False, "legend.fontsize": 7.5,
    "legend.handlelength": 1.6, "figure.facecolor": "white", "savefig.facecolor": "white",
    "svg.hashsalt": "clmsda",  # the same figure gives the same file
}  # fmt: skip

# Okabe and Ito's colors, then some of Paul Tol's; the first row of a study, usually the baseline, is gray.
COLORS = (
    "#6b6f76", "#56b4e9", "#009e73", "#d55e00", "#cc79a7", "#e69f00", "#0072b2", "#000000",
    "#882255", "#999933", "#44aa99", "#332288",
)  # fmt: skip
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "h", "<", ">", "p")
GROUP_COLORS = {1: "#a6cbe3", 2: "#4a90c2", 3: "#0b4f8a"}
TRUTH, FOUND = "#56b4e9", "#ffb000"
"""Contours on CT."""

WIDTH = 7.2
"""Inches: the width of a page's text."""
DPI = 220


@dataclass(frozen=True)
class Plate:
    """A figure with its label ("Figure 1") and caption. draw is None where it cannot be drawn; `omitted` says why.

    picture: of CT, for which pixels are the better form on a page.
    """

    name: str
    label: str
    caption: str
    draw: Callable[[], Figure] | None
    omitted: str = ""
    picture: bool = False


def render(plate: Plate) -> dict[str, bytes]:
    """The figure as "png" and "svg". Raises what drawing raises."""
    from matplotlib import rc_context

    if plate.draw is None:
        return {}
    with rc_context(STYLE):
        figure = plate.draw()
        found = {}
        for kind in ("png", "svg"):
            data = io.BytesIO()
            figure.savefig(data, format=kind, dpi=DPI, metadata={"Date": None} if kind == "svg" else None)
            found[kind] = data.getvalue()
            figure.set_layout_engine("none")  # it is laid out: the next form need not do it again
    return found


def new_figure(height: float, *, gap: float = 0.04) -> Figure:
    """An empty figure of a page's width and this height in inches, laid out so that nothing overlaps.

    gap: inches around each panel.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=gap, h_pad=gap, wspace=gap / 2, hspace=gap / 2)
    figure = Figure(figsize=(WIDTH, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def whole_numbers(axis: Axis) -> None:
    """Ticks at whole numbers alone."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))


def panels(figure: Figure, count: int, *, across: int = 0, **shared: Any) -> list[Axes]:
    """`count` axes row by row, `across` in each row (all in one by default)."""
    across = across or count
    grid = figure.subplots(-(-count // across), across, squeeze=False, **shared)
    found = list(grid.ravel())
    for unused in found[count:]:
        unused.set_visible(False)
    return found[:count]


def color(index: int) -> str:
    """Of a study's row, counted from 0."""
    return COLORS[index % len(COLORS)]


def marker(index: int) -> str:
    return MARKERS[index % len(MARKERS)]


def legend(figure: Figure, axes: Axes) -> None:
    """The methods of one panel, above all panels: in one row where their names fit it, else three to a row."""
    handles, labels = axes.get_legend_handles_labels()
    one_row = len(labels) <= 6 and sum(len(label) + 5 for label in labels) <= 100
    columns = len(labels) if one_row else 3
    figure.legend(handles, labels, loc="outside upper left", ncols=max(columns, 1), columnspacing=1.6)


def wrapped(name: str, width: int = 19) -> str:
    """A method's name over a panel, in lines that fit it."""
    return fill(name, width)


def rim(linewidth: float, foreground: str = DARK) -> list[Any]:
    """A thin dark rim, for lines (their width) and text (0) on CT."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=linewidth + (0.7 if linewidth else 1.6), foreground=foreground)]

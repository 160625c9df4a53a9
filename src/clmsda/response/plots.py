"""The picture of a response: a waterfall of one follow-up, a spider of several; diameters beside volumes.

Each lesion is drawn by its change from the baseline, their sum (of the targets' diameters, of all volumes) in black.
Dashed lines are the limits of partial response and progression; progression counts from the smallest sum so far, so
its limit may change from scan to scan. The gray band is what measuring twice may show (see `clmsda.response.volumes`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import cycle
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clmsda.files import replacing
from clmsda.response.recist import PARTIAL, PROGRESS, PROGRESS_MM, Response
from clmsda.response.report import NOTICE, Report, diameter_change
from clmsda.response.timepoints import days_between
from clmsda.response.volumes import DIAMETER_LIMIT, PARTIAL_VOLUME, PROGRESS_VOLUME

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, FAINT, BAND, SUM = "#1d2129", "#69707d", "#e4e7ec", "#000000"
# Okabe and Ito's colors, which color-blind readers tell apart.
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c6bb1", "#a6761d")
STYLE: Any = {
    "font.size": 8.5, "axes.edgecolor": FAINT, "axes.linewidth": 0.6, "axes.spines.top": False,
    "axes.spines.right": False, "text.color": INK, "axes.labelcolor": INK, "xtick.color": FAINT, "ytick.color": FAINT,
    "xtick.labelcolor": INK, "ytick.labelcolor": INK, "legend.frameon": False, "svg.hashsalt": "clmsda",
}  # fmt: skip


CAPTION = f"The dashed limits hold for the sum (black). Gray: what measuring twice may show (published, 95 %). {NOTICE}"


@dataclass(frozen=True)
class _Panel:
    """What one half shows, in percent. lines: per lesion, a color and a value for every time point (None: not known).

    sums: of every time point. limits: of partial response, and of progression at every time point.
    band: of repeatability, either way; None where it is not known.
    """

    title: str
    total: str
    lines: dict[str, tuple[str, list[float | None]]]
    sums: list[float | None]
    partial: float
    progress: list[float | None]
    band: float | None
    responses: list[Response]


def draw_response(report: Report, path: str | os.PathLike[str]) -> None:
    """Draw a response as .png, .svg or .pdf; whole or not at all. Raises clmsda.files.OutputError."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path = Path(path)
    with replacing(path) as temporary, rc_context(STYLE):
        figure = Figure(figsize=(9.0, 4.3), dpi=160, layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        draw = _waterfall if len(report.points) == 2 else _spider
        for axes, panel in ((left, _diameters(report)), (right, _volumes(report))):
            draw(axes, panel, report)
        figure.supxlabel(CAPTION, fontsize=7, color=FAINT)
        metadata = {"Date": None} if path.suffix.lower() == ".svg" else None  # the same report gives the same file
        figure.savefig(temporary, format=path.suffix.lstrip(".").lower() or "png", metadata=metadata)


def _diameters(report: Report) -> _Panel:
    lines = {}
    for course, color in zip(report.courses, cycle(COLORS)):
        if course.diameters_mm[0]:
            name = f"{course.label} {course.organ}" + " *" * (course.label in report.targets.labels)
            changes = [_percent(diameter_change(course, number)) for number in range(len(report.points))]
            lines[name] = color, changes
    first_mm = report.recist[0].baseline_mm
    progress = [max((1 + PROGRESS) * one.nadir_mm, one.nadir_mm + PROGRESS_MM) for one in report.recist]
    return _Panel(
        "Diameters (RECIST 1.1; * target)",
        "sum of targets",
        lines,
        [0.0 if first_mm else None, *(_percent(one.from_baseline) for one in report.recist)],
        -100 * PARTIAL,
        [None, *(_percent(limit_mm / first_mm - 1 if first_mm else None) for limit_mm in progress)],
        100 * DIAMETER_LIMIT,
        [one.overall for one in report.recist],
    )


def _volumes(report: Report) -> _Panel:
    lines = {}
    for course, color in zip(report.courses, cycle(COLORS)):
        if course.sightings[0].volume_ml:
            changes = [report.change_of(course.label, number).change for number in range(1, len(report.points))]
            lines[f"{course.label} {course.organ}"] = color, [0.0, *map(_percent, changes)]
    first_ml = report.volumes[0].total.baseline_ml
    nadirs = [one.nadir_ml for one in report.volumes]
    limits = [
        (1 + PROGRESS_VOLUME) * nadir_ml / first_ml - 1 if first_ml and nadir_ml is not None else None
        for nadir_ml in nadirs
    ]
    return _Panel(
        "Volumes (limits extrapolated to a sphere)",
        "all lesions",
        lines,
        [0.0 if first_ml else None, *(_percent(one.total.change) for one in report.volumes)],
        -100 * PARTIAL_VOLUME,
        [None, *map(_percent, limits)],
        _percent(report.volumes[0].total.limit),
        [one.response for one in report.volumes],
    )


def _waterfall(axes: Axes, panel: _Panel, report: Report) -> None:
    """Bars of every lesion, from the largest growth to the largest fall, and of their sum at the right."""
    known = [(name, line[1], color) for name, (color, line) in panel.lines.items()]
    bars = sorted(known, key=lambda bar: (bar[1] is None, -(bar[1] or 0.0)))
    bars.append((panel.total, panel.sums[1], SUM))
    size = 7.5 if len(bars) < 9 else 5.5
    for place, (_, value, color) in enumerate(bars):
        axes.bar(place, value or 0.0, width=0.7, color=color, zorder=2)
        above = value is None or value >= 0
        axes.annotate(
            "not\nknown" if value is None else _signed(value, 0), (place, value or 0.0), (0, 3 if above else -3),
            textcoords="offset points", ha="center", va="bottom" if above else "top", fontsize=size, zorder=5,
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
        )  # fmt: skip
    axes.set_xticks(range(len(bars)), [name.replace(" ", "\n", 1) for name, _, _ in bars], fontsize=size)
    axes.tick_params(axis="x", length=0)
    _limits(axes, panel, [-0.5, len(bars) - 0.5])
    axes.margins(x=0.02, y=0.15)
    axes.set_title(f"{panel.title}: {panel.responses[0].value}", loc="left", fontsize=9.5, weight="bold")
    axes.set_ylabel(f"change from the baseline to {report.points[1].name}, %", fontsize=8)


def _spider(axes: Axes, panel: _Panel, report: Report) -> None:
    """A line for every lesion through all scans, by days where all dates are known."""
    days = [days_between(report.points[0], point) for point in report.points]
    dated = None not in days and len(set(days)) == len(days)
    x = [float(day or 0) for day in days] if dated else [float(point.number) for point in report.points]
    for name, (color, line) in panel.lines.items():
        _line(axes, x, line, label=name, color=color, linewidth=1.1, marker="o", markersize=3)
    _line(axes, x, panel.sums, label=panel.total, color=SUM, linewidth=2.2, marker="o", markersize=4.5)
    _limits(axes, panel, x)
    axes.margins(x=0.08, y=0.12)
    top = axes.get_ylim()[1]
    for place, response in zip(x[1:], panel.responses, strict=True):
        axes.annotate(
            response.value, (place, top), ha="center", va="bottom", fontsize=8, weight="bold", annotation_clip=False
        )
    axes.set_title(panel.title, loc="left", fontsize=9.5, weight="bold", pad=16)
    axes.set_ylabel("change from the baseline, %", fontsize=8)
    axes.set_xlabel("days since the baseline" if dated else "follow-up (0 is the baseline)", fontsize=8)
    if not dated:
        axes.set_xticks(x)
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(0, -0.16), ncols=3)


def _limits(axes: Axes, panel: _Panel, x: list[float]) -> None:
    """Zero, the band of repeatability, and the limits of partial response and of progression."""
    axes.axhline(0, color=FAINT, linewidth=0.8, zorder=1)
    if panel.band is not None:
        axes.axhspan(-panel.band, panel.band, color=BAND, zorder=0)
    dashed: dict[str, Any] = {"color": FAINT, "linestyle": "--", "linewidth": 0.9, "zorder": 1}
    axes.axhline(panel.partial, **dashed)
    _at_right(axes, panel.partial, "PR")
    limits = [float("nan") if limit is None else limit for limit in panel.progress[1:]]
    if len(limits) == 1:
        axes.axhline(limits[0], **dashed)
    else:  # the limit that holds at a scan is drawn back to the scan before
        axes.step(x, [limits[0], *limits], where="pre", **dashed)
    if not isnan(limits[-1]):
        _at_right(axes, limits[-1], "PD")


def _at_right(axes: Axes, value: float, name: str) -> None:
    """Name a limit at the right edge."""
    axes.annotate(
        f"{name}\n{_signed(value, 1)}", (1.0, value), (3, 0), xycoords=axes.get_yaxis_transform(),
        textcoords="offset points", va="center", fontsize=7, color=FAINT, annotation_clip=False,
    )  # fmt: skip


def _signed(percent: float, digits: int) -> str:
    return f"{percent:+.{digits}f} %".replace("-", "\N{MINUS SIGN}")


def _line(axes: Axes, x: list[float], values: list[float | None], **style: Any) -> None:
    """A line through the time points that are known."""
    known = [(place, value) for place, value in zip(x, values, strict=True) if value is not None]
    if known:
        axes.plot(*zip(*known, strict=True), **style)


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction

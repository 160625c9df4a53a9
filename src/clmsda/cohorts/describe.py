"""What a cohort is like: patients and tumors (the paper's Table 1), size groups (Table 3), sizes (Figure 1).

The tables are plain rows of text below a heading. The paper's own layout is not known to us: these are ours, with the
facts that the paper reports.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clmsda.cohorts.cohort import Case, Cohort
from clmsda.cohorts.splits import Split
from clmsda.files import replacing
from clmsda.measurements import SIZE_LIMITS_MM

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GROUPS = {1: "≤ 3 cm", 2: "> 3 to 5 cm", 3: "> 5 cm"}
"""Size groups as they are printed; section 2.1 of the paper."""
_COLORS = {1: "#7fb3d5", 2: "#2e86c1", 3: "#1b4f72"}
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "\N{EN DASH}": "--", "\N{INFINITY}": r"$\infty$", "\N{MINUS SIGN}": "$-$", "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{PLUS-MINUS SIGN}": r"$\pm$", "\N{LESS-THAN OR EQUAL TO}": r"$\leq$", "\N{SUPERSCRIPT TWO}": r"$^2$",
}  # fmt: skip


@dataclass(frozen=True)
class Rows:
    """A table: what it shows, the heading of each column, and rows of as many cells."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def to_csv(self) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([self.columns, *self.rows])
        return text.getvalue()

    def to_latex(self) -> str:
        """A tabular of the booktabs package."""
        lines = [" & ".join(map(latex_escape, row)) + r" \\" for row in (self.columns, *self.rows)]
        body = "\n".join(
            [rf"\begin{{tabular}}{{l{'r' * (len(self.columns) - 1)}}}", r"\toprule", lines[0], r"\midrule"]
        )
        return "\n".join([f"% {self.title}", body, *lines[1:], r"\bottomrule", r"\end{tabular}"]) + "\n"


def characteristics(cases: Sequence[Case]) -> Rows:
    """Table 1: patients, tumors by histology and collection, sizes, spacings."""
    sizes = np.array([case.size_mm for case in cases]) / 10
    deviation = f" ± {sizes.std(ddof=1):.2f}" if len(sizes) > 1 else ""
    rows = [
        ("Patients", str(len({case.patient for case in cases}))),
        ("Tumors", str(len(cases))),
        *_shares("Histology", [case.histology for case in cases]),
        *(_shares("Collection", [case.collection for case in cases]) if any(c.collection for c in cases) else ()),
        ("Size, mean ± SD, cm", f"{sizes.mean():.2f}{deviation}"),
        ("Size, range, cm", _range(sizes, 2)),
        ("Volume, median (range), ml", _median([case.volume_ml for case in cases], 1)),
        ("Pixel spacing, median (range), mm", _median([case.pixel_mm for case in cases], 3)),
        ("Distance between slices, median (range), mm", _median([case.slice_mm for case in cases], 2)),
    ]
    return Rows("Patients and tumors", ("", "cohort"), tuple(rows))


def by_size_group(cohort: Cohort, split: Split | None = None) -> Rows:
    """Table 3: tumors of each size group, of the cohort and of each part of each fold."""
    rows = [("cohort", "all", *_counts(cohort.cases))]
    for number, fold in enumerate(split.folds if split else ()):
        for part, names in asdict(fold).items():
            rows.append((f"fold {number}", part, *_counts(cohort.subset(set(names)).cases)))
    groups = tuple(f"group {group} ({words})" for group, words in GROUPS.items())
    columns = ("of", "part", *groups, "tumors", "patients", "mean size, cm")
    return Rows("Tumors by size group", columns, tuple(rows))


def draw_sizes(cases: Sequence[Case], path: Path | str, bin_mm: float = 10.0) -> None:
    """Figure 1: the number of tumors by size, with the limits of the size groups (.png, .pdf, .svg).

    Written whole or not at all. Raises clmsda.files.OutputError.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path = Path(path)
    figure = Figure(figsize=(6.4, 3.6), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    draw_histogram(axes, cases, _COLORS, bin_mm)
    mean_cm = np.mean([case.size_mm for case in cases]) / 10
    axes.set_title(f"{len(cases)} tumors, mean {mean_cm:.2f} cm", loc="left", fontsize=11)
    # Without the date and random names, pictures of the same cohort are the same file.
    metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix.lower())
    with rc_context({"svg.hashsalt": "clmsda"}), replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lstrip(".").lower() or "png", metadata=metadata)


def draw_histogram(axes: Axes, cases: Sequence[Case], colors: Mapping[int, str], bin_mm: float) -> None:
    """Tumors by size, stacked by size group; a color for each group."""
    from matplotlib.ticker import MaxNLocator

    sizes = np.array([case.size_mm for case in cases])
    edges = np.arange(0, max(SIZE_LIMITS_MM[-1], sizes.max()) + bin_mm + 1e-9, bin_mm)
    per_group = [[case.size_mm / 10 for case in cases if case.size_group == group] for group in GROUPS]
    axes.margins(y=0.3)  # room for the legend
    # a tumor of exactly 3 or 5 cm is of the lower group: bins are open on the left
    axes.hist(
        [np.nextafter(own, 0) for own in per_group],
        bins=list(edges / 10),
        stacked=True,
        rwidth=0.92,
        color=[colors[group] for group in GROUPS],
        label=[
            f"group {n}: {words}, n = {len(own)}" for (n, words), own in zip(GROUPS.items(), per_group, strict=True)
        ],
    )
    for limit in SIZE_LIMITS_MM:
        axes.axvline(limit / 10, color="#555555", linestyle="--", linewidth=1)
    axes.set_xlabel("longest diameter in the slice of largest area, cm")
    axes.set_ylabel("tumors")
    axes.set_xlim(0, edges[-1] / 10)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=16, integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)


def _counts(cases: Sequence[Case]) -> tuple[str, ...]:
    per_group = [_share(sum(case.size_group == group for case in cases), len(cases)) for group in GROUPS]
    mean = f"{np.mean([case.size_mm for case in cases]) / 10:.2f}" if cases else ""
    return (*per_group, str(len(cases)), str(len({case.patient for case in cases})), mean)


def _shares(what: str, values: Sequence[str]) -> list[tuple[str, str]]:
    """A row for each value that occurs, the most frequent first, the unknown last."""
    counts = Counter(value or "unknown" for value in values).items()
    ranked = sorted(counts, key=lambda item: (item[0] == "unknown", -item[1], item[0]))
    return [(f"{what}: {name}", _share(count, len(values))) for name, count in ranked]


def _share(count: int, total: int) -> str:
    return f"{count} ({100 * count / total:.0f} %)" if total else "0"


def _range(values: Sequence[float] | np.ndarray, digits: int) -> str:
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"


def _median(values: Sequence[float], digits: int) -> str:
    return f"{np.median(values):.{digits}f} ({_range(values, digits)})"


def latex_escape(text: str) -> str:
    """Text as LaTeX prints it: one pass over the characters, so that no escape is escaped again."""
    return "".join(_LATEX.get(character, character) for character in text)

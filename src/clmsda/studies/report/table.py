"""A table as plain rows, and its forms as text: CSV with every number, LaTeX, and Markdown (HTML is the page's)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from clmsda.cohorts.describe import latex_escape
from clmsda.studies.statistics import Estimate, Spread

Cell = str | int | float | Estimate | Spread | None
Show = Literal["plain", "mean (SD)", "mean [interval]", "interval", "p"]
PAPER = "paper"
"""What stands over every column of published figures."""
NOT_AVAILABLE = "not available"
NOTHING, MINUS, TIMES = "\N{EN DASH}", "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True)
class Column:
    """heading: with the unit. group: a heading over this column and its neighbors of the same group.

    show: how estimates and p values are printed; an "interval" repeats its neighbor's estimate, so CSV leaves it out.
    paper: published figures.
    """

    heading: str
    group: str = ""
    show: Show = "plain"
    digits: int = 2
    paper: bool = False


@dataclass(frozen=True)
class Table:
    """name: of its files. label: "Table 4". best: (row, column) of cells to be printed in bold."""

    name: str
    label: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    best: frozenset[tuple[int, int]] = frozenset()

    def shown(self) -> list[list[str]]:
        """Every cell as it is printed."""
        return [[printed(cell, column) for cell, column in zip(row, self.columns, strict=True)] for row in self.rows]

    @property
    def grouped(self) -> bool:
        """Whether any column stands under a heading over several."""
        return any(column.group for column in self.columns)

    def groups(self) -> list[tuple[str, int, int]]:
        """(group, first column, number of columns) for each run of columns under one heading."""
        runs = [(group, list(own)) for group, own in groupby(range(len(self.columns)), lambda i: self.columns[i].group)]
        return [(group, own[0], len(own)) for group, own in runs]

    def is_words(self, index: int) -> bool:
        """Whether a column holds words: they are set to the left, numbers to the right."""
        texts = [cell for row in self.rows if isinstance(cell := row[index], str)]
        return any(not text[:1].isdigit() and text != NOT_AVAILABLE for text in texts) or not self.rows


def printed(cell: Cell, column: Column) -> str:
    """One cell as text, with a dash for what is not known or not defined."""
    if cell is None:
        return NOTHING
    if isinstance(cell, str):
        return cell
    if isinstance(cell, Spread):
        return _printed_spread(cell, column.digits)
    if isinstance(cell, Estimate):
        return _printed_estimate(cell, column)
    if column.show == "p":
        return "< 0.001" if cell < 0.001 else f"{cell:.3f}"
    return decimal(cell, 0 if isinstance(cell, int) else column.digits)


def decimal(value: float | None, digits: int, sign: str = "") -> str:
    """sign: "+" for one before positive numbers, too; 0 has none."""
    if value is None:
        return NOTHING
    if value == float("inf"):
        return "\N{INFINITY}"
    text = f"{value:{sign}.{digits}f}"
    return (text.lstrip("+-") if float(text) == 0 else text).replace("-", MINUS)


def _printed_estimate(cell: Estimate, column: Column) -> str:
    if cell.mean is None:
        return NOTHING
    mean, low, high, sd = (decimal(value, column.digits) for value in (cell.mean, cell.low, cell.high, cell.sd))
    interval = NOTHING if cell.low is None else f"[{low}, {high}]"
    if column.show == "interval":
        return interval
    if column.show == "mean [interval]":
        return mean if cell.low is None else f"{mean} {interval}"
    return mean if cell.sd is None else f"{mean} ({sd})"


def _printed_spread(cell: Spread, digits: int) -> str:
    if cell.median is None:
        return NOTHING
    low, median, high = (decimal(value, digits) for value in (cell.low, cell.median, cell.high))
    return f"{median} [{low}, {high}]"


def best_of(rows: Sequence[Sequence[Cell]], columns: Iterable[int], within: Iterable[int]) -> set[tuple[int, int]]:
    """The cells of highest mean, column by column, among the rows `within`; none where there is nothing to compare."""
    found = set()
    chosen = list(within)
    for column in columns:
        means = {row: cell.mean for row in chosen if isinstance(cell := rows[row][column], Estimate)}
        known = {row: round(mean, 2) for row, mean in means.items() if mean is not None}
        if len(known) > 1:
            found |= {(row, column) for row, mean in known.items() if mean == max(known.values())}
    return found


def to_csv(table: Table) -> str:
    """Comma-separated values, one line of headings; an estimate is four columns, nothing is rounded but to 6 digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    kept = [index for index, column in enumerate(table.columns) if column.show != "interval"]
    parts = {index: _parts(table, index) for index in kept}
    writer.writerow([_heading(table.columns[index], part) for index in kept for part in parts[index]])
    for row in table.rows:
        writer.writerow([_field(row[index], part) for index in kept for part in parts[index]])
    return text.getvalue()


def _parts(table: Table, index: int) -> tuple[str, ...]:
    """The fields of an estimate or a spread that become columns of their own; of another cell, itself."""
    cells = [row[index] for row in table.rows]
    if any(isinstance(cell, Estimate) for cell in cells):
        return ("mean", "sd", "low", "high")
    return ("median", "low", "high", "infinite") if any(isinstance(cell, Spread) for cell in cells) else ("",)


def _heading(column: Column, part: str) -> str:
    names = {"sd": "SD", "low": "95 % low", "high": "95 % high"}
    if part == "median" or column.show == "plain":
        names |= {"low": "quartile 1", "high": "quartile 3", "infinite": "share infinite"}
    words = (column.group, column.heading, names.get(part, part))
    return " ".join(word for word in words if word)


def _field(cell: Cell, part: str) -> str:
    value = getattr(cell, part, None) if part else cell
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def to_text(table: Table) -> str:
    """A table in Markdown that is also aligned for reading as it is."""
    headings = [f"{column.group}: {column.heading}" if column.group else column.heading for column in table.columns]
    rows = [[_bar(heading) for heading in headings]]
    rows += [
        [f"**{_bar(text)}**" if (number, index) in table.best else _bar(text) for index, text in enumerate(shown)]
        for number, shown in enumerate(table.shown())
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    notes = "".join(f"\n{note}\n" for note in table.notes)
    return f"{table.label}. {table.caption}\n\n" + "\n".join(lines) + "\n" + notes


def _bar(text: str) -> str:
    return text.replace("|", "\\|")


def to_latex(table: Table) -> str:
    """A `table` environment with booktabs rules (the preamble needs \\usepackage{booktabs})."""
    align = "".join(_latex_align(table, index) for index in range(len(table.columns)))
    lines = [r"\begin{table}", r"\centering", r"\small"]
    lines += [rf"\caption{{{latex_escape(table.caption)}}}", rf"\label{{tab:{table.name.replace('_', '-')}}}"]
    lines += [rf"\begin{{tabular}}{{{align}}}", r"\toprule"]
    if table.grouped:
        lines += _latex_groups(table)
    lines += [" & ".join(latex_escape(column.heading) for column in table.columns) + r" \\", r"\midrule"]
    for number, row in enumerate(table.shown()):
        cells = [latex_escape(text) for text in row]
        cells = [rf"\textbf{{{text}}}" if (number, i) in table.best else text for i, text in enumerate(cells)]
        lines.append(" & ".join(cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\smallskip\footnotesize {latex_escape(note)}" for note in table.notes]
    return "\n".join([*lines, r"\end{table}", ""])


def _latex_align(table: Table, index: int) -> str:
    """Words to the left, in lines where they are many; numbers to the right."""
    if not table.is_words(index):
        return "r"
    longest = max((len(row[index]) for row in table.shown()), default=0)
    return r"p{0.33\linewidth}" if longest > 50 else "l"


def _latex_groups(table: Table) -> list[str]:
    """The line of headings over several columns, with a rule under each."""
    cells, rules = [], []
    for group, first, count in table.groups():
        cells.append(rf"\multicolumn{{{count}}}{{c}}{{{latex_escape(group)}}}")
        if group:
            rules.append(rf"\cmidrule(lr){{{first + 1}-{first + count}}}")
    return [" & ".join(cells) + r" \\", " ".join(rules)]

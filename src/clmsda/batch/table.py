"""The table of a batch: a CT and its prompts in each row."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from clmsda.batch.errors import BatchError
from clmsda.geometry import Grid
from clmsda.prompts import Prompt, parse

KINDS = ("point", "recist", "box")
DRAWN = "recist_from"
PROMPTS = (*KINDS, DRAWN)
COLUMNS = ("name", "ct", *PROMPTS, "series", "patient", "date")
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]{0,99}")


@dataclass(frozen=True)
class Row:
    """One CT. line: of the table, counted from 1, the heading being the first. ct: as a path.

    prompts: (kind, text) as on the command line, in the order of the columns; several in a cell are parted by
    semicolons. drawn: SR or GSPS files with lines that a reader drew. wrong: why the row cannot be worked on, or "".
    """

    line: int
    name: str
    ct: Path
    prompts: tuple[tuple[str, str], ...]
    drawn: tuple[Path, ...] = ()
    series: str | None = None
    patient: str = ""
    date: str = ""
    wrong: str = ""

    def parsed(self, frame: str, grid: Grid) -> list[Prompt]:
        """The prompts that are written out, on the CT's grid. Raises PromptError."""
        return [parse(text, kind, frame, grid) for kind, text in self.prompts]


def read_table(path: Path) -> list[Row]:
    """The rows of a CSV file with the columns `name`, `ct`, one or more of `point`, `recist`, `box` and
    `recist_from`, and as wanted `series`, `patient`, `date`. Paths are relative to the table's folder.

    Raises BatchError for a file that is no such table, an unknown column, and two rows of one name.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            records = list(csv.reader(file, strict=True))
    except OSError as error:
        raise BatchError(f"cannot read the table {path}: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise BatchError(f"{path} is no table of comma-separated values in UTF-8 ({error})") from error
    columns = [name.strip() for name in records[0]] if records else []
    _check_columns(columns, path)
    rows = [_row(line, columns, cells, path.parent) for line, cells in enumerate(records[1:], 2) if any(cells)]
    if not rows:
        raise BatchError(f"{path} has no row below its heading: give one for each CT")
    first: dict[str, int] = {}
    for row in rows:
        if row.name.casefold() in first:
            lines = f"{first[row.name.casefold()]} and {row.line}"
            raise BatchError(f"{path}: expected each name once, found {row.name!r} in the lines {lines}: change one")
        first[row.name.casefold()] = row.line
    return rows


def _check_columns(columns: list[str], path: Path) -> None:
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown:
        raise BatchError(f"{path}: expected the columns {', '.join(COLUMNS)}, found {', '.join(unknown)}, too")
    twice = sorted({name for name in columns if columns.count(name) > 1})
    missing = [name for name in ("name", "ct") if name not in columns]
    if twice or missing or not set(columns) & set(PROMPTS):
        what = f"{', '.join(twice)} twice" if twice else f"no {', '.join(missing or PROMPTS)}"
        raise BatchError(f"{path}: expected the columns name, ct and one or more of {', '.join(PROMPTS)}, found {what}")


def _row(line: int, columns: list[str], cells: list[str], folder: Path) -> Row:
    record = dict(zip(columns, (cell.strip() for cell in cells), strict=False))
    name, ct = record.get("name", ""), record.get("ct", "")
    prompts = tuple((kind, text.strip()) for kind in KINDS for text in record.get(kind, "").split(";") if text.strip())
    drawn = tuple(folder / text.strip() for text in record.get(DRAWN, "").split(";") if text.strip())
    wrong = ""
    if len(cells) != len(columns):
        wrong = f"expected {len(columns)} cells as in the heading, found {len(cells)}: put cells with commas in quotes"
    elif not _NAME.fullmatch(name) or name.endswith("."):
        wrong = f"expected a name of letters, digits, and . _ + - that can be a folder's, found {name[:60]!r}"
    elif not ct:
        wrong = "expected the path of a CT, found none"
    elif not prompts and not drawn:
        wrong = f"expected a prompt in one of the columns {', '.join(PROMPTS)}, found none"
    safe = name if _NAME.fullmatch(name) and not name.endswith(".") else f"line-{line}"
    series = record.get("series") or None
    return Row(
        line, safe, folder / ct, prompts, drawn, series, record.get("patient", ""), record.get("date", ""), wrong
    )

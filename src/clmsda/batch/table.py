"""The table of a batch: a CT and its prompts in each row."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clmsda.batch.errors import BatchError
from clmsda.batch.places import is_address, place
from clmsda.errors import one_line
from clmsda.geometry import Grid
from clmsda.prompts import Prompt, parse

KINDS = ("point", "recist", "box")
DRAWN = "recist_from"
PROMPTS = (*KINDS, DRAWN)
COLUMNS = ("name", "ct", *PROMPTS, "series", "patient", "date")
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]{0,99}")


@dataclass(frozen=True)
class Row:
    """One CT. line: of the table, counted from 1, the heading being the first; 0 where none is about it.

    ct: as a path, or an address (`places`). prompts: (kind, text) as on the command line, in the order of the columns;
    several in a cell are parted by semicolons. drawn: SR or GSPS files with lines that a reader drew. files: those of
    the CT, where its folder holds others, too. wrong: why the row cannot be worked on, or "".
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
    files: tuple[Path, ...] = ()

    @property
    def digest(self) -> str:
        """What tells it from another row of its name. The same table has the same ones wherever it is read from."""
        paths = [str(path) if is_address(path) else os.path.abspath(path) for path in (self.ct, *self.drawn)]
        text = repr((paths, self.prompts, self.series, self.patient, self.date, self.wrong))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def parsed(self, frame: str, grid: Grid) -> list[Prompt]:
        """The prompts that are written out, on the CT's grid. Raises PromptError."""
        return [parse(text, kind, frame, grid) for kind, text in self.prompts]


@dataclass(frozen=True)
class Cells:
    """What a line of a table says, by column. wrong: why it cannot be understood, or ""."""

    line: int
    texts: dict[str, str]
    wrong: str = ""

    def __getitem__(self, column: str) -> str:
        return self.texts.get(column, "")

    def prompts(self) -> tuple[tuple[str, str], ...]:
        return tuple((kind, text.strip()) for kind in KINDS for text in self[kind].split(";") if text.strip())

    def drawn(self, folder: Path) -> tuple[Path, ...]:
        return tuple(place(text.strip(), folder) for text in self[DRAWN].split(";") if text.strip())


def read_table(path: Path) -> list[Row]:
    """The rows of a CSV file with the columns `name`, `ct`, one or more of `point`, `recist`, `box` and
    `recist_from`, and as wanted `series`, `patient`, `date`. Paths are relative to the table's folder.

    Raises BatchError for a file that is no such table, an unknown column, and two rows of one name; also for addresses
    that nothing installed here can read.
    """
    rows = [_row(cells, path.parent) for cells in read_cells(path, COLUMNS, needed=("name", "ct"))]
    refuse_twice(rows, path)
    return rows


def read_cells(path: Path, known: Sequence[str], needed: Sequence[str]) -> list[Cells]:
    """The lines of a CSV file below its heading. known: the columns that it may have, needed: those that it must.

    Raises BatchError for a file that is no table, columns that are unknown, twice or missing, and one without rows.
    """
    if not is_address(path) and path.is_dir():
        raise BatchError(f"{path} is a folder: give --prompts with the prompts of the studies in it, or a table")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            records = list(csv.reader(file, strict=True))
    except OSError as error:
        raise BatchError(f"cannot read the table {path}: {error.strerror or error}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise BatchError(f"{path} is no table of comma-separated values in UTF-8 ({error})") from error
    except Exception as error:
        if not is_address(path):
            raise
        raise BatchError(f"cannot read the table {path}: {one_line(str(error))[:300]}") from error
    columns = [name.strip() for name in records[0]] if records else []
    _check_columns(columns, path, known, needed)
    lines = [_cells(line, columns, cells) for line, cells in enumerate(records[1:], 2) if any(cells)]
    if not lines:
        raise BatchError(f"{path} has no row below its heading: give one for each CT")
    return lines


def refuse_twice(rows: Sequence[Row], path: Path) -> None:
    """Raise BatchError for two rows of one name, as some file systems see names."""
    first: dict[str, int] = {}
    for row in rows:
        if row.name.casefold() in first:
            lines = f"{first[row.name.casefold()]} and {row.line}"
            raise BatchError(f"{path}: expected each name once, found {row.name!r} in the lines {lines}: change one")
        first[row.name.casefold()] = row.line


def fit(name: str) -> bool:
    """Whether a name can be a folder's."""
    return _NAME.fullmatch(name) is not None and not name.endswith(".")


def _check_columns(columns: list[str], path: Path, known: Sequence[str], needed: Sequence[str]) -> None:
    unknown = [name for name in columns if name not in known]
    if unknown:
        raise BatchError(f"{path}: expected the columns {', '.join(known)}, found {', '.join(unknown)}, too")
    twice = sorted({name for name in columns if columns.count(name) > 1})
    missing = [name for name in needed if name not in columns]
    if twice or missing or not set(columns) & set(PROMPTS):
        what = f"{', '.join(twice)} twice" if twice else f"no {', '.join(missing or PROMPTS)}"
        wanted = ", ".join(needed) + " and " if needed else ""
        raise BatchError(f"{path}: expected the columns {wanted}one or more of {', '.join(PROMPTS)}, found {what}")


def _cells(line: int, columns: list[str], cells: list[str]) -> Cells:
    texts = dict(zip(columns, (cell.strip() for cell in cells), strict=False))
    wrong = ""
    if len(cells) != len(columns):
        wrong = f"expected {len(columns)} cells as in the heading, found {len(cells)}: put cells with commas in quotes"
    return Cells(line, texts, wrong)


def _row(cells: Cells, folder: Path) -> Row:
    name, prompts, drawn = cells["name"], cells.prompts(), cells.drawn(folder)
    wrong = cells.wrong
    if wrong:
        pass
    elif not fit(name):
        wrong = f"expected a name of letters, digits, and . _ + - that can be a folder's, found {name[:60]!r}"
    elif not cells["ct"]:
        wrong = "expected the path of a CT, found none"
    elif not prompts and not drawn:
        wrong = f"expected a prompt in one of the columns {', '.join(PROMPTS)}, found none"
    safe, ct = name if fit(name) else f"line-{cells.line}", place(cells["ct"], folder)
    return Row(cells.line, safe, ct, prompts, drawn, cells["series"] or None, cells["patient"], cells["date"], wrong)

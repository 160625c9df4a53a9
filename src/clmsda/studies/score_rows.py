"""The files scores.csv and slices.csv of a run: their columns, and how they are written and read.

    scores.csv    a row per case and protocol: F1 over the stacked slices, surface Dice, HD95, volume, diameter, ...
    slices.csv    a row per case, protocol and slice that holds truth or prediction, counted in the slab

Numbers have six significant digits; a cell is empty where its number is not defined. A study that goes on reads rows
as they are (`read_rows`); who reports them reads checked numbers (`read_scores`, `read_slices`).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from math import isnan
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from clmsda.files import replacing
from clmsda.studies.config import StudyError
from clmsda.studies.folder import Run

SCORE_FILE, SLICE_FILE = "scores.csv", "slices.csv"
AGAIN = "delete it and done.json beside it, and the same `clmsda study run` scores this run again"


def _empty_is_none(value: object) -> object:
    return None if value == "" else value


Share = Annotated[float, Field(ge=0, le=1)]
Length = Annotated[float, Field(ge=0)]
MaybeShare = Annotated[Share | None, BeforeValidator(_empty_is_none)]
MaybeLength = Annotated[Length | None, BeforeValidator(_empty_is_none)]


@dataclass(frozen=True)
class Score:
    """A row of scores.csv: one case under one protocol. None where a value is not defined; hd95_mm may be infinite."""

    variant: str
    fold: int
    seed: int
    protocol: str
    case: str
    patient: str
    size_mm: Annotated[float, Field(gt=0)]
    size_group: Annotated[int, Field(ge=1, le=3)]
    f1: MaybeShare
    recall: MaybeShare
    precision: MaybeShare
    surface_dice: MaybeShare
    hd95_mm: MaybeLength
    volume_ml: MaybeLength
    true_volume_ml: MaybeLength
    long_axis_mm: MaybeLength
    true_long_axis_mm: MaybeLength
    outside: MaybeShare
    confidence: MaybeShare
    note: str

    @property
    def distance_mm(self) -> float | None:
        """HD95, infinite for an empty prediction, of which the table leaves it out."""
        return float("inf") if self.hd95_mm is None and self.volume_ml == 0 else self.hd95_mm


@dataclass(frozen=True)
class SliceScore:
    """A row of slices.csv: one slice that holds truth or prediction."""

    variant: str
    fold: int
    seed: int
    protocol: str
    case: str
    slice: Annotated[int, Field(ge=0)]
    f1: Share
    recall: Share
    precision: Share


SCORES, SLICES = (tuple(field.name for field in fields(one)) for one in (Score, SliceScore))
"""The columns of both files."""
TEXTS = ("variant", "protocol", "case", "patient", "note")
Row = dict[str, str]


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write a table, whole or not at all."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def read_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """The rows of a table; none where there is no file yet. Raises StudyError for a damaged one."""
    if not path.is_file():
        return []
    remedy = "delete it, and the same `clmsda study run` scores the run's cases again"
    try:
        with path.open(newline="", encoding="utf8") as file:
            reader = csv.DictReader(file, strict=True)
            if tuple(reader.fieldnames or ()) != tuple(columns):
                raise StudyError(f"{path}: expected the columns {', '.join(columns)}, found others: {remedy}")
            rows = list(reader)
    except (csv.Error, UnicodeDecodeError) as error:
        raise StudyError(f"{path} is not a table of comma-separated values ({error}): {remedy}") from error
    for line, row in enumerate(rows, 2):
        wrong = [name for name in columns if not _sound(name, row[name])]
        if wrong or None in row:
            raise StudyError(f"{path}, line {line}: damaged at {wrong[0] if wrong else 'its end'}: {remedy}")
    return rows


def _sound(name: str, text: str | None) -> bool:
    if text is None:
        return False
    if name in TEXTS or not text:
        return True
    try:
        return not isnan(float(text))
    except ValueError:
        return False


def read_scores(run: Run, folder: Path) -> list[Score]:
    """The scores of a run. Raises StudyError with line and column, and for a case that stands twice in a protocol."""
    scores = list(_read(run, folder / SCORE_FILE, SCORES, _SCORE))
    seen = set()
    for score in scores:
        key = (score.protocol, score.case)
        if key in seen:
            raise StudyError(f"{folder / SCORE_FILE}: found case {score.case} twice under {score.protocol}: {AGAIN}")
        seen.add(key)
    return scores


def read_slices(run: Run, folder: Path) -> list[SliceScore]:
    """The slices of a run. Raises StudyError."""
    return list(_read(run, folder / SLICE_FILE, SLICES, _SLICE))


_SCORE, _SLICE = TypeAdapter(Score), TypeAdapter(SliceScore)
_Row = TypeVar("_Row", Score, SliceScore)


def _read(run: Run, path: Path, columns: Sequence[str], adapter: TypeAdapter[_Row]) -> Iterator[_Row]:
    if not path.is_file():
        raise StudyError(f"{path} is missing, though its run is done: {AGAIN}")
    for line, values in enumerate(read_rows(path, columns), 2):
        try:
            row = adapter.validate_python(values)
        except ValidationError as error:
            found = values[str(error.errors()[0]["loc"][0])]
            raise StudyError(f"{path}, line {line}: {first_problem(error)} (found {found!r}): {AGAIN}") from error
        if (row.variant, row.fold, row.seed) != run.key:
            raise StudyError(
                f"{path}, line {line}: expected scores of {run.name}, found {row.variant}, fold {row.fold}, seed "
                f"{row.seed}: it was copied from another run; {AGAIN}"
            )
        yield row


def first_problem(error: ValidationError) -> str:
    """The first thing that is wrong, with its place."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"

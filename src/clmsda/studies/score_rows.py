"""The rows of scores.csv and slices.csv as checked numbers, for those who report them; `scores` writes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from clmsda.studies.folder import Run
from clmsda.studies.progress import SCORE_FILE, SLICE_FILE
from clmsda.studies.scores import SCORES, SLICES, StudyError, read_rows

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
        if (row.variant, row.fold, row.seed) != (run.row.name, run.fold, run.seed):
            raise StudyError(
                f"{path}, line {line}: expected scores of {run.name}, found {row.variant}, fold {row.fold}, seed "
                f"{row.seed}: it was copied from another run; {AGAIN}"
            )
        yield row


def first_problem(error: ValidationError) -> str:
    """The first thing that is wrong, with its place."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"

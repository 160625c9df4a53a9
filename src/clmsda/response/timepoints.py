"""Time points: the measured lesions of one scan, and when it was. `clmsda.response.reading` reads them from files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any

from pydantic import Field

from clmsda.errors import InputError

MOST_MM, MOST_ML, FARTHEST_MM = 1000.0, 100_000.0, 100_000.0
"""No lesion is longer or larger, and no scanner's table reaches farther: beyond, a unit was mistaken."""
MOST_LABEL = 2**32 - 1

Label = Annotated[int, Field(ge=0, le=MOST_LABEL)]
Length = Annotated[float, Field(ge=0, le=MOST_MM, allow_inf_nan=False)]
Milliliters = Annotated[float, Field(ge=0, le=MOST_ML, allow_inf_nan=False)]
Position = Annotated[float, Field(ge=-FARTHEST_MM, le=FARTHEST_MM, allow_inf_nan=False)]
PointMm = tuple[Position, Position, Position]


class TimePointError(InputError):
    """A file that is no time point, or time points that cannot be compared: another patient, a wrong order."""


@dataclass(frozen=True)
class Lesion:
    """One lesion of one scan.

    label: its number in the file. volume_ml: None where only diameters were measured, 0 where nothing was found.
    organ: where the file says so ("lung", "node", ...). name: of the region that it was measured in.
    """

    label: Label
    volume_ml: Milliliters | None = None
    long_axis_mm: Length | None = None
    short_axis_mm: Length | None = None
    center_lps: PointMm | None = None
    tracking_uid: str | None = None
    organ: str | None = None
    name: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing was found where the lesion was looked for, or nothing that can be used."""
        return not self.volume_ml and not self.long_axis_mm


@dataclass(frozen=True)
class TimePoint:
    """One scan. number: 0 is the baseline, 1 the first follow-up. source: the file's name.

    notes: what of the file was left out or is in doubt.
    """

    number: int
    source: str
    lesions: tuple[Lesion, ...]
    date: date | None = None
    slice_mm: float | None = None
    patient_check: str | None = None
    image: str = ""
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return "baseline" if self.number == 0 else f"follow-up {self.number}"

    def __str__(self) -> str:
        return f"{self.name} ({self.date or self.source})"

    def lesion(self, label: int) -> Lesion | None:
        """The lesion with this label, or None."""
        return next((lesion for lesion in self.lesions if lesion.label == label), None)


def days_between(first: TimePoint, second: TimePoint) -> int | None:
    """Whole days from one scan to another; None where a date is not known."""
    return (second.date - first.date).days if first.date and second.date else None


def facts_to_json(point: TimePoint) -> dict[str, Any]:
    """A time point in a report: when and what, no identifier."""
    return {
        "name": point.name,
        "source": point.source,
        "date": point.date.isoformat() if point.date else None,
        "slice_mm": point.slice_mm,
    }

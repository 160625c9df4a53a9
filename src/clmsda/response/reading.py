"""Time points: the measured lesions of one scan, and a patient's scans in their order.

A time point is read from the JSON that `clmsda segment --json` and `clmsda measure --json` write, or from a DICOM SR
(TID 1500). Of the JSON it takes

    lesions   label, volume_ml, long_axis_mm, short_axis_mm, center_lps, and where there is one tracking_uid
    scan      date, slice_thickness_mm, slice_spacing_mm, patient_check (see `clmsda.images.scan_facts`)
    image     the series UID or the file's name, to notice a scan that is given twice
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from clmsda.errors import InputError
from clmsda.images.scan_facts import ScanFacts, parse_date

Length = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Position = Annotated[float, Field(allow_inf_nan=False)]
PointMm = tuple[Position, Position, Position]


class TimePointError(InputError):
    """A file that is no time point, or time points that cannot be compared: another patient, a wrong order."""


@dataclass(frozen=True)
class Lesion:
    """One lesion of one scan.

    label: its number in the file. volume_ml: None where only diameters were measured, 0 where nothing was found.
    organ: where the file says so ("lung", "node", ...).
    """

    label: Annotated[int, Field(ge=0)]
    volume_ml: Length | None = None
    long_axis_mm: Length | None = None
    short_axis_mm: Length | None = None
    center_lps: PointMm | None = None
    tracking_uid: str | None = None
    organ: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing was found where the lesion was looked for."""
        return self.volume_ml == 0.0 or (self.volume_ml is None and self.long_axis_mm is None)


@dataclass(frozen=True)
class _File:
    """What is taken of a JSON; all else in it is left alone."""

    lesions: list[Lesion]
    scan: ScanFacts = field(default_factory=ScanFacts)
    image: str = ""


_FILE = TypeAdapter(_File)
_UID = re.compile(r"\d+(\.\d+){3,}")


@dataclass(frozen=True)
class TimePoint:
    """One scan. number: 0 is the baseline, 1 the first follow-up. source: the file's name."""

    number: int
    source: str
    lesions: tuple[Lesion, ...]
    date: date | None = None
    slice_mm: float | None = None
    patient_check: str | None = None
    image: str = ""

    @property
    def name(self) -> str:
        return "baseline" if self.number == 0 else f"follow-up {self.number}"

    def __str__(self) -> str:
        return f"{self.name} ({self.date or self.source})"

    def lesion(self, label: int) -> Lesion | None:
        """The lesion with this label, or None."""
        return next((lesion for lesion in self.lesions if lesion.label == label), None)


def read_time_points(
    paths: Sequence[str | os.PathLike[str]], dates: Mapping[int, date] | None = None
) -> tuple[TimePoint, ...]:
    """Read a baseline and its follow-ups, in this order, and check that they belong together.

    paths: a follow-up may also be a date (YYYY-MM-DD): a scan in which there was nothing to measure.
    dates: of time points (0 is the baseline) whose files tell none.

    Raises TimePointError for a file that is no time point, another patient, a scan given twice, a date
    that contradicts a file's, or an order that is not that of the dates.
    """
    if len(paths) < 2:
        raise TimePointError(f"expected a baseline and at least one follow-up, found {len(paths)} file")
    points = [read_time_point(path, number) for number, path in enumerate(paths)]
    if not any(not lesion.is_empty for lesion in points[0].lesions):
        raise TimePointError(f"{points[0].source}: the baseline measures no lesion, so there is none to follow")
    points = [_dated(point, (dates or {}).get(point.number)) for point in points]
    _check_patient(points)
    _check_scans(points)
    _check_order(points)
    return tuple(points)


def read_time_point(path: str | os.PathLike[str], number: int = 0) -> TimePoint:
    """Read one JSON or SR, told apart by content; a date is a scan without lesions. Raises TimePointError."""
    from clmsda.images.dicom_files import is_dicom

    path = Path(path)
    day = parse_date(str(path))
    if day and not path.exists():
        return TimePoint(number, str(path), (), day)
    try:
        if is_dicom(path):
            from clmsda.response.structured_reports import read_report

            facts, lesions, image = read_report(path)
        else:
            facts, lesions, image = _read_json(path)
    except OSError as error:
        raise TimePointError(f"cannot read {path}: {error.strerror}: give a JSON of measurements or a SR") from error
    _check_lesions(lesions, path)
    lengths = (facts.slice_thickness_mm, facts.slice_spacing_mm)
    slice_mm = max((length for length in lengths if length and 0 < length < math.inf), default=None)
    when = parse_date(facts.date) if facts.date else None
    if facts.date and when is None:
        raise TimePointError(f"{path}: scan.date: expected YYYY-MM-DD, found {facts.date!r}")
    return TimePoint(number, path.name, tuple(lesions), when, slice_mm, facts.patient_check, image)


def _read_json(path: Path) -> tuple[ScanFacts, list[Lesion], str]:
    try:
        content = _FILE.validate_json(path.read_bytes(), strict=True)
    except ValidationError as error:
        raise TimePointError(
            f"{path} does not hold measurements as `clmsda segment --json` writes them: {'; '.join(_problems(error))}"
        ) from error
    return content.scan, content.lesions, content.image


def _problems(error: ValidationError) -> Iterable[str]:
    for one in error.errors():
        place = ".".join(map(str, one["loc"]))
        yield f"{place}: {one['msg']}" if place else one["msg"]


def _check_lesions(lesions: Sequence[Lesion], path: Path) -> None:
    """Every lesion has its own name, and axes where it has a volume."""
    if not lesions:
        raise TimePointError(f"{path} holds no lesion: there is nothing to compare")
    for what, names in (
        ("label", [str(one.label) for one in lesions]),
        ("tracking UID", [one.tracking_uid for one in lesions if one.tracking_uid]),
    ):
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise TimePointError(
                f"{path}: every lesion needs its own {what}, found twice: {', '.join(map(str, twice))}"
            )
    for lesion in lesions:
        if not lesion.is_empty and (not lesion.long_axis_mm or not lesion.short_axis_mm):
            raise TimePointError(f"{path}: lesion {lesion.label} has no long and short axis: measure it again")


def _dated(point: TimePoint, given: date | None) -> TimePoint:
    if given is None:
        return point
    if point.date is not None and point.date != given:
        raise TimePointError(f"{point.source} is of {point.date}, which contradicts --date {point.number}:{given}")
    return replace(point, date=given)


def _check_patient(points: Sequence[TimePoint]) -> None:
    known = [point for point in points if point.patient_check]
    others = [point.source for point in known if point.patient_check != known[0].patient_check]
    if others:
        raise TimePointError(
            f"expected scans of one patient, found {', '.join(others)} of another than {known[0].source}: "
            "compare scans of the same patient only"
        )


def _check_scans(points: Sequence[TimePoint]) -> None:
    for index, point in enumerate(points):
        for earlier in points[:index]:
            if point.image == earlier.image and _UID.fullmatch(point.image):  # two files may well be named ct.nii.gz
                raise TimePointError(
                    f"{earlier.source} and {point.source} measure the same scan ({point.image}): give each scan once"
                )


def _check_order(points: Sequence[TimePoint]) -> None:
    dated = [point for point in points if point.date]
    ordered = sorted(dated, key=lambda point: point.date or date.min)
    if ordered != dated:
        right = ", ".join(f"{point.source} ({point.date})" for point in ordered)
        raise TimePointError(f"expected time points in the order of their dates, the baseline first: give {right}")


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

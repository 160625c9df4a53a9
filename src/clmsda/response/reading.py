"""Reads a patient's scans in their order: each from the JSON that `clmsda segment --json` and `clmsda measure --json`
write, or from a DICOM SR (TID 1500). Of the JSON it takes

    lesions   label, volume_ml, long_axis_mm, short_axis_mm, center_lps, and where there are some tracking_uid and name
    scan      date, slice_thickness_mm, slice_spacing_mm, patient_check (see `clmsda.images.scan_facts`)
    image     the series UID or the file's name, to notice a scan that is given twice
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from clmsda.images.scan_facts import ScanFacts, parse_date
from clmsda.response.timepoints import Lesion, TimePoint, TimePointError

MOST_BYTES = 64 << 20
"""Of a file: measurements of a patient take some kilobytes."""
THICKEST_MM = 100.0
MOST_PROBLEMS = 5
"""So many of a file's faults are named."""


@dataclass(frozen=True)
class _File:
    """What is taken of a JSON; all else in it is left alone."""

    lesions: list[Lesion]
    scan: ScanFacts = field(default_factory=ScanFacts)
    image: str = ""


_FILE = TypeAdapter(_File)
_UID = re.compile(r"\d+(\.\d+){3,}")


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
    _check_files([Path(path) for path in paths])
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
    notes: tuple[str, ...] = ()
    try:
        if is_dicom(path):
            from clmsda.response.structured_reports import read_report

            _check_size(path.stat().st_size, path)
            report = read_report(path)
            facts, lesions, image, notes = report.facts, report.lesions, report.image, report.notes
        else:
            facts, lesions, image = _read_json(path)
    except OSError as error:
        raise TimePointError(f"cannot read {path}: {error.strerror}: give a JSON of measurements or a SR") from error
    lesions = [replace(one, tracking_uid=(one.tracking_uid or "").strip(" \0") or None) for one in lesions]
    _check_lesions(lesions, path)
    when = parse_date(facts.date) if facts.date else None
    if facts.date and when is None:
        raise TimePointError(f"{path}: scan.date: expected YYYY-MM-DD, found {facts.date[:40]!r}")
    found = (*notes, *_doubts(lesions))
    return TimePoint(number, path.name, tuple(lesions), when, _slice_mm(facts, path), facts.patient_check, image, found)


def _read_json(path: Path) -> tuple[ScanFacts, list[Lesion], str]:
    with open(path, "rb") as file:
        content = file.read(MOST_BYTES + 1)
    _check_size(len(content), path)
    try:
        text = content.decode(json.detect_encoding(content))  # a shell may write UTF-16, or a mark of byte order
        found = _FILE.validate_json(text, strict=True)
    except UnicodeDecodeError as error:
        raise TimePointError(f"{path} is neither JSON nor DICOM: give a JSON of measurements or a SR") from error
    except ValidationError as error:
        raise TimePointError(
            f"{path} does not hold measurements as `clmsda segment --json` writes them: {'; '.join(_problems(error))}"
        ) from error
    return found.scan, found.lesions, found.image


def _check_size(size: int, path: Path) -> None:
    if size > MOST_BYTES:
        raise TimePointError(
            f"{path} is larger than {MOST_BYTES >> 20} MB, too large for measurements: give a JSON of measurements or "
            "a SR"
        )


def _problems(error: ValidationError) -> Iterator[str]:
    found = error.errors(include_input=False, include_url=False)
    for one in found[:MOST_PROBLEMS]:
        place = ".".join(map(str, one["loc"]))
        yield f"{place}: {one['msg']}" if place else one["msg"]
    if len(found) > MOST_PROBLEMS:
        yield f"and {len(found) - MOST_PROBLEMS} more"


def _slice_mm(facts: ScanFacts, path: Path) -> float | None:
    """The thickness of slices, or the distance between them where that is larger. Raises TimePointError."""
    lengths = [length for length in (facts.slice_thickness_mm, facts.slice_spacing_mm) if length is not None]
    for length in lengths:
        if not 0 <= length <= THICKEST_MM:
            raise TimePointError(f"{path}: expected slices of 0 to {THICKEST_MM:g} mm, found {length:g} mm: correct it")
    return max((length for length in lengths if length), default=None)


def _doubts(lesions: Sequence[Lesion]) -> Iterator[str]:
    """What of a lesion's values cannot be together."""
    for one in lesions:
        if one.long_axis_mm and one.short_axis_mm and one.short_axis_mm > one.long_axis_mm + 0.01:
            yield (
                f"lesion {one.label}: the short axis, {one.short_axis_mm:g} mm, is longer than the long axis, "
                f"{one.long_axis_mm:g} mm: were they exchanged?"
            )


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


def _check_files(paths: Sequence[Path]) -> None:
    there = [path for path in paths if path.exists()]
    for index, path in enumerate(there):
        for earlier in there[:index]:
            if path.samefile(earlier):
                raise TimePointError(f"{earlier} and {path} are the same file: give each scan once")


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

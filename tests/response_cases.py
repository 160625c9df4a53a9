"""Time points as small as a case that is worked out by hand: diameters in, a patient's scans out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, timedelta

from clmsda.response.report import Report, respond
from clmsda.response.statements import Statements
from clmsda.response.timepoints import Lesion, TimePoint

Size = float | tuple[float, float]
"""Long axis in mm, or long and short axis."""

START = date(2024, 1, 1)


def ball_ml(diameter_mm: float) -> float:
    return math.pi / 6 * diameter_mm**3 / 1000


def lesion(label: int, size: Size, **more: object) -> Lesion:
    """A ball of this long axis; its short axis is as long unless given."""
    long_mm, short_mm = size if isinstance(size, tuple) else (size, size)
    return Lesion(label, ball_ml(long_mm), long_mm, short_mm, **more)  # type: ignore[arg-type]


def scans(*sizes: Mapping[int, Size], slice_mm: float | None = 1.0, days: int = 60) -> tuple[TimePoint, ...]:
    """A time point for each mapping from label to size, `days` apart."""
    return tuple(
        TimePoint(
            number,
            f"scan{number}.json",
            tuple(lesion(label, size) for label, size in one.items()),
            START + timedelta(days * number),
            slice_mm,
            "a1f3",
        )
        for number, one in enumerate(sizes)
    )


def respond_to(*sizes: Mapping[int, Size], slice_mm: float | None = 1.0, **statements: object) -> Report:
    """The response of lesions of these sizes, in the lung unless `organs` says otherwise. organs: by label."""
    organs = statements.pop("organs", {})
    assert isinstance(organs, dict)
    said = Statements({(0, label): organ for label, organ in organs.items()}, **statements)  # type: ignore[arg-type]
    return respond(scans(*sizes, slice_mm=slice_mm), said, by="label")


def overall(report: Report) -> list[str]:
    """The overall response at every follow-up."""
    return [one.overall.value for one in report.recist]

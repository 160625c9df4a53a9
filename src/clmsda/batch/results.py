"""`results.csv`: a row per lesion, and one for each CT that failed, with the reason."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from clmsda.batch.outcomes import Outcome
from clmsda.batch.places import writing

MEASURED = ("label", "volume_ml", "long_axis_mm", "short_axis_mm", "size_group", "mean_hu", "confidence")
COLUMNS = ("name", "patient", "date", "status", "reason", *MEASURED, "warnings", "seconds")


def write_results(outcomes: Sequence[Outcome], path: Path) -> None:
    """Raises OutputError."""
    with writing(path) as temporary, temporary.open("w", encoding="utf8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for outcome in outcomes:
            writer.writerows(_rows(outcome))


def _rows(outcome: Outcome) -> Iterator[dict[str, Any]]:
    whole: dict[str, Any] = {
        "name": _plain(outcome.name), "patient": _plain(outcome.patient), "date": _plain(outcome.date),
        "status": outcome.status, "reason": outcome.reason, "seconds": outcome.seconds,
    }  # fmt: skip
    if not outcome.lesions:
        yield whole
    for lesion in outcome.lesions:
        warnings = "; ".join((*outcome.warnings, *lesion["warnings"]))
        yield whole | {key: lesion[key] for key in MEASURED} | {"warnings": warnings}


def _plain(text: str) -> str:
    """Text that a spreadsheet does not take for a formula."""
    return f"'{text}" if text[:1] in "=+-@\t" and text else text

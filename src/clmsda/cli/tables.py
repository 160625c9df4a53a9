"""Measurements as a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import TYPE_CHECKING

from clmsda.cli.options import new_table, show

if TYPE_CHECKING:
    from clmsda.measurements import Measurement
    from clmsda.segmentation import Lesion

COLUMNS = ("lesion", "volume ml", "long axis mm", "short axis mm", "slices", "size group")


def measurement_row(name: str, measurement: Measurement) -> list[str]:
    """The cells below `COLUMNS`."""
    first, last = measurement.slices
    return [
        name,
        f"{measurement.volume_ml:.2f}",
        f"{measurement.long_axis_mm:.1f}",
        f"{measurement.short_axis_mm:.1f}",
        f"{first}-{last}",
        str(measurement.size_group),
    ]


def show_lesions(lesions: Sequence[Lesion]) -> None:
    """Print one row per lesion on stdout, and below them what the reader should beware of."""
    import typer

    rows = [
        [*measurement_row(str(one.label), one.measurement), "-" if isnan(one.confidence) else f"{one.confidence:.2f}"]
        if one.measurement
        else [str(one.label), "nothing found"]
        for one in lesions
    ]
    show(new_table([*COLUMNS, "confidence"], rows))
    for one in lesions:
        for warning in one.warnings:
            typer.echo(f"lesion {one.label}: {warning}", err=True)

"""Measurements as a table for people."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING

from clmsda.cli.options import new_table, show

if TYPE_CHECKING:
    from clmsda.measurements import Measurement
    from clmsda.segmentation import Segmentation

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


def show_lesions(found: Segmentation) -> None:
    """Print one row per lesion on stdout, and below them what the reader should beware of."""
    import typer

    if not found.lesions:
        typer.echo("; ".join(["no tumor was found", *found.warnings]))
        return
    unasked = any(one.probability is not None for one in found.lesions)
    rows = [
        [
            *measurement_row(str(one.label), one.measurement),
            _share(one.confidence),
            *([_share(one.probability)] * unasked),
        ]
        if one.measurement
        else [str(one.label), "nothing found"]
        for one in found.lesions
    ]
    show(new_table([*COLUMNS, "confidence", *["probability"] * unasked], rows))
    for warning in found.warnings:
        typer.echo(f"warning: {warning}", err=True)
    for one in found.lesions:
        for warning in one.warnings:
            typer.echo(f"lesion {one.label}: {warning}", err=True)


def _share(value: float | None) -> str:
    return "-" if value is None or isnan(value) else f"{value:.2f}"

"""What a report for people says, whatever it is written as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import Any

from clmsda.segmentation import Segmentation
from clmsda.segmentation.preview import picture
from clmsda.serving.sessions import Lesion, Opened

NOTICE = "For research use only. Not for clinical decisions."
COLUMNS = ("Lesion", "Organ", "Volume, ml", "Axes, mm", "Slices", "Mean HU", "Confidence", "Accepted")


@dataclass(frozen=True)
class Summary:
    """title: the CT. facts: name and value. rows: one of `COLUMNS` per lesion. pictures: caption and PNG of each."""

    title: str
    facts: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, ...], ...]
    remarks: tuple[str, ...]
    pictures: tuple[tuple[str, bytes], ...]


def summarized(opened: Opened, lesions: Sequence[Lesion], found: Segmentation, record: dict[str, Any]) -> Summary:
    """record: the measurements, of the same lesions."""
    volume = opened.session.volume
    scan, spacing = record["scan"], volume.grid.spacing_mm
    size = " x ".join(map(str, volume.grid.shape))
    facts = (
        ("Date of the scan", scan["date"] or "not known"),
        (
            "Image",
            f"{size} voxels of {spacing[0]:.3g} x {spacing[1]:.3g} x {spacing[2]:.3g} mm (slices, rows, columns)",
        ),
        ("Software", f"{record['software']}, model {record['model']}"),
        ("Written", datetime.now().strftime("%Y-%m-%d %H:%M")),
    )
    remarks = [*opened.warnings, *(f"{one.title}: {line}" for one in lesions for line in one.now.warnings)]
    pictures = tuple(_pictured(one, lesion, opened) for one, lesion in zip(found.lesions, lesions, strict=True))
    return Summary(opened.name, facts, tuple(map(_row, lesions)), tuple(remarks), pictures)


def _row(lesion: Lesion) -> tuple[str, ...]:
    measured, confidence = lesion.now.measurement, lesion.to_json()["confidence"]
    if measured is None:
        raise ValueError("an empty lesion has no row")
    record = measured.to_json()
    return (
        lesion.title,
        lesion.organ,
        f"{measured.volume_ml:.2f}",
        f"{measured.long_axis_mm:.1f} x {measured.short_axis_mm:.1f}",
        f"{measured.slices[0]} to {measured.slices[1]}",
        "" if record["mean_hu"] is None else f"{record['mean_hu']:.0f}",
        "" if confidence is None else f"{confidence:.2f}",
        "yes" if lesion.accepted else "no",
    )


def _pictured(one: Any, lesion: Lesion, opened: Opened) -> tuple[str, bytes]:
    drawn = BytesIO()
    picture(opened.session.volume, [(one.label, one.mask, one.measurement)]).savefig(drawn, format="png")
    return lesion.title, drawn.getvalue()

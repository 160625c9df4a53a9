"""What others take of a segmentation: a report for people and programs, findings for DICOM objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clmsda.geometry import Volume
from clmsda.segmentation.lesion import NoLesion, Segmentation

if TYPE_CHECKING:
    from clmsda.dicom_objects import Finding


def refuse_nothing(found: Segmentation) -> None:
    """Nothing found at any prompt is an answer with a reason, not an empty mask that looks like one: NoLesion."""
    if not any(lesion.measurement for lesion in found.lesions):
        raise NoLesion("; ".join(f"lesion {one.label}: {', '.join(one.warnings)}" for one in found.lesions))


def report(
    found: Segmentation, ct: Path, volume: Volume, *, warnings: Sequence[str] = (), anonymize: bool = False
) -> dict[str, Any]:
    """The measurements as JSON, with the facts of the scan, and each lesion's tracking UID where the CT is a series.

    ct: where `volume` was read from. warnings: what was said of it (`clmsda.errors.heard`); those of `found` follow.
    Anonymous, the report names neither the series (its UID, or a file's name), nor a mask that was started from, nor
    the date, nor what is derived from them; of warnings of the reading, which name files, only that there were some.
    """
    from clmsda.dicom_objects import tracking_uid
    from clmsda.images.scan_facts import read_scan_facts
    from clmsda.images.voxel_files import is_voxel_file

    measured = found.to_json()
    in_series = not (ct.is_file() and is_voxel_file(ct))
    facts = read_scan_facts(ct, volume, series=found.source if in_series else None)
    if anonymize:
        measured["image"] = ""
        for lesion in measured["lesions"]:
            lesion.update({"start": "a mask"} if "start" in lesion else {})
        warnings = [f"the CT was read with {len(warnings)} warnings, which name files"] if warnings else []
        facts = replace(facts, date=None, patient_check=None)
    elif in_series:
        for lesion in measured["lesions"]:
            lesion["tracking_uid"] = tracking_uid(found.source, lesion["label"])
    lesions, said = measured.pop("lesions"), measured.pop("warnings")
    return {**measured, "scan": facts.to_json(), "warnings": [*warnings, *said], "lesions": lesions}


def findings(found: Segmentation, volume: Volume, series_uid: str) -> list[Finding]:
    """The lesions that were found, as `clmsda.dicom_objects` takes them."""
    from clmsda.dicom_objects import by_clmsda, finding

    algorithm = by_clmsda(found.model, prompted=any(one.probability is None for one in found.lesions))
    return [
        finding(
            one.label,
            one.mask,
            volume,
            series_uid=series_uid,
            algorithm=algorithm,
            measurement=one.measurement,
            confidence=one.confidence,
            probability=one.probability,
        )
        for one in found.lesions
        if one.measurement
    ]

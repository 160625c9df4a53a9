"""Measurements out of a DICOM SR (PS3.16, TID 1500): what `clmsda segment --sr` writes, and others like it.

The lesions are the containers "Measurement Group" (TID 1410, 1411 and their kin). Each gives its tracking identifiers,
volume, long and short axis, finding site, and the segment that it was measured on, by code and never by its meaning.
Groups with one tracking UID are one lesion: some viewers write a group for each of its diameters.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.sr.coding import Code

from clmsda.images.region_names import LESION
from clmsda.images.scan_facts import ScanFacts, facts_of
from clmsda.response.timepoints import Lesion, TimePointError

GROUP = Code("125007", "DCM", "Measurement Group")
TRACKING_ID = Code("112039", "DCM", "Tracking Identifier")
TRACKING_UID = Code("112040", "DCM", "Tracking Unique Identifier")
SITE = Code("363698007", "SCT", "Finding Site")
VOLUME = Code("118565006", "SCT", "Volume")
LONG_AXIS = Code("103339001", "SCT", "Long Axis")
SHORT_AXIS = Code("103340004", "SCT", "Short Axis")

# Finding sites that RECIST counts as one organ (paired organs are one); others go by their meaning.
_ORGANS = (
    (Code("39607008", "SCT", "Lung"), "lung"),
    (Code("3341006", "SCT", "Right lung"), "lung"),
    (Code("44029006", "SCT", "Left lung"), "lung"),
    (Code("59441001", "SCT", "Lymph node"), "node"),
)
_UNITS = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "mm3": 1e-3, "cm3": 1.0, "ml": 1.0, "l": 1000.0}


@dataclass
class _Group:
    """What one lesion's measurement groups say."""

    tracking_uid: str = ""
    number: int | None = None
    organ: str | None = None
    numbers: dict[str, float] = field(default_factory=dict)


def read_report(path: Path) -> tuple[ScanFacts, list[Lesion], str]:
    """The facts of the scan, its measured lesions, and the UID of the series. Raises TimePointError.

    A lesion's label is the number in its tracking identifier ("lesion 2"), else that of its segment, else its place
    in the report. Slice thickness is not in an SR.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom names every value that is longer than the standard allows
        try:
            report = dcmread(path, force=True)
        except Exception as error:  # damaged bytes raise almost anything
            raise TimePointError(f"{path} is truncated or damaged: {error}; fetch it again") from error
    if report.get("Modality") != "SR" or "ContentSequence" not in report:
        found = report.get("Modality") or "another kind of object"
        raise TimePointError(f"{path} is DICOM, but no structured report (found {found}): give a SR or a JSON")
    merged: dict[str, _Group] = {}
    for index, container in enumerate(_groups(report)):
        group = _read_group(container, path)
        known = merged.setdefault(group.tracking_uid or f"group {index}", group)
        known.numbers = group.numbers | known.numbers
    lesions = _lesions([group for group in merged.values() if group.numbers])
    if not lesions:
        raise TimePointError(
            f"{path} holds no measurement group (TID 1500) with a volume, a long or a short axis: "
            "give a SR of measured lesions"
        )
    return facts_of(report, None), lesions, _series(report)


def _lesions(groups: list[_Group]) -> list[Lesion]:
    """Labels by identifier or segment where every lesion has one of its own, else by place."""
    numbers = [group.number for group in groups]
    named = None not in numbers and len(set(numbers)) == len(numbers)
    return [
        Lesion(
            label=group.number if named and group.number is not None else place,
            volume_ml=group.numbers.get("volume_ml"),
            long_axis_mm=group.numbers.get("long_axis_mm"),
            short_axis_mm=group.numbers.get("short_axis_mm"),
            tracking_uid=group.tracking_uid or None,
            organ=group.organ,
        )
        for place, group in enumerate(groups, 1)
    ]


def _groups(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence") or ():
        if _concept(child) == GROUP:
            yield child
        else:
            yield from _groups(child)


def _items(item: Dataset) -> Iterator[Dataset]:
    """All content items below one, depth first."""
    for child in item.get("ContentSequence") or ():
        yield child
        yield from _items(child)


def _read_group(container: Dataset, path: Path) -> _Group:
    group = _Group()
    text = ""
    for item in _items(container):
        concept = _concept(item)
        if concept == TRACKING_UID:
            group.tracking_uid = str(item.get("UID") or "")
        elif concept == TRACKING_ID:
            text = str(item.get("TextValue") or "")
        elif concept == SITE and "ConceptCodeSequence" in item:
            site = _code(item.ConceptCodeSequence[0])
            group.organ = next((organ for code, organ in _ORGANS if code == site), site.meaning.strip().lower()) or None
        elif item.get("ValueType") == "NUM":
            for name, wanted in (("volume_ml", VOLUME), ("long_axis_mm", LONG_AXIS), ("short_axis_mm", SHORT_AXIS)):
                if concept == wanted and "MeasuredValueSequence" in item:
                    group.numbers.setdefault(name, _value(item, f"{path}, {text or 'a measurement group'}"))
        elif item.get("ValueType") == "IMAGE" and group.number is None:
            group.number = _segment(item)
    named = LESION.search(text)
    if named:
        group.number = int(named[1])
    return group


def _value(item: Dataset, where: str) -> float:
    """A measured value in mm or ml. Raises TimePointError for a unit that is no length and no volume."""
    measured = item.MeasuredValueSequence[0]
    unit = _code(measured.MeasurementUnitsCodeSequence[0]).value
    factor = _UNITS.get(unit.lower())
    if factor is None:
        raise TimePointError(f"{where}: expected a value in {', '.join(_UNITS)}, found the unit {unit!r}")
    number = float(measured.get("FloatingPointValue") or measured.NumericValue)
    if not 0 <= number < float("inf"):
        raise TimePointError(f"{where}: expected a length or a volume, found {number:g}: measure again")
    return number * factor


def _segment(item: Dataset) -> int | None:
    """The number of the one segment that an IMAGE item refers to."""
    for reference in item.get("ReferencedSOPSequence") or ():
        numbers = reference.get("ReferencedSegmentNumber")
        if numbers is not None:
            values = [numbers] if isinstance(numbers, int) else list(numbers)
            return int(values[0]) if len(values) == 1 else None
    return None


def _concept(item: Dataset) -> Code | None:
    names = item.get("ConceptNameCodeSequence")
    return _code(names[0]) if names else None


def _code(item: Dataset) -> Code:
    """A code; SNOMED's old and new codes of one concept are equal."""
    return Code(
        str(item.get("CodeValue") or ""),
        str(item.get("CodingSchemeDesignator") or ""),
        str(item.get("CodeMeaning") or ""),
    )


def _series(report: Dataset) -> str:
    """The one CT series that the report's evidence lists, or nothing."""
    found = {
        str(series.SeriesInstanceUID)
        for study in report.get("CurrentRequestedProcedureEvidenceSequence") or ()
        for series in study.get("ReferencedSeriesSequence") or ()
        for instance in series.get("ReferencedSOPSequence") or ()
        if "CT Image" in instance.ReferencedSOPClassUID.name
    }
    return found.pop() if len(found) == 1 else ""

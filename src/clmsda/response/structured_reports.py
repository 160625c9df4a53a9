"""Measurements out of a DICOM SR (PS3.16, TID 1500): what `clmsda segment --sr` writes, and others like it.

The lesions are the containers "Measurement Group" (TID 1410, 1411 and their kin). Each gives its tracking identifiers,
volume, long and short axis, finding site, and the segment that it was measured on, by code and never by its meaning.
Groups with one tracking UID are one lesion: some viewers write a group for each of its diameters.

A measurement that cannot be taken as it stands (no unit, no number, two values) is left out and named. A lesion without
one of its axes for that reason counts as not measured: it is there, so it is neither gone nor new elsewhere.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.sr.coding import Code
from pydicom.uid import UID

from clmsda.images.dicom_bytes import dicom_bytes
from clmsda.images.errors import TooLarge, UnreadableFile
from clmsda.images.region_names import LESION
from clmsda.images.scan_facts import ScanFacts, facts_of
from clmsda.response.measured_values import QUANTITIES, Unusable, code_of, is_same, quantity_of, value_of, words_of
from clmsda.response.timepoints import MOST_LABEL, Lesion, TimePointError

GROUP = Code("125007", "DCM", "Measurement Group")
TRACKING_ID = Code("112039", "DCM", "Tracking Identifier")
TRACKING_UID = Code("112040", "DCM", "Tracking Unique Identifier")
SITE = Code("363698007", "SCT", "Finding Site")
TIME_POINT = Code("C2348792", "UMLS", "Time Point")
"""TID 1502; what it says is for the report's author to choose."""

# Finding sites that RECIST counts as one organ (paired organs are one); others go by their meaning.
_ORGANS = (
    (Code("39607008", "SCT", "Lung"), "lung"),
    (Code("3341006", "SCT", "Right lung"), "lung"),
    (Code("44029006", "SCT", "Left lung"), "lung"),
    (Code("59441001", "SCT", "Lymph node"), "node"),
)
_CODES = tuple(quantity.code for quantity in QUANTITIES)


@dataclass(frozen=True)
class Contents:
    """What a report tells. image: the UID of the CT series, else of the report. notes: what was left out, and why."""

    facts: ScanFacts
    lesions: list[Lesion]
    image: str
    notes: tuple[str, ...]


@dataclass
class _Group:
    """What one lesion's measurement groups say. values: all of a quantity, by its name. faults: in words."""

    tracking_uid: str = ""
    text: str = ""
    number: int | None = None
    organ: str | None = None
    time_point: str = ""
    values: dict[str, list[float]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def add(self, other: _Group) -> None:
        """Take what another group of the same lesion says."""
        self.number = other.number if self.number is None else self.number
        self.organ = self.organ or other.organ
        self.faults += other.faults
        for name, values in other.values.items():
            self.values.setdefault(name, []).extend(values)


def read_report(path: Path) -> Contents:
    """What a SR measures. Raises TimePointError.

    A lesion's label is the number in its tracking identifier ("lesion 2"), else that of its segment, else its place
    in the report. Slice thickness is not in an SR.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom names every value that is longer than the standard allows
        try:
            with dicom_bytes(path, str(path)) as file:
                return _read(file, path)
        except (UnreadableFile, TooLarge) as error:
            raise TimePointError(str(error)) from error


def _read(file: BufferedReader, path: Path) -> Contents:
    report = dcmread(file, force=True, stop_before_pixels=True)
    if report.get("Modality") != "SR" or "ContentSequence" not in report:
        found = words_of(report.get("Modality") or "another kind of object")
        raise TimePointError(f"{path} is DICOM, but no structured report (found {found}): give a SR or a JSON")
    containers, strays = _parted(report)
    groups = _merged([_read_group(container) for container in containers])
    if not groups:
        raise TimePointError(
            f"{path} holds no measurement group (TID 1500) with a volume, a long or a short axis: "
            "give a SR of measured lesions"
        )
    if len({group.time_point for group in groups if group.time_point}) > 1:
        raise TimePointError(f"{path} measures several time points (TID 1502): give a report of each scan alone")
    labels, notes = _labels(groups)
    if strays:
        notes.append(f"{strays} lengths or volumes were left out, as they lie in no measurement group (TID 1500)")
    lesions = [_lesion(group, label, notes) for group, label in zip(groups, labels, strict=True)]
    if all(lesion.is_empty for lesion in lesions) and any(group.faults for group in groups):
        why = [
            f"lesion {label}: {fault}" for group, label in zip(groups, labels, strict=True) for fault in group.faults
        ]
        raise TimePointError(f"{path} holds no lesion that can be used: {'; '.join(why[:3])}; correct it")
    image = _series(report) or str(report.get("SOPInstanceUID") or "")
    return Contents(facts_of(report, None), lesions, image, tuple(notes))


def _merged(groups: list[_Group]) -> list[_Group]:
    """One group for each lesion that has something to measure: those of one tracking UID, or identifier without UID."""
    merged: dict[str, _Group] = {}
    for index, group in enumerate(groups):
        known = merged.setdefault(group.tracking_uid or group.text or f"group {index}", group)
        if known is not group:
            known.add(group)
    found = [group for group in merged.values() if group.values or group.faults]
    for group in found:
        for quantity in QUANTITIES:
            first, *others = group.values.get(quantity.name) or [0.0]
            if not all(is_same(first, other) for other in others):
                values = " and ".join(f"{value:g}" for value in [first, *others])
                group.faults.append(
                    f"left out the {quantity.words}: measured twice, as {values} {quantity.unit} (two scans?)"
                )
                del group.values[quantity.name]
    return found


def _labels(groups: list[_Group]) -> tuple[list[int], list[str]]:
    """Labels by identifier or segment where every lesion has one of its own, else by place; and what is to be noted."""
    numbers = [group.number for group in groups if group.number is not None]
    if len(set(numbers)) == len(groups):
        return numbers, []
    alone = len(groups) == 1 or all(group.tracking_uid for group in groups)
    doubt = "lesions are numbered by their place, as their identifiers hold no numbers: check which is which"
    return list(range(1, len(groups) + 1)), [] if alone else [doubt]


def _lesion(group: _Group, label: int, notes: list[str]) -> Lesion:
    """The lesion, without values where an axis was left out: RECIST is not judged by half of them."""
    values = {name: values[0] for name, values in group.values.items()}
    notes += [f"lesion {label}: {fault}" for fault in group.faults]
    if values and group.faults and not (values.get("long_axis_mm") and values.get("short_axis_mm")):
        notes.append(f"lesion {label} counts as not measured, as an axis is missing")
        values = {}
    return Lesion(
        label,
        values.get("volume_ml"),
        values.get("long_axis_mm"),
        values.get("short_axis_mm"),
        tracking_uid=group.tracking_uid or None,
        organ=group.organ or None,
    )


def _parted(report: Dataset) -> tuple[list[Dataset], int]:
    """The measurement groups, and how many measurements of ours lie in none."""
    groups: list[Dataset] = []
    strays, items = 0, list(report.ContentSequence)
    while items:
        item = items.pop(0)
        if code_of(item, "ConceptNameCodeSequence") == GROUP:
            groups.append(item)
        else:
            strays += _is_measurement(item) and code_of(item, "ConceptNameCodeSequence") in _CODES
            items[:0] = item.get("ContentSequence") or ()
    return groups, strays


def _items(item: Dataset) -> Iterator[Dataset]:
    """All content items below one, depth first."""
    for child in item.get("ContentSequence") or ():
        yield child
        yield from _items(child)


def _read_group(container: Dataset) -> _Group:
    group = _Group()
    for item in _items(container):
        concept = code_of(item, "ConceptNameCodeSequence")
        if concept == TRACKING_UID:
            group.tracking_uid = str(item.get("UID") or "").strip()
        elif concept == TRACKING_ID:
            group.text = str(item.get("TextValue") or "").strip()
        elif concept == TIME_POINT:
            group.time_point = words_of(item.get("TextValue") or "")
        elif concept == SITE and item.get("ConceptCodeSequence"):
            site = code_of(item, "ConceptCodeSequence")
            group.organ = next((organ for code, organ in _ORGANS if code == site), words_of(site.meaning).lower())
        elif _is_measurement(item):
            _add_number(group, item)
        elif item.get("ValueType") == "IMAGE" and group.number is None:
            group.number = _segment(item)
    named = LESION.search(group.text)
    if named and int(named[1][:12]) <= MOST_LABEL:
        group.number = int(named[1])
    return group


def _is_measurement(item: Dataset) -> bool:
    """Whether an item is a number, or text or a code in place of one of ours."""
    if item.get("ValueType") == "NUM" or "MeasuredValueSequence" in item:
        return True
    return item.get("ValueType") in ("TEXT", "CODE", "", None) and code_of(item, "ConceptNameCodeSequence") in _CODES


def _add_number(group: _Group, item: Dataset) -> None:
    try:
        quantity = quantity_of(item)
        if quantity is not None:
            value = value_of(item, quantity)
            group.values.setdefault(quantity.name, []).append(value)
    except Unusable as error:
        group.faults.append(f"left out the {error}")


def _segment(item: Dataset) -> int | None:
    """The number of the one segment that an IMAGE item refers to."""
    for reference in item.get("ReferencedSOPSequence") or ():
        numbers = reference.get("ReferencedSegmentNumber")
        if numbers is not None:
            values = [numbers] if isinstance(numbers, int) else list(numbers)
            return int(values[0]) if len(values) == 1 else None
    return None


def _series(report: Dataset) -> str:
    """The one CT series that the report's evidence lists, or nothing."""
    found = {
        str(series.get("SeriesInstanceUID") or "")
        for study in report.get("CurrentRequestedProcedureEvidenceSequence") or ()
        for series in study.get("ReferencedSeriesSequence") or ()
        for instance in series.get("ReferencedSOPSequence") or ()
        if "CT Image" in UID(str(instance.get("ReferencedSOPClassUID") or "")).name
    }
    return found.pop() if len(found) == 1 else ""

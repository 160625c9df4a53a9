"""Structured reports as other software writes them, item by item: right ones, and any malformed one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian

LONG, SHORT = ("103339001", "SCT", "Long Axis"), ("103340004", "SCT", "Short Axis")
LENGTH = ("410668003", "SCT", "Length")
VOLUME = ("118565006", "SCT", "Volume")
GROUP = ("125007", "DCM", "Measurement Group")

Code = tuple[str, str, str]
"""Value, scheme and meaning."""
ItemEdit = Callable[[Dataset], object]


def coded(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code
    return item


def content(kind: str, concept: Code | None, children: Sequence[Dataset] = (), **more: object) -> Dataset:
    """A content item. concept: None leaves its name out."""
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", kind
    if concept is not None:
        item.ConceptNameCodeSequence = [coded(concept)]
    for name, value in more.items():
        setattr(item, name, value)
    if children:
        item.ContentSequence = list(children)
    return item


def number(concept: Code, value: object, unit: str = "mm", edit: ItemEdit | None = None) -> Dataset:
    """A measurement. edit: gets the whole content item."""
    measured = Dataset()
    measured.NumericValue = value
    measured.MeasurementUnitsCodeSequence = [coded((unit, "UCUM", unit))]
    item = content("NUM", concept, MeasuredValueSequence=[measured])
    if edit is not None:
        edit(item)
    return item


def raw(text: bytes) -> ItemEdit:
    """An edit that puts bytes in place of the number, such as pydicom would not write."""
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    def put(item: Dataset) -> None:
        padded = text + b" " * (len(text) % 2)
        element = RawDataElement(Tag(0x0040A30A), "DS", len(padded), padded, 0, False, True)
        item.MeasuredValueSequence[0]._dict[element.tag] = element

    return put


def group(*numbers: Dataset, uid: str = "", text: str = "Lesion 1", concept: Code = GROUP) -> Dataset:
    """A measurement group."""
    items = [content("TEXT", ("112039", "DCM", "Tracking Identifier"), TextValue=text)] if text else []
    items += [content("UIDREF", ("112040", "DCM", "Tracking Unique Identifier"), UID=uid)] if uid else []
    return content("CONTAINER", concept, [*items, *numbers])


def in_space(ends_mm: Sequence[Sequence[float]], frame_uid: str) -> Dataset:
    """A length inferred from a line between two positions, LPS mm."""
    line = content("SCOORD3D", None, GraphicType="POLYLINE", GraphicData=[float(x) for end in ends_mm for x in end],
                   ReferencedFrameOfReferenceUID=frame_uid)  # fmt: skip
    measured = number(LENGTH, "10")
    measured.ContentSequence = [line]
    return measured


def axes(long_mm: object, short_mm: object) -> tuple[Dataset, Dataset]:
    return number(LONG, long_mm), number(SHORT, short_mm)


def report(path: Path, *groups: Dataset, when: str = "20240110") -> Path:
    """A report of these groups, or of whatever content items are given in their place."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = ComprehensiveSRStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = f"1.2.826.0.1.{when}"
    dataset.StudyDate, dataset.Modality, dataset.PatientID, dataset.PatientName = when, "SR", "P1", "Secret^Sally"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"1.2.826.0.2.{when}", f"1.2.826.0.3.{when}"
    measurements = content("CONTAINER", ("126010", "DCM", "Imaging Measurements"), groups)
    dataset.ValueType, dataset.ContentSequence = "CONTAINER", [measurements]
    dataset.save_as(path, enforce_file_format=True)
    return path

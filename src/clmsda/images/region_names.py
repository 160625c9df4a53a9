"""What the regions of an RT structure set and the segments of a DICOM segmentation are called, and choosing one.

A region has a number of its own in its file (ROI Number, Segment Number) and a label, by which a lesion goes in tables,
in JSON and in other files. Segment numbers must run from 1 (PS3.3 C.8.20.2), so that a lesion 3 may have to be segment
2: its label then is what its description or its tracking ID says ("lesion 3"), as in a structured report.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import Dataset

from clmsda.images.dicom_files import DicomFile
from clmsda.images.errors import RoiNotFound, UnreadableFile

LESION = re.compile(r"(?:lesion|segment)\D{0,3}(\d+)", re.IGNORECASE | re.ASCII)
"""The number of a lesion in a tracking ID."""
LABELS = range(1, 1 << 16)
"""What a mask's voxels can hold."""


@dataclass(frozen=True)
class Region:
    """One region. number: in its file. tracking: ID and UID, where the file tells them.

    item: its item of the Structure Set ROI or the Segment Sequence. drawings: its items of the ROI Contour Sequence;
    none for a segment.
    """

    number: int
    label: int
    name: str
    tracking: tuple[str, str] | None
    item: Dataset
    drawings: tuple[Dataset, ...] = ()

    @property
    def is_drawn(self) -> bool:
        """Whether there may be a voxel in it: a ROI without a contour is but a name."""
        return "SegmentNumber" in self.item or any(one.get("ContourSequence") for one in self.drawings)


def regions_of(file: DicomFile) -> list[Region]:
    """All regions, in the file's order (the background of a label map is one, too). Raises UnreadableFile."""
    if "StructureSetROISequence" in file.header or "SegmentSequence" not in file.header:
        return _rois(file)
    segments = list(file.header.SegmentSequence)
    numbers = [_number(segment, "SegmentNumber", file) for segment in segments]
    if len(set(numbers)) < len(numbers):
        raise UnreadableFile(f"{file.name} is damaged: segments share a number ({_listed(numbers)}); export it again")
    labels = _labels(segments, numbers)
    return [
        Region(number, label, _text(segment, "SegmentLabel"), _tracking(segment), segment)
        for number, label, segment in zip(numbers, labels, segments, strict=True)
    ]


def choose(regions: Sequence[Region], roi: str | None, where: str) -> Region:
    """The region that `roi` names: exactly, else in any case, else by its number in the file.

    A name wins over a number. Of several regions of one name the only one that is drawn is taken. Without `roi` there
    must be only one region. Raises RoiNotFound, listing names and numbers.
    """
    listed = ", ".join(repr(one.name) for one in regions) or "none"
    if regions:
        listed += f" (or by number: {_listed([one.number for one in regions])})"
    if roi is None:
        if len(regions) != 1:
            raise RoiNotFound(f"{where} holds {len(regions)} regions: choose one by name: {listed}")
        return regions[0]
    text = roi.strip()
    for found in (
        [one for one in regions if one.name == roi],
        [one for one in regions if one.name.casefold() == text.casefold()],
        [one for one in regions if text.isdecimal() and one.number == int(text)],
    ):
        drawn = [one for one in found if one.is_drawn] if len(found) > 1 else found
        if len(drawn) == 1:
            return drawn[0]
        if found:
            numbers = _listed([one.number for one in found])
            raise RoiNotFound(f"{where} holds {len(found)} regions named {roi!r}: choose one by its number: {numbers}")
    raise RoiNotFound(f"{where} holds no region {roi!r}; found {listed}")


def lesion_numbers(texts: Sequence[str], *, alone: bool = False) -> list[int] | None:
    """The numbers of the lesions in what they are called ("lesion 3"), if each has one of its own.

    alone: nothing else may stand in a text.
    """
    found = [LESION.fullmatch(text) if alone else LESION.search(text) for text in texts]
    numbers = [int(one[1]) for one in found if one]
    return numbers if len(numbers) == len(texts) == len(set(numbers)) else None


def _rois(file: DicomFile) -> list[Region]:
    rois = list(file.header.get("StructureSetROISequence") or [])
    numbers = [_number(roi, "ROINumber", file) for roi in rois]
    if len(set(numbers)) < len(numbers):
        raise UnreadableFile(f"{file.name} is damaged: ROIs share a number ({_listed(numbers)}); export it again")
    usable = all(number in LABELS for number in numbers)
    drawings: dict[int, list[Dataset]] = {}
    for drawing in file.header.get("ROIContourSequence") or []:
        drawings.setdefault(_number(drawing, "ReferencedROINumber", file), []).append(drawing)
    return [
        Region(
            number,
            number if usable else position,
            _text(roi, "ROIName"),
            _tracking(roi),
            roi,
            tuple(drawings.get(number, ())),
        )
        for position, (number, roi) in enumerate(zip(numbers, rois, strict=True), 1)
    ]


def _labels(segments: Sequence[Dataset], numbers: Sequence[int]) -> list[int]:
    """The lesions' numbers where all segments tell them (but for a background, 0), else the segments'."""
    named = [n for n, number in enumerate(numbers) if number]
    for keyword, alone in (("SegmentDescription", True), ("TrackingID", False)):
        found = lesion_numbers([_text(segments[n], keyword) for n in named], alone=alone)
        if found and all(label in LABELS for label in found):
            labels = [0] * len(numbers)
            for n, label in zip(named, found, strict=True):
                labels[n] = label
            return labels
    return list(numbers)


def _number(item: Dataset, keyword: str, file: DicomFile) -> int:
    value = item.get(keyword)
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise UnreadableFile(f"{file.name} is damaged: a region has no {keyword}; export it again") from error


def _tracking(item: Dataset) -> tuple[str, str] | None:
    identifier, uid = _text(item, "TrackingID"), _text(item, "TrackingUID")
    return (identifier, uid) if identifier and uid else None


def _text(item: Dataset, keyword: str) -> str:
    return str(item.get(keyword) or "").strip()


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))

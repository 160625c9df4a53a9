"""What a DICOM mask says of itself: the series that it was drawn on, who drew it, and the names of its lesions.

When a SEG or an RTSTRUCT is turned into another object, all of this must survive: what software drew does not become
drawn by hand, and a lesion that is tracked through time keeps its tracking UID.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from clmsda.dicom_objects.errors import OtherSeries
from clmsda.dicom_objects.findings import BY_HAND, Algorithm, Finding, Kind
from clmsda.dicom_objects.writing import ascii_text
from clmsda.images.voxel_files import is_voxel_file

if TYPE_CHECKING:
    from pydicom import Dataset

    from clmsda.images.dicom_files import DicomFile

UNKNOWN = "unknown"
"""The name of software that a mask does not name; a SEG must have one."""


@dataclass(frozen=True)
class _Origin:
    """What a mask says of one region; tracking: id and UID, where it has them."""

    name: str
    algorithm: Algorithm
    tracking: tuple[str, str] | None = None


def check_series(mask: Path, series_uid: str) -> None:
    """Raise OtherSeries for an RTSTRUCT or SEG that says it was drawn on other series than this one."""
    file = _mask_file(mask)
    if file is None:
        return
    referred = _referred(file)
    if referred and series_uid not in referred:
        raise OtherSeries(
            f"{file.name} was drawn on another series, {', '.join(sorted(referred))}, than the one given, "
            f"{series_uid}: give that one"
        )


def carry_over(findings: Sequence[Finding], mask: Path, roi: str | None) -> tuple[Finding, ...]:
    """The findings with the names, algorithms and tracking UIDs of the RTSTRUCT or SEG that they were read from.

    roi: the region that was read, as in `read_mask`. Findings of a voxel file stay as they are.
    """
    file = _mask_file(mask)
    if file is None:
        return tuple(findings)
    origins = _origins(file, roi)
    carried = []
    for one in findings:
        origin = origins.get(one.label)
        if origin is not None:
            one = replace(one, name=origin.name or one.name, algorithm=origin.algorithm)
            if origin.tracking is not None:
                one = replace(one, tracking_id=origin.tracking[0], tracking_uid=origin.tracking[1])
        carried.append(one)
    return tuple(carried)


def _mask_file(path: Path) -> DicomFile | None:
    """The one RTSTRUCT or SEG that a file is or a folder holds (`read_mask` has seen to that); None for others."""
    from clmsda.images.dicom_files import load, load_all
    from clmsda.images.masks import RTSTRUCT_CLASS, SEG_CLASSES

    if path.is_file() and is_voxel_file(path):
        return None
    files = [load(path)] if path.is_file() else load_all(path, path)
    return next((file for file in files if file.sop_class in (RTSTRUCT_CLASS, *SEG_CLASSES)), None)


def _referred(file: DicomFile) -> set[str]:
    """The series that a mask says it was drawn on."""
    from clmsda.images.rtstruct import referenced_series

    series = [*(file.header.get("ReferencedSeriesSequence") or []), *referenced_series(file.header)]
    return {str(one.SeriesInstanceUID) for one in series if one.get("SeriesInstanceUID")}


def _origins(file: DicomFile, roi: str | None) -> dict[int, _Origin]:
    """By label as `read_mask` gives them: 1 for a region that was chosen, else the segments' numbers."""
    from clmsda.images.dicom_seg import segment_names
    from clmsda.images.rtstruct import choose_name, roi_names

    if "StructureSetROISequence" in file.header:
        chosen = file.header.StructureSetROISequence[choose_name(roi_names(file), roi, file.name)]
        kind = _kind(chosen.get("ROIGenerationAlgorithm"))
        by_whom = _name(chosen.get("ROIGenerationDescription")) or UNKNOWN
        return {1: _Origin(_name(chosen.get("ROIName")), BY_HAND if kind == "MANUAL" else Algorithm(kind, by_whom))}
    segments: Iterable[Dataset] = file.header.SegmentSequence
    if roi is not None:
        return {1: _origin(file.header.SegmentSequence[choose_name(segment_names(file), roi, file.name)])}
    return {int(segment.SegmentNumber): _origin(segment) for segment in segments}


def _origin(segment: Dataset) -> _Origin:
    kind = _kind(segment.get("SegmentAlgorithmType"))
    details = (segment.get("SegmentationAlgorithmIdentificationSequence") or [{}])[0]
    parameters = str(details.get("AlgorithmParameters") or "")
    algorithm = Algorithm(
        kind,
        name=_name(segment.get("SegmentAlgorithmName")) or UNKNOWN,
        version=_name(details.get("AlgorithmVersion")),
        model=_name(parameters.removeprefix("model=")),
    )
    uid = str(segment.get("TrackingUID") or "")
    return _Origin(
        _name(segment.get("SegmentLabel")),
        BY_HAND if kind == "MANUAL" else algorithm,
        (str(segment.TrackingID), uid) if uid and segment.get("TrackingID") else None,
    )


def _kind(said: object) -> Kind:
    """As the mask says; what says nothing is taken to be drawn by hand."""
    return cast(Kind, said) if said in get_args(Kind) else "MANUAL"


def _name(value: object) -> str:
    return ascii_text(str(value or "").strip())

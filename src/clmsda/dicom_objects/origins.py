"""What a DICOM mask says of itself: the series that it was drawn on, who drew it, and the names of its lesions.

When a SEG or an RTSTRUCT is turned into another object, all of this must survive: what software drew does not become
drawn by hand, and a lesion that is tracked through time keeps its tracking UID.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from clmsda.dicom_objects.errors import OtherSeries
from clmsda.dicom_objects.findings import BY_HAND, Algorithm, Finding, Kind, lesion_name, tracking_id, tracking_uid
from clmsda.dicom_objects.writing import short_text
from clmsda.images.voxel_files import is_voxel_file

if TYPE_CHECKING:
    from pydicom import Dataset

    from clmsda.images.region_names import Region

UNKNOWN = "unknown"
"""The name of software that a mask does not name; a SEG must have one."""


def check_series(mask: Path, series_uid: str, roi: str | None = None) -> None:
    """Raise OtherSeries for an RTSTRUCT or SEG that says it was drawn on other series than this one.

    Objects refer to the slices that they were drawn on: on others, even where the voxels fit, they would say what is
    not so.
    """
    from clmsda.images.drawn_on import referred_series
    from clmsda.images.masks import dicom_mask

    file = dicom_mask(mask)
    referred = set() if file is None else referred_series(file, roi)
    if file is not None and referred and series_uid not in referred:
        raise OtherSeries(
            f"{file.name} was drawn on another series, {', '.join(sorted(referred))}, than the one given, "
            f"{series_uid}: give that one"
        )


def carry_over(
    findings: Sequence[Finding], mask: Path, roi: str | None, *, series_uid: str = ""
) -> tuple[Finding, ...]:
    """The findings with the names, numbers, algorithms and tracking UIDs of the RTSTRUCT or SEG they were read from.

    roi: the region that was read, as in `read_mask`. series_uid: of the image, from which a tracking UID is derived
    where the mask has none. Findings of a voxel file stay as they are, but for the label that was chosen.
    """
    from clmsda.images.damage import damage_named
    from clmsda.images.masks import described

    if is_voxel_file(mask) and mask.is_file():
        return tuple(_relabeled(one, int(roi), series_uid) for one in findings) if roi is not None else tuple(findings)
    regions = described(mask, roi)
    with damage_named(mask.name):
        return tuple(_carried(one, regions.get(one.label), series_uid) for one in findings)


def _carried(one: Finding, region: Region | None, series_uid: str) -> Finding:
    if region is None:
        return one
    one = _relabeled(one, region.label, series_uid)
    name = short_text(region.name) or one.name
    algorithm = _of_segment(region.item) if "SegmentNumber" in region.item else _of_roi(region.item)
    one = replace(one, name=name, algorithm=algorithm)
    return (
        one
        if region.tracking is None
        else replace(one, tracking_id=region.tracking[0], tracking_uid=region.tracking[1])
    )


def _relabeled(one: Finding, label: int, series_uid: str) -> Finding:
    """The same finding under another label, and the name and tracking UID that go with it."""
    if label == one.label:
        return one
    return replace(
        one,
        label=label,
        name=lesion_name(label),
        tracking_id=tracking_id(series_uid, label),
        tracking_uid=tracking_uid(series_uid, label),
    )


def _of_roi(roi: Dataset) -> Algorithm:
    kind = _kind(roi.get("ROIGenerationAlgorithm"))
    by_whom = _name(roi.get("ROIGenerationDescription")) or UNKNOWN
    return BY_HAND if kind == "MANUAL" else Algorithm(kind, by_whom)


def _of_segment(segment: Dataset) -> Algorithm:
    kind = _kind(segment.get("SegmentAlgorithmType"))
    if kind == "MANUAL":
        return BY_HAND
    details = (segment.get("SegmentationAlgorithmIdentificationSequence") or [{}])[0]
    parameters = str(details.get("AlgorithmParameters") or "")
    return Algorithm(
        kind,
        name=_name(segment.get("SegmentAlgorithmName")) or UNKNOWN,
        version=_name(details.get("AlgorithmVersion")),
        model=_name(parameters.removeprefix("model=")),
    )


def _kind(said: object) -> Kind:
    """As the mask says; what says nothing is taken to be drawn by hand."""
    return cast(Kind, said) if said in get_args(Kind) else "MANUAL"


def _name(value: object) -> str:
    return short_text(str(value or "").strip())

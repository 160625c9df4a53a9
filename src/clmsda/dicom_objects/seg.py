"""DICOM Segmentation objects (PS3.3 A.51; A.91 for label maps), by highdicom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clmsda.dicom_objects.findings import Algorithm, Finding, check_findings
from clmsda.dicom_objects.source import Source, file_into
from clmsda.dicom_objects.writing import color_of, declare_characters, new_identity, short_text
from clmsda.images.errors import NotLabels
from clmsda.version import SOFTWARE, software_version

if TYPE_CHECKING:
    from highdicom.seg import SegmentDescription
    from pydicom import Dataset


def build_seg(source: Source, findings: Sequence[Finding], *, labelmap: bool = False) -> Dataset:
    """A segmentation with one segment per finding, numbered 1, 2, ... in their order, as the standard wants it.

    A finding of another label than its segment's number has it in its tracking ID, or else in the segment's
    description ("lesion 3").

    BINARY, which every archive takes; with `labelmap` a label map (another SOP class), RLE compressed.
    Raises NothingToWrite, GridMismatch for masks on another grid, NotLabels for findings that overlap.
    """
    import highdicom
    from pydicom.uid import ExplicitVRLittleEndian, RLELossless

    check_findings(findings)
    order = slice(None) if source.frames is None else np.argsort(source.frames)
    seg: Dataset = highdicom.seg.Segmentation(
        source_images=list(source.images),
        pixel_array=_labels(source, findings)[order],
        segmentation_type="LABELMAP" if labelmap else "BINARY",
        segment_descriptions=_segments(findings),
        manufacturer=SOFTWARE,
        manufacturer_model_name=SOFTWARE,
        software_versions=software_version(),
        device_serial_number=f"{SOFTWARE}-{software_version()}",  # software has none, but the standard wants one
        content_label="LESIONS",
        content_description="Lesions, for research use only",
        transfer_syntax_uid=RLELossless if labelmap else ExplicitVRLittleEndian,
        **new_identity("SEG"),
    )
    file_into(seg, source)
    declare_characters(seg, (text for one in findings for text in one.texts))
    return seg


def _labels(source: Source, findings: Sequence[Finding]) -> NDArray[np.uint16]:
    """Segment numbers in the order of the source's slices."""
    labels = np.zeros(source.grid.shape, np.uint8 if len(findings) < 256 else np.uint16)
    for number, one in enumerate(findings, 1):
        inside = source.voxels(one.mask)
        if labels[inside].any():
            raise NotLabels(f"lesion {one.label} overlaps another: a voxel can belong to one segment only")
        labels[inside] = number
    return labels


def _segments(findings: Sequence[Finding]) -> list[SegmentDescription]:
    """The segments' descriptions; with the labels where neither numbers nor tracking IDs tell them."""
    from clmsda.images.region_names import lesion_numbers

    segments = [_segment(number, one) for number, one in enumerate(findings, 1)]
    labels = [one.label for one in findings]
    if labels not in (list(range(1, len(labels) + 1)), lesion_numbers([one.tracking_id for one in findings])):
        for segment, one in zip(segments, findings, strict=True):
            segment.SegmentDescription = f"lesion {one.label}"
    return segments


def _segment(number: int, finding: Finding) -> SegmentDescription:
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription

    from clmsda.dicom_objects.codes import ABNORMAL, NEOPLASM, SIDES, SITES, item_of

    segment = SegmentDescription(
        segment_number=number,
        segment_label=finding.name,
        segmented_property_category=ABNORMAL,
        segmented_property_type=NEOPLASM,
        algorithm_type="MANUAL",
        tracking_id=finding.tracking_id,
        tracking_uid=finding.tracking_uid,
        anatomic_regions=[SITES[finding.organ]] if finding.organ in SITES else None,
        display_color=CIELabColor.from_rgb(*color_of(number)),
    )
    _identify(segment, finding.algorithm)
    if finding.side is not None and finding.organ == "lung":
        segment.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [item_of(SIDES[finding.side])]
    return segment


def _identify(segment: SegmentDescription, algorithm: Algorithm) -> None:
    """Say how the outline came about. To what family other software belongs is not ours to say."""
    from highdicom import AlgorithmIdentificationSequence

    from clmsda.dicom_objects.codes import ARTIFICIAL_INTELLIGENCE

    segment.SegmentAlgorithmType = algorithm.kind
    if algorithm.name:
        segment.SegmentAlgorithmName = short_text(algorithm.name)
    if algorithm.name == SOFTWARE:
        segment.SegmentationAlgorithmIdentificationSequence = AlgorithmIdentificationSequence(
            name=algorithm.name,
            family=ARTIFICIAL_INTELLIGENCE,
            version=algorithm.version,
            parameters={"model": short_text(algorithm.model)} if algorithm.model else None,
        )

"""RT Structure Sets (PS3.3 A.19): one ROI per finding, as contours on the source's slices.

Own code, as libraries for this crashed on real files, wrote over-long numbers or transposed the image. Encoded with
implicit VR, because explicit VR has no room for the coordinates of a long contour.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from clmsda.dicom_objects.findings import Finding, check_findings, tracking_uid
from clmsda.dicom_objects.outlines import outlines
from clmsda.dicom_objects.source import Source, file_into, reference
from clmsda.dicom_objects.writing import color_of, declare_characters, new_identity, short_text
from clmsda.measurements import bounding_box
from clmsda.version import SOFTWARE, software_version

if TYPE_CHECKING:
    from pydicom import Dataset

DECIMALS = 4
"""Coordinates to 0.1 micrometer: far below the half voxel that lies between a contour and a voxel's center."""


def build_rtstruct(source: Source, findings: Sequence[Finding]) -> Dataset:
    """A structure set with one ROI per finding, which has the finding's label as its number.

    Contours are CLOSED_PLANAR and have no holes (see `outlines`); each refers to its slice.
    Raises NothingToWrite, GridMismatch for masks on another grid.
    """
    check_findings(findings)
    structure_set = _header(source)
    structure_set.StructureSetROISequence = [_roi(one, source) for one in findings]
    structure_set.ROIContourSequence = [_contours(number, one, source) for number, one in enumerate(findings, 1)]
    structure_set.RTROIObservationsSequence = [_observation(number, one) for number, one in enumerate(findings, 1)]
    declare_characters(structure_set, (text for one in findings for text in one.texts))
    return structure_set


def _header(source: Source) -> Dataset:
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage

    identity, now = new_identity("RTSTRUCT"), datetime.now()
    date, time = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    file_into(dataset, source)
    dataset.StudyInstanceUID = source.study_uid
    dataset.SOPClassUID, dataset.SOPInstanceUID = RTStructureSetStorage, identity["sop_instance_uid"]
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = date, time
    dataset.Modality, dataset.SeriesInstanceUID = "RTSTRUCT", identity["series_instance_uid"]
    dataset.SeriesNumber, dataset.InstanceNumber = identity["series_number"], identity["instance_number"]
    dataset.SeriesDescription, dataset.OperatorsName = identity["series_description"], None
    dataset.Manufacturer, dataset.ManufacturerModelName = SOFTWARE, SOFTWARE
    dataset.SoftwareVersions = software_version()
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = source.frame_uid, None
    dataset.StructureSetLabel, dataset.StructureSetName = SOFTWARE, "Lesions, for research use only"
    dataset.StructureSetDate, dataset.StructureSetTime = date, time
    dataset.ReferencedFrameOfReferenceSequence = [_referenced_frame(source)]
    dataset.ApprovalStatus = "UNAPPROVED"
    return dataset


def _referenced_frame(source: Source) -> Dataset:
    """The images that the contours were drawn on, all of the series (PS3.3 C.8.8.5)."""
    series = _item(
        SeriesInstanceUID=source.series_uid,
        ContourImageSequence=[reference(source, k) for k in range(source.grid.shape[0])],
    )
    study = _item(
        ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1",  # retired, and what the standard wants here
        ReferencedSOPInstanceUID=source.study_uid,
        RTReferencedSeriesSequence=[series],
    )
    return _item(FrameOfReferenceUID=source.frame_uid, RTReferencedStudySequence=[study])


def _roi(finding: Finding, source: Source) -> Dataset:
    from pydicom.valuerep import format_number_as_ds

    algorithm = finding.algorithm
    words = " ".join(word for word in (algorithm.name, algorithm.version, algorithm.model) if word)
    more = {"ROIGenerationDescription": short_text(words)} if words else {}
    if finding.tracking_uid != tracking_uid(source.series_uid, finding.label):  # else series and number tell it
        more |= {"TrackingID": finding.tracking_id, "TrackingUID": finding.tracking_uid}
    return _item(
        ROINumber=finding.label,
        ReferencedFrameOfReferenceUID=source.frame_uid,
        ROIName=finding.name,
        ROIVolume=format_number_as_ds(round(finding.measurement.volume_ml, 3)),
        ROIGenerationAlgorithm=algorithm.kind,
        **more,
    )


def _contours(number: int, finding: Finding, source: Source) -> Dataset:
    return _item(
        ReferencedROINumber=finding.label,
        ROIDisplayColor=list(color_of(number)),
        ContourSequence=[
            _contour(position, points_mm, reference(source, k))
            for position, (k, points_mm) in enumerate(_polygons(finding, source), 1)
        ],
    )


def _polygons(finding: Finding, source: Source) -> Iterator[tuple[int, np.ndarray]]:
    """The contours as a slice's number and (N, 3) points in LPS mm."""
    voxels = source.voxels(finding.mask)
    lower, upper = bounding_box(voxels)
    for k in range(int(lower[0]), int(upper[0])):
        for outline in outlines(voxels[k, lower[1] : upper[1], lower[2] : upper[2]]):
            yield k, source.to_lps(k, outline + lower[1:])


def _contour(position: int, points_mm: np.ndarray, image: Dataset) -> Dataset:
    from pydicom.valuerep import format_number_as_ds

    return _item(
        ContourNumber=position,
        ContourImageSequence=[image],
        ContourGeometricType="CLOSED_PLANAR",
        NumberOfContourPoints=len(points_mm),
        ContourData=[format_number_as_ds(value) for value in np.round(points_mm.ravel(), DECIMALS).tolist()],
    )


def _observation(number: int, finding: Finding) -> Dataset:
    """What the ROI is. No type (GTV, ...): what is treated is for a physician to say."""
    from clmsda.dicom_objects.codes import NEOPLASM, item_of

    return _item(
        ObservationNumber=number,
        ReferencedROINumber=finding.label,
        ROIObservationLabel=finding.name,
        RTROIIdentificationCodeSequence=[item_of(NEOPLASM)],
        RTROIInterpretedType=None,
        ROIInterpreter=None,
    )


def _item(**attributes: Any) -> Dataset:
    from pydicom import Dataset

    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item

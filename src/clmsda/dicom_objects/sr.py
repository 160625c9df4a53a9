"""Measurement reports (PS3.16 TID 1500 in a Comprehensive SR, PS3.3 A.35.3), by highdicom.

A finding becomes two groups of measurements with its tracking UID: one of the segment (TID 1411: volume, density) and
one of the slice with its diameters (TID 1501), as only the latter may tie a measurement to lines on an image. Viewers
put groups of one tracking UID together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from clmsda.dicom_objects.findings import Algorithm, Finding, check_findings, uid_named
from clmsda.dicom_objects.source import Source, file_into
from clmsda.dicom_objects.writing import declare_characters, new_identity, short_text
from clmsda.geometry import Volume
from clmsda.measurements import AxisMm, Measurement, measure
from clmsda.version import SOFTWARE, software

if TYPE_CHECKING:
    from pydicom import Dataset

IN_SLICE = 0.05
"""How far an axis may leave its slice, in slices, by rounding."""


def build_sr(source: Source, findings: Sequence[Finding], seg: Dataset) -> Dataset:
    """A report on the findings. seg: what `build_seg` made of the same findings, which the report refers to.

    Diameters are lines on the slice that holds them. Where the findings were measured across the source's slices
    (in a coronal series, which is read as axial slices), they are measured anew within its own.
    Raises NothingToWrite, GridMismatch for masks on another grid.
    """
    import highdicom

    from clmsda.dicom_objects.codes import CHEST_CT, REPORT, SCHEME

    check_findings(findings)
    measured = [_on_slices(source, one) for one in findings]
    groups = []
    for number, (one, measurement) in enumerate(zip(findings, measured, strict=True), 1):
        groups += [_of_segment(number, one, measurement, source, seg), _of_slice(one, measurement, source)]
    content = highdicom.sr.MeasurementReport(
        observation_context=_observer(), procedure_reported=CHEST_CT, title=REPORT, imaging_measurements=groups
    )
    report: Dataset = highdicom.sr.ComprehensiveSR(
        evidence=[*(source.image(one.measured_slice) for one in measured), seg],
        content=content[0],
        manufacturer=SOFTWARE,
        is_complete=True,
        coding_schemes=[
            highdicom.coding_schemes.CodingSchemeIdentificationItem(SCHEME, name="Codes of the clmsda software")
        ],
        **new_identity("SR"),
    )
    file_into(report, source)
    declare_characters(report, (text for one in findings for text in one.texts))
    return report


def _observer() -> Any:
    """The device that measured. No person is named: nobody is known to have looked."""
    from highdicom import sr

    from clmsda.dicom_objects.codes import DEVICE

    device = sr.DeviceObserverIdentifyingAttributes(
        uid=uid_named(software()),
        name=software(),
        manufacturer_name=SOFTWARE,
    )
    return sr.ObservationContext(observer_device_context=sr.ObserverContext(sr.CodedConcept.from_code(DEVICE), device))


def _on_slices(source: Source, finding: Finding) -> Measurement:
    """The measurement, with slices counted as the source's are."""
    ends = source.grid.to_index((*finding.measurement.long_axis_lps, *finding.measurement.short_axis_lps))[:, 0]
    k = int(np.rint(ends.mean()))
    if np.abs(ends - k).max() > IN_SLICE:
        return measure(Volume(source.voxels(finding.mask), source.grid))
    from dataclasses import replace

    return replace(finding.measurement, measured_slice=k)


def _of_segment(number: int, finding: Finding, measurement: Measurement, source: Source, seg: Dataset) -> Any:
    from highdicom import sr

    from clmsda.dicom_objects.codes import SIZE_GROUP, SIZE_GROUPS

    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        **_what(finding),
        referenced_segment=sr.ReferencedSegment(
            sop_class_uid=seg.SOPClassUID,
            sop_instance_uid=seg.SOPInstanceUID,
            segment_number=number,
            source_series=sr.SourceSeriesForSegmentation(source.series_uid),
        ),
        algorithm_id=_algorithm(finding.algorithm),
        measurements=list(_of_volume(finding)),
        qualitative_evaluations=[sr.QualitativeEvaluation(SIZE_GROUP, SIZE_GROUPS[measurement.size_group])],
    )


def _of_volume(finding: Finding) -> Iterator[Any]:
    from highdicom import sr

    from clmsda.dicom_objects.codes import ATTENUATION, CONFIDENCE, HU, MEAN, ML, ONE, PROBABILITY, VOLUME

    measurement = finding.measurement
    yield sr.Measurement(VOLUME, round(measurement.volume_ml, 3), ML)
    if measurement.mean_hu is not None:
        yield sr.Measurement(ATTENUATION, round(measurement.mean_hu, 1), HU, derivation=MEAN)
    if finding.confidence is not None:
        yield sr.Measurement(CONFIDENCE, round(finding.confidence, 3), ONE)
    if finding.probability is not None:
        yield sr.Measurement(PROBABILITY, round(finding.probability, 3), ONE)


def _of_slice(finding: Finding, measurement: Measurement, source: Source) -> Any:
    from highdicom import sr

    from clmsda.dicom_objects.codes import LONG_AXIS, MM, SHORT_AXIS

    k = measurement.measured_slice
    return sr.MeasurementsAndQualitativeEvaluations(
        **_what(finding),
        measurements=[
            sr.Measurement(name, round(length_mm, 2), MM, referenced_coordinates=[_line(axis, k, source)])
            for name, length_mm, axis in (
                (LONG_AXIS, measurement.long_axis_mm, measurement.long_axis_lps),
                (SHORT_AXIS, measurement.short_axis_mm, measurement.short_axis_lps),
            )
        ],
    )


def _line(axis: AxisMm, k: int, source: Source) -> Any:
    """An axis as a polyline on slice k: (column, row) from the corner of the first pixel (PS3.3 C.18.6.1.1)."""
    from highdicom import sr

    ends = source.grid.to_index(axis)[:, :0:-1] + 0.5
    frames = None if source.frames is None else [source.frames[k]]
    image = sr.SourceImageForRegion(source.image(k).SOPClassUID, source.image(k).SOPInstanceUID, frames)
    return sr.CoordinatesForMeasurement("POLYLINE", ends, image)


def _what(finding: Finding) -> dict[str, Any]:
    """What both groups of a finding say of it."""
    from highdicom import sr

    from clmsda.dicom_objects.codes import ABNORMAL, NEOPLASM, SIDES, SITES

    site = SITES.get(finding.organ)
    side = SIDES[finding.side] if finding.side and finding.organ == "lung" else None

    return {
        "tracking_identifier": sr.TrackingIdentifier(uid=finding.tracking_uid, identifier=finding.tracking_id),
        "finding_category": ABNORMAL,
        "finding_type": NEOPLASM,
        "finding_sites": [sr.FindingSite(site, laterality=side)] if site else None,
    }


def _algorithm(algorithm: Algorithm) -> Any:
    from highdicom import sr

    if not algorithm.name:
        return None
    return sr.AlgorithmIdentification(
        name=short_text(algorithm.name),
        version=short_text(algorithm.version) or "unknown",
        parameters=[f"model={short_text(algorithm.model)}"] if algorithm.model else None,
    )

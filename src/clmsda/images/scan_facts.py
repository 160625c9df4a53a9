"""What a response to therapy needs to know of a scan beside its voxels: when it was, how thick its slices are, and
whether two scans may be of one patient."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clmsda.geometry import Volume
from clmsda.images.voxel_files import is_voxel_file

if TYPE_CHECKING:
    from pydicom import Dataset

CHECK_DIGITS = 4
"""Hex digits of `ScanFacts.patient_check`."""

_DATES = ("StudyDate", "AcquisitionDate", "SeriesDate")
_TAGS = (
    *_DATES, "SeriesInstanceUID", "FrameOfReferenceUID", "PatientID", "SliceThickness", "SharedFunctionalGroupsSequence"
)  # fmt: skip


@dataclass(frozen=True)
class ScanFacts:
    """Facts of one scan; None where they are not known (a NIfTI has neither date nor patient).

    date: of the study, ISO. slice_spacing_mm: between the centers of neighboring slices.
    patient_check: see `patient_check`.
    """

    date: str | None = None
    slice_thickness_mm: float | None = None
    slice_spacing_mm: float | None = None
    patient_check: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Lengths to 0.001 mm."""
        thickness, spacing = (
            None if length is None else round(length, 3) for length in (self.slice_thickness_mm, self.slice_spacing_mm)
        )
        return {
            "date": self.date,
            "slice_thickness_mm": thickness,
            "slice_spacing_mm": spacing,
            "patient_check": self.patient_check,
        }


def patient_check(patient_id: str) -> str | None:
    """The first four hex digits of the SHA-256 of a PatientID: different for different patients, but for 1 in 65,536.

    That is enough to refuse a scan of another patient, and too little to find out whose scan it is: a whole digest
    could be undone by trying all record numbers of a hospital. None for an empty PatientID.
    """
    text = patient_id.strip()
    return hashlib.sha256(text.encode()).hexdigest()[:CHECK_DIGITS] if text else None


def read_scan_facts(path: str | os.PathLike[str], volume: Volume, *, series: str | None = None) -> ScanFacts:
    """The facts of the scan (or the DICOM SEG) at `path`, from which `volume` was read.

    series: of this SeriesInstanceUID (`Volume.source` of a CT); without it the first DICOM file tells.
    """
    spacing_mm = float(volume.grid.spacing_mm[0])
    path = Path(path)
    if path.is_file() and is_voxel_file(path):
        return ScanFacts(slice_spacing_mm=spacing_mm)
    from clmsda.images.archives import opened
    from clmsda.images.damage import damage_named

    with opened(path) as root, damage_named(str(path)):
        for header in _headers(root):
            if series in (None, str(header.get("SeriesInstanceUID") or "")):
                return facts_of(header, spacing_mm)
    return ScanFacts(slice_spacing_mm=spacing_mm)


def read_frame_uid(path: str | os.PathLike[str], *, series: str | None = None) -> str:
    """The frame of reference of the DICOM scan at `path` (of that series), or nothing where it tells none."""
    return _read_text(path, "FrameOfReferenceUID", series)


def read_patient_id(path: str | os.PathLike[str], *, series: str | None = None) -> str:
    """The PatientID of the DICOM scan at `path` (of that series), or nothing where it tells none."""
    return _read_text(path, "PatientID", series)


def _read_text(path: str | os.PathLike[str], keyword: str, series: str | None) -> str:
    from clmsda.images.archives import opened
    from clmsda.images.damage import damage_named

    with opened(Path(path)) as root, damage_named(str(path)), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom quotes odd values, and these may be the patient's
        for header in _headers(root):
            if series in (None, str(header.get("SeriesInstanceUID") or "")):
                return str(header.get(keyword) or "").strip()
    return ""


def facts_of(header: Dataset, slice_spacing_mm: float | None) -> ScanFacts:
    """The facts that a DICOM header tells."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom quotes odd values, and these may be the patient's
        dates = [_iso(str(header.get(keyword) or "")) for keyword in _DATES]
        return ScanFacts(
            date=next((found for found in dates if found), None),
            slice_thickness_mm=_thickness(header),
            slice_spacing_mm=slice_spacing_mm,
            patient_check=patient_check(str(header.get("PatientID") or "")),
        )


def parse_date(text: str) -> date | None:
    """A date as ISO 8601 or DICOM (VR DA) writes it, or None for what is no date."""
    for form in ("%Y-%m-%d", "%Y%m%d"):
        try:
            return datetime.strptime(text.strip(), form).date()
        except ValueError:
            continue
    return None


def _iso(text: str) -> str | None:
    found = parse_date(text)
    return found.isoformat() if found else None


def _thickness(header: Dataset) -> float | None:
    """SliceThickness, which multi-frame objects keep in their shared functional groups (PS3.3 C.7.6.16.2.1)."""
    places = [header]
    for group in header.get("SharedFunctionalGroupsSequence") or ():
        places += group.get("PixelMeasuresSequence") or ()
    for place in places:
        try:
            thickness_mm = float(place.get("SliceThickness") or 0)
        except (ValueError, TypeError):  # text that is no number, or several
            continue
        if 0 < thickness_mm < float("inf"):
            return thickness_mm
    return None


def _headers(root: Path) -> Iterator[Dataset]:
    """The heads of the DICOM files of a folder (or the one file), with what `facts_of` asks for.

    Raises UnreadableFile, TooLarge.
    """
    import pydicom

    from clmsda.images.dicom_bytes import dicom_bytes
    from clmsda.images.dicom_files import is_dicom, walk

    for path in (path for path in ([root] if root.is_file() else walk(root)) if path.is_file() and is_dicom(path)):
        with warnings.catch_warnings(), dicom_bytes(path, path.name) as file:
            warnings.simplefilter("ignore")  # pydicom names every value that is longer than the standard allows
            header = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=list(_TAGS))
            for keyword in ("SeriesInstanceUID", "FrameOfReferenceUID"):
                header.get(keyword)
        yield header

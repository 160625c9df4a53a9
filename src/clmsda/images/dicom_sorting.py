"""What sorts DICOM files into patients, studies and series, read as fast as a folder of thousands needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clmsda.images.dicom_files import COMPANION, DIRECTORY_CLASS, is_dicom, load
from clmsda.images.dicom_heads import skim
from clmsda.images.errors import UnreadableFile

_LAST = 0x0020000E  # SeriesInstanceUID: what sorts a file lies before it
_IMAGE_TYPE, _SOP_CLASS, _DATE, _MODALITY = 0x00080008, 0x00080016, 0x00080020, 0x00080060
_PATIENT, _STUDY = 0x00100020, 0x0020000D


@dataclass(frozen=True)
class Filed:
    """A DICOM file and what sorts it. date: of the study, YYYYMMDD."""

    path: Path
    modality: str
    patient: str
    study: str
    series: str
    date: str
    localizer: bool
    sop_class: str

    @property
    def directory(self) -> bool:
        """Whether it is a DICOMDIR."""
        return self.sop_class == DIRECTORY_CLASS


def look_at(path: Path) -> Filed | None:
    """What sorts a file; None for one that by its name is no DICOM. Raises UnreadableFile, OSError."""
    head = skim(path, last=_LAST)
    if head is not None and _is_plain(head.elements.get(_PATIENT, b"")):
        modality, patient, study, series, date = map(head.text, (_MODALITY, _PATIENT, _STUDY, _LAST, _DATE))
        localizer = "LOCALIZER" in head.text(_IMAGE_TYPE)
        return Filed(path, modality, patient, study, series, date, localizer, head.text(_SOP_CLASS))
    if not is_dicom(path):
        if path.name.startswith(".") or path.name == "Thumbs.db" or COMPANION.search(path.name.lower()):
            return None
        raise UnreadableFile("not DICOM; is it truncated? Fetch it again or remove it")
    file = load(path)
    modality, patient, study, date = (
        str(file.header.get(name) or "").strip() for name in ("Modality", "PatientID", "StudyInstanceUID", "StudyDate")
    )
    return Filed(path, modality, patient, study, file.series_uid, date, file.is_localizer, file.sop_class)


def _is_plain(text: bytes) -> bool:
    """Whether it means the same in all of DICOM's character sets (PS3.3 C.12.1.1.2); pydicom reads what does not."""
    return text.isascii() and b"\x1b" not in text

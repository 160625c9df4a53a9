"""Finding DICOM files, by content and never by suffix, and choosing the series to read."""

from __future__ import annotations

import logging
import os
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pydicom
from pydicom import Dataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    LegacyConvertedEnhancedCTImageStorage,
)

from clmsda.images.errors import (
    Localizer,
    MissingPath,
    NoDicom,
    NotCT,
    SeriesNotFound,
    SeveralSeries,
    UnreadableFile,
)

CT_CLASSES = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
DIRECTORY_CLASS = "1.2.840.10008.1.3.10"  # DICOMDIR
DEFER_BYTES = 1 << 16
"""Elements longer than this (the pixels) stay in the file until they are asked for."""

COMPANION = re.compile(
    r"\.(csv|docx?|gif|gz|html?|ini|jpe?g|json|log|md|mha|mhd|nii|npy|nrrd|pdf|png|tcia|toml|tsv|txt|xlsx?|xml|ya?ml|zip)$"
)
"""Suffixes of what lies beside DICOM files and is surely no slice of theirs."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DicomFile:
    """One file: its place, its name for messages (relative to where the search began), and its attributes."""

    path: Path
    name: str
    header: Dataset

    @property
    def sop_class(self) -> str:
        return str(self.header.get("SOPClassUID") or self.header.file_meta.get("MediaStorageSOPClassUID") or "")

    @property
    def series_uid(self) -> str:
        return str(self.header.get("SeriesInstanceUID") or "")

    @property
    def is_localizer(self) -> bool:
        return "LOCALIZER" in (self.header.get("ImageType") or ())


@dataclass(frozen=True)
class Series:
    """One DICOM series in a folder, an archive or a file.

    uid: SeriesInstanceUID. images: number of slices or frames. kind: the SOP class in words.
    files: paths, or names within an archive.
    """

    uid: str
    modality: str
    description: str
    images: int
    kind: str
    localizer: bool
    files: tuple[Path, ...]

    @property
    def is_ct(self) -> bool:
        return not self.localizer and self.modality == "CT" and self.kind in {uid.name for uid in CT_CLASSES}

    def __str__(self) -> str:
        words = f"{self.uid} ({self.modality}{' localizer' if self.localizer else ''}"
        return f"{words}, {self.description or 'no description'!r}, {self.images} image{'s' * (self.images != 1)})"


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """The folder or file itself, or a temporary folder with the content of a .zip."""
    if not path.exists():
        raise MissingPath(f"there is no file or folder {path}")
    if path.is_dir() or not zipfile.is_zipfile(path):
        yield path
        return
    with TemporaryDirectory(prefix="clmsda-") as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                archive.extractall(folder)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError) as error:
            raise UnreadableFile(f"{path} cannot be unpacked; is it truncated or encrypted? ({error})") from error
        yield Path(folder)


def is_dicom(path: Path) -> bool:
    """Whether the file begins like DICOM: `DICM` at byte 128, or (old files) a first group of 0002 or 0008."""
    with open(path, "rb") as file:
        head = file.read(132)
    return head[128:132] == b"DICM" or (len(head) == 132 and head[:2] in (b"\x02\x00", b"\x08\x00") and head[3] == 0)


def load(path: Path, name: str = "") -> DicomFile:
    """One file's attributes; long values are read later. Raises UnreadableFile."""
    name = name or path.name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom names every value that is longer than the standard allows
        try:
            header = pydicom.dcmread(path, defer_size=DEFER_BYTES, force=True)
        except Exception as error:  # damaged bytes raise almost anything
            raise UnreadableFile(f"{name} is truncated or damaged: {error}; fetch it again") from error
    if "TransferSyntaxUID" not in header.file_meta:  # old files have no meta header; pydicom has found out by reading
        implicit = header.original_encoding[0]
        header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    file = DicomFile(path, name, header)
    if not file.sop_class or not (file.series_uid or "PixelData" in header or file.sop_class == DIRECTORY_CLASS):
        raise UnreadableFile(f"{name} is truncated: it ends before it names its kind and series; fetch it again")
    return file


def load_all(root: Path, source: Path) -> list[DicomFile]:
    """Every DICOM file under a folder (or the one file), in order of name, without DICOMDIRs.

    source: what the caller gave, for messages; it differs from `root` if it is an archive.

    Other files are passed over, with a line in the log, only if they surely are no slices: hidden
    ones, text, and those with a suffix in `COMPANION`.

    Raises UnreadableFile for any other file that is not DICOM; NoDicom if there is none.
    """
    if root.is_file():
        return [load(root)]
    files, others = [], []
    for folder, folders, names in os.walk(root):
        folders.sort()
        for path in (Path(folder, name) for name in sorted(names)):
            name = str(path.relative_to(root))
            if is_dicom(path):
                files.append(load(path, name))
            elif _is_companion(path):
                others.append(name)
            else:
                raise UnreadableFile(f"{name} in {source} is not DICOM; is it truncated? Fetch it again or remove it")
    if others:
        log.info("passed over %d files in %s that are not DICOM: %s", len(others), source, ", ".join(others[:10]))
    files = [file for file in files if file.sop_class != DIRECTORY_CLASS]
    if not files:
        found = f"{len(others)} other files ({', '.join(others[:3])}): give one of them" if others else "none"
        raise NoDicom(f"expected DICOM files in {source}, found {found}")
    return files


def _is_companion(path: Path) -> bool:
    """Whether a file that is not DICOM surely is no slice either: by its name, or because it is text."""
    if path.name.startswith(".") or path.name == "Thumbs.db" or COMPANION.search(path.name.lower()):
        return True
    head = path.read_bytes()[:512]
    return bool(head) and all(byte in b"\t\r\n\f" or byte >= 32 for byte in head) and path.suffix.lower() != ".dcm"


def series_of(files: list[DicomFile], root: Path) -> list[Series]:
    """The series that the files belong to, in order of first appearance."""
    groups: dict[str, list[DicomFile]] = {}
    for file in files:
        groups.setdefault(file.series_uid, []).append(file)
    return [_series(uid, group, root) for uid, group in groups.items()]


def _series(uid: str, files: list[DicomFile], root: Path) -> Series:
    first = files[0].header
    return Series(
        uid=uid,
        modality=str(first.get("Modality") or ("CT" if files[0].sop_class in CT_CLASSES else "no modality")),
        description=str(first.get("SeriesDescription") or "").strip(),
        images=sum(int(file.header.get("NumberOfFrames") or 1) for file in files),
        kind=UID(files[0].sop_class).name,
        localizer=all(file.is_localizer for file in files),
        files=tuple(file.path if file.path == root else file.path.relative_to(root) for file in files),
    )


def choose(files: list[DicomFile], uid: str | None, root: Path, source: Path) -> list[DicomFile]:
    """The files of the CT series `uid`, or of the only CT series.

    Raises SeveralSeries, SeriesNotFound, NotCT, Localizer.
    """
    found = series_of(files, root)
    listed = "; ".join(map(str, found))
    if uid is not None:
        chosen = [series for series in found if series.uid == uid]
        if not chosen:
            raise SeriesNotFound(f"there is no series {uid} in {source}; found {listed}")
    else:
        chosen = [series for series in found if series.is_ct]
        if len(chosen) > 1:
            listed = "; ".join(map(str, chosen))
            raise SeveralSeries(f"{len(chosen)} CT series in {source}: choose one with --series UID: {listed}")
    if not any(series.is_ct for series in chosen):
        seen = chosen or found
        if any(series.localizer for series in seen):
            raise Localizer(f"expected CT slices, found only a localizer in {source}: {'; '.join(map(str, seen))}")
        kinds = ", ".join(sorted({f"{series.modality} ({series.kind})" for series in seen}))
        raise NotCT(f"expected a series of CT slices, found {kinds} in {source}: {'; '.join(map(str, seen))}")
    return _without_localizers([file for file in files if file.series_uid == chosen[0].uid])


def _without_localizers(files: list[DicomFile]) -> list[DicomFile]:
    """The slices of a series in which some scanners also file the localizer."""
    aside = [file.name for file in files if file.is_localizer]
    if aside:
        log.warning("set aside %d localizer images of the series: %s", len(aside), ", ".join(aside))
    return [file for file in files if not file.is_localizer]

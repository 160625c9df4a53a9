"""Finding DICOM files, by content and never by suffix, and choosing the series to read."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    LegacyConvertedEnhancedCTImageStorage,
)

from clmsda.files import is_unfinished
from clmsda.images.dicom_bytes import dicom_bytes
from clmsda.images.errors import (
    Localizer,
    NoDicom,
    NotCT,
    SeriesNotFound,
    SeveralSeries,
    UnreadableFile,
)

CT_CLASSES = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
DIRECTORY_CLASS = "1.2.840.10008.1.3.10"  # DICOMDIR
UNDEFINED = 0xFFFFFFFF  # length of what ends with a delimiter (PS3.5, 7.1)
DEFER_BYTES = 1 << 16
"""Elements longer than this (the pixels) stay in the file until they are asked for."""

ASKED = (
    "ImageType", "Modality", "SeriesDescription", "PatientID", "FrameOfReferenceUID", "SOPInstanceUID", "Rows",
    "Columns", "NumberOfFrames", "SamplesPerPixel", "KVP", "ConvolutionKernel", "AcquisitionNumber",
)  # fmt: skip
"""What is asked of every slice: looked at while its file is known, since damage shows where a value is looked at."""
COMPANION = re.compile(
    r"\.(bat|bmp|class|cmd|com|css|csv|dat|db|dll|docx?|exe|gif|gz|html?|ico|inf|ini|jar|jpe?g|js|json|lnk|log|md|mha|mhd|"
    r"msi|nii|npy|nrrd|ocx|pdf|png|rar|sys|tcia|tiff?|toml|tsv|txt|xlsx?|xml|ya?ml|zip|7z)$"
)
"""Suffixes of what lies beside DICOM files and is surely no slice of theirs."""
SLICE_SUFFIXES = (".dcm", ".dicom", ".ima")
PICTURES = ("SCREEN SAVE", "SCREENSAVE", "DOSE_INFO")
"""Words in ImageType of what scanners file as CT images although they are pictures of text."""
NAMED = 10
"""So many files are named in one message."""
_NUMBER = re.compile(r"[0-9a-fA-F]*\d[0-9a-fA-F]*")

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


def is_dicom(path: Path) -> bool:
    """Whether the file begins like DICOM: `DICM` at byte 128, or (old files) a first group of 0002 or 0008."""
    with open(path, "rb") as file:
        head = file.read(132)
    return head[128:132] == b"DICM" or (len(head) == 132 and head[:2] in (b"\x02\x00", b"\x08\x00") and head[3] == 0)


def load(path: Path, name: str = "") -> DicomFile:
    """One file's attributes; long values are read later. Raises UnreadableFile, TooLarge."""
    name = name or path.name
    with warnings.catch_warnings(), dicom_bytes(path, name) as bytes_of_file:
        warnings.simplefilter("ignore")  # pydicom names every value that is longer than the standard allows
        header = pydicom.dcmread(bytes_of_file, defer_size=DEFER_BYTES, force=True)
        _check_deferred(header, path, name)
        if not header.file_meta.get("TransferSyntaxUID"):  # old files have none; pydicom has found out by reading
            implicit = header.original_encoding[0]
            header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        for keyword in ASKED:
            header.get(keyword)
        file = DicomFile(path, name, header)
        if not file.sop_class or not (file.series_uid or "PixelData" in header or file.sop_class == DIRECTORY_CLASS):
            raise UnreadableFile(f"{name} is truncated: it ends before it names its kind and series; fetch it again")
        return file


def _check_deferred(header: Dataset, path: Path, name: str) -> None:
    """Raise UnreadableFile for a long value that ends behind the file: pydicom would not see that until it is read."""
    size = path.stat().st_size
    if getattr(header, "buffer", None) is not None:  # it was deflated, and is whole in memory
        return
    for tag in header.keys():  # noqa: SIM118 (iterating over a dataset reads its values)
        element = header.get_item(tag, keep_deferred=True)
        if not isinstance(element, RawDataElement) or element.value is not None or element.length == UNDEFINED:
            continue
        if element.value_tell + element.length > size:
            raise UnreadableFile(f"{name} is truncated: it ends within {element.tag}; fetch it again")


def walk(root: Path) -> Iterator[Path]:
    """Every file under a folder, in order of name, but those that `clmsda` writes or was killed writing.

    In linked folders, too, but in each once, and in none around it.
    """
    start = Path(os.path.realpath(root))
    seen = {str(start), *map(str, start.parents)}
    for folder, folders, names in os.walk(root, followlinks=True):
        inside = {os.path.realpath(Path(folder, name)): name for name in sorted(folders, reverse=True)}
        folders[:] = sorted(name for real, name in inside.items() if real not in seen and not is_unfinished(Path(name)))
        seen.update(inside)
        yield from (Path(folder, name) for name in sorted(names) if not is_unfinished(Path(name)))


def load_all(root: Path, source: Path) -> list[DicomFile]:
    """Every DICOM file under a folder (or the one file), in order of name, without DICOMDIRs.

    source: what the caller gave, for messages; it differs from `root` if it is an archive.

    What is no slice is passed over with a warning that names it: DICOMDIRs, viewers, text, hidden and empty files ...

    Raises UnreadableFile for a file that may be a damaged slice: one with content, but not of DICOM, named like those
    beside it (or .dcm); NoDicom if there is none, and for a DICOMDIR alone.
    """
    if root.is_file():
        file = load(root)
        if file.sop_class == DIRECTORY_CLASS:
            raise NoDicom(f"{source} is a table of contents (DICOMDIR), without images: give its folder, {root.parent}")
        return [file]
    files, others = [], []
    for path in walk(root):
        if path.is_file() and is_dicom(path):
            files.append(load(path, str(path.relative_to(root))))
        else:
            others.append(path)
    named = {_kind_of_name(file.path) for file in files}
    for path in others:
        if _may_be_slice(path, named):
            name = path.relative_to(root)
            raise UnreadableFile(f"{name} in {source} is not DICOM; is it truncated? Fetch it again or remove it")
    aside = [str(path.relative_to(root)) for path in others]
    aside += [file.name for file in files if file.sop_class == DIRECTORY_CLASS]
    files = [file for file in files if file.sop_class != DIRECTORY_CLASS]
    if not files:
        found = f"{len(aside)} other files ({', '.join(aside[:3])}): give one of them" if aside else "none"
        raise NoDicom(f"expected DICOM files in {source}, found {found}")
    if aside:
        more = f" and {len(aside) - NAMED} more" if len(aside) > NAMED else ""
        listed = ", ".join(aside[:NAMED]) + more
        log.warning(
            "passed over %d file%s in %s, no DICOM images: %s", len(aside), "s" * (len(aside) > 1), source, listed
        )
    return files


def _kind_of_name(path: Path) -> tuple[Path, str]:
    """The folder, and the name without its number: alike for the slices of a series."""
    return path.parent, _NUMBER.sub("#", path.stem)


def _may_be_slice(path: Path, named: set[tuple[Path, str]]) -> bool:
    """Whether a file that is not DICOM may have been a slice: not by its name or content something else."""
    if path.is_file() and path.stat().st_size == 0:
        return False
    if path.name.startswith(".") or "__MACOSX" in path.parts or COMPANION.search(path.name.lower()):
        return False
    suffix = path.suffix.lower() in SLICE_SUFFIXES
    if not suffix and path.is_file() and _is_text(path):
        return False
    return suffix or _kind_of_name(path) in named


def _is_text(path: Path) -> bool:
    with open(path, "rb") as file:
        return all(byte in b"\t\r\n\f" or byte >= 32 for byte in file.read(512))


def series_of(files: list[DicomFile], root: Path) -> list[Series]:
    """The series that the files belong to, in order of first appearance."""
    groups: dict[str, list[DicomFile]] = {}
    for file in files:
        groups.setdefault(file.series_uid, []).append(file)
    return [_series(uid, group, root) for uid, group in groups.items()]


def _series(uid: str, files: list[DicomFile], root: Path) -> Series:
    typical = next((file for file in files if not _not_a_slice(file)), files[0])
    first = typical.header
    return Series(
        uid=uid,
        modality=str(first.get("Modality") or ("CT" if typical.sop_class in CT_CLASSES else "no modality")),
        description=str(first.get("SeriesDescription") or "").strip(),
        images=sum(int(file.header.get("NumberOfFrames") or 1) for file in files),
        kind=UID(typical.sop_class).name,
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
    return slices_only([file for file in files if file.series_uid == chosen[0].uid])


def slices_only(files: list[DicomFile]) -> list[DicomFile]:
    """The slices of a series in which scanners and workstations also file other images; those are warned of.

    All of them where none is a slice, which whoever reads them will refuse.
    """
    aside = {file.name: why for file in files if (why := _not_a_slice(file))}
    if not aside or len(aside) == len(files):
        return files
    listed = ", ".join(f"{name} ({why})" for name, why in [*aside.items()][:NAMED])
    more = f" and {len(aside) - NAMED} more" if len(aside) > NAMED else ""
    log.warning("set aside %d of %d images of the series, no slices: %s%s", len(aside), len(files), listed, more)
    return [file for file in files if file.name not in aside]


def _not_a_slice(file: DicomFile) -> str:
    """What an image among the slices of a CT is, if it is none."""
    if file.is_localizer:
        return "localizer"
    if file.sop_class not in CT_CLASSES:
        return UID(file.sop_class).name
    if file.header.get("SamplesPerPixel") in (3, 4):
        return "color picture"
    return next((word.lower() for word in file.header.get("ImageType") or () if word in PICTURES), "")

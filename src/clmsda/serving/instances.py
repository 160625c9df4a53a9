"""DICOM files on their way to a PACS, and what the PACS says of each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clmsda.images.errors import MissingPath, UnreadableFile
from clmsda.serving.errors import BadAddress, NotStored


@dataclass(frozen=True)
class Instance:
    """One Part 10 file (PS3.10, section 7) and what a PACS is told about it beforehand."""

    path: Path
    sop_class: str
    sop_uid: str
    study_uid: str
    transfer_syntax: str
    modality: str

    def __str__(self) -> str:
        return f"{self.modality} ({self.path.name})"


@dataclass(frozen=True)
class Receipt:
    """What became of one instance.

    stored: True only where the PACS itself said so, of this very instance. words: why not, or what the
    PACS remarked.
    """

    instance: Instance
    stored: bool
    words: str


_UID = re.compile(r"[0-9]+(\.[0-9]+)*")  # with the leading zeros that the standard forbids and some scanners write

NOT_TRIED = "not sent, because the PACS failed before"

_REMARKS = {
    0x0001: "requested optional attributes are not supported",
    0x0107: "attributes are in error",
    0x0116: "a value is out of range",
    0xB000: "the PACS changed elements",
    0xB006: "the PACS dropped elements",
    0xB007: "the PACS finds that the object does not match its kind",
}
_FAULTS = {
    0x0110: "the PACS failed to process it (or it belongs to another study)",
    0x0111: "the PACS holds an object with this UID already",
    0x0117: "the PACS does not accept its UID",
    0x0122: "the PACS takes no objects of this kind",
    0x0124: "the PACS does not allow it",
    0xC122: "the PACS does not take its transfer syntax",
}
_FAULTS_BY_HIGH_BYTE = {
    0xA7: "the PACS is out of resources",
    0xA9: "the PACS finds that the object does not match its kind",
}


def receipt(instance: Instance, status: int) -> Receipt:
    """What a store's status means: PS3.7 annex C, PS3.4 table B.2-1; STOW-RS has the same numbers (PS3.18 I.2.2)."""
    if status == 0:
        return Receipt(instance, True, "")
    if status in _REMARKS or status >> 12 == 0xB:
        return Receipt(instance, True, f"{_REMARKS.get(status, 'the PACS remarked something')} ({status:04X})")
    words = _FAULTS.get(status) or _FAULTS_BY_HIGH_BYTE.get(status >> 8) or "the PACS does not understand it"
    return Receipt(instance, False, f"{words} ({status:04X})")


def read_instances(paths: Sequence[Path]) -> tuple[Instance, ...]:
    """The DICOM files that are given or lie in given folders, all of them fit to be sent.

    Raises MissingPath, UnreadableFile (also for what lacks DICOM's preamble or a UID), NoDicom.
    """
    from clmsda.images.dicom_files import load_all

    found = []
    for path in paths:
        if not path.exists():
            raise MissingPath(f"there is no file or folder {path}")
        found += [_instance(file.path) for file in load_all(path, path)]
    return tuple(found)


def _instance(path: Path) -> Instance:
    from clmsda.images.dicom_files import load

    with open(path, "rb") as file:
        if file.read(132)[128:] != b"DICM":
            raise UnreadableFile(
                f"{path} is no DICOM file with a preamble (Part 10), as a PACS expects: write it again"
            )
    header = load(path).header
    missing = [name for name in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID") if not header.get(name)]
    if missing:
        raise UnreadableFile(f"{path} has no {' and no '.join(missing)}: a PACS cannot file it; export it again")
    return Instance(
        path=path,
        sop_class=str(header.SOPClassUID),
        sop_uid=str(header.SOPInstanceUID),
        study_uid=str(header.StudyInstanceUID),
        transfer_syntax=str(header.file_meta.TransferSyntaxUID),
        modality=str(header.get("Modality") or "no modality"),
    )


def refuse_unstored(receipts: Sequence[Receipt], remedy: str) -> None:
    """Raise NotStored unless the PACS confirmed every instance; say which it did and which it did not."""
    lost = [one for one in receipts if not one.stored]
    if not lost:
        return
    kept = ", ".join(str(one.instance) for one in receipts if one.stored) or "nothing"
    reasons = "; ".join(f"{one.instance}: {one.words}" for one in lost[:10])
    more = f" and {len(lost) - 10} more" if len(lost) > 10 else ""
    raise NotStored(f"{len(lost)} of {len(receipts)} objects are not stored: {reasons}{more}; stored: {kept}. {remedy}")


def check_uid(text: str, what: str) -> str:
    """The UID itself. Raises BadAddress: what is no UID must become part of no address and no file name."""
    if len(text) > 64 or not _UID.fullmatch(text):
        raise BadAddress(f"expected a UID (digits and dots, at most 64 characters) for the {what}, found {text[:80]!r}")
    return text

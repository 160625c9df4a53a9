"""The size that compressed pictures state of themselves: decoders believe it, and make room for it, before all else."""

from __future__ import annotations

from pydicom import Dataset
from pydicom.encaps import generate_fragments

_JPEG, _J2K = b"\xff\xd8\xff", b"\xff\x4f\xff\x51"
_FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC} | {0xF7}
"""Markers after which JPEG and JPEG-LS state a size (ISO 10918-1, table B.1; ISO 14495-1, C.1)."""


def too_large(header: Dataset) -> tuple[int, int] | None:
    """Rows and columns of the first picture that states more of them than the DICOM header does; None where none does.

    Raises ValueError, and what else pydicom raises, for pixel data that do not fall into whole fragments (PS3.5, A.4).
    """
    rows, columns = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
    for fragment in generate_fragments(header.PixelData):
        stated = None
        if fragment.startswith(_JPEG):
            stated = _of_jpeg(fragment)
        elif fragment.startswith(_J2K):
            stated = _of_j2k(fragment)
        if stated is not None and (stated[0] > rows or stated[1] > columns):
            return stated
    return None


def _of_jpeg(frame: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(frame) and frame[at] == 0xFF:
        if frame[at + 1] in _FRAME_HEADERS:
            return int.from_bytes(frame[at + 5 : at + 7]), int.from_bytes(frame[at + 7 : at + 9])
        at += 2 + max(2, int.from_bytes(frame[at + 2 : at + 4]))
    return None


def _of_j2k(frame: bytes) -> tuple[int, int] | None:
    """By its first marker segment, SIZ (ISO 15444-1, A.5.1)."""
    width, height, left, top = (int.from_bytes(frame[at : at + 4]) for at in (8, 12, 16, 20))
    return height - top, width - left

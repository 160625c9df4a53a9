"""The head of a DICOM file: its top-level elements up to the pixels, as raw bytes (PS3.5, section 7.1).

A collection has tens of thousands of slices, and an import goes through their heads twice: to sort files into
series, and to lay slices in place. With pydicom that alone takes longer than reading the pixels. So plain files
(little-endian, with the preamble of PS3.10) are skimmed here; `skim` gives None for all others, which pydicom reads.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from struct import Struct, error

PIXELS = 0x7FE00010
HEAD_BYTES = (1 << 13, 1 << 20)
"""So much of a file is read at first, and where its head is longer."""

_UNDEFINED = 0xFFFFFFFF
_ITEMS = 0xFFFE  # the group of items and delimiters, which have no VR
_ENDS = (0xFFFEE00D, 0xFFFEE0DD)
_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
_SYNTAXES = {b"1.2.840.10008.1.2": False, b"1.2.840.10008.1.2.1": True}  # implicit, explicit VR
_ELEMENT, _LENGTH = Struct("<HH2sH").unpack_from, Struct("<I").unpack_from


@dataclass(frozen=True)
class Head:
    """Elements by tag, up to the pixels, and where in the file those begin (0: none were met)."""

    elements: dict[int, bytes]
    pixels_at: int = 0
    pixel_bytes: int = 0

    def text(self, tag: int) -> str:
        """The element as text, empty where it is missing."""
        return self.elements.get(tag, b"").decode("latin-1").strip(" \0")

    def numbers(self, tag: int) -> list[float]:
        """The numbers of a decimal string (VR DS). Raises ValueError where it is none."""
        return [float(part) for part in self.elements.get(tag, b"").strip(b" \0").split(b"\\")]

    def short(self, tag: int) -> int:
        """An unsigned 16-bit number (VR US), 0 where it is missing."""
        value = self.elements.get(tag, b"")
        return int.from_bytes(value, "little") if len(value) == 2 else 0


def skim(path: str | os.PathLike[str], *, last: int = PIXELS) -> Head | None:
    """The elements up to the tag `last`, or None where the file is not a plain one.

    last: elements beyond it are not looked at.
    """
    for size in HEAD_BYTES:
        with open(path, "rb", buffering=0) as file:
            head = file.read(size)
        if head[128:132] != b"DICM":
            return None
        try:
            return _skim(head, last)
        except error:  # the head ends beyond what was read, or the file is truncated
            if len(head) < size:
                return None
    return None


def end_of_meta(head: bytes) -> int:
    """Where the file meta information ends (PS3.10, 7.1), by its elements as pydicom reads them, not by its length.

    Raises struct.error where that is beyond `head`.
    """
    at = 132 if head[128:132] == b"DICM" else 0
    while head[at : at + 2] == b"\x02\x00":
        _, start, length = _element(head, at, True)
        at = start + length
    return at


def _skim(head: bytes, last: int) -> Head | None:
    tag, start, length = _element(head, 132, True)
    if tag != 0x00020000 or length != 4:
        return None
    end = start + 4 + _LENGTH(head, start)[0]
    at, syntax = start + 4, b""
    while at < end:
        tag, start, length = _element(head, at, True)
        at = start + length
        if tag == 0x00020010:
            syntax = head[start:at].rstrip(b" \0")
    if syntax not in _SYNTAXES:
        return None
    explicit = _SYNTAXES[syntax]
    elements: dict[int, bytes] = {}
    while True:
        tag, start, length = _element(head, at, explicit)
        if tag == PIXELS:
            return Head(elements, start, length) if length != _UNDEFINED else None
        if tag > last:
            return Head(elements)
        if length == _UNDEFINED:
            at = _end_of_items(head, start, explicit)
        else:
            at = start + length
            if at > len(head):
                raise error("the value goes on")
            elements[tag] = head[start:at]


def _element(head: bytes, at: int, explicit: bool) -> tuple[int, int, int]:
    """Tag, and start and length of the value, of the element at a place."""
    group, number, vr, length = _ELEMENT(head, at)
    tag = group << 16 | number
    if not explicit or group == _ITEMS:
        return tag, at + 8, _LENGTH(head, at + 4)[0]
    if vr in _LONG:
        return tag, at + 12, _LENGTH(head, at + 8)[0]
    return tag, at + 8, length


def _end_of_items(head: bytes, at: int, explicit: bool) -> int:
    """The place behind a sequence or an item of undefined length that begins here."""
    while True:
        tag, start, length = _element(head, at, explicit)
        if tag in _ENDS:
            return start
        at = start + length if length != _UNDEFINED else _end_of_items(head, start, explicit)

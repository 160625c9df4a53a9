"""The parts of a multipart answer as they arrive (RFC 2046, section 5.1), the way WADO-RS sends a series."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from email.message import Message

MOST_BYTES = 2 << 30
"""Of one part, which is held in memory until it is whole."""

_KIND = re.compile(rb"^content-type:[ \t]*([^;\s]+)", re.IGNORECASE | re.MULTILINE)
_FILE_KINDS = (b"application/dicom", b"application/octet-stream")


class BrokenOff(Exception):
    """The answer ended before its last part did: what came must not be taken for all."""


class NoFile(Exception):
    """A part that is no DICOM file, or too large for one; the message says which."""


def kind_of(content_type: str) -> str:
    """The kind of an answer in lower case, without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def boundary_of(content_type: str) -> bytes | None:
    """The boundary between the parts of a multipart/related answer; None for an answer of another kind."""
    message = Message()
    message["content-type"] = content_type
    boundary = message.get_param("boundary")
    if message.get_content_type() != "multipart/related" or not isinstance(boundary, str) or not boundary:
        return None
    return boundary.encode("latin-1", "replace")


def parts(chunks: Iterable[bytes], boundary: bytes) -> Iterator[bytes]:
    """The content of each part, without its headers; in memory is one part at a time.

    Raises BrokenOff unless the closing boundary arrives. (Many servers send neither a length nor chunks, so
    that a connection cut off looks like the end.) Raises NoFile for a part that says it is of another kind than
    DICOM, such as a message, and for one of more than 2 GB.
    """
    marker = b"\r\n--" + boundary
    data = bytearray(b"\r\n")  # the first boundary may stand at the very beginning
    begun, searched = False, 0
    for chunk in chunks:
        data += chunk
        while (end := data.find(marker, searched)) >= 0:
            after = end + len(marker)
            if len(data) < after + 2:  # is it the closing one? the next chunk tells
                break
            if begun:
                yield _content(data[:end])
            if data[after : after + 2] == b"--":
                return
            del data[:after]
            begun, searched = True, 0
        searched = end if end >= 0 else max(0, len(data) - len(marker))
        if len(data) > MOST_BYTES:
            raise NoFile(f"a part has more than {MOST_BYTES >> 30} GB")
    raise BrokenOff


def _content(part: bytearray) -> bytes:
    """What follows the empty line after a part's headers. `part` begins behind its boundary."""
    head, _, content = part.partition(b"\r\n\r\n")
    if len(head) == len(part):
        raise BrokenOff
    kind = _KIND.search(head)
    if kind and kind[1].lower() not in _FILE_KINDS:
        raise NoFile("a part is no DICOM file")
    return bytes(content)

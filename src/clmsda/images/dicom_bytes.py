"""A DICOM file's bytes for pydicom, which takes lengths at their word and unpacks deflated files in one piece."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, FileIO
from pathlib import Path

from clmsda.images.damage import damage_named
from clmsda.images.dicom_heads import end_of_meta
from clmsda.images.errors import TooLarge

MOST_UNPACKED = 100
"""A deflated file (PS3.5, A.5) may unpack to so many times its size (CTs: 2 to 5 times) ..."""
ALWAYS_UNPACKED = 1 << 28
"""... or to so many bytes, whatever its size."""

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_HEAD_BYTES, _BLOCK_BYTES = 1 << 16, 1 << 20


class _Bounded(BufferedReader):
    """Asks for no more memory than there are bytes left: a damaged length may claim 4 GB."""

    def __init__(self, path: Path) -> None:
        super().__init__(FileIO(str(path)))  # pydicom opens it again by its name, for long values
        self._size = path.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and 0 <= size <= _HEAD_BYTES:  # nearly always, and no harm
            return super().read(size)
        left = max(0, self._size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


@contextmanager
def dicom_bytes(path: Path, name: str) -> Iterator[BufferedReader]:
    """The open file, to be read within. name: for messages.

    Raises TooLarge for a deflated file beyond the limits above, UnreadableFile for whatever pydicom raises.
    """
    with damage_named(name), _Bounded(path) as file:
        _check_deflated(file, name, path.stat().st_size)
        file.seek(0)
        yield file


def _check_deflated(file: BufferedReader, name: str, size: int) -> None:
    head = file.read(_HEAD_BYTES)
    if _DEFLATED not in head:
        return
    try:
        file.seek(end_of_meta(head))
    except struct.error:  # no end of the meta header is near, so nothing is unpacked either
        return
    unpacker, unpacked, rest = zlib.decompressobj(-zlib.MAX_WBITS), 0, b""
    while not unpacker.eof and (rest := rest or file.read(_BLOCK_BYTES)):
        unpacked += len(unpacker.decompress(rest, _BLOCK_BYTES))
        rest = unpacker.unconsumed_tail
        if unpacked > max(ALWAYS_UNPACKED, MOST_UNPACKED * size):
            raise TooLarge(
                f"{name} would unpack to more than {unpacked >> 20} MB, {unpacked / size:.0f} times its size: it is "
                "damaged or malicious; export it as Explicit VR Little Endian"
            )

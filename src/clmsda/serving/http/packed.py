"""Packed arrays: a header (magic, version, codec, dtype, shape) and chunks that blosc2 compressed.

The form in which nnInteractive's remote clients send images and masks. What arrives is never believed: sizes are
checked against the body and the caller's limit before memory is asked for.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from clmsda.errors import InputError
from clmsda.serving.http.answers import TooMuch

MAGIC = b"NNIA"
VERSION = 1
ZSTD, LZ4 = 1, 2
CHUNK = 1 << 30
"""Bytes of one chunk, at most: blosc2 counts in 32 bits."""
DTYPES = (
    "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64",
)  # fmt: skip

_HEAD, _SIZES = struct.Struct("<4sBBBB"), struct.Struct("<QQ")
_COUNT = struct.Struct("<I")

# Of a blosc2 chunk's header of 32 bytes (c-blosc2, README_CHUNK_FORMAT).
_CHUNK_HEAD = struct.Struct("<BBBBiii6s2x6s1xB")
_EXTENDED = 0b101
_LAZY = 0b1000
_FORMATS = {0: "BloscLZ", 1: "LZ4", 3: "zlib", 4: "ZSTD"}
_FILTERS = {0, 1, 2, 3, 4, 34, 35, 36}
"""None, shuffle, bit shuffle, delta, truncated precision, byte delta, truncated integers. Others are plug-ins that need
more than a chunk: they would read what is not there."""


class BadArray(InputError):
    """Bytes that are no packed array, or a damaged one."""


@dataclass(frozen=True)
class Header:
    """What a packed array says of itself. begin: where its chunks begin."""

    dtype: np.dtype
    shape: tuple[int, ...]
    begin: int

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


def pack(array: NDArray) -> bytes:
    """An array of one of `DTYPES`, packed with ZSTD."""
    import blosc2

    array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    name = array.dtype.name.encode()
    chunks = [array.reshape(-1).view(np.uint8)[at : at + CHUNK] for at in range(0, array.nbytes, CHUNK)]
    head = _HEAD.pack(MAGIC, VERSION, ZSTD, array.ndim, len(name)) + name
    parts = [head, struct.pack(f"<{array.ndim}q", *array.shape), _COUNT.pack(len(chunks))]
    for chunk in chunks:
        packed = blosc2.compress2(
            chunk, typesize=array.itemsize, codec=blosc2.Codec.ZSTD, clevel=3, filters=[blosc2.Filter.NOFILTER]
        )
        parts += [_SIZES.pack(chunk.nbytes, len(packed)), packed]
    return b"".join(parts)


def header(data: bytes | bytearray) -> Header:
    """What a packed array is, before it is unpacked. Raises BadArray."""
    try:
        magic, version, codec, ndim, length = _HEAD.unpack_from(data)
        name = bytes(data[_HEAD.size : _HEAD.size + length]).decode("ascii")
        shape = struct.unpack_from(f"<{ndim}q", data, _HEAD.size + length)
    except (struct.error, UnicodeDecodeError) as error:
        raise BadArray("expected a packed array, found bytes that are none or break off: send it again") from error
    if magic != MAGIC:
        raise BadArray(f"expected a packed array, which begins with {MAGIC!r}; found {bytes(magic)!r}")
    if version != VERSION or codec not in (ZSTD, LZ4):
        raise BadArray(
            f"expected a packed array of version {VERSION} and codec {ZSTD} or {LZ4}; found version {version}, "
            f"codec {codec}: is the client newer than this server?"
        )
    if name not in DTYPES:
        raise BadArray(f"expected numbers of type {', '.join(DTYPES)}; found {name[:20]!r}")
    if not 1 <= ndim <= 4 or min(shape) < 1:
        raise BadArray(f"expected one to four lengths of at least 1, found {list(shape[:8])}")
    return Header(np.dtype(name), tuple(shape), _HEAD.size + length + 8 * ndim)


def unpack(data: bytes | bytearray, *, most_bytes: int) -> NDArray:
    """The array that `pack`, or a client, packed. Raises BadArray, and TooMuch for one of more than `most_bytes`."""
    head = header(data)
    if head.nbytes > most_bytes:
        raise TooMuch(
            f"an array of {' x '.join(map(str, head.shape))} {head.dtype} takes {head.nbytes / 2**20:,.0f} MB, "
            f"at most {most_bytes / 2**20:,.0f} MB are taken: send a part of it"
        )
    import blosc2

    chunks = list(_chunks(memoryview(data), head))  # all checked before memory is asked for
    raw = np.zeros(head.nbytes, np.uint8)
    written = 0
    for length, chunk in chunks:
        try:
            blosc2.decompress2(chunk, dst=raw[written : written + length])
        except (RuntimeError, ValueError) as error:
            raise BadArray("a chunk of the packed array is damaged: send it again") from error
        written += length
    if head.dtype == bool:
        np.minimum(raw, 1, out=raw)  # numpy's bool must not hold anything else
    return raw.view(head.dtype).reshape(head.shape)


def _chunks(data: memoryview, head: Header) -> Iterator[tuple[int, memoryview]]:
    """Length once unpacked and bytes of each chunk; together they fill the array, and the body holds nothing else."""
    try:
        (count,) = _COUNT.unpack_from(data, head.begin)
        at, left = head.begin + _COUNT.size, head.nbytes
        for _ in range(count):
            length, packed = _SIZES.unpack_from(data, at)
            at += _SIZES.size
            chunk = data[at : at + packed]
            at, left = at + packed, left - length
            if len(chunk) != packed or left < 0 or not 0 < length <= CHUNK:
                break
            _check_chunk(chunk, length)
            yield length, chunk
        else:
            if left == 0 and at == len(data):
                return
    except struct.error as error:
        raise BadArray("the packed array breaks off: send it again") from error
    raise BadArray("the chunks of the packed array do not make up what its header says: send it again")


def _check_chunk(chunk: memoryview, length: int) -> None:
    """Refuse a chunk whose header contradicts the array's, or asks for more than a chunk holds."""
    _, _, flags, typesize, raw, _, packed, filters, _, flags2 = _CHUNK_HEAD.unpack_from(chunk)
    if flags & _EXTENDED != _EXTENDED or flags2 & _LAZY or not typesize:
        raise BadArray("a chunk of the packed array is not one that blosc2 writes for memory: send it again")
    if raw != length or packed != len(chunk):
        raise BadArray(
            f"a chunk of the packed array should hold {length} bytes in {len(chunk)}, its own header says {raw} in "
            f"{packed}: send it again"
        )
    if flags >> 5 not in _FORMATS or not set(filters) <= _FILTERS:
        raise BadArray("a chunk of the packed array needs a codec or a filter that is a plug-in: pack it without")

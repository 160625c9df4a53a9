"""NRRD and MetaImage files, looked at before ITK is: it takes headers at their word, asks for the memory that they
claim, stumbles (endless loops, crashes) over dimensions and directions that no image has, and makes voxels of whatever
memory holds where a MetaImage is packed and damaged, or lists too few files.

Formats: http://teem.sourceforge.net/nrrd/format.html, https://itk.org/Wiki/ITK/MetaIO/Documentation.
"""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

from clmsda.geometry import FARTHEST_MM
from clmsda.images.errors import UnreadableFile
from clmsda.images.plausibility import check_size

HEADER_BYTES = 1 << 20
BLOCK_BYTES = 1 << 22
MOST_DIMENSIONS = 10
MOST_DEFLATED = 1032
"""Deflate makes a byte of at most so many (zlib's documentation)."""

_PLACES = re.compile(
    r"space directions|space origin|spacings|TransformMatrix|Rotation|Orientation|Offset|Position|Origin|"
    r"CenterOfRotation|ElementSpacing|ElementSize",
    re.IGNORECASE,
)
"""Fields of numbers in mm, or directions."""
_TEXT = ("txt", "text", "ascii")
_BYTES = (
    (8, ("long_long", "long long", "longlong", "int64", "double")),
    (2, ("int16", "short")),
    (1, ("int8", "char")),
    (4, ("int", "long", "float")),
)
"""Of a number, by what the name of its type holds, looked for in this order."""


@dataclass(frozen=True)
class _Header:
    """size: bytes of all voxels, at least. packed: by deflate; checked: with a stream that can be followed.

    files: with the voxels; the header's own where they follow at `starts_at`. stream: bytes to unpack, 0 for all.
    """

    sizes: list[int]
    size: int
    packed: bool
    checked: bool
    files: list[Path]
    starts_at: int = 0
    stream: int = 0


def check_header(path: Path) -> None:
    """Raise UnreadableFile or TooLarge for what no header of this file can say, and for packed voxels that are not
    whole; OSError."""
    with open(path, "rb") as file:
        head = file.read(HEADER_BYTES)
    header = (_nrrd if path.name.lower().endswith((".nrrd", ".nhdr")) else _meta)(path, head)
    for file_of_voxels in header.files:
        if not file_of_voxels.is_file():
            raise UnreadableFile(
                f"{path} keeps its voxels in {file_of_voxels.name}, which is no file beside it: give both"
            )
    there = sum(one.stat().st_size for one in header.files)
    held = there * (MOST_DEFLATED if header.packed else 1)
    if header.size > held or header.stream > there:
        raise UnreadableFile(
            f"{path} is truncated or damaged: its header claims {'x'.join(map(str, header.sizes))} voxels, more "
            f"than the {there} bytes that are there can hold; fetch it again"
        )
    if header.checked:
        _check_packed(path, header)


def _nrrd(path: Path, head: bytes) -> _Header:
    text = re.split(rb"\r?\n\r?\n", head, maxsplit=1)[0]
    fields = _checked(_nrrd_fields(text.decode("latin-1")), path)
    sizes = _sizes(fields.get("dimension", ""), fields.get("sizes", ""), path)
    encoding = fields.get("encoding", "").lower()
    item = 1 if encoding in _TEXT else _item_bytes(fields.get("type", ""))
    where = fields.get("data file", fields.get("datafile", ""))
    files = _data_files(path, where, head, sizes[-1])
    checked = encoding in ("gz", "gzip") and len(files) == 1 and fields.get("line skip", "0") == "0"
    between = re.match(rb"\r?\n\r?\n", head[len(text) :])
    starts_at = 0 if where or between is None else len(text) + between.end()
    return _Header(sizes, prod(sizes) * item, encoding not in ("raw", "hex", *_TEXT), checked, files, starts_at)


def _meta(path: Path, head: bytes) -> _Header:
    last = re.search(rb"^[ \t]*ElementDataFile[ \t]*[=:].*\n?", head, re.IGNORECASE | re.MULTILINE)
    length = last.end() if last else len(head)
    fields = _checked(_meta_fields(head[:length].decode("latin-1")), path)
    sizes = _sizes(fields.get("ndims", ""), fields.get("dimsize", ""), path)
    item = 1 if fields.get("binarydata", "true")[:1] in "Ff0" else _item_bytes(fields.get("elementtype", ""))
    packed = fields.get("compresseddata", "")[:1] in ("T", "t", "1")
    where = fields.get("elementdatafile", "")
    local = where.upper() == "LOCAL"
    files = _data_files(path, "" if local else where or "LOCAL", head, sizes[-1])
    words = where.split()
    if words[:1] == ["LIST"] and (words[1:] not in ([], [str(len(sizes) - 1)]) or len(files) != sizes[-1]):
        raise UnreadableFile(f"{path} lists {len(files)} files for {sizes[-1]} slices: expected one for each")
    if packed and (len(files) > 1 or fields.get("headersize", "0") != "0"):
        raise UnreadableFile(f"{path} has packed voxels in several files or behind a header: write it in one file")
    claimed = fields.get("compresseddatasize", "0")
    stream = _whole(claimed) or (0 if claimed == "0" else sys.maxsize)  # what is no number, no file holds
    return _Header(sizes, prod(sizes) * item, packed, packed, files, length if local else 0, stream)


def _nrrd_fields(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines()[1:]:
        name, colon, value = line.partition(":")
        if colon and not value.startswith("=") and not line.startswith("#"):
            yield name.strip(), value.strip()


def _meta_fields(text: str) -> Iterator[tuple[str, str]]:
    for line in text.split("\n"):
        name, *value = re.split("[=:]", line, maxsplit=1)
        yield name.strip(), "".join(value).strip()


def _checked(fields: Iterator[tuple[str, str]], path: Path) -> dict[str, str]:
    """Values by name in small letters. Raises UnreadableFile for a place or a direction that is none."""
    found = {}
    for name, value in fields:
        found[name.lower()] = value
        for text in re.split(r"[\s,()]+", value) if _PLACES.fullmatch(name) else ():
            _check_number(text, name, path)
    return found


def _check_number(text: str, field: str, path: Path) -> None:
    if text in ("", "none") or (text.lower() == "nan" and field.lower() == "spacings"):  # of axes without a place
        return
    try:
        fine = abs(float(text)) <= FARTHEST_MM
    except ValueError:
        fine = False
    if not fine:
        raise UnreadableFile(
            f"{path} is damaged: expected numbers of at most {FARTHEST_MM:g} in {field!r} of its header, found "
            f"{text[:40]!r}"
        )


def _sizes(dimensions: str, lengths: str, path: Path) -> list[int]:
    """The lengths of the axes. Raises UnreadableFile, TooLarge."""
    sizes = [_whole(text) for text in lengths.split()]
    if _whole(dimensions) != len(sizes) or not 1 <= len(sizes) <= MOST_DIMENSIONS or min(sizes) < 1:
        raise UnreadableFile(f"{path} is damaged: expected 1 to {MOST_DIMENSIONS} dimensions and a length of each")
    check_size(sizes, str(path))
    return sizes


def _whole(text: str) -> int:
    """A whole number, 0 for what is none."""
    return int(text) if re.fullmatch(r"\d{1,18}", text, re.ASCII) else 0


def _item_bytes(kind: str) -> int:
    return next((size for size, words in _BYTES if any(word in kind.lower() for word in words)), 1)


def _data_files(path: Path, where: str, head: bytes, slices: int) -> list[Path]:
    """The files that hold the voxels: the header's own, one beside it, a list of them, or a row that is counted."""
    words = where.split()
    if not where:
        return [path]
    if words[0].upper() == "LIST":
        lines = [line.strip() for line in head.decode("latin-1").splitlines()]
        start = next(n for n, line in enumerate(lines) if line.endswith(where)) + 1
        return [path.parent / line for line in lines[start:] if line]
    pattern = re.fullmatch(r"([^%]*)%(0?\d?)d([^%]*)", words[0])
    if pattern is None:
        return [path.parent / where]
    first, last, step = map(_whole, words[1:4]) if len(words) >= 4 else (1, slices, 1)  # without, as MetaIO has it
    numbers = range(first, last + 1, max(1, step))
    if len(numbers) != slices:
        raise UnreadableFile(f"{path} counts {len(numbers)} files for {slices} slices: expected one for each")
    return [path.parent / f"{pattern[1]}{number:{pattern[2]}d}{pattern[3]}" for number in numbers]


def _check_packed(path: Path, header: _Header) -> None:
    """Raise UnreadableFile unless deflate's stream is whole, by its own sum, and holds all voxels."""
    unpacker, unpacked, rest = zlib.decompressobj(zlib.MAX_WBITS | 32), 0, b""  # zlib's or gzip's
    left = header.stream or header.files[0].stat().st_size
    with open(header.files[0], "rb") as file:
        file.seek(header.starts_at)
        try:
            while not unpacker.eof and unpacked <= 2 * header.size + BLOCK_BYTES:
                if not rest:
                    rest = file.read(min(left, BLOCK_BYTES))
                    left -= len(rest)
                if not rest:
                    break
                unpacked += len(unpacker.decompress(rest, BLOCK_BYTES))
                rest = unpacker.unconsumed_tail
        except zlib.error as error:
            raise UnreadableFile(f"{path} is damaged: its voxels cannot be unpacked; fetch it again") from error
    if not unpacker.eof or unpacked < header.size:
        raise UnreadableFile(
            f"{path} is truncated or damaged: {unpacked} of {header.size} bytes of voxels could be unpacked, or more "
            "follow; fetch it again"
        )

"""Headers of NRRD and MetaImage files, looked at before ITK is: it takes them at their word, asks for the memory that
they claim, and stumbles (endless loops, crashes) over dimensions and directions that no image has.

Formats: http://teem.sourceforge.net/nrrd/format.html, https://itk.org/Wiki/ITK/MetaIO/Documentation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import prod
from pathlib import Path

from clmsda.geometry import FARTHEST_MM
from clmsda.images.errors import UnreadableFile
from clmsda.images.plausibility import check_size

HEADER_BYTES = 1 << 20
MOST_DIMENSIONS = 10
MOST_DEFLATED = 1032
"""Deflate makes a byte of at most so many (zlib's documentation)."""

_PLACES = re.compile(
    r"space directions|space origin|spacings|TransformMatrix|Rotation|Orientation|Offset|Position|Origin|"
    r"CenterOfRotation|ElementSpacing|ElementSize",
    re.IGNORECASE,
)
"""Fields of numbers in mm, or directions."""
_PLAIN = {"raw", "txt", "text", "ascii", "hex"}


def check_header(path: Path) -> None:
    """Raise UnreadableFile or TooLarge for a header that no image of this file can have. OSError."""
    with open(path, "rb") as file:
        head = file.read(HEADER_BYTES)
    is_nrrd = path.name.lower().endswith((".nrrd", ".nhdr"))
    fields = [*(_nrrd_fields(head) if is_nrrd else _meta_fields(head))]
    named = {name.lower(): value for name, value in fields}
    for name, value in fields:
        if _PLACES.fullmatch(name):
            for text in re.split(r"[\s,()]+", value):
                _check_number(text, name, path)
    sizes = _sizes(named.get("dimension" if is_nrrd else "ndims", ""), named.get("sizes" if is_nrrd else "dimsize", ""))
    if not sizes:
        raise UnreadableFile(f"{path} is damaged: expected 1 to {MOST_DIMENSIONS} dimensions and a length of each")
    check_size(sizes, str(path))
    if is_nrrd:
        packed = named.get("encoding", "").lower() not in _PLAIN
        where = named.get("data file", named.get("datafile", ""))
    else:
        packed = named.get("compresseddata", "")[:1] in ("T", "t", "1")
        where = named.get("elementdatafile", "").removeprefix("LOCAL").removeprefix("local")
    held = sum(file.stat().st_size for file in _data_files(path, where, head)) * (MOST_DEFLATED if packed else 1)
    if prod(sizes) > held:
        raise UnreadableFile(
            f"{path} is truncated or damaged: its header claims {'x'.join(map(str, sizes))} voxels, of which at most "
            f"{held} bytes can be there; fetch it again"
        )


def _nrrd_fields(head: bytes) -> Iterator[tuple[str, str]]:
    """Names and values, in order: up to an empty line."""
    for line in re.split(rb"\r?\n\r?\n", head, maxsplit=1)[0].decode("latin-1").splitlines()[1:]:
        name, colon, value = line.partition(":")
        if colon and not value.startswith("=") and not line.startswith("#"):
            yield name.strip(), value.strip()


def _meta_fields(head: bytes) -> Iterator[tuple[str, str]]:
    """Names and values, in order: up to the one that says where the voxels are."""
    for line in head.decode("latin-1").split("\n"):
        name, *rest = re.split("[=:]", line, maxsplit=1)
        yield name.strip(), "".join(rest).strip()
        if name.strip().lower() == "elementdatafile":
            return


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


def _sizes(dimensions: str, lengths: str) -> list[int]:
    """The lengths of the axes, or nothing where there are not as many as dimensions."""
    sizes = [_whole(text) for text in lengths.split()]
    fine = _whole(dimensions) == len(sizes) and 1 <= len(sizes) <= MOST_DIMENSIONS and min(sizes) >= 1
    return sizes if fine else []


def _whole(text: str) -> int:
    """A whole number, 0 for what is none."""
    return int(text) if re.fullmatch(r"\d{1,18}", text, re.ASCII) else 0


def _data_files(path: Path, where: str, head: bytes) -> list[Path]:
    """The files that hold the voxels: the header's own, one beside it, a list of them, or a row that is counted."""
    words = where.split()
    if not where:
        return [path]
    if words[0].upper() == "LIST":
        lines = [line.strip() for line in head.decode("latin-1").splitlines()]
        start = next(n for n, line in enumerate(lines) if line.endswith(where)) + 1
        names = [line for line in lines[start:] if line]
    elif "%" in where:
        return [*path.parent.glob(re.sub(r"%\d*[a-z]", "*", words[0]))]
    else:
        names = [where]
    files = [path.parent / name for name in names]
    for file in files:
        if not file.is_file():
            raise UnreadableFile(f"{path} keeps its voxels in {file.name}, which is no file beside it: give both")
    return files

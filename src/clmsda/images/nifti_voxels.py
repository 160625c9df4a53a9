"""NIfTI files in, from their bytes: ITK's reader fills in what is missing and mends what contradicts, silently."""

from __future__ import annotations

import gzip
from io import BufferedReader
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clmsda.geometry import Volume
from clmsda.images.errors import NotHounsfield
from clmsda.images.nifti_header import NIFTI_2, Header, grid_of, parse
from clmsda.images.plausibility import check_size, check_straight

BLOCK_BYTES = 1 << 22
MOST_BEHIND = 1 << 26
"""Bytes that may follow the voxels, unless the voxels are more; of more, a small gzip may hold without end."""
MOST_DEFLATED = 1032
"""Deflate makes a byte of at most so many (zlib's documentation)."""


def read_nifti(path: Path) -> Volume:
    """The image as stored, scaled where the header says so, with the axes k, j, i, in the file's order.

    Read to its end, with the sum that gzip keeps over all bytes. Raises EOFError or what gzip raises where it is
    truncated or damaged, NotHounsfield (NaN or infinite voxels), TooLarge, GantryTilt (a sheared grid), and what
    `clmsda.images.nifti_header` does.
    """
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else open(path, "rb") as stream:
        header = parse(stream.read(NIFTI_2), str(path))
        check_size(header.shape, str(path))
        grid = grid_of(header)
        check_straight(grid, str(path))
        stored = _stored(stream, header, path.stat().st_size * (MOST_DEFLATED if packed else 1))
    if stored.dtype.kind == "f" and not np.isfinite(stored).all():
        strange = int(np.count_nonzero(~np.isfinite(stored)))
        raise NotHounsfield(f"{path}: {strange} voxels are not a number or infinite; expected Hounsfield units")
    return Volume(_scaled(stored, header.scale).reshape(grid.shape), grid, path.name)


def _stored(stream: gzip.GzipFile | BufferedReader, header: Header, at_most: int) -> NDArray:
    """The numbers as stored, flat. at_most: bytes that the file can hold."""
    expected = int(np.prod(header.shape)) * header.kind.itemsize
    if expected > at_most:  # before memory is asked for
        raise EOFError(f"{at_most} of {expected} bytes of voxels can be there")
    stream.seek(header.starts_at)
    stored = np.empty(expected, np.uint8)
    found = 0
    while found < expected and (count := stream.readinto(stored[found : found + BLOCK_BYTES].data)):
        found += count
    if found < expected:
        raise EOFError(f"{found} of {expected} bytes of voxels are there")
    behind = 0
    while block := stream.read(BLOCK_BYTES):  # to the end, where gzip keeps its sum
        behind += len(block)
        if behind > max(MOST_BEHIND, expected):
            raise EOFError(f"it goes on for more than {behind >> 20} MB behind its voxels")
    numbers = stored.view(header.kind)
    return numbers if header.kind.isnative else numbers.astype(header.kind.newbyteorder("="))


def _scaled(stored: NDArray, scale: tuple[float, float] | None) -> NDArray:
    """Single precision where it holds what is stored exactly, else double."""
    if scale in (None, (1.0, 0.0)):
        return stored
    slope, intercept = scale or (1.0, 0.0)
    small = stored.dtype.itemsize <= 2 or stored.dtype == np.float32
    with np.errstate(over="ignore"):  # to infinite, which is refused
        values = np.add(np.multiply(stored, slope, dtype=np.float64), intercept)
        return values.astype(np.float32 if small else np.float64)

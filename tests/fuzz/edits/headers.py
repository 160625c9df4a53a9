"""Damage to binary headers: fields of NIfTI, and what a gzip stream unpacks to."""

from __future__ import annotations

import gzip
import random
import struct
from functools import cache

from fuzz.cases import Edit, Files

# name: (where it begins, type, how many); nifti1.h
FIELDS = {
    "sizeof_hdr": (0, "i", 1), "dim_info": (39, "b", 1), "dim": (40, "h", 8), "intent_code": (68, "h", 1),
    "datatype": (70, "h", 1), "bitpix": (72, "h", 1), "pixdim": (76, "f", 8), "vox_offset": (108, "f", 1),
    "scl_slope": (112, "f", 1), "scl_inter": (116, "f", 1), "xyzt_units": (123, "b", 1), "cal": (124, "f", 2),
    "codes": (252, "h", 2), "quatern": (256, "f", 6), "srow": (280, "f", 12), "magic": (344, "b", 4), "ext": (348, "b", 4),
}  # fmt: skip
WHOLE = (0, 1, 2, 3, 4, 5, 7, 8, 16, 17, 348, 352, 540, 1000, 32767, 1 << 31, 1 << 40, -1, -2, -32768, -(1 << 31))
REAL = (0.0, 1.0, -1.0, 0.5, 2.0, 1e-40, 1e-6, 1e6, 1e38, -1e38, 351.5, float("nan"), float("inf"), float("-inf"))
TYPES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 255, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304, -1, 3)
NIFTI, PACKED = (".nii", ".nii.gz"), ".gz"
BLOCK = 1 << 26


def _field(files: Files, path: str, name: str, index: int, value: float) -> None:
    """Set a number of a NIfTI's header; packed files are packed again."""
    data = _unpacked(files, path)
    start, kind, _ = FIELDS[name]
    size = struct.calcsize(kind)
    if kind in "bhiq":
        bits = 8 * size
        value = (int(value) + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))
    changed = bytearray(data)
    struct.pack_into("<" + kind, changed, start + index * size, value)
    files[path] = _packed(bytes(changed), path)


def _swell(files: Files, path: str, blocks: int) -> None:
    """Let a packed file go on with blocks of 64 MiB of zeros, of which each takes 64 KiB."""
    files[path] += _zeros() * blocks


def _pack(files: Files, path: str) -> None:
    """Pack a file that its name says is not packed, or unpack one that it says is."""
    files[path] = gzip.decompress(files[path]) if path.endswith(PACKED) else gzip.compress(files[path], 1, mtime=0)


OPERATIONS = {"field": _field, "swell": _swell, "pack": _pack}


def _unpacked(files: Files, path: str) -> bytes:
    return gzip.decompress(files[path]) if path.endswith(PACKED) else files[path]


def _packed(data: bytes, path: str) -> bytes:
    return gzip.compress(data, 1, mtime=0) if path.endswith(PACKED) else data


@cache
def _zeros() -> bytes:
    return gzip.compress(bytes(BLOCK), 9, mtime=0)


def draw(rng: random.Random, files: Files) -> Edit | None:
    """A field of a NIfTI's header, or more than the header says behind it."""
    path = rng.choice(sorted(path for path in files if path.endswith(NIFTI)) or [""])
    if not path:
        return None
    if rng.random() < 0.04:
        return ["swell", path, rng.choice((1, 8, 64))] if path.endswith(PACKED) else ["pack", path]
    name = rng.choice(("dim", "dim", "pixdim", "srow", "quatern", "codes", *FIELDS))
    _, kind, count = FIELDS[name]
    values: tuple[float, ...] = TYPES if name == "datatype" else REAL if kind in "fd" else WHOLE
    return ["field", path, name, rng.randrange(count), rng.choice(values)]

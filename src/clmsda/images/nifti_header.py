"""What ITK's NIfTI reader mends without a word, read from the bytes and refused by name.

ITK reads the missing end of a truncated file as zeros, NaN and infinity as 0, and a spacing of 0 as 1 mm.
Layouts: nifti1.h and nifti2.h of the NIfTI Data Format Working Group.
"""

from __future__ import annotations

import gzip
import logging
import math
from io import BufferedReader
from pathlib import Path

import numpy as np

from clmsda.images.errors import ImpossibleSpacing, NotHounsfield

LAYOUTS = {
    348: {  # NIfTI-1: header's length, then where each field begins and its type
        "dim": (40, "8i2"),
        "datatype": (70, "i2"),
        "bitpix": (72, "i2"),
        "pixdim": (76, "8f4"),
        "vox_offset": (108, "f4"),
        "form_codes": (252, "2i2"),
    },
    540: {
        "datatype": (12, "i2"),
        "bitpix": (14, "i2"),
        "dim": (16, "8i8"),
        "pixdim": (104, "8f8"),
        "vox_offset": (168, "i8"),
        "form_codes": (344, "2i4"),
    },
}
FLOATS = {16: "f4", 64: "f8"}
BLOCK_BYTES = 1 << 22

log = logging.getLogger(__name__)


def check_nifti(path: Path) -> None:
    """Read a .nii or .nii.gz to its end, including the sum that gzip keeps over all bytes.

    Raises EOFError (or what gzip raises) where it is truncated or damaged, ImpossibleSpacing,
    NotHounsfield (NaN or infinite voxels).
    """
    with gzip.open(path) if path.name.lower().endswith(".gz") else open(path, "rb") as stream:
        header, order = _header(stream)
        spacing = header["pixdim"][1:4]
        if not (np.isfinite(spacing).all() and (spacing > 0).all()):
            found = " x ".join(f"{value:g}" for value in spacing)
            raise ImpossibleSpacing(f"{path} has voxels of {found} mm in its header: correct pixdim[1] to pixdim[3]")
        if not header["form_codes"].any():
            log.warning("%s does not say where its voxels lie (qform and sform codes 0): sides are assumed", path)
        numbers = math.prod(int(n) for n in header["dim"][1 : 1 + max(1, min(int(header["dim"][0]), 7))])
        _check_voxels(stream, path, header, order, numbers * int(header["bitpix"]) // 8)


def _header(stream: gzip.GzipFile | BufferedReader) -> tuple[np.void, str]:
    """The fields of the header, and the byte order."""
    raw = stream.read(540)
    for order in "<>":
        length = int(np.frombuffer(raw[:4], order + "i4")[0]) if len(raw) == 540 else 0
        if length in LAYOUTS:
            layout = LAYOUTS[length]
            formats = [kind[:-2] + order + kind[-2:] for _, kind in layout.values()]
            offsets = [offset for offset, _ in layout.values()]
            fields = np.dtype({"names": list(layout), "formats": formats, "offsets": offsets, "itemsize": 540})
            return np.frombuffer(raw, fields)[0], order
    raise EOFError("it has no whole NIfTI header")


def _check_voxels(
    stream: gzip.GzipFile | BufferedReader, path: Path, header: np.void, order: str, expected: int
) -> None:
    """Raise unless `expected` bytes of voxels are there, and all are numbers."""
    stream.seek(int(header["vox_offset"]))
    kind = FLOATS.get(int(header["datatype"]))
    found = strange = 0
    while block := stream.read(BLOCK_BYTES):
        part = block[: max(0, expected - found)]
        if kind is not None and len(part) % int(kind[1]) == 0:
            strange += int(np.count_nonzero(~np.isfinite(np.frombuffer(part, order + kind))))
        found += len(block)
    if found < expected:
        raise EOFError(f"{found} of {expected} bytes of voxels are there")
    if strange:
        raise NotHounsfield(f"{path}: {strange} voxels are not a number or infinite; expected Hounsfield units")

"""Which pixels of a DICOM image are padding: no measurement, whatever their value (PS3.3 C.7.5.1.1.2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clmsda.images.dicom_files import DicomFile
from clmsda.images.errors import IncompleteHeader


def padding(file: DicomFile, stored: NDArray) -> NDArray[np.bool_] | None:
    """Where `stored` values are PixelPaddingValue, or between it and PixelPaddingRangeLimit; None without these.

    Raises IncompleteHeader for a value that is no number.
    """
    header = file.header
    value = header.get("PixelPaddingValue")
    if value is None:
        return None
    limit = header.get("PixelPaddingRangeLimit")
    try:
        ends = [int(value), int(value if limit is None else limit)]
    except (TypeError, ValueError) as error:
        raise IncompleteHeader(
            f"{file.name} has a PixelPaddingValue that is no number: correct or remove it"
        ) from error
    allocated, bits = int(header.get("BitsAllocated") or 16), int(header.get("BitsStored") or 16)
    signed = header.get("PixelRepresentation") == 1
    low, high = sorted(as_stored(end, allocated, signed) for end in ends)
    lowest, highest = (-1 << bits - 1, 1 << bits - 1) if signed else (0, 1 << bits)
    if lowest <= low and high < highest:
        return np.asarray((stored >= low) & (stored <= high))
    return _in_all_bits(file, low, high, signed, stored.shape)


def as_stored(number: int, bits: int, signed: bool) -> int:
    """A value as pixels of so many bits have it. Many headers have it with the wrong sign: 63536 for -2000."""
    number %= 1 << bits
    return number - (1 << bits) if signed and number >= 1 << bits - 1 else number


def _in_all_bits(
    file: DicomFile, low: int, high: int, signed: bool, shape: tuple[int, ...]
) -> NDArray[np.bool_] | None:
    """Padding beyond the bits that are said to be stored: decoders take those bits away, so the bytes must tell."""
    syntax = file.header.file_meta.TransferSyntaxUID
    if syntax.is_compressed or not syntax.is_little_endian or file.header.get("BitsAllocated") != 16:
        return None
    count = int(np.prod(shape))
    whole = np.frombuffer(file.header.PixelData, "<i2" if signed else "<u2", count).reshape(shape)
    return np.asarray((whole >= low) & (whole <= high))

"""DICOM objects to Part 10 files, and what all of them have in common."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clmsda.files import replacing

if TYPE_CHECKING:
    from pydicom import Dataset

SERIES_NUMBERS = {"SEG": 9001, "RTSTRUCT": 9002, "SR": 9003}
"""Numbers of the new series, beyond those that scanners give."""

COLORS = ((255, 183, 77), (79, 195, 247), (244, 143, 177), (174, 213, 129), (186, 104, 200), (255, 241, 118))
"""Red, green and blue of the first lesions; then they begin anew."""


def new_identity(modality: str) -> dict[str, Any]:
    """The names under which a new object is filed: fresh UIDs, one series per object."""
    from pydicom.uid import generate_uid

    return {
        "series_instance_uid": generate_uid(None),
        "series_number": SERIES_NUMBERS[modality],
        "sop_instance_uid": generate_uid(None),
        "instance_number": 1,
        "series_description": f"clmsda {modality}, for research use only",
    }


def color_of(number: int) -> tuple[int, int, int]:
    """The color in which viewers draw lesion 1, 2, ..., in every object."""
    return COLORS[(number - 1) % len(COLORS)]


def short_text(text: str) -> str:
    """A name as a short attribute (VR LO) can hold it: 64 characters of any script, no backslash, no line breaks."""
    return "".join(c if c.isprintable() else " " for c in text).replace("\\", "/")[:64]


def declare_characters(dataset: Dataset, texts: Iterable[str]) -> None:
    """Say that an object is in UTF-8 (PS3.3 C.12.1.1.2) where what it names needs more than ASCII.

    The patient's name is written anew in it, the same. Where ASCII is enough the series' own character set stays.
    """
    if not all(text.isascii() for text in texts):
        dataset.SpecificCharacterSet = "ISO_IR 192"


def write_dataset(dataset: Dataset, path: str | os.PathLike[str]) -> None:
    """Write a DICOM object as a Part 10 file (preamble, meta header), whole or not at all. Raises OutputError."""
    from pydicom.config import disable_value_validation

    with replacing(Path(path)) as temporary, disable_value_validation():  # it would quote odd values of the patient
        dataset.save_as(temporary, enforce_file_format=True)

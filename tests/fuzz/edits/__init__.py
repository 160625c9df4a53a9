"""Damage: operations on the files of a sample, drawn at random and applied in order.

Each module has `OPERATIONS` (by name, each a function of files, file and JSON values that changes `files` in place)
and `draw(rng, files)`, which gives an edit of that family or None where no file fits.
"""

from __future__ import annotations

import random

from fuzz.cases import Edit, Files
from fuzz.edits import archives, dicom, documents, headers, octets, texts

FAMILIES = {
    "octets": octets.draw,
    "dicom": dicom.draw,
    "folder": octets.draw_file,
    "headers": headers.draw,
    "texts": texts.draw,
    "documents": documents.draw,
    "archives": archives.draw,
}
OPERATIONS = {
    name: operation
    for module in (octets, dicom, headers, texts, documents, archives)
    for name, operation in module.OPERATIONS.items()
}


def draw(rng: random.Random, files: Files, families: tuple[str, ...]) -> Edit | None:
    """An edit of one of the families; the first is drawn as often as all others together."""
    family = families[0] if rng.random() < 0.5 else rng.choice(families)
    return FAMILIES[family](rng, files)


def apply(files: Files, edit: Edit) -> None:
    """Change `files` in place. What an earlier edit has taken away, or spoiled beyond editing, stays as it is."""
    name, target, *values = edit
    for path in [path for path in list(files) if target in ("*", path)] or [target]:
        try:
            OPERATIONS[name](files, path, *values)
        except (Exception, RecursionError):
            continue

"""`Case` and `Cohort`: a table that people can read, and slabs that training can map.

    COHORT/cohort.csv             one row per case: where it came from, what its tumor measures
    COHORT/slabs/CASE.npy         int16 HU, (slices, rows, columns): the tumor's slices and a margin
    COHORT/slabs/CASE.mask.npy    uint8, the same voxels: 1 is tumor

Reading a slab maps it: nothing is decompressed, and a worker holds only the pages that it touches.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError

from clmsda.errors import InputError
from clmsda.files import map_array, replacing
from clmsda.geometry import Grid, Volume

TABLE = "cohort.csv"
NAME = r"^\w[\w .+=@-]*$"
"""What a case may be called: its name is also that of its files."""
NOT_STUDIED = ("image", "mask", "series", "roi", "histology", "collection", "every")
"""Columns that no split, training or score depends on."""

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Index = Annotated[int, Field(ge=0)]


class CohortError(InputError):
    """A cohort folder that is missing, damaged or contradicts itself."""


@dataclass(frozen=True)
class Case:
    """One tumor of one patient. Paths are relative to the cohort's folder where they lie in it.

    patient: cases with the same patient are never split between training, validation and test.
    size_mm, center_mm: longest diameter, and center, in the axial slice of largest area (paper 2.1).
    slab_affine: from (slice, row, column) of the slab to LPS mm, twelve numbers, row by row.
    tumor_slices: first and last slice with tumor, counted in the slab.
    series, roi: which DICOM series in `image`, and which region of `mask`, where there is a choice.
    histology: in lower case, where the source tells. collection: of several in one cohort. every: which slices of the
        source are in the slab, 1 for all of them.
    slab_crc32: of the voxels of both slabs when they were written. Tables without the last six columns open, too.
    """

    case: Annotated[str, Field(pattern=NAME)]
    patient: str
    image: str
    mask: str
    size_mm: Positive
    volume_ml: Positive
    size_group: Annotated[int, Field(ge=1, le=3)]
    center_mm: tuple[Finite, Finite, Finite]
    pixel_mm: Positive
    slice_mm: Positive
    slab_affine: Annotated[tuple[Finite, ...], Field(min_length=12, max_length=12)]
    tumor_slices: tuple[Index, Index]
    series: str = ""
    roi: str = ""
    histology: str = ""
    collection: str = ""
    every: Annotated[int, Field(ge=1)] = 1
    slab_crc32: str = ""


_CASE = TypeAdapter(Case)


@dataclass(frozen=True)
class Cohort:
    """The cases of one folder, in order of their names."""

    folder: Path
    cases: tuple[Case, ...]

    @classmethod
    def open(cls, folder: Path | str) -> Cohort:
        """Read the table (slabs are mapped when used). Raises CohortError where it is missing or damaged."""
        folder = Path(folder)
        table = folder / TABLE
        if not table.is_file():
            raise CohortError(f"{folder} is not a cohort: it has no {TABLE}; make one with `clmsda cohort import`")
        try:
            with table.open(newline="", encoding="utf8") as file:
                rows = list(csv.DictReader(file))
        except (csv.Error, UnicodeDecodeError) as error:
            raise CohortError(f"{table} is not a table of comma-separated values ({error}): import it again") from error
        cases = tuple(_parse(row, f"{table}, line {number}") for number, row in enumerate(rows, 2))
        names = [case.case for case in cases]
        if len(set(names)) < len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise CohortError(f"{table}: every case needs its own name, found twice: {', '.join(twice)}")
        if not cases:
            raise CohortError(f"{table}: expected at least one case, found none")
        return cls(folder, tuple(sorted(cases, key=lambda case: case.case)))

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of all that splits, training and scores depend on: measurements, patients and voxels.

        It stays the same where the folder moves, or rows change their order. Voxels count as they were
        imported: the slabs are not read again.
        """
        rows = [
            {name: value for name, value in asdict(case).items() if name not in NOT_STUDIED}
            for case in sorted(self.cases, key=lambda case: case.case)
        ]
        return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()

    def slab(self, case: Case) -> tuple[Volume, Volume]:
        """The CT (int16 HU) and the mask (uint8) around a tumor, memory-mapped.

        Raises CohortError where a slab is missing, damaged, or not the one that the table describes.
        """
        voxels = _map(self.folder / "slabs" / f"{case.case}.npy", "int16")
        mask = _map(self.folder / "slabs" / f"{case.case}.mask.npy", "uint8")
        if voxels.shape != mask.shape:
            raise CohortError(f"case {case.case}: CT slab {voxels.shape} and mask slab {mask.shape} differ in shape")
        if case.tumor_slices[1] >= len(mask):
            raise CohortError(
                f"case {case.case}: the table has tumor up to slice {case.tumor_slices[1]}, but the slab has "
                f"{len(mask)} slices: import the case again"
            )
        affine = np.vstack([np.reshape(case.slab_affine, (3, 4)), [0, 0, 0, 1]])
        grid = Grid(voxels.shape, affine)
        return Volume(voxels, grid, case.case), Volume(mask, grid, case.case)

    def subset(self, names: set[str]) -> Cohort:
        return Cohort(self.folder, tuple(case for case in self.cases if case.case in names))


def is_name(text: str) -> bool:
    """Whether a case may be called so."""
    return re.fullmatch(NAME, text) is not None


def write_table(folder: Path, cases: Iterable[Case]) -> None:
    """Write cohort.csv atomically, in order of the cases' names."""
    with replacing(folder / TABLE) as temporary, temporary.open("w", newline="", encoding="utf8") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(Case)])
        for case in sorted(cases, key=lambda case: case.case):
            values = (getattr(case, field.name) for field in fields(Case))
            writer.writerow([json.dumps(value) if isinstance(value, tuple) else value for value in values])


def _parse(row: dict[str, str], where: str) -> Case:
    values: dict[str, Any] = {}
    for name, text in row.items():
        is_list = name in ("center_mm", "slab_affine", "tumor_slices")
        try:
            values[name] = json.loads(text) if is_list else text
        except (ValueError, TypeError, RecursionError) as error:
            found = repr(text)[:60]
            raise CohortError(f"{where}: column {name!r} should be a list of numbers, found {found}") from error
    try:
        return _CASE.validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise CohortError(f"{where}: column {'.'.join(map(str, first['loc']))!r}: {first['msg']}") from error


def _map(path: Path, dtype: str) -> NDArray:
    try:
        array = map_array(path)
    except (OSError, ValueError) as error:
        raise CohortError(f"{path} is missing or damaged: import the case again") from error
    if array.dtype != np.dtype(dtype) or array.ndim != 3:
        raise CohortError(f"{path} should hold 3-D {dtype}, found {array.ndim}-D {array.dtype}: import the case again")
    return array

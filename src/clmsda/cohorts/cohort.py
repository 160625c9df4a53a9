"""`Case` and `Cohort`: a table that people can read, and slabs that training can map.

    COHORT/cohort.csv             one row per case: where it came from, what its tumor measures
    COHORT/slabs/CASE.npy         int16 HU, (slices, rows, columns): the tumor's slices and a margin
    COHORT/slabs/CASE.mask.npy    uint8, the same voxels: 1 is tumor

Reading a slab maps it: nothing is decompressed, and a worker holds only the pages that it touches.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError

from clmsda.errors import InputError
from clmsda.files import replacing
from clmsda.geometry import Grid, Volume
from clmsda.measurements import measure

TABLE = "cohort.csv"

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Index = Annotated[int, Field(ge=0)]


class CohortError(InputError):
    """A cohort folder that is missing, damaged or contradicts itself."""


@dataclass(frozen=True)
class Case:
    """One tumor of one patient. Paths are relative to the cohort's folder where they lie in it.

    patient: cases with the same patient are never split between training and validation.
    size_mm, center_mm: longest diameter, and center, in the axial slice of largest area (paper 2.1).
    slab_affine: from (slice, row, column) of the slab to LPS mm, twelve numbers, row by row.
    tumor_slices: first and last slice with tumor, counted in the slab.
    """

    case: str
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


@dataclass(frozen=True)
class Cohort:
    """The cases of one folder."""

    folder: Path
    cases: tuple[Case, ...]

    @classmethod
    def open(cls, folder: Path | str) -> Cohort:
        """Read the table (slabs are mapped when used). Raises CohortError where it is missing or damaged."""
        folder = Path(folder)
        table = folder / TABLE
        if not table.is_file():
            raise CohortError(f"{folder} is not a cohort: it has no {TABLE}; write one with `clmsda phantom`")
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
        return cls(folder, cases)

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


def add_case(
    folder: Path, name: str, image: Volume, mask: Volume, *, image_path: str, mask_path: str, patient: str = ""
) -> Case:
    """Measure a tumor, save its slab, and append it to the table (atomically, so an import can resume).

    patient: by default the case's name. A case of the same name is replaced. The slab reaches one
    tumor size (at least 30 mm) beyond the tumor's first and last slice.
    Raises CohortError where image and mask lie on different grids, EmptyMask for a mask without tumor.
    """
    if not image.grid.same_as(mask.grid):
        raise CohortError(
            f"case {name}: expected image and mask on one grid, found shapes {image.grid.shape} and {mask.grid.shape} "
            "or other positions: read the mask on the image's grid"
        )
    measurement = measure(mask)
    first, last = measurement.slices
    spacing = image.grid.spacing_mm
    margin = int(np.ceil(max(measurement.long_axis_mm, 30.0) / spacing[0]))
    low, high = max(first - margin, 0), min(last + margin + 1, image.grid.shape[0])
    slab = image.crop((low, 0, 0), (high, *image.grid.shape[1:]))
    (folder / "slabs").mkdir(parents=True, exist_ok=True)
    _save(folder / "slabs" / f"{name}.npy", slab.voxels.astype(np.int16))
    _save(folder / "slabs" / f"{name}.mask.npy", (mask.voxels[low:high] > 0).astype(np.uint8))
    case = Case(
        case=name,
        patient=patient or name,
        image=image_path,
        mask=mask_path,
        size_mm=round(measurement.long_axis_mm, 3),
        volume_ml=round(measurement.volume_ml, 4),
        size_group=measurement.size_group,
        center_mm=tuple(round(float(x), 3) for x in measurement.center_mm),  # type: ignore[arg-type]
        pixel_mm=round(float(spacing[1:].min()), 5),
        slice_mm=round(float(spacing[0]), 5),
        slab_affine=tuple(float(x) for x in slab.grid.affine[:3].ravel()),
        tumor_slices=(first - low, last - low),
    )
    table = folder / TABLE
    kept = [c for c in Cohort.open(folder).cases if c.case != name] if table.is_file() else []
    write_table(folder, [*kept, case])
    return case


def write_table(folder: Path, cases: list[Case]) -> None:
    """Write cohort.csv atomically."""
    with replacing(folder / TABLE) as temporary, temporary.open("w", newline="", encoding="utf8") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(Case)])
        for case in cases:
            values = (getattr(case, field.name) for field in fields(Case))
            writer.writerow([json.dumps(value) if isinstance(value, tuple) else value for value in values])


def _parse(row: dict[str, str], where: str) -> Case:
    values: dict[str, Any] = {}
    for name, text in row.items():
        is_list = name in ("center_mm", "slab_affine", "tumor_slices")
        try:
            values[name] = json.loads(text) if is_list else text
        except (json.JSONDecodeError, TypeError) as error:
            raise CohortError(f"{where}: column {name!r} should be a list of numbers, found {text!r}") from error
    try:
        return TypeAdapter(Case).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise CohortError(f"{where}: column {'.'.join(map(str, first['loc']))!r}: {first['msg']}") from error


def _map(path: Path, dtype: str) -> NDArray:
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError) as error:
        raise CohortError(f"{path} is missing or damaged ({error}): import the case again") from error
    if array.dtype != np.dtype(dtype) or array.ndim != 3:
        raise CohortError(f"{path} should hold 3-D {dtype}, found {array.ndim}-D {array.dtype}: import the case again")
    return array


def _save(path: Path, array: NDArray) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, array)

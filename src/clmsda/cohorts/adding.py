"""Adding a case to a cohort: measure the tumor, cut the slab around it, enter both."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from clmsda.cohorts.cohort import TABLE, Case, Cohort, CohortError, is_name, write_table
from clmsda.files import make_folder, replacing
from clmsda.geometry import Grid, Volume
from clmsda.measurements import measure

MARGIN_MM = 30.0
"""A slab reaches at least this far, and at least one tumor size, beyond the tumor's first and last slice."""

Slices = Callable[[int, int], Iterable[NDArray]]
"""Gives the slices of a CT in HU, (rows, columns), from one index up to, not including, another.

Each may be gone when the next is asked for. Reading stops with an InputError where they are no CT after all.
"""


def add_case(
    folder: Path,
    name: str,
    image: Volume,
    mask: Volume,
    *,
    image_path: str,
    mask_path: str,
    patient: str = "",
    histology: str = "",
) -> Case:
    """Measure a tumor, save its slab, and enter it in the table (atomically, so an import can resume).

    patient: by default the case's name. A case of the same name is replaced. The slab reaches one
    tumor size (at least 30 mm) beyond the tumor's first and last slice.
    Raises CohortError where image and mask lie on different grids, EmptyMask for a mask without tumor.
    """
    case = save_slab(
        folder,
        name,
        image.grid,
        lambda low, high: image.voxels[low:high],
        mask,
        image_path=image_path,
        mask_path=mask_path,
        patient=patient,
        histology=histology,
    )
    kept = [c for c in Cohort.open(folder).cases if c.case != name] if (folder / TABLE).is_file() else []
    write_table(folder, [*kept, case])
    return case


def save_slab(
    folder: Path,
    name: str,
    grid: Grid,
    slices: Slices,
    mask: Volume,
    *,
    image_path: str,
    mask_path: str,
    patient: str = "",
    **facts: Any,
) -> Case:
    """`add_case` without the table, which one process writes where several import; only the slab's slices are read.

    grid: of the whole CT, as the mask's. facts: further columns of the table.
    """
    if not is_name(name):
        raise CohortError(
            f"case {name!r}: files are named by it, so it may hold letters, digits, space and .+=@_- only"
        )
    if not grid.same_as(mask.grid):
        raise CohortError(
            f"case {name}: expected image and mask on one grid, found shapes {grid.shape} and {mask.grid.shape} "
            "or other positions: read the mask on the image's grid"
        )
    measurement = measure(mask)
    first, last = measurement.slices
    spacing = grid.spacing_mm
    margin = int(np.ceil(max(measurement.long_axis_mm, MARGIN_MM) / spacing[0]))
    low, high = max(first - margin, 0), min(last + margin + 1, grid.shape[0])
    affine = grid.crop((low, 0, 0), (high, *grid.shape[1:])).affine
    return Case(
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
        slab_affine=tuple(float(x) for x in affine[:3].ravel()),
        tumor_slices=(first - low, last - low),
        slab_crc32=_save_both(
            folder / "slabs", name, slices(low, high), mask.voxels[low:high], (first - low, last - low)
        ),
        **facts,
    )


def _save_both(slabs: Path, name: str, slices: Iterable[NDArray], mask: NDArray, tumor: tuple[int, int]) -> str:
    """Write the slabs of a case, slice by slice; returns the CRC-32 of their voxels.

    tumor: first and last slice of the mask that is not empty.
    """
    make_folder(slabs)
    crc = 0
    with _array_file(slabs / f"{name}.npy", "<i2", mask.shape) as file:
        for plane in slices:
            hu = np.ascontiguousarray(plane, dtype="<i2")
            file.write(hu.data)
            crc = zlib.crc32(hu.data, crc)
    with _array_file(slabs / f"{name}.mask.npy", "|u1", mask.shape) as file:
        # The slices beside the tumor are a hole in the file: nothing to write, read as zeros.
        file.seek(tumor[0] * mask[0].size, os.SEEK_CUR)
        for plane in mask[tumor[0] : tumor[1] + 1]:
            labels = (plane != 0).astype(np.uint8)
            file.write(labels.data)
            crc = zlib.crc32(labels.data, crc)
        file.seek((len(mask) - 1 - tumor[1]) * mask[0].size, os.SEEK_CUR)
        file.truncate()
    return f"{crc:08x}"


@contextmanager
def _array_file(path: Path, dtype: str, shape: tuple[int, ...]) -> Iterator[BinaryIO]:
    """A .npy file to write an array's values into, under a temporary name that is changed when it is whole.

    Without waiting for the disk: a slab that a power cut leaves short is refused by its length, and the same import
    makes it again.
    """
    with replacing(path, sync=False) as temporary, temporary.open("wb") as file:
        header = {"descr": dtype, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        yield file

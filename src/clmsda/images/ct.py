"""Any chest CT in: a DICOM folder, a .zip of one, or a NIfTI, NRRD or MetaImage file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clmsda.geometry import AIR_HU, Volume
from clmsda.images.errors import MissingPath, SeriesNotFound, UnknownFormat
from clmsda.images.orientation import axial_first
from clmsda.images.plausibility import check_ct, check_spacing
from clmsda.images.voxel_files import READ_SUFFIXES, is_voxel_file, read_voxels

if TYPE_CHECKING:
    from clmsda.images.dicom_files import Series


def read_ct(path: str | os.PathLike[str], *, series: str | None = None) -> Volume:
    """Read a chest CT as (slices, rows, columns) int16 Hounsfield units of at least -1024.

    path: a folder with DICOM files (nested, mixed, any names), a .zip of one, an enhanced DICOM
    file, or a .nii, .nii.gz, .nrrd, .mha, .mhd file. series: SeriesInstanceUID, needed where there
    are several CT series.

    Slices of a DICOM series are ordered along the normal of their planes (row direction x column
    direction), as in ITK and 3D Slicer: from inferior to superior in the usual axial series. Voxel
    files keep their own order. Coronal and sagittal stacks are turned so that the first axis is the
    one nearest to superior. `Volume.source` is the SeriesInstanceUID or the file's name.

    Raises a subclass of InputError that names what was found: see `clmsda.images.errors`.
    """
    path = Path(path)
    if path.is_file() and is_voxel_file(path):
        if series is not None:
            raise SeriesNotFound(f"{path} is one image without series: leave out --series {series}")
        return as_ct(read_voxels(path))
    volume = axial_first(_read_dicom(path, series))
    check_ct(volume)
    return volume


def as_ct(volume: Volume) -> Volume:
    """A chest CT that is in memory, as `read_ct` gives it: int16 HU of at least -1024. `source` names it in errors.

    Raises NotHounsfield, ImpossibleSpacing.
    """
    check_spacing(volume.grid, volume.source)
    check_ct(volume)
    return Volume(_int16(volume.voxels), volume.grid, volume.source)


def _int16(voxels: np.ndarray) -> np.ndarray:
    """HU rounded and clamped to -1024..32767; no copy if there is nothing to do."""
    if voxels.dtype == np.int16 and voxels.min() >= AIR_HU:
        return voxels
    whole = np.rint(voxels) if voxels.dtype.kind == "f" else voxels
    return np.clip(whole, AIR_HU, np.iinfo(np.int16).max).astype(np.int16)


def _read_dicom(path: Path, series: str | None) -> Volume:
    from clmsda.images.archives import opened
    from clmsda.images.damage import damage_named
    from clmsda.images.dicom_files import choose, load_all
    from clmsda.images.dicom_pixels import read_planes
    from clmsda.images.dicom_planes import planes_of, stack

    _check_is_dicom(path)
    with opened(path) as root, damage_named(str(path)):
        files = choose(load_all(root, path), series, root, path)
        planes, grid = stack([plane for file in files for plane in planes_of(file)], str(path))
        return read_planes(planes, grid)


def list_series(path: str | os.PathLike[str]) -> list[Series]:
    """The DICOM series in a folder, a .zip or a file, of every modality, in order of first appearance.

    Raises MissingPath, UnknownFormat, NoDicom, UnreadableFile.
    """
    from clmsda.images.archives import opened
    from clmsda.images.damage import damage_named
    from clmsda.images.dicom_files import load_all, series_of

    path = Path(path)
    if path.is_file() and is_voxel_file(path):
        raise UnknownFormat(f"{path} is one image, without series: give a DICOM folder or a .zip of one")
    _check_is_dicom(path)
    with opened(path) as root, damage_named(str(path)):
        return series_of(load_all(root, path), root)


def _check_is_dicom(path: Path) -> None:
    """Raise unless the path is a folder, an archive or a DICOM file."""
    import zipfile

    from clmsda.images.dicom_files import is_dicom

    if not path.exists():
        raise MissingPath(f"there is no file or folder {path}")
    if path.is_file() and not zipfile.is_zipfile(path) and not is_dicom(path):
        raise UnknownFormat(
            f"{path} is neither DICOM, a .zip of DICOM, nor named {', '.join(READ_SUFFIXES)}: give one of these"
        )

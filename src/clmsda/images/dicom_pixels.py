"""Decoding the slices of a DICOM series to Hounsfield units, several at a time."""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from pydicom.pixels.utils import pixel_array

from clmsda.geometry import AIR_HU, Grid, Volume
from clmsda.images.dicom_files import DicomFile
from clmsda.images.dicom_planes import Plane
from clmsda.images.errors import UnreadableFile

log = logging.getLogger(__name__)


def read_planes(planes: list[Plane], grid: Grid) -> Volume:
    """The slices, in their order, as int16 HU of at least -1024 on `grid`. Raises UnreadableFile, naming the file."""
    voxels = np.empty(grid.shape, np.int16)
    jobs: dict[str, list[int]] = {}
    for index, plane in enumerate(planes):
        jobs.setdefault(plane.file.name, []).append(index)

    def fill(indices: list[int]) -> None:
        stored, rescaled = _decoded(planes[indices[0]].file)
        for index in indices:
            plane = planes[index]
            slope, intercept = (1.0, 0.0) if rescaled else (plane.slope, plane.intercept)
            voxels[index] = _hounsfield(stored[plane.frame], slope, intercept)

    with ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as pool:
        for _ in pool.map(fill, jobs.values()):
            pass
    return Volume(voxels, grid, planes[0].file.series_uid)


def _hounsfield(stored: NDArray, slope: float, intercept: float) -> NDArray:
    """Stored values to HU, rounded and clamped to int16's range; padding below -1024 becomes -1024."""
    if slope == 1 and intercept.is_integer():
        values: NDArray = np.add(stored, int(intercept), dtype=np.int32)
    else:
        values = np.rint(stored * slope + intercept)
    return np.clip(values, int(AIR_HU), np.iinfo(np.int16).max, out=values)


def _decoded(file: DicomFile) -> tuple[NDArray, bool]:
    """(frames, rows, columns) of a file, and whether they already are HU. The pixels are let go afterwards."""
    header = file.header
    try:
        stored = pixel_array(header)
    except Exception as error:  # each decoder has its own
        if not header.file_meta.TransferSyntaxUID.is_compressed:
            raise UnreadableFile(f"{file.name} is truncated or damaged ({_brief(error)}); fetch it again") from error
        log.info("%s: pydicom cannot decode it (%s); trying GDCM", file.name, _brief(error))
        return _decoded_by_gdcm(file), True
    finally:
        del header.PixelData
    return stored.reshape(-1, *stored.shape[-2:]), False


def _decoded_by_gdcm(file: DicomFile) -> NDArray:
    """(frames, rows, columns) HU of a file in a transfer syntax that pydicom has no decoder for."""
    import SimpleITK as sitk

    try:
        stored = sitk.GetArrayFromImage(sitk.ReadImage(str(file.path), imageIO="GDCMImageIO"))
    except RuntimeError as error:
        syntax = file.header.file_meta.TransferSyntaxUID.name
        raise UnreadableFile(f"{file.name} is truncated, damaged or compressed in an unknown way ({syntax})") from error
    return stored.reshape(-1, *stored.shape[-2:])


def _brief(error: Exception) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__

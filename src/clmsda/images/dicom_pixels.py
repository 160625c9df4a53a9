"""Decoding the slices of a DICOM series to Hounsfield units, several at a time."""

from __future__ import annotations

import logging
import os
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.pixels.utils import pixel_array
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid

from clmsda.files import temporary_folder
from clmsda.geometry import AIR_HU, Grid, Volume
from clmsda.images.damage import damage_named
from clmsda.images.dicom_files import DicomFile
from clmsda.images.dicom_padding import padding
from clmsda.images.dicom_planes import Plane
from clmsda.images.errors import UnreadableFile
from clmsda.images.picture_size import too_large
from clmsda.images.silence import silence

REMEDY = "export it as Explicit VR Little Endian"
LIKE_TISSUE_HU = (-900, 3071)
"""What has a value of these may as well be body as padding."""

_DAMAGED = "{} is truncated, damaged or compressed in a way that cannot be decoded ({}): fetch it again, or {}"

_PIXEL_MODULE = (
    "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "NumberOfFrames", "PixelData",
)  # fmt: skip

log = logging.getLogger(__name__)


def read_planes(planes: list[Plane], grid: Grid) -> Volume:
    """The slices, in their order, as int16 HU of at least -1024 on `grid`; padding (PixelPaddingValue) is -1024.

    Raises UnreadableFile, IncompleteHeader, naming the file.
    """
    voxels = np.empty(grid.shape, np.int16)
    jobs: dict[str, list[int]] = {}
    for index, plane in enumerate(planes):
        jobs.setdefault(plane.file.name, []).append(index)

    def fill(indices: list[int]) -> set[str]:
        file = planes[indices[0]].file
        with damage_named(file.name):
            stored, padded = _decoded(file)
        if stored.shape[1:] != grid.shape[1:] or len(stored) <= max(planes[index].frame for index in indices):
            raise UnreadableFile(
                f"{file.name} is damaged: expected pixels of {'x'.join(map(str, grid.shape[1:]))} in every frame, "
                f"found {'x'.join(map(str, stored.shape))}; fetch it again"
            )
        like_tissue = set()
        for index in indices:
            plane = planes[index]
            voxels[index] = _hounsfield(stored[plane.frame], plane.slope, plane.intercept)
            if padded is not None and padded[plane.frame].any():
                like_tissue.add(_like_tissue(voxels[index][padded[plane.frame]]))
                voxels[index][padded[plane.frame]] = AIR_HU
        return like_tissue

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom names, slice by slice, what it can do without
        with ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as pool:
            found = set().union(*pool.map(fill, jobs.values())) - {""}
    for one in sorted(found):  # not before all threads are done, of which some keep standard error silent
        log.warning("the series declares %s to be padding (PixelPaddingValue): such voxels are read as air", one)
    return Volume(voxels, grid, planes[0].file.series_uid)


def _hounsfield(stored: NDArray, slope: float, intercept: float) -> NDArray:
    """Stored values to HU, rounded and clamped to int16's range; what is below -1024 becomes -1024."""
    if slope == 1 and intercept.is_integer() and abs(intercept) < 1 << 30 and np.can_cast(stored.dtype, np.int32):
        values: NDArray = np.add(stored, int(intercept), dtype=np.int64 if abs(intercept) > 1 << 16 else np.int32)
    else:
        values = np.rint(stored * slope + intercept)
    return np.clip(values, int(AIR_HU), np.iinfo(np.int16).max, out=values)


def _like_tissue(hu: NDArray[np.int16]) -> str:
    """What padding would be if it were none, where that may be body; else empty."""
    lowest, highest = int(hu.min()), int(hu.max())
    if lowest <= LIKE_TISSUE_HU[1] and highest >= LIKE_TISSUE_HU[0] and highest < np.iinfo(np.int16).max:
        return f"{lowest} HU" if lowest == highest else "values among those of tissue"
    return ""


def _decoded(file: DicomFile) -> tuple[NDArray, NDArray[np.bool_] | None]:
    """(frames, rows, columns) stored values of a file, and where they are padding. The pixels are let go afterwards.

    Raises UnreadableFile, IncompleteHeader.
    """
    header = file.header
    syntax = header.file_meta.TransferSyntaxUID
    if syntax.is_private or not syntax.is_transfer_syntax:
        raise UnreadableFile(
            f"{file.name} is stored in a way that cannot be decoded (transfer syntax {syntax}, "
            f"{'private' if syntax.is_private else 'unknown'}): {REMEDY}"
        )
    if syntax.is_encapsulated:
        _check_pictures(file)
    try:
        try:
            stored = pixel_array(header)
        except Exception as error:  # each decoder has its own
            if not syntax.is_compressed:
                raise UnreadableFile(f"{file.name} is truncated or damaged in its pixels; fetch it again") from error
            log.info("%s: pydicom cannot decode it (%s); trying GDCM", file.name, _brief(error))
            stored = _decoded_by_gdcm(file)
        stored = stored.reshape(-1, *stored.shape[-2:])
        return stored, padding(file, stored)
    finally:
        del header.PixelData


def _check_pictures(file: DicomFile) -> None:
    """Refuse what decoders would ask gigabytes for: fragments that are none, and pictures that state a huge size."""
    header, syntax = file.header, file.header.file_meta.TransferSyntaxUID
    try:
        stated = too_large(header)
    except Exception as error:  # pydicom raises almost anything
        raise UnreadableFile(_DAMAGED.format(file.name, syntax.name, REMEDY)) from error
    if stated is not None:
        raise UnreadableFile(
            f"{file.name} is damaged: its picture states {stated[0]} x {stated[1]} pixels, its header {header.Rows} x "
            f"{header.Columns}; fetch it again"
        )


def _decoded_by_gdcm(file: DicomFile) -> NDArray:
    """(frames, rows, columns) stored values of a file in a transfer syntax that pydicom has no decoder for.

    GDCM is given the pixels as a plain picture, so that it neither rescales them nor stumbles over the rest.
    """
    import SimpleITK as sitk

    sitk.ProcessObject.GlobalWarningDisplayOff()
    syntax = file.header.file_meta.TransferSyntaxUID
    picture = Dataset()
    for name in _PIXEL_MODULE:
        if name in file.header:
            picture[name] = file.header[name]
    picture.SOPClassUID, picture.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    picture.file_meta = FileMetaDataset()
    picture.file_meta.TransferSyntaxUID = syntax
    try:
        with silence(), temporary_folder() as folder:
            path = folder / "picture.dcm"
            picture.save_as(path, enforce_file_format=True)
            stored = sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="GDCMImageIO"))
    except Exception as error:  # GDCM's RuntimeError, and whatever pydicom raises for damaged values
        raise UnreadableFile(_DAMAGED.format(file.name, syntax.name, REMEDY)) from error
    if stored.ndim > 3 or (stored.ndim == 3 and len(stored) != int(file.header.get("NumberOfFrames") or 1)):
        raise UnreadableFile(f"{file.name} holds other pixels than its header says ({syntax.name}): {REMEDY}")
    return stored


def _brief(error: Exception) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__

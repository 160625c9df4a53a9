"""Masks in and out: voxel files, RT structure sets and DICOM segmentations."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clmsda.errors import InputError
from clmsda.geometry import Grid, Volume
from clmsda.images.damage import damage_named
from clmsda.images.errors import GridMismatch, MissingPath, NotLabels, RoiNotFound, UnknownFormat
from clmsda.images.orientation import onto
from clmsda.images.voxel_files import is_voxel_file, read_voxels, write_voxels

if TYPE_CHECKING:
    from clmsda.images.dicom_files import DicomFile
    from clmsda.images.region_names import Region

RTSTRUCT_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
SEG_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")


def read_mask(path: str | os.PathLike[str], *, grid: Grid | None = None, roi: str | None = None) -> Volume:
    """Read a mask as (slices, rows, columns) uint8 or uint16 labels, 0 outside.

    path: a .nii, .nii.gz, .nrrd, .mha, .mhd file, an RTSTRUCT or a DICOM SEG (or a folder with one of these).
    grid: the image's; the result is then on exactly that grid. An RTSTRUCT needs it.
    roi: name or number of the ROI or segment, or a label of a voxel file; needed for an RTSTRUCT with several.
    The region that is chosen is label 1; several segments are their numbers (`described` tells what else the file says
    of them). Copies of contours, gaps between them and the like go to the log.

    Raises GridMismatch, NotLabels, RoiNotFound, BadContour and others of `clmsda.images.errors`.
    """
    path = Path(path)
    if path.is_file() and is_voxel_file(path):
        if roi is not None and not roi.strip().isdecimal():
            raise RoiNotFound(
                f"{path} has labels without names: leave out the region's name {roi!r}, or give a label's number"
            )
        mask = _labels(read_voxels(path))
        if roi is not None:
            mask = _one_label(mask, int(roi), path)
        cropped = ".seg." in path.name.lower()  # 3D Slicer keeps the part of the image's grid that has segments
        return mask if grid is None else onto(mask, grid, part=cropped)
    file = _dicom_mask(path)
    with damage_named(file.name):
        return _read_dicom(file, path, grid, roi)


def _read_dicom(file: DicomFile, path: Path, grid: Grid | None, roi: str | None) -> Volume:
    from clmsda.images.dicom_seg import read_segments
    from clmsda.images.rtstruct import read_roi

    if file.sop_class in SEG_CLASSES:
        return _labels(read_segments(file, grid, roi))
    if grid is None:
        raise GridMismatch(f"{path} holds contours, which need the image that they were drawn on: give it (--image CT)")
    return read_roi(file, grid, roi)


def _one_label(mask: Volume, label: int, path: Path) -> Volume:
    """One label of a voxel file, by its number, as 1. Raises RoiNotFound."""
    present = [int(one) for one in np.unique(mask.voxels) if one]
    if label not in present:
        raise RoiNotFound(f"{path} has no label {label}; found {', '.join(map(str, present)) or 'none'}")
    return Volume((mask.voxels == label).astype(np.uint8), mask.grid, mask.source)


def described(path: str | os.PathLike[str], roi: str | None = None) -> dict[int, Region]:
    """What an RTSTRUCT or a DICOM SEG says of its regions, by the value that they have in `read_mask` (1 if chosen).

    Nothing for a voxel file. Raises RoiNotFound, UnreadableFile.
    """
    from clmsda.images.region_names import choose, regions_of

    file = dicom_mask(Path(path))
    if file is None:
        return {}
    with damage_named(file.name):
        regions = regions_of(file)
        if roi is not None or file.sop_class == RTSTRUCT_CLASS:
            return {1: choose(regions, roi, file.name)}
        return {region.number: region for region in regions if region.number}


def list_rois(path: str | os.PathLike[str]) -> list[str]:
    """The names of the regions in an RTSTRUCT or of the segments in a DICOM SEG, in the file's order."""
    from clmsda.images.region_names import regions_of

    file = _dicom_mask(Path(path))
    with damage_named(file.name):
        return [region.name for region in regions_of(file)]


def write_mask(mask: Volume, path: str | os.PathLike[str]) -> None:
    """Write labels (or a bool mask) as .nii, .nii.gz, .nrrd or .mha; whole or not at all.

    Raises NotLabels, UnknownFormat, clmsda.files.OutputError, clmsda.geometry.GridError.
    """
    write_voxels(mask if mask.voxels.dtype == bool else _labels(mask), Path(path))


def write_image(volume: Volume, path: str | os.PathLike[str]) -> None:
    """Write HU or probabilities, in their own number type, as .nii, .nii.gz, .nrrd or .mha; whole or not at all.

    Raises UnknownFormat, clmsda.files.OutputError, clmsda.geometry.GridError.
    """
    write_voxels(volume, Path(path))


def _labels(mask: Volume) -> Volume:
    """The same labels as uint8, or uint16 above 255. Raises NotLabels."""
    voxels, name = mask.voxels, mask.source or "the mask"
    if voxels.dtype.kind == "f" and not (np.isfinite(voxels).all() and (voxels == np.rint(voxels)).all()):
        raise NotLabels(f"{name} holds fractions (probabilities?): expected labels 0, 1, 2, ...: threshold it first")
    lowest, highest = voxels.min(), voxels.max()
    if lowest < 0 or highest > np.iinfo(np.uint16).max:
        raise NotLabels(f"{name} holds values {lowest:g} to {highest:g}: expected labels 0 to 65535 (is it the CT?)")
    return Volume(voxels.astype(np.uint8 if highest <= 255 else np.uint16, copy=False), mask.grid, mask.source)


def dicom_mask(path: Path) -> DicomFile | None:
    """The RTSTRUCT or SEG that a file is or a folder holds; None for a voxel file."""
    return None if path.is_file() and is_voxel_file(path) else _dicom_mask(path)


def _dicom_mask(path: Path) -> DicomFile:
    """The RTSTRUCT or SEG that a file is or a folder holds."""
    from clmsda.images.dicom_files import is_dicom, load_all

    if not path.exists():
        raise MissingPath(f"there is no file or folder {path}")
    if path.is_file() and not is_dicom(path):
        raise UnknownFormat(f"{path} is neither DICOM nor named .nii, .nii.gz, .nrrd, .mha or .mhd")
    files = load_all(path, path)
    masks = [file for file in files if file.sop_class in (RTSTRUCT_CLASS, *SEG_CLASSES)]
    if len(masks) == 1:
        return masks[0]
    if not masks:
        kinds = ", ".join(sorted({str(file.header.get("Modality") or "unknown") for file in files}))
        raise UnknownFormat(f"expected an RTSTRUCT or a DICOM SEG in {path}, found {kinds}")
    raise InputError(f"{len(masks)} masks in {path}: give one of {', '.join(file.name for file in masks)}")

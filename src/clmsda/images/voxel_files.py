"""NIfTI, NRRD and MetaImage files in and out; the latter two are read, and all written, through SimpleITK."""

from __future__ import annotations

import zlib
from gzip import BadGzipFile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clmsda.files import replacing
from clmsda.geometry import Grid, GridError, Volume
from clmsda.images.damage import damage_named
from clmsda.images.errors import NotVolume, UnknownFormat, UnreadableFile
from clmsda.images.nifti_voxels import read_nifti
from clmsda.images.nrrd_header import check_space
from clmsda.images.orientation import axial_first
from clmsda.images.plausibility import check_size, check_spacing, check_straight
from clmsda.images.silence import silence
from clmsda.images.voxel_headers import check_header

if TYPE_CHECKING:
    import SimpleITK

READ_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
WRITE_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha")

NIFTI_HEADER_BYTES = 352
"""Of NIfTI-1 without extensions: voxels follow."""

_HEADER_ENDS = {".nrrd": b"\n\n", ".mha": b"ElementDataFile = LOCAL\n"}


def is_voxel_file(path: Path) -> bool:
    """Whether the name ends like a NIfTI, NRRD or MetaImage file."""
    return path.name.lower().endswith(READ_SUFFIXES)


def read_voxels(path: Path) -> Volume:
    """A three-dimensional image with one number per voxel, as stored; the slice axis nearest to superior.

    Raises as `read_as_stored`.
    """
    return axial_first(read_as_stored(path))


def read_as_stored(path: Path) -> Volume:
    """The same with its axes as they are in the file: indices are those of other programs, reversed.

    Raises UnreadableFile, NotVolume (2-D, 4-D, colors, vectors, complex), TooLarge, ImpossibleSpacing, GantryTilt (a
    sheared grid), Contradiction (a NIfTI's sform and qform), NotHounsfield (NaN in a NIfTI).
    """
    with damage_named(str(path), "its content is not as its format has it"):
        return _read(path)


def _read(path: Path) -> Volume:
    name = path.name.lower()
    try:
        if name.endswith((".nrrd", ".nhdr")):
            check_space(path)
        volume = read_nifti(path) if name.endswith((".nii", ".nii.gz")) else _read_with_itk(path)
    except (RuntimeError, OSError, EOFError, zlib.error) as error:
        raise UnreadableFile(f"{path} cannot be read; is it truncated or damaged? ({_reason(error)})") from error
    except GridError as error:
        raise UnreadableFile(f"{path} has a header that places no voxels: {error}") from error
    check_spacing(volume.grid, str(path))
    return volume


def _read_with_itk(path: Path) -> Volume:
    import SimpleITK as sitk

    check_header(path)
    sitk.ProcessObject.GlobalWarningDisplayOff()  # what deserves a word is said in ours
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with silence():
        reader.ReadImageInformation()
    _check_header(reader, path)
    size = reader.GetSize()
    if len(size) > 3:
        reader.SetExtractSize([*size[:3], *[0] * (len(size) - 3)])
    with silence():
        image = reader.Execute()
    grid = _grid(image)
    check_straight(grid, str(path))
    return Volume(sitk.GetArrayFromImage(image), grid, path.name)


def _check_header(reader: SimpleITK.ImageFileReader, path: Path) -> None:
    """Refuse what is not one number per voxel in three dimensions, before the voxels are read."""
    import SimpleITK as sitk

    shape = "x".join(map(str, reversed(reader.GetSize())))
    lengths = [n for n in reader.GetSize()[3:] if n > 1]
    check_size(reader.GetSize(), str(path))
    expected = f"expected one three-dimensional image, found {path}"
    if reader.GetNumberOfComponents() != 1 or "complex" in sitk.GetPixelIDValueAsString(reader.GetPixelID()):
        kind = sitk.GetPixelIDValueAsString(reader.GetPixelID())
        raise NotVolume(f"{expected} with {reader.GetNumberOfComponents()} numbers per voxel ({kind}): convert it")
    if lengths:
        raise NotVolume(f"{expected} of {len(reader.GetSize())} dimensions, {shape}: give one time point or channel")
    if reader.GetDimension() < 3 or min(reader.GetSize()[:3]) < 2:
        raise NotVolume(f"{expected} of shape {shape}, a single slice: give the whole volume")


def _reason(error: Exception) -> str:
    """The last sentence of an ITK exception, which is the one that says something; of gzip's, none does."""
    if isinstance(error, BadGzipFile | zlib.error):
        return "what it was packed from cannot be had back"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = lines[-1].rpartition("): ")[2] if lines else ""
    return last if last and not last.startswith("Reason: ") else "no reason given"  # MetaIO's reason is any earlier one


def _grid(image: SimpleITK.Image) -> Grid:
    """The grid of a SimpleITK image, whose direction has columns for the column, row and slice axes."""
    with np.errstate(over="ignore"):  # of which no grid becomes
        linear = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine = np.eye(4)
    affine[:3, :3] = linear[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    return Grid(image.GetSize()[::-1], affine)


def write_voxels(volume: Volume, path: Path) -> None:
    """Write a volume as .nii, .nii.gz, .nrrd or .mha (compressed but for .nii), whole or not at all.

    Raises UnknownFormat, clmsda.files.OutputError, GridError (a sheared grid: these formats have none).
    """
    import SimpleITK as sitk

    if not path.name.lower().endswith(WRITE_SUFFIXES):
        raise UnknownFormat(f"cannot tell the format of {path}: end its name in one of {', '.join(WRITE_SUFFIXES)}")
    directions = volume.grid.affine[:3, :3] / volume.grid.spacing_mm
    if not np.allclose(directions.T @ directions, np.eye(3), atol=1e-4):
        raise GridError(f"cannot write {path}: the axes of the grid are not perpendicular; resample it first")
    voxels: Any = volume.voxels.view(np.uint8) if volume.voxels.dtype == bool else volume.voxels
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels))
    image.SetSpacing(volume.grid.spacing_mm[::-1].tolist())
    image.SetDirection(directions[:, ::-1].ravel().tolist())
    image.SetOrigin(volume.grid.affine[:3, 3].tolist())
    with replacing(path) as temporary:
        try:
            with silence():
                sitk.WriteImage(image, str(temporary), useCompression=True, compressionLevel=3)
        except RuntimeError as error:
            raise OSError(f"not all of it was written ({_reason(error)})") from error
        _check_whole(temporary, voxels.nbytes)


def _check_whole(path: Path, voxel_bytes: int) -> None:
    """Raise OSError unless a file has all of its voxels: on a full disk ITK cuts NIfTI and NRRD off, and is silent."""
    suffix, data, ended = path.suffix.lower(), path.read_bytes(), True
    if suffix in _HEADER_ENDS:
        data = data.partition(_HEADER_ENDS[suffix])[2]
    else:
        voxel_bytes += NIFTI_HEADER_BYTES
    if suffix != ".nii":
        unpacking = zlib.decompressobj(wbits=47)  # gzip or zlib
        try:
            data, ended = unpacking.decompress(data), unpacking.eof
        except zlib.error:  # a hole, where the disk was full for a moment
            ended = False
    if len(data) < voxel_bytes or not ended:
        raise OSError("not all of it was written")

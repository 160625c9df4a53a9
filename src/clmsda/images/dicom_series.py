"""A DICOM series as a grid and slices, of which only those that are kept are read.

Series of plain files (uncompressed, 16 bits, whole Hounsfield units) are read here, fast. All others, and all that
must be refused, go through the readers of `clmsda.images`, which know every case and name every fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from clmsda.errors import InputError
from clmsda.geometry import AIR_HU, Grid, Volume
from clmsda.images.damage import damage_named
from clmsda.images.dicom_files import CT_CLASSES, PICTURES, DicomFile, load, slices_only
from clmsda.images.dicom_heads import Head, skim
from clmsda.images.dicom_mixture import warn_of_mixture
from clmsda.images.dicom_padding import as_stored
from clmsda.images.dicom_pixels import read_planes
from clmsda.images.dicom_planes import Plane, planes_of, stack, stated
from clmsda.images.errors import Localizer, UnreadableFile
from clmsda.images.orientation import axial_first
from clmsda.images.plausibility import check_ct

IMAGE_TYPE, SERIES_UID, FRAME_UID = 0x00080008, 0x0020000E, 0x00200052
SOP_CLASS, KVP, KERNEL, ACQUISITION = 0x00080016, 0x00180060, 0x00181210, 0x00200012
PADDING, PADDING_LIMIT, RESCALE_TYPE, VALUES = 0x00280120, 0x00280121, 0x00281054, 0x00283000
GANTRY_TILT, POSITION, ORIENTATION = 0x00181120, 0x00200032, 0x00200037
SAMPLES, FRAMES, ROWS, COLUMNS, SPACING = 0x00280002, 0x00280008, 0x00280010, 0x00280011, 0x00280030
BITS_ALLOCATED, BITS_STORED, SIGNED = 0x00280100, 0x00280101, 0x00280103
INTERCEPT, SLOPE = 0x00281052, 0x00281053

SAMPLED = 4
"""Every so manyth row and column is looked at to tell whether the values can be Hounsfield units."""


@dataclass(frozen=True)
class Series:
    """A CT, axial, whose slices are read as they are asked for, as int16 HU of at least -1024."""

    grid: Grid
    slices: Callable[[int, int], Iterable[NDArray]]


def open_series(files: Sequence[Path]) -> Series:
    """Lay the files of one CT series in order.

    Raises Localizer and whatever `clmsda.images.read_ct` refuses: missing slices, uneven spacing, tilt ...
    """
    with damage_named(str(files[0].parent)):
        return _open_plain(files) or _open_any(files)


def _open_any(files: Sequence[Path]) -> Series:
    loaded = slices_only([load(path) for path in files])
    if all(file.is_localizer for file in loaded):
        raise Localizer(f"expected CT slices, found only localizers ({files[0].name} ...)")
    planes, grid = stack([plane for file in loaded for plane in planes_of(file)], "the series")
    volume = axial_first(read_planes(planes, grid))
    check_ct(volume)
    return Series(volume.grid, lambda low, high: volume.voxels[low:high])


def _open_plain(files: Sequence[Path]) -> Series | None:
    """The series, if every file is a plain one and all is in order."""
    heads = {}
    for path in files:
        head = skim(path)
        if head is None or not _is_plain(head):
            return None
        heads[path] = head
    if not heads or len({_alike(head) for head in heads.values()}) > 1:
        return None
    _check_lengths(heads)
    first = next(iter(heads.values()))
    header = Dataset()
    header.Rows, header.Columns = first.short(ROWS), first.short(COLUMNS)
    try:
        planes, grid = stack([_plane(path, head, header) for path, head in heads.items()], "the series")
    except (InputError, ValueError):
        return None
    if np.abs(grid.affine[2, :3] / grid.spacing_mm).argmax() != 0:
        return None  # coronal and sagittal stacks are turned
    ways = [[heads[plane.file.path].text(tag) for tag in (KVP, KERNEL, ACQUISITION)] for plane in planes]
    warn_of_mixture([(voltage, kernel, acquisition) for voltage, kernel, acquisition in ways], str(files[0].parent))
    uid = first.text(SERIES_UID)

    def slices(low: int, high: int) -> Iterator[NDArray[np.int16]]:
        plane, sample = np.empty(grid.shape[1:], np.int16), []
        for number in range(low, high):
            _read(planes[number], heads[planes[number].file.path], plane)
            sample.append(plane[::SAMPLED, ::SAMPLED].copy())
            yield plane
        voxels = np.array(sample)
        check_ct(Volume(voxels, Grid.axial(voxels.shape, (1.0, 1.0, 1.0)), uid))

    return Series(grid, slices)


def _is_plain(head: Head) -> bool:
    """Whether `_read` can read the pixels, and nothing speaks against the slice."""
    try:
        slope, intercept, tilt = (
            float(head.text(tag) or x) for tag, x in ((SLOPE, 1), (INTERCEPT, 0), (GANTRY_TILT, 0))
        )
        return (
            head.text(SOP_CLASS) in CT_CLASSES
            and not any(word in head.text(IMAGE_TYPE) for word in ("LOCALIZER", *PICTURES))
            and head.text(RESCALE_TYPE) in ("", "HU", "US")
            and VALUES not in head.elements
            and all(_is_air(head, tag, intercept) for tag in (PADDING, PADDING_LIMIT) if tag in head.elements)
            and head.short(SAMPLES) == 1
            and FRAMES not in head.elements
            and head.short(BITS_ALLOCATED) == 16
            and 8 < head.short(BITS_STORED) <= 16
            and head.pixel_bytes >= 2 * head.short(ROWS) * head.short(COLUMNS) > 0
            and slope == 1
            and tilt == 0
            and intercept.is_integer()
            and abs(intercept) < 1 << 15
        )
    except ValueError:
        return False


def _is_air(head: Head, padding: int, intercept: float) -> bool:
    """Whether padding becomes air as all does that is below it."""
    stored = as_stored(head.short(padding), 16, bool(head.short(SIGNED)))
    return head.short(BITS_STORED) == 16 and stored + intercept <= AIR_HU


def _alike(head: Head) -> tuple[bytes | str, ...]:
    """What must be the same in all slices of a series."""
    tags = (SERIES_UID, FRAME_UID, ROWS, COLUMNS, SPACING, ORIENTATION)
    line = stated(bool(head.text(SLOPE)), bool(head.text(INTERCEPT)))
    return (line, *(head.elements.get(tag, b"") for tag in tags))


def _check_lengths(heads: dict[Path, Head]) -> None:
    """Raise UnreadableFile for a file that ends before its pixels do, in whichever slice."""
    for path, head in heads.items():
        if path.stat().st_size < head.pixels_at + head.pixel_bytes:
            raise UnreadableFile(f"{path.name} is truncated: it ends within its pixels; fetch it again")


def _plane(path: Path, head: Head, header: Dataset) -> Plane:
    """Raises ValueError where numbers are missing or none."""
    directions = np.array(head.numbers(ORIENTATION)).reshape(2, 3)
    rows_mm, columns_mm = head.numbers(SPACING)
    if np.abs(directions @ directions.T - np.eye(2)).max() > 0.01:
        raise ValueError("no pair of perpendicular unit vectors")
    return Plane(
        file=DicomFile(path, path.name, header),
        frame=0,
        position_mm=np.array(head.numbers(POSITION)).reshape(3),
        row=directions[0],
        column=directions[1],
        spacing_mm=(rows_mm, columns_mm),
        slope=1.0,
        intercept=float(head.text(INTERCEPT) or "0"),
    )


def _read(plane: Plane, head: Head, out: NDArray[np.int16]) -> None:
    """Write the HU of a slice into `out`, clamped to -1024..32767. Raises UnreadableFile."""
    try:
        with open(plane.file.path, "rb", buffering=0) as file:
            file.seek(head.pixels_at)
            whole = file.readinto(out.data.cast("B")) == out.nbytes
    except OSError as error:
        raise UnreadableFile(f"{plane.file.name} cannot be read: {error.strerror}") from error
    if not whole:
        raise UnreadableFile(f"{plane.file.name} is truncated: it ends within its pixels; fetch it again")
    stored = out.view("<i2" if head.short(SIGNED) else "<u2")
    unused = 16 - head.short(BITS_STORED)
    if unused:  # whatever these bits hold is no part of the value
        np.left_shift(stored, unused, out=stored)
        np.right_shift(stored, unused, out=stored)
    intercept, limits = int(plane.intercept), np.iinfo(stored.dtype)
    if AIR_HU - intercept > limits.min:
        np.maximum(stored, stored.dtype.type(AIR_HU - intercept), out=stored)
    if np.iinfo(np.int16).max - intercept < limits.max >> unused:
        np.minimum(stored, stored.dtype.type(np.iinfo(np.int16).max - intercept), out=stored)
    out += np.int16(intercept)  # modulo 2^16: exact, as the sums are within int16

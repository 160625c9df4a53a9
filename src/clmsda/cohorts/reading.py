"""Reading a candidate: its CT, and the one tumor in its mask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clmsda.cohorts.adding import Slices
from clmsda.cohorts.candidates import Candidate
from clmsda.cohorts.cohort import CohortError
from clmsda.geometry import AIR_HU, Grid, Volume
from clmsda.images import check_ct, read_ct, read_mask
from clmsda.images.damage import damage_named
from clmsda.images.voxel_files import is_voxel_file, read_voxels
from clmsda.measurements import EmptyMask, bounding_box

PIECE = 0.1
"""A piece of a mask is a tumor of its own if it has at least this part of the largest one's volume."""


@dataclass(frozen=True)
class Tumor:
    """A CT and the mask of one tumor on its grid. left_out: the other tumors in the mask, in words."""

    grid: Grid
    slices: Slices
    mask: Volume
    left_out: tuple[str, ...] = ()


def read_tumor(candidate: Candidate) -> Tumor:
    """Raises InputError for whatever cannot be read or holds no tumor, in the words of the reader that refused it."""
    with damage_named(f"{candidate.image} or {candidate.mask}", "their content is not as their formats have it"):
        return _thinned(_read(candidate), candidate.every)


def _read(candidate: Candidate) -> Tumor:
    for path in (candidate.image, candidate.mask):
        if not path.exists():
            raise CohortError(f"there is no file or folder {path}")
    grid, slices, series = _image(candidate)
    if not (candidate.mask.is_file() and is_voxel_file(candidate.mask)):
        _check_drawn_on(candidate, series)
    if candidate.roi and candidate.mask.is_file() and not is_voxel_file(candidate.mask):
        from clmsda.images.dicom_regions import read_region

        return Tumor(grid, slices, read_region(candidate.mask, grid, candidate.roi))
    mask = read_mask(candidate.mask, grid=grid, roi=candidate.roi or None)
    voxels, left_out = one_tumor(mask, candidate.labels)
    return Tumor(grid, slices, Volume(voxels, grid, mask.source), tuple(left_out))


def _thinned(tumor: Tumor, every: int) -> Tumor:
    """One slice in `every` of a CT and its mask, from the first on. Raises EmptyMask where the tumor lies between."""
    if every == 1:
        return tumor
    affine = tumor.grid.affine.copy()
    affine[:3, 0] *= every
    voxels = tumor.mask.voxels[::every]
    if not voxels.any():
        raise EmptyMask(f"{tumor.mask.source or 'the mask'} has no tumor on the one slice in {every} that is taken")
    grid = Grid(voxels.shape, affine)

    def slices(low: int, high: int) -> Iterable[NDArray]:
        return islice(tumor.slices(low * every, (high - 1) * every + 1), None, None, every)

    return Tumor(grid, slices, Volume(voxels, grid, tumor.mask.source), tumor.left_out)


def _check_drawn_on(candidate: Candidate, series: str) -> None:
    """Raise OtherFrame for a DICOM mask in another frame of reference; say where its series is another one."""
    from clmsda.images.dicom_regions import name_segments
    from clmsda.images.drawn_on import compare_frames, say_other_series
    from clmsda.images.masks import dicom_mask
    from clmsda.images.scan_facts import read_frame_uid

    file = dicom_mask(candidate.mask)
    if file is None or (candidate.image.is_file() and is_voxel_file(candidate.image)):
        return
    if candidate.roi:
        name_segments(file)
    frame_uid = read_frame_uid(candidate.files[0] if candidate.files else candidate.image, series=series or None)
    compare_frames(file, frame_uid, candidate.roi or None)
    say_other_series(file, series, candidate.roi or None)


def _image(candidate: Candidate) -> tuple[Grid, Slices, str]:
    """Where the CT's voxels lie, its slices, and the UID of its series, if it is one."""
    if candidate.files:
        from clmsda.images.dicom_series import open_series

        series = open_series(candidate.files)
        return series.grid, series.slices, candidate.series
    if candidate.series or not is_voxel_file(candidate.image):
        volume = read_ct(candidate.image, series=candidate.series or None)
        return volume.grid, lambda low, high: volume.voxels[low:high], volume.source
    stored = read_voxels(candidate.image)  # as read_ct does, but for the copies that rounding a whole CT takes
    check_ct(stored)
    return stored.grid, lambda low, high: map(_hounsfield, stored.voxels[low:high]), ""


def _hounsfield(plane: NDArray) -> NDArray[np.int16]:
    """HU of a slice, rounded and clamped to -1024..32767."""
    whole = np.rint(plane) if plane.dtype.kind == "f" else plane
    return np.clip(whole, AIR_HU, np.iinfo(np.int16).max).astype(np.int16)


def one_tumor(mask: Volume, labels: Sequence[int] = ()) -> tuple[NDArray[np.uint8], list[str]]:
    """The largest tumor of a mask as uint8, and in words those beside it.

    labels: those that are tumor, together; without any, each is a tumor of its own. Pieces that share no face, edge
    or corner are tumors of their own, too, but for those of less than a tenth of the largest one's volume.
    Raises EmptyMask.
    """
    lower, upper = bounding_box(mask.voxels)
    box = tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))
    part = mask.voxels[box]
    present = [int(one) for one in np.unique(part) if one]
    inside = [np.isin(part, labels)] if labels else [part == one for one in present]
    if not any(one.any() for one in inside):
        raise EmptyMask(
            f"{mask.source or 'the mask'} has no voxel of label {', '.join(map(str, labels))}, which is the tumor; "
            f"found {', '.join(map(str, present))}"
        )
    pieces, count = np.zeros(part.shape, np.int32), 0
    for one in inside:
        own, number = ndimage.label(one, structure=np.ones((3, 3, 3)))
        pieces[one] = own[one] + count
        count += number
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    sizes[0] = 0
    largest = int(sizes.argmax())
    others = [n for n in range(1, count + 1) if n != largest and sizes[n] >= PIECE * sizes[largest]]
    voxels = np.zeros(mask.voxels.shape, np.uint8)
    voxels[box] = (pieces > 0) & ~np.isin(pieces, others)
    volumes_ml = sizes * mask.grid.voxel_ml
    return voxels, [
        f"a further tumor of {volumes_ml[n]:.2f} ml at LPS {_middle(pieces == n, mask.grid, lower)} mm: the larger one "
        f"of {volumes_ml[largest]:.2f} ml is studied"
        for n in others
    ]


def _middle(piece: NDArray[np.bool_], grid: Grid, lower: NDArray[np.int64]) -> str:
    center = grid.to_lps(np.argwhere(piece).mean(axis=0) + lower)
    return ", ".join(f"{x:.0f}" for x in center)

"""Peers: masks of other systems read from a folder, a classical one-click baseline, and what a size alone tells."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clmsda.geometry import Grid, Volume, place
from clmsda.images import read_mask
from clmsda.prompts import Point
from clmsda.studies.config import Peer, StudyError
from clmsda.studies.protocols import Prediction, Target

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
COARSE_MM = 1.2
DENSE_HU = -600.0
"""The level of the lung window."""


def check_predictions(peer: Peer, names: Iterable[str]) -> None:
    """Raise StudyError unless a folder of predictions has a mask of every case."""
    wanted = sorted(names)
    missing = [name for name in wanted if _find(peer, name) is None]
    if missing:
        some = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise StudyError(
            f"peer {peer.name!r}: expected a mask of each of {len(wanted)} test cases in {peer.predictions}, named "
            f"CASE.nii.gz; missing: {some}: predict them (split.json lists the test cases), or leave the peer out"
        )


def read_prediction(peer: Peer, target: Target) -> Prediction:
    """A peer's mask on the slab's grid; the file may have the whole CT's, and turned axes.

    Raises StudyError where there is none, GridMismatch for another grid.
    """
    path = _find(peer, target.case.case)
    if path is None:
        raise StudyError(f"peer {peer.name!r}: {peer.predictions} holds no mask of the case {target.case.case}")
    slab = target.truth.grid
    whole = _whole(read_mask(path).grid, slab)
    mask = read_mask(path, grid=whole).voxels != 0
    part = mask[place(slab, whole)]
    beyond = int(mask.sum()) - int(part.sum())
    note = f"{beyond} voxels beyond the slab are not counted" if beyond else ""
    return Prediction(Volume(part, slab, target.case.case), note=note)


def region_growing(target: Target, click: Point, multiplier: float) -> Prediction:
    """The baseline's mask from one click."""
    grown = grow(target.image, np.array(click.lps_mm), multiplier)
    return Prediction(Volume(grown, target.truth.grid, target.case.case))


def grow(ct: Volume, click: NDArray, multiplier: float) -> NDArray[np.bool_]:
    """SimpleITK's confidence-connected region growing, after smoothing, from one click.

    The first estimate comes from the voxels within two of the click; within one where pixels are coarse.
    """
    import SimpleITK as sitk

    image = sitk.CurvatureFlow(
        sitk.GetImageFromArray(ct.voxels.astype(np.float32)), timeStep=0.0625, numberOfIterations=3
    )
    seed = [int(i) for i in np.rint(ct.grid.to_index(click))[::-1]]
    radius = 2 if ct.grid.spacing_mm[1] < COARSE_MM else 1
    grown = sitk.ConfidenceConnected(image, seedList=[seed], numberOfIterations=3, multiplier=multiplier,
                                     initialNeighborhoodRadius=radius)  # fmt: skip
    return sitk.GetArrayFromImage(grown) > 0


def ball(target: Target) -> Prediction:
    """What the true center, size and slices tell without a network: what is dense in the ellipsoid that they span.

    It is as wide as the tumor is long, and as high as its slices reach.
    """
    grid, (first, last) = target.image.grid, target.case.tumor_slices
    _, row, column = grid.to_index(target.center_mm)
    half = np.array([(last - first + 1) / 2, *(target.case.size_mm / 2 / grid.spacing_mm[1:])])
    offsets = (np.moveaxis(np.indices(grid.shape), 0, -1) - [(first + last) / 2, row, column]) / half
    dense = ((offsets**2).sum(axis=-1) <= 1) & (target.image.voxels > DENSE_HU)
    return Prediction(Volume(dense, grid, target.case.case))


def _find(peer: Peer, name: str) -> Path | None:
    paths = (Path(peer.predictions or "", name + suffix) for suffix in SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def _whole(mask: Grid, slab: Grid) -> Grid:
    """The slab's grid with as many slices more, at either end, as the mask has."""
    corners = mask.to_lps(np.array(list(np.ndindex(2, 2, 2))) * (np.array(mask.shape) - 1))
    slices = slab.to_index(corners)[:, 0]
    first, last = min(0, round(float(slices.min()))), max(slab.shape[0] - 1, round(float(slices.max())))
    if last - first + 1 > mask.shape[0] + slab.shape[0]:
        return slab  # far apart: the refusal compares with the slab
    return slab.crop((first, 0, 0), (last + 1, *slab.shape[1:]))

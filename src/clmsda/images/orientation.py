"""Turning volumes without interpolation: axes are swapped and flipped, values stay."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clmsda.geometry import Grid, Volume
from clmsda.images.errors import GridMismatch


def axial_first(volume: Volume) -> Volume:
    """The same voxels with the axis nearest to superior as the slice axis; rows and columns keep their order.

    Files of coronal or sagittal slices become axial ones this way. An axial volume comes back as
    it is, whichever way its slices run, so that indices stay those of the file.
    """
    directions = volume.grid.affine[2, :3] / volume.grid.spacing_mm
    axis = int(np.argmax(np.abs(directions)))
    return volume if axis == 0 else _turned(volume, [axis, *(a for a in range(3) if a != axis)], [1, 1, 1])


def onto(mask: Volume, grid: Grid, *, part: bool = False) -> Volume:
    """The labels of `mask` on exactly `grid`, if both have the same voxel centers.

    A mask whose axes are swapped or run the other way is turned. With `part` it may cover only
    part of the grid (the rest is 0), and its centers may be a tenth of a voxel off, as slices whose
    positions are rounded are; without, it must cover the grid exactly.

    Raises GridMismatch, saying how the two differ.
    """
    steps = np.linalg.solve(mask.grid.affine[:3, :3], grid.affine[:3, :3])  # grid's steps in voxels of the mask
    axes = np.abs(steps).argmax(axis=0)
    tolerance_mm = 0.1 * float(grid.spacing_mm.min()) if part else 1e-2
    if sorted(axes) == [0, 1, 2]:
        turned = _turned(mask, list(axes), np.sign(steps[axes, [0, 1, 2]]))
        lower = np.rint(grid.to_index(turned.grid.affine[:3, 3])).astype(np.int64) if part else np.zeros(3, np.int64)
        upper = lower + np.array(turned.grid.shape)
        covered = (lower >= 0).all() and (upper <= np.array(grid.shape)).all()
        if (
            covered
            and turned.grid.same_as(grid.crop(lower.tolist(), upper.tolist()), tolerance_mm=tolerance_mm)
            and (part or turned.grid.shape == grid.shape)
        ):
            if turned.grid.shape == grid.shape:
                return Volume(turned.voxels, grid, mask.source)
            voxels = np.zeros(grid.shape, mask.voxels.dtype)
            voxels[tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))] = turned.voxels
            return Volume(voxels, grid, mask.source)
    raise GridMismatch(
        f"{mask.source or 'the mask'} lies on another grid than the image: {_difference(mask.grid, grid)}; "
        "give the image that it was drawn on, or resample it"
    )


def _turned(volume: Volume, axes: list[int], signs: NDArray | list[int]) -> Volume:
    """The volume with axis `axes[n]` as axis n, read backwards where `signs[n]` is negative."""
    voxels = volume.voxels.transpose(axes)
    affine = volume.grid.affine.copy()
    affine[:3, :3] = affine[:3, axes]
    for axis, sign in enumerate(signs):
        if sign < 0:
            affine[:3, 3] += affine[:3, axis] * (voxels.shape[axis] - 1)
            affine[:3, axis] *= -1
            voxels = np.flip(voxels, axis)
    return Volume(np.ascontiguousarray(voxels), Grid(voxels.shape, affine), volume.source)


def _difference(mask: Grid, image: Grid) -> str:
    """Which of shape, spacing, direction and position differ, as words with numbers."""
    parts = []
    if mask.shape != image.shape:
        parts.append(f"shape {'x'.join(map(str, mask.shape))} instead of {'x'.join(map(str, image.shape))}")
    if not np.allclose(mask.spacing_mm, image.spacing_mm, rtol=1e-3):
        spacings = (" x ".join(f"{v:.4g}" for v in grid.spacing_mm) for grid in (mask, image))
        parts.append(f"spacing {' instead of '.join(spacings)} mm")
    directions = [g.affine[:3, :3] / g.spacing_mm for g in (mask, image)]
    angle = np.degrees(np.arccos(np.clip((directions[0] * directions[1]).sum(axis=0), -1, 1)).max())
    if angle > 0.05:
        parts.append(f"axes turned by up to {angle:.1f} degrees")
    shift = float(np.linalg.norm(mask.affine[:3, 3] - image.affine[:3, 3]))
    if shift > 1e-2:
        parts.append(f"first voxel {shift:.4g} mm away")
    return ", ".join(parts) or "corners up to a fraction of a voxel apart"

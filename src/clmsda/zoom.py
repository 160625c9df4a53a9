"""Zoom of tensors about their center by a known ratio: from one view of a tumor to the other.

Scaling about the center is separable, so it is one small matrix product per axis. That is
differentiable, exact to test, and deterministic in both directions on every device
(`grid_sample`'s backward is not, on CUDA).
"""

from __future__ import annotations

import torch
from torch import Tensor

from clmsda.errors import InputError


class ZoomError(InputError):
    """Images or ratios that cannot be zoomed."""


def zoom(images: Tensor, ratio: Tensor) -> tuple[Tensor, Tensor]:
    """Scale each image about its center: by `ratio` > 1 it grows, by `ratio` < 1 it shrinks.

    images: (N, C, *spatial) with 2 or 3 spatial axes, all scaled alike. ratio: (N,), positive.

    Returns (zoomed, valid): float32 (float64 for float64 images) of the images' shape, and a bool
    (N, 1, *spatial) that is false, with `zoomed` 0, where the voxel's center lies outside the field
    of view of `images`. Linear interpolation; where it shrinks, the triangle is widened to
    1 / ratio voxels so that nothing aliases. Within the outer half voxel the edge value holds.

    Raises ZoomError for other shapes and for ratios that are not positive and finite.
    """
    _check(images, ratio)
    with torch.autocast(images.device.type, enabled=False):  # coordinates and weights need float32
        zoomed = images if images.dtype == torch.float64 else images.float()
        ratio = ratio.to(zoomed)
        valid = torch.ones((), dtype=torch.bool, device=images.device)
        for axis in range(2, images.ndim):
            length = images.shape[axis]
            weights, inside = interpolation(length, ratio)
            zoomed = _along(zoomed, weights, axis)
            shape = [len(ratio)] + [1] * (images.ndim - 1)
            shape[axis] = length
            valid = valid & inside.view(shape)
    return zoomed, valid


def interpolation(length: int, ratio: Tensor) -> tuple[Tensor, Tensor]:
    """Matrices that scale an axis of `length` voxels about its middle, (length - 1) / 2.

    ratio: (N,) floating point. Returns the weights (N, length, length), from input (last axis) to
    output, and (N, length): whether an output center lies within the input's field of view. Rows
    within sum to 1, rows outside are 0.
    """
    offset = torch.arange(length, dtype=ratio.dtype, device=ratio.device) - (length - 1) / 2
    source = offset / ratio[:, None]  # where each output voxel comes from, about the middle
    inside = source.abs() <= length / 2
    width = (1 / ratio).clamp(min=1)[:, None, None]
    weights = (1 - (source[:, :, None] - offset).abs() / width).clamp(min=0) * inside[:, :, None]
    return weights / weights.sum(-1, keepdim=True).clamp(min=torch.finfo(ratio.dtype).tiny), inside


def _along(images: Tensor, weights: Tensor, axis: int) -> Tensor:
    """Apply (N, L, L) weights along one axis of (N, C, *spatial) images."""
    last = images.transpose(axis, -1)
    return torch.bmm(last.flatten(1, -2), weights.transpose(1, 2)).view(last.shape).transpose(axis, -1)


def _check(images: Tensor, ratio: Tensor) -> None:
    if images.ndim not in (4, 5) or not images.is_floating_point():
        raise ZoomError(
            f"zoom needs floating-point images of shape (N, C, rows, columns) or (N, C, slices, rows, columns), "
            f"found {images.dtype} of shape {tuple(images.shape)}"
        )
    if ratio.shape != images.shape[:1]:
        raise ZoomError(f"zoom needs one ratio per image, shape ({len(images)},), found {tuple(ratio.shape)}")
    if not bool((ratio.isfinite() & (ratio > 0)).all()):
        raise ZoomError(f"zoom ratios must be positive and finite, found {ratio.tolist()}")

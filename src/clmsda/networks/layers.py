"""The few layers that differ between two and three dimensions, and what is built from them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Kit(NamedTuple):
    """Layers and formats of one number of dimensions."""

    conv: type[nn.Conv2d] | type[nn.Conv3d]
    norm: type[nn.BatchNorm2d] | type[nn.BatchNorm3d]
    pool: type[nn.MaxPool2d] | type[nn.MaxPool3d]
    interpolation: str
    channels_last: torch.memory_format


KITS = {
    2: Kit(nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, "bilinear", torch.channels_last),
    3: Kit(nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d, "trilinear", torch.channels_last_3d),
}


def conv_norm_relu(spatial_dims: int, channels: int, out_channels: int, kernel: int = 3) -> nn.Sequential:
    """A convolution that keeps the size (without bias: the norm has one), batch norm, ReLU."""
    kit = KITS[spatial_dims]
    conv = kit.conv(channels, out_channels, kernel, padding=kernel // 2, bias=False)
    if kernel > 1:  # faster by half on a CPU; in a 1x1 kernel it would only trouble DDP's buckets
        conv.to(memory_format=kit.channels_last)  # type: ignore[call-overload]
    return nn.Sequential(conv, kit.norm(out_channels), nn.ReLU(inplace=True))


def double_conv(spatial_dims: int, channels: int, out_channels: int) -> nn.Sequential:
    """Two times 3x3 convolution, batch norm, ReLU: one level of the U-Net."""
    return nn.Sequential(
        conv_norm_relu(spatial_dims, channels, out_channels), conv_norm_relu(spatial_dims, out_channels, out_channels)
    )


def upsample(x: Tensor) -> Tensor:
    """(N, C, *spatial) to twice the size, linearly, pixel edges aligned.

    The CPU's kernel is the fastest there; the backward of CUDA's adds in random order, so elsewhere
    the same is done by slicing.
    """
    if x.device.type == "cpu":
        return functional.interpolate(x, scale_factor=2, mode=KITS[x.ndim - 2].interpolation, align_corners=False)
    for axis in range(2, x.ndim):
        x = double_axis(x, axis)
    return x


def double_axis(x: Tensor, axis: int) -> Tensor:
    """Linear interpolation to twice the length of one axis: each voxel becomes two, a quarter step aside."""
    length = x.shape[axis]
    before = torch.cat([x.narrow(axis, 0, 1), x.narrow(axis, 0, length - 1)], axis)
    after = torch.cat([x.narrow(axis, 1, length - 1), x.narrow(axis, length - 1, 1)], axis)
    return torch.stack([torch.lerp(before, x, 0.75), torch.lerp(after, x, 0.75)], axis + 1).flatten(axis, axis + 1)


def fold(x: Tensor, side: int) -> Tensor:
    """(N, C, *spatial) to (N, C * side^dims, *spatial / side): blocks of voxels become channels."""
    if side == 1:
        return x
    samples, channels, *lengths = x.shape
    dims, small = len(lengths), [length // side for length in lengths]
    blocks = x.reshape(samples, channels, *(part for length in small for part in (length, side)))
    within, across = range(3, 3 + 2 * dims, 2), range(2, 2 + 2 * dims, 2)
    return blocks.permute(0, 1, *within, *across).reshape(samples, channels * side**dims, *small)


def unfold(x: Tensor, side: int) -> Tensor:
    """The inverse of `fold`."""
    if side == 1:
        return x
    samples, channels, *small = x.shape
    dims = len(small)
    blocks = x.reshape(samples, channels // side**dims, *[side] * dims, *small)
    order = [axis for n in range(dims) for axis in (2 + dims + n, 2 + n)]
    return blocks.permute(0, 1, *order).reshape(samples, channels // side**dims, *(side * n for n in small))

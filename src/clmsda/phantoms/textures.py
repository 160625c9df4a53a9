"""Smooth random fields of a given grain, continuous in space and cheap on any grid."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from clmsda.phantoms.space import Space

SIZE = 48


@cache
def _tile(device: str) -> Tensor:
    """(48, 48, 48) periodic noise with mean 0 and SD 1, smooth so that linear reading shows no lattice."""
    noise = np.random.default_rng(20230501).normal(size=(SIZE, SIZE, SIZE))
    noise = ndimage.gaussian_filter(noise, 1.0, mode="wrap")
    return torch.from_numpy(((noise - noise.mean()) / noise.std()).astype(np.float32)).to(device)


def texture(space: Space, grain_mm: float, offset: NDArray) -> Tensor:
    """Noise with mean 0 and SD about 1 whose blobs are about `grain_mm` wide, on the points of `space`.

    offset: (3,) in 0..1, different for each use. Grains finer than the voxels average out to nothing.
    """
    if space.whole is not None and space.whole.shape[0] != space.shape[0]:
        return space.from_whole((grain_mm, offset.tobytes()), lambda whole: texture(whole, grain_mm, offset))
    cell_mm = grain_mm / 3.5
    fade = min(1.0, (grain_mm / space.width_mm) ** 1.5)
    if fade < 0.15:
        return torch.zeros((1,) * len(space.shape), device=space.device)
    tile = _tile(str(space.device))
    shift = np.asarray(offset) * SIZE
    x, y, z = (c / cell_mm + float(s) for c, s in zip((space.x, space.y, space.z), shift, strict=True))
    flat = x.dim() == 3 and z.numel() == z.shape[0] and x.shape[0] == y.shape[0] == 1
    field = _separable(tile, x, y, z) if flat else _gathered(tile, x, y, z)
    return field.mul_(fade) if fade < 1 else field


def _corners(c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    low = c.floor()
    weight = c - low
    index = low.to(torch.int64) % SIZE
    return index, (index + 1) % SIZE, weight


def _separable(tile: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Axial grids, rotated in the plane or not: read the layers needed in the plane, then a matrix product along z."""
    z0, z1, wz = (c.reshape(-1) for c in _corners(z))
    rows = torch.arange(len(z0), device=tile.device)
    along = torch.zeros(len(z0), SIZE, device=tile.device)
    along[rows, z0] = 1 - wz
    along[rows, z1] += wz
    used = along.any(dim=0).nonzero()[:, 0]
    if len(used) < SIZE:
        along, tile = along[:, used], tile[used]
    if x.numel() == x.shape[2] and y.numel() == y.shape[1]:
        return _fully_separable(tile, x, y, along)
    plane = np.broadcast_shapes(x.shape, y.shape)[1:]
    x0, x1, wx = (c.expand(1, *plane).reshape(-1) for c in _corners(x))
    y0, y1, wy = (c.expand(1, *plane).reshape(-1) for c in _corners(y))
    flat = tile.reshape(len(tile), SIZE * SIZE).T.contiguous()
    wx, wy = wx[:, None], wy[:, None]
    layers = flat[y0 * SIZE + x0].lerp_(flat[y0 * SIZE + x1], wx)
    layers.lerp_(flat[y1 * SIZE + x0].lerp_(flat[y1 * SIZE + x1], wx), wy)
    return (along @ layers.T).reshape(len(along), *plane)


def _fully_separable(tile: Tensor, x: Tensor, y: Tensor, along: Tensor) -> Tensor:
    """Axial grids that are not rotated: a matrix product along each axis."""
    x0, x1, wx = (c.reshape(-1) for c in _corners(x))
    y0, y1, wy = (c.reshape(-1) for c in _corners(y))
    wide = tile[:, :, x0].lerp_(tile[:, :, x1], wx)
    plane = wide[:, y0].lerp_(wide[:, y1], wy[:, None])
    return (along @ plane.reshape(len(plane), -1)).reshape(len(along), *plane.shape[1:])


def _gathered(tile: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Loose points and oblique grids: eight reads a point."""
    (x0, x1, wx), (y0, y1, wy), (z0, z1, wz) = _corners(x), _corners(y), _corners(z)
    flat = tile.reshape(-1)

    def row(zi: Tensor, yi: Tensor) -> Tensor:
        base = (zi * SIZE + yi) * SIZE
        return torch.lerp(flat[base + x0], flat[base + x1], wx.expand((base + x0).shape))

    def layer(zi: Tensor) -> Tensor:
        near = row(zi, y0)
        return torch.lerp(near, row(zi, y1), wy.expand(near.shape))

    near = layer(z0)
    return torch.lerp(near, layer(z1), wz.expand(near.shape))

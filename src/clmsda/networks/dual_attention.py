"""Dual attention (Fu et al., DANet, CVPR 2019; paper section 2.2): where to look, and at which channels.

Position attention is exact, yet its map of tokens by tokens is never stored: it runs through
`scaled_dot_product_attention`, whose fused kernels take queries, keys and values of one width only.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from clmsda.networks.config import REDUCTION
from clmsda.networks.layers import conv_norm_relu
from clmsda.networks.pooling import averages, pooled_shape

ALIGNMENT = 8
"""Fused kernels on CUDA take widths that are multiples of 8."""


class PositionAttention(nn.Module):
    """gamma * softmax(Q K^T) V + x, where Q, K, V are 1x1 convolutions of x and gamma starts at 0.

    tokens: above so many voxels, x is averaged down to at most so many before K and V; 0 for never.
    """

    def __init__(self, channels: int, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.query = nn.Linear(channels, max(1, channels // REDUCTION))  # a 1x1 convolution, on tokens
        self.key = nn.Linear(channels, max(1, channels // REDUCTION))
        self.value = nn.Linear(channels, channels)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *spatial) to the same."""
        attended = self.attend(_tokens(x), _tokens(pool_to(x, self.tokens)))
        return self.gamma * attended.transpose(1, 2).reshape(x.shape) + x

    def attend(self, tokens: Tensor, pooled: Tensor) -> Tensor:
        """softmax(Q K^T) V: (N, T, C) tokens ask, (N, P, C) pooled tokens answer; (N, T, C)."""
        channels = tokens.shape[2]
        width = -(-channels // ALIGNMENT) * ALIGNMENT
        query = _widened(self.query, tokens, width)
        key, value = _widened(self.key, pooled, width), _widened(self.value, pooled, width)
        attended = functional.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None], scale=1.0)
        return attended[:, 0, :, :channels]


class ChannelAttention(nn.Module):
    """gamma * softmax(max(E) - E) X + X with E = X X^T over the channels; gamma starts at 0.

    Always in float32: E sums over every voxel, and the softmax is of its differences.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *spatial) to the same."""
        with torch.autocast(x.device.type, enabled=False):
            tokens = _tokens(x).float()
            energy = tokens.transpose(1, 2) @ tokens
            attention = (energy.amax(-1, keepdim=True) - energy).softmax(-1)
            attended = (tokens @ attention.transpose(1, 2)).transpose(1, 2).reshape(x.shape)
            return (self.gamma * attended).to(x.dtype) + x


class DualAttention(nn.Module):
    """Position plus channel attention, then 1x1 convolution, batch norm, ReLU."""

    def __init__(self, spatial_dims: int, channels: int, tokens: int) -> None:
        super().__init__()
        self.position = PositionAttention(channels, tokens)
        self.channel = ChannelAttention()
        self.fuse = conv_norm_relu(spatial_dims, channels, channels, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *spatial) to the same."""
        return self.fuse(self.position(x) + self.channel(x))


def pool_to(x: Tensor, tokens: int) -> Tensor:
    """Average (N, C, *spatial) over equal boxes until at most `tokens` voxels are left; 0 leaves x as it is.

    Written as matrix products, because the backward of adaptive pooling adds in random order on CUDA.
    """
    for axis, length in enumerate(pooled_shape(x.shape[2:], tokens), start=2):
        if length < x.shape[axis]:
            weights = torch.from_numpy(averages(x.shape[axis], length)).to(x)
            x = (x.transpose(axis, -1) @ weights.T).transpose(axis, -1)
    return x


def _tokens(x: Tensor) -> Tensor:
    """(N, C, *spatial) to (N, T, C); a view where x is in channels-last format."""
    return x.flatten(2).transpose(1, 2)


def _widened(linear: nn.Linear, tokens: Tensor, width: int) -> Tensor:
    """(N, T, C) to (N, T, width): the layer's outputs, then zeros, which change no product of Q and K."""
    missing = width - linear.out_features
    return functional.linear(
        tokens, functional.pad(linear.weight, (0, 0, 0, missing)), functional.pad(linear.bias, (0, missing))
    )

"""The U-Net that carries the blocks (paper section 2.2), in two or three dimensions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clmsda.networks.config import NetworkConfig
from clmsda.networks.layers import KITS, double_conv, fold, unfold, upsample
from clmsda.networks.multi_scale import MultiScale


class UNet(nn.Module):
    """Double convolutions and max-pooling down; linear upsampling, skips and blocks up; one logit per voxel."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        dims, channels, folded = config.spatial_dims, config.channels, config.fold**config.spatial_dims
        self.config = config
        self.down = nn.ModuleList(
            double_conv(dims, before, after)
            for before, after in zip((config.in_channels * folded, *channels), channels, strict=False)
        )
        self.pool = KITS[dims].pool(2)
        self.up = nn.ModuleList(
            double_conv(dims, channels[level] + channels[level + 1], channels[level])
            for level in range(config.levels - 1)
        )
        self.blocks = nn.ModuleList(_block(config, level) for level in range(config.levels - 1))
        self.head = KITS[dims].conv(config.width, folded, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, *spatial) to logits (N, 1, *spatial); sides are multiples of fold * 2^(levels - 1)."""
        self.config.check(x.shape)
        x = fold(x, self.config.fold).contiguous(memory_format=KITS[self.config.spatial_dims].channels_last)
        skips: list[Tensor] = []
        for level, conv in enumerate(self.down):
            x = conv(self.pool(x) if level else x)
            skips.append(x)
        skips.pop()
        for skip, conv, block in reversed(list(zip(skips, self.up, self.blocks, strict=True))):
            x = block(conv(torch.cat([skip, upsample(x)], dim=1)))
        return unfold(self.head(x), self.config.fold)


def _block(config: NetworkConfig, level: int) -> nn.Module:
    """What follows the double convolution of one decoder level."""
    block = config.block_at(level)
    if block == "none":
        return nn.Identity()
    tokens = config.attention_tokens if block == "msda" else None
    return MultiScale(config.spatial_dims, config.channels[level], tokens)

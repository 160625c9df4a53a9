"""The multi-scale block, plain (MS) or with dual attention (MSDA); paper section 2.2, after Res2Net."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from clmsda.networks.config import SCALES
from clmsda.networks.dual_attention import DualAttention
from clmsda.networks.layers import KITS, conv_norm_relu


class MultiScale(nn.Module):
    """Four quarters of the channels see ever larger neighborhoods; a residual around them.

    1x1 convolution; split in four: y1 = x1, y2 = K(x2), y3 = K(x3 + y2), y4 = K(x4 + y3), each K its
    own 3x3 convolution, batch norm, ReLU; concatenate; 1x1 convolution, batch norm; add the input; ReLU.
    As in Res2Net, batch norm and ReLU follow the first 1x1 convolution.

    With `attention_tokens` (not None) each y_i passes through dual attention on its way to the
    concatenation. What goes down the chain is the y_i before attention.
    """

    def __init__(self, spatial_dims: int, channels: int, attention_tokens: int | None = None) -> None:
        super().__init__()
        kit, quarter = KITS[spatial_dims], channels // SCALES
        self.enter = conv_norm_relu(spatial_dims, channels, channels, kernel=1)
        self.scales = nn.ModuleList(conv_norm_relu(spatial_dims, quarter, quarter) for _ in range(SCALES - 1))
        self.attentions = nn.ModuleList(
            nn.Identity() if attention_tokens is None else DualAttention(spatial_dims, quarter, attention_tokens)
            for _ in range(SCALES)
        )
        self.leave = nn.Sequential(kit.conv(channels, channels, 1, bias=False), kit.norm(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *spatial) to the same."""
        parts = self.enter(x).chunk(SCALES, dim=1)
        chain = [parts[0]]
        for index, (scale, part) in enumerate(zip(self.scales, parts[1:], strict=True)):
            chain.append(scale(part + chain[-1] if index else part))
        seen = [attention(y) for attention, y in zip(self.attentions, chain, strict=True)]
        return functional.relu(self.leave(torch.cat(seen, dim=1)) + x)

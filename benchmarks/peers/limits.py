"""What this machine can do at most: matrix products, a large convolution, a copy in memory."""

from __future__ import annotations

import numpy as np
import torch

from peers.rounds import Contestant

SIDE = 2048
CHANNELS, EDGE = 128, 24
COPIED = 1 << 28
"""Bytes: far more than any cache holds."""


def contestants() -> list[Contestant]:
    """`gflop` of the copy are GB, read and written."""
    a, b = torch.rand(2, SIDE, SIDE)
    halves = a.bfloat16(), b.bfloat16()
    arrays = a.numpy(), b.numpy()
    conv = torch.nn.Conv3d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
    image = torch.rand(1, CHANNELS, EDGE, EDGE, EDGE)
    source = np.ones(COPIED // 4, np.float32)
    target = np.empty_like(source)
    product, convolution = 2 * SIDE**3 / 1e9, 2 * 27 * CHANNELS**2 * EDGE**3 / 1e9

    @torch.inference_mode()
    def convolve() -> object:
        return conv(image)

    return [
        Contestant("matrix product, float32, torch", lambda: a @ b, product),
        Contestant("matrix product, float32, numpy", lambda: arrays[0] @ arrays[1], product),
        Contestant("3-D convolution of 128 channels, float32, torch", convolve, convolution),
        Contestant("matrix product, bfloat16, torch", lambda: halves[0] @ halves[1], product),
        Contestant("copy of 256 MiB", lambda: np.copyto(target, source), 2 * COPIED / 1e9),
    ]

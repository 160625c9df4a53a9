"""A network whose weights are known: whatever is denser than half tissue, half lung is tumor; and balls in a lung.

On bright balls in a dark lung that network is exact, so what fails there is segmentation's own doing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import nn

from clmsda import models
from clmsda.geometry import Grid, Volume
from clmsda.models import Model, ModelConfig
from clmsda.networks import NetworkConfig, build, weights_of
from clmsda.patches import PatchConfig
from clmsda.runtimes import Run

LUNG_HU, TISSUE_HU = -850.0, 40.0
Ball = tuple[tuple[float, float, float], float]
"""Center (LPS mm) and diameter (mm)."""


class HalfTissue:
    """Probabilities from the lung window: a half between lung and soft tissue, steep."""

    def __call__(self, patches: NDArray) -> NDArray[np.float32]:
        return expit(self.logits(patches))

    def logits(self, patches: NDArray) -> NDArray[np.float32]:
        return 60 * (patches[:, 0] - np.float32(((LUNG_HU + TISSUE_HU) / 2 + 1350) / 1500))


class Blind(HalfTissue):
    def logits(self, patches: NDArray) -> NDArray[np.float32]:
        return np.full_like(patches[:, 0], -9.0)


def model(shape: tuple[int, ...] = (32, 32, 32), *, pairs: bool = True, network: Run | None = None) -> Model:
    """At the mean size of 46 mm a tumor spans 16 voxels of a patch."""
    patches = PatchConfig(shape, reference_spacing_mm=46 / 16, mean_size_mm=46.0)
    config = ModelConfig(NetworkConfig(len(shape), block="none"), patches, pairs)
    return Model("half-tissue", "0123456789abcdef", config, network or HalfTissue())


def save(path: Path) -> Path:
    """A model file of a real network that does the same: two convolutions that let the density through, then a step."""
    config = NetworkConfig(3, 1, width=4, levels=2, block="none")
    network = build(config)
    for layer in network.modules():
        if isinstance(layer, nn.Conv3d):
            nn.init.zeros_(layer.weight)
            middle = layer.kernel_size[0] // 2
            with torch.no_grad():  # channel 0 alone, which is the skipped one where two are joined
                layer.weight[0, 0, middle, middle, middle] = 1.0 if middle else 60.0
                if not middle and layer.bias is not None:
                    layer.bias.fill_(-60 * ((LUNG_HU + TISSUE_HU) / 2 + 1350) / 1500)
    models.save(weights_of(network), ModelConfig(config, PatchConfig((16, 16, 16), 46 / 8, 46.0), pairs=True), path)
    return path


def distance(grid: Grid, ball: Ball) -> np.ndarray:
    """(slices, rows, columns) mm from the ball's surface, negative inside."""
    points = grid.to_lps(np.moveaxis(np.indices(grid.shape), 0, -1))
    return np.linalg.norm(points - ball[0], axis=-1) - ball[1] / 2


def lung(
    *balls: Ball, spacing_mm: Sequence[float] = (1.5, 1.5, 1.5), shape: tuple[int, int, int] = (72, 72, 72)
) -> Volume:
    """Balls in a lung around 0, 0, 0, with chest wall in front and behind."""
    grid = Grid.axial(shape, spacing_mm, center_mm=(0, 0, 0))
    dense = np.zeros(shape)
    for ball in balls:
        dense = np.maximum(dense, np.clip(0.5 - distance(grid, ball) / min(spacing_mm), 0, 1))
    dense[:, :3] = dense[:, -3:] = 1
    noise = np.random.default_rng(0).normal(0, 10, shape)
    return Volume((LUNG_HU + (TISSUE_HU - LUNG_HU) * dense + noise).astype(np.int16), grid, "lung")


def save_model(folder: Path) -> Path:
    """The same network as a file: weights that carry the lung window through to the head, and nothing else."""
    patches = PatchConfig((32, 32, 32), reference_spacing_mm=46 / 16, mean_size_mm=46.0)
    config = NetworkConfig(3, in_channels=patches.channels, width=4, levels=2, block="none")
    network = build(config)
    state = {name: torch.zeros_like(value) for name, value in network.state_dict().items()}
    for name, value in network.state_dict().items():
        if name.startswith(("down.0", "up.0")) and value.ndim == 5:
            state[name][0, 0, 1, 1, 1] = 1
        elif name.endswith(("running_var", "1.weight", "4.weight")) and value.ndim == 1:
            state[name] = torch.ones_like(value)
    state["head.weight"][0, 0] = 60
    state["head.bias"][0] = -60 * ((LUNG_HU + TISSUE_HU) / 2 + 1350) / 1500
    network.load_state_dict(state)
    path = folder / "half-tissue.safetensors"
    models.save(weights_of(network), ModelConfig(config, patches, pairs=True), path)
    return path

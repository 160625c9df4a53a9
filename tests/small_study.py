"""A cohort of small chests, a study of it that runs in seconds, and a network whose answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from clmsda import models
from clmsda.cohorts import Cohort, add_case
from clmsda.geometry import Grid, Volume
from clmsda.models import Model, ModelConfig
from clmsda.networks import NetworkConfig, build, weights_of
from clmsda.patches import PatchConfig

SIZES_MM = (16.0, 20.0, 24.0, 30.0, 34.0, 40.0, 54.0)


def chest(size_mm: float, seed: int = 0) -> tuple[Volume, Volume]:
    """A body of water with one lung, in it a ball of this diameter; 5 mm slices and pixels, with noise."""
    rng = np.random.default_rng(seed)
    grid = Grid.axial((24, 56, 64), (5.0, 5.0, 5.0), center_mm=(0, 0, 0))
    points = grid.to_lps(np.moveaxis(np.indices(grid.shape), 0, -1))
    x, y, z = np.moveaxis(points, -1, 0)
    hu = np.where((x / 150) ** 2 + (y / 130) ** 2 < 1, 20.0, -1000.0)
    hu[(x / 110) ** 2 + (y / 100) ** 2 + (z / 90) ** 2 < 1] = -850
    mask = np.linalg.norm(points - rng.uniform(-10, 10, 3), axis=-1) < size_mm / 2
    hu[mask] = 40
    hu += rng.normal(0, 10, grid.shape)
    return Volume(hu.clip(-1024).astype(np.int16), grid), Volume(mask.astype(np.uint8), grid)


def write_cohort(folder: Path, sizes_mm: tuple[float, ...] = SIZES_MM) -> Cohort:
    for number, size in enumerate(sizes_mm):
        image, mask = chest(size, number)
        add_case(folder, f"case-{number}", image, mask, image_path="", mask_path="")
    return Cohort.open(folder)


TOML = """
name = "small"
seeds = [1]

[cohort]
folder = "{cohort}"

[split]
test_fraction = 0.4
validation_fraction = 0.3

[training]
data = {{ samples_per_slice = 1, workers = 0 }}
patches = {{ shape = [32, 32], reference_spacing_mm = 5.0 }}
network = {{ width = 4, levels = 2, attention_tokens = 16 }}
optimization = {{ learning_rate = 1e-2, epochs = 1, batch_size = 4, checkpoint_minutes = 1e-4 }}

[[variants]]
name = "U-Net"
variant = "U-Net"

[[variants]]
name = "CL-MSDA-Net"
variant = "CL-MSDA-Net"

[[peers]]
name = "Region growing"
method = "region-growing"
"""


def write_toml(folder: Path, cohort: Path, text: str = TOML) -> Path:
    path = folder / "study.toml"
    path.write_text(text.format(cohort=cohort), encoding="utf8")
    return path


def threshold_model(
    folder: Path,
    *,
    pairs: bool = True,
    shape: tuple[int, ...] = (32, 32),
    spacing_mm: float = 5.0,
    mean_mm: float = 40.0,
) -> Model:
    """A model that marks what is denser than -600 HU: its first channel goes through all layers as it is."""
    network = build(NetworkConfig(spatial_dims=len(shape), width=4, levels=2, block="none"))
    state = network.state_dict()
    for tensor in state.values():
        if tensor.ndim > 1:
            tensor.zero_()
            middle = [n // 2 for n in tensor.shape[2:]]
            tensor[(0, 0, *middle)] = 1.0
    weight, bias = list(state)[-2:]
    level = (-600 + 1350) / 1500
    state[weight] *= 100
    state[bias] = torch.full((1,), -100 * level)
    network.load_state_dict(state)
    patches = PatchConfig(shape=shape, reference_spacing_mm=spacing_mm, mean_size_mm=mean_mm)
    path = folder / "threshold.safetensors"
    models.save(weights_of(network), ModelConfig(network.config, patches, pairs=pairs), path)
    return models.load(path, "cpu")

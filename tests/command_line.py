"""The command line run in this process, a chest to run it on, and models whose answer is known."""

from __future__ import annotations

import io
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch

from clmsda import models
from clmsda.cli import main
from clmsda.geometry import Grid, Volume
from clmsda.models import ModelConfig
from clmsda.networks import NetworkConfig, build, weights_of
from clmsda.patches import PatchConfig


def clmsda(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line as a shell would, but in this process (torch is imported once, not fifty times)."""
    command, out, err = [str(argument) for argument in arguments], io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as left:
        main(command)
    return subprocess.CompletedProcess(command, int(left.value.code or 0), out.getvalue(), err.getvalue())


def refused(*arguments: object) -> str:
    """The one line on stderr of a command that must fail without a traceback."""
    done = clmsda(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def chest() -> Volume:
    """A body of water with two lungs, and in the left one a ball of 30 mm around 60, -60, -40."""
    grid = Grid.axial((40, 120, 140), (3.0, 2.5, 2.5), center_mm=(0, -60, -40))
    points = grid.to_lps(np.moveaxis(np.indices(grid.shape), 0, -1))
    x, y, z = np.moveaxis(points - [0, -60, -40], -1, 0)
    hu = np.where((x / 160) ** 2 + (y / 120) ** 2 < 1, 0, -1000)
    for side in (-1, 1):
        hu[((x - 70 * side) / 60) ** 2 + (y / 85) ** 2 + (z / 75) ** 2 < 1] = -850
    hu[(x - 60) ** 2 + y**2 + z**2 < 15**2] = 40
    noise = np.random.default_rng(0).normal(0, 15, grid.shape)
    return Volume((hu + noise).clip(-1024).astype(np.int16), grid)


def save_constant_model(folder: Path, logit: float) -> Path:
    """Write a model that answers every voxel with the same logit."""
    config = NetworkConfig(spatial_dims=3, width=4, levels=2, block="none")
    network = build(config)
    state = network.state_dict()
    weight, bias = list(state)[-2:]
    assert state[bias].shape == (1,)
    state[weight], state[bias] = torch.zeros_like(state[weight]), torch.full((1,), logit)
    network.load_state_dict(state)
    path = folder / f"constant{logit:+}.safetensors"
    patches = PatchConfig(shape=(16, 16, 16), reference_spacing_mm=2.5, mean_size_mm=25.0)
    models.save(weights_of(network), ModelConfig(config, patches, pairs=True), path)
    return path

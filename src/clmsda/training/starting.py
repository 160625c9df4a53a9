"""The weights of a model for a run's network: to begin with, or to be held to."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import nn

from clmsda import models
from clmsda.training.config import ConfigError, TrainingConfig


def weights_for(network: nn.Module, config: TrainingConfig, key: Literal["start", "anchor"]) -> dict[str, torch.Tensor]:
    """The state of a run's network by the model that `optimization.start` or `.anchor` names.

    What a further input channel adds is zero; channels that the run does not have are left out. A network without
    blocks may begin with the convolutions of one that has some. Raises ConfigError for a model of another architecture.
    """
    model = models.read(getattr(config.optimization, key))
    here, there = config.network, model.config.network
    alike = replace(there, in_channels=here.in_channels, attention_tokens=here.attention_tokens)
    if key == "start" and here.block == "none":
        alike = replace(alike, block="none", block_levels=here.block_levels)
    if alike != here:
        raise ConfigError(f"optimization.{key}: {model.name} is a {there}, the run's is {here}")
    weights = {}
    for name, tensor in network.state_dict().items():
        weights[name] = known = torch.tensor(model.weights[name]).to(tensor.device)
        if known.shape != tensor.shape:  # the first convolution, its channels in their order
            weights[name] = torch.zeros_like(tensor)
            both = min(known.shape[1], tensor.shape[1])
            weights[name][:, :both] = known[:, :both]
    return weights

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

    What a further input channel adds is zero. Raises ConfigError where the model is not of the run's architecture.
    """
    model = models.read(getattr(config.optimization, key))
    here, there = config.network, model.config.network
    alike = replace(there, in_channels=here.in_channels, attention_tokens=here.attention_tokens)
    if alike != here or there.in_channels > here.in_channels:
        raise ConfigError(f"optimization.{key}: {model.name} is a {there}, the run's is {here}")
    weights = {}
    for name, tensor in network.state_dict().items():
        weights[name] = known = torch.tensor(model.weights[name]).to(tensor.device)
        if known.shape != tensor.shape:  # the first convolution: channels that it did not have come last
            weights[name] = torch.zeros_like(tensor)
            weights[name][:, : known.shape[1]] = known
    return weights

"""A running average of a network's weights (Polyak averaging): validated and kept instead of the last step's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Average:
    """keep: how much of the average every step keeps; 0 for no average. weights: by the parameters' names."""

    keep: float
    weights: dict[str, torch.Tensor]

    @classmethod
    def start(cls, network: nn.Module, keep: float) -> Average:
        """At the weights that a network has now."""
        return cls(keep, _copy(network) if keep else {})

    @torch.no_grad()
    def follow(self, network: nn.Module) -> None:
        """Move towards the weights of a network, after a step."""
        for name, parameter in network.named_parameters() if self.weights else ():
            self.weights[name].lerp_(parameter, 1 - self.keep)

    @contextmanager
    def shown(self, network: nn.Module) -> Iterator[None]:
        """Within it, the network has the average's weights; afterwards its own again."""
        own = _copy(network) if self.weights else {}
        _give(network, self.weights)
        yield
        _give(network, own)


def _copy(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}


@torch.no_grad()
def _give(network: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    for name, parameter in network.named_parameters() if weights else ():
        parameter.copy_(weights[name])

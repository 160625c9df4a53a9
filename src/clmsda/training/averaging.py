"""What is validated and kept instead of the last step's weights: their running average, held to another model's.

The average is Polyak's. Holding fine-tuned weights to those of a model that has seen more kinds of cases keeps what
that one knew (WiSE-FT: Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Average:
    """keep: how much of the average every step keeps; 0 for no average. weights: by the parameters' names.

    anchor, share: what is kept lies this share of the way from the average to these weights; empty for none.
    """

    keep: float
    weights: dict[str, torch.Tensor]
    anchor: Mapping[str, torch.Tensor]
    share: float

    @classmethod
    def start(cls, network: nn.Module, keep: float, anchor: Mapping[str, torch.Tensor], share: float) -> Average:
        """At the weights that a network has now."""
        return cls(keep, _copy(network) if keep else {}, anchor, share)

    @torch.no_grad()
    def follow(self, network: nn.Module) -> None:
        """Move towards the weights of a network, after a step."""
        for name, parameter in network.named_parameters() if self.weights else ():
            self.weights[name].lerp_(parameter, 1 - self.keep)

    @contextmanager
    def shown(self, network: nn.Module) -> Iterator[None]:
        """Within it, the network has the weights that are kept; afterwards its own again."""
        own = _copy(network)
        kept = self.weights or own
        if self.anchor:
            kept = {name: weight.lerp(self.anchor[name].to(weight), self.share) for name, weight in kept.items()}
        _give(network, kept)
        yield
        _give(network, own)


def _copy(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}


@torch.no_grad()
def _give(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    for name, parameter in network.named_parameters():
        parameter.copy_(weights[name])

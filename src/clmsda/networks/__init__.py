"""Networks: tensors in, logits out. Importing this package does not import torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from clmsda.networks.config import VARIANTS, Block, NetworkConfig, NetworkError, Variant

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

__all__ = [
    "VARIANTS",
    "Block",
    "NetworkConfig",
    "NetworkError",
    "Variant",
    "build",
    "flops",
    "parameter_count",
    "weights_of",
]


def build(config: NetworkConfig) -> nn.Module:
    """The network of a configuration, freshly initialized from torch's random state.

    It maps (N, in_channels, *spatial) to logits (N, 1, *spatial).
    """
    from clmsda.networks.unet import UNet

    return UNet(config)


def weights_of(network: nn.Module) -> dict[str, NDArray]:
    """A network's weights and statistics by name, on the CPU; see `clmsda.networks.layout` for names and shapes."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()}


def parameter_count(network: nn.Module) -> int:
    """How many numbers training adjusts."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def flops(network: nn.Module, input_shape: Sequence[int]) -> int:
    """Floating-point operations of one forward pass on an input (N, in_channels, *spatial).

    Convolutions, linear layers and attention are counted, two per multiply-add, as they run: with
    the padding that fused attention needs. Nothing is computed, so any size is quick.
    """
    import torch
    from torch._subclasses import FakeTensorMode
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    device, training = next(network.parameters()).device, network.training
    # The counter knows the parts of unfused attention on every device, its fused kernels only on CUDA.
    counter = FlopCounterMode(display=False)
    with FakeTensorMode(allow_non_fake_inputs=True), sdpa_kernel(SDPBackend.MATH), counter, torch.no_grad():
        network.eval()(torch.empty(tuple(input_shape), device=device))
    network.train(training)
    return counter.get_total_flops()

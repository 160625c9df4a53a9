"""One training step of clmsda's networks and of its peers', made as wide as takes equal FLOPs.

Only the network differs: the same patches, batch, loss (`clmsda.losses.supervised`), Adam, threads and precision; no
deep supervision. clmsda's convolutions are in channels-last format, as it trains them; the peers' in torch's default.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from clmsda import losses, models, networks
from clmsda.networks import NetworkConfig
from peers.rounds import Contestant

Shape = tuple[int, ...]
WIDTH = 16
"""Of the paper's network, which has 64: this takes a sixteenth of the time."""
GUESS, STEP = 16, 4
"""Widths are multiples of four: odd numbers of channels are slow for everyone. FLOPs grow with their square."""


def contestants(spatial_dims: int, *, half: bool) -> list[Contestant]:
    """half: in bfloat16, by autocast."""
    if spatial_dims == 2:
        shape, ours = (2, 1, 256, 256), NetworkConfig(width=WIDTH)
        name = f"clmsda, CL-MSDA-Net of the paper, width {WIDTH}"
    else:
        config = models.read().config
        shape, ours = (4, config.network.in_channels, *config.patches.shape), config.network
        name = "clmsda, the default model's network"
    budget = step_gflop(networks.build(ours), shape)
    found = [contestant(name, networks.build(ours), shape, budget, half, ours.width)]
    for title, make in peers(spatial_dims, shape[1]).items():
        width = STEP * max(1, round(GUESS / STEP * (budget / step_gflop(make(GUESS), shape)) ** 0.5))
        made = make(width)
        found.append(contestant(title, made, shape, step_gflop(made, shape), half, width))
    return found


def peers(spatial_dims: int, channels: int) -> dict[str, Callable[[int], nn.Module]]:
    """Networks by their width, the channels at full resolution; all else is as their makers configure it."""
    from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
    from monai.networks.nets import BasicUNet, SegResNet

    def u_net(width: int) -> nn.Module:
        return networks.build(NetworkConfig(spatial_dims, channels, width, 5 if spatial_dims == 2 else 4, block="none"))

    def nn_u_net(kind: type[nn.Module], **blocks: object) -> Callable[[int], nn.Module]:
        """As nnU-Net's planner has it for such patches: halved down to at least 4 voxels a side."""
        stages = 7 if spatial_dims == 2 else 4
        conv, norm = (nn.Conv2d, nn.InstanceNorm2d) if spatial_dims == 2 else (nn.Conv3d, nn.InstanceNorm3d)
        most = 16 if spatial_dims == 2 else 10  # 512 or 320 where the first level has 32

        def make(width: int) -> nn.Module:
            return kind(
                input_channels=channels, n_stages=stages, num_classes=1, conv_op=conv, kernel_sizes=3,
                features_per_stage=[min(width * 2**stage, width * most) for stage in range(stages)],
                strides=[1] + [2] * (stages - 1), conv_bias=True, norm_op=norm,
                norm_op_kwargs={"eps": 1e-5, "affine": True}, nonlin=nn.LeakyReLU, nonlin_kwargs={"inplace": True},
                deep_supervision=False, **{name: value[:stages] if "decoder" not in name else value[: stages - 1]
                                           for name, value in blocks.items()},
            )  # fmt: skip

        return make

    common = {"spatial_dims": spatial_dims, "in_channels": channels, "out_channels": 1}
    return {
        "clmsda, plain U-Net": u_net,
        "nnU-Net, PlainConvUNet": nn_u_net(
            PlainConvUNet, n_conv_per_stage=[2] * 7, n_conv_per_stage_decoder=[2] * 7
        ),
        "nnU-Net, ResidualEncoderUNet": nn_u_net(
            ResidualEncoderUNet, n_blocks_per_stage=[1, 3, 4, 6, 6, 6, 6], n_conv_per_stage_decoder=[1] * 7
        ),
        "MONAI, BasicUNet": lambda width: BasicUNet(
            **common, features=(width, width, 2 * width, 4 * width, 8 * width, width)
        ),
        "MONAI, SegResNet": lambda width: SegResNet(**common, init_filters=width, norm=("GROUP", {"num_groups": 4})),
    }  # fmt: skip


def contestant(name: str, network: nn.Module, shape: Shape, gflop: float, half: bool, width: int) -> Contestant:
    images, targets = torch.rand(shape), (torch.rand(shape[0], 1, *shape[2:]) > 0.9).float()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    network.train()

    def run() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
            logits = network(images)
        losses.supervised(logits, targets).backward()
        optimizer.step()

    return Contestant(name, run, gflop, images.numel() // shape[1], {"width": width})


def step_gflop(network: nn.Module, shape: Shape) -> float:
    """GFLOP forward and back of convolutions, linear layers and attention, two per multiply-add. Computes nothing."""
    counter = FlopCounterMode(display=False)
    with FakeTensorMode(allow_non_fake_inputs=True), sdpa_kernel(SDPBackend.MATH), counter:
        network(torch.empty(shape)).sum().backward()
    network.zero_grad()  # gradients without numbers
    return counter.get_total_flops() / 1e9

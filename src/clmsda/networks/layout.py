"""The names and shapes of a network's weights, worked out without building it. Imports no torch."""

from __future__ import annotations

from itertools import pairwise

from clmsda.networks.config import REDUCTION, SCALES, NetworkConfig

Shape = tuple[int, ...]


def layout(config: NetworkConfig) -> dict[str, Shape]:
    """What `build(config).state_dict()` holds: shapes by name."""
    dims, channels, folded = config.spatial_dims, config.channels, config.fold**config.spatial_dims
    shapes: dict[str, Shape] = {}
    for level, (before, after) in enumerate(zip((config.in_channels * folded, *channels), channels, strict=False)):
        shapes |= _double(dims, f"down.{level}", before, after)
    for level, (here, below) in enumerate(pairwise(channels)):
        shapes |= _double(dims, f"up.{level}", here + below, here)
        if config.block_at(level) != "none":
            shapes |= _multi_scale(dims, f"blocks.{level}", here, attends=config.block_at(level) == "msda")
    return shapes | {"head.weight": (folded, config.width, *[1] * dims), "head.bias": (folded,)}


def _conv(dims: int, name: str, before: int, after: int, kernel: int = 3) -> dict[str, Shape]:
    """A convolution and its batch norm."""
    norm: dict[str, Shape] = {
        f"{name}.1.{part}": (after,) for part in ("weight", "bias", "running_mean", "running_var")
    }
    return {f"{name}.0.weight": (after, before, *[kernel] * dims), **norm, f"{name}.1.num_batches_tracked": ()}


def _double(dims: int, name: str, before: int, after: int) -> dict[str, Shape]:
    return _conv(dims, f"{name}.0", before, after) | _conv(dims, f"{name}.1", after, after)


def _multi_scale(dims: int, name: str, channels: int, attends: bool) -> dict[str, Shape]:
    quarter = channels // SCALES
    shapes = _conv(dims, f"{name}.enter", channels, channels, kernel=1)
    for scale in range(SCALES - 1):
        shapes |= _conv(dims, f"{name}.scales.{scale}", quarter, quarter)
    for scale in range(SCALES if attends else 0):
        shapes |= _attention(dims, f"{name}.attentions.{scale}", quarter)
    return shapes | _conv(dims, f"{name}.leave", channels, channels, kernel=1)


def _attention(dims: int, name: str, channels: int) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {f"{name}.position.gamma": (), f"{name}.channel.gamma": ()}
    few = max(1, channels // REDUCTION)
    for part, width in (("query", few), ("key", few), ("value", channels)):
        shapes |= {f"{name}.position.{part}.weight": (width, channels), f"{name}.position.{part}.bias": (width,)}
    return shapes | _conv(dims, f"{name}.fuse", channels, channels, kernel=1)

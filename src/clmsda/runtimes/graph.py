"""The networks of `clmsda.networks` once more, as an ONNX graph of given weights: for prediction, without torch.

Batch norm is folded into the convolution before it. Folded blocks of voxels enter by a convolution whose stride is a
block, and leave by a transposed one: the same numbers, without a copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clmsda.networks.config import SCALES, NetworkConfig
from clmsda.networks.pooling import averages, pooled_shape
from clmsda.runtimes.onnx_file import END, Graph, file_of

INPUT, OUTPUT = "patches", "probabilities"
EPSILON = 1e-5
"""What batch norm adds to the variance (torch's default)."""
ATTENTION_NUMBERS = 1 << 23
"""So many weights of attention are held at a time, 32 MiB: more queries are asked in parts."""

Weights = Mapping[str, NDArray]


def onnx(
    config: NetworkConfig,
    weights: Weights,
    shape: Sequence[int],
    *,
    fixed: bool = True,
    texts: Mapping[str, str] | None = None,
) -> bytes:
    """An ONNX file: "patches" (N, in_channels, *shape) to tumor "probabilities" (N, 1, *shape), float32.

    fixed: for patches of this shape alone. Else for any that the network takes, about as large, with `means` of their
    shape as further inputs: what attention averages depends on the shape, and ONNX has no word for it.
    """
    graph, pools = Graph(), means(config, shape)
    if fixed:
        for name, array in pools.items():
            graph.constant(array, name)
        inputs: dict[str, Sequence[int | str]] = {}
    else:
        inputs = dict.fromkeys(pools, ("length", "parts"))
    _Net(config, weights, graph, shape).unet()
    sides = [*shape] if fixed else [f"side{axis}" for axis in range(config.spatial_dims)]
    inputs = {INPUT: ("N", config.in_channels, *sides), **inputs}
    return file_of(graph, inputs, {OUTPUT: ("N", 1, *sides)}, texts or {})


def means(config: NetworkConfig, shape: Sequence[int]) -> dict[str, NDArray[np.float32]]:
    """What averages keys and values of patches of a shape down to `attention_tokens`: a matrix a level and axis."""
    found = {}
    for level in range(config.levels - 1):
        if config.block_at(level) == "msda" and config.attention_tokens:
            sides = [side // (config.fold << level) for side in shape]
            pooled = pooled_shape(sides, config.attention_tokens)
            for axis, (length, parts) in enumerate(zip(sides, pooled, strict=True)):
                found[f"means.{level}.{axis}"] = _f(averages(length, parts).T)
    return found


class _Net:
    """The layers of `clmsda.networks`: each takes and gives a tensor's name, and finds its weights by its own."""

    def __init__(self, config: NetworkConfig, weights: Weights, graph: Graph, shape: Sequence[int]) -> None:
        self.config, self.weights, self.graph, self.shape = config, weights, graph, shape
        self.dims = config.spatial_dims

    def unet(self) -> None:
        config, graph, x, skips = self.config, self.graph, INPUT, []
        for level in range(config.levels):
            x = graph("MaxPool", x, kernel_shape=[2] * self.dims, strides=[2] * self.dims) if level else x
            x = self.relu(self.conv(x, f"down.{level}.0", fold=1 if level else config.fold))
            x = self.relu(self.conv(x, f"down.{level}.1"))
            skips.append(x)
        for level in reversed(range(config.levels - 1)):
            x = graph("Concat", skips[level], self.upsample(x), axis=1)
            for name in (f"up.{level}.0", f"up.{level}.1"):
                x = self.relu(self.conv(x, name))
            if config.block_at(level) != "none":
                x = self.multi_scale(x, f"blocks.{level}", level)
        graph("Sigmoid", self.head(x), output=OUTPUT)

    def conv(self, x: str, name: str, fold: int = 1) -> str:
        """A convolution that keeps the size, and batch norm; over blocks of voxels where they enter folded."""
        weight, norm = self.weights[f"{name}.0.weight"], f"{name}.1"
        scale = self.weights[f"{norm}.weight"] / np.sqrt(self.weights[f"{norm}.running_var"] + EPSILON)
        bias = self.weights[f"{norm}.bias"] - self.weights[f"{norm}.running_mean"] * scale
        pads = [weight.shape[-1] // 2 * fold] * (2 * self.dims)
        weight = _over_voxels(weight * scale.reshape(-1, *[1] * (self.dims + 1)), fold)
        strides = [fold] * self.dims
        return self.graph("Conv", x, _f(weight), _f(bias), pads=pads, strides=strides, kernel_shape=weight.shape[2:])

    def relu(self, x: str) -> str:
        return self.graph("Relu", x)

    def upsample(self, x: str) -> str:
        scales = _f([1, 1] + [2] * self.dims)
        return self.graph("Resize", x, "", scales, mode="linear", coordinate_transformation_mode="half_pixel")

    def head(self, x: str) -> str:
        """Logits of each voxel: a channel for each of a folded block, which a transposed convolution puts in place."""
        fold, weight = self.config.fold, self.weights["head.weight"]
        x = self.graph("Conv", x, _f(weight), _f(self.weights["head.bias"]), kernel_shape=weight.shape[2:])
        if fold == 1:
            return x
        sides = [fold] * self.dims
        places = np.eye(fold**self.dims, dtype=np.float32).reshape(-1, 1, *sides)
        return self.graph("ConvTranspose", x, places, strides=sides, kernel_shape=sides)

    def multi_scale(self, x: str, name: str, level: int) -> str:
        parts = self.graph.add("Split", self.relu(self.conv(x, f"{name}.enter")), outputs=SCALES, axis=1)
        chain = [parts[0]]
        for index, part in enumerate(parts[1:]):
            part = self.graph("Add", part, chain[-1]) if index else part
            chain.append(self.relu(self.conv(part, f"{name}.scales.{index}")))
        if self.config.block_at(level) == "msda":
            chain = [self.attend(y, f"{name}.attentions.{index}", level) for index, y in enumerate(chain)]
        left = self.conv(self.graph("Concat", *chain, axis=1), f"{name}.leave")
        return self.relu(self.graph("Add", left, x))

    def attend(self, x: str, name: str, level: int) -> str:
        """Dual attention: x + position + x + channel, then a 1x1 convolution."""
        tokens = self.tokens(x)
        both = self.graph("Add", self.position(x, tokens, f"{name}.position", level), self.channel(tokens, name))
        seen = self.graph("Reshape", both, self.graph("Shape", x))
        twice = self.graph("Add", x, x)
        return self.relu(self.conv(self.graph("Add", seen, twice), f"{name}.fuse"))

    def position(self, x: str, tokens: str, name: str, level: int) -> str:
        """gamma * softmax(Q K^T) V of (N, C, T) tokens; gamma is part of V."""
        pooled = self.tokens(self.pool(x, level))
        query = self.turned(self.linear(tokens, f"{name}.query"))
        key = self.linear(pooled, f"{name}.key")
        value = self.turned(self.linear(pooled, f"{name}.value", self.weights[f"{name}.gamma"]))
        sides = [side // (self.config.fold << level) for side in self.shape]
        asked, answering = prod(sides), prod(pooled_shape(sides, self.config.attention_tokens))
        step = max(1, ATTENTION_NUMBERS // answering)
        attended = []
        for first in range(0, asked, step):
            last = first + step if first + step < asked else END  # a larger patch has a larger last part
            part = self.graph("Slice", query, _i([first]), _i([last]), _i([1])) if step < asked else query
            attention = self.graph("Softmax", self.graph("MatMul", part, key), axis=-1)
            attended.append(self.graph("MatMul", attention, value))
        return self.turned(attended[0] if len(attended) == 1 else self.graph("Concat", *attended, axis=1))

    def channel(self, tokens: str, name: str) -> str:
        """gamma * softmax(max(E) - E) X with E = X X^T of (N, C, T) tokens X."""
        energy = self.graph("MatMul", tokens, self.turned(tokens))
        away = self.graph("Sub", self.graph("ReduceMax", energy, axes=[-1], keepdims=1), energy)
        gamma = _f(self.weights[f"{name}.channel.gamma"])
        attention = self.graph("Mul", self.graph("Softmax", away, axis=-1), gamma)
        return self.graph("MatMul", attention, tokens)

    def linear(self, tokens: str, name: str, factor: ArrayLike = 1.0) -> str:
        """A linear layer over the channels of (N, C, T)."""
        weight, bias = self.weights[f"{name}.weight"] * factor, self.weights[f"{name}.bias"] * factor
        return self.graph("Add", self.graph("MatMul", _f(weight), tokens), _f(bias[:, None]))

    def pool(self, x: str, level: int) -> str:
        """Means over equal boxes, an axis at a time."""
        last = self.dims + 1
        for axis in range(self.dims if self.config.attention_tokens else 0):
            order = list(range(last + 1))
            order[2 + axis], order[last] = last, 2 + axis
            turned = self.graph("Transpose", x, perm=order)
            x = self.graph("Transpose", self.graph("MatMul", turned, f"means.{level}.{axis}"), perm=order)
        return x

    def tokens(self, x: str) -> str:
        """(N, C, *spatial) to (N, C, T)."""
        return self.graph("Reshape", x, _i([0, 0, -1]))

    def turned(self, x: str) -> str:
        """(N, A, B) to (N, B, A)."""
        return self.graph("Transpose", x, perm=[0, 2, 1])


def _over_voxels(weight: NDArray, fold: int) -> NDArray:
    """Weights for folded blocks as weights for voxels: (out, C * fold^dims, *sides) to (out, C, *(sides * fold))."""
    out, channels, *sides = weight.shape
    dims = len(sides)
    blocks = weight.reshape(out, channels // fold**dims, *[fold] * dims, *sides)
    order = [axis for n in range(dims) for axis in (2 + dims + n, 2 + n)]
    return blocks.transpose(0, 1, *order).reshape(out, channels // fold**dims, *(side * fold for side in sides))


def _f(values: ArrayLike) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)


def _i(values: Sequence[int]) -> NDArray[np.int64]:
    return np.array(values, np.int64)

"""ONNX files, written by hand: a few messages of protocol buffers, so that neither `onnx` nor torch is needed.

The numbers are those of the fields in onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

OPSET, IR_VERSION = 17, 8
"""Of 2022: what ONNX Runtime since 1.12 and OpenVINO since 2022.3 read."""
ELEMENT_TYPES = {np.dtype(np.float32): 1, np.dtype(np.int64): 7}
INT, STRING, INTS = 2, 3, 7
"""Types of attributes."""
END = 2**63 - 1
"""Where a slice goes on to the end."""

Attribute = int | str | Sequence[int]
Shape = Sequence[int | str]
"""A length may be a word, which stands for any."""


@dataclass
class Graph:
    """Nodes and constants as they come. A tensor is known by its name, a number unless it has another."""

    nodes: list[bytes] = field(default_factory=list)
    constants: list[bytes] = field(default_factory=list)

    def constant(self, array: NDArray, name: str = "") -> str:
        """Add float32 or int64 numbers; returns their name."""
        name = name or f"c{len(self.constants)}"
        self.constants.append(_tensor(name, array))
        return name

    def add(
        self, operator: str, *inputs: str | NDArray, outputs: int | Sequence[str] = 1, **attributes: Attribute
    ) -> Sequence[str]:
        """Add a node; arrays among its inputs become constants. Returns the names of its outputs."""
        number = len(self.nodes)
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        made = [f"t{number}_{k}" for k in range(outputs)] if isinstance(outputs, int) else outputs
        parts = [*(_text(1, name) for name in names), *(_text(2, name) for name in made)]
        parts += [_text(3, f"{operator}_{number}"), _text(4, operator)]
        parts += [_bytes(5, _attribute(name, value)) for name, value in attributes.items()]
        self.nodes.append(b"".join(parts))
        return made

    def __call__(self, operator: str, *inputs: str | NDArray, output: str = "", **attributes: Attribute) -> str:
        """Add a node with one output; returns its name."""
        return self.add(operator, *inputs, outputs=[output] if output else 1, **attributes)[0]


def file_of(graph: Graph, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape], texts: Mapping[str, str]) -> bytes:
    """The graph as an ONNX file. inputs, outputs: shapes by name, float32. texts: its metadata."""
    parts = [*(_bytes(1, node) for node in graph.nodes), _text(2, "clmsda")]
    parts += [_bytes(5, constant) for constant in graph.constants]
    parts += [_bytes(11, _value(name, shape)) for name, shape in inputs.items()]
    parts += [_bytes(12, _value(name, shape)) for name, shape in outputs.items()]
    opset = _text(1, "") + _number(2, OPSET)
    file = [_number(1, IR_VERSION), _text(2, "clmsda"), _bytes(7, b"".join(parts)), _bytes(8, opset)]
    return b"".join(file + [_bytes(14, _text(1, key) + _text(2, text)) for key, text in texts.items()])


def _value(name: str, shape: Shape) -> bytes:
    lengths = b"".join(_bytes(1, _text(2, n) if isinstance(n, str) else _number(1, n)) for n in shape)
    return _text(1, name) + _bytes(2, _bytes(1, _number(1, ELEMENT_TYPES[np.dtype(np.float32)]) + _bytes(2, lengths)))


def _tensor(name: str, array: NDArray) -> bytes:
    lengths = b"".join(_number(1, n) for n in array.shape)
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return lengths + _number(2, ELEMENT_TYPES[array.dtype]) + _text(8, name) + _bytes(9, little.tobytes())


def _attribute(name: str, value: Attribute) -> bytes:
    if isinstance(value, int):
        return _text(1, name) + _number(3, value) + _number(20, INT)
    if isinstance(value, str):
        return _text(1, name) + _text(4, value) + _number(20, STRING)
    return _text(1, name) + b"".join(_number(8, n) for n in value) + _number(20, INTS)


def _text(number: int, value: str) -> bytes:
    return _bytes(number, value.encode())


def _bytes(number: int, value: bytes) -> bytes:
    return _key(number, 2) + _varint(len(value)) + value


def _number(number: int, value: int) -> bytes:
    return _key(number, 0) + _varint(value % 2**64)  # negative numbers in two's complement


def _key(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the eighth says that more follow."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])

"""Tensors with a text header in one safetensors file: what models and checkpoints are kept in.

Written whole or not at all, and read in one go: whoever reads while another process replaces the
file gets the old one or the new one (safetensors' own reader opens a file twice, and may see half of each).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from clmsda.errors import InputError
from clmsda.files import replacing


class DamagedFile(InputError):
    """A file that is not, or not all of, a safetensors file."""


@dataclass(frozen=True, eq=False)
class TensorFile:
    """texts: the header's entries by name. digest: SHA-256 of the file."""

    texts: dict[str, str]
    tensors: dict[str, NDArray]
    digest: str


def write(path: Path, tensors: Mapping[str, NDArray], texts: Mapping[str, str]) -> None:
    """Write tensors and header texts, atomically. Raises OutputError."""
    arrays = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        # Not by safetensors' own writer, whose temporary files stay where a process is killed.
        temporary.write_bytes(save(arrays, dict(texts)))


def read(path: Path) -> TensorFile:
    """Read a file. Raises DamagedFile where it is truncated or something else, OSError where it cannot be read."""
    data = path.read_bytes()
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise DamagedFile(str(error)) from error
    except KeyError as error:
        raise DamagedFile(f"numbers of the type {error} are not read") from error
    return TensorFile(_texts(data[8 : 8 + _length(data)]), tensors, hashlib.sha256(data).hexdigest())


def read_texts(path: Path) -> dict[str, str]:
    """The header's entries by name, without reading any tensor. Raises as `read` does."""
    with path.open("rb") as file:
        length = _length(file.read(8))
        header = file.read(min(length, path.stat().st_size))
    if len(header) < length:
        raise DamagedFile("the header is cut off")
    return _texts(header)


def _length(start: bytes) -> int:
    """Length of the header, which is JSON behind its length."""
    return int.from_bytes(start[:8], "little")


def _texts(header: bytes) -> dict[str, str]:
    try:
        texts = json.loads(header).get("__metadata__", {})
    except (ValueError, AttributeError, RecursionError) as error:
        raise DamagedFile("the header is no JSON") from error
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise DamagedFile("the header's entries are no texts")
    return texts

"""Checkpoints: everything that a run needs to go on as if it had never stopped.

One safetensors file: tensors of the network, of the best network so far, of the optimizer and of the weights'
running average, and in the header the place in the run. Written to a temporary name and renamed, so that a process
killed at any moment leaves the last whole one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from clmsda import tensor_files
from clmsda.errors import InputError
from clmsda.tensor_files import DamagedFile

HEADER = "clmsda-checkpoint"


class CheckpointError(InputError):
    """A checkpoint that is damaged, or belongs to another configuration."""


@dataclass
class Progress:
    """Where a run stands: `step` steps of epoch `epoch` are done, `sums` of whose losses are kept."""

    epoch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    best_f1: float = -1.0
    best_epoch: int = -1
    seconds: float = 0.0
    finished: bool = False


def save(
    path: Path,
    network: nn.Module,
    best: dict[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    average: dict[str, torch.Tensor],
    progress: Progress,
    config_json: str,
) -> None:
    """Write a checkpoint atomically."""
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    tensors |= {f"average.{name}": tensor for name, tensor in average.items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": tensor for name, tensor in state.items()}
    header = json.dumps({"progress": asdict(progress), "config": json.loads(config_json)})
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
    tensor_files.write(path, arrays, {HEADER: header})


def load(
    path: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: dict[str, torch.Tensor],
    config_json: str,
) -> tuple[Progress, dict[str, torch.Tensor]]:
    """Restore network, optimizer and running average in place; returns the progress and the best network's tensors.

    Raises CheckpointError where the file is damaged or was written under another configuration.
    """
    try:
        file = tensor_files.read(path)
    except (DamagedFile, OSError) as error:
        raise CheckpointError(f"{path} is not a whole checkpoint ({error}): delete it to start anew") from error
    header = _header(file.texts, path)
    tensors = {name: torch.tensor(array) for name, array in file.tensors.items()}
    differing = list(_differences(header.config, json.loads(config_json)))
    if differing:
        raise CheckpointError(
            f"{path} belongs to another configuration ({'; '.join(differing)}): "
            "choose another --out, or delete the run to start anew"
        )
    _check_tensors(tensors, network, average, path)
    network.load_state_dict(_part(tensors, "network."))
    for name, tensor in _part(tensors, "average.").items():
        average[name].copy_(tensor)
    states: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in _part(tensors, "optimizer.").items():
        number, key = name.split(".", 1)
        states.setdefault(int(number), {})[key] = tensor
    groups: list[dict[str, Any]] = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": states, "param_groups": groups})
    return header.progress, _part(tensors, "best.")


def read_progress(path: Path) -> Progress:
    """Where the run of a checkpoint stands; a new run's progress where there is none yet. Raises CheckpointError."""
    try:
        texts = tensor_files.read_texts(path)
    except FileNotFoundError:
        return Progress()
    except (DamagedFile, OSError) as error:
        raise CheckpointError(f"{path} is not a whole checkpoint ({error}): delete it to start anew") from error
    return _header(texts, path).progress


@dataclass
class _Header:
    progress: Progress
    config: dict[str, Any]


def _header(texts: dict[str, str], path: Path) -> _Header:
    if HEADER not in texts:
        raise CheckpointError(f"{path} is not a checkpoint of clmsda: move it away to start anew")
    try:
        return TypeAdapter(_Header).validate_json(texts[HEADER], strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise CheckpointError(
            f"{path} is not a whole checkpoint (header: {where}: {first['msg']}): delete it to start anew"
        ) from error


def _check_tensors(
    tensors: dict[str, torch.Tensor], network: nn.Module, average: dict[str, torch.Tensor], path: Path
) -> None:
    """Raise CheckpointError unless the tensors are those of network and average, and what Adam keeps of each."""
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    expected = {f"{part}.{name}": shape for part in ("network", "best") for name, shape in shapes.items()}
    if not _part(tensors, "best."):  # no epoch has ended yet
        expected = {name: shape for name, shape in expected.items() if name.startswith("network.")}
    expected |= {f"average.{name}": tensor.shape for name, tensor in average.items()}
    states = {name for name in tensors if name.startswith("optimizer.")}
    for number, parameter in enumerate(network.parameters()) if states else ():
        expected |= {f"optimizer.{number}.{key}": parameter.shape for key in ("exp_avg", "exp_avg_sq")}
        expected[f"optimizer.{number}.step"] = torch.Size()
    wrong = sorted(
        name
        for name in expected.keys() | tensors.keys()
        if name not in expected or name not in tensors or expected[name] != tensors[name].shape
    )
    if wrong:
        raise CheckpointError(
            f"{path} is not a whole checkpoint ({len(wrong)} tensors are missing, unknown or of another shape, for "
            f"instance {wrong[0]}): delete it to start anew"
        )


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _differences(old: dict[str, Any], new: dict[str, Any], path: str = "") -> Iterator[str]:
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _differences(a, b, f"{path}{key}.")
        elif a != b:
            yield f"{path}{key} was {a}, is {b}"

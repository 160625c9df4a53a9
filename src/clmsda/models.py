"""Models: weights together with what they were trained with, saved as safetensors.

A model file holds the tensors of one network and, in its header, the configuration needed to use
them (network, patches, protocol of training). No pickle is ever read.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from clmsda import networks, tensor_files
from clmsda.errors import InputError
from clmsda.networks import NetworkConfig
from clmsda.patches import PatchConfig
from clmsda.tensor_files import DamagedFile, TensorFile

HEADER = "clmsda"
WEIGHTS = Path(__file__).parent / "weights"
SHIPPED = "shipped"


class ModelError(InputError):
    """A model file that is missing, damaged, or not a clmsda model."""


class DeviceError(InputError):
    """A compute device that this machine does not have."""


@dataclass(frozen=True)
class ModelConfig:
    """Everything that has to travel with the weights.

    pairs: whether the network was trained on both views (CL-MSDA-Net) or on the size-variant one.
    calibration: (agreement of the views, F1 to expect) pairs, both ascending, measured on cases that
        were not trained on; empty where nobody measured it.
    provenance: free-form facts for people: data, recipe, date, scores.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    network: NetworkConfig
    patches: PatchConfig
    pairs: bool
    calibration: tuple[tuple[float, float], ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        made = (self.patches.spatial_dims, self.patches.channels)
        taken = (self.network.spatial_dims, self.network.in_channels)
        if made != taken:
            raise ModelError(
                f"patches of {made[0]} dimensions and {made[1]} channels do not fit a network for {taken[0]} "
                f"dimensions and {taken[1]} channels"
            )
        if any(a >= c or b > d for (a, b), (c, d) in pairwise(self.calibration)):
            raise ModelError(f"calibration must ascend, found {self.calibration}")

    def confidence(self, agreement: float) -> float:
        """The F1 to expect where the views agree this much; the agreement itself without a calibration."""
        if not self.calibration:
            return agreement
        knots = np.array(self.calibration)
        return float(np.interp(agreement, knots[:, 0], knots[:, 1]))


@dataclass(frozen=True, eq=False)
class Model:
    """A network ready to predict. name: what it was loaded as; digest: SHA-256 of its file."""

    name: str
    digest: str
    config: ModelConfig
    network: nn.Module
    device: torch.device

    @property
    def version(self) -> str:
        return f"{self.name}@{self.digest[:12]}"

    @torch.inference_mode()
    def probabilities(self, patches: torch.Tensor) -> torch.Tensor:
        """(N, channels, *shape) float32 in 0..1 to (N, *shape) float32 tumor probabilities, on the CPU."""
        return torch.sigmoid(self.network(patches.to(self.device)).float())[:, 0].cpu()


def select_device(name: str = "auto") -> torch.device:
    """The device called `name` ("cpu", "cuda", "cuda:1", "mps"); "auto" is CUDA where there is one, else the CPU.

    MPS has to be asked for by name: its 3-D convolutions were reported to give wrong results silently.
    """
    devices = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    here = [kind for kind, count in devices.items() if count]
    if name == "auto":
        return torch.device(here[0])
    kind, _, number = name.partition(":")
    if not (number or "0").isdecimal() or int(number or 0) >= devices.get(kind, 0):
        raise DeviceError(f"device {name!r} is not available here; use one of: auto, {', '.join(here)}")
    return torch.device(name)


def save(network: nn.Module, config: ModelConfig, path: Path) -> None:
    """Write weights and configuration to one safetensors file, atomically."""
    tensor_files.write(path, network.state_dict(), {HEADER: json.dumps(asdict(config))})


def available() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))


def load(name_or_path: str | Path = SHIPPED, device: str = "auto") -> Model:
    """Load a shipped model by name, or any model file by path.

    Raises ModelError for a file that is missing, truncated, a pickle, or of another architecture.
    """
    path = _find(str(name_or_path))
    target = select_device(device)
    file = _read(path)
    config = _config(file.texts, path)
    network = _fitted(config.network, file.tensors, path)
    return Model(path.stem, file.digest, config, network.eval().to(target), target)


def _find(name: str) -> Path:
    if name in available():
        return WEIGHTS / f"{name}.safetensors"
    path = Path(name)
    if not path.is_file():
        known = ", ".join(available()) or "none"
        raise ModelError(f"no model {name!r}: neither a file nor one of the shipped models ({known})")
    return path


def _read(path: Path) -> TensorFile:
    if _is_pickle(path):
        raise ModelError(
            f"{path} is a pickle (.pt, .pth, .ckpt): it could run code and is never loaded; use safetensors"
        )
    try:
        return tensor_files.read(path)
    except (DamagedFile, OSError) as error:
        raise ModelError(f"{path} is not a whole safetensors file ({error}): copy or download it again") from error


def _is_pickle(path: Path) -> bool:
    """Whether a file begins as `torch.save` (a zip) or `pickle.dump` begin it, and not as safetensors may."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[:4] == b"PK\x03\x04" or (start[:1] == b"\x80" and start[1:2] <= b"\x05" and start[8:] != b"{")


def _config(texts: dict[str, str], path: Path) -> ModelConfig:
    from pydantic import TypeAdapter, ValidationError

    if HEADER not in texts:
        raise ModelError(f"{path} has no {HEADER!r} header: it is a safetensors file, but not a clmsda model")
    try:
        return TypeAdapter(ModelConfig).validate_json(texts[HEADER])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or HEADER
        raise ModelError(
            f"{path}: configuration in the header is not understood: {where}: {first['msg']}; "
            "it may be of another version of clmsda"
        ) from error


def _fitted(config: NetworkConfig, tensors: dict[str, torch.Tensor], path: Path) -> nn.Module:
    """The network with these weights. It is laid out without memory first: a header may claim one of any size."""
    try:
        with torch.device("meta"):
            expected = networks.build(config).state_dict()
    except (RuntimeError, TypeError, OverflowError) as error:  # as torch says that lengths overflow
        raise ModelError(f"{path}: no network can be as large as its header says: {config}") from error
    missing, extra = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    wrong = [name for name in expected.keys() & tensors.keys() if expected[name].shape != tensors[name].shape]
    if missing or extra or wrong:
        example = (missing or extra or wrong)[0]
        raise ModelError(
            f"{path}: weights are of another architecture than its header says: {len(missing)} tensors missing, "
            f"{len(extra)} unknown, {len(wrong)} of another shape (for instance {example})"
        )
    network = networks.build(config)
    network.load_state_dict(tensors)
    return network

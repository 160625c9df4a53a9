"""Models: weights together with what they were trained with, saved as safetensors.

A model file holds the tensors of one network and, in its header, the configuration needed to use
them (network, patches, protocol of training). No pickle is ever read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from clmsda import tensor_files
from clmsda.errors import InputError
from clmsda.networks import NetworkConfig
from clmsda.networks.layout import layout
from clmsda.patches import PatchConfig
from clmsda.runtimes import Run
from clmsda.runtimes import runtime as ready
from clmsda.shipped import DEFAULT as DEFAULT
from clmsda.shipped import DETECTOR as DETECTOR
from clmsda.shipped import WEIGHTS, version
from clmsda.shipped import available as available
from clmsda.tensor_files import DamagedFile, TensorFile

HEADER = "clmsda"


class ModelError(InputError):
    """A model file that is missing, damaged, or not a clmsda model."""


@dataclass(frozen=True)
class ModelConfig:
    """Everything that has to travel with the weights.

    pairs: whether the network was trained on both views (CL-MSDA-Net) or on the size-variant one.
    calibration: (agreement of the views, F1 to expect) pairs, both ascending, measured on cases that
        were not trained on; empty where nobody measured it.
    searches: a detector's, which answers with bumps at tumors' centers (`SearchConfig`), not with outlines.
    operating: of a detector, (least probability, sensitivity, false findings in a scan) triples, the first ascending,
        measured on cases that were not trained on; empty where nobody measured them.
    provenance: free-form facts for people: data, recipe, date, scores.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    network: NetworkConfig
    patches: PatchConfig
    pairs: bool
    calibration: tuple[tuple[float, float], ...] = ()
    searches: bool = False
    operating: tuple[tuple[float, float, float], ...] = ()
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
class Trained:
    """What a model file holds. name: what it was read as. digest: its SHA-256. weights: see `networks.layout`."""

    name: str
    digest: str
    config: ModelConfig
    weights: Mapping[str, NDArray]

    @property
    def version(self) -> str:
        return version(self.name, self.digest)


@dataclass(frozen=True, eq=False)
class Model:
    """A network ready to predict.

    probabilities: (N, channels, *shape) float32 patches in 0..1 to (N, *shape) float32 tumor probabilities.
    """

    name: str
    digest: str
    config: ModelConfig
    probabilities: Run

    @property
    def version(self) -> str:
        return version(self.name, self.digest)


def save(weights: Mapping[str, NDArray], config: ModelConfig, path: Path) -> None:
    """Write weights and configuration to one safetensors file, atomically."""
    tensor_files.write(path, weights, {HEADER: json.dumps(asdict(config))})


def check_outliner(model: Model | Trained) -> None:
    """Raise ModelError for a detector in the place of a model that outlines."""
    if model.config.searches:
        raise ModelError(
            f"the model {model.name} says where tumors are, and outlines none: expected one that outlines them, such "
            f"as the one called {DEFAULT}"
        )


def load(
    name_or_path: str | Path = DEFAULT, device: str = "auto", *, runtime: str = "auto", threads: int | None = None
) -> Model:
    """Load a shipped model by name, or any model file by path.

    device, runtime, threads: where it runs, see `clmsda.runtimes.runtime`. Raises ModelError as `read`, DeviceError.
    """
    return start(read(name_or_path), device, runtime=runtime, threads=threads)


def start(found: Trained, device: str = "auto", *, runtime: str = "auto", threads: int | None = None) -> Model:
    """Make a model that was read ready. Raises DeviceError."""
    config = found.config
    run = ready(config.network, found.weights, config.patches.shape, name=runtime, device=device, threads=threads)
    return Model(found.name, found.digest, config, run)


def read(name_or_path: str | Path = DEFAULT) -> Trained:
    """Read a model without making it ready.

    Raises ModelError for a file that is missing, truncated, a pickle, or of another architecture.
    """
    path = _find(str(name_or_path))
    file = _read(path)
    config = _config(file.texts, path)
    _check(config.network, file.tensors, path)
    return Trained(path.stem, file.digest, config, file.tensors)


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


def _check(config: NetworkConfig, tensors: dict[str, NDArray], path: Path) -> None:
    """Raise ModelError unless these are the weights of such a network."""
    expected = layout(config)
    missing, extra = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    wrong = [name for name in expected.keys() & tensors.keys() if expected[name] != tensors[name].shape]
    if missing or extra or wrong:
        example = (missing or extra or wrong)[0]
        raise ModelError(
            f"{path}: weights are of another architecture than its header says: {len(missing)} tensors missing, "
            f"{len(extra)} unknown, {len(wrong)} of another shape (for instance {example})"
        )

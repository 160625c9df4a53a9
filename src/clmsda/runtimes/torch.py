"""The networks of `clmsda.networks` themselves, on any device that torch knows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from clmsda import networks
from clmsda.networks import NetworkConfig
from clmsda.runtimes import DeviceError, Run


def select_device(name: str = "auto") -> torch.device:
    """The device called `name` ("cpu", "cuda", "cuda:1", "mps"); "auto" is CUDA where there is one, else the CPU.

    MPS has to be asked for by name: its 3-D convolutions were reported to give wrong results silently.
    """
    here = devices()
    if name == "auto":
        return torch.device("cuda" if "cuda:0" in here else "cpu")
    if name not in here and f"{name}:0" not in here:
        raise DeviceError(f"device {name!r} is not available here; use one of: auto, {', '.join(here)}")
    return torch.device(name)


def devices() -> list[str]:
    """The devices that torch finds here."""
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count())), *mps]


def runtime(
    config: NetworkConfig, weights: Mapping[str, NDArray], device: str = "auto", threads: int | None = None
) -> Run:
    """See `clmsda.runtimes.runtime`."""
    target = select_device(device)
    if threads:
        torch.set_num_threads(threads)
    network = networks.build(config)
    network.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
    network.eval().to(target)

    @torch.inference_mode()
    def run(patches: NDArray[np.float32]) -> NDArray[np.float32]:
        logits = network(torch.from_numpy(patches).to(target))
        return torch.sigmoid(logits.float())[:, 0].cpu().numpy()

    return run

"""Runtimes: what computes a network's answer. OpenVINO on the CPU, which is all that `clmsda` installs, or torch.

A network is a function from patches to probabilities to whoever uses it; training alone knows more of it.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from clmsda.errors import InputError
from clmsda.networks import NetworkConfig

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""(N, in_channels, *spatial) in 0..1 to (N, *spatial) tumor probabilities; any number of threads may call it."""

RUNTIMES = ("auto", "openvino", "torch")


class DeviceError(InputError):
    """A compute device that this machine, or the runtime, does not have."""


def runtime(
    config: NetworkConfig,
    weights: Mapping[str, NDArray],
    shape: Sequence[int],
    *,
    name: str = "auto",
    device: str = "auto",
    threads: int | None = None,
) -> Run:
    """A network of these weights, ready to run.

    shape: of most patches. name: one of RUNTIMES; "auto" is torch where it finds a GPU, or `device` names one, and
    else OpenVINO. device: "auto", "cpu", "cuda", "cuda:1" or "mps". threads: at most so many.
    Raises DeviceError, and ModuleNotFoundError where torch is asked for and not installed.
    """
    check(name, device)
    if name == "torch" or device not in ("auto", "cpu") or (name == device == "auto" and "cuda:0" in devices()):
        from clmsda.runtimes import torch

        return torch.runtime(config, weights, device, threads)
    from clmsda.runtimes import openvino

    return openvino.runtime(config, weights, shape, threads)


def check(name: str = "auto", device: str = "auto") -> None:
    """Raise what `runtime` raises for a runtime or a device that is not here, before anything is made ready."""
    if name not in RUNTIMES:
        raise DeviceError(f"no runtime {name!r}: use one of {', '.join(RUNTIMES)}")
    known, kind = device in ("auto", "cpu"), device.partition(":")[0]
    if name == "openvino" and kind in ("cuda", "mps"):
        raise DeviceError(f"OpenVINO computes on the CPU here: expected the device auto or cpu, found {device!r}")
    if (name == "torch" or kind in ("cuda", "mps")) and find_spec("torch") is None:
        raise ModuleNotFoundError("torch is not installed", name="torch")
    if not known and device not in (here := devices()) and f"{device}:0" not in here:
        raise DeviceError(f"device {device!r} is not available here; use one of: auto, {', '.join(here)}")


def cores() -> int:
    """As many threads as the process may use processors, or as OMP_NUM_THREADS says, as of torch."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    if told.isdecimal() and int(told):
        return int(told)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def devices() -> list[str]:
    """Where networks can run here. Torch, which takes seconds to import, is asked only where it may know of a GPU."""
    if find_spec("torch") is None or not (_has_driver() or sys.platform == "darwin"):
        return ["cpu"]
    from clmsda.runtimes import torch

    return torch.devices()


def _has_driver() -> bool:
    """Whether NVIDIA's driver is installed."""
    with suppress(OSError):
        return bool(ctypes.CDLL("nvcuda" if sys.platform == "win32" else "libcuda.so.1"))
    return False

"""OpenVINO, which computes the graph of a network on a CPU; docs/runtimes.md has why, and figures.

One patch at a time, since several would only take memory; of any shape, since compiling takes as long as three patches.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Lock
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clmsda.networks import NetworkConfig
from clmsda.runtimes import Run, cores, graph


def runtime(
    config: NetworkConfig,
    weights: Mapping[str, NDArray],
    shape: Sequence[int],
    threads: int | None = None,
    precision: str = "f32",
) -> Run:
    """See `clmsda.runtimes.runtime`. precision: "f32" or "bf16"."""
    core = _core()
    read = core.read_model(graph.onnx(config, weights, shape, fixed=False))
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    settings["INFERENCE_NUM_THREADS"] = threads or cores()
    settings["ENABLE_CPU_PINNING"] = False  # else the one thread of each process of a batch is pinned to the same core
    settings["CPU_RUNTIME_CACHE_CAPACITY"] = 0  # else each new shape takes memory for good, and saves a hundredth
    request = core.compile_model(read, "CPU", settings).create_infer_request()
    means = lru_cache(64)(lambda sides: graph.means(config, sides))
    lock = Lock()  # of the request, which takes one patch after the other

    def run(patches: NDArray[np.float32]) -> NDArray[np.float32]:
        config.check(patches.shape)
        found = np.empty((len(patches), *patches.shape[2:]), np.float32)
        with lock:
            for patch, answer in zip(np.ascontiguousarray(patches), found, strict=True):
                inputs = {graph.INPUT: patch[None], **means(patch.shape[1:])}
                answer[...] = request.infer(inputs, share_inputs=True, share_outputs=True)[0][0, 0]
        return found

    return run


def _core() -> Any:
    """A core, made in a thread of its own, which ends then.

    A core sets the stack that its thread's signal handlers run on, and unmaps that when it goes. Gone from another
    thread, it would leave the first one without: killed by the next signal that Python handles.
    """
    with ThreadPoolExecutor(1) as apart:
        return apart.submit(_new_core).result()


def _new_core() -> Any:
    core = _openvino().Core()
    core.get_property("CPU", "FULL_DEVICE_NAME")  # reads the plugin, which is what sets the stack
    return core


def _openvino() -> ModuleType:
    """OpenVINO without the telemetry of its converter, which comes with it and is not used here."""
    missing: Any = None
    known = "openvino_telemetry" in sys.modules
    if not known:
        sys.modules["openvino_telemetry"] = missing
    try:
        import openvino
    finally:
        if not known:
            del sys.modules["openvino_telemetry"]
    return openvino

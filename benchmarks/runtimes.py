"""What a model's network costs in each runtime, each in a process of its own: start, patches, peak memory, error.

    python benchmarks/runtimes.py [MODEL] [--sides 48 80] [--threads 1]

"onnxruntime" needs the package of that name, which `clmsda` itself does not use. Processor seconds, since a shared
machine makes wall seconds of any length. The error is the largest difference to torch's probabilities.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clmsda import models
from clmsda.runtimes import graph

KINDS = ("torch", "openvino", "openvino bf16", "onnxruntime")
CALLS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="second")
    parser.add_argument("--sides", type=int, nargs="+", default=[48, 80])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--kind", choices=KINDS, help="measure this one, here")
    parser.add_argument("--answers", type=Path)
    options = parser.parse_args()
    if options.kind:
        measure(options.kind, options.model, options.sides, options.threads, options.answers)
        return
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            again = ["--sides", *map(str, options.sides), "--threads", str(options.threads), "--answers", folder]
            subprocess.run([sys.executable, __file__, options.model, "--kind", kind, *again], check=True)


def measure(kind: str, name: str, sides: list[int], threads: int, answers: Path) -> None:
    """Print a line about one runtime."""
    model = models.read(name)
    start = time.process_time()
    run = begin(kind, model, threads, sides)
    texts = [f"{kind:14s} start {time.process_time() - start:5.2f} s"]
    for side in sides:
        shape = (1, model.config.network.in_channels, side, side, side)
        patch = np.random.default_rng(0).random(shape, np.float32)
        start = time.process_time()
        answer = run(patch)
        first = time.process_time()
        for _ in range(CALLS):
            run(patch)
        later = (time.process_time() - first) / CALLS
        known = answers / f"{side}.npy"
        if not known.exists():
            np.save(known, answer)
        error = np.abs(np.load(known) - answer).max()
        texts.append(f"{side}: first {first - start:.2f} s, later {later:.3f} s, error {error:.0e}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(", ".join([*texts, f"peak {peak:.2f} GiB"]), flush=True)


def begin(kind: str, model: models.Trained, threads: int, sides: list[int]) -> Callable[[NDArray], NDArray]:
    network, weights, shape = model.config.network, model.weights, model.config.patches.shape
    if kind == "torch":
        from clmsda.runtimes import torch

        return torch.runtime(network, weights, "cpu", threads)
    if kind.startswith("openvino"):
        from clmsda.runtimes import openvino

        return openvino.runtime(network, weights, shape, threads, "bf16" if kind.endswith("bf16") else "f32")
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    sessions = {
        side: onnxruntime.InferenceSession(graph.onnx(network, weights, (side,) * 3), settings) for side in sides
    }
    return lambda patch: sessions[patch.shape[2]].run(None, {graph.INPUT: patch})[0][:, 0]


if __name__ == "__main__":
    main()

"""Samples per second: phantoms rendered as pairs of patches by one process, and whole training steps on this machine.

    python benchmarks/training_speed.py [models/shipped.toml] [--set key=value ...] [--pairs 64] [--device cpu]

The network before voxels were folded into channels, on the same machine:
    --set network.fold=1 --set network.width=16 --set network.levels=4 --set network.block_levels=[2]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import torch

from clmsda.training import TrainingConfig, read_config, train
from clmsda.training.sources import open_samples


def rendering(config: TrainingConfig, pairs: int) -> float:
    """Pairs per second of one process on one core."""
    samples, *_ = open_samples(config)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    start = time.perf_counter()
    for number in range(pairs):
        samples.pair(0, number)
    torch.set_num_threads(threads)
    return pairs / (time.perf_counter() - start)


def training(path: Path, changes: list[str], pairs: int, device: str) -> float:
    """Pairs per second of an epoch, with its rendering, without its validation."""
    shorter = [
        "optimization.epochs=1", f"data.samples_per_epoch={pairs}", "data.validation_samples=2",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as out:
        train(read_config(path, [*changes, *shorter]), out, device=device)
        (line,) = Path(out, "metrics.jsonl").read_text().splitlines()
    return pairs / json.loads(line)["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    recipe = Path(__file__).parents[1] / "models" / "shipped.toml"
    parser.add_argument("config", nargs="?", type=Path, default=recipe)
    parser.add_argument("--set", dest="changes", action="append", default=[])
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    rendered = rendering(read_config(options.config, options.changes), min(16, options.pairs))
    trained = training(options.config, options.changes, options.pairs, options.device)
    print(f"{os.cpu_count()} CPU cores: rendering {rendered:.2f} pairs/s a core, training {trained:.2f} pairs/s")


if __name__ == "__main__":
    main()

"""How much faster `clmsda batch` is with more processes: by turns, over the same phantom CTs.

    python benchmarks/batch_speed.py                        one and two processes on two processors
    python benchmarks/batch_speed.py --rows 24 --runs 5

Throughput is taken between the first outcome and the last one of a command, so that loading the model, which each
process does once, does not count; the whole command's time is told beside it. Three ways: one process with one thread,
one process whose network takes all processors, and a process for each processor. On a shared machine processor time is
what counts.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple


class Run(NamedTuple):
    """Of one command: seconds, processor seconds of its processes, rows a second between first and last outcome."""

    wall_s: float
    cpu_s: float
    rows_per_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=12)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--matrix", type=int, default=256)
    parser.add_argument("--model", default="second")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    ways = {"one process, one thread": (1, 1), f"one process, {cores} threads": (1, cores),
            f"{cores} processes, one thread each": (cores, cores)}  # fmt: skip
    runs: dict[str, list[Run]] = {way: [] for way in ways}
    loads = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory(prefix="batch-speed-") as name:
        table = make_table(Path(name), options.rows, options.matrix)
        for number in range(options.runs):
            for way, (processes, threads) in ways.items():
                out = Path(name, f"{number}-{way}")
                runs[way].append(run(table, out, processes, threads, options.model))
                loads.append(os.getloadavg()[0])
    print(f"{options.rows} CTs of {options.matrix} x {options.matrix} pixels, model {options.model}, "
          f"{options.runs} runs, {cores} processors, load {min(loads):.1f} to {max(loads):.1f}")  # fmt: skip
    first = statistics.median(one.rows_per_s for one in next(iter(runs.values())))
    for way, made in runs.items():
        wall, cpu, speed = (statistics.median(column) for column in zip(*made, strict=True))
        print(f"{way}: {speed * 60:.1f} CTs a minute ({speed / first:.2f} times), whole command {wall:.1f} s, "
              f"processor {cpu / options.rows:.2f} s per CT, loading included")  # fmt: skip


def make_table(folder: Path, rows: int, matrix: int) -> Path:
    """Three phantoms, each several times."""
    from clmsda.cohorts import write_phantoms

    cases = write_phantoms(folder / "phantoms", 3, seed=100, matrix=matrix).cases
    lines = ["name,ct,point"]
    for number in range(rows):
        case = cases[number % len(cases)]
        point = ",".join(f"{value:.1f}" for value in case.center_mm)
        lines.append(f'case-{number:03},{folder / "phantoms" / case.image},"{point}"')
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder / "table.csv"


def run(table: Path, out: Path, processes: int, threads: int, model: str) -> Run:
    command = [sys.executable, "-m", "clmsda", "batch", str(table), "--out", str(out), "--processes", str(processes),
               "--model", model]  # fmt: skip
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)})
    wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    ended = sorted(path.stat().st_mtime for path in out.glob("cases/*/outcome.json"))
    return Run(wall, cpu, (len(ended) - processes) / (ended[-1] - ended[processes - 1]))


if __name__ == "__main__":
    main()

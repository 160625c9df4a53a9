"""From click to mask: wall and processor time and peak memory of `clmsda segment` in a fresh process, reading included.

    python benchmarks/click_to_mask.py                                  a phantom CT, clicked in its tumor
    python benchmarks/click_to_mask.py CT --point=82.5,-199.8,-459.5    any CT
    python benchmarks/click_to_mask.py CT --point=... --beside other/.venv/bin/python    by turns with another version
    python benchmarks/click_to_mask.py CT --point=... --again 9         also in memory, all loaded and clicked before

Linux and macOS (it asks the kernel for the children's peak memory). On a shared machine processor time is what counts.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple


class Run(NamedTuple):
    """Of one process: wall seconds, processor seconds, peak bytes."""

    wall_s: float
    cpu_s: float
    peak: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", nargs="?", type=Path)
    parser.add_argument("--point", help="X,Y,Z in LPS mm; needed with a CT of your own")
    parser.add_argument("--model", default="shipped")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--beside", type=Path, metavar="PYTHON", help="that of another clmsda")
    parser.add_argument("--again", type=int, default=0, metavar="N", help="also N clicks in memory")
    options = parser.parse_args()
    if options.ct and not options.point:
        parser.error("a CT of your own needs --point")
    pythons = [Path(sys.executable), *([options.beside] if options.beside else [])]
    runs: dict[Path, list[Run]] = {python: [] for python in pythons}
    with tempfile.TemporaryDirectory() as folder:
        ct, point = (options.ct, options.point) if options.ct else write_phantom(Path(folder))
        for _ in range(options.runs):
            for python in pythons:
                runs[python].append(run_once(python, ct, point, options.model, Path(folder)))
        print(f"{ct}, model {options.model}: {options.runs} runs on {os.cpu_count()} CPU cores")
        for number, (python, ended) in enumerate(runs.items()):
            wall, cpu, peak = zip(*ended, strict=True)
            print(
                f"{'beside' if number else 'this'}: wall median {statistics.median(wall):.1f} s, "
                f"fastest {min(wall):.1f} s; processor median {statistics.median(cpu):.1f} s; "
                f"peak memory {max(peak) / 2**30:.2f} GiB"
            )
            if options.again:
                command = [python, "-c", AGAIN, ct, point, options.model, str(options.again)]
                subprocess.run(command, check=True)


AGAIN = """
import statistics, sys, time
from pathlib import Path
from clmsda import Point, load_model, read_ct, segment
ct, model = read_ct(Path(sys.argv[1])), load_model(sys.argv[3])
point = Point(tuple(map(float, sys.argv[2].split(","))))
wall, cpu = [], []
for number in range(int(sys.argv[4]) + 1):
    start = time.perf_counter(), time.process_time()
    segment(ct, point, model)
    if number:
        wall.append(time.perf_counter() - start[0])
        cpu.append(time.process_time() - start[1])
print(f"    in memory: wall median {statistics.median(wall):.2f} s, fastest {min(wall):.2f} s; "
      f"processor median {statistics.median(cpu):.2f} s")
"""


def write_phantom(folder: Path) -> tuple[Path, str]:
    """A CT of 512x512 pixels as a file, and the center of its tumor."""
    # In a process of its own: a child's peak memory counts from what its parent held at the fork.
    code = (
        "import sys; from clmsda import images, measurements, phantoms\n"
        "ct, truth = phantoms.scan(phantoms.sample(7), matrix=512)\n"
        "images.write_image(ct, sys.argv[1])\n"
        "print(*measurements.measure(truth).center_mm, sep=',')"
    )
    ct = folder / "ct.nii.gz"
    written = subprocess.run([sys.executable, "-c", code, ct], check=True, stdout=subprocess.PIPE, text=True)
    return ct, written.stdout.strip()


def run_once(python: Path, ct: Path, point: str, model: str, folder: Path) -> Run:
    """One `clmsda segment`."""
    start, options = time.perf_counter(), [f"--point={point}", "--model", model, "-o", folder / "mask.nii.gz"]
    process = subprocess.Popen([python, "-m", "clmsda", "segment", ct, *options], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        sys.exit(f"clmsda segment failed with status {os.waitstatus_to_exitcode(status)}")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Run(seconds, usage.ru_utime + usage.ru_stime, peak)


if __name__ == "__main__":
    main()

"""From click to mask: wall time and peak memory of `clmsda segment` in a fresh process, reading included.

    python benchmarks/click_to_mask.py                                  a phantom CT, clicked in its tumor
    python benchmarks/click_to_mask.py CT --point=82.5,-199.8,-459.5    any CT

Linux and macOS (it asks the kernel for the children's peak memory).
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", nargs="?", type=Path)
    parser.add_argument("--point", help="X,Y,Z in LPS mm; needed with a CT of your own")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    if options.ct and not options.point:
        parser.error("a CT of your own needs --point")
    with tempfile.TemporaryDirectory() as folder:
        ct, point = (options.ct, options.point) if options.ct else write_phantom(Path(folder))
        seconds, peaks = zip(*(run_once(ct, point, Path(folder)) for _ in range(options.runs)), strict=True)
    print(f"{ct}: {options.runs} runs on {os.cpu_count()} CPU cores")
    print(f"wall time: median {statistics.median(seconds):.1f} s, slowest {max(seconds):.1f} s")
    print(f"peak memory: {max(peaks) / 2**30:.2f} GiB")


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


def run_once(ct: Path, point: str, folder: Path) -> tuple[float, int]:
    """Seconds and peak bytes of one `clmsda segment`."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "clmsda", "segment", ct, f"--point={point}", "-o", folder / "mask.nii.gz"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        sys.exit(f"clmsda segment failed with status {os.waitstatus_to_exitcode(status)}")
    return seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()

"""Slices per second and peak memory of an import, beside plain pydicom reading of the same files.

    python benchmarks/import_speed.py                                  LUNG1-001 in ../shared/data
    python benchmarks/import_speed.py DOWNLOAD --clinical CSV --workers 4 --runs 5

Plain reading is `dcmread` and `pixel_array` of every file, in one process. The import is everything that
`clmsda cohort import` does: find the series, read CT and contours, measure, write the slab and the tables. It keeps
and reads only the slices around a tumor, but counts, like plain reading, all slices of the files that it was given.
Both run in turn, each time anew, so that what else the machine does burdens both alike: believe the ratios. The clock
counts waiting for the disk, too, which only the import does, as it writes. Peak memory is that of the largest process
of an import in a process of its own.

Linux and macOS (it asks the kernel for the children's peak memory).
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
from collections.abc import Callable
from pathlib import Path

from pydicom import dcmread

from clmsda.cohorts.importing import import_cases
from clmsda.cohorts.tcia import ALL, nsclc_radiomics
from clmsda.images.dicom_files import is_dicom

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "nsclc-radiomics"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("download", nargs="?", type=Path, default=SHARED)
    parser.add_argument("--clinical", type=Path, help="the collection's table; else the only CSV in the download")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--import-into", type=Path, help=argparse.SUPPRESS)  # what the process under watch does
    options = parser.parse_args()
    clinical = options.clinical or next(options.download.glob("*.csv"))
    if options.import_into:
        run_import(options.download, clinical, options.import_into, options.workers)
        print(peak_bytes(resource.RUSAGE_SELF), peak_bytes(resource.RUSAGE_CHILDREN))
        return
    files = [path for path in sorted(options.download.rglob("*")) if path.is_file() and is_dicom(path)]
    slices = read_plainly(files)
    with tempfile.TemporaryDirectory() as folder:
        run_import(options.download, clinical, Path(folder, "warm"), options.workers)
        plain, ours = [], []
        for number in range(options.runs):
            plain.append(seconds(read_plainly, files))
            ours.append(seconds(run_import, options.download, clinical, Path(folder, str(number)), options.workers))
        peak = peak_of_import(options.download, clinical, Path(folder, "watched"), options.workers)
    print(f"{slices} slices in {len(files)} files, {options.runs} runs in turn, {os.cpu_count()} CPU cores")
    print(f"{'slices per second':22}{'median':>8}{'best':>8}{'best, of processor time':>28}")
    for name, times in (("plain pydicom", plain), (f"import, {options.workers} worker(s)", ours)):
        rates, per_cpu = ([slices / one[n] for one in times] for n in (0, 1))
        print(f"{name:22}{statistics.median(rates):8.0f}{max(rates):8.0f}{max(per_cpu):28.0f}")
    wall, work = (statistics.median(a[n] / b[n] for a, b in zip(plain, ours, strict=True)) for n in (0, 1))
    print(f"import / plain, median of the runs: {wall:.2f} by the clock, {work:.2f} by processor time")
    print(f"peak memory of the import's largest process: {peak / 2**30:.2f} GiB")


def read_plainly(files: list[Path]) -> int:
    """Read every file as pydicom does; returns the number of slices."""
    count = 0
    for path in files:
        dataset = dcmread(path)
        if dataset.Modality == "CT":
            dataset.pixel_array  # noqa: B018
            count += 1
    return count


def run_import(download: Path, clinical: Path, out: Path, workers: int) -> None:
    import_cases(out, nsclc_radiomics(download, clinical, [ALL]), workers=workers)


def seconds(function: Callable[..., object], *arguments: object) -> tuple[float, float]:
    """By the clock, and of the processor in this process and its children."""
    start, work = time.perf_counter(), sum(os.times()[:4])
    function(*arguments)
    return time.perf_counter() - start, sum(os.times()[:4]) - work


def peak_of_import(download: Path, clinical: Path, out: Path, workers: int) -> int:
    """Bytes of the largest process of an import in a fresh one."""
    command = [sys.executable, __file__, str(download), "--clinical", str(clinical), "--workers", str(workers)]
    done = subprocess.run([*command, "--import-into", str(out)], check=True, stdout=subprocess.PIPE, text=True)
    return max(map(int, done.stdout.split()))


def peak_bytes(whose: int) -> int:
    return resource.getrusage(whose).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()

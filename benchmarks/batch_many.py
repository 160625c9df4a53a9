"""Ten thousand small CTs through `clmsda batch`, one in a hundred corrupt in ten ways, while processes are killed.

    python benchmarks/batch_many.py FOLDER                     10,000 rows, four processes; an hour on two cores
    python benchmarks/batch_many.py FOLDER --rows 200 --kills 4

The CTs are cubes of 48 voxels around the tumors of a few phantoms, shifted and with noise of their own, as NIfTI, NRRD,
MetaImage and (one in a hundred) DICOM series; the network is a small one that takes dense tissue in lung for tumor: it
is the batch that is tried here. At random moments a process is killed (SIGKILL), and once, about half-way, the
parent, after which the same command is given again. Then everything is counted: each row once, none done twice, each
corrupt one with its reason. The memory of the parent and its processes is sampled; FOLDER/memory.png draws it,
FOLDER/report.json has the figures. Linux only (/proc); it needs [train], which makes the phantoms.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from clmsda.geometry import Grid, Volume
from clmsda.images import write_image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

SIDE, SPACING_MM, PHANTOMS = 48, 2.5, 12
SAMPLE_S = 5.0
Spoil = Callable[[Path, dict[str, str]], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--kills", type=int, default=60, help="processes, evenly over the rows")
    parser.add_argument("--corrupt", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--preview", action="store_true", help="with pictures, which take two thirds of the time")
    options = parser.parse_args()
    inputs, out = options.folder / "inputs", options.folder / "out"
    expected = make_inputs(inputs, options.rows, options.corrupt, options.seed)
    command = [sys.executable, "-m", "clmsda", "batch", str(inputs / "table.csv"), "--out", str(out),
               "--model", str(inputs / "model.safetensors"), "--processes", str(options.processes),
               *([] if options.preview else ["--no-preview"])]  # fmt: skip
    watch = Watch(out, options.rows, options.kills, random.Random(options.seed))
    started = time.monotonic()
    while not watch.ended:
        watch.follow(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
    seconds = time.monotonic() - started
    resumed = time.monotonic()
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    report = count(out, expected, watch) | {
        "seconds": round(seconds), "nothing_left_to_do_s": round(time.monotonic() - resumed, 1),
        "last_line": again.stdout.strip(), "processor_s_per_row": round(watch.processor_s() / options.rows, 3),
    }  # fmt: skip
    (options.folder / "report.json").write_text(json.dumps(report | {"samples": watch.samples}))
    draw(watch.samples, options.folder / "memory.png")
    print(json.dumps(report, indent=1))


# Inputs


def make_inputs(folder: Path, rows: int, corrupt: float, seed: int) -> dict[str, str]:
    """CTs, table and model, made once; what is wrong with each row by its name, "" with most."""
    plan = folder / "plan.json"
    if plan.is_file():
        return json.loads(plan.read_text())
    import half_tissue

    folder.mkdir(parents=True)
    half_tissue.save(folder / "model.safetensors")
    chosen = random.Random(seed).sample(range(rows), max(len(SPOILS), round(rows * corrupt)))
    wrong = {number: list(SPOILS)[place % len(SPOILS)] for place, number in enumerate(chosen)}
    with ProcessPoolExecutor(2) as pool:
        kinds = (wrong.get(number, "") for number in range(rows))
        lines = list(pool.map(make_row, [folder] * rows, range(rows), kinds, chunksize=50))
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["name", "ct", "point", "patient"])
        writer.writeheader()
        writer.writerows(lines)
    expected = {line["name"]: wrong.get(number, "") for number, line in enumerate(lines)}
    plan.write_text(json.dumps(expected))
    return expected


@cache
def cube(seed: int) -> tuple[Volume, tuple[float, float, float]]:
    """The surroundings of a phantom's tumor, and the tumor's center."""
    import torch

    from clmsda.phantoms import acquire, render_slices, sample

    torch.set_num_threads(1)
    phantom = sample(seed)
    center = tuple(round(float(value), 1) for value in phantom.tumor_extent()[0])
    grid = Grid.axial((SIDE,) * 3, (SPACING_MM,) * 3, center_mm=center)
    hu = acquire(render_slices(phantom, grid)[0], grid, phantom.acquisition, seed)
    return Volume(hu.round().to(torch.int16).numpy(), grid, "cube"), center


def make_row(folder: Path, number: int, wrong: str) -> dict[str, str]:
    volume, center = cube(number % PHANTOMS)
    rng = np.random.default_rng(number)
    moved = np.roll(volume.voxels, rng.integers(-3, 4, 3), axis=(0, 1, 2))
    own = Volume((moved + rng.normal(0, 15, moved.shape)).astype(np.int16), volume.grid, "cube")
    suffix = "" if wrong in SERIES or number % 100 == 0 else (".nii.gz", ".nrrd", ".mha", ".nii")[number % 4]
    path = folder / "cts" / f"{number // 1000:02}" / f"{number:05}{'.nii.gz' if wrong in NIFTI else suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix:
        write_image(own, path)
    else:
        from dicom_series import write_series

        write_series(path, own)
    line = {"name": f"case-{number:05}", "ct": str(path.relative_to(folder)), "point": ",".join(map(str, center)),
            "patient": f"P{number // 2:05}"}  # fmt: skip
    if wrong:
        SPOILS[wrong](path, line)
    return line


def _rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def _scaled(path: Path, line: dict[str, str]) -> None:
    import SimpleITK as sitk

    image = sitk.ReadImage(str(path))
    sitk.WriteImage(sitk.Cast(image, sitk.sitkFloat32) / 4000 + 0.5, str(path))


def _magnetic(path: Path, line: dict[str, str]) -> None:
    from pydicom import dcmread
    from pydicom.uid import MRImageStorage

    for file in path.iterdir():
        dataset = dcmread(file)
        dataset.Modality, dataset.SOPClassUID = "MR", MRImageStorage
        dataset.file_meta.MediaStorageSOPClassUID = MRImageStorage
        dataset.save_as(file)


SPOILS: dict[str, Spoil] = {
    "empty file": lambda path, line: _rewrite(path, lambda content: b""),
    "truncated": lambda path, line: _rewrite(path, lambda content: content[: len(content) // 2]),
    "other content": lambda path, line: _rewrite(path, lambda content: b"<html>404 Not Found</html>" * 20),
    "gone": lambda path, line: path.unlink(),
    "not in HU": _scaled,
    "missing slice": lambda path, line: sorted(path.iterdir())[SIDE // 2].unlink(),
    "truncated slice": lambda path, line: _rewrite(sorted(path.iterdir())[3], lambda content: content[:900]),
    "MR": _magnetic,
    "point outside": lambda path, line: line.update(point="900,0,0"),
    "no prompt": lambda path, line: line.update(point=""),
}
SERIES = ("missing slice", "truncated slice", "MR")
NIFTI = ("empty file", "truncated", "other content", "gone", "not in HU")


# Watching, and killing


@dataclass
class Watch:
    """Follows the command, kills its processes at random and the parent once; samples memory, and who did what."""

    out: Path
    rows: int
    kills: int
    rng: random.Random
    ended: bool = False
    killed: int = 0
    parents_killed: int = 0
    samples: list[dict[str, object]] = field(default_factory=list)
    made: dict[str, int] = field(default_factory=dict)
    again: list[str] = field(default_factory=list)
    said: str = ""
    _used: dict[int, float] = field(default_factory=dict)
    _started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.moments = sorted(self.rng.uniform(0.01, 0.99) * self.rows for _ in range(self.kills))
        self.last_of_parent = self.rng.uniform(0.45, 0.55) * self.rows

    def follow(self, parent: subprocess.Popen[str]) -> None:
        sampled = 0.0
        while parent.poll() is None:
            time.sleep(0.2)
            now = time.monotonic()
            if now - sampled > SAMPLE_S:
                self.sample(parent.pid)
                sampled = now
            done = len(self.made)
            if self.moments and done >= self.moments[0]:
                self.moments.pop(0)
                self.kill_one(parent.pid)
            if not self.parents_killed and done >= self.last_of_parent:
                parent.send_signal(signal.SIGKILL)
                self.parents_killed += 1
        self.look()
        self.ended = parent.returncode != -signal.SIGKILL
        self.said = parent.stderr.read() if self.ended and parent.stderr else ""

    def kill_one(self, parent: int) -> None:
        processes = workers(parent)
        if processes:
            with suppress(ProcessLookupError):
                os.kill(self.rng.choice(processes), signal.SIGKILL)
                self.killed += 1

    def look(self) -> None:
        """Which outcomes are there; one whose folder is another one than before was made twice."""
        with suppress(FileNotFoundError):
            for entry in os.scandir(self.out / "cases"):
                inode = entry.inode()
                if self.made.setdefault(entry.name, inode) != inode:
                    self.again.append(entry.name)
                    self.made[entry.name] = inode

    def sample(self, parent: int) -> None:
        self.look()
        processes = workers(parent)
        for process in (parent, *processes):
            with suppress(OSError, IndexError):
                fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
                self._used[process] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        self.samples.append({
            "s": round(time.monotonic() - self._started), "rows": len(self.made), "parent_mb": resident_mb(parent),
            "workers_mb": [resident_mb(process) for process in processes], "load": os.getloadavg()[0],
        })  # fmt: skip

    def processor_s(self) -> float:
        return sum(self._used.values())


def workers(parent: int) -> list[int]:
    """The processes that a batch has started, without the tracker of multiprocessing."""
    with suppress(OSError):
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    return []


def resident_mb(process: int) -> float:
    with suppress(OSError, IndexError):
        return round(int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)
    return 0.0


# Counting


def count(out: Path, expected: dict[str, str], watch: Watch) -> dict[str, object]:
    with (out / "results.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    names = Counter(row["name"] for row in found)
    status = {row["name"]: row for row in found}
    failures = [row for row in found if row["status"] != "done"]
    failed_well = [name for name, wrong in expected.items() if wrong and not _is_done(status, name)]
    reasons: dict[str, str] = {}
    for name, wrong in expected.items():
        if wrong and name in status:
            reasons.setdefault(wrong, status[name]["reason"])
    return {
        "rows": len(expected), "accounted_once": sum(count == 1 for count in names.values()),
        "missing": len(expected.keys() - names.keys()), "unknown": len(names.keys() - expected.keys()),
        "done": sum(_is_done(status, name) for name in names), "corrupt": sum(map(bool, expected.values())),
        "corrupt_failed": len(failed_well), "without_reason": sum(not row["reason"] for row in failures),
        "others_failed": {row["name"]: row["reason"] for row in failures if not expected[row["name"]]},
        "done_twice": watch.again, "debris": len({*out.glob(".*"), *(out / "cases").glob(".*")} - {out / ".lock"}),
        "processes_killed": watch.killed, "parents_killed": watch.parents_killed, "reasons": reasons,
        "said": watch.said[-600:], "page_mb": round((out / "results.html").stat().st_size / 1e6, 1),
    }  # fmt: skip


def _is_done(status: dict[str, dict[str, str]], name: str) -> bool:
    return name in status and status[name]["status"] == "done"


def draw(samples: list[dict[str, object]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 2.8), dpi=110, layout="constrained")
    axes = figure.subplots()
    rows = [one["rows"] for one in samples]
    largest = [max(one["workers_mb"], default=0.0) for one in samples]  # type: ignore[call-overload]
    axes.plot(rows, largest, ".", markersize=2, color="#1f5fbf", label="largest of the processes")
    axes.plot(rows, [one["parent_mb"] for one in samples], ".", markersize=2, color="#b3261e", label="parent")
    axes.set(xlabel="rows done", ylabel="resident memory, MB", ylim=(0, None))
    axes.legend(frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    main()

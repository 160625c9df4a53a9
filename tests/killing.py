"""Commands of clmsda to be killed anywhere: their inputs, what lies in their folders, and what is wrong with it.

`tests/test_kill.py` kills them at a dozen moments, `benchmarks/kill_anywhere.py` at hundreds.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import small_study
from dicom_series import save, slices
from preloaded import Preloaded
from pydicom import dcmread

from clmsda import tensor_files
from clmsda.files import is_unfinished, make_folder
from clmsda.geometry import Volume
from clmsda.images import write_image, write_mask
from clmsda.measurements import measure
from clmsda.training.checkpoint import HEADER

POLL_S = 0.001
VOLATILE = {"seconds", "training_seconds", "evaluation_seconds", "software"}
"""What the JSON of two equal runs differs in; and `model` of done.json, the digest of a file with seconds in it."""

OBJECTS = {"--dicom-seg": "seg.dcm", "--rtstruct": "rtstruct.dcm", "--sr": "sr.dcm"}

# One network less, to be quick; a process that prepares samples, which outlives the study that is killed.
STUDY = re.sub(r"\[\[variants]]\nname = \"CL.*?\n\n", "", small_study.TOML, flags=re.DOTALL)
STUDY = STUDY.replace("workers = 0", "workers = 1")
TRAINING = """
name = "tiny"
seed = 1
data = {{ source = "{cohort}", samples_per_slice = 1, validation_fraction = 0.34, workers = 0 }}
patches = {{ shape = [32, 32], reference_spacing_mm = 5.0 }}
network = {{ width = 4, levels = 2, attention_tokens = 16 }}
optimization = {{ learning_rate = 1e-2, epochs = 2, batch_size = 4, checkpoint_minutes = 1e-4 }}
"""


Moment = Callable[[float, int], bool]
"""Whether it has come, after so many seconds and so many changes in the folder of the results."""


@dataclass(frozen=True)
class Command:
    """A command of clmsda that writes what can be looked at.

    arguments: for an output folder. earlier: of a run whose results this one replaces. reset: makes an output folder
    new and empty. held: what is where the results go, by name. watched: where its writes can be seen.
    """

    name: str
    arguments: Callable[[Path], Sequence[object]]
    earlier: Callable[[Path], Sequence[object]] | None = None
    reset: Callable[[Path], None] = lambda out: shutil.rmtree(out, ignore_errors=True)
    held: Callable[[Path], dict[str, Any]] = lambda out: contents(out)
    watched: Callable[[Path], Path] = lambda out: out


def commands(folder: Path) -> list[Command]:
    """All commands that write into a folder, with their inputs, which are made in `folder`."""
    folder.mkdir(parents=True)
    patient, pairs = _patient(folder), _pairs(folder / "pairs")
    cohort = small_study.write_cohort(folder / "cohort", (16.0, 20.0, 24.0, 30.0)).folder
    (folder / "tiny.toml").write_text(TRAINING.format(cohort=cohort), encoding="utf8")
    study = small_study.write_toml(folder, cohort, STUDY)

    def imported(out: Path, workers: int) -> list[object]:
        make_folder(out)
        return ["cohort", "import", "folder", pairs, "--out", out, "--workers", workers]

    return [
        Command("segment", patient.segment, lambda out: patient.segment(out, model="other")),
        Command("convert", patient.convert, lambda out: patient.convert(out, mask="other")),
        Command("cohort import folder", lambda out: imported(out, 1)),
        Command("cohort import, 2 workers", lambda out: imported(out, 2)),
        Command("phantom", lambda out: ["phantom", out, "--cases", 2, "--seed", 1, "--matrix", 64]),
        Command("train", lambda out: ["train", folder / "tiny.toml", "--out", out, "--device", "cpu"]),
        Command("study run", lambda out: ["study", "run", study, "--out", out, "--device", "cpu"]),
    ]


@dataclass(frozen=True)
class Patient:
    """A CT, as a series and as a zip of it, and a click in its tumor."""

    folder: Path
    click: str

    def segment(self, out: Path, model: str = "model") -> list[object]:
        make_folder(out)
        files = {"-o": "mask.nii.gz", "--json": "mask.json", "--preview": "mask.png", **OBJECTS}
        named = [text for option, name in files.items() for text in (option, out / name)]
        model_file = self.folder / model / "threshold.safetensors"
        return ["segment", self.folder / "ct.zip", f"--point={self.click}", "--model", model_file, *named]

    def convert(self, out: Path, mask: str = "mask") -> list[object]:
        make_folder(out)
        files = {"--nifti": "mask.nii.gz", **OBJECTS}
        named = [text for option, name in files.items() for text in (option, out / name)]
        return ["convert", self.folder / f"{mask}.nii.gz", "--reference", self.folder / "ct.zip", *named]


def _patient(folder: Path) -> Patient:
    image, truth = small_study.chest(30.0)
    save(slices(image), folder / "series")
    shutil.make_archive(str(folder / "ct"), "zip", folder / "series")
    for name, spacing_mm in (("model", 5.0), ("other", 8.0)):
        (folder / name).mkdir()
        small_study.threshold_model(folder / name, spacing_mm=spacing_mm)
    write_mask(truth, folder / "mask.nii.gz")
    write_mask(small_study.chest(24.0)[1], folder / "other.nii.gz")
    return Patient(folder, ",".join(f"{x:.1f}" for x in measure(truth).center_mm))


def _pairs(folder: Path) -> Path:
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number, size in enumerate((16.0, 20.0, 24.0, 30.0, 34.0, 40.0)):
        image, mask = small_study.chest(size, number)
        write_image(image, folder / "images" / f"case-{number}.nii.gz")
        write_mask(mask, folder / "masks" / f"case-{number}.nii.gz")
    write_image(image, folder / "images" / "empty.nii.gz")
    write_mask(Volume(mask.voxels * 0, mask.grid), folder / "masks" / "empty.nii.gz")
    return folder


class Fresh:
    """Starts each command as a shell does: in a new interpreter."""

    def start(
        self, arguments: Sequence[object], temporary: Path, said: Path, largest_bytes: int | None = None
    ) -> FreshRun:
        assert largest_bytes is None, "only forked processes have limits"
        temporary.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "clmsda", *map(str, arguments)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(temporary)}
        with said.open("wb") as file:
            return FreshRun(subprocess.Popen(command, env=environment, stdout=file, stderr=file), said)

    def warm_up(self, arguments: Sequence[object]) -> None:
        """A new interpreter is never warm."""


class FreshRun:
    def __init__(self, process: subprocess.Popen[bytes], said: Path) -> None:
        self.process, self._said = process, said

    def poll(self, timeout_s: float = 0.0) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout_s)
        return self.process.returncode

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(60)

    @property
    def said(self) -> str:
        return self._said.read_text(errors="replace")


def run(
    home: Fresh | Preloaded, arguments: Sequence[object], folder: Path, largest_bytes: int | None = None
) -> tuple[int, str]:
    """Run the command line to its end: its exit status, and all that it said.

    folder: for what it says, and for a temporary folder of its own. largest_bytes: that it may make a file.
    """
    running = home.start(arguments, folder / "t", folder / "said.txt", largest_bytes)
    if running.poll(300) is None:
        running.kill()
    status = running.poll()
    assert status is not None
    return status, running.said


@dataclass(frozen=True)
class Done:
    """A run that was killed, or that was through before. changes: those that were seen in the folder watched."""

    status: int
    seconds: float
    changes: int
    said: str

    @property
    def killed(self) -> bool:
        return self.status == -signal.SIGKILL


def kill_when(
    home: Fresh | Preloaded,
    arguments: Sequence[object],
    folder: Path,
    watched: Path,
    moment: Moment,
) -> Done:
    """Run the command line until `moment(seconds, changes in the folder watched)`, then kill it."""
    changes, seen = 0, look(watched)
    running = home.start(arguments, folder / "t", folder / "said.txt")
    began = time.monotonic()
    while running.poll() is None:
        now = look(watched)
        changes, seen = changes + (now != seen), now
        if moment(time.monotonic() - began, changes):
            running.kill()
            break
        time.sleep(POLL_S)
    status = running.poll()
    assert status is not None
    return Done(status, time.monotonic() - began, changes, running.said)


def look(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and inode of every file in a folder that may be changing."""
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                state = os.stat(f"{parent}/{name}")
            except OSError:
                continue
            found[f"{parent}/{name}"] = (state.st_size, state.st_ino)
    return found


def debris(folder: Path) -> list[str]:
    """Names of what lies in a folder and is no result: temporary files and folders."""
    names = (path for path in folder.rglob("*") if path.name.startswith(".") and path.name != ".lock")
    return sorted(str(path.relative_to(folder)) for path in names)


def contents(folder: Path) -> dict[str, Any]:
    """What a folder's files at their final names say, but for seconds, dates, new UIDs. Raises where one is damaged."""
    found = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        str(name): _content(path)
        for name, path in found.items()
        if not any(is_unfinished(part) for part in (name, *name.parents))
        and name.name != ".lock"
        and "tensorboard" not in name.parts
    }


def _content(path: Path) -> Any:
    if path.suffix == ".dcm":
        return _dicom(path)
    if path.suffix == ".json":
        return _json(json.loads(path.read_bytes()))
    if path.suffix == ".jsonl":
        return [_json(json.loads(line)) for line in path.read_text().splitlines()]
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return list(csv.reader(file))
    if path.suffix == ".safetensors":
        file = tensor_files.read(path)
        texts = {name: _json(json.loads(text)) for name, text in file.texts.items()}
        return texts, {name: tensor.tobytes() for name, tensor in file.tensors.items()}
    return path.read_bytes()


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _json(one) for key, one in value.items() if key not in VOLATILE}
        return kept if "evaluation_seconds" not in value else kept | {"model": bool(value["model"])}
    return [_json(one) for one in value] if isinstance(value, list) else value


def _dicom(path: Path) -> Any:
    def plain(elements: dict[str, Any]) -> dict[str, Any]:
        return {
            tag: {**one, "Value": [plain(v) if isinstance(v, dict) and one["vr"] == "SQ" else v for v in one["Value"]]}
            if "Value" in one
            else one
            for tag, one in elements.items()
            if one["vr"] not in ("UI", "DA", "TM", "DT")
        }

    return plain(dcmread(path).to_json_dict())


def wrong(now: dict[str, Any], whole: dict[str, Any]) -> list[str]:
    """Files that are none of those on the way to an undisturbed run's, or none of its own."""
    return [name for name, content in now.items() if name not in whole or not _leads_to(name, content, whole[name])]


def _leads_to(name: str, content: Any, end: Any) -> bool:
    """Whether what an unfinished command has written so far is on the way to the end that it must come to."""
    if content == end:
        return True
    if name.endswith(".csv"):
        return all(row in end for row in content)
    if name.endswith(".jsonl"):
        return bool(content == end[: len(content)])
    if name.endswith("study.json"):  # what it says of the cohort is entered last
        rest = content | {"cohort": 0} == end | {"cohort": 0}
        return bool(rest and content["cohort"].items() <= end["cohort"].items())
    if name.endswith(".safetensors"):  # of an earlier step: its tensors are others
        return bool(content[1].keys() <= end[1].keys() and content[0].keys() == end[0].keys())
    return False


def lost(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Results that were there before, and are not any more, or go less far."""
    return [name for name, content in before.items() if name not in now or _reach(now[name]) < _reach(content)]


def _reach(content: Any) -> tuple[int, ...]:
    """How far a result goes: rows of tables (of exclusions, a new run finds its own again), steps of a checkpoint."""
    if isinstance(content, tuple) and HEADER in content[0]:
        progress = content[0][HEADER]["progress"]
        return progress["epoch"], progress["step"]
    if isinstance(content, list) and content and content[0] != ["patient", "source", "reason"]:
        return (len(content),)
    return ()

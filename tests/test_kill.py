"""Killed anywhere, on a full disk, in a folder that cannot be written: nothing is half, wrong, lost or left behind.

A dozen moments of `benchmarks/kill_anywhere.py`, which kills at hundreds. Moments are the appearance of files, under
their temporary or their final names, so that they are the same on a slow machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

import pytest
from killing import Command, Moment, commands, contents, debris, kill_when, look, lost, run, wrong
from preloaded import Preloaded, preloaded

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills, limits and mounts as POSIX systems do")

MOMENTS = {
    "segment": ("*mask.nii.gz", "*sr.dcm"),
    "convert": ("*seg.dcm", "*mask.nii.gz"),
    "cohort import folder": ("*case-1.npy", "*cohort.csv"),
    "phantom": ("*.nii.gz", "*cohort.csv"),
    "train": ("*model.safetensors", "*metrics.jsonl", "*checkpoint.safetensors"),
    "study run": ("*split.json", "*scores.csv"),
}
"""What a command is killed at, one after the other, before it may end."""

FULL_BYTES = {"segment": 60_000, "convert": 20_000, "train": 60_000, "study run": 60_000, "phantom": 500_000}
"""How large a disk is that gets full; others 100 kB."""


@pytest.fixture(scope="module")
def home() -> Iterator[Preloaded]:
    with preloaded() as process:
        yield process


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Command]:
    return {one.name: one for one in commands(tmp_path_factory.mktemp("known") / "inputs")}


@pytest.fixture(params=MOMENTS)
def command(known: dict[str, Command], request: pytest.FixtureRequest) -> Command:
    return known[request.param]


def appears(pattern: str, watched: Path) -> Moment:
    """When a file of such a name is there that was not before, or is another."""
    before = look(watched)
    return lambda seconds, changes: any(
        before.get(name) != state for name, state in look(watched).items() if fnmatch(name, pattern)
    )


def test_a_killed_command_goes_on_to_the_same_end(home: Preloaded, command: Command, tmp_path: Path) -> None:
    out, before = tmp_path / "out", {}
    assert run(home, command.arguments(out), tmp_path)[0] == 0
    end = contents(out)
    shutil.rmtree(out)
    if command.earlier:
        assert run(home, command.earlier(out), tmp_path)[0] == 0
        before = contents(out)
    old = dict(before)
    for pattern in MOMENTS[command.name]:
        done = kill_when(home, command.arguments(out), tmp_path, out, appears(pattern, out))
        assert done.killed, f"it was through before {pattern} appeared: {done.said}"
        now = contents(out)
        assert not [name for name in wrong(now, end) if now[name] != old.get(name)]
        assert not lost(before, now)
        before = now
    status, said = run(home, command.arguments(out), tmp_path)
    assert status == 0, said
    assert contents(out) == end
    assert not debris(out) + debris(tmp_path / "t")


def test_a_full_disk(home: Preloaded, command: Command, tmp_path: Path) -> None:
    """The same command, once there is room, goes on."""
    with disk(tmp_path / "disk", FULL_BYTES.get(command.name, 100_000)) as place:
        out = place / "out"
        refused(home, command, out, tmp_path, "make room")
        now = contents(out)
        mount("-o", "remount,size=100m", place)
        status, said = run(home, command.arguments(out), tmp_path)
        assert status == 0, said
        end = contents(out)
        assert not wrong(now, end) + lost(now, end) + debris(out)


def test_earlier_results_outlive_a_full_disk(home: Preloaded, command: Command, tmp_path: Path) -> None:
    if command.earlier is None:
        pytest.skip(f"{command.name} replaces nothing")
    with disk(tmp_path / "disk", 10_000_000) as place:
        out = place / "out"
        assert run(home, command.earlier(out), tmp_path)[0] == 0
        before, size = contents(out), sum(os.stat(path).st_blocks * 512 for path in place.rglob("*"))
        mount("-o", f"remount,size={size + 20_000}", place)
        refused(home, command, out, tmp_path, "make room")
        assert contents(out) == before


def test_a_limit_of_a_file_s_size(home: Preloaded, command: Command, tmp_path: Path) -> None:
    """A full disk for those who are not root."""
    out = tmp_path / "out"
    refused(home, command, out, tmp_path, "make room", largest_bytes=12_000)
    assert not contents(out).keys() & {"mask.nii.gz", "seg.dcm", "mask.json"}  # all or none


def test_a_disk_that_is_mounted_to_be_read(home: Preloaded, command: Command, tmp_path: Path) -> None:
    with disk(tmp_path / "disk", 10_000_000) as place:
        (place / "out").mkdir()
        mount("-o", "remount,ro", place)
        refused(home, command, place / "out", tmp_path, "Read-only file system; choose another")
        assert not list((place / "out").iterdir())


def test_a_finished_result_on_a_disk_that_is_mounted_to_be_read(
    home: Preloaded, command: Command, tmp_path: Path
) -> None:
    with disk(tmp_path / "disk", 10_000_000) as place:
        out = place / "out"
        assert run(home, command.arguments(out), tmp_path)[0] == 0
        before = contents(out)
        mount("-o", "remount,ro", place)
        status, said = run(home, command.arguments(out), tmp_path)
        assert status in (0, 2)  # there is nothing left to do, or nowhere to do it
        assert said.count("error: ") == (status == 2) and "Traceback" not in said
        assert contents(out) == before


def test_a_folder_below_a_file(home: Preloaded, command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    arguments = [
        str(one).replace(str(tmp_path / "a"), str(tmp_path / "file")) for one in command.arguments(tmp_path / "a")
    ]
    status, said = run(home, arguments, tmp_path)
    assert (status, said.count("\n")) == (2, 1), said
    assert (tmp_path / "file").read_text() == "not a folder"


def refused(
    home: Preloaded, command: Command, out: Path, folder: Path, because: str, largest_bytes: int | None = None
) -> None:
    """The command must fail, and say why in one line; nothing temporary may stay."""
    status, said = run(home, command.arguments(out), folder, largest_bytes=largest_bytes)
    assert status == 2, said
    (line,) = (line for line in said.splitlines() if line.startswith("error: "))
    assert because in line and (str(out) in line or "shared memory" in line)
    assert "Traceback" not in said and said.rstrip("\n").endswith(line), said
    assert not debris(out) + debris(folder / "t")


@contextmanager
def disk(place: Path, size: int) -> Iterator[Path]:
    """A disk of so many bytes, in memory."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root, who may mount a small disk")
    place.mkdir()
    done = mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", place)
    if done.returncode:
        pytest.skip(f"needs to mount a small disk: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def mount(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)

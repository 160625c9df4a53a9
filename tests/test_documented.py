"""docs/command-line.md holds: every exit status and every JSON field that it names is real, and no other is."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import chest, clmsda, save_constant_model
from dicom_series import write_series
from response_cases import scans

from clmsda.images import write_image
from clmsda.response.report import respond

PAGE = (Path(__file__).parent.parent / "docs" / "command-line.md").read_text(encoding="utf-8")
SPHERE = "--point=60,-60,-40"


def section(title: str) -> str:
    """What stands under a heading, up to the next one."""
    return re.split(r"^#{2,3} ", PAGE.split(f"# {title}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def first_column(title: str) -> list[str]:
    return [line.split(" | ")[0].removeprefix("| ") for line in section(title).splitlines() if line.startswith("| ")]


def named(title: str) -> set[str]:
    return {name for cell in first_column(title) for name in re.findall(r"`([^`]+)`", cell)}


def fields(content: Any, path: str = "") -> Iterator[str]:
    """The names of all values of a JSON, members of lists under []."""
    if isinstance(content, dict) and content:
        for name, value in content.items():
            yield from fields(value, f"{path}.{name}".removeprefix("."))
    elif isinstance(content, list) and any(isinstance(one, dict) for one in content):
        for one in content:
            yield from fields(one, f"{path}[]")
    else:
        yield path


def real(*contents: Any) -> set[str]:
    """Of several outputs together; a field that is null or empty in one, and an object in another, is that object."""
    found = {name for content in contents for name in fields(content)}
    return {name for name in found if not any(other.startswith((f"{name}.", f"{name}[]")) for other in found)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CT as NIfTI and as a series, a model, and a mask."""
    folder = tmp_path_factory.mktemp("documented")
    write_image(chest(), folder / "ct.nii.gz")
    write_series(folder / "series", chest())
    save_constant_model(folder, 5.0).rename(folder / "model.safetensors")
    return folder


def started(*arguments: object, **more: Any) -> subprocess.Popen[bytes]:
    def hears_interrupts() -> None:  # shells start background jobs, and so tests that run in one, deaf to Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)

    if os.name != "posix":
        pytest.skip("sends POSIX signals")
    command = [sys.executable, "-m", "clmsda", *map(str, arguments)]
    return subprocess.Popen(command, preexec_fn=hears_interrupts, stderr=subprocess.PIPE, **more)


def ended_by(how: signal.Signals, out: Path) -> int:
    """The status of a command that waits for a PACS which never answers, and is ended meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(60)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/dicom-web"
        process = started("pacs", "pull", "--url", url, "--series", "1.2.3", "--out", out)
        with listening.accept()[0] as connection:
            assert connection.recv(4) == b"GET "
            process.send_signal(how)
            process.communicate(timeout=60)
    return process.returncode


def test_every_documented_status_is_real(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text('name,ct,point\na,missing.nii.gz,"1,2,3"\n')
    unread, unwritten = os.pipe()
    os.close(unread)
    nobody = started("info", "series", folder / "series", stdout=unwritten)
    os.close(unwritten)
    nobody.communicate(timeout=60)
    statuses = {
        0: clmsda("--version").returncode,
        1: clmsda("batch", table, "--out", tmp_path / "batch", "--model", folder / "model.safetensors").returncode,
        2: clmsda("segment", "missing", "-o", tmp_path / "x.nii.gz", "--point=1,2,3").returncode,
        130: ended_by(signal.SIGINT, tmp_path / "pulled"),
        141: nobody.returncode,
        143: ended_by(signal.SIGTERM, tmp_path / "pulled"),
    }
    assert list(statuses.values()) == list(statuses)
    assert [int(cell) for cell in first_column("Exit status")[1:]] == list(statuses)


def test_the_program_knows_no_other_status() -> None:
    """Numbers that the command line leaves with are in the table."""
    from clmsda import cli

    constants = {cli.REFUSED, cli.STOPPED, cli.UNREAD, cli.TERMINATED}
    sources = [path.read_text() for path in Path(cli.__file__).parent.glob("*.py")]
    literal = {int(n) for text in sources for n in re.findall(r"(?:typer\.Exit|sys\.exit|_exit)\((\d+)\)", text)}
    assert constants | literal | {0} == {int(cell) for cell in first_column("Exit status")[1:]}


def test_the_fields_of_segment_and_measure(folder: Path, tmp_path: Path) -> None:
    model = ["--model", folder / "model.safetensors"]

    def segment(ct: str, *options: object) -> dict[str, Any]:
        done = clmsda("segment", folder / ct, *options, "--json", "-")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    found = [
        segment("ct.nii.gz", SPHERE, "-o", tmp_path / "mask.nii.gz", *model),
        segment("ct.nii.gz", SPHERE, "--inside=62,-60,-40", "-o", tmp_path / "m.nii.gz"),
        segment("ct.nii.gz", "--box=45,-75,-55,75,-45,-25", "-o", tmp_path / "m.nii.gz", *model),
        segment("series", "--recist=48,-60,-40,72,-60,-40", "-o", tmp_path / "m.nii.gz",
                "--dicom-seg", tmp_path / "seg.dcm", *model),
        segment("ct.nii.gz", "--refine", tmp_path / "mask.nii.gz", "--inside=62,-60,-40", "-o", tmp_path / "m.nii.gz"),
    ]  # fmt: skip
    assert real(*found) == named("`clmsda segment --json`")
    measured = []
    for mask in ("seg.dcm", "mask.nii.gz"):
        done = clmsda("measure", tmp_path / mask, "--json", "-")
        assert done.returncode == 0, done.stderr
        measured.append(json.loads(done.stdout))
    assert real(*measured) == named("`clmsda measure --json`")


def test_the_fields_of_response() -> None:
    one = respond(scans({1: 20, 2: 15}, {1: 14, 2: 13}, {1: 18, 2: 10, 3: 12})).to_json()
    assert real({"software": "clmsda", **one}) == named("`clmsda response --json`")


def test_the_fields_of_info() -> None:
    assert real(json.loads(clmsda("info", "--json").stdout)) == named("`clmsda info --json`")

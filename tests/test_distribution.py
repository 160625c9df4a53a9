"""Wheel and sdist: the same bytes whenever and wherever they are built, with what is needed and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
AROUND = {"CHANGELOG.md", "CITATION.cff", "LICENSE", "README.md", "pyproject.toml", ".gitignore"}
"""What is packed beside the package: hatchling reads .gitignore, so an sdist without it would build another wheel."""


def tracked() -> set[str]:
    """The files of the package as git knows them."""
    listed = subprocess.run(["git", "ls-files", "src/clmsda"], cwd=REPOSITORY, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no git here, or no repository")
    return set(listed.stdout.split("\n")) - {""}


def build(source: Path, kind: str, out: Path) -> Path:
    """Build a wheel or sdist as pip and `python -m build` ask for it, in a process of its own."""
    code = f"import sys, hatchling.build; hatchling.build.build_{kind}(sys.argv[1])"
    environment = {name: text for name, text in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    subprocess.run([sys.executable, "-c", code, str(out)], cwd=source, env=environment, check=True, capture_output=True)
    (built,) = out.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


def copy(folder: Path, *, time: int, mode: int) -> Path:
    """The repository elsewhere, at another time and with other permissions, and with what work leaves in it."""
    for name in tracked() | AROUND:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / name, path)
        path.chmod(mode)
        os.utime(path, (time, time))
    junk = folder / "src" / "clmsda" / "__pycache__" / "errors.cpython-311.pyc"
    for path in (junk, folder / "build" / "lib" / "x.py", folder / "demo" / "mask.nii.gz", folder / "tests" / "a.py"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"left")
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Path]]:
    """Wheel and sdist, built twice."""
    found = []
    for time, mode in ((1_000_000_000, 0o644), (1_700_000_000, 0o600)):
        source = copy(tmp_path_factory.mktemp("source"), time=time, mode=mode)
        out = tmp_path_factory.mktemp("dist")
        found.append((build(source, "wheel", out), build(source, "sdist", out)))
    return found


def test_two_builds_are_equal(built: list[tuple[Path, Path]]) -> None:
    for one, other in zip(*built, strict=True):
        assert one.name == other.name
        assert one.read_bytes() == other.read_bytes(), one.name


def test_the_sdist_holds_the_package_and_no_junk(built: list[tuple[Path, Path]]) -> None:
    sdist = built[0][1]
    with tarfile.open(sdist) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert names == tracked() | AROUND | {"PKG-INFO"}


def test_the_wheel_of_the_sdist_is_the_wheel(built: list[tuple[Path, Path]], tmp_path: Path) -> None:
    wheel, sdist = built[0]
    with tarfile.open(sdist) as file:
        file.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    assert build(source, "wheel", tmp_path).read_bytes() == wheel.read_bytes()
    with zipfile.ZipFile(wheel) as file:
        packed = {f"src/{name}" for name in file.namelist() if name.startswith("clmsda/")}
        (metadata,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        about = file.read(metadata).decode().partition("\n\n")[0]
    assert packed == tracked()
    extras = [line.removeprefix("Provides-Extra: ") for line in about.splitlines() if line.startswith("Provides-Extra")]
    assert sorted(extras) == ["cluster", "pacs", "serve", "train"]  # what is for work on the package is in no wheel

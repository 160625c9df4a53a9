"""The contracts of pyproject.toml hold, and each of them can fail."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import clmsda

REPOSITORY = Path(__file__).parent.parent
ROOMS = sorted(path.parent.name for path in Path(clmsda.__file__).parent.glob("*/__init__.py"))


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the package that a test may build circles into."""
    shutil.copytree(
        Path(clmsda.__file__).parent, tmp_path / "clmsda", ignore=shutil.ignore_patterns("weights", "*.pyc")
    )
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    return tmp_path


def lint(house: Path) -> tuple[int, str]:
    """The exit status of import-linter, and what it says without its line ends."""
    code = (
        "import sys; sys.path.insert(0, ''); from importlinter.cli import lint_imports_command; lint_imports_command()"
    )
    command = [sys.executable, "-c", code, "--no-cache"]
    done = subprocess.run(command, cwd=house, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin"})
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_the_house_as_it_stands(house: Path) -> None:
    status, said = lint(house)
    assert status == 0, said
    assert "0 broken" in said


@pytest.mark.parametrize("room", ROOMS)
def test_a_circle_within_a_room_is_refused(room: str, house: Path) -> None:
    """Also one that is closed late, within a function, and one around a third module."""
    folder = house / "clmsda" / room
    (folder / "one.py").write_text(f"from clmsda.{room} import two\n")
    (folder / "two.py").write_text(f"def late():\n    from clmsda.{room}.three import x\n")
    (folder / "three.py").write_text("x = 1\n")
    assert lint(house)[0] == 0  # a chain is no circle
    (folder / "three.py").write_text(f"import clmsda.{room}.one\n")
    status, said = lint(house)
    assert status == 1
    assert "No circles" in said.partition("Broken contracts")[2]
    assert f"clmsda.{room}" in said.partition("Broken contracts")[2]


def test_reaching_up_to_the_package_is_refused(house: Path) -> None:
    with open(house / "clmsda" / "dicom_objects" / "writing.py", "a") as file:
        file.write("\n\ndef late():\n    from clmsda import __version__\n")
    status, said = lint(house)
    assert status == 1
    assert "front door" in said.partition("Broken contracts")[2]
    assert "clmsda.dicom_objects.writing" in said.partition("Broken contracts")[2]

"""What `import clmsda` costs and offers."""

import re
import subprocess
import sys
import time
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import clmsda

READERS = {"SimpleITK", "pydicom", "highdicom", "matplotlib", "skimage"}
HEAVY = READERS | {"numpy", "openvino", "rich", "scipy", "torch", "typer"}
NOT_FOR_TRAINING = READERS | {"typer"}
REPOSITORY = Path(__file__).parent.parent


def modules_after(statement: str) -> set[str]:
    """Top-level modules in memory after a statement in a fresh interpreter."""
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize(
    "statement", ["import clmsda", "import clmsda; dir(clmsda)", "import clmsda; clmsda.__version__"]
)
def test_import_is_light(statement: str) -> None:
    assert not modules_after(statement) & HEAVY


def test_the_command_line_is_light() -> None:
    assert not modules_after("import clmsda.cli") & (HEAVY - {"typer", "rich"})


def test_training_needs_no_reader_of_images() -> None:
    assert not modules_after("import clmsda.training, clmsda.phantoms, clmsda.losses, clmsda.zoom") & NOT_FOR_TRAINING


def test_help_answers_at_once() -> None:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "clmsda", "--help"], capture_output=True, check=True)
    assert time.perf_counter() - start < 3.0  # 0.3 s on an idle machine; continuous integration is not idle


@pytest.mark.parametrize("name", clmsda.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(clmsda, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'segmnt'"):
        clmsda.segmnt  # noqa: B018


def test_versions_agree() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    citation = (REPOSITORY / "CITATION.cff").read_text()
    assert clmsda.__version__ == project["version"] == version("clmsda")
    assert f"\nversion: {clmsda.__version__}\n" in citation


def test_constraints_pin_public_releases() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pins = [line.partition(" ; ")[0] for line in lines if line and not line.startswith("#")]
    assert "torch==2.13.0" in pins
    assert all(re.fullmatch(r"[a-z0-9.-]+==[0-9][a-z0-9.]*", pin) for pin in pins)


def test_constraints_pin_all_that_the_project_names() -> None:
    """`make lock` has been run since the last change of a dependency."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    lists = [project["project"]["dependencies"], *project["project"]["optional-dependencies"].values()]
    lists += project["dependency-groups"].values()
    named = {Requirement(text) for several in lists for text in several if isinstance(text, str)}
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pins = dict(line.partition(" ; ")[0].split("==") for line in lines if line and not line.startswith("#"))
    for one in named:
        assert pins[one.name.lower().replace("_", "-")] in one.specifier, one


def test_weights_fit_the_package() -> None:
    weights = list((Path(clmsda.__file__).parent / "weights").glob("*.safetensors"))
    assert weights
    assert sum(path.stat().st_size for path in weights) <= 18 * 2**20

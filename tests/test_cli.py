"""The command line: what people type, and what they get."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import chest, clmsda, refused, save_constant_model

from clmsda import cli
from clmsda.geometry import Grid, Volume
from clmsda.images import read_ct, read_mask, write_image, write_mask

COMMANDS = (
    "segment", "find", "serve", "batch", "measure", "convert", "response", "pacs", "phantom", "background", "cohort",
    "train", "study", "export", "demo", "info",
)  # fmt: skip
PARTS = (
    "info networks", "info model", "info series", "cohort import", "cohort describe", "cohort split", "study run",
    "study status", "study report", "pacs segment", "pacs pull", "pacs store", "pacs send",
    "pacs receive", "pacs echo",
)  # fmt: skip


def in_its_own_process(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "clmsda", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, timeout=200)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def ct(folder: Path) -> Path:
    write_image(chest(), folder / "ct.nii.gz")
    return folder / "ct.nii.gz"


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    """It sees tumor everywhere."""
    return save_constant_model(folder, 5.0)


@pytest.fixture(scope="module")
def two_balls(folder: Path) -> Path:
    """A mask with balls of 20 and 30 mm as labels 1 and 4."""
    grid = Grid.axial((30, 60, 100), (2.0, 1.0, 1.0))
    z, y, x = np.indices(grid.shape) * np.array([2.0, 1.0, 1.0])[:, None, None, None]
    mask = np.zeros(grid.shape, np.uint8)
    mask[(x - 25) ** 2 + (y - 30) ** 2 + (z - 30) ** 2 < 10**2] = 1
    mask[(x - 70) ** 2 + (y - 30) ** 2 + (z - 30) ** 2 < 15**2] = 4
    path = folder / "balls.nii.gz"
    write_mask(Volume(mask, grid), path)
    return path


def test_help_names_every_command() -> None:
    done = in_its_own_process("--help")
    assert done.returncode == 0
    assert all(command in done.stdout for command in COMMANDS)
    assert "research use" in done.stdout


@pytest.mark.parametrize("command", [*COMMANDS, *PARTS])
def test_every_command_explains_itself(command: str) -> None:
    done = clmsda(*command.split(), "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout


def test_version() -> None:
    assert clmsda("--version").stdout.startswith("clmsda 0.")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("sgment x", "No such command 'sgment'"),
        ("segment ct.nii.gz -o m.nii.gz", "at least one --point, --recist or --box"),
        ("segment ct.nii.gz --point 1,2,3", "Missing option '-o'"),
        ("segment ct.nii.gz -o m.nii.gz --point 1,2,3 --frame lsp", "'lsp' is not one of"),
        ("segment ct.nii.gz -o m.png --point 1,2,3", ".nii.gz"),
        ("segment ct.nii.gz -o m.nii.gz --json m.txt --point 1,2,3", ".json"),
        ("segment ct.nii.gz -o m.nii.gz --preview m.gif --point 1,2,3", ".png"),
        ("segment ct.nii.gz -o missing/folder/m.nii.gz --point 1,2,3", "missing"),
        ("segment ct.nii.gz -o m.nii.gz --point 1,2,3 --model nobody", "no model 'nobody'"),
        ("segment ct.nii.gz -o m.nii.gz --point 1,2,3 --model m.txt --device tpu", "m.txt"),
        ("measure missing.nii.gz", "missing.nii.gz"),
        ("phantom out --cases 0", "--cases"),
        ("train missing.toml --out run", "missing.toml"),
        ("info model nobody", "no model 'nobody'"),
        ("info networks --width 13", "multiple of 4"),
        ("info series missing", "missing"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(arguments: str, said: str) -> None:
    assert said in refused(*arguments.split())


def test_debug_shows_where_an_error_came_from() -> None:
    done = in_its_own_process("info", "model", "nobody", CLMSDA_DEBUG="1")
    assert done.returncode != 0
    assert "Traceback" in done.stderr


def test_measure(two_balls: Path, tmp_path: Path) -> None:
    path = tmp_path / "balls.json"
    done = clmsda("measure", two_balls, "--json", path)
    assert done.returncode == 0, done.stderr
    assert "size group" in done.stdout
    one, four = json.loads(path.read_text())["lesions"]
    assert (one["label"], four["label"]) == (1, 4)
    assert one["volume_ml"] == pytest.approx(4.19, rel=0.05)  # 4/3 pi r^3
    assert four["volume_ml"] == pytest.approx(14.14, rel=0.05)
    assert one["long_axis_mm"] == pytest.approx(20, abs=1.5)
    assert four["long_axis_mm"] == pytest.approx(30, abs=1.5)


def test_measure_prints_json(two_balls: Path) -> None:
    assert len(json.loads(clmsda("measure", two_balls, "--json", "-").stdout)["lesions"]) == 2


def test_measure_refuses_an_empty_mask(folder: Path) -> None:
    grid = Grid.axial((5, 6, 7), (1, 1, 1))
    write_mask(Volume(np.zeros(grid.shape, np.uint8), grid), folder / "empty.nii.gz")
    assert "no voxel is marked" in refused("measure", folder / "empty.nii.gz")


def test_output_that_nobody_reads(two_balls: Path) -> None:
    command = f"'{sys.executable}' -m clmsda measure '{two_balls}' --json - | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.parametrize("given", [["--point=60,-60,-40"], ["--point", "60,-60,-40"]])
def test_segment_writes_all_outputs(ct: Path, model: Path, tmp_path: Path, given: list[str]) -> None:
    mask, numbers, picture = tmp_path / "mask.nii.gz", tmp_path / "numbers.json", tmp_path / "picture.png"
    outputs = ["-o", mask, "--json", numbers, "--preview", picture]
    done = clmsda("segment", ct, *given, *outputs, "--model", model)
    assert done.returncode == 0, done.stderr
    assert "confidence" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mask.nii.gz", "numbers.json", "picture.png"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    content = json.loads(numbers.read_text())
    assert content["software"].startswith("clmsda ")
    assert content["model"].startswith("constant+5.0@")
    assert content["image"]
    (lesion,) = content["lesions"]
    labels = read_mask(mask)
    assert lesion["label"] == 1
    assert lesion["volume_ml"] == pytest.approx(float((labels.voxels == 1).sum() * labels.grid.voxel_ml), rel=0.01)
    assert len(lesion["long_axis_lps"]) == len(lesion["short_axis_lps"]) == 2
    assert {"long_axis_mm", "short_axis_mm", "slices", "size_group", "confidence", "warnings"} <= lesion.keys()


def test_slices_are_counted_in_the_ct(ct: Path, model: Path, tmp_path: Path) -> None:
    """Not in a crop around the tumor: the line's patch holds a part of the CT's slices."""
    line = "--recist=50,-60,-40,70,-60,-40"
    done = clmsda("segment", ct, line, "-o", tmp_path / "m.nii", "--json", "-", "--model", model)
    assert done.returncode == 0, done.stderr
    marked = np.flatnonzero(read_mask(tmp_path / "m.nii").voxels.any(axis=(1, 2)))
    assert 0 < marked[0] < marked[-1] < 39
    assert json.loads(done.stdout)["lesions"][0]["slices"] == [marked[0], marked[-1]]


def test_several_prompts_make_several_lesions(ct: Path, model: Path, tmp_path: Path) -> None:
    prompts = ["--point", "-60,-60,-40", "--recist", "50,-60,-40,70,-60,-40", "--point", "60,-60,-40"]
    done = clmsda(
        "segment", ct, *prompts, "-o", tmp_path / "m.nrrd", "--json", "-", "--model", model
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lesions = json.loads(done.stdout)["lesions"]
    assert [(one["label"], one["prompt"]["kind"]) for one in lesions] == [(1, "Point"), (2, "Point"), (3, "RecistLine")]


@pytest.mark.parametrize("frame", ["ras", "index"])
def test_frames_name_the_same_point(ct: Path, model: Path, tmp_path: Path, frame: str) -> None:
    lps = (60.0, -60.0, -40.0)
    k, j, i = read_ct(ct).grid.to_index(lps)
    text = {"ras": "-60,60,-40", "index": f"{i},{j},{k}"}[frame]
    done = clmsda(
        "segment", ct, f"--point={text}", "--frame", frame, "-o", tmp_path / "m.mha", "--json", "-",
        "--model", model,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["lesions"][0]["prompt"]["lps_mm"] == pytest.approx(lps, abs=1e-6)


@pytest.mark.parametrize(
    "prompt",
    [
        "--point=900,0,0",  # outside the image
        "--point=-170,-180,-40",  # in the air around the body
        "--point=1,2",
        "--point=a,b,c",
        "--point=nan,0,0",
        "--recist=1,2,3,1,2,3",
        "--box=0,-60,-40,0,-60,-40",
    ],
)
def test_impossible_prompts_leave_nothing_behind(ct: Path, model: Path, tmp_path: Path, prompt: str) -> None:
    refused("segment", ct, prompt, "-o", tmp_path / "m.nii.gz", "--json", tmp_path / "m.json", "--model", model)
    assert not list(tmp_path.iterdir())


def test_nothing_found_is_an_error_with_a_reason(ct: Path, folder: Path, tmp_path: Path) -> None:
    blind = save_constant_model(folder, -5.0)
    message = refused("segment", ct, "--point=60,-60,-40", "-o", tmp_path / "m.nii.gz", "--model", blind)
    assert "lesion 1" in message
    assert not list(tmp_path.iterdir())


def test_a_failing_output_leaves_no_other(ct: Path, model: Path, tmp_path: Path) -> None:
    """The picture cannot be written (its name is a folder), so neither mask nor JSON may appear."""
    (tmp_path / "p.png").mkdir()
    outputs = ["-o", tmp_path / "m.nii.gz", "--json", tmp_path / "m.json", "--preview", tmp_path / "p.png"]
    done = clmsda("segment", ct, "--point=60,-60,-40", *outputs, "--model", model)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["p.png"]


def test_outputs_need_different_names(ct: Path, tmp_path: Path) -> None:
    name = tmp_path / "m.json"
    assert "name must end" in refused("segment", ct, "--point=60,-60,-40", "-o", name, "--json", name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nmae = 'x'", "nmae"),
        ("name = 'x'\nseed = 'one'", "seed"),
        ("name = 'x'\n[optimization]\nepochs = 0", "optimization.epochs"),
        ("name = ", "not valid TOML"),
    ],
)
def test_wrong_configurations_are_refused(tmp_path: Path, text: str, said: str) -> None:
    config = tmp_path / "run.toml"
    config.write_text(text)
    assert said in refused("train", config, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_info() -> None:
    done = clmsda("info")
    assert done.returncode == 0, done.stderr
    assert "torch" in done.stdout
    assert "cpu" in done.stdout


def test_info_networks_has_the_four_variants() -> None:
    done = clmsda("info", "networks", "--width", "8", "--side", "64")
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in ("U-Net", "U-Net + MS", "U-Net + MSDA", "CL-MSDA-Net"))


def test_info_model(model: Path) -> None:
    content = json.loads(clmsda("info", "model", model).stdout)
    assert content["network"]["width"] == 4
    assert content["patches"]["mean_size_mm"] == 25.0


TINY = """
name = "tiny"
[data]
source = "cohort"
samples_per_slice = 1
validation_fraction = 0.5
workers = 0
[patches]
shape = [32, 32]
[network]
width = 4
levels = 2
[optimization]
epochs = 1
"""


@pytest.mark.timeout(200)
def test_a_phantom_cohort_is_measured_trained_on_and_used(tmp_path: Path) -> None:
    """What one command writes, the next ones read."""
    done = clmsda("phantom", tmp_path / "cohort", "--cases", 2, "--seed", 3, "--matrix", 64)
    assert done.returncode == 0, done.stderr
    assert "2 cases" in done.stdout
    masks = sorted((tmp_path / "cohort" / "masks").iterdir())
    assert [path.name for path in masks] == ["phantom-00003.nii.gz", "phantom-00004.nii.gz"]
    measured = json.loads(clmsda("measure", masks[0], "--json", "-").stdout)["lesions"]
    with (tmp_path / "cohort" / "cohort.csv").open(newline="") as table:
        row = next(csv.DictReader(table))
    assert measured[0]["volume_ml"] == pytest.approx(float(row["volume_ml"]), abs=1e-3)

    (tmp_path / "tiny.toml").write_text(TINY)
    changes = ("--set", "seed=5", "--set", f"data.source={tmp_path / 'cohort'}")
    done = clmsda("train", tmp_path / "tiny.toml", "--out", tmp_path / "run", *changes, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "config.json").read_text())["seed"] == 5
    model = json.loads(clmsda("info", "model", tmp_path / "run" / "model.safetensors").stdout)
    assert model["network"]["width"] == 4


@pytest.mark.parametrize("file", sorted(Path(cli.__file__).parent.glob("*.py")), ids=lambda path: path.stem)
def test_no_help_names_an_extra_in_brackets(file: Path) -> None:
    """Typer would take [train] for markup, and show nothing of it."""
    assert not re.search(r"help=[^\n]*\[[a-z]+\]", file.read_text(encoding="utf8"))

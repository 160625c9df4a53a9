"""`clmsda cohort`: what people type, what they see, and what is refused in one line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from cohort_sources import ball, write_folder, write_pair, write_table, write_tcia
from command_line import clmsda, refused

from clmsda.cohorts import Cohort, Split, check_split

SIZES_MM = {"p0": 12.0, "p1": 15.0, "p2": 18.0, "p3": 21.0, "p4": 40.0, "q": 60.0}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_folder(tmp_path_factory.mktemp("source"), SIZES_MM)
    (folder / "images" / "alone.nii").touch()
    return folder


@pytest.fixture(scope="module")
def cohort(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort") / "made" / "for it"
    done = clmsda("cohort", "import", "folder", source, "--out", folder, "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        f"6 cases in {folder} (size groups 1, 2, 3: 4, 1, 1); 1 left out, each with its reason in "
        f"{folder / 'exclusions.csv'}\n"
    )
    assert "left out, 1: expected one image and one mask, found 1 images and 0 masks" in " ".join(done.stderr.split())
    assert "\n    alone" in done.stderr
    return folder


def test_an_import_that_is_done_is_done_at_once(source: Path, cohort: Path) -> None:
    before = (cohort / "slabs" / "q.npy").stat().st_mtime_ns
    assert "6 cases" in clmsda("cohort", "import", "folder", source, "--out", cohort).stdout
    assert (cohort / "slabs" / "q.npy").stat().st_mtime_ns == before


def test_tcia_needs_its_table(tmp_path: Path) -> None:
    write_tcia(tmp_path / "download", "X", {"GTV-1": ball()})
    table = write_table(tmp_path / "clinical.csv", [["PatientID", "Histology"], ["X", "large cell"], ["Y", "NA"]])
    command = ("cohort", "import", "nsclc-radiomics", tmp_path / "download", "--out", tmp_path / "cohort")
    assert "needs --clinical CSV" in refused(*command)
    done = clmsda(*command, "--clinical", table)
    assert done.returncode == 2
    lines = " ".join(done.stderr.split())
    assert "left out, 1: histology is large cell, not adenocarcinoma or squamous cell carcinoma X" in lines
    assert "left out, 1: the clinical table does not know the histology Y" in lines
    assert "error: no tumor could be imported into" in lines and "Traceback" not in lines
    done = clmsda(*command, "--clinical", table, "--histology", "large cell")
    assert done.returncode == 0 and "1 cases" in done.stdout
    assert Cohort.open(tmp_path / "cohort").cases[0].histology == "large cell"


def test_a_label_is_asked_for_by_number(tmp_path: Path) -> None:
    write_pair(tmp_path / "a.nii", tmp_path / "a_mask.nii", ball(20.0), ball(40.0, (-50, 0, 0)))
    done = clmsda("cohort", "import", "folder", tmp_path, "--out", tmp_path / "cohort", "--label", "2")
    assert done.returncode == 0, done.stderr
    assert Cohort.open(tmp_path / "cohort").cases[0].roi == "2"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("import lidc source --out cohort", "'lidc' is not one of"),
        ("import msd source", "Missing option '--out'"),
        ("import msd source --out cohort --clinical table.csv", "--clinical does not go with msd"),
        ("import folder source --out cohort --histology nos", "--histology does not go with folder"),
        ("import nsclc-radiomics a --out b --clinical c --label 1", "--label does not go with nsclc-radiomics"),
        ("import msd missing --out cohort", "missing/dataset.json"),
        ("import folder missing.csv --out cohort", "missing.csv"),
        ("describe missing", "missing is not a cohort"),
        ("describe missing --csv --latex", "give one of --csv and --latex"),
        ("describe missing --figure sizes.txt", ".png"),
        ("split missing --out split.json --folds 5", "missing is not a cohort"),
        ("split missing --out split.json", "give one of --folds and --test-fraction"),
        ("split missing --out split.json --folds 5 --test-fraction 0.2", "give one of --folds and --test-fraction"),
        ("split missing --out split.txt --folds 5", ".json"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(
    arguments: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in refused("cohort", *arguments.split())
    assert not list(tmp_path.iterdir())


def test_a_split_is_saved_and_described(cohort: Path, tmp_path: Path) -> None:
    done = clmsda("cohort", "split", cohort, "--out", tmp_path / "split.json", "--folds", 3, "--seed", 7)
    assert done.returncode == 0, done.stderr
    split = Split.read(tmp_path / "split.json")
    check_split(split, Cohort.open(cohort))
    assert (len(split.folds), split.seed) == (3, 7)
    assert "validation" in done.stdout and "fold 2" in done.stdout
    described = clmsda("cohort", "describe", cohort, "--split", tmp_path / "split.json", "--csv")
    first, second = described.stdout.split("\n\n")
    assert ["Tumors", "6"] in list(csv.reader(first.splitlines()))
    rows = list(csv.reader(second.splitlines()))
    assert len(rows) == 1 + 1 + 9 and rows[1][:2] == ["cohort", "all"]


def test_a_hold_out_is_one_fold(cohort: Path, tmp_path: Path) -> None:
    command = ("cohort", "split", cohort, "--test-fraction", 0.34, "--validation-fraction", 0.25, "--out")
    for name in ("one.json", "two.json"):
        assert clmsda(*command, tmp_path / name).returncode == 0
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    (fold,) = json.loads((tmp_path / "one.json").read_text())["folds"]
    assert {part: len(names) for part, names in fold.items()} == {"training": 3, "validation": 1, "test": 2}


def test_a_split_of_another_cohort_is_refused(cohort: Path, tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    clmsda("cohort", "split", cohort, "--out", path, "--folds", 2)
    path.write_text(path.read_text().replace('"q"', '"r"'))
    assert "names cases that" in refused("cohort", "describe", cohort, "--split", path)


def test_describe_prints_draws_and_typesets(cohort: Path, tmp_path: Path) -> None:
    done = clmsda("cohort", "describe", cohort, "--figure", tmp_path / "sizes.png")
    assert done.returncode == 0, done.stderr
    assert "Histology: unknown" in done.stdout and "6 (100 %)" in done.stdout and "group 1 (≤ 3 cm)" in done.stdout
    assert (tmp_path / "sizes.png").stat().st_size > 5000
    assert r"\begin{tabular}" in clmsda("cohort", "describe", cohort, "--latex").stdout


def test_a_damaged_cohort_is_refused(cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "cohort.csv").write_bytes((cohort / "cohort.csv").read_bytes()[:-150])
    for command in (("describe", tmp_path), ("split", tmp_path, "--out", tmp_path / "split.json", "--folds", 2)):
        assert "cohort.csv, line 7" in refused("cohort", *command)
    assert not (tmp_path / "split.json").exists()

"""Running a study for real: it can be killed anywhere, shards and ranks share it, and nothing changes its results."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import clmsda, refused
from small_study import TOML, chest, write_cohort, write_toml

from clmsda import models, tensor_files
from clmsda.cohorts import Cohort, add_case
from clmsda.files import claimed
from clmsda.images import read_mask, write_mask
from clmsda.metrics import f1
from clmsda.studies.config import Study, StudyError, read_study
from clmsda.studies.folder import Run, plan, read_study_file
from clmsda.studies.progress import Step, is_done, seconds_left, survey
from clmsda.studies.report import write_report
from clmsda.studies.results import read_results
from clmsda.studies.running import _seldom, run_study
from clmsda.studies.score_rows import SCORES, SLICES, read_rows, write_rows
from clmsda.training import ConfigError
from clmsda.training.checkpoint import CheckpointError
from clmsda.words import duration

RUNS = ("region-growing/fold-0/seed-0", "u-net/fold-0/seed-1", "cl-msda-net/fold-0/seed-1")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return write_cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="module")
def whole(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study, run without any interruption."""
    folder = tmp_path_factory.mktemp("whole")
    assert run_study(read_study(write_toml(folder, cohort.folder)), folder / "out", device="cpu")
    return folder / "out"


def runs(out: Path) -> list[Path]:
    return [out / "runs" / run for run in RUNS]


def assert_same_results(out: Path, whole: Path) -> None:
    """Same weights, scores and masks as without interruption."""
    for one, other in zip(runs(out), runs(whole), strict=True):
        assert is_done(one)
        for table in ("scores.csv", "slices.csv"):
            assert (one / table).read_bytes() == (other / table).read_bytes()
        if (other / "model.safetensors").is_file():
            a, b = (tensor_files.read(run / "model.safetensors").tensors for run in (one, other))
            assert all(np.array_equal(a[name], b[name]) for name in b)
        names = [path.relative_to(run) for run in (one, other) for path in sorted(run.glob("predictions/*/*"))]
        assert names[: len(names) // 2] == names[len(names) // 2 :]


def test_what_a_study_leaves(whole: Path, cohort: Cohort) -> None:
    run = runs(whole)[-1]
    names = {path.name for path in run.iterdir()}
    assert names >= {"config.json", "metrics.jsonl", "model.safetensors", "scores.csv", "slices.csv", "done.json"}
    rows, slices = read_rows(run / "scores.csv", SCORES), read_rows(run / "slices.csv", SLICES)
    tested = json.loads((whole / "split.json").read_text())["folds"][0]["test"]
    assert {(row["case"], row["protocol"]) for row in rows} == {
        (case, protocol) for case in tested for protocol in ("oracle", "estimated", "prompted")
    }
    done = json.loads((run / "done.json").read_text())
    assert done["model"] == tensor_files.read(run / "model.safetensors").digest
    assert done["seconds"] == pytest.approx(done["training_seconds"] + done["evaluation_seconds"], abs=0.11)
    for row in rows:
        assert (row["variant"], row["fold"], row["seed"], row["patient"]) == ("CL-MSDA-Net", "0", "1", row["case"])
        (case,) = (case for case in cohort.cases if case.case == row["case"])
        mask = read_mask(run / "predictions" / row["protocol"] / f"{case.case}.nii.gz")
        _, truth = cohort.slab(case)
        assert mask.grid.same_as(truth.grid)
        assert f1(mask.voxels, truth.voxels) == pytest.approx(float(row["f1"]), abs=1e-5)
        own = [one for one in slices if (one["case"], one["protocol"]) == (row["case"], row["protocol"])]
        held = np.flatnonzero(((mask.voxels != 0) | (truth.voxels != 0)).any(axis=(1, 2)))
        assert [int(one["slice"]) for one in own] == held.tolist()


def test_each_run_trains_on_its_fold(whole: Path, cohort: Cohort) -> None:
    """S_mean, of the training part alone, shows who was trained on."""
    fold = json.loads((whole / "split.json").read_text())["folds"][0]
    mean = np.mean([case.size_mm for case in cohort.cases if case.case in fold["training"]])
    for run in runs(whole)[1:]:
        config = json.loads((run / "config.json").read_text())
        assert config["patches"]["mean_size_mm"] == pytest.approx(mean, abs=1e-3)
        assert config["data"]["fold"] == 0 and f"seed-{config['seed']}" == run.name
    pairs = [json.loads((run / "config.json").read_text())["loss"]["pairs"] for run in runs(whole)[1:]]
    assert pairs == [False, True]


def test_a_study_that_is_done_changes_nothing(whole: Path, cohort: Cohort, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (whole / "runs").rglob("*") if path.name != ".lock"}
    assert run_study(read_study(write_toml(tmp_path, cohort.folder)), whole, device="cpu")
    assert before == {path: path.stat().st_mtime_ns for path in (whole / "runs").rglob("*") if path.name != ".lock"}


def test_shards_complete_each_other(whole: Path, cohort: Cohort, tmp_path: Path) -> None:
    study = read_study(write_toml(tmp_path, cohort.folder))
    out = tmp_path / "out"
    assert run_study(study, out, device="cpu", shard=(1, 2))
    first = {run.name for run in plan(study, 1) if is_done(run.folder(out))}
    assert first == {"Region growing, fold 0, seed 0", "CL-MSDA-Net, fold 0, seed 1"}
    assert run_study(study, out, device="cpu", shard=(2, 2))
    assert_same_results(out, whole)


def test_a_time_limit_stops_in_good_order(whole: Path, cohort: Cohort, tmp_path: Path) -> None:
    study = read_study(write_toml(tmp_path, cohort.folder))
    out, calls = tmp_path / "out", 0
    while not run_study(study, out, device="cpu", minutes=0.005):
        calls += 1
    assert calls > 1
    assert_same_results(out, whole)


def test_a_run_that_another_process_has_is_left_to_it(cohort: Cohort, tmp_path: Path) -> None:
    study = read_study(write_toml(tmp_path, cohort.folder))
    out = tmp_path / "out"
    taken = Run(study.variants[0], 0, 1).folder(out)
    taken.mkdir(parents=True)
    with claimed(taken):
        assert not run_study(study, out, device="cpu")
    assert [is_done(run.folder(out)) for run in plan(study, 1)] == [True, False, True]


def launch(toml: Path, out: Path, *ranks: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, *ranks, "-m", "clmsda", "study", "run", str(toml), "--out", str(out), "--device", "cpu"]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)


def kill_when(toml: Path, out: Path, moment: Callable[[], bool]) -> None:
    """Run the study in a process of its own, and kill that once `moment` has come."""
    process = launch(toml, out)
    deadline = time.monotonic() + 120
    while not moment() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert process.wait(30) == -signal.SIGKILL


@pytest.mark.slow
def test_killed_for_real_it_goes_on(whole: Path, cohort: Cohort, tmp_path: Path) -> None:
    """Once when a network's first case is scored, once in the middle of the other one's training."""
    toml, out = write_toml(tmp_path, cohort.folder), tmp_path / "out"
    _, plain, pairs = runs(out)
    kill_when(toml, out, (plain / "scores.csv").is_file)
    assert not is_done(plain)
    scored = read_rows(plain / "scores.csv", SCORES)
    assert 0 < len(scored) < 9
    kill_when(toml, out, (pairs / "checkpoint.safetensors").is_file)
    assert read_rows(plain / "scores.csv", SCORES)[: len(scored)] == scored
    finished = [run for run in runs(out) if is_done(run)]
    assert plain in finished and pairs not in finished
    before = [(run / "done.json").stat().st_mtime_ns for run in finished]
    assert run_study(read_study(toml), out, device="cpu")
    assert before == [(run / "done.json").stat().st_mtime_ns for run in finished]
    assert_same_results(out, whole)


@pytest.mark.slow
def test_two_ranks_share_every_run(cohort: Cohort, tmp_path: Path) -> None:
    toml = write_toml(tmp_path, cohort.folder)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    assert launch(toml, tmp_path / "out", *torchrun).wait(200) == 0
    _, steps = survey(tmp_path / "out")
    assert [step.phase for step in steps] == ["done"] * 3
    assert len(read_rows(steps[-1].run.folder(tmp_path / "out") / "scores.csv", SCORES)) == 9


def test_external_predictions_are_scored_as_any_other_row(whole: Path, cohort: Cohort, tmp_path: Path) -> None:
    """The truth itself as a peer gets full marks; it is added to a study that is done."""
    masks = tmp_path / "masks"
    masks.mkdir()
    for case in cohort.cases:
        write_mask(cohort.slab(case)[1], masks / f"{case.case}.nii.gz")
    text = TOML + f"[[peers]]\nname = 'Readers'\npredictions = '{masks}'\nprotocol = 'oracle'\n"
    study = read_study(write_toml(tmp_path, cohort.folder, text))
    assert run_study(study, whole, device="cpu")
    rows = read_rows(whole / "runs" / "readers" / "fold-0" / "seed-0" / "scores.csv", SCORES)
    assert len(rows) == 3
    for row in rows:
        assert (row["variant"], row["protocol"], row["f1"], row["surface_dice"]) == ("Readers", "oracle", "1", "1")
        assert (row["hd95_mm"], row["volume_ml"]) == ("0", row["true_volume_ml"])


def automatic_study(folder: Path) -> Study:
    """One network that is tested on three chests, of which the last one's slab has no lungs in it, and told nothing."""
    home = folder / "cohort"
    for number, size_mm in enumerate((20.0, 30.0, 40.0, 24.0, 34.0, 30.0)):
        image, mask = chest(size_mm, number)
        solid = image if number < 5 else replace(image, voxels=np.maximum(image.voxels, 0))
        solid.voxels[:, 0] = -1000  # air, but not a lung's
        add_case(home, f"case-{number}", solid, mask, image_path="", mask_path="")
    names = [case.case for case in Cohort.open(home).cases]
    folds = [{"training": names[:2], "validation": names[2:3], "test": names[3:]}]
    by_hand = {"cohort": Cohort.open(home).digest, "seed": 0, "folds": folds}
    (folder / "split.json").write_text(json.dumps(by_hand))
    text = TOML.replace("seeds = [1]", 'seeds = [1]\nprotocols = ["oracle", "automatic"]')
    text = text.replace("test_fraction = 0.4", f"file = '{folder / 'split.json'}'")
    start, pairs = text.index('[[variants]]\nname = "U-Net"'), text.index('[[variants]]\nname = "CL-MSDA-Net"')
    return read_study(write_toml(folder, home, text[:start] + text[pairs:]))


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its folder, when it was run."""
    folder = tmp_path_factory.mktemp("searched")
    assert run_study(automatic_study(folder), folder / "out", device="cpu")
    return folder / "out"


def test_a_network_is_scored_with_nothing_given(searched: Path, tmp_path: Path) -> None:
    cohort, run = Cohort.open(searched.parent / "cohort"), searched / "runs" / "cl-msda-net" / "fold-0" / "seed-1"
    rows = [row for row in read_rows(run / "scores.csv", SCORES) if row["protocol"] == "automatic"]
    assert [row["case"] for row in rows] == ["case-3", "case-4", "case-5"]
    for row, case in zip(rows, cohort.cases[3:], strict=True):
        mask = read_mask(run / "predictions" / "automatic" / f"{case.case}.nii.gz")
        assert f1(mask.voxels, cohort.slab(case)[1].voxels) == pytest.approx(float(row["f1"]), abs=1e-5)
        assert mask.voxels.any() == ("with probability" in row["note"])
    assert rows[-1]["note"].startswith("case-5: found no lungs") and rows[-1]["f1"] == "0"
    assert json.loads((run / "done.json").read_text())["detector"] == models.read(models.DETECTOR).digest
    html = write_report(searched, tmp_path / "report").read_text(encoding="utf8")
    assert "is searched and scored, which flatters it" in html and "is not known: set automatic.patients" in html


def test_a_run_that_lacks_a_protocol_is_scored_once_more(searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A study that named automatic before it was available: the report says so, and without done.json it is made up."""
    assert read_results(searched).missing == ()
    run = searched / "runs" / "cl-msda-net" / "fold-0" / "seed-1"
    whole = {path: path.read_bytes() for path in (run / "scores.csv", run / "slices.csv")}
    for path, columns in zip(whole, (SCORES, SLICES), strict=True):
        write_rows(path, columns, [row for row in read_rows(path, columns) if row["protocol"] != "automatic"])
    expected = "CL-MSDA-Net, fold 0, seed 1: no automatic score of case-3; case-4; case-5"
    assert read_results(searched).missing == (expected,)
    (run / "done.json").unlink()
    assert run_study(automatic_study(searched.parent), searched, device="cpu")
    said = " ".join(capsys.readouterr().err.split())
    assert "whether the detector (detector) was trained on patients that are tested is not known" in said
    assert whole == {path: path.read_bytes() for path in whole}


def test_damaged_scores_stop_the_run_whose_they_are(cohort: Cohort, tmp_path: Path) -> None:
    study = read_study(write_toml(tmp_path, cohort.folder))
    out = tmp_path / "out"
    assert run_study(study, out, device="cpu")
    run = out / "runs" / "u-net" / "fold-0" / "seed-1"
    good = (run / "scores.csv").read_bytes()
    (run / "done.json").unlink()
    (run / "scores.csv").write_bytes(good[: good.rindex(b"prompted") + 3])
    with pytest.raises(StudyError, match=r"u-net.*scores\.csv, line \d+: damaged.*delete it"):
        run_study(study, out, device="cpu")
    (run / "scores.csv").unlink()
    assert run_study(study, out, device="cpu")
    assert (run / "scores.csv").read_bytes() == good
    (run / "scores.csv").unlink()  # the same where done.json is still there
    assert run_study(study, out, device="cpu")
    assert (run / "scores.csv").read_bytes() == good


def test_a_damaged_checkpoint_is_named(cohort: Cohort, tmp_path: Path) -> None:
    study = read_study(write_toml(tmp_path, cohort.folder))
    out = tmp_path / "out"
    run_study(study, out, device="cpu", minutes=0.001)
    run = out / "runs" / "u-net" / "fold-0" / "seed-1"
    run.mkdir(parents=True, exist_ok=True)
    (run / "checkpoint.safetensors").write_bytes(b"12345678{")
    with pytest.raises(CheckpointError, match=r"not a whole checkpoint.*delete it"):
        run_study(study, out, device="cpu")


def test_the_command_line(whole: Path, cohort: Cohort, tmp_path: Path) -> None:
    done = clmsda("study", "status", whole)
    assert done.returncode == 0, done.stderr
    assert "CL-MSDA-Net" in done.stdout and "3/3 cases" in done.stdout
    toml = write_toml(tmp_path, cohort.folder)
    done = clmsda("study", "run", toml, "--out", tmp_path / "out", "--device", "cpu", "--minutes", 0)
    assert done.returncode == 0, done.stderr
    assert "the same command goes on" in done.stdout
    assert "0 of 3 runs done" in clmsda("study", "status", tmp_path / "out").stdout
    assert "another study" in refused("study", "run", toml, "--out", tmp_path / "out", "--set", "seeds=[3]")
    assert "I/N" in refused("study", "run", toml, "--shard", "3/2")
    assert "not a study's folder" in refused("study", "status", tmp_path)
    assert "cannot read the configuration" in refused("study", "run", tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="shard i/n"):
        run_study(read_study(toml), tmp_path / "out", shard=(0, 1))


def test_time_left_is_judged_by_what_is_finished(whole: Path) -> None:
    stored = read_study_file(whole)
    assert stored is not None
    growing, *others = plan(replace(stored[0], seeds=(1, 2), peers=stored[0].peers[:1]), 1)
    plain, plain_2, pairs, pairs_2 = others
    steps = [Step(run, "waiting", 0, 10) for run in (growing, *others)]
    assert seconds_left(steps) is None
    steps[1] = Step(plain, "training", 2, 10, training_s=20.0)
    assert seconds_left(steps) == pytest.approx(80 + 100 + 100 + 100)  # ten seconds an epoch, for all
    steps[1] = Step(plain, "done", 3, 3, training_s=90.0, evaluation_s=9.0)
    assert seconds_left(steps) == pytest.approx(99 + 99 + 99)
    steps[3] = Step(pairs, "training", 5, 10, training_s=200.0)
    assert seconds_left(steps) == pytest.approx(99 + (200 + 9) + (400 + 9))
    steps[3] = Step(pairs, "evaluating", 1, 3, training_s=390.0)
    assert seconds_left(steps) == pytest.approx(99 + 6 + (90 + 9))
    steps[2:] = [Step(run, "done", 3, 3, 90.0, 9.0) for run in (plain_2, pairs, pairs_2)]
    steps[0] = Step(growing, "done", 3, 3, 0.0, 5.0)
    assert seconds_left(steps) == 0
    assert [duration(s) for s in (None, 40, 100, 4800)] == ["unknown", "40 s", "2 min", "1 h 20 min"]


def test_the_time_left_is_worked_out_seldom() -> None:
    """Bars are drawn ten times a second; working it out each time took half of a training's time."""
    calls: list[float] = []
    value = _seldom(lambda: float(calls.append(1.0) or 7.0), pause_s=0.2)
    assert [value() for _ in range(50)] == [7.0] * 50 and len(calls) == 1
    time.sleep(0.25)
    assert value() == 7.0 and len(calls) == 2

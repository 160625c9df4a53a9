"""A study's folder: the same study goes on, another one or another cohort is refused, and nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from small_study import SIZES_MM, TOML, chest, write_cohort, write_toml

from clmsda.cohorts import Cohort, CohortError, Split, add_case
from clmsda.files import claimed
from clmsda.images import write_mask
from clmsda.models import ModelError
from clmsda.studies.config import StudyError, read_study
from clmsda.studies.detectors import reservation
from clmsda.studies.folder import Prepared, Run, plan, prepare, read_study_file
from clmsda.studies.progress import survey
from clmsda.studies.score_rows import SCORES, read_rows, write_rows


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return write_cohort(tmp_path_factory.mktemp("cohort"))


def prepared(tmp_path: Path, cohort: Cohort, text: str = TOML, *overrides: str) -> Prepared:
    return prepare(read_study(write_toml(tmp_path, cohort.folder, text), overrides), tmp_path / "out")


def refusal(tmp_path: Path, cohort: Cohort, *overrides: str, text: str = TOML) -> str:
    """What a second study in the same folder is told; the folder stays as it was."""
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()}
    with pytest.raises(StudyError) as error:
        prepared(tmp_path, cohort, text, *overrides)
    assert before == {path: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()}
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_a_study_file_says(tmp_path: Path, cohort: Cohort) -> None:
    ready = prepared(tmp_path, cohort)
    values = json.loads((tmp_path / "out" / "study.json").read_text())
    assert values["cohort"]["digest"] == cohort.digest
    assert (values["cohort"]["path"], values["cohort"]["synthetic"]) == (str(cohort.folder), False)
    assert values["split"]["kind"] == "hold-out"
    assert values["variants"][1] == {
        "name": "CL-MSDA-Net", "differences": {"variant": "CL-MSDA-Net"}, "slug": "cl-msda-net",
    }  # fmt: skip
    assert (values["seeds"], values["published"]) == ([1], None)
    assert read_study_file(tmp_path / "out") is not None
    assert read_study_file(tmp_path / "out")[0] == ready.study  # type: ignore[index]
    split = Split.read(tmp_path / "out" / "split.json")
    assert ready.tests == (split.folds[0].test,)
    assert len(ready.tests[0]) == 3


def test_the_plan_is_every_row_on_every_fold_with_every_seed(tmp_path: Path, cohort: Cohort) -> None:
    ready = prepared(tmp_path, cohort, TOML.replace("test_fraction = 0.4", "folds = 2"), "seeds=[1, 2]")
    runs = plan(ready.study, len(ready.tests))
    assert len(runs) == 2 + 2 * 2 * 2
    assert [run.name for run in runs[:3]] == [
        "Region growing, fold 0, seed 0", "Region growing, fold 1, seed 0", "U-Net, fold 0, seed 1",
    ]  # fmt: skip
    out = tmp_path / "out"
    assert runs[-1].folder(out) == out / "runs" / "cl-msda-net" / "fold-1" / "seed-2"
    tested = [case.case for run in runs[:2] for case in ready.cases(run)]
    assert sorted(tested) == [case.case for case in cohort.cases]


def test_the_same_study_goes_on_and_may_grow(tmp_path: Path, cohort: Cohort) -> None:
    first = prepared(tmp_path, cohort)
    assert prepared(tmp_path, cohort).tests == first.tests
    more = TOML + "[[variants]]\nname = 'U-Net + MS'\nvariant = 'U-Net + MS'\n"
    grown = prepared(tmp_path, cohort, more, "seeds=[1, 2, 3]", "title='New'")
    assert grown.tests == first.tests
    values = json.loads((tmp_path / "out" / "study.json").read_text())
    assert (len(values["variants"]), values["seeds"], values["title"]) == (3, [1, 2, 3], "New")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.network.width=8", "training.network.width was 4, is 8"),
        ("training.optimization.epochs=3", "training.optimization.epochs was 1, is 3"),
        ("training.optimization.patience=9", "training.optimization.patience was None, is 9"),
        ("split.seed=4", "split.seed was 0, is 4"),
        ("click.jitter=0.1", "click.jitter was 0.5, is 0.1"),
        ("protocols=['oracle']", "protocols was "),
        ("seeds=[2]", "seed 1 is gone"),
        ("name=other", "name was 'small', is 'other'"),
    ],
)
def test_another_study_is_refused(tmp_path: Path, cohort: Cohort, override: str, said: str) -> None:
    prepared(tmp_path, cohort)
    message = refusal(tmp_path, cohort, override)
    assert said in message
    assert "put the TOML back, or choose another --out" in message


def test_a_variant_or_peer_that_changed_is_refused(tmp_path: Path, cohort: Cohort) -> None:
    prepared(tmp_path, cohort)
    changed = TOML.replace('variant = "CL-MSDA-Net"\n', 'variant = "CL-MSDA-Net"\nloss.weight = 0.5\n')
    changed = changed.replace('name = "U-Net"', 'name = "Plain"') + "multiplier = 1.5\n"
    message = refusal(tmp_path, cohort, text=changed)
    assert "variant 'U-Net' is gone" in message
    assert "'CL-MSDA-Net' was without them, is differences.loss.weight = 0.5" in message
    assert "'Region growing' was multiplier = 2.5, is multiplier = 1.5" in message


def test_a_cohort_that_changed_is_refused(tmp_path: Path, cohort: Cohort) -> None:
    """New cases, cases that are gone, and the same cases with other voxels."""
    home = tmp_path / "cohort"
    shutil.copytree(cohort.folder, home)
    prepared(tmp_path, Cohort.open(home))
    image, mask = chest(33.0, 99)
    add_case(home, "case-new", image, mask, image_path="", mask_path="")
    message = refusal(tmp_path, Cohort.open(home))
    assert "1 cases are new: case-new" in message and "bring back the cohort as it was" in message
    shutil.rmtree(home)
    write_cohort(home, SIZES_MM[:-1])
    assert "1 cases are gone: case-6" in refusal(tmp_path, Cohort.open(home))
    shutil.rmtree(home)
    write_cohort(home, (*SIZES_MM[:-1], 53.0))
    assert "measurements, patients or voxels are others" in refusal(tmp_path, Cohort.open(home))


def test_a_cohort_that_moved_is_the_same(tmp_path: Path, cohort: Cohort) -> None:
    prepared(tmp_path, cohort)
    shutil.copytree(cohort.folder, tmp_path / "moved")
    prepared(tmp_path, Cohort.open(tmp_path / "moved"))


def test_a_patient_in_two_parts_is_refused(tmp_path: Path) -> None:
    """By a split that somebody made by hand."""
    home = tmp_path / "cohort"
    for number in range(6):
        image, mask = chest(20.0 + 5 * number, number)
        add_case(home, f"case-{number}", image, mask, image_path="", mask_path="", patient=f"patient-{number // 2}")
    cohort = Cohort.open(home)
    names = [case.case for case in cohort.cases]
    folds = [{"training": names[:3], "validation": names[3:4], "test": names[4:]}]
    path = tmp_path / "by-hand.json"
    path.write_text(json.dumps({"cohort": cohort.digest, "seed": 0, "folds": folds}))
    with pytest.raises(CohortError, match="patient-1 both in training and in validation"):
        prepared(tmp_path, cohort, TOML.replace("test_fraction = 0.4", f"file = '{path}'"))
    assert not (tmp_path / "out" / "split.json").exists()


def test_a_split_file_is_taken_over(tmp_path: Path, cohort: Cohort) -> None:
    names = [case.case for case in cohort.cases]
    folds = [{"training": names[:4], "validation": names[4:5], "test": names[5:]}]
    path = tmp_path / "by-hand.json"
    path.write_text(json.dumps({"cohort": cohort.digest, "seed": 0, "folds": folds}))
    ready = prepared(tmp_path, cohort, TOML.replace("test_fraction = 0.4", f"file = '{path}'"))
    assert ready.tests == (tuple(names[5:]),)


def test_missing_predictions_are_refused_before_any_work(tmp_path: Path, cohort: Cohort) -> None:
    first = prepared(tmp_path, cohort)
    masks = tmp_path / "masks"
    masks.mkdir()
    text = TOML + f"[[peers]]\nname = 'nnU-Net'\npredictions = '{masks}'\n"
    with pytest.raises(StudyError, match=r"missing: case-\d, case-\d, case-\d: predict them"):
        prepared(tmp_path, cohort, text)
    for name in first.tests[0]:
        write_mask(cohort.slab(next(case for case in cohort.cases if case.case == name))[1], masks / f"{name}.nii.gz")
    assert prepared(tmp_path, cohort, text).study.peers[1].given == "automatic"


AUTOMATIC = TOML.replace("seeds = [1]", 'seeds = [1]\nprotocols = ["automatic"]')


def test_what_finds_no_tumors_is_refused_as_a_detector_before_any_work(tmp_path: Path, cohort: Cohort) -> None:
    with pytest.raises(ModelError, match=r"second finds no tumors.*views\.search"):
        prepared(tmp_path, cohort, AUTOMATIC, "automatic.detector=second")
    with pytest.raises(ModelError, match="no model 'nowhere'"):
        prepared(tmp_path, cohort, AUTOMATIC, "automatic.detector=nowhere")
    with pytest.raises(CohortError, match=r"cannot read nowhere\.csv"):
        prepared(tmp_path, cohort, AUTOMATIC, "automatic.patients=nowhere.csv")
    assert not (tmp_path / "out" / "study.json").exists()
    prepared(tmp_path, cohort, AUTOMATIC)
    message = refusal(tmp_path, cohort, "automatic.detector=copy.safetensors", text=AUTOMATIC)
    assert "automatic.detector was 'detector', is 'copy.safetensors'" in message
    assert "protocols was" in refusal(tmp_path, cohort)


def test_whom_the_detector_has_seen_is_told(tmp_path: Path, cohort: Cohort) -> None:
    """By the table of its training, which may be named later."""
    ready = prepared(tmp_path, cohort, AUTOMATIC)
    assert ready.seen is None
    assert "not known" in reservation(ready.study.automatic, ready.seen, ready.patients)
    table = tmp_path / "parts.csv"
    parts = dict(zip(sorted(ready.patients), ("train", "validation", "test"), strict=True))
    table.write_text("patient,collection,part\n" + "".join(f"{name},,{part}\n" for name, part in parts.items()))
    ready = prepared(tmp_path, cohort, AUTOMATIC, f"automatic.patients={table}")
    assert ready.seen == sorted(parts)[:2]
    assert "2 of the 3 patients" in reservation(ready.study.automatic, ready.seen, ready.patients)
    assert reservation(ready.study.automatic, ready.seen, set(sorted(parts)[2:])) == ""
    assert json.loads((tmp_path / "out" / "study.json").read_text())["cohort"]["seen"] == ready.seen


def test_phantoms_are_made_where_they_are_missing(tmp_path: Path, cohort: Cohort) -> None:
    text = TOML.replace('folder = "{cohort}"', "phantoms = {{ cases = 3, seed = 5, matrix = 64 }}")
    made: list[str] = []
    study = read_study(write_toml(tmp_path, cohort.folder, text))
    ready = prepare(study, tmp_path / "out", lambda case: made.append(case.case))
    assert made == ["phantom-00005", "phantom-00006", "phantom-00007"]
    assert ready.cohort.folder == tmp_path / "out" / "cohort"
    values = json.loads((tmp_path / "out" / "study.json").read_text())["cohort"]
    assert (values["path"], values["synthetic"], values["cases"]) == ("cohort", True, 3)
    message = refusal(tmp_path, cohort, "cohort.phantoms.cases=4", text=text)
    assert "cohort.phantoms.cases was 3, is 4" in message


def test_a_folder_belongs_to_one_process(tmp_path: Path) -> None:
    with claimed(tmp_path) as mine:
        assert mine
        with claimed(tmp_path) as again:
            assert not again
    with claimed(tmp_path) as free:
        assert free


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that forks")
def test_processes_that_outlive_the_one_that_has_a_folder_do_not_keep_it(tmp_path: Path) -> None:
    began, begins = os.pipe()
    with claimed(tmp_path) as mine:
        assert mine
        child = os.fork()
        if child == 0:
            os.write(begins, b".")
            time.sleep(60)
            os._exit(0)
        os.read(began, 1)
    try:
        with claimed(tmp_path) as free:
            assert free
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"cohort": {}, "split": {"kind": "none"}}'])
def test_a_damaged_study_file_is_named(tmp_path: Path, cohort: Cohort, text: str) -> None:
    prepared(tmp_path, cohort)
    (tmp_path / "out" / "study.json").write_text(text)
    assert "study.json is damaged" in refusal(tmp_path, cohort)


def test_a_folder_without_a_study_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"not a study's folder.*clmsda study run"):
        survey(tmp_path)


def row(**changes: str) -> dict[str, str]:
    return dict.fromkeys(SCORES, "") | {"variant": "U-Net", "case": "a", "protocol": "oracle", "f1": "0.5"} | changes


def test_scores_read_back(tmp_path: Path) -> None:
    rows = [row(), row(case="b", note='a "quoted", note')]
    write_rows(tmp_path / "scores.csv", SCORES, rows)
    assert read_rows(tmp_path / "scores.csv", SCORES) == rows
    assert read_rows(tmp_path / "none.csv", SCORES) == []


@pytest.mark.parametrize(
    "damage", ["cut off", "a word for a number", "nan", "other columns", "bytes", "too many cells"]
)
def test_damaged_scores_are_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "scores.csv"
    write_rows(
        path,
        SCORES,
        [row(), row(case="b", f1="half" if damage == "a word for a number" else "nan" * (damage == "nan"))],
    )
    text = path.read_bytes()
    if damage == "cut off":
        text = text[: text.rindex(b"oracle") + 3]
    elif damage == "other columns":
        text = text.replace(b"recall", b"sensitivity")
    elif damage == "bytes":
        text = text[:-4] + b"\xff\xfe\r\n"
    elif damage == "too many cells":
        text = text[:-2] + b",1,2\r\n"
    path.write_bytes(text)
    with pytest.raises(StudyError, match=r"scores\.csv.*delete it, and the same `clmsda study run` scores"):
        read_rows(path, SCORES)


def test_a_run_is_named_by_its_row_fold_and_seed(cohort: Cohort, tmp_path: Path) -> None:
    ready = prepared(tmp_path, cohort)
    run = Run(ready.study.variants[1], 0, 1)
    assert run.name == "CL-MSDA-Net, fold 0, seed 1"
    assert {case.case for case in ready.cases(run)} == set(ready.tests[0])
    assert np.all([case in cohort.cases for case in ready.cases(run)])

"""Real tumors: who is in which part, and their benchmark's rows.

Small arrays and phantoms that can be worked out by hand; the last test looks at two real lesions where they are.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_study import chest, threshold_model

from clmsda.cohorts import CohortError, add_case
from clmsda.cohorts.parts import read_parts
from clmsda.cohorts.real_tumors import RealTumor, real_tumors, subset
from clmsda.errors import InputError
from clmsda.geometry import Volume
from clmsda.images import write_image, write_mask
from clmsda.models import ModelError
from clmsda.prompts import Point, PromptError

HEAD = "patient,collection,part\n"
LESIONS = "case,patient,collection,licence,diameter_mm,readers_dice,remark\n"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch):
    """benchmarks/real_tumors.py as a module."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import real_tumors as module

    return module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`shared/data` with two chests for crops, of one patient in two sets, and a split that knows the patient."""
    crops = tmp_path / "real-tumors"
    for name, size_mm in (("lidc-crops/a", 40.0), ("lidc-cubes/b", 34.0)):
        image, mask = chest(size_mm)
        (crops / name).parent.mkdir(parents=True)
        write_image(image, crops / f"{name}.nii.gz")
        write_mask(mask, crops / f"{name}_mask.nii.gz")
    rows = "lidc-crops/a,P1,LIDC-IDRI,CC BY,40,0.8,\nlidc-cubes/b,P1,LIDC-IDRI,CC BY,34,,no slice beyond\n"
    (crops / "lesions.csv").write_text(LESIONS + rows)
    (tmp_path / "split.csv").write_text(HEAD + "P1,LIDC-IDRI,test\n")
    return tmp_path


def tumor(case: str, part: str = "test", diameter_mm: float = 10.0) -> RealTumor:
    return RealTumor(case, f"patient of {case}", "LIDC-IDRI", part, diameter_mm, None)


def test_a_lesion_is_in_its_patients_part(folder: Path) -> None:
    one, other = real_tumors(folder / "real-tumors", read_parts(folder / "split.csv"))
    assert one == RealTumor("lidc-crops/a", "P1", "LIDC-IDRI", "test", 40.0, 0.8)
    assert (other.set, other.part, other.readers_dice) == ("lidc-cubes", "test", None)
    ct, truth = other.read(folder / "real-tumors")
    assert ct.grid.same_as(truth.grid) and truth.voxels.any()


def test_patients_that_may_only_be_evaluated_on_are_test_patients_without_a_row(folder: Path) -> None:
    row = "nsclc-radiomics-cubes/9,N9,NSCLC-Radiomics,CC BY-NC,50,,\n"
    (folder / "real-tumors" / "lesions.csv").write_text(LESIONS + row)
    assert real_tumors(folder / "real-tumors", {})[0].part == "test"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("P1,LIDC-IDRI,training\n", "P1's part to be one of train, validation, test, found 'training'"),
        ("P1,LIDC-IDRI,test\nP2,LIDC-IDRI,test\nP1,LIDC-IDRI,train\n", "each patient once, found P1 twice"),
        ("P1,NSCLC-Radiomics,train\n", "NSCLC-Radiomics may only be evaluated on .* P1 is in train"),
        ("P1,NSCLC-Radiomics,validation\n", "P1 is in validation"),
        ("", "columns patient, collection, part, found no"),
    ],
)
def test_a_split_that_cannot_be_right_is_refused(tmp_path: Path, rows: str, said: str) -> None:
    (tmp_path / "split.csv").write_text(HEAD + rows)
    with pytest.raises(CohortError, match=said):
        read_parts(tmp_path / "split.csv")


def test_missing_files_columns_and_patients_are_named(folder: Path) -> None:
    with pytest.raises(CohortError, match=r"cannot read .*nothing\.csv"):
        read_parts(folder / "nothing.csv")
    (folder / "other.csv").write_text("patient,part\nP1,test\n")
    with pytest.raises(CohortError, match=r"other\.csv: .* found no collection"):
        read_parts(folder / "other.csv")
    with pytest.raises(CohortError, match="patient P1 of lidc-crops/a is in no part"):
        real_tumors(folder / "real-tumors", {"P2": "test"})


def test_a_subset_is_fixed_and_has_each_set_in_proportion() -> None:
    everyone = [tumor(f"one/{n}") for n in range(90)] + [tumor(f"two/{n}") for n in range(30)]
    ten, twenty = subset(everyone, 10), subset(everyone, 20)
    assert len(ten) == 10 and abs(sum(one.set == "two" for one in ten) - 2.5) <= 0.5
    assert len(twenty) == 20 and sum(one.set == "two" for one in twenty) == 5
    assert set(ten) < set(twenty) and ten == subset(everyone[::-1], 10)[::-1]
    assert subset(everyone, 500) == everyone
    assert [one.case for one in ten] != [one.case for one in everyone[:10]]


def test_intervals_draw_patients_with_all_their_lesions(benchmark) -> None:
    """Two patients, all of one missed, all of the other found: as one lesion each, the mean may be 0 or 1."""
    from real_tumor_report import over_patients

    rows = [scored(benchmark, f"lidc-crops/{n}", f"P{n % 2}", f1=float(n % 2)) for n in range(20)]
    found = over_patients(rows, [row.f1 for row in rows])
    assert (found.n, found.mean, found.low, found.high) == (20, 0.5, 0.0, 1.0)


def scored(benchmark, case: str, patient: str = "P", **values: object):
    row = dict.fromkeys(benchmark.COLUMNS, "") | {"case": case, "patient": patient, "size_mm": "10", "prompt": "click"}
    numbers = {"corrections": "0", "f1": "0.5", "confidence": "0.5", "seconds": "1", "peak_mb": "1"}
    return benchmark.Scored.of(row | numbers | {name: str(value) for name, value in values.items()})


@pytest.mark.parametrize(
    ("case", "size_mm", "group"),
    [
        ("lidc-crops/a", 6.0, "up to 6 mm"),
        ("lidc-crops/a", 6.1, "6 to 10 mm"),
        ("lidc-cubes/a", 20.0, "10 to 20 mm"),
        ("lidc-cubes/a", 20.1, "20 to 30 mm"),
        ("lidc-cubes/a", 31.0, "above 30 mm"),
        ("nsclc-radiogenomics/a", 30.0, "up to 3 cm"),
        ("nsclc-radiogenomics/a", 30.1, "3 to 5 cm"),
        ("nsclc-radiomics-cubes/a", 50.1, "above 5 cm"),
    ],
)
def test_size_groups_of_nodules_and_of_tumors(benchmark, case: str, size_mm: float, group: str) -> None:
    from real_tumor_report import size_group

    assert size_group(scored(benchmark, case, size_mm=size_mm)) == group


def test_that_a_crop_ends_with_its_nodule_announces_nothing(benchmark) -> None:
    ends = "the tumor reaches the first or last slice of the scan: it may be incomplete"
    assert not scored(benchmark, "lidc-crops/a", note="").warned
    assert not scored(benchmark, "lidc-crops/a", note=ends).warned
    assert scored(benchmark, "lidc-crops/a", note=f"{ends}; the size did not settle").warned
    assert scored(benchmark, "lidc-crops/a", note="refused: in air").warned


def test_prompts_come_from_the_true_mask(benchmark) -> None:
    _, truth = chest(40.0)
    points = truth.grid.to_lps(np.argwhere(truth.voxels))
    box = benchmark.prompt("box", "a", truth)
    assert np.allclose(box.lower_mm, points.min(axis=0) - 2.5) and np.allclose(box.upper_mm, points.max(axis=0) + 2.5)
    assert benchmark.prompt("line", "a", truth).size_mm == pytest.approx(40, abs=5)
    moved = [benchmark.prompt(f"moved {n}", "a", truth) for n in (1, 2)]
    assert moved[0] != moved[1] and moved[0] == benchmark.prompt("moved 1", "a", truth)
    assert moved[0] != benchmark.prompt("moved 1", "b", truth)
    for point in moved:
        assert truth.voxels[tuple(np.rint(truth.grid.to_index(point.lps_mm)).astype(int))]


@pytest.fixture
def correctable(benchmark, monkeypatch: pytest.MonkeyPatch):
    """`segment` gives the masks of a list one by one (None: it refuses the prompts).

    Gives a function (masks, count) -> answers, and what `segment` heard.
    """
    ct, truth = chest(40.0)
    heard: list = []

    def answers(masks: list, count: int) -> list:
        left, before = iter(masks), np.zeros(ct.grid.shape)

        def segment(volume, said, model, *, refine):
            heard.append([type(one).__name__ for one in said])
            assert (refine is None) == (len(said) == 1 or not before.any())
            mask = next(left)
            if mask is None:
                raise PromptError("not there")
            before[:] = mask
            lesion = type("Lesion", (), {"mask": Volume(mask != 0, ct.grid), "confidence": 0.9, "warnings": ("so so",)})
            return type("Segmentation", (), {"lesions": (lesion,)})

        monkeypatch.setattr(benchmark, "segment", segment)
        return list(benchmark.corrected(ct, truth, Point((0, 0, 0)), None, count))

    return truth.voxels, answers, heard


def test_corrections_are_added_to_the_first_prompt_until_nothing_is_wrong(correctable) -> None:
    truth, answers, heard = correctable
    missing, excess = truth.copy(), truth.copy()
    missing[truth.shape[0] // 2 :] = 0
    excess[:2] = 1
    found = answers([missing, excess, truth], 4)
    assert [one.note for one in found] == ["so so"] * 3 + ["nothing left to correct"] * 2
    assert heard == [["Point"], ["Point", "Inside"], ["Point", "Inside", "Outside"]]
    assert all(np.array_equal(one.mask.voxels, truth != 0) for one in found[2:])


def test_a_correction_that_is_refused_leaves_the_mask_and_ends_the_series(correctable) -> None:
    truth, answers, heard = correctable
    missing = truth.copy()
    missing[truth.shape[0] // 2 :] = 0
    found = answers([missing, None], 3)
    assert [one.note for one in found] == ["so so"] + ["refused: not there"] * 3
    assert all(np.array_equal(one.mask.voxels, missing != 0) for one in found)
    assert len(heard) == 2


def test_a_click_that_is_refused_is_a_miss_that_can_be_corrected(correctable) -> None:
    truth, answers, heard = correctable
    found = answers([None, truth], 1)
    assert [one.note for one in found] == ["refused: not there", "so so"]
    assert not found[0].mask.voxels.any() and found[1].mask.voxels.any()
    assert heard[1] == ["Point", "Inside"]


def test_a_ct_that_is_refused_is_a_miss_and_a_model_that_fails_is_not(
    benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ct, truth = chest(40.0)
    click = benchmark.prompt("click", "a", truth)
    lung = Volume(np.full(ct.grid.shape, -850, np.int16), ct.grid)
    answer = benchmark.ask(lung, [click], threshold_model(tmp_path, shape=(24, 24, 24), spacing_mm=3.0))
    assert answer.note.startswith("refused: ") and not answer.mask.voxels.any() and np.isnan(answer.confidence)

    def failing(*_: object, **__: object) -> None:
        raise ModelError("fails")

    monkeypatch.setattr(benchmark, "segment", failing)
    with pytest.raises(ModelError):
        benchmark.ask(ct, [click], None)


def test_rows_are_written_once_and_a_stopped_run_goes_on(
    benchmark, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threshold_model(folder, shape=(24, 24, 24), spacing_mm=3.0)
    tumors = benchmark.every_tumor(folder, folder / "split.csv")
    assert [one.set for one in tumors[-3:]] == ["whole-cts"] * 3
    file, model = folder / "rows.csv", str(folder / "threshold.safetensors")
    asked = benchmark.Asked(("click", "line", "grow 2.5"))
    (first, second) = tumors[:2]
    alone = benchmark.score_all([first], asked, folder, model, file)
    assert [(row["case"], row["prompt"]) for row in alone] == [("lidc-crops/a", one) for one in asked.prompts]
    assert all(float(row["f1"]) > 0.9 for row in alone[:2])
    assert alone[2]["model"] == "region growing" and float(alone[2]["f1"]) > 0.3
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[:-1]) + "\n")  # the run was stopped before its last row
    both = benchmark.score_all([first, second], asked, folder, model, file)
    assert len(both) == 6 and file.read_text().splitlines()[:3] == lines[:3]
    before = file.read_text()
    assert sorted(map(str, benchmark.score_all([first, second], asked, folder, model, file))) == sorted(map(str, both))
    assert file.read_text() == before
    asked = replace(asked, prompts=("click",), raw=True)
    raw = benchmark.score_all([first], asked, folder, model, file, processes=2)
    assert raw[0]["model"].endswith(" raw") and len(list(csv.DictReader(file.open()))) == 7


def test_report_has_every_prompt_size_and_set(benchmark, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import real_tumor_report as report

    rows = [scored(benchmark, "lidc-crops/a", "P1", f1=0.4, readers="0.8", confidence=0.9)]
    rows += [scored(benchmark, "nsclc-radiogenomics/b", "P2", f1=0.8, size_mm=40)]
    rows += [scored(benchmark, row.case, row.patient, f1=row.f1 + 0.1, prompt="line") for row in rows]
    rows += [scored(benchmark, row.case, row.patient, f1=row.f1 - 0.2, corrections=1) for row in rows[:2]]
    report.print_scores(rows, {"lidc-crops/a": 0.3})
    report.print_gains(rows)
    report.print_confidence(rows)
    report.print_costs(rows)
    report.draw(rows, {"lidc-crops/a": 0.3}, tmp_path / "size.png")
    text = capsys.readouterr().out
    assert "| lidc-crops | click | 6 to 10 mm | 1 (1) | 0.400 | 0.400 | 100% | 0.800 | 0.300 |" in text
    assert "| nsclc-radiogenomics | click | 3 to 5 cm | 1 (1) | 0.800 | 0.800 | 0% |  |  |" in text
    assert "| all | line | click | 2 | 0.100 [0.100, 0.100] | 0% | 0 |" in text
    assert "| all | click + 1 | click | 2 | -0.200 [-0.200, -0.200] | 100% | 0 |" in text
    assert "| all | 2 | 0.50 -> 0.80, 0.90 -> 0.40 | -1.00 | 1 | 0% (0%) | 100% (100%) |" in text
    assert (tmp_path / "size.png").stat().st_size > 1000


def test_knots_are_weighted_means_that_rise(benchmark) -> None:
    """A real lesion of F1 0.2 and a phantom of half its weight and F1 0.8 at about one agreement: (0.2 + 0.4) / 1.5."""
    import calibrate

    falling = calibrate.knots([0.7, 0.6, 0.9], [0.2, 0.8, 0.9], [1.0, 0.5, 1.0])
    assert falling == ((0.0, 0.0), (0.6, 0.4), (0.7, 0.4), (0.9, 0.9))
    agreement = np.linspace(0.5, 0.9, 80)
    points = calibrate.knots(agreement, agreement**2, np.ones(80))
    assert len(points) == calibrate.KNOTS + 1
    assert points[1] == (
        pytest.approx(agreement[:10].mean(), abs=1e-3),
        pytest.approx((agreement[:10] ** 2).mean(), abs=1e-3),
    )
    heavy = calibrate.knots(agreement, agreement**2, np.where(agreement > 0.7, 1.0, 1e-6))
    assert sum(a > 0.7 for a, _ in heavy) >= calibrate.KNOTS - 1


def test_a_model_is_calibrated_on_phantoms_and_on_validation_patients(
    benchmark, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import calibrate

    for name, size_mm in (("one", 24.0), ("two", 40.0)):
        image, mask = chest(size_mm)
        add_case(folder / "cohort", name, image, mask, image_path=f"{name}.nii.gz", mask_path=f"{name}_mask.nii.gz")
        write_image(image, folder / "cohort" / f"{name}.nii.gz")
        write_mask(mask, folder / "cohort" / f"{name}_mask.nii.gz")
    (folder / "split.csv").write_text(HEAD + "P1,LIDC-IDRI,validation\n")
    model = threshold_model(folder, shape=(24, 24, 24), spacing_mm=3.0)
    paths = [str(folder / name) for name in ("cohort", "threshold.safetensors", "out.safetensors")]
    where = ["--real", str(folder / "real.csv"), "--shared", str(folder), "--split", str(folder / "split.csv")]
    monkeypatch.setattr("sys.argv", ["calibrate.py", *paths, *where])
    calibrate.main()
    found = benchmark.models.load(folder / "out.safetensors", "cpu")
    assert found.config.calibration and not model.config.calibration
    said = "2 phantoms, weight 0.5 each; 2 lesions of 1 validation patients, weight 1 each"
    assert found.config.provenance["calibration"] == said
    before, after = (benchmark.models.read(folder / f"{name}.safetensors").weights for name in ("threshold", "out"))
    assert all((after[name] == tensor).all() for name, tensor in before.items())
    rows = list(csv.DictReader((folder / "real.csv").open()))
    assert [row["case"] for row in rows] == ["lidc-crops/a", "lidc-cubes/b"] and rows[0]["model"].endswith(" raw")


def test_a_crop_that_readers_take_for_no_ct_is_a_miss_by_every_prompt(benchmark, folder: Path) -> None:
    """Air and lung alone."""
    image, _ = chest(40.0)
    write_image(
        replace(image, voxels=np.minimum(image.voxels, -600)), folder / "real-tumors" / "lidc-crops" / "a.nii.gz"
    )
    model = threshold_model(folder, shape=(24, 24, 24), spacing_mm=3.0)
    one = benchmark.every_tumor(folder, folder / "split.csv")[0]
    rows = benchmark.score(one, folder, benchmark.Asked(("click", "line", "grow 2.0"), corrections=1), model)
    assert [(row["prompt"], row["corrections"]) for row in rows] == [
        ("click", "0"), ("click", "1"), ("line", "0"), ("grow 2.0", "0"),
    ]  # fmt: skip
    assert all(float(row["f1"]) == 0 and row["note"].startswith("refused: ") for row in rows)
    assert rows[-1]["model"] == benchmark.GROWING and rows[0]["confidence"] == ""
    (folder / "real-tumors" / "lidc-crops" / "a.nii.gz").unlink()
    with pytest.raises(InputError):  # a file that is missing is no miss of the model
        benchmark.score(one, folder, benchmark.Asked(("click",)), model)


def test_two_real_lesions(benchmark, shared_data: Path, tmp_path: Path) -> None:
    if not (shared_data / "real-tumors").is_dir():
        pytest.skip("needs ../shared/data/real-tumors, which is not part of the repository")
    tumors = {one.case: one for one in benchmark.every_tumor(shared_data, benchmark.SPLIT)}
    for case in ("lidc-crops/0018-2", "nsclc-radiomics-cubes/325"):
        ct, truth = benchmark.read(tumors[case], shared_data)
        assert ct.grid == truth.grid and 0 < truth.voxels.mean() < 0.5
        (row,) = benchmark.score(tumors[case], shared_data, benchmark.Asked(("click",)), benchmark.models.load())
        assert 0.3 < float(row["f1"]) < 1 and float(row["size_mm"]) == tumors[case].diameter_mm

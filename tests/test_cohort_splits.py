"""Splits: by patient, stratified by size, decided by the seed alone, kept in a file; nothing of a test case leaks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clmsda.cohorts import (
    Case,
    Cohort,
    CohortError,
    Fold,
    Split,
    add_case,
    check_split,
    hold_out,
    hold_out_test,
    k_fold,
)
from clmsda.files import OutputError
from clmsda.geometry import Grid, Volume
from clmsda.networks import NetworkConfig
from clmsda.patches import NO_AUGMENTATION, PatchConfig
from clmsda.training.config import ConfigError, DataConfig, TrainingConfig, ViewConfig, check
from clmsda.training.sources import open_samples

PARTS = ("training", "validation", "test")


def case(name: str, patient: str, size_group: int) -> Case:
    return Case(name, patient, "", "", 20.0, 1.0, size_group, (0, 0, 0), 1, 1, (0.0,) * 12, (0, 1))


@st.composite
def cohorts(draw: st.DrawFn, least: int = 2) -> list[Case]:
    """Up to thirty patients with one to three tumors each."""
    sizes = draw(st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=3), min_size=least, max_size=30))
    return [case(f"{p}-{t}", f"P{p}", size) for p, own in enumerate(sizes) for t, size in enumerate(own)]


def groups_of(cases: list[Case]) -> dict[str, int]:
    """The size group of each patient's largest tumor."""
    return {p: max(one.size_group for one in cases if one.patient == p) for p in {one.patient for one in cases}}


def patients_of(cases: list[Case], names: tuple[str, ...]) -> set[str]:
    return {one.patient for one in cases if one.case in names}


def assert_whole(fold: Fold, cases: list[Case]) -> None:
    """Every case in one part, every patient in one part, no part empty."""
    names = [name for part in PARTS for name in getattr(fold, part)]
    assert sorted(names) == sorted(one.case for one in cases)
    parts = [patients_of(cases, getattr(fold, part)) for part in PARTS]
    assert all(parts)
    assert sum(map(len, parts)) == len({one.patient for one in cases})


@settings(deadline=None)
@given(cohorts(), st.floats(0.01, 0.99), st.integers(0, 2**32))
def test_a_hold_out_keeps_patients_whole(cases: list[Case], fraction: float, seed: int) -> None:
    training, held = hold_out(cases, fraction, seed)
    assert training and held and not training & held
    assert training | held == {one.case for one in cases}
    sides = {(one.patient, one.case in held) for one in cases}
    patients = {one.patient for one in cases}
    assert len(sides) == len(patients)
    wanted = min(max(1, round(fraction * len(patients))), len(patients) - 1)
    assert len({patient for patient, is_held in sides if is_held}) == wanted


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 3), min_size=4, max_size=60), st.floats(0.1, 0.9), st.integers(0, 99))
def test_each_size_group_gives_its_share(sizes: list[int], fraction: float, seed: int) -> None:
    cases = [case(str(n), str(n), size) for n, size in enumerate(sizes)]
    _, held = hold_out(cases, fraction, seed)
    for group, count in Counter(sizes).items():
        given_up = sum(one.size_group == group for one in cases if one.case in held)
        assert abs(given_up - count * len(held) / len(cases)) < 1


@settings(deadline=None)
@given(cohorts(least=3), st.data())
def test_k_fold_tests_every_patient_once_and_each_size_group_evenly(cases: list[Case], data: st.DataObject) -> None:
    groups = groups_of(cases)
    folds = data.draw(st.integers(3 if len(groups) == 3 else 2, len(groups)))
    split = k_fold(cases, folds, 0.2, data.draw(st.integers(0, 2**32)))
    assert len(split) == folds
    for fold in split:
        assert_whole(fold, cases)
    tested = [patients_of(cases, fold.test) for fold in split]
    assert sum(map(len, tested)) == len(groups) == len(set().union(*tested))
    counts = [[sum(groups[p] == group for p in patients) for patients in tested] for group in (1, 2, 3)]
    for per_fold in (*counts, [len(patients) for patients in tested]):
        assert max(per_fold) - min(per_fold) <= 1


@settings(deadline=None)
@given(cohorts(least=3), st.floats(0.05, 0.9), st.floats(0.05, 0.9), st.integers(0, 2**32))
def test_a_hold_out_has_one_fold_of_three_parts(cases: list[Case], test: float, validation: float, seed: int) -> None:
    (fold,) = hold_out_test(cases, test, validation, seed)
    assert_whole(fold, cases)
    assert set(fold.test) == hold_out(cases, test, seed, left=2)[1]


@settings(deadline=None)
@given(cohorts(least=3), st.integers(0, 2**32), st.randoms())
def test_a_split_depends_on_the_seed_alone(cases: list[Case], seed: int, random: Random) -> None:
    shuffled = random.sample(cases, len(cases))
    assert hold_out(cases, 0.3, seed) == hold_out(shuffled, 0.3, seed)
    assert k_fold(cases, 3, 0.3, seed) == k_fold(shuffled, 3, 0.3, seed)
    assert hold_out_test(cases, 0.3, 0.3, seed) == hold_out_test(shuffled, 0.3, 0.3, seed)


def test_seeds_give_different_splits() -> None:
    cases = [case(str(n), str(n), 1 + n % 3) for n in range(30)]
    assert len({frozenset(hold_out(cases, 0.2, seed)[1]) for seed in range(10)}) == 10
    assert len({k_fold(cases, 5, 0.2, seed) for seed in range(10)}) == 10
    assert len({fold.validation for fold in k_fold(cases, 5, 0.2, 0)}) == 5


def test_too_few_patients_or_folds_are_refused() -> None:
    two = [case("a", "P", 1), case("b", "P", 2), case("c", "Q", 2)]
    with pytest.raises(CohortError, match="2 parts needs as many patients, found 1"):
        hold_out(two[:2], 0.5, 0)
    for split in (lambda: k_fold(two, 2, 0.2, 0), lambda: hold_out_test(two, 0.2, 0.2, 0)):
        with pytest.raises(CohortError, match="3 parts needs as many patients, found 2"):
            split()
    with pytest.raises(CohortError, match="expected 3 to 3 folds for 3 patients, found 2"):
        k_fold([*two, case("d", "R", 1)], 2, 0.2, 0)
    four = [case(str(n), str(n), 1) for n in range(4)]
    for folds in (-1, 0, 1, 5):
        with pytest.raises(CohortError, match=f"expected 2 to 4 folds for 4 patients, found {folds}"):
            k_fold(four, folds, 0.2, 0)


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    """Six patients, of whom P0 has two tumors."""
    cases = [case(f"c{n}", f"P{n}", 1 + n % 3) for n in range(6)] + [case("c6", "P0", 1)]
    return Cohort(tmp_path, tuple(cases))


def split_of(cohort: Cohort) -> Split:
    return Split(cohort.digest, 4, k_fold(cohort.cases, 3, 0.25, 4))


def test_a_split_reads_back(cohort: Cohort, tmp_path: Path) -> None:
    split = split_of(cohort)
    split.write(tmp_path / "split.json")
    assert Split.read(tmp_path / "split.json") == split
    check_split(split, cohort)
    content = json.loads((tmp_path / "split.json").read_text())
    assert content.keys() == {"cohort", "seed", "folds"} and content["folds"][2].keys() == set(PARTS)
    with pytest.raises(OutputError, match="does not exist"):
        split.write(tmp_path / "missing" / "split.json")


def changed(name: str, value: object) -> Callable[[dict], object]:
    return lambda content: content.update({name: value})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed("cohrt", "x"), "cohrt"),
        (changed("seed", "4"), "seed: Input should be a valid integer"),
        (changed("folds", []), "folds: Tuple should have at least 1 item"),
        (lambda content: content["folds"][1].update(test=[]), "folds.1.test: Tuple should have at least 1 item"),
        (lambda content: content["folds"][1].pop("test"), "folds.1.test: Field required"),
        (lambda content: content["folds"][1].update(tets=[]), "folds.1.tets"),
        (lambda content: content["folds"][0].update(test=[3]), "folds.0.test.0: Input should be a valid string"),
    ],
)
def test_a_damaged_split_is_refused(cohort: Cohort, tmp_path: Path, change: Callable, said: str) -> None:
    content = asdict(split_of(cohort))
    change(content)
    (tmp_path / "split.json").write_text(json.dumps(content))
    with pytest.raises(CohortError) as refusal:
        Split.read(tmp_path / "split.json")
    assert said in str(refusal.value) and "split.json is not a split" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_split_that_is_no_file_or_no_json_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.json", tmp_path):
        with pytest.raises(CohortError, match="cannot read the split"):
            Split.read(path)
    (tmp_path / "half.json").write_bytes(b'{"cohort": "\xff')
    with pytest.raises(CohortError, match=r"half.json is not a split: it: Invalid JSON"):
        Split.read(tmp_path / "half.json")


def moved(name: str, to: str, fold: int = 0, keep: bool = False) -> Callable[[Split], Split]:
    """Put a case into a part (and take it out of the others)."""

    def change(split: Split) -> Split:
        parts = {part: [n for n in getattr(split.folds[fold], part) if keep or n != name] for part in PARTS}
        if to:
            parts[to].append(name)
        folds = list(split.folds)
        folds[fold] = Fold(**{part: tuple(names) for part, names in parts.items()})
        return replace(split, folds=tuple(folds))

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (moved("c9", "test"), r"fold 0 of the split names cases that .* does not hold: c9"),
        (moved("c3", ""), r"fold 0 of the split leaves out cases of .*: c3"),
        (lambda split: replace(split, folds=split.folds[:2]), "in no test part: c"),
        (lambda split: replace(split, folds=split.folds[:1] * 2), "in two test parts: c"),
        (lambda split: replace(split, cohort="0" * 64), "changed after it was split .* expected 000000000000"),
    ],
)
def test_a_split_that_is_not_of_this_cohort_is_refused(cohort: Cohort, change: Callable, said: str) -> None:
    with pytest.raises(CohortError, match=said):
        check_split(change(split_of(cohort)), cohort)


@pytest.mark.parametrize("part", PARTS)
def test_a_patient_or_a_case_in_two_parts_is_refused(cohort: Cohort, part: str) -> None:
    split = split_of(cohort)
    home = next(p for p in PARTS if "c6" in getattr(split.folds[0], p))
    if part == home:
        check_split(split, cohort)
        return
    with pytest.raises(
        CohortError, match=r"fold 0 of the split has the patient P0 both in .* and in .* \(case c[06]\)"
    ):
        check_split(moved("c6", part)(split), cohort)
    with pytest.raises(CohortError, match="fold 0 of the split has the case c6 twice"):
        check_split(moved("c6", part, keep=True)(split), cohort)


def test_a_hold_out_may_leave_cases_untested(cohort: Cohort) -> None:
    check_split(Split(cohort.digest, 0, hold_out_test(cohort.cases, 0.3, 0.3, 0)), cohort)


def ball(size_mm: float, pixel_mm: float = 2.0, seed: int = 0) -> tuple[Volume, Volume]:
    """A CT of noise and a mask of a ball in its middle."""
    shape = (12, 32, 32)
    grid = Grid.axial(shape, (5.0, pixel_mm, pixel_mm), center_mm=(0, 0, 0))
    mask = np.linalg.norm(grid.to_lps(np.moveaxis(np.indices(shape), 0, -1)), axis=-1) <= size_mm / 2
    hu = np.where(mask, 30, -800) + np.random.default_rng(seed).normal(0, 40, shape)
    return Volume(hu.astype(np.int16), grid), Volume(mask.astype(np.uint8), grid)


def add(folder: Path, name: str, volumes: tuple[Volume, Volume]) -> Case:
    return add_case(folder, name, *volumes, image_path="", mask_path="")


def training_config(folder: Path, **data: object) -> TrainingConfig:
    return TrainingConfig(
        name="test",
        data=DataConfig(source=str(folder), **data),  # type: ignore[arg-type]
        patches=PatchConfig(shape=(16, 16)),
        views=ViewConfig(augmentation=NO_AUGMENTATION),
        network=NetworkConfig(width=4, levels=2),
    )


def decided(config: TrainingConfig) -> tuple[float | None, float | None]:
    patches = open_samples(config)[2].patches
    return patches.mean_size_mm, patches.reference_spacing_mm


@pytest.fixture
def balls(tmp_path: Path) -> Path:
    for number, size in enumerate((12.0, 16.0, 20.0, 24.0, 28.0, 22.0)):
        add(tmp_path, f"ball-{number}", ball(size, pixel_mm=2.0 + 0.1 * number))
    return tmp_path


@pytest.mark.parametrize("way", ["split", "fraction"])
def test_the_mean_size_and_the_spacing_are_of_the_training_part_alone(balls: Path, way: str) -> None:
    """Whatever becomes of validation and test cases, size, spacing and voxels: the training part's numbers stay."""
    cases = Cohort.open(balls).cases
    if way == "split":
        folds = hold_out_test(cases, 0.34, 0.25, 0)
        config, training = training_config(balls, split=str(balls / "split.json")), set(folds[0].training)
    else:
        config = training_config(balls, validation_fraction=0.4)
        training = hold_out(cases, 0.4, config.seed)[0]

    def rewrite_split() -> None:  # the cohort is another one after each change, with the same names
        if way == "split":
            Split(Cohort.open(balls).digest, 0, folds).write(balls / "split.json")

    rewrite_split()
    before = decided(config)
    own = [one for one in cases if one.case in training]
    assert before[0] == pytest.approx(np.mean([one.size_mm for one in own]), abs=1e-3)
    assert before[1] == min(one.pixel_mm for one in own)
    others = sorted({one.case for one in cases} - training)
    assert len(others) >= 2
    for name in others:
        add(balls, name, ball(29.0, pixel_mm=1.0, seed=1))
        rewrite_split()
        assert decided(config) == before
    add(balls, min(training), ball(29.0, pixel_mm=1.5))
    rewrite_split()
    assert decided(config) != before


def test_training_uses_exactly_its_fold(balls: Path) -> None:
    cohort = Cohort.open(balls)
    split = Split(cohort.digest, 1, k_fold(cohort.cases, 3, 0.25, 1))
    split.write(balls / "split.json")
    for number, fold in enumerate(split.folds):
        training, validation, _ = open_samples(training_config(balls, split=str(balls / "split.json"), fold=number))
        assert {one.case for one, _ in training.entries} == set(fold.training)  # type: ignore[attr-defined]
        assert {one.case for one, _ in validation.entries} == set(fold.validation)  # type: ignore[attr-defined]
    for wrong in (3, None):
        with pytest.raises(ConfigError, match=rf"data.fold: expected 0 to 2.* has 3 folds; found {wrong}"):
            open_samples(training_config(balls, split=str(balls / "split.json"), fold=wrong))


def test_training_on_a_cohort_that_changed_is_refused(balls: Path) -> None:
    cohort = Cohort.open(balls)
    Split(cohort.digest, 1, hold_out_test(cohort.cases, 0.3, 0.3, 1)).write(balls / "split.json")
    config = training_config(balls, split=str(balls / "split.json"))
    open_samples(config)
    add(balls, "ball-0", ball(12.0, pixel_mm=2.0, seed=1))  # the same tumor in another CT
    with pytest.raises(CohortError, match="changed after it was split"):
        open_samples(config)
    add(balls, "ball-0", ball(12.0, pixel_mm=2.0))
    open_samples(config)  # it is as it was
    add(balls, "ball-7", ball(12.0))
    with pytest.raises(CohortError, match=r"leaves out cases of .*: ball-7"):
        open_samples(config)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"source": "phantoms", "split": "split.json"}, "data.split divides a cohort, but data.source is phantoms"),
        ({"source": "cohort", "fold": 1}, "data.fold counts the folds of data.split, which is not given"),
        ({"source": "cohort", "split": "split.json", "fold": -1}, "data.fold"),
        ({"source": "cohort", "split": 3}, "data.split"),
    ],
)
def test_a_configuration_that_contradicts_its_split_is_refused(data: dict, said: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        check({"name": "a", "data": data}, "run.toml")
    assert said in str(refusal.value)

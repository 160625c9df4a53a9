"""Cohorts: a table that people can read, slabs that say when they are damaged, splits that do not leak."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from same_voxels import assert_same_voxels

from clmsda import phantoms
from clmsda.cohorts import Case, Cohort, CohortError, add_case, hold_out, write_phantoms
from clmsda.geometry import Grid, Volume
from clmsda.images import check_ct, read_ct, read_mask
from clmsda.measurements import EmptyMask, measure
from clmsda.networks import NetworkConfig
from clmsda.patches import NO_AUGMENTATION, PatchConfig
from clmsda.training.config import DataConfig, TrainingConfig, ViewConfig
from clmsda.training.samples import open_samples


def add(folder: Path, name: str, image: Volume, mask: Volume, patient: str = "") -> Case:
    return add_case(folder, name, image, mask, image_path=f"{name}.nii.gz", mask_path="", patient=patient)


@pytest.fixture
def lesion(lopsided: Volume) -> Volume:
    """A lesion of 3 x 4 x 5 voxels on the lopsided grid."""
    voxels = np.zeros(lopsided.grid.shape, np.uint8)
    voxels[2:5, 3:7, 6:11] = 1
    return Volume(voxels, lopsided.grid, "lesion")


@pytest.fixture
def cohort(tmp_path: Path, lopsided: Volume, lesion: Volume) -> Path:
    for name in ("one", "two"):
        add(tmp_path, name, lopsided, lesion)
    return tmp_path


def ball(size_mm: float, shape: tuple[int, int, int] = (12, 32, 32), slice_mm: float = 5.0) -> tuple[Volume, Volume]:
    """A CT of noise and a mask of a ball in its middle."""
    grid = Grid.axial(shape, (slice_mm, 2.0, 2.0), center_mm=(0, 0, 0))
    mask = np.linalg.norm(grid.to_lps(np.moveaxis(np.indices(shape), 0, -1)), axis=-1) <= size_mm / 2
    hu = np.where(mask, 30, -800) + np.random.default_rng(0).normal(0, 40, shape)
    return Volume(hu.astype(np.int16), grid), Volume(mask.astype(np.uint8), grid)


def test_a_case_comes_back_where_it_was(tmp_path: Path, lopsided: Volume, lesion: Volume) -> None:
    added = add(tmp_path, "one", lopsided, lesion, patient="P1")
    (case,) = Cohort.open(tmp_path).cases
    assert case == added
    image, mask = Cohort.open(str(tmp_path)).slab(case)
    assert_same_voxels(image, lopsided)  # the margin of 30 mm reaches beyond all seven slices
    assert_same_voxels(mask, lesion)
    assert image.voxels.dtype == np.int16 and mask.voxels.dtype == np.uint8
    assert isinstance(image.voxels, np.memmap)
    measured = measure(lesion)
    assert (case.size_mm, case.volume_ml) == (round(measured.size_mm, 3), round(measured.volume_ml, 4))
    np.testing.assert_allclose(case.center_mm, measured.center_mm, atol=1e-3)
    assert (case.patient, case.size_group, case.tumor_slices) == ("P1", 1, (2, 4))
    assert (case.pixel_mm, case.slice_mm) == (0.7, 2.5)


def test_a_slab_holds_the_tumor_and_a_margin_of_its_size(tmp_path: Path) -> None:
    image, mask = ball(40.0, shape=(80, 32, 32), slice_mm=2.0)
    case = add(tmp_path, "ball", image, mask)
    slab, slab_mask = Cohort.open(tmp_path).slab(case)
    first, last = measure(mask).slices
    assert len(slab.voxels) == last - first + 1 + 2 * np.ceil(case.size_mm / 2.0) < 80
    inside = np.flatnonzero(slab_mask.voxels.any(axis=(1, 2)))
    assert case.tumor_slices == (inside[0], inside[-1])
    np.testing.assert_allclose(
        slab.grid.to_lps((case.tumor_slices[0], 3, 4)), image.grid.to_lps((first, 3, 4)), atol=1e-9
    )
    assert (slab.voxels[case.tumor_slices[0]] == image.voxels[first]).all()
    assert mask.voxels.sum() == slab_mask.voxels.sum()


def test_people_can_read_the_table(cohort: Path) -> None:
    rows = list(csv.DictReader((cohort / "cohort.csv").open(encoding="utf8")))
    assert [row["case"] for row in rows] == ["one", "two"]
    assert float(rows[0]["size_mm"]) > 0 and rows[0]["size_group"] == "1"
    assert len(json.loads(rows[0]["center_mm"])) == 3 and len(json.loads(rows[0]["slab_affine"])) == 12
    assert sorted(path.name for path in cohort.iterdir()) == ["cohort.csv", "slabs"]


def test_a_case_of_the_same_name_is_replaced(cohort: Path, lopsided: Volume, lesion: Volume) -> None:
    grown = lesion.voxels.copy()
    grown[3, 2:9, 4:12] = 1
    add(cohort, "one", lopsided, Volume(grown, lesion.grid))
    cases = {case.case: case for case in Cohort.open(cohort).cases}
    assert len(cases) == 2 and cases["one"].size_mm > cases["two"].size_mm


def test_an_image_and_a_mask_that_do_not_belong_together_are_refused(
    tmp_path: Path, lopsided: Volume, lesion: Volume
) -> None:
    other = Volume(lesion.voxels[:, ::-1], lesion.grid.crop((1, 0, 0), (8, 11, 13)))
    with pytest.raises(CohortError, match="case one: expected image and mask on one grid"):
        add(tmp_path, "one", lopsided, other)
    with pytest.raises(EmptyMask):
        add(tmp_path, "one", lopsided, Volume(np.zeros_like(lesion.voxels), lesion.grid))
    assert not list(tmp_path.iterdir())


def replaced(old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / "cohort.csv").read_text()
        assert old in text
        (folder / "cohort.csv").write_text(text.replace(old, new, 1))

    return change


def column(name: str, value: str) -> Callable[[Path], None]:
    """Write a value into a column of the table's second row."""

    def change(folder: Path) -> None:
        with (folder / "cohort.csv").open(newline="") as file:
            header, one, two = csv.reader(file)
        two[header.index(name)] = value
        with (folder / "cohort.csv").open("w", newline="") as file:
            csv.writer(file).writerows([header, one, two])

    return change


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "cohort.csv").unlink(), ["is not a cohort", "has no cohort.csv"]),
        (lambda folder: (folder / "cohort.csv").write_text(""), ["at least one case"]),
        (lambda folder: (folder / "cohort.csv").write_bytes(b"PK\x03\x04\xff\xfe\x00"), ["not a table"]),
        (column("case", "one"), ["found twice: one"]),
        (column("size_mm", "12,5"), ["line 3", "'size_mm'", "valid number"]),
        (column("size_mm", ""), ["line 3", "'size_mm'"]),
        (column("size_mm", "-4"), ["line 3", "'size_mm'", "greater than 0"]),
        (column("size_mm", "nan"), ["line 3", "'size_mm'"]),
        (column("size_group", "4"), ["line 3", "'size_group'"]),
        (column("center_mm", "[1, 2]"), ["line 3", "'center_mm"]),
        (column("center_mm", "1 2 3"), ["line 3", "'center_mm'", "list of numbers"]),
        (column("slab_affine", "[1, 0, 0, 0]"), ["line 3", "'slab_affine'", "12"]),
        (column("tumor_slices", "[-2, 4]"), ["line 3", "'tumor_slices.0'"]),
        (replaced("size_mm", "size"), ["line 2", "'size_mm'", "required"]),
        (replaced("one.nii.gz", "a,one.nii.gz"), ["line 2"]),  # one cell too many
    ],
)
def test_a_damaged_table_is_refused(cohort: Path, spoil: Callable[[Path], object], words: list[str]) -> None:
    spoil(cohort)
    with pytest.raises(CohortError) as refusal:
        Cohort.open(cohort)
    assert all(word in str(refusal.value) for word in words), refusal.value
    assert "\n" not in str(refusal.value)


def truncate(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])


def save(path: Path, array: np.ndarray) -> None:
    np.save(path, array, allow_pickle=True)


def of_another_scan(slabs: Path) -> None:
    save(slabs / "one.npy", np.zeros((4, 11, 13), np.int16))
    save(slabs / "one.mask.npy", np.zeros((4, 11, 13), np.uint8))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda slabs: truncate(slabs / "one.npy", 500), ["one.npy", "missing or damaged", "import the case again"]),
        (lambda slabs: truncate(slabs / "one.npy", 20), ["one.npy", "missing or damaged"]),
        (lambda slabs: truncate(slabs / "one.npy", 0), ["one.npy", "missing or damaged"]),
        (lambda slabs: truncate(slabs / "one.mask.npy", 300), ["one.mask.npy", "missing or damaged"]),
        (lambda slabs: (slabs / "one.mask.npy").unlink(), ["one.mask.npy", "missing or damaged"]),
        (lambda slabs: save(slabs / "one.npy", np.array([{}])), ["one.npy", "missing or damaged"]),
        (lambda slabs: save(slabs / "one.npy", np.zeros((7, 11, 13))), ["3-D int16", "float64"]),
        (lambda slabs: save(slabs / "one.npy", np.zeros((11, 13), np.int16)), ["3-D int16", "2-D"]),
        (lambda slabs: save(slabs / "one.npy", np.zeros((7, 11, 12), np.int16)), ["case one", "differ in shape"]),
        (of_another_scan, ["case one", "up to slice 4", "4 slices"]),
    ],
)
def test_a_damaged_slab_is_refused(cohort: Path, spoil: Callable[[Path], object], words: list[str]) -> None:
    spoil(cohort / "slabs")
    opened = Cohort.open(cohort)
    with pytest.raises(CohortError) as refusal:
        opened.slab(opened.cases[0])
    assert all(word in str(refusal.value) for word in words), refusal.value
    opened.slab(opened.cases[1])  # the other case is as it was


def case(name: str, patient: str, size_group: int) -> Case:
    return Case(name, patient, "", "", 20.0, 1.0, size_group, (0, 0, 0), 1, 1, (0.0,) * 12, (0, 1))


@st.composite
def cohorts(draw: st.DrawFn) -> list[Case]:
    """Two to thirty patients with one to three tumors each."""
    sizes = draw(st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=3), min_size=2, max_size=30))
    return [case(f"{p}-{t}", f"P{p}", size) for p, own in enumerate(sizes) for t, size in enumerate(own)]


@given(cohorts(), st.floats(0.01, 0.99), st.integers(0, 2**32))
def test_a_split_keeps_patients_whole(cases: list[Case], fraction: float, seed: int) -> None:
    training, held = hold_out(cases, fraction, seed)
    assert training and held and not training & held
    assert training | held == {one.case for one in cases}
    sides = {(one.patient, one.case in held) for one in cases}
    patients = {one.patient for one in cases}
    assert len(sides) == len(patients)
    wanted = min(max(1, round(fraction * len(patients))), len(patients) - 1)
    assert len({patient for patient, is_held in sides if is_held}) == wanted


@given(cohorts(), st.floats(0.01, 0.99), st.integers(0, 2**32), st.randoms())
def test_a_split_depends_on_the_seed_alone(cases: list[Case], fraction: float, seed: int, random: Random) -> None:
    shuffled = random.sample(cases, len(cases))
    assert hold_out(cases, fraction, seed) == hold_out(shuffled, fraction, seed)


@settings(max_examples=30)
@given(st.lists(st.integers(1, 3), min_size=4, max_size=60), st.floats(0.1, 0.9), st.integers(0, 99))
def test_each_size_group_gives_its_share(sizes: list[int], fraction: float, seed: int) -> None:
    cases = [case(str(n), str(n), size) for n, size in enumerate(sizes)]
    _, held = hold_out(cases, fraction, seed)
    for group, count in Counter(sizes).items():
        given_up = sum(one.size_group == group for one in cases if one.case in held)
        assert abs(given_up - count * len(held) / len(cases)) < 1


def test_seeds_give_different_splits() -> None:
    cases = [case(str(n), str(n), 1 + n % 3) for n in range(30)]
    assert len({frozenset(hold_out(cases, 0.2, seed)[1]) for seed in range(10)}) == 10


def test_one_patient_cannot_be_split() -> None:
    with pytest.raises(CohortError, match="at least two patients, found 1"):
        hold_out([case("a", "P", 1), case("b", "P", 2)], 0.5, 0)


def training_config(folder: Path, **patches: Any) -> TrainingConfig:
    return TrainingConfig(
        name="test",
        data=DataConfig(source=str(folder), validation_fraction=0.4),
        patches=PatchConfig(shape=(16, 16), **patches),
        views=ViewConfig(augmentation=NO_AUGMENTATION),  # 20 pixels would shift the tumor out of so small a patch
        network=NetworkConfig(width=4, levels=2),
    )


def test_the_mean_size_is_of_the_training_part_alone(tmp_path: Path) -> None:
    sizes = (12.0, 16.0, 20.0, 24.0, 28.0)
    for size in sizes:
        add(tmp_path, f"ball-{size:g}", *ball(size))
    *_, before = open_samples(training_config(tmp_path))
    cases = Cohort.open(tmp_path).cases
    training, held = hold_out(cases, 0.4, before.seed)
    mean = np.mean([one.size_mm for one in cases if one.case in training])
    assert before.patches.mean_size_mm == pytest.approx(mean, abs=1e-3)
    assert before.patches.reference_spacing_mm == 2.0

    for name in held:  # a validation case's size changes nothing
        add(tmp_path, name, *ball(29.0))
    *_, after = open_samples(training_config(tmp_path))
    assert after == before
    add(tmp_path, min(training), *ball(29.0))
    *_, changed = open_samples(training_config(tmp_path))
    assert changed.patches.mean_size_mm != before.patches.mean_size_mm


def test_what_the_configuration_says_is_not_measured(tmp_path: Path) -> None:
    for number in range(3):
        add(tmp_path, str(number), *ball(20.0))
    config = training_config(tmp_path, reference_spacing_mm=0.9, mean_size_mm=46.0)
    assert open_samples(config)[2] == config


@pytest.fixture(scope="module")
def phantom_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms") / "new" / "cohort"
    write_phantoms(folder, 1, seed=2, matrix=64)
    return folder


def test_phantoms_are_written_once_and_resumed(phantom_cohort: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in phantom_cohort.rglob("*phantom-00002*")}
    assert len(before) == 4  # image, mask, and the slabs of both
    told: list[Case] = []
    cohort = write_phantoms(phantom_cohort, 2, seed=2, matrix=64, progress=told.append)
    assert [one.case for one in cohort.cases] == ["phantom-00002", "phantom-00003"] == [one.case for one in told]
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert not list(phantom_cohort.rglob(".*"))


def test_an_interrupted_phantom_is_written_again(phantom_cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("clmsda.images.write_mask", stopped)
        write_phantoms(phantom_cohort, 1, seed=5, matrix=64)
    assert (phantom_cohort / "images" / "phantom-00005.nii.gz").is_file()
    assert "phantom-00005" not in {one.case for one in Cohort.open(phantom_cohort).cases}
    cohort = write_phantoms(phantom_cohort, 1, seed=5, matrix=64)
    assert cohort.cases[-1].case == "phantom-00005"


def test_every_reader_reads_a_written_phantom(phantom_cohort: Path) -> None:
    cohort = Cohort.open(phantom_cohort)
    one = cohort.cases[0]
    image = read_ct(phantom_cohort / one.image)
    mask = read_mask(phantom_cohort / one.mask, grid=image.grid)
    check_ct(image)
    expected, truth = phantoms.scan(phantoms.sample(2), matrix=64)
    assert_same_voxels(image, expected)
    assert_same_voxels(mask, truth)
    measured = measure(mask, image=image)
    assert (round(measured.size_mm, 2), measured.size_group) == (round(one.size_mm, 2), one.size_group)
    slab, slab_mask = cohort.slab(one)
    assert_same_voxels(slab, image.crop(*limits(image.grid, slab.grid)))
    assert int(slab_mask.voxels.sum()) == int(mask.voxels.sum())


def limits(whole: Grid, part: Grid) -> tuple[list[int], list[int]]:
    lower = [round(float(i)) for i in whole.to_index(part.affine[:3, 3])]
    return lower, [a + n for a, n in zip(lower, part.shape, strict=True)]


def test_training_reads_a_written_cohort(phantom_cohort: Path) -> None:
    write_phantoms(phantom_cohort, 2, seed=2, matrix=64)
    training, validation, _ = open_samples(training_config(phantom_cohort))
    for samples in (training, validation):
        pair = samples.pair(0, len(samples) // 2)
        assert pair.variant.shape == pair.invariant.shape == (1, 16, 16)
        assert pair.invariant_mask.max() > 0.5  # the tumor is in view
    config = training_config(phantom_cohort)
    solid = replace(config, patches=PatchConfig((16, 16, 16)), network=NetworkConfig(3, width=4, levels=2))
    assert open_samples(solid)[0].pair(0, 0).variant.shape == (1, 16, 16, 16)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):  # the command line says it in one line
        write_phantoms(tmp_path / "file", 1, seed=2, matrix=64)


def test_phantoms_of_another_matrix_are_refused(phantom_cohort: Path) -> None:
    with pytest.raises(CohortError, match=r"64 rows.*128 are asked for.*--matrix 64"):
        write_phantoms(phantom_cohort, 2, seed=2, matrix=128)


def test_a_phantom_with_a_damaged_slab_is_written_again(phantom_cohort: Path) -> None:
    case = Cohort.open(phantom_cohort).cases[0]
    slab = phantom_cohort / "slabs" / f"{case.case}.npy"
    slab.unlink()
    cohort = write_phantoms(phantom_cohort, 1, seed=2, matrix=64)
    assert cohort.slab(case)[0].voxels.shape[1:] == (64, 64)

"""Cohorts: a table that people can read, slabs that say when they are damaged, splits that do not leak."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from same_voxels import assert_same_voxels

from clmsda import phantoms
from clmsda.cohorts import Case, Cohort, CohortError, add_case, write_phantoms
from clmsda.files import OutputError
from clmsda.geometry import Grid, Volume
from clmsda.images import check_ct, read_ct, read_mask
from clmsda.measurements import EmptyMask, measure
from clmsda.networks import NetworkConfig
from clmsda.patches import NO_AUGMENTATION, PatchConfig
from clmsda.training.config import DataConfig, TrainingConfig, ViewConfig
from clmsda.training.sources import open_samples


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


@pytest.mark.parametrize("name", ["../one", "one/two", ".one", "", "on\ne"])
def test_a_name_that_cannot_name_files_is_refused(tmp_path: Path, lopsided: Volume, lesion: Volume, name: str) -> None:
    with pytest.raises(CohortError, match="files are named by it"):
        add(tmp_path, name, lopsided, lesion)
    assert not list(tmp_path.iterdir())


def test_cases_are_in_order_of_their_names(cohort: Path, lopsided: Volume, lesion: Volume) -> None:
    add(cohort, "a", lopsided, lesion)
    header, *rows = (cohort / "cohort.csv").read_text().splitlines()
    (cohort / "cohort.csv").write_text("\n".join([header, *rows[::-1]]) + "\n")
    assert [case.case for case in Cohort.open(cohort).cases] == ["a", "one", "two"]


def rewritten(folder: Path, change: Callable[[list[str], list[list[str]]], None]) -> str:
    """The digest after a change to the table's header and rows."""
    with (folder / "cohort.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    change(header, rows)
    with (folder / "cohort.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return Cohort.open(folder).digest


def set_column(name: str, value: str) -> Callable[[list[str], list[list[str]]], None]:
    return lambda header, rows: rows[0].__setitem__(header.index(name), value)


@pytest.mark.parametrize(
    "change",
    [
        lambda header, rows: rows.reverse(),
        set_column("image", "elsewhere/one.nii.gz"),
        set_column("mask", "elsewhere/one.dcm"),
        set_column("histology", "adenocarcinoma"),
        set_column("series", "1.2.3"),
        set_column("roi", "GTV-1"),
    ],
)
def test_the_digest_does_not_mind_where_cases_come_from(
    cohort: Path, change: Callable, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = Cohort.open(cohort).digest
    assert len(before) == 64 and int(before, 16)
    assert rewritten(cohort, change) == before
    moved = shutil.move(cohort, tmp_path_factory.mktemp("elsewhere") / "moved")
    assert Cohort.open(moved).digest == before


@pytest.mark.parametrize(
    "change",
    [
        lambda header, rows: rows.pop(),
        *(
            set_column(name, value)
            for name, value in (("case", "other"), ("patient", "other"), ("size_mm", "9.5"), ("volume_ml", "3.5"),
                                ("size_group", "2"), ("center_mm", "[1, 2, 3]"), ("pixel_mm", "0.8"),
                                ("slice_mm", "5"), ("tumor_slices", "[2, 3]"), ("slab_crc32", "00000000"))
        ),
    ],
)  # fmt: skip
def test_the_digest_changes_with_all_that_a_study_depends_on(cohort: Path, change: Callable) -> None:
    before = Cohort.open(cohort).digest
    assert rewritten(cohort, change) != before


def test_the_digest_changes_with_a_voxel(cohort: Path, lopsided: Volume, lesion: Volume) -> None:
    before = Cohort.open(cohort).digest
    voxels = lopsided.voxels.copy()
    voxels[0, 0, 0] ^= 1
    add(cohort, "one", Volume(voxels, lopsided.grid), lesion)
    assert Cohort.open(cohort).digest != before
    add(cohort, "one", lopsided, lesion)
    assert Cohort.open(cohort).digest == before


def test_a_table_of_before_some_columns_opens(cohort: Path) -> None:
    def drop_last_six(header: list[str], rows: list[list[str]]) -> None:
        assert header[-6:] == ["series", "roi", "histology", "collection", "every", "slab_crc32"]
        for row in (header, *rows):
            del row[-6:]

    before = Cohort.open(cohort)
    rewritten(cohort, drop_last_six)
    after = Cohort.open(cohort)
    assert [one.size_mm for one in after.cases] == [one.size_mm for one in before.cases]
    assert {one.histology for one in after.cases} == {""}
    after.slab(after.cases[0])


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
        (column("case", "../one"), ["line 3", "'case'", "pattern"]),
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


def training_config(folder: Path, **patches: Any) -> TrainingConfig:
    return TrainingConfig(
        name="test",
        data=DataConfig(source=str(folder), validation_fraction=0.4),
        patches=PatchConfig(shape=(16, 16), **patches),
        views=ViewConfig(augmentation=NO_AUGMENTATION),  # 20 pixels would shift the tumor out of so small a patch
        network=NetworkConfig(width=4, levels=2),
    )


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
    with pytest.raises(OutputError, match="file"):  # the command line says it in one line
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

"""Importing: resumed, in parallel, killed at any moment, and nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
from cohort_sources import GRID, ball, chest, write_folder, write_pair
from same_voxels import assert_same_voxels

from clmsda.cohorts import Cohort, CohortError, add_case
from clmsda.cohorts.candidates import Listing, read_exclusions
from clmsda.cohorts.importing import NothingImported, import_cases
from clmsda.cohorts.pairs import pairs
from clmsda.files import OutputError
from clmsda.geometry import Volume
from clmsda.images import read_ct, read_mask, write_image, write_mask
from clmsda.measurements import measure

SIZES_MM = {"a": 20.0, "b": 30.0, "c": 40.0}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "source", SIZES_MM)


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "slabs").iterdir()}


def test_every_tumor_becomes_a_case(source: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    cohort, exclusions = import_cases(tmp_path / "cohort", pairs(source), progress=lambda *far: told.append(far))
    assert [case.case for case in cohort.cases] == list(SIZES_MM)
    assert not exclusions and told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    for case in cohort.cases:
        image, mask = read_ct(source / "images" / f"{case.case}.nii"), ball(SIZES_MM[case.case])
        assert case.size_mm == pytest.approx(measure(mask).size_mm, abs=1e-3)
        slab, slab_mask = cohort.slab(case)
        first = round(float(GRID.to_index(slab.grid.affine[:3, 3])[0]))
        last = first + len(slab.voxels)
        assert_same_voxels(slab, image.crop((first, 0, 0), (last, *GRID.shape[1:])))
        assert_same_voxels(slab_mask, mask.crop((first, 0, 0), (last, *GRID.shape[1:])))
    assert sorted(path.name for path in (tmp_path / "cohort").iterdir()) == ["cohort.csv", "exclusions.csv", "slabs"]


def test_one_slice_in_several_is_taken(source: Path, tmp_path: Path) -> None:
    whole, _ = import_cases(tmp_path / "whole", pairs(source))
    thin, _ = import_cases(tmp_path / "thin", pairs(source).thinned(3))
    for all_slices, some in zip(whole.cases, thin.cases, strict=True):
        assert (some.every, some.slice_mm) == (3, 3 * all_slices.slice_mm)
        image, mask = read_ct(source / "images" / f"{some.case}.nii"), ball(SIZES_MM[some.case])
        slab, slab_mask = thin.slab(some)
        assert slab_mask.voxels.any()
        for k in range(len(slab.voxels)):  # each lies where it was, and is what it was
            where = round(float(GRID.to_index(slab.grid.to_lps((k, 0, 0)))[0]))
            assert where % 3 == 0
            assert (slab.voxels[k] == image.voxels[where]).all()
            assert (slab_mask.voxels[k] == mask.voxels[where]).all()
    with pytest.raises(CohortError, match="holds a case a of each slice in 3, not in 1: import into another folder"):
        import_cases(tmp_path / "thin", pairs(source))


def test_a_tumor_between_the_slices_that_are_taken_is_left_out(tmp_path: Path) -> None:
    write_pair(tmp_path / "a.nii", tmp_path / "a_mask.nii", ball(6.0, GRID.to_lps((7, 18, 30))))
    write_pair(tmp_path / "b.nii", tmp_path / "b_mask.nii", ball(40.0))
    cohort, (exclusion,) = import_cases(tmp_path / "cohort", pairs(tmp_path).thinned(4))
    assert [case.case for case in cohort.cases] == ["b"]
    assert exclusion.patient == "a" and "no tumor on the one slice in 4 that is taken" in exclusion.reason


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint16])
def test_voxels_of_any_type_become_the_same_hounsfield_units(tmp_path: Path, dtype: type) -> None:
    image, mask = tmp_path / "a.nii", tmp_path / "a_mask.nii"
    write_pair(image, mask, ball())
    voxels = chest(ball()).voxels.astype(np.float64) + (0.4 if np.dtype(dtype).kind == "f" else 0)
    voxels[5, 5, 5:7] = 40_000, -2000
    write_image(Volume((voxels if dtype != np.uint16 else voxels.clip(0)).astype(dtype), GRID), image)
    if dtype == np.uint16:  # air is gone: no CT
        with pytest.raises(NothingImported, match="no air or lung"):
            import_cases(tmp_path / "cohort", pairs(tmp_path))
        return
    cohort, _ = import_cases(tmp_path / "cohort", pairs(tmp_path))
    slab, _ = cohort.slab(cohort.cases[0])
    first = round(float(GRID.to_index(slab.grid.affine[:3, 3])[0]))
    assert_same_voxels(slab, read_ct(image).crop((first, 0, 0), (first + len(slab.voxels), *GRID.shape[1:])))


def test_an_import_is_what_adding_by_hand_is(source: Path, tmp_path: Path) -> None:
    imported, _ = import_cases(tmp_path / "cohort", pairs(source))
    for name in reversed(SIZES_MM):
        image, mask = read_ct(source / "images" / f"{name}.nii"), read_mask(source / "masks" / f"{name}.nii")
        add_case(tmp_path / "hand", name, image, mask, image_path="", mask_path="")
    assert Cohort.open(tmp_path / "hand").digest == imported.digest


def test_processes_give_the_same_cohort(source: Path, tmp_path: Path) -> None:
    write_mask(Volume(np.zeros(GRID.shape, np.uint8), GRID), source / "masks" / "c.nii")
    one, left_out = import_cases(tmp_path / "one", pairs(source))
    two, also = import_cases(tmp_path / "two", pairs(source), workers=2)
    assert one.digest == two.digest and len(two.cases) == 2
    assert (tmp_path / "one" / "cohort.csv").read_bytes() == (tmp_path / "two" / "cohort.csv").read_bytes()
    assert left_out == also and len(also) == 1


def test_finished_cases_are_kept_and_the_others_made(source: Path, tmp_path: Path) -> None:
    folder, listing = tmp_path / "cohort", pairs(source)
    import_cases(folder, replace(listing, candidates=listing.candidates[:2]))
    before = times(folder)
    (folder / "slabs" / ".clmsda-0123abcd-c.npy").write_bytes(b"what a killed import leaves")
    told: list[tuple[int, int]] = []
    cohort, _ = import_cases(folder, listing, progress=lambda *far: told.append(far))
    assert told == [(0, 1), (1, 1)]
    assert len(cohort.cases) == 3 and before.items() <= times(folder).items()
    assert not list(folder.rglob(".*"))


def damage(slab: Path) -> None:
    slab.write_bytes(slab.read_bytes()[:-5])


@pytest.mark.parametrize("spoil", [damage, Path.unlink])
def test_a_damaged_slab_is_made_again(source: Path, tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    folder = tmp_path / "cohort"
    whole, _ = import_cases(folder, pairs(source))
    before = times(folder)
    spoil(folder / "slabs" / "b.npy")
    again, _ = import_cases(folder, pairs(source))
    changed = {name for name, when in times(folder).items() if before[name] != when}
    assert changed == {"b.npy", "b.mask.npy"} and again.digest == whole.digest
    again.slab(again.cases[1])


SLOW_IMPORT = """
import sys, time
from clmsda.cohorts.importing import import_cases
from clmsda.cohorts.pairs import pairs
if __name__ == "__main__":
    stop = lambda done, _: done and time.sleep(60)
    import_cases(sys.argv[1], pairs(sys.argv[2]), workers=int(sys.argv[3]), progress=stop)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_an_import_that_is_killed_goes_on(source: Path, tmp_path: Path, workers: int) -> None:
    folder = tmp_path / "cohort"
    (tmp_path / "slow.py").write_text(SLOW_IMPORT)
    command = [sys.executable, tmp_path / "slow.py", folder, source, str(workers)]
    with subprocess.Popen(command, start_new_session=True) as process:
        while not (folder / "cohort.csv").is_file():
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()  # the parent alone: its workers must not live on
    finished = {case.case for case in Cohort.open(folder).cases}
    assert len(finished) == 1
    (name,) = finished
    before = {slab: when for slab, when in times(folder).items() if slab.startswith(name)}
    wait_for_end_of_group(process.pid)
    cohort, exclusions = import_cases(folder, pairs(source))
    assert len(cohort.cases) == 3 and not exclusions
    assert before.items() <= times(folder).items()
    assert cohort.digest == import_cases(tmp_path / "whole", pairs(source))[0].digest


def test_a_worker_that_dies_is_an_error_and_not_a_wait(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", {f"case {number}": 20.0 for number in range(12)})

    def kill_workers(done: int, _: int) -> None:
        for process in active_children() if done else []:
            process.kill()

    with pytest.raises(CohortError, match="died, most likely for want of memory: finished cases are kept"):
        import_cases(tmp_path / "cohort", pairs(source), workers=2, progress=kill_workers)
    finished = Cohort.open(tmp_path / "cohort").cases
    assert 1 <= len(finished) < 12
    assert len(import_cases(tmp_path / "cohort", pairs(source))[0].cases) == 12


def wait_for_end_of_group(group: int, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.killpg(group, signal.SIGKILL)
    raise AssertionError("workers went on without their parent")


def test_a_case_of_another_source_is_not_overwritten(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cohort"
    import_cases(folder, pairs(source))
    before = (folder / "cohort.csv").read_bytes()
    other = write_folder(tmp_path / "other", {"b": 22.0})
    with pytest.raises(CohortError, match=r"already holds a case b from .*source/images/b.nii, not from .*other"):
        import_cases(folder, pairs(other))
    assert (folder / "cohort.csv").read_bytes() == before


def test_two_sources_make_one_cohort(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cohort"
    (source / "masks" / "a.nii").unlink()
    import_cases(folder, pairs(source))
    other = write_folder(tmp_path / "other", {"d": 22.0, "e": 24.0})
    (other / "images" / "e.nii").unlink()
    cohort, exclusions = import_cases(folder, pairs(other))
    assert [case.case for case in cohort.cases] == ["b", "c", "d"]
    assert [one.patient for one in exclusions] == ["a", "e"]
    write_pair(source / "images" / "a.nii", source / "masks" / "a.nii", ball())
    cohort, exclusions = import_cases(folder, pairs(source))
    assert [case.case for case in cohort.cases] == ["a", "b", "c", "d"]
    assert [one.patient for one in exclusions] == ["e"]  # what is mended is left out no more


def test_files_in_the_cohorts_folder_are_recorded_relative_to_it(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 20.0})
    cohort, _ = import_cases(tmp_path, pairs(tmp_path))
    assert (cohort.cases[0].image, cohort.cases[0].mask) == ("images/a.nii", "masks/a.nii")


def test_a_source_without_a_tumor_is_refused_with_the_reasons(source: Path, tmp_path: Path) -> None:
    listing = pairs(source)
    for candidate in listing.candidates:
        candidate.image.unlink()
    with pytest.raises(NothingImported, match=r"no tumor could be imported into .*: 3 were left out") as refusal:
        import_cases(tmp_path / "cohort", listing)
    assert len(refusal.value.exclusions) == len(read_exclusions(tmp_path / "cohort")) == 3
    with pytest.raises(NothingImported, match="as the source has none"):
        import_cases(tmp_path / "empty", Listing((), ()))


def test_a_cohort_that_cannot_be_written_stops_the_import(source: Path, tmp_path: Path) -> None:
    """That is no fault of a case: none is left out for it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot make the folder"):
        import_cases(tmp_path / "file", pairs(source))
    (tmp_path / "cohort" / "slabs" / "a.npy" / "in the way").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"cannot write .*a\.npy"):
        import_cases(tmp_path / "cohort", pairs(source))
    assert read_exclusions(tmp_path / "cohort") == []
    assert not list((tmp_path / "cohort" / "slabs").glob(".*"))


def test_a_damaged_table_stops_the_import(source: Path, tmp_path: Path) -> None:
    import_cases(tmp_path / "cohort", pairs(source))
    table = tmp_path / "cohort" / "cohort.csv"
    table.write_bytes(table.read_bytes()[:-40])
    with pytest.raises(CohortError, match=r"cohort.csv, line 4"):
        import_cases(tmp_path / "cohort", pairs(source))
    assert len(list((tmp_path / "cohort" / "slabs").iterdir())) == 6

"""What is used although something about it deserves a word: one line each on the screen, and in the JSON."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path

import numpy as np
import pytest
from cohort_sources import write_folder
from command_line import chest, clmsda, save_constant_model
from dicom_series import write_series

from clmsda import cli
from clmsda.errors import heard
from clmsda.geometry import Volume
from clmsda.images import read_ct, write_image, write_mask

SAID = "does not say where its voxels lie"


def placeless(path: Path) -> Path:
    """Take from a .nii what says where its voxels lie."""
    header = bytearray(path.read_bytes())
    header[252:256] = bytes(4)  # qform_code, sform_code
    path.write_bytes(header)
    return path


@pytest.fixture
def ball(tmp_path: Path) -> tuple[Path, Path]:
    """A CT without a place, and a ball on it."""
    ct = chest()
    write_image(ct, tmp_path / "ct.nii")
    write_mask(Volume((ct.voxels > 20).astype(np.uint8), ct.grid), tmp_path / "ball.nii")
    return placeless(tmp_path / "ct.nii"), placeless(tmp_path / "ball.nii")


def test_each_line_is_heard_once_and_only_within() -> None:
    log, outer = logging.getLogger("clmsda.images.any"), []
    with heard(outer.append) as first, heard() as second:
        for _ in range(3):
            log.warning("%s is\nodd", "ct")
        log.info("no word")
    log.warning("later")
    assert first == second == outer == ["ct is odd"]


def test_measure_says_it_on_the_screen_and_in_the_json(ball: tuple[Path, Path]) -> None:
    ct, mask = ball
    done = clmsda("measure", mask, "--image", ct, "--json", "-")
    lines = done.stderr.splitlines()
    assert [line.startswith("warning: ") and SAID in line for line in lines] == [True, True], done.stderr
    assert [f"warning: {line}" for line in json.loads(done.stdout)["warnings"]] == lines


@pytest.mark.parametrize("anonymize", [False, True])
def test_segment_says_it_too_but_names_no_file_when_anonymous(ball: tuple[Path, Path], anonymize: bool) -> None:
    ct, folder = ball[0], ball[0].parent
    model = save_constant_model(folder, 9)
    where = ["--point=93,60,20", "--frame", "index", "--model", model]
    done = clmsda("segment", ct, *where, "-o", folder / "m.nii", "--json", "-", *["--anonymize"] * anonymize)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(SAID) == 1
    (line,) = json.loads(done.stdout)["warnings"]
    assert (SAID in line) != anonymize
    assert ("ct.nii" in line) != anonymize


def test_no_library_speaks_on_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    def noisy() -> None:
        warnings.warn("raw words of a library", UserWarning, stacklevel=1)
        logging.getLogger("pydicom").warning("raw words of a library")

    monkeypatch.setattr(cli, "app", lambda *_, **__: noisy())
    done = clmsda("info")
    assert (done.returncode, done.stderr) == (0, "")


def test_values_that_break_the_standard_are_read_without_a_word(tmp_path: Path) -> None:
    """pydicom warns of every one of them, slice by slice."""

    def edit(dataset: object, number: int) -> None:
        dataset.StudyDate, dataset.PatientAge = "1.1.2024", "a hundred"  # type: ignore[attr-defined]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_series(tmp_path / "ct", chest(), edit=edit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_ct(tmp_path / "ct")


def test_workers_of_an_import_hand_their_warnings_up(tmp_path: Path) -> None:
    """In processes of their own, which have no screen."""
    source = write_folder(tmp_path / "source", {"A": 20, "B": 30})
    for path in source.rglob("*.nii"):
        placeless(path)
    done = clmsda("cohort", "import", "folder", source, "--out", tmp_path / "cohort", "--workers", 2)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if SAID in line]
    assert [line.startswith("warning: ") for line in said] == [True] * 4

"""Output files appear whole or not at all."""

import os
from pathlib import Path

import pytest

from clmsda.files import OutputError, replacing


def test_the_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "mask.nii.gz"
    path.write_text("old")
    with replacing(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.endswith("mask.nii.gz")
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["mask.nii.gz"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "mask.nii.gz"
    path.write_text("old")
    with pytest.raises(KeyError), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["mask.nii.gz"]


def test_a_folder_that_does_not_exist_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nowhere does not exist"), replacing(tmp_path / "nowhere" / "a.json"):
        pytest.fail("the body must not run")


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"), replacing(tmp_path):
        pytest.fail("the body must not run")


def test_a_folder_that_cannot_be_written_is_refused() -> None:
    if not Path("/proc/self").is_dir():
        pytest.skip("needs a folder that not even root can write: /proc")
    with pytest.raises(OutputError, match="cannot write /proc/self/"), replacing("/proc/self/a.json"):
        pytest.fail("the body must not run")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

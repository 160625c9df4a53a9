"""Output files appear whole or not at all."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clmsda.files import (
    OutputError,
    is_unfinished,
    remove_unfinished,
    replacing,
    replacing_all,
    temporary_folder,
)


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


def test_what_a_dead_process_left_is_taken_away_but_not_what_is_being_written(tmp_path: Path) -> None:
    path, mine = tmp_path / "mask.nii.gz", tmp_path / ".clmsda-0123abcd-mask.json"
    stale = tmp_path / ".clmsda-0123abcd-mask.nii.gz"
    stale.write_text("half")
    mine.write_text("half of another file")
    with replacing(path) as first:
        first.write_text("first")
        assert not stale.exists()
        with replacing(path) as second:
            second.write_text("second")
            assert first.exists()
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert sorted(os.listdir(tmp_path)) == [mine.name, path.name]
    remove_unfinished(tmp_path)
    assert os.listdir(tmp_path) == [path.name]


def test_a_temporary_path_of_an_outer_block_is_given_back(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.json") as outer:
        with replacing(outer) as inner:
            assert inner == outer
            inner.write_text("{}")
        assert os.listdir(tmp_path) == [outer.name]
    assert os.listdir(tmp_path) == ["a.json"]


def test_files_that_belong_together_appear_all_or_none(tmp_path: Path) -> None:
    paths = {name: tmp_path / name for name in ("a", "b", "c")}
    with replacing_all(paths) as temporary:
        for name, one in temporary.items():
            one.write_text(name)
        assert not any(path.exists() for path in paths.values())
    assert [path.read_text() for path in paths.values()] == ["a", "b", "c"]
    with pytest.raises(OutputError, match=r"cannot write .*/c: No such file"), replacing_all(paths) as temporary:
        temporary["a"].write_text("new")
        temporary["c"].unlink()
    assert paths["a"].read_text() == "a"
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "c"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), OSError("8 requested, 0 written")])
def test_a_full_disk_is_named_with_the_file(tmp_path: Path, error: OSError) -> None:
    message = r"cannot write .*/a\.json: .*; make room"
    with pytest.raises(OutputError, match=message), replacing(tmp_path / "a.json") as outer, replacing(outer):
        raise error
    assert not os.listdir(tmp_path)


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a.json"):
        (tmp_path / "b.json").read_text()


def test_temporary_folders_of_dead_processes_go_with_what_is_in_them(tmp_path: Path) -> None:
    stale, other = tmp_path / ".clmsda-0123456789abcdef", tmp_path / ".clmsda-notes"
    for folder in (stale, other):
        folder.mkdir()
        (folder / "slice.dcm").write_text("a patient's")
    with temporary_folder(tmp_path) as first, temporary_folder(tmp_path) as second:
        assert first.is_dir() and second.is_dir() and not stale.exists()
        assert is_unfinished(first)
        assert first.stat().st_mode & 0o777 == 0o700
    assert os.listdir(tmp_path) == [other.name]


def test_a_link_is_no_temporary_folder(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (tmp_path / ".clmsda-0123456789abcdef").symlink_to(kept)
    with temporary_folder(tmp_path):
        assert kept.is_dir()
    assert len(os.listdir(tmp_path)) == 2


def test_threads_that_make_temporary_folders_at_once_take_none_of_each_other(tmp_path: Path) -> None:
    """Each looks through the folder for what dead processes left, also in the moment when another one is made."""

    def make(number: int) -> None:
        for _ in range(100):
            with temporary_folder(tmp_path) as folder:
                (folder / "file").write_text(str(number))
                assert (folder / "file").read_text() == str(number)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(make, range(8)))
    assert not list(tmp_path.iterdir())

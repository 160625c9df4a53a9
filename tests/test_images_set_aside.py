"""What lies among slices and is none is passed over and named; what may be a lost slice is not; limits of archives."""

from __future__ import annotations

import os
import shutil
import time
import zipfile
from pathlib import Path

import pytest
from command_line import clmsda
from dicom_series import new_dataset, save, slices, write_series
from pydicom.uid import CTImageStorage, MediaStorageDirectoryStorage, SecondaryCaptureImageStorage, generate_uid
from same_voxels import assert_same_voxels

from clmsda.errors import heard
from clmsda.geometry import Volume
from clmsda.images import archives, errors, list_series, read_ct, read_mask
from clmsda.images.dicom_series import open_series
from clmsda.images.scan_facts import read_scan_facts

BINARY = bytes(range(256)) * 4


def picture(series_uid: str, sop_class: str = SecondaryCaptureImageStorage, *, color: bool = False) -> object:
    """A screen save that is filed into a CT series."""
    dataset = new_dataset(sop_class, "CT")
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), series_uid
    dataset.ImageType, dataset.InstanceNumber = ["DERIVED", "SECONDARY", "SCREEN SAVE"], 99
    dataset.Rows = dataset.Columns = 8
    dataset.SamplesPerPixel = 3 if color else 1
    dataset.PhotometricInterpretation = "RGB" if color else "MONOCHROME2"
    if color:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = bytes(64 * dataset.SamplesPerPixel)
    return dataset


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("sop_class", "color", "kind"),
    [
        (SecondaryCaptureImageStorage, False, "Secondary Capture Image Storage"),
        (SecondaryCaptureImageStorage, True, "Secondary Capture Image Storage"),
        (CTImageStorage, True, "color picture"),
        (CTImageStorage, False, "screen save"),
    ],
)
def test_pictures_in_the_series_are_set_aside_and_named(
    lopsided: Volume, tmp_path: Path, first: bool, sop_class: str, color: bool, kind: str
) -> None:
    datasets = slices(lopsided)
    other = picture(datasets[0].SeriesInstanceUID, sop_class, color=color)
    paths = save([other, *datasets] if first else [*datasets, other], tmp_path)  # type: ignore[list-item]
    with heard() as said:
        assert_same_voxels(read_ct(tmp_path), lopsided)
    assert said == [f"set aside 1 of 8 images of the series, no slices: IM000{1 if first else 8}.dcm ({kind})"]
    with heard() as again:
        series = open_series(paths)
        assert len(list(series.slices(0, series.grid.shape[0]))) == 7
    assert again == said
    (listed,) = list_series(tmp_path)
    assert listed.is_ct


VIEWER = ["AUTORUN.INF", "VIEWER.EXE", "lib.dll", "setup", "DATA/viewer.bin", "__MACOSX/._IM0001.dcm", "Thumbs.db"]


def test_a_disc_with_a_viewer_is_read_and_what_is_passed_over_is_named(lopsided: Volume, tmp_path: Path) -> None:
    write_series(tmp_path / "DICOM" / "PAT1", lopsided)
    directory = new_dataset(MediaStorageDirectoryStorage, "CT")
    directory.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    directory.save_as(tmp_path / "DICOMDIR", enforce_file_format=True)
    for name in VIEWER:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(BINARY)
    (tmp_path / "DICOM" / "PAT1" / "IM0099.dcm").write_bytes(b"")
    for path in (tmp_path, shutil.make_archive(str(tmp_path.parent / f"{tmp_path.name}-disc"), "zip", tmp_path)):
        with heard() as said:
            assert_same_voxels(read_ct(path), lopsided)
        (line,) = said
        assert "passed over 9 files" in line
        for name in [*VIEWER, "DICOMDIR", "IM0099.dcm"]:
            assert name in line


def test_more_than_ten_are_counted(lopsided: Volume, tmp_path: Path) -> None:
    write_series(tmp_path, lopsided)
    for number in range(25):
        (tmp_path / f"viewer{number}.dll").write_bytes(BINARY)
    with heard() as said:
        read_ct(tmp_path)
    assert "passed over 25 files" in said[0]
    assert "and 15 more" in said[0]


@pytest.mark.parametrize("name", ["IM0008.dcm", "IM0008", "IM9", "other.DCM", "other.ima"])
def test_what_may_be_a_lost_slice_is_not_passed_over(lopsided: Volume, tmp_path: Path, name: str) -> None:
    write_series(tmp_path, lopsided)
    (tmp_path / name).write_bytes(BINARY)
    with pytest.raises(errors.UnreadableFile, match=rf"{name} .* is not DICOM; is it truncated"):
        read_ct(tmp_path)


def test_a_link_to_nothing_that_is_named_like_a_slice_is_not_passed_over(lopsided: Volume, tmp_path: Path) -> None:
    write_series(tmp_path, lopsided)
    (tmp_path / "IM0008.dcm").symlink_to(tmp_path / "gone.dcm")
    with pytest.raises(errors.UnreadableFile, match=r"IM0008\.dcm"):
        read_ct(tmp_path)


def test_an_empty_slice_leaves_a_gap_that_is_refused(lopsided: Volume, tmp_path: Path) -> None:
    path = write_series(tmp_path, lopsided)[4]
    path.write_bytes(b"")
    with heard() as said, pytest.raises(errors.MissingSlice, match="1 missing slice"):
        read_ct(tmp_path)
    assert "IM0005.dcm" in said[0]


def test_a_pipe_is_passed_over_and_not_waited_for(lopsided: Volume, tmp_path: Path) -> None:
    write_series(tmp_path, lopsided)
    os.mkfifo(tmp_path / "pipe")
    with heard() as said:
        assert_same_voxels(read_ct(tmp_path), lopsided)
    assert "pipe" in said[0]
    assert read_scan_facts(tmp_path, lopsided).date == "2024-01-02"


@pytest.mark.parametrize("read", [read_ct, list_series, read_mask])
def test_a_dicomdir_given_as_the_file(tmp_path: Path, read: object) -> None:
    directory = new_dataset(MediaStorageDirectoryStorage, "CT")
    directory.save_as(tmp_path / "DICOMDIR", enforce_file_format=True)
    with pytest.raises(errors.NoDicom, match=rf"DICOMDIR\), without images: give its folder, {tmp_path}"):
        read(tmp_path / "DICOMDIR")  # type: ignore[operator]


def test_linked_folders_are_followed_without_loops(lopsided: Volume, tmp_path: Path) -> None:
    """A link to the slices, one to the same again, and ones to the folder itself and to the one around it."""
    write_series(tmp_path / "store" / "ct", lopsided)
    write_series(tmp_path / "store" / "other", lopsided)
    folder = tmp_path / "patient"
    folder.mkdir()
    for name, target in {"a": "store/ct", "b": "store/ct", "loop": "patient", "up": "."}.items():
        (folder / name).symlink_to(tmp_path / target, target_is_directory=True)
    assert_same_voxels(read_ct(folder), lopsided)
    assert read_scan_facts(folder, lopsided).date == "2024-01-02"


def zipped(path: Path, *members: tuple[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return path


@pytest.mark.parametrize(
    "twin", ["a/IM0001.dcm", "a//IM0001.dcm", "./a/IM0001.dcm", "../a/IM0001.dcm", "/a/IM0001.dcm"]
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_of_one_name_are_refused(lopsided: Volume, tmp_path: Path, twin: str) -> None:
    paths = write_series(tmp_path / "a", lopsided)
    members = [(f"a/{path.name}", path.read_bytes()) for path in paths]
    assert_same_voxels(read_ct(zipped(tmp_path / "good.zip", *members)), lopsided)
    with pytest.raises(errors.UnreadableFile, match=r"several files named a/IM0001\.dcm"):
        read_ct(zipped(tmp_path / "bad.zip", *members, (twin, members[3][1])))


def test_archives_that_unpack_to_too_much_are_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = zipped(tmp_path / "bomb.zip", *[(f"{n}.dcm", bytes(1 << 26)) for n in range(5)])
    began = time.monotonic()
    with pytest.raises(errors.TooLarge, match=r"unpack to 0\.336 GB, \d+ times its size; expected at most 100 times"):
        read_ct(bomb)
    assert time.monotonic() - began < 1
    small = zipped(tmp_path / "small.zip", *[(f"{n}.dcm", b"1") for n in range(5)])
    monkeypatch.setattr(archives, "MOST_FILES", 4)
    with pytest.raises(errors.TooLarge, match="holds 5 files; expected at most 4"):
        read_ct(small)


def test_archives_that_the_disk_cannot_hold_are_refused(
    lopsided: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(tmp_path / "a", lopsided)
    archive = shutil.make_archive(str(tmp_path / "study"), "zip", tmp_path / "a")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(errors.TooLarge, match="GB left: unpack it yourself"):
        read_ct(archive)


def test_what_is_passed_over_is_said_on_the_screen(lopsided: Volume, tmp_path: Path) -> None:
    write_series(tmp_path, lopsided)
    (tmp_path / "VIEWER.EXE").write_bytes(BINARY)
    done = clmsda("info", "series", tmp_path)
    assert done.stderr == f"warning: passed over 1 file in {tmp_path}, no DICOM images: VIEWER.EXE\n"
    assert done.stdout.count("7 images") == 1


def test_what_a_killed_process_left_among_slices_is_passed_over(lopsided: Volume, tmp_path: Path) -> None:
    """Half an object, which looks like a damaged slice, and whole ones, which nobody has given their final names."""
    paths = write_series(tmp_path / "ct", lopsided)
    (tmp_path / "ct" / ".clmsda-0123abcd-seg.dcm").write_bytes(paths[0].read_bytes()[:400])
    (tmp_path / "ct" / ".clmsda-0123456789abcdef").mkdir()
    shutil.copy(paths[0], tmp_path / "ct" / ".clmsda-0123456789abcdef" / "00001.dcm")
    with heard() as said:
        ct = read_ct(tmp_path / "ct")
    assert_same_voxels(ct, lopsided)
    assert not said

"""What damaged files end in: one refusal that names the file, before memory is taken for what they claim."""

from __future__ import annotations

import gzip
import re
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dicom_series import save, slices

from clmsda.cohorts import reading
from clmsda.cohorts.candidates import Candidate
from clmsda.errors import InputError
from clmsda.geometry import Grid, GridError, Volume
from clmsda.images import dicom_bytes, errors, read_ct, read_mask, write_image
from clmsda.images.damage import damage_named
from clmsda.images.dicom_bytes import dicom_bytes as opened
from clmsda.images.dicom_heads import end_of_meta
from clmsda.images.voxel_files import read_voxels
from clmsda.response.reading import read_time_point
from clmsda.response.timepoints import TimePointError

MEGABYTES = 1 << 20


def raises(error: BaseException) -> None:
    with damage_named("IM0001.dcm"):
        raise error


@pytest.mark.parametrize("error", [TypeError("'str' object"), KeyError("x"), NotImplementedError(), RecursionError()])
def test_what_a_library_throws_becomes_a_refusal_in_our_words(error: Exception) -> None:
    with pytest.raises(
        errors.UnreadableFile, match=r"^IM0001\.dcm is truncated or damaged: [^']*; fetch or export"
    ) as it:
        raises(error)
    assert it.value.__cause__ is error


@pytest.mark.parametrize("error", [NameError("typo"), AssertionError(), ImportError(), MemoryError(), GridError("x")])
def test_our_own_mistakes_and_refusals_pass(error: Exception) -> None:
    with pytest.raises(type(error)) as it:
        raises(error)
    assert it.value is error


def test_a_file_that_may_not_be_read_is_not_called_damaged() -> None:
    with pytest.raises(errors.UnreadableFile, match=r"^IM0001\.dcm cannot be read: Permission denied$"):
        raises(PermissionError(13, "Permission denied"))


def test_a_refusal_is_one_line_whatever_it_quotes() -> None:
    said = str(InputError("a\nb  \x1b[2J\u8096.dcm\udce9 is\r\ndamaged"))
    assert said == "a b \\x1b[2J\u8096.dcm\\udce9 is damaged"


def test_no_more_is_read_than_there_is(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"12345678")
    tracemalloc.start()
    with opened(tmp_path / "a.dcm", "a.dcm") as file:
        assert file.read(3) == b"123"
        assert file.read(1 << 32) == b"45678"
        assert file.read(1 << 32) == file.read() == b""
    assert tracemalloc.get_traced_memory()[1] < MEGABYTES
    tracemalloc.stop()


def deflated(folder: Path, lopsided: Volume, megabytes: int) -> Path:
    """A slice that unpacks to so much more than it ought to."""
    datasets = slices(lopsided)
    for dataset in datasets:
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    path = save(datasets, folder)[0]
    data = path.read_bytes()
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    start = end_of_meta(data)
    packed = [packer.compress(zlib.decompress(data[start:], -zlib.MAX_WBITS))]
    packed += [packer.compress(bytes(MEGABYTES)) for _ in range(megabytes)]
    path.write_bytes(data[:start] + b"".join(packed) + packer.flush())
    return path


def test_a_deflated_file_unpacks_to_what_a_slice_may_be(
    lopsided: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicom_bytes, "ALWAYS_UNPACKED", 4 * MEGABYTES)
    path = deflated(tmp_path, lopsided, 3)
    assert read_ct(tmp_path).voxels.shape == lopsided.voxels.shape
    path = deflated(tmp_path, lopsided, 20)
    for read in (read_ct, read_mask):
        with pytest.raises(errors.TooLarge, match=r"IM0001\.dcm would unpack to more than \d MB, \d+ times its size"):
            read(path)
    with pytest.raises(TimePointError, match=r"IM0001\.dcm would unpack to more than"):
        read_time_point(path)


def replaced(old: bytes, new: bytes) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        data = path.read_bytes()
        assert old in data
        path.write_bytes(data.replace(old, new))

    return change


CLAIMS = {
    "more than there is.mha": (replaced(b"DimSize = 13 11 7", b"DimSize = 1000 1000 2000"), "claims 1000x1000x2000"),
    "more than there is.nrrd": (replaced(b"sizes: 13 11 7", b"sizes: 1000 1000 2000"), "claims 1000x1000x2000"),
    "dimensions without end.mha": (replaced(b"NDims = 3", b"NDims = 2147483648"), "1 to 10 dimensions"),
    "no dimensions.nrrd": (replaced(b"dimension: 3", b"dimension: 0"), "1 to 10 dimensions"),
    "fewer lengths.mha": (replaced(b"DimSize = 13 11 7", b"DimSize = 13 11"), "1 to 10 dimensions"),
    "a direction without end.mha": (replaced(b"TransformMatrix = ", b"TransformMatrix = 1e308 "), "TransformMatrix"),
    "no direction.nrrd": (replaced(b"space origin: (", b"space origin: (nan,"), "space origin"),
    "a device.mha": (replaced(b"ElementDataFile = LOCAL", b"ElementDataFile = /dev/zero"), "no file beside it"),
    "elsewhere.nrrd": (replaced(b"encoding: ", b"data file: missing.raw\nencoding: "), r"missing\.raw, .* give both"),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_headers_are_refused_for_what_no_image_has(lopsided: Volume, tmp_path: Path, claim: str) -> None:
    spoil, said = CLAIMS[claim]
    path = tmp_path / claim.replace(" ", "-")
    write_image(lopsided, path)
    spoil(path)
    with pytest.raises(errors.UnreadableFile, match=rf"{path.name}.*{said}"):
        read_voxels(path)


@pytest.mark.parametrize("where", ["ct.raw", "LIST\nc1.raw\nc2.raw", "LIST 2\nc1.raw\nc2.raw", "c%d.raw 1 2 1"])
def test_voxels_that_lie_beside_their_header_are_read(tmp_path: Path, where: str) -> None:
    voxels = np.arange(24, dtype="<i2").reshape(2, 3, 4)
    head = "ObjectType = Image\nNDims = 3\nBinaryData = True\nDimSize = 4 3 2\nElementType = MET_SHORT\n"
    (tmp_path / "ct.mhd").write_text(head + f"ElementDataFile = {where}\n")
    (tmp_path / "ct.raw").write_bytes(voxels.tobytes())
    for number, plane in enumerate(voxels, 1):
        (tmp_path / f"c{number}.raw").write_bytes(plane.tobytes())
    np.testing.assert_array_equal(read_voxels(tmp_path / "ct.mhd").voxels, voxels)


@pytest.mark.parametrize("where", ["missing.raw", "LIST\nc1.raw", "LIST 3\nct.raw", "c%d.raw 1 1 1", "/dev/zero"])
def test_too_few_files_of_voxels_are_refused(tmp_path: Path, where: str) -> None:
    """ITK takes whatever memory holds for the slices that are not there."""
    test_voxels_that_lie_beside_their_header_are_read(tmp_path, "ct.raw")
    header = tmp_path / "ct.mhd"
    header.write_text(header.read_text().replace("ct.raw", where))
    with pytest.raises(errors.UnreadableFile, match=r"ct\.mhd .*(give both|expected one for each)"):
        read_voxels(header)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd", ".nii.gz"])
def test_a_bit_that_is_flipped_in_packed_voxels_is_noticed(tmp_path: Path, suffix: str) -> None:
    """ITK hands on a MetaImage whose voxels cannot be unpacked, and looks at no sum of an NRRD."""
    rng = np.random.default_rng(5)
    volume = Volume(rng.integers(-1000, 1000, (4, 20, 20)).astype(np.int16), Grid.axial((4, 20, 20), (2.0, 1.0, 1.0)))
    path = tmp_path / f"ct{suffix}"
    write_image(volume, path)
    whole = path.read_bytes()
    for at in rng.integers(len(whole) // 2, len(whole), 40):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << rng.integers(8)]) + whole[at + 1 :])
        with pytest.raises(errors.UnreadableFile, match=path.name):
            read_voxels(path)


@pytest.mark.parametrize("size", ["10", "99999999999", "99999999999999999999", "-1", "x"])
def test_a_wrong_size_of_packed_voxels_is_noticed(lopsided: Volume, tmp_path: Path, size: str) -> None:
    path = tmp_path / "ct.mha"
    write_image(lopsided, path)
    path.write_bytes(re.sub(rb"CompressedDataSize = \d+", b"CompressedDataSize = " + size.encode(), path.read_bytes()))
    with pytest.raises(errors.UnreadableFile, match=r"ct\.mha"):
        read_voxels(path)


def test_a_gzip_may_not_go_on_without_end(lopsided: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ct.nii.gz"
    write_image(lopsided, path)
    with path.open("ab") as file:
        file.write(gzip.compress(bytes(9 * MEGABYTES)))
    assert read_ct(path).grid.same_as(lopsided.grid)
    monkeypatch.setattr("clmsda.images.nifti_voxels.MOST_BEHIND", MEGABYTES)
    with pytest.raises(errors.UnreadableFile, match="goes on for more than"):
        read_ct(path)


def test_an_excluded_case_has_a_reason_in_our_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Candidate) -> None:
        raise TypeError("'float' object is not subscriptable")

    monkeypatch.setattr(reading, "_read", fail)
    with pytest.raises(
        errors.UnreadableFile, match=r"ct\.nii or mask\.nii is truncated or damaged: their content"
    ) as it:
        reading.read_tumor(Candidate("a", "P1", Path("ct.nii"), Path("mask.nii")))
    assert "float" not in str(it.value)


def test_a_grid_of_kilometers_is_none() -> None:
    with pytest.raises(GridError, match="kilometers"):
        Grid.axial((2, 2, 2), (1.0, 1.0, 1e9))

"""The fast way to read a series gives what the readers of `clmsda.images` give, and leaves to them what it cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dicom_series import compressed, new_dataset, save, sheared, slices, write_series
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence as Items
from pydicom.uid import CTImageStorage, ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEGLosslessSV1, RLELossless

from clmsda.errors import InputError
from clmsda.geometry import Grid, Volume
from clmsda.images import dicom_series, read_ct
from clmsda.images.dicom_heads import PIXELS, skim
from clmsda.images.dicom_series import open_series
from clmsda.images.errors import GantryTilt, Localizer, MissingSlice, NotHounsfield, UnreadableFile


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for this fails where the fast way was not taken."""

    def never(_: object) -> None:
        raise AssertionError("read the slow way")

    monkeypatch.setattr(dicom_series, "_open_any", never)


def assert_reads_alike(folder: Path, low: int = 0, high: int | None = None) -> None:
    """The series gives the slices low up to high as read_ct does."""
    expected = read_ct(folder)
    series = open_series(sorted(folder.iterdir()))
    assert series.grid == expected.grid
    high = len(expected.voxels) if high is None else high
    found = np.array([plane.copy() for plane in series.slices(low, high)])
    assert found.dtype == np.int16
    np.testing.assert_array_equal(found, expected.voxels[low:high])


def test_a_series_reads_as_ever(plain: None, tmp_path: Path, lopsided: Volume) -> None:
    paths = write_series(tmp_path, lopsided)
    assert_reads_alike(tmp_path)
    assert_reads_alike(tmp_path, 2, 5)
    assert_reads_alike(tmp_path, 3, 4)
    assert open_series(paths[::-1]).grid == open_series(paths).grid  # whatever the order of the files


def unsigned(dataset: Dataset, _: int) -> None:
    dataset.PixelRepresentation = 0
    dataset.RescaleIntercept = "-1024"


def shifted(dataset: Dataset, _: int) -> None:
    """Stored values as HU, with padding below air."""
    dataset.RescaleIntercept = "0"
    stored = np.frombuffer(dataset.PixelData, "<i2").astype(np.int32) - 1024
    stored[:3] = -2000
    dataset.PixelData = stored.astype("<i2").tobytes()


def of_12_bits(dataset: Dataset, number: int) -> None:
    """12 bits of value, and above them what is none."""
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, number % 2 * 0
    stored = np.frombuffer(dataset.PixelData, "<u2") & 0x0FFF
    dataset.PixelData = (stored | 0x5000).astype("<u2").tobytes()


def beyond_16_bits(dataset: Dataset, _: int) -> None:
    """Unsigned values whose HU no int16 holds."""
    unsigned(dataset, 0)
    stored = np.frombuffer(dataset.PixelData, "<u2").copy()
    stored[:5] = 65535
    dataset.PixelData = stored.tobytes()


def implicit(dataset: Dataset, _: int) -> None:
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian


@pytest.mark.parametrize("edit", [unsigned, shifted, of_12_bits, beyond_16_bits, implicit])
def test_stored_values_become_the_same_hounsfield_units(
    plain: None, tmp_path: Path, lopsided: Volume, edit: Callable[[Dataset, int], None]
) -> None:
    write_series(tmp_path, lopsided, edit=edit)
    assert_reads_alike(tmp_path)


def rescaled(dataset: Dataset, _: int) -> None:
    dataset.RescaleSlope = "0.5"
    dataset.RescaleIntercept = "-1000.5"


@pytest.mark.parametrize("edit", [rescaled, compressed(RLELossless), compressed(JPEGLosslessSV1)])
def test_what_is_not_plain_is_read_the_other_way(
    tmp_path: Path, lopsided: Volume, edit: Callable[[Dataset, int], None]
) -> None:
    write_series(tmp_path, lopsided, edit=edit)
    assert_reads_alike(tmp_path, 1, 6)


def test_a_sagittal_stack_is_turned(tmp_path: Path, lopsided: Volume) -> None:
    axes = [2, 0, 1]
    affine = lopsided.grid.affine.copy()
    affine[:3, :3] = affine[:3, axes]
    voxels = np.ascontiguousarray(lopsided.voxels.transpose(axes))
    write_series(tmp_path, Volume(voxels, Grid(voxels.shape, affine)))
    assert_reads_alike(tmp_path, 1, 4)


def test_localizers_are_set_aside(tmp_path: Path, lopsided: Volume) -> None:
    datasets = slices(lopsided)
    other = slices(lopsided)[0]
    other.SeriesInstanceUID = datasets[0].SeriesInstanceUID
    other.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    save([*datasets, other], tmp_path)
    assert_reads_alike(tmp_path)
    with pytest.raises(Localizer, match="only localizers"):
        open_series([tmp_path / "IM0008.dcm"])


def truncated(path: Path, bytes_left: int) -> None:
    path.write_bytes(path.read_bytes()[:bytes_left])


@pytest.mark.parametrize(
    ("spoil", "error", "said"),
    [
        (lambda files: files[3].unlink(), MissingSlice, "1 missing slice between"),
        (lambda files: truncated(files[5], files[5].stat().st_size - 10), UnreadableFile, r"IM0006.dcm is truncated"),
        (lambda files: truncated(files[5], 500), UnreadableFile, r"IM0006.dcm is truncated"),
        (lambda files: files[5].write_bytes(b""), UnreadableFile, r"IM0006.dcm is truncated"),
    ],
)
def test_a_damaged_series_is_refused_before_anything_is_read(
    tmp_path: Path, lopsided: Volume, spoil: Callable, error: type[InputError], said: str
) -> None:
    files = write_series(tmp_path, lopsided)
    spoil(files)
    with pytest.raises(error, match=said):
        open_series([file for file in files if file.exists()])


def test_a_tilted_gantry_is_refused(tmp_path: Path, lopsided: Volume) -> None:
    with pytest.raises(GantryTilt):
        open_series(write_series(tmp_path, lopsided, edit=sheared(lopsided, 12)))


def test_values_that_are_no_hounsfield_units_are_refused(tmp_path: Path, lopsided: Volume) -> None:
    picture = Volume(np.abs(lopsided.voxels) % 256, lopsided.grid)
    series = open_series(write_series(tmp_path, picture))
    with pytest.raises(NotHounsfield, match=r"a picture rescaled to 0\.\.255"):
        list(series.slices(0, 7))


VALUES = {  # keyword: values
    "PatientID": st.text("ABC123", max_size=12),
    "StudyDescription": st.text("abc ", max_size=64),
    "ImagePositionPatient": st.lists(st.integers(-999, 999), min_size=3, max_size=3),
    "Rows": st.integers(0, 65535),
    "RescaleSlope": st.integers(1, 9),
    "ICCProfile": st.binary(max_size=40).map(lambda data: data + b"\0" * (len(data) % 2)),
    "TextValue": st.text("xyz", max_size=300),
}
plain_datasets = st.fixed_dictionaries({}, optional=VALUES)


@st.composite
def datasets(draw: st.DrawFn, depth: int = 2) -> Dataset:
    """Elements of short and long VRs, and sequences of such, of defined and undefined length."""
    dataset = Dataset()
    for keyword, value in draw(plain_datasets).items():
        setattr(dataset, keyword, value)
    if depth and draw(st.booleans()):
        items = draw(st.lists(datasets(depth - 1), max_size=3))
        for item in items:
            item.is_undefined_length_sequence_item = draw(st.booleans())
        dataset.ReferencedImageSequence = Items(items)
        dataset["ReferencedImageSequence"].is_undefined_length = draw(st.booleans())
    return dataset


@settings(max_examples=60, deadline=None)
@given(datasets(), st.booleans(), st.booleans())
def test_skimming_finds_what_pydicom_finds(
    tmp_path_factory: pytest.TempPathFactory, dataset: Dataset, explicit: bool, pixels: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "skimmed.dcm"
    file = new_dataset(CTImageStorage, "CT")
    file.SeriesInstanceUID = "1.2.3"
    file.update(dataset)
    if not explicit:
        file.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    if pixels:
        file.Rows, file.BitsAllocated = 1, 16
        file.add_new(PIXELS, "OW", b"\1\2\3\4")
    file.save_as(path, enforce_file_format=True)
    head, expected = skim(path), dcmread(path)
    if not pixels:
        assert head is None  # it never came to them
        return
    assert head is not None
    undefined = {e.tag for e in expected if e.is_undefined_length}
    assert head.elements.keys() == {int(e.tag) for e in expected if e.tag != PIXELS} - undefined
    for name in ("PatientID", "Modality", "SOPInstanceUID", "StudyDescription"):
        if name in expected:
            assert head.text(expected[name].tag) == str(expected[name].value).strip()
    if "ImagePositionPatient" in expected:
        assert head.numbers(0x00200032) == list(expected.ImagePositionPatient)
    assert head.short(0x00280010) == expected.Rows == 1
    assert path.read_bytes()[head.pixels_at :][: head.pixel_bytes] == expected.PixelData


def test_skimming_stops_where_it_is_told(tmp_path: Path, lopsided: Volume) -> None:
    head = skim(write_series(tmp_path, lopsided)[0], last=0x0020000E)
    assert head is not None
    assert head.text(0x00080060) == "CT" and head.text(0x0020000E).startswith("1.2.826")
    assert max(head.elements) == 0x0020000E and head.pixels_at == 0


def without_preamble(path: Path) -> None:
    path.write_bytes(path.read_bytes()[132:])


def big_endian(path: Path) -> None:
    dataset = new_dataset(CTImageStorage, "CT")
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    dataset.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize(
    "spoil",
    [
        without_preamble,
        big_endian,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\0" * 128 + b"DICM"),
        lambda path: truncated(path, 400),
        lambda path: path.write_text("notes " * 99),
    ],
)
def test_other_files_are_not_skimmed(tmp_path: Path, lopsided: Volume, spoil: Callable[[Path], object]) -> None:
    path = write_series(tmp_path, lopsided)[0]
    assert skim(path) is not None
    spoil(path)
    assert skim(path) is None


def test_a_long_head_is_skimmed(tmp_path: Path, lopsided: Volume) -> None:
    def lengthen(dataset: Dataset, _: int) -> None:
        dataset.TextValue = "x" * 60_000

    path = write_series(tmp_path, lopsided, edit=lengthen)[0]
    head = skim(path)
    assert head is not None and head.pixels_at > 60_000


def test_a_real_series_reads_as_ever(plain: None, shared_data: Path) -> None:
    (folder,) = (shared_data / "nsclc-radiomics" / "NSCLC-Radiomics" / "LUNG1-001").glob("*/0.000000*")
    assert_reads_alike(folder, 60, 70)

"""From stored values to HU, slice by slice: rescale, padding, number types, codecs; and mixtures that are said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dicom_series import compressed, save, slices, write_series
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID, JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless
from same_voxels import assert_same_voxels

from clmsda.errors import heard
from clmsda.geometry import Volume
from clmsda.images import errors, read_ct
from clmsda.images.dicom_series import open_series
from clmsda.images.picture_size import too_large


def read_both(folder: Path) -> Volume:
    """The CT, as both readers give it: the one of `read_ct`, and the one of cohort imports."""
    ct = read_ct(folder)
    series = open_series(sorted(folder.iterdir()))
    np.testing.assert_array_equal(list(map(np.copy, series.slices(0, len(ct.voxels)))), ct.voxels)
    assert series.grid.same_as(ct.grid)
    return ct


def refused_by_both(folder: Path, error: type[Exception], match: str) -> None:
    for read in (read_ct, lambda path: open_series(sorted(path.iterdir()))):
        with pytest.raises(error, match=match) as refusal:
            read(folder)
        assert "\n" not in str(refusal.value)


def store(datasets: list[Dataset], numbers: list[int] | range, change: Callable[[Dataset], object]) -> list[Dataset]:
    for number in numbers:
        change(datasets[number])
    return datasets


@pytest.mark.parametrize("numbers", [[0], [3], [6], [1, 2, 4]])
@pytest.mark.parametrize("gone", [["RescaleSlope"], ["RescaleIntercept"], ["RescaleSlope", "RescaleIntercept"]])
@pytest.mark.parametrize("empty", [True, False])
def test_slices_without_rescale_among_others_are_named(
    lopsided: Volume, tmp_path: Path, numbers: list[int], gone: list[str], empty: bool
) -> None:
    def take(dataset: Dataset) -> None:
        for name in gone:
            if empty:
                setattr(dataset, name, None)
            else:
                delattr(dataset, name)

    save(store(slices(lopsided), numbers, take), tmp_path)
    named = "IM0002.dcm" if numbers == [0] else f"IM{numbers[0] + 1:04d}.dcm"
    refused_by_both(tmp_path, errors.MixedSeries, rf"one rescale to HU, found slope and intercept .*{named}|{named}")


def test_each_slice_has_its_own_line(lopsided: Volume, tmp_path: Path) -> None:
    datasets = [slices(lopsided, intercept=-1024 - 10 * n, slope=1 + n % 2)[n] for n in range(7)]
    for dataset in datasets:
        dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = (
            datasets[0].SeriesInstanceUID,
            datasets[0].FrameOfReferenceUID,
        )
    save(datasets, tmp_path)
    expected = [
        np.rint((p - (-1024.0 - 10 * n)) / (1 + n % 2)) * (1 + n % 2) - 1024 - 10 * n
        for n, p in enumerate(lopsided.voxels)
    ]
    assert_same_voxels(read_both(tmp_path), Volume(np.maximum(expected, -1024).astype(np.int16), lopsided.grid))


@pytest.mark.parametrize("mixed", ["signed", "bits"])
def test_each_slice_has_its_own_number_type(lopsided: Volume, tmp_path: Path, mixed: str) -> None:
    """Unsigned values above 32767 in every second slice; or 12 bits and rubbish in the four above."""
    voxels = np.maximum(lopsided.voxels, -1024)
    datasets = slices(Volume(voxels, lopsided.grid))
    for n, dataset in enumerate(datasets[::2]):
        dataset.PixelRepresentation = 0
        if mixed == "bits":
            dataset.BitsStored, dataset.HighBit = 12, 11
            dataset.PixelData = (np.frombuffer(dataset.PixelData, "<u2") | 0x5000).tobytes()
        else:
            dataset.RescaleIntercept = -1024 - 40000
            dataset.PixelData = (voxels[2 * n].astype(np.int32) + 1024 + 40000).astype("<u2").tobytes()
    save(datasets, tmp_path)
    assert_same_voxels(read_both(tmp_path), Volume(voxels, lopsided.grid))


def padded(
    volume: Volume, stored: int, *, signed: bool, value: object, limit: object = None, bits: int = 16, intercept: int
) -> tuple[list[Dataset], Volume]:
    """A series whose first columns hold `stored`, which is padding by its header, and the HU that are right."""
    datasets = slices(volume, intercept=intercept)
    for dataset in datasets:
        pixels = np.frombuffer(dataset.PixelData, "<i2").copy().reshape(dataset.Rows, dataset.Columns)
        pixels[:, :3] = np.array(stored & 0xFFFF, np.uint16).view(np.int16)
        dataset.PixelData, dataset.PixelRepresentation = pixels.tobytes(), int(signed)
        dataset.BitsStored, dataset.HighBit = bits, bits - 1
        dataset.add_new("PixelPaddingValue", "SS" if isinstance(value, int) and value < 0 else "US", value)
        if limit is not None:
            dataset.add_new("PixelPaddingRangeLimit", "SS" if isinstance(limit, int) and limit < 0 else "US", limit)
    right = volume.voxels.copy()
    right[:, :, :3] = -1024
    return datasets, Volume(right, volume.grid)


PADDINGS = {
    "unsigned high": (63536, {"signed": False, "value": 63536, "intercept": -1024}),
    "signed": (-2000, {"signed": True, "value": -2000, "intercept": 0}),
    "signed, as unsigned": (-2000, {"signed": True, "value": 63536, "intercept": 0}),
    "unsigned, as signed": (63536, {"signed": False, "value": -2000, "intercept": -1024}),
    "zero of signed": (0x7FFF, {"signed": True, "value": 0x7FFF, "intercept": 0}),
    "range": (60123, {"signed": False, "value": 60000, "limit": 65535, "intercept": -1024}),
    "range, turned round": (60123, {"signed": False, "value": 65535, "limit": 60000, "intercept": -1024}),
    "signed range": (-1500, {"signed": True, "value": -2000, "limit": -1200, "intercept": 0}),
    "12 bits": (4095, {"signed": False, "value": 4095, "bits": 12, "intercept": -1024}),
    "beyond the bits": (63536, {"signed": False, "value": 63536, "bits": 12, "intercept": -1024}),
}


@pytest.mark.parametrize("case", PADDINGS)
def test_padding_is_air(lopsided: Volume, tmp_path: Path, case: str) -> None:
    stored, how = PADDINGS[case]
    volume = Volume(np.clip(lopsided.voxels, -1024, 2000), lopsided.grid)
    datasets, right = padded(volume, stored, **how)  # type: ignore[arg-type]
    if case == "beyond the bits":  # a value whose lower bits are the padding's is none
        assert (stored & 0xFFF) - 1024 not in volume.voxels
    save(datasets, tmp_path)
    assert_same_voxels(read_both(tmp_path), right)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLosslessSV1])
def test_padding_of_compressed_slices_is_air(lopsided: Volume, tmp_path: Path, syntax: str) -> None:
    volume = Volume(np.clip(lopsided.voxels, -1000, 2000), lopsided.grid)
    datasets, right = padded(volume, 20000, signed=True, value=20000, intercept=-1024)
    for dataset in datasets:
        compressed(syntax)(dataset, 0)  # type: ignore[arg-type]
    save(datasets, tmp_path)
    assert_same_voxels(read_both(tmp_path), right)


def test_padding_that_may_be_tissue_is_said_once(lopsided: Volume, tmp_path: Path) -> None:
    datasets, right = padded(lopsided, 1064, signed=True, value=1064, intercept=-1024)
    right.voxels[lopsided.voxels == 40] = -1024
    save(datasets, tmp_path)
    with heard() as said:
        assert_same_voxels(read_ct(tmp_path), right)
    assert said == ["the series declares 40 HU to be padding (PixelPaddingValue): such voxels are read as air"]


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(("slope", "intercept"), [(0.7, -1024.5), (0.25, -1024), (2, -1024), (1, -1024.5), (1, -1024)])
def test_what_only_gdcm_decodes_has_the_same_values(
    lopsided: Volume, tmp_path: Path, slope: float, intercept: float, signed: bool
) -> None:
    datasets = slices(Volume(np.maximum(lopsided.voxels, -1000), lopsided.grid), slope=slope, intercept=intercept)
    for dataset in datasets:
        dataset.PixelRepresentation = int(signed)
    save(datasets, tmp_path / "plain")
    for number, dataset in enumerate(datasets):
        compressed(JPEGLosslessSV1)(dataset, number)
    save(datasets, tmp_path / "compressed")
    plain, packed = read_both(tmp_path / "plain"), read_both(tmp_path / "compressed")
    assert_same_voxels(packed, plain)


def with_syntax(raw: bytes, old: str, new: str) -> bytes:
    """A file whose meta header names another transfer syntax, as pydicom writes none."""
    element, value = b"\x02\x00\x10\x00UI", old.encode() + b"\0" * (len(old) % 2)
    before, after = raw.split(element + len(value).to_bytes(2, "little") + value)
    other = new.encode() + b"\0" * (len(new) % 2)
    length = int.from_bytes(before[140:144], "little") + len(other) - len(value)
    meta = before[:140] + length.to_bytes(4, "little") + before[144:]
    return meta + element + len(other).to_bytes(2, "little") + other + after


SYNTAXES = {
    "1.2.840.113619.5.2": "private",
    "1.2.840.10008.1.2.4.99": "unknown",
    "1.2.3.4.5": "private",
    "1.2.840.10008.1.2.4.110": "JPEG XL|unknown",
    "1.2.840.10008.1.2.4.102": "MPEG",
    "1.2.840.10008.1.2.4.201": "High-Throughput",
    "1.2.840.10008.5.1.4.1.1.2": "unknown",
    "nonsense": "private|unknown",
}


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_what_nobody_decodes_is_refused_in_one_line(lopsided: Volume, tmp_path: Path, syntax: str) -> None:
    """The pixels are plain; only the file's meta header says otherwise."""
    for path in write_series(tmp_path, lopsided, edit=compressed(RLELossless)):
        path.write_bytes(with_syntax(path.read_bytes(), RLELossless, syntax))
    refused_by_both(tmp_path, errors.UnreadableFile, f"IM000.*({syntax}, |)({SYNTAXES[syntax]}).* Explicit VR Little")


@pytest.mark.parametrize("size", [(5, 7), (11, 14)])
def test_a_codestream_of_another_size_is_refused(lopsided: Volume, tmp_path: Path, size: tuple[int, int]) -> None:
    def edit(dataset: Dataset, number: int) -> None:
        compressed(JPEGLosslessSV1)(dataset, number)
        dataset.Rows, dataset.Columns = size

    write_series(tmp_path, lopsided, edit=edit)
    refused_by_both(tmp_path, errors.UnreadableFile, r"IM000\d\.dcm")


def test_damaged_codestreams_are_refused_in_one_line_and_no_decoder_speaks(
    lopsided: Volume, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def edit(dataset: Dataset, number: int) -> None:
        compressed(JPEGLosslessSV1)(dataset, number)
        frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
        damage = {0: frame[: len(frame) // 4 * 2], 1: bytes(40), 2: bytes(b ^ 0x55 * (b % 5 == 0) for b in frame)}
        dataset.PixelData = encapsulate([damage[number % 3]])

    write_series(tmp_path, lopsided, edit=edit)
    refused_by_both(tmp_path, errors.UnreadableFile, r"IM000\d\.dcm is truncated, damaged or compressed")
    assert capfd.readouterr() == ("", "")


def test_slices_of_two_patients_are_refused_without_their_names(lopsided: Volume, tmp_path: Path) -> None:
    save(store(slices(lopsided), [4], lambda d: setattr(d, "PatientID", "SECRET")), tmp_path)
    with pytest.raises(errors.MixedSeries, match=r"IM0001\.dcm and IM0005\.dcm are of different patients") as refusal:
        read_ct(tmp_path)
    assert "SECRET" not in str(refusal.value)


MIXTURES = {
    "voltage": (range(3, 7), {"KVP": "100"}, "different tube voltages (KVP"),
    "voltage, as it is": (range(3, 7), {"KVP": "120.0"}, ""),
    "kernel": (range(3, 7), {"ConvolutionKernel": "B60f"}, "different kernels ("),
    "acquisitions in turn": (range(0, 7, 2), {"AcquisitionNumber": 2}, "alternate"),
    "acquisitions in blocks": (range(3, 7), {"AcquisitionNumber": 2}, ""),
}


@pytest.mark.parametrize("case", MIXTURES)
def test_mixtures_are_read_and_said(lopsided: Volume, tmp_path: Path, case: str) -> None:
    numbers, values, words = MIXTURES[case]
    datasets = slices(lopsided)
    for dataset in datasets:
        dataset.ConvolutionKernel = "B30f"
    for number in numbers:
        for name, value in values.items():
            setattr(datasets[number], name, value)
    save(datasets, tmp_path)
    for read in (lambda: read_ct(tmp_path), lambda: open_series(sorted(tmp_path.iterdir()))):
        with heard() as said:
            read()
        assert len(said) == (1 if words else 0), said
        assert words in "".join(said)


@pytest.mark.parametrize("tilt", ["12.5", "-30", "0.0"])
def test_geometry_decides_over_the_tag_of_a_tilt(lopsided: Volume, tmp_path: Path, tilt: str) -> None:
    save(store(slices(lopsided), range(7), lambda d: setattr(d, "GantryDetectorTilt", tilt)), tmp_path)
    with heard() as said:
        assert_same_voxels(read_both(tmp_path), lopsided)
    assert len(said) == (float(tilt) != 0)
    assert all(f"tilted by {tilt} degrees by the header" in line for line in said)


REFUSED = {
    "another quantity": ({"RescaleType": "Z_EFF"}, errors.NotCT, "RescaleType Z_EFF"),
    "slope of nothing": ({"RescaleSlope": "0"}, errors.IncompleteHeader, "RescaleSlope of 0"),
    "slope that is no number": ({"RescaleSlope": "nan"}, errors.IncompleteHeader, "RescaleSlope"),
    "frames without a place": ({"NumberOfFrames": 1_000_000_000}, errors.IncompleteHeader, "where each lies"),
    "far too many voxels": ({"Rows": 65535, "Columns": 65535}, errors.TooLarge, "65535x65535 voxels"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_values_that_cannot_be_hu_are_refused(lopsided: Volume, tmp_path: Path, case: str) -> None:
    values, error, words = REFUSED[case]

    def edit(dataset: Dataset) -> None:
        for name, value in values.items():
            setattr(dataset, name, value)

    save(store(slices(lopsided), range(7), edit), tmp_path)
    refused_by_both(tmp_path, error, words)


def test_pixels_in_floating_point_are_called_that(lopsided: Volume, tmp_path: Path) -> None:
    def edit(dataset: Dataset) -> None:
        dataset.FloatPixelData = np.frombuffer(dataset.PixelData, "<i2").astype("<f4").tobytes()
        dataset.BitsAllocated = 32
        del dataset.PixelData

    save(store(slices(lopsided), range(7), edit), tmp_path)
    refused_by_both(tmp_path, errors.NotCT, "pixels in floating point")


SIZES = {
    JPEGLosslessSV1: (b"\xff\xc3", 5, 2),
    JPEGLSLossless: (b"\xff\xf7", 5, 2),
    JPEG2000Lossless: (b"\xff\x51", 10, 4),
}
"""Where a picture states its rows: behind which marker, how many bytes on, and in how many bytes."""


@pytest.mark.parametrize("syntax", SIZES, ids=lambda uid: uid.keyword)
def test_a_picture_that_states_a_huge_size_is_refused_before_anything_makes_room_for_it(
    lopsided: Volume, tmp_path: Path, syntax: UID
) -> None:
    marker, on, count = SIZES[syntax]

    def edit(dataset: Dataset, number: int) -> None:
        if syntax == JPEG2000Lossless:  # no encoder is here: a codestream's first bytes say enough
            size = b"".join(n.to_bytes(4) for n in (dataset.Columns, dataset.Rows, 0, 0))
            dataset.PixelData = encapsulate([b"\xff\x4f\xff\x51" + bytes([0, 41, 0, 0]) + size + bytes(64)])
            dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
            dataset.file_meta.TransferSyntaxUID = syntax
        else:
            compressed(syntax)(dataset, number)
        if number == 3:
            data = bytearray(dataset.PixelData)
            at = data.index(marker) + on
            data[at : at + count] = (60000).to_bytes(count)
            dataset.PixelData = bytes(data)

    write_series(tmp_path, lopsided, edit=edit)
    with pytest.raises(
        errors.UnreadableFile, match=r"its picture states 60000 x 13 pixels, its header 11 x 13|decoded"
    ):
        read_ct(tmp_path)
    slices = [dcmread(path) for path in sorted(tmp_path.iterdir())]
    assert [too_large(one) for one in slices].count((60000, 13)) == 1 and sum(map(bool, map(too_large, slices))) == 1

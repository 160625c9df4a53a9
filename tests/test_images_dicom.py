"""DICOM series in: good ones however they are stored, bad ones refused by name."""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import rotation
from dicom_series import Edit, compressed, decimals, rtstruct, save, sheared, slices, write_series
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
    generate_uid,
)
from same_voxels import assert_same_voxels

from clmsda.errors import InputError
from clmsda.geometry import Grid, Volume
from clmsda.images import errors, list_series, read_ct


def test_a_lopsided_series_comes_back_with_every_voxel_in_place(lopsided: Volume, tmp_path: Path) -> None:
    datasets = slices(lopsided)
    order = np.random.default_rng(1).permutation(len(datasets))
    save([datasets[n] for n in order], tmp_path)
    ct = read_ct(tmp_path)
    assert ct.voxels.dtype == np.int16
    assert ct.source == datasets[0].SeriesInstanceUID
    assert_same_voxels(ct, lopsided)


def test_slices_run_along_the_normal_of_their_planes(lopsided: Volume, tmp_path: Path) -> None:
    write_series(tmp_path, lopsided)
    normal, column, row = read_ct(tmp_path).grid.affine[:3, :3].T
    assert normal @ np.cross(row, column) > 0
    assert normal[2] > 0


@pytest.mark.parametrize("turn", [(0, 0, 0), (180, 0, 0), (0, 180, 0), (0, 0, 180), (90, 0, 0), (0, 90, 10)])
def test_any_patient_position_and_plane(lopsided: Volume, tmp_path: Path, turn: tuple[int, ...]) -> None:
    """Prone, feet first, coronal and sagittal stacks: the first axis is the one nearest to superior."""
    affine = lopsided.grid.affine.copy()
    affine[:3] = rotation(*turn) @ affine[:3]
    turned = Volume(lopsided.voxels, Grid(lopsided.grid.shape, affine))
    write_series(tmp_path, turned)
    ct = read_ct(tmp_path)
    assert_same_voxels(ct, turned)
    assert np.abs(ct.grid.affine[2, 0] / ct.grid.spacing_mm[0]) > 0.8


def test_files_are_known_by_content(lopsided: Volume, tmp_path: Path) -> None:
    datasets = slices(lopsided)
    save(datasets[:3], tmp_path / "A" / "deep", name="I{}")
    save(datasets[3:], tmp_path / "B", name="1.2.840.{}")
    (tmp_path / "LICENSE").write_text("Creative Commons\n")
    (tmp_path / "notes.csv").write_text("a,b\n")
    (tmp_path / ".DS_Store").write_bytes(b"\0\1\2")
    (tmp_path / "B" / "thumb.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert_same_voxels(read_ct(tmp_path), lopsided)


def test_a_zip_of_a_folder(lopsided: Volume, tmp_path: Path) -> None:
    write_series(tmp_path / "series" / "nested", lopsided, name="I{}")
    archive = shutil.make_archive(str(tmp_path / "study"), "zip", tmp_path / "series")
    assert_same_voxels(read_ct(archive), lopsided)
    assert list_series(archive)[0].files[0] == Path("nested/I1")


def test_other_objects_beside_the_ct_are_normal(lopsided: Volume, tmp_path: Path) -> None:
    write_series(tmp_path / "ct", lopsided)
    save([rtstruct({})], tmp_path / "rt")
    scout = slices(lopsided, description="scout")[:1]
    scout[0].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    save(scout, tmp_path / "scout")
    assert_same_voxels(read_ct(tmp_path), lopsided)
    found = {(series.modality, series.images, series.localizer) for series in list_series(tmp_path)}
    assert found == {("CT", 7, False), ("RTSTRUCT", 1, False), ("CT", 1, True)}


def test_a_localizer_within_the_series_is_set_aside_with_a_warning(
    lopsided: Volume, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    datasets = slices(lopsided)
    scout = slices(lopsided)[0]
    scout.SeriesInstanceUID, scout.ImageType = datasets[0].SeriesInstanceUID, ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    save([scout, *datasets], tmp_path)
    assert_same_voxels(read_ct(tmp_path), lopsided)
    assert "set aside 1 of 8 images of the series, no slices: IM0001.dcm (localizer)" in caplog.text


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEGLosslessSV1], ids=lambda uid: uid.name[:24])
def test_compressed_files(lopsided: Volume, tmp_path: Path, syntax: str) -> None:
    write_series(tmp_path, lopsided, edit=compressed(syntax))
    assert_same_voxels(read_ct(tmp_path), lopsided)


@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (1, -8192), (2, -1024), (0.25, -1024), (0.5, 0.25)])
def test_the_rescale_line_gives_hu(lopsided: Volume, tmp_path: Path, slope: float, intercept: float) -> None:
    save(slices(lopsided, slope=slope, intercept=intercept), tmp_path)
    stored = np.rint((lopsided.voxels - intercept) / slope)
    expected = np.clip(np.rint(stored * slope + intercept), -1024, 32767)
    assert_same_voxels(read_ct(tmp_path), Volume(expected, lopsided.grid))


def test_padding_becomes_air(lopsided: Volume, tmp_path: Path) -> None:
    voxels = lopsided.voxels.copy()
    voxels[:, :2] = -3024
    save(slices(Volume(voxels, lopsided.grid), intercept=0), tmp_path)
    assert_same_voxels(read_ct(tmp_path), Volume(np.maximum(voxels, -1024), lopsided.grid))


def test_unused_high_bits_are_ignored(lopsided: Volume, tmp_path: Path) -> None:
    """Twelve bits stored, and the overlay of an old scanner in the four above."""

    def overlay(dataset: Dataset, number: int) -> None:
        stored = np.frombuffer(dataset.PixelData, "<u2")
        dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = 0, 12, 11
        dataset.PixelData = (stored | 0x3000).tobytes()

    write_series(tmp_path, lopsided, edit=overlay)
    assert_same_voxels(read_ct(tmp_path), lopsided)


def test_headers_of_old_radiotherapy_software(lopsided: Volume, tmp_path: Path) -> None:
    """No meta header, no dates, no numbers, empty values: what CERR and its like write."""
    datasets = slices(lopsided)
    for number, dataset in enumerate(datasets):
        for name in ("StudyTime", "SeriesDescription", "InstanceNumber", "AcquisitionNumber", "RescaleType", "KVP"):
            del dataset[name]
        dataset.SliceThickness = None
        dataset.file_meta = FileMetaDataset()
        dataset.save_as(tmp_path / f"{number}.img", implicit_vr=True)
    assert_same_voxels(read_ct(tmp_path), lopsided)


def test_noise_in_positions_and_directions_is_rounding(lopsided: Volume, tmp_path: Path) -> None:
    random = np.random.default_rng(5)

    def edit(dataset: Dataset, number: int) -> None:
        dataset.ImagePositionPatient = decimals(np.round(np.array(dataset.ImagePositionPatient, float), 1))
        dataset.ImageOrientationPatient = decimals(
            np.array(dataset.ImageOrientationPatient, float) + random.normal(0, 1e-4, 6)
        )

    write_series(tmp_path, lopsided, edit=edit)
    assert_same_voxels(read_ct(tmp_path), lopsided, tolerance_mm=0.15)


def test_an_enhanced_object_with_all_slices_as_frames(lopsided: Volume, tmp_path: Path) -> None:
    from highdicom.legacy import LegacyConvertedEnhancedCTImage

    enhanced = LegacyConvertedEnhancedCTImage(slices(lopsided, slope=2), generate_uid(), 2, generate_uid(), 1)
    path = tmp_path / "enhanced"
    enhanced.save_as(path)
    expected = Volume(np.rint((lopsided.voxels + 1024) / 2) * 2 - 1024, lopsided.grid)
    assert_same_voxels(read_ct(path), expected)
    assert_same_voxels(read_ct(tmp_path), expected)
    assert list_series(path)[0].images == 7


def test_several_series_are_listed_and_never_guessed(lopsided: Volume, tmp_path: Path) -> None:
    lung, soft = slices(lopsided, description="lung B60f"), slices(lopsided, description="soft B30f")[:6]
    for number, dataset in enumerate(lung):
        dataset.PixelData = (np.frombuffer(dataset.PixelData, "<i2") // 2).tobytes()
        dataset.InstanceNumber = number
    save(lung, tmp_path, name="a{}.dcm")
    save(soft, tmp_path, name="b{}.dcm")
    with pytest.raises(errors.SeveralSeries) as refusal:
        read_ct(tmp_path)
    for part in ("2 CT series", "--series", lung[0].SeriesInstanceUID, soft[0].SeriesInstanceUID, "lung B60f", "7 im"):
        assert part in str(refusal.value)
    chosen = read_ct(tmp_path, series=soft[0].SeriesInstanceUID)
    assert_same_voxels(chosen, lopsided.crop((0, 0, 0), (6, 11, 13)))
    with pytest.raises(errors.SeriesNotFound, match=r"no series 1\.2\.3 .* found .*soft B30f"):
        read_ct(tmp_path, series="1.2.3")


def shift(number: int, millimeters: float, axis: int) -> Edit:
    """Moves one slice along one axis of the patient."""

    def edit(dataset: Dataset, found: int) -> None:
        if found == number:
            position = np.array(dataset.ImagePositionPatient, float)
            position[axis] += millimeters
            dataset.ImagePositionPatient = decimals(position)

    return edit


def only(number: int, **attributes: object) -> Edit:
    """Sets attributes of one slice."""

    def edit(dataset: Dataset, found: int) -> None:
        if found == number:
            for name, value in attributes.items():
                setattr(dataset, name, value)

    return edit


def every(**attributes: object) -> Edit:
    """Sets (or with None deletes) attributes of every slice."""

    def edit(dataset: Dataset, _: int) -> None:
        for name, value in attributes.items():
            if value is None:
                del dataset[name]
            else:
                setattr(dataset, name, value)

    return edit


def axial(volume: Volume) -> Volume:
    """The same voxels on an axial grid, where messages are easy to check by hand."""
    return Volume(volume.voxels, Grid.axial(volume.grid.shape, (2.5, 0.7, 0.8), origin_mm=(-10, 20, -100)))


REFUSALS = {
    "gantry tilt in positions": (sheared, errors.GantryTilt, "sheared by 12.0 degrees"),
    "frames of reference": (
        only(4, FrameOfReferenceUID="1.2.3.4"),
        errors.MixedSeries,
        "one frame of reference, found .* 1.2.3.4 in IM0005.dcm",
    ),
    "sizes": (only(2, Rows=13, Columns=11), errors.MixedSeries, "one size, found 11x13 .* 13x11 in IM0003.dcm"),
    "pixel spacings": (only(2, PixelSpacing=[0.9, 0.8]), errors.MixedSeries, "one pixel spacing, found"),
    "orientations": (
        only(2, ImageOrientationPatient=[1, 0, 0, 0, 0, -1]),
        errors.MixedSeries,
        "one orientation, found .* in IM0003.dcm",
    ),
    "uneven": (shift(3, 0.5, 2), errors.UnevenSpacing, "found 2 to 3 mm, the widest between z = -95 mm"),
    "sideways": (shift(3, 4, 0), errors.MixedSeries, "shifted sideways by 4 mm, .* IM0003.dcm and IM0004.dcm"),
    "MR": (every(SOPClassUID=MRImageStorage, Modality="MR"), errors.NotCT, r"found MR \(MR Image Storage\)"),
    "modality alone": (every(Modality="MR"), errors.NotCT, "found MR"),
    "localizer": (every(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), errors.Localizer, "only a localizer"),
    "no position": (every(ImagePositionPatient=None), errors.IncompleteHeader, "ImagePositionPatient, found none"),
    "bad directions": (
        every(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]),
        errors.IncompleteHeader,
        "no pair of perpendicular",
    ),
    "spacing in meters": (every(PixelSpacing=[0.0007, 0.0008]), errors.ImpossibleSpacing, "0.05 to 25 mm"),
    "color": (every(SamplesPerPixel=3), errors.NotCT, "3 values per pixel"),
    "no rescale": (every(RescaleIntercept=None), errors.NotHounsfield, "rescale intercept"),
}


@pytest.mark.parametrize("fault", REFUSALS)
@pytest.mark.parametrize("lopsided", ["upward"], indirect=True)
def test_bad_series_are_refused_by_name(lopsided: Volume, tmp_path: Path, fault: str) -> None:
    edit, error, message = REFUSALS[fault]
    volume = axial(lopsided)
    write_series(tmp_path, volume, edit=edit(volume, 12) if edit is sheared else edit)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(error, match=message) as refusal:
        read_ct(tmp_path)
    assert "\n" not in str(refusal.value)
    assert sorted(tmp_path.iterdir()) == before


def test_missing_slices_are_named(lopsided: Volume, tmp_path: Path) -> None:
    paths = write_series(tmp_path, axial(lopsided))
    paths[3].unlink()
    expected = (
        r"1 missing slice between z = -95 mm \(IM0003.dcm\) and z = -90 mm \(IM0005.dcm\): expected one every 2.5 mm"
    )
    with pytest.raises(errors.MissingSlice, match=expected):
        read_ct(tmp_path)
    paths[2].unlink()
    with pytest.raises(errors.MissingSlice, match=r"2 missing slices between z = -97.5 mm"):
        read_ct(tmp_path)


def test_a_single_slice_is_no_volume(lopsided: Volume, tmp_path: Path) -> None:
    path = write_series(tmp_path, lopsided)[0]
    with pytest.raises(errors.MissingSlice, match=r"single slice .*give the folder"):
        read_ct(path)


def test_duplicated_slices_are_named(lopsided: Volume, tmp_path: Path) -> None:
    paths = write_series(tmp_path, axial(lopsided))
    shutil.copy(paths[2], tmp_path / "copy.dcm")
    with pytest.raises(errors.DuplicateSlice, match=r"1 dup.*IM0003.dcm.*copy.dcm|copy.*both lie at z = -95 mm") as one:
        read_ct(tmp_path)
    assert "remove the copies" in str(one.value)


def test_two_acquisitions_in_one_series(lopsided: Volume, tmp_path: Path) -> None:
    first, second = slices(axial(lopsided)), slices(axial(lopsided))
    for dataset in second:
        dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = (
            first[0].SeriesInstanceUID,
            first[0].FrameOfReferenceUID,
        )
    save([*first, *second], tmp_path)
    with pytest.raises(errors.DuplicateSlice, match=r"7 duplicated slices: .* mixes acquisitions"):
        read_ct(tmp_path)


@pytest.mark.parametrize("part", [0.02, 0.1, 0.3, 0.6, 0.9, 0.999])
@pytest.mark.parametrize("name", ["IM{:04d}.dcm", "I{}"])
def test_a_truncated_file_is_named(lopsided: Volume, tmp_path: Path, part: float, name: str) -> None:
    path = write_series(tmp_path, lopsided, name=name)[4]
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(errors.UnreadableFile, match=f"{re.escape(path.name)}.*truncated"):
        read_ct(tmp_path)


def test_a_truncated_compressed_file_is_named(lopsided: Volume, tmp_path: Path) -> None:
    path = write_series(tmp_path, lopsided, edit=compressed(JPEGLSLossless))[4]
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(errors.UnreadableFile, match=path.name):
        read_ct(tmp_path)


def test_a_stranger_among_the_slices_is_never_skipped(lopsided: Volume, tmp_path: Path) -> None:
    write_series(tmp_path, lopsided)
    (tmp_path / "IM0008").write_bytes(bytes(range(256)) * 4)
    with pytest.raises(errors.UnreadableFile, match=r"IM0008 .* is not DICOM"):
        read_ct(tmp_path)


def test_folders_without_dicom(tmp_path: Path) -> None:
    with pytest.raises(errors.NoDicom, match=r"expected DICOM files in .*, found none"):
        read_ct(tmp_path)
    (tmp_path / "ct.nii.gz").write_bytes(b"")
    with pytest.raises(errors.NoDicom, match=r"ct\.nii\.gz\): give one of them"):
        read_ct(tmp_path)
    with pytest.raises(errors.MissingPath, match="nowhere"):
        read_ct(tmp_path / "nowhere")
    with pytest.raises(errors.MissingPath, match="nowhere"):
        list_series(tmp_path / "nowhere")


def test_files_that_are_no_image(tmp_path: Path) -> None:
    path = tmp_path / "letter.docx"
    path.write_bytes(b"not an image")
    with pytest.raises(errors.UnknownFormat, match="neither DICOM"):
        read_ct(path)


def test_a_truncated_zip(lopsided: Volume, tmp_path: Path) -> None:
    write_series(tmp_path / "series", lopsided)
    archive = Path(shutil.make_archive(str(tmp_path / "study"), "zip", tmp_path / "series"))
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"study\.zip"):
        read_ct(archive)


def test_a_damaged_member_of_a_zip(lopsided: Volume, tmp_path: Path) -> None:
    write_series(tmp_path / "series", lopsided)
    with zipfile.ZipFile(tmp_path / "study.zip", "w", zipfile.ZIP_STORED) as archive:
        archive.write(tmp_path / "series" / "IM0001.dcm", "IM0001.dcm")
    damaged = bytearray((tmp_path / "study.zip").read_bytes())
    damaged[600] ^= 0xFF
    (tmp_path / "study.zip").write_bytes(damaged)
    with pytest.raises(errors.UnreadableFile, match=r"study\.zip is truncated or damaged: it cannot be unpacked"):
        read_ct(tmp_path / "study.zip")


def test_implicit_little_endian(lopsided: Volume, tmp_path: Path) -> None:
    def edit(dataset: Dataset, _: int) -> None:
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian

    write_series(tmp_path, lopsided, edit=edit)
    assert_same_voxels(read_ct(tmp_path), lopsided)
    assert list_series(tmp_path)[0].kind == CTImageStorage.name


def test_the_seed_papers_patient(shared_data: Path) -> None:
    folder = shared_data / "nsclc-radiomics" / "NSCLC-Radiomics" / "LUNG1-001"
    ct = read_ct(folder)
    assert ct.voxels.shape == (134, 512, 512)
    np.testing.assert_allclose(ct.grid.spacing_mm, (3, 0.9765625, 0.9765625))
    np.testing.assert_allclose(ct.grid.to_lps((0, 0, 0)), (-249.51171875, -460.51171875, -681.5))
    assert [series.modality for series in list_series(folder)] == ["CT", "RTSTRUCT"]
    index = tuple(np.rint(ct.grid.to_index((82.5, -199.8, -459.5))).astype(int))
    assert -200 < ct.voxels[index] < 200  # the point in the tumor that the data's README names

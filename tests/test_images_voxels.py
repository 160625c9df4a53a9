"""NIfTI, NRRD and MetaImage: in, out, and refused by name."""

from __future__ import annotations

import gzip
import logging
import re
import resource
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from same_voxels import assert_same_voxels

from clmsda.errors import InputError
from clmsda.files import OutputError
from clmsda.geometry import Grid, GridError, Volume
from clmsda.images import check_ct, errors, read_ct, read_mask, write_image, write_mask

SUFFIXES = [".nii", ".nii.gz", ".nrrd", ".mha"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_lopsided_ct_survives_the_round_trip(lopsided: Volume, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"ct{suffix}"
    write_image(lopsided, path)
    ct = read_ct(path)
    assert ct.voxels.dtype == np.int16
    assert ct.source == path.name
    np.testing.assert_array_equal(ct.voxels, lopsided.voxels)
    assert ct.grid.same_as(lopsided.grid, tolerance_mm=1e-3)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_lopsided_labels_survive_the_round_trip(labels: Volume, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mask{suffix}"
    write_mask(labels, path)
    mask = read_mask(path, grid=labels.grid)
    assert mask.voxels.dtype == np.uint8
    assert mask.grid == labels.grid
    np.testing.assert_array_equal(mask.voxels, labels.voxels)
    assert read_mask(path).grid.same_as(labels.grid, tolerance_mm=1e-3)


def test_the_axes_mean_what_itk_says(lopsided: Volume, tmp_path: Path) -> None:
    write_image(lopsided, tmp_path / "ct.nii.gz")
    image = sitk.ReadImage(str(tmp_path / "ct.nii.gz"))
    for index in [(0, 0, 0), (6, 10, 12), (2, 7, 3)]:
        np.testing.assert_allclose(
            image.TransformIndexToPhysicalPoint([int(n) for n in index[::-1]]), lopsided.grid.to_lps(index), atol=1e-3
        )
        assert image[tuple(int(n) for n in index[::-1])] == lopsided.voxels[index]


def test_bool_and_large_labels(labels: Volume, tmp_path: Path) -> None:
    write_mask(Volume(labels.voxels > 0, labels.grid), tmp_path / "bool.nii.gz")
    np.testing.assert_array_equal(read_mask(tmp_path / "bool.nii.gz").voxels, (labels.voxels > 0).astype(np.uint8))
    write_mask(Volume(labels.voxels.astype(np.int64) * 300, labels.grid), tmp_path / "large.nrrd")
    large = read_mask(tmp_path / "large.nrrd")
    assert large.voxels.dtype == np.uint16
    np.testing.assert_array_equal(large.voxels, labels.voxels.astype(np.uint16) * 300)


def test_probabilities_keep_their_fractions(lopsided: Volume, tmp_path: Path) -> None:
    probabilities = Volume(np.random.default_rng(1).random(lopsided.grid.shape, np.float32), lopsided.grid)
    write_image(probabilities, tmp_path / "p.nii.gz")
    stored = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "p.nii.gz")))
    np.testing.assert_array_equal(stored, probabilities.voxels)
    with pytest.raises(errors.NotLabels, match=r"p\.nii\.gz holds fractions"):
        read_mask(tmp_path / "p.nii.gz")


def test_fractions_of_hu_are_rounded_and_padding_becomes_air(lopsided: Volume, tmp_path: Path) -> None:
    voxels = lopsided.voxels + np.float32(0.4)
    voxels[0] = -3024
    voxels[1, 0, 0] = 40_000
    write_image(Volume(voxels, lopsided.grid), tmp_path / "ct.nii.gz")
    expected = lopsided.voxels.copy()
    expected[0] = -1024
    expected[1, 0, 0] = 32767
    np.testing.assert_array_equal(read_ct(tmp_path / "ct.nii.gz").voxels, expected)


@pytest.mark.parametrize("axes", [(0, 2, 1), (1, 0, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)])
def test_masks_with_turned_axes_are_laid_on_the_grid(labels: Volume, tmp_path: Path, axes: tuple[int, ...]) -> None:
    affine = labels.grid.affine.copy()
    affine[:3, 3] = labels.grid.to_lps((0, 10, 0))
    affine[:3, 1] *= -1
    affine[:3, :3] = affine[:3, axes]
    voxels = labels.voxels[:, ::-1].transpose(axes)
    write_mask(Volume(voxels, Grid(voxels.shape, affine)), tmp_path / "turned.nrrd")
    np.testing.assert_array_equal(read_mask(tmp_path / "turned.nrrd", grid=labels.grid).voxels, labels.voxels)


def test_a_coronal_file_is_read_as_axial_slices(lopsided: Volume, tmp_path: Path) -> None:
    affine = lopsided.grid.affine[:, [1, 0, 2, 3]]
    coronal = Volume(lopsided.voxels.transpose(1, 0, 2), Grid((11, 7, 13), affine))
    write_image(coronal, tmp_path / "coronal.nii.gz")
    ct = read_ct(tmp_path / "coronal.nii.gz")
    assert ct.voxels.shape == (7, 11, 13)
    assert_same_voxels(ct, lopsided)


def moved(grid: Grid, change: np.ndarray) -> Grid:
    return Grid(grid.shape, grid.affine + change)


@pytest.mark.parametrize(
    ("grid", "difference"),
    [
        (lambda g: moved(g, np.eye(4, k=3) * 0.4), "first voxel 0.4 mm away"),
        (lambda g: g.crop((0, 0, 0), (7, 11, 12)), "shape 7x11x12 instead of 7x11x13"),
        (lambda g: Grid(g.shape, g.affine @ np.diag([1, 1.1, 1.1, 1])), "spacing 2.5 x 0.77 x 0.88 instead of"),
        (lambda g: Grid.axial(g.shape, g.spacing_mm, center_mm=g.center_mm), "axes turned by up to"),
    ],
)
def test_masks_on_another_grid_are_refused(labels: Volume, tmp_path: Path, grid: object, difference: str) -> None:
    other = grid(labels.grid)  # type: ignore[operator]
    write_mask(Volume(np.ones(other.shape, np.uint8), other), tmp_path / "other.nii.gz")
    with pytest.raises(errors.GridMismatch, match=difference):
        read_mask(tmp_path / "other.nii.gz", grid=labels.grid)


def test_masks_of_other_values_are_refused(lopsided: Volume, tmp_path: Path) -> None:
    write_image(lopsided, tmp_path / "ct.nii.gz")
    with pytest.raises(errors.NotLabels, match=r"values -10\d\d to 1\d\d\d: expected labels .*is it the CT"):
        read_mask(tmp_path / "ct.nii.gz")
    with pytest.raises(errors.NotLabels):
        write_mask(lopsided, tmp_path / "mask.nii.gz")
    with pytest.raises(errors.RoiNotFound, match="without names"):
        read_mask(tmp_path / "ct.nii.gz", roi="GTV-1")
    with pytest.raises(errors.SeriesNotFound, match="without series"):
        read_ct(tmp_path / "ct.nii.gz", series="1.2")
    assert [path.name for path in tmp_path.iterdir()] == ["ct.nii.gz"]


def save(image: sitk.Image, path: Path) -> Path:
    sitk.WriteImage(image, str(path))
    return path


def picture(voxels: np.ndarray) -> sitk.Image:
    return sitk.GetImageFromArray(voxels)


CT = np.random.default_rng(0).integers(-1000, 400, (6, 7, 8)).astype(np.float32)

REFUSALS = {
    "2-D": (lambda: picture(CT[0]), errors.NotVolume, "of shape 7x8, a single slice"),
    "one slice": (lambda: picture(CT[:1]), errors.NotVolume, "of shape 1x7x8|of shape 7x8"),
    "4-D": (
        lambda: sitk.JoinSeries([picture(CT), picture(CT)]),
        errors.NotVolume,
        "4 dimensions, 2x6x7x8: give one time point",
    ),
    "constant": (
        lambda: picture(np.full((6, 7, 8), -1000.0)),
        errors.NotHounsfield,
        "all voxels have one value, -1000",
    ),
    "NaN": (lambda: picture(np.where(CT > 390, np.nan, CT)), errors.NotHounsfield, r"\d+ voxels are not a number"),
    "infinite": (lambda: picture(np.where(CT > 390, np.inf, CT)), errors.NotHounsfield, "infinite"),
    "0..255": (lambda: picture((CT + 1000) / 1400 * 255), errors.NotHounsfield, "a picture rescaled to 0..255"),
    "uint8": (lambda: picture(((CT + 1000) / 6).astype(np.uint8)), errors.NotHounsfield, "rescaled to 0..255"),
    "0..1": (lambda: picture((CT + 1000) / 1400), errors.NotHounsfield, "a picture rescaled to 0..1"),
    "no intercept": (lambda: picture(CT + 1024), errors.NotHounsfield, "no air or lung .* rescale intercept"),
    "air alone": (lambda: picture(np.minimum(CT, -600)), errors.NotHounsfield, "no soft tissue"),
    "colors": (lambda: sitk.Compose([picture(CT)] * 3), errors.NotVolume, "3 numbers per voxel"),
    "complex": (
        lambda: sitk.RealAndImaginaryToComplex(picture(CT), picture(CT)),
        errors.NotVolume,
        "2 numbers per voxel|complex",
    ),
}


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("fault", REFUSALS)
def test_bad_images_are_refused_by_name(tmp_path: Path, fault: str, suffix: str) -> None:
    make, error, message = REFUSALS[fault]
    try:
        path = save(make(), tmp_path / f"bad{suffix}")
    except RuntimeError:
        pytest.skip(f"{suffix} cannot hold it")
    with pytest.raises(error, match=message) as refusal:
        read_ct(path)
    assert "\n" not in str(refusal.value)
    assert path.name in str(refusal.value)
    assert list(tmp_path.iterdir()) == [path]


def test_a_fourth_axis_of_length_one_is_no_fault(lopsided: Volume, tmp_path: Path) -> None:
    path = save(sitk.JoinSeries([picture(CT)]), tmp_path / "ct.nrrd")
    np.testing.assert_array_equal(read_ct(path).voxels, np.rint(CT))


@pytest.mark.parametrize("spacing", [0.0007, 70])
def test_impossible_spacing_is_refused(tmp_path: Path, spacing: float) -> None:
    image = picture(CT)
    image.SetSpacing((spacing, spacing, 2))
    path = save(image, tmp_path / "ct.nii.gz")
    with pytest.raises(errors.ImpossibleSpacing, match=f"{spacing:g} mm .* expected 0.05 to 25 mm"):
        read_ct(path)


def test_zero_and_negative_spacing_in_a_nifti_header_is_refused(tmp_path: Path) -> None:
    path = save(picture(CT), tmp_path / "ct.nii")
    header = bytearray(path.read_bytes())
    for value in (0.0, -1.0, np.nan):
        header[84:88] = np.float32(value).tobytes()  # pixdim[2]
        path.write_bytes(header)
        with pytest.raises(errors.ImpossibleSpacing, match=r"1 x (0|-1|nan) x 1 mm .* correct pixdim"):
            read_ct(path)


def test_a_nifti_without_a_place_is_read_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = save(picture(CT), tmp_path / "ct.nii")
    header = bytearray(path.read_bytes())
    header[252:256] = bytes(4)  # qform_code, sform_code
    path.write_bytes(header)
    with caplog.at_level(logging.WARNING):
        read_ct(path)
    assert "does not say where its voxels lie" in caplog.text


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.99])
def test_truncated_files_are_refused(lopsided: Volume, tmp_path: Path, suffix: str, part: float) -> None:
    path = tmp_path / f"ct{suffix}"
    write_image(lopsided, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(errors.UnreadableFile, match=re.escape(path.name)) as refusal:
        read_ct(path)
    assert "\n" not in str(refusal.value)


def test_a_nifti_that_ends_early_within_a_whole_gzip_is_refused(lopsided: Volume, tmp_path: Path) -> None:
    write_image(lopsided, tmp_path / "ct.nii")
    (tmp_path / "ct.nii.gz").write_bytes(gzip.compress((tmp_path / "ct.nii").read_bytes()[:-100]))
    with pytest.raises(errors.UnreadableFile, match="1902 of 2002 bytes of voxels are there"):
        read_ct(tmp_path / "ct.nii.gz")


def test_a_damaged_gzip_is_refused(lopsided: Volume, tmp_path: Path) -> None:
    path = tmp_path / "ct.nii.gz"
    write_image(lopsided, path)
    damaged = bytearray(path.read_bytes())
    damaged[-6] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(errors.UnreadableFile, match="truncated or damaged"):
        read_ct(path)


def test_a_missing_file_and_unknown_suffixes(lopsided: Volume, tmp_path: Path) -> None:
    with pytest.raises(errors.MissingPath, match=r"nowhere\.nii"):
        read_ct(tmp_path / "nowhere.nii")
    with pytest.raises(errors.MissingPath, match=r"nowhere\.nii"):
        read_mask(tmp_path / "nowhere.nii")
    with pytest.raises(errors.UnknownFormat, match=r"\.nii, \.nii\.gz, \.nrrd, \.mha"):
        write_image(lopsided, tmp_path / "ct.png")
    (tmp_path / "ct.png").write_bytes(b"\x89PNG")
    with pytest.raises(errors.UnknownFormat):
        read_mask(tmp_path / "ct.png")


def test_outputs_that_cannot_be_written(labels: Volume, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        write_mask(labels, tmp_path / "nowhere" / "mask.nii.gz")
    sheared = labels.grid.affine.copy()
    sheared[:3, 0] += 0.3 * labels.grid.affine[:3, 1]
    with pytest.raises(GridError, match="not perpendicular"):
        write_mask(Volume(labels.voxels, Grid(labels.grid.shape, sheared)), tmp_path / "mask.nii.gz")
    assert list(tmp_path.iterdir()) == []


def test_every_refusal_is_an_input_error() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and kind is not InputError]
    assert len(kinds) > 15
    assert all(issubclass(kind, InputError) for kind in kinds)


@pytest.mark.parametrize(
    ("change", "spacing_mm", "plausible"),
    [(0, 1.5, True), (0, 5.0, False), (-1024, 1.5, False), (1024, 1.5, False)],
    ids=["piece", "whole chest", "intercept twice", "no intercept"],
)
def test_a_small_piece_of_lung_needs_no_soft_tissue(change: float, spacing_mm: float, plausible: bool) -> None:
    """Ground glass of -400 HU in lung, 30 mm long: a crop about a nodule."""
    voxels = np.random.default_rng(0).normal(-860, 25, (20, 20, 20)).astype(np.float32)
    voxels[8:12, 8:12, 8:12] = -400
    ct = Volume(voxels + change, Grid.axial((20, 20, 20), (spacing_mm,) * 3))
    if plausible:
        check_ct(ct)
    else:
        with pytest.raises(errors.NotHounsfield):
            check_ct(ct)


def test_real_cts_are_plausible(shared_data: Path) -> None:
    path = shared_data / "lidc-idri" / "LIDC-IDRI-0001"
    ct = read_ct(path / "ct.nii.gz")
    check_ct(ct)
    nodule = read_mask(path / "nodule.nii.gz", grid=ct.grid)
    assert nodule.voxels.sum() * ct.grid.voxel_ml == pytest.approx(6.7, abs=0.1)
    assert set(np.flatnonzero(nodule.voxels.any(axis=(1, 2)))) == set(range(36, 44))
    inside = np.rint(ct.grid.to_index((55.5, 85.6, -117.5))).astype(int)
    assert nodule.voxels[tuple(inside)] == 1
    with pytest.raises(errors.NotHounsfield):
        check_ct(nodule)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_the_disk_has_no_room_for_does_not_replace_another(
    lopsided: Volume, tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """ITK cuts a NIfTI file off and says nothing of it to its caller."""
    path = tmp_path / f"ct{suffix}"
    path.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OutputError, match=rf"cannot write .*/ct{suffix}: not all of it was written.*; make room"):
            write_image(lopsided, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    assert capfd.readouterr().err == ""

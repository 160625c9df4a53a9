"""NRRD and MetaImage: what a header leaves open is said, what it bends is refused, 3D Slicer's crops are placed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from clmsda.errors import heard
from clmsda.geometry import Grid, Volume
from clmsda.images import errors, read_mask, write_image, write_mask
from clmsda.images.voxel_files import read_voxels

VOXELS = np.random.default_rng(0).integers(-1000, 400, (5, 6, 7)).astype("<i2")
STRAIGHT = "(0.7,0,0) (0,0.7,0) (0,0,2)"


def nrrd(
    path: Path, *lines: str, directions: str = STRAIGHT, sizes: str = "7 6 5", voxels: np.ndarray = VOXELS
) -> Path:
    header = ["NRRD0004", "type: int16", "dimension: 3", f"sizes: {sizes}", "encoding: raw", "endian: little", *lines]
    if directions:
        header += [f"space directions: {directions}", "space origin: (10,20,30)"]
    path.write_bytes("\n".join([*header, "", ""]).encode() + VOXELS.tobytes())
    return path


@pytest.mark.parametrize("line", [(), ("# space: is not given",)])
def test_an_nrrd_without_a_space_is_read_and_said(tmp_path: Path, line: tuple[str, ...]) -> None:
    path = nrrd(tmp_path / "ct.nrrd", *line, "spacings: 0.7 0.7 2", directions="")
    with heard() as said:
        volume = read_voxels(path)
    np.testing.assert_array_equal(volume.voxels, VOXELS)
    assert said == [f"{path} does not say where its voxels lie (no space): sides are assumed (LPS)"]


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior", (1, 1, 1)),
        ("LPS", (1, 1, 1)),
        ("right-anterior-superior", (-1, -1, 1)),
        ("RAS", (-1, -1, 1)),
        ("Left-Anterior-Superior", (1, -1, 1)),
        ("LAS", (1, -1, 1)),
    ],
)
def test_spaces_that_name_the_sides_are_read_silently(tmp_path: Path, space: str, signs: tuple[int, ...]) -> None:
    with heard() as said:
        grid = read_voxels(nrrd(tmp_path / "ct.nrrd", f"space: {space}")).grid
    assert said == []
    np.testing.assert_allclose(grid.to_lps((0, 0, 0)), np.multiply(signs, (10, 20, 30)), atol=1e-9)
    np.testing.assert_allclose(grid.to_lps((1, 1, 1)), np.multiply(signs, (10.7, 20.7, 32)), atol=1e-9)


@pytest.mark.parametrize("space", ["scanner-xyz", "3D-right-handed", "nowhere"])
def test_spaces_without_sides_are_refused(tmp_path: Path, space: str) -> None:
    with pytest.raises(errors.UnreadableFile, match=rf"space '{space}', .* expected left-posterior-superior"):
        read_voxels(nrrd(tmp_path / "ct.nrrd", f"space: {space}"))


@pytest.mark.parametrize("degrees", [8, 30])
@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_sheared_grids_are_refused_as_the_tilted_series_is(tmp_path: Path, degrees: float, suffix: str) -> None:
    tilt = 2 * np.tan(np.radians(degrees))
    path = tmp_path / f"ct{suffix}"
    if suffix == ".nrrd":
        nrrd(path, "space: LPS", directions=f"(0.7,0,0) (0,0.7,0) (0,{tilt},2)")
    else:
        matrix = f"1 0 0 0 1 0 0 {tilt / np.hypot(tilt, 2)} {2 / np.hypot(tilt, 2)}"
        header = f"""ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
TransformMatrix = {matrix}
Offset = 0 0 0
ElementSpacing = 0.7 0.7 {np.hypot(tilt, 2)}
DimSize = 7 6 5
ElementType = MET_SHORT
ElementDataFile = LOCAL
"""
        path.write_bytes(header.encode() + VOXELS.tobytes())
    with pytest.raises(errors.GantryTilt, match=rf"ct{suffix}: its axes are sheared by {degrees}\.0 degrees"):
        read_voxels(path)


@pytest.mark.parametrize(
    ("sizes", "error"),
    [("7 6 1000000000", errors.TooLarge), ("65535 65535 2", errors.TooLarge), ("500 500 500", errors.UnreadableFile)],
)
def test_sizes_that_the_file_does_not_hold_are_refused(tmp_path: Path, sizes: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"ct\.nrrd") as refusal:
        read_voxels(nrrd(tmp_path / "ct.nrrd", "space: LPS", sizes=sizes))
    assert "\n" not in str(refusal.value)


def test_itk_says_nothing_in_its_own_words(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """MetaIO writes to standard error itself, several times for one fault."""
    write_image(Volume(VOXELS, Grid.axial(VOXELS.shape, (2, 0.7, 0.7))), tmp_path / "ct.mha")
    header, _, _ = (tmp_path / "ct.mha").read_bytes().partition(b"LOCAL\n")
    for old, new in {b"DimSize = 7 6 5": b"DimSize = 7 6 50", b"NDims = 3": b"NDims = 30", b"LOCAL": b"gone"}.items():
        (tmp_path / "bad.mha").write_bytes((header + b"LOCAL\n").replace(old, new) + b"too few")
        with pytest.raises(errors.UnreadableFile, match=r"bad\.mha") as refusal:
            read_voxels(tmp_path / "bad.mha")
        assert "\n" not in str(refusal.value)
    os.write(2, b"still heard")
    assert capfd.readouterr() == ("", "still heard")


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
@pytest.mark.parametrize("flipped", [False, True])
def test_slicers_crops_are_placed(labels: Volume, tmp_path: Path, axes: tuple[int, int, int], flipped: bool) -> None:
    lower = np.array([2, 3, 1])
    crop = labels.crop(lower, np.array(labels.grid.shape) - 1)
    affine, voxels = crop.grid.affine.copy(), crop.voxels
    if flipped:
        affine[:3, 3] = crop.grid.to_lps((0, crop.grid.shape[1] - 1, 0))
        affine[:3, 1] *= -1
        voxels = voxels[:, ::-1]
    affine[:3, :3] = affine[:3, axes]
    turned = Volume(voxels.transpose(axes), Grid(voxels.transpose(axes).shape, affine))
    write_mask(turned, tmp_path / "Segmentation.seg.nrrd")
    placed = read_mask(tmp_path / "Segmentation.seg.nrrd", grid=labels.grid)
    expected = np.zeros_like(labels.voxels)
    inside = tuple(slice(a, b - 1) for a, b in zip(lower, labels.grid.shape, strict=True))
    expected[inside] = labels.voxels[inside]
    assert placed.grid == labels.grid
    np.testing.assert_array_equal(placed.voxels, expected)


@pytest.mark.parametrize("shift", [(0.5, 0, 0), (0, 0.3, 0), (-3, 0, 0), (0, 0, 9)])
def test_crops_between_the_voxels_or_beyond_the_image_are_refused(
    labels: Volume, tmp_path: Path, shift: tuple[float, ...]
) -> None:
    crop = labels.crop((2, 3, 1), np.array(labels.grid.shape) - 1)
    affine = crop.grid.affine.copy()
    affine[:3, 3] = crop.grid.to_lps(shift)
    write_mask(Volume(crop.voxels, Grid(crop.grid.shape, affine)), tmp_path / "a.seg.nrrd")
    with pytest.raises(errors.GridMismatch, match=r"a\.seg\.nrrd lies on another grid"):
        read_mask(tmp_path / "a.seg.nrrd", grid=labels.grid)


def test_other_crops_are_not_guessed_to_be_slicers(labels: Volume, tmp_path: Path) -> None:
    write_mask(labels.crop((2, 3, 1), np.array(labels.grid.shape) - 1), tmp_path / "a.nrrd")
    with pytest.raises(errors.GridMismatch):
        read_mask(tmp_path / "a.nrrd", grid=labels.grid)


def test_what_clmsda_writes_has_a_space(lopsided: Volume, tmp_path: Path) -> None:
    for suffix in (".nrrd", ".mha", ".nii.gz"):
        write_image(lopsided, tmp_path / f"ct{suffix}")
        with heard() as said:
            read_voxels(tmp_path / f"ct{suffix}")
        assert said == []

"""A NIfTI's header is read by one set of rules (docs/input.md): nibabel's, but for units and for what is refused."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from conftest import rotation
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from clmsda.errors import heard
from clmsda.geometry import LPS_FROM_RAS, Volume
from clmsda.images import errors
from clmsda.images.nifti_voxels import read_nifti
from clmsda.images.voxel_files import read_voxels

SHAPE = (5, 4, 3)
KINDS = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512, "u4": 768, "i8": 1024, "u8": 1280}
UNITS = {0: 1.0, 1: 1e3, 2: 1.0, 3: 1e-3}
RAS = np.array([[-0.8, 0, 0, 30.0], [0, -0.7, 0, 40], [0, 0, 2.5, -100], [0, 0, 0, 1]])

Edit = Callable[[Any], object]


def written(path: Path, edit: Edit, *, kind: str = "i2", order: str = "<", version: int = 1) -> Path:
    """A NIfTI whose header fields `edit` sets as it likes, consistent or not; by default all say the same."""
    header = (nib.Nifti1Header if version == 1 else nib.Nifti2Header)(endianness=order, check=False)
    header.set_data_shape(SHAPE)
    header.set_data_dtype(np.dtype(kind))
    header.set_sform(RAS, code=1)
    header.set_qform(RAS, code=1)
    header["xyzt_units"], header["vox_offset"], header["magic"] = 2, 352 if version == 1 else 544, f"n+{version}"
    edit(header)
    voxels = np.random.default_rng(3).integers(0, 100, int(np.prod(SHAPE))).astype(order + kind)
    raw = header.binaryblock + bytes(4) + voxels.tobytes()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def fields(**values: object) -> Edit:
    def edit(header: Any) -> None:
        for name, value in values.items():
            header[name] = value

    return edit


def sform(affine: np.ndarray, code: int = 1) -> Edit:
    return lambda header: header.set_sform(affine, code=code)


def all_of(*edits: Edit) -> Edit:
    return lambda header: [edit(header) for edit in edits]


def tilted(degrees: float) -> np.ndarray:
    affine = RAS.copy()
    affine[1, 2] += 2.5 * np.tan(np.radians(degrees))
    return affine


def assert_as_nibabel_says(volume: Volume, path: Path, unit: float = 1.0) -> None:
    image = nib.load(path)
    expected = LPS_FROM_RAS @ np.diag([unit, unit, unit, 1]) @ image.affine
    np.testing.assert_allclose(volume.grid.affine[:, [2, 1, 0, 3]], expected, rtol=1e-6, atol=1e-5 * unit)
    np.testing.assert_allclose(volume.voxels.T, image.get_fdata(), rtol=1e-6)


spacings = st.tuples(*[st.floats(0.3, 5)] * 3)
affines = st.builds(
    lambda turn, spacing, flip, origin: np.vstack(
        [np.column_stack([rotation(*turn) * spacing * [1, 1, flip], origin]), [0, 0, 0, 1]]
    ),
    st.tuples(*[st.floats(-180, 180)] * 3),
    spacings,
    st.sampled_from([1, -1]),
    st.tuples(*[st.floats(-300, 300)] * 3),
)
numbers = st.one_of(st.just(0.0), st.just(np.nan), st.just(np.inf), st.floats(-4, 4, width=32))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    affine=affines,
    codes=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    moved=st.sampled_from([0.0, 0.0, 1e-4, 0.1, 40.0]),
    pixdim=st.one_of(st.none(), spacings),
    qfac=st.sampled_from([None, 0, 1, -1]),
    slope=numbers,
    intercept=st.floats(-2000, 2000, width=32),
    unit=st.sampled_from([0, 1, 2, 3]),
    kind=st.sampled_from(list(KINDS)),
    order=st.sampled_from("<>"),
    version=st.sampled_from([1, 2]),
    packed=st.booleans(),
    fourth=st.booleans(),
)
def test_any_header_is_read_as_nibabel_reads_it_or_refused_for_a_reason(
    tmp_path: Path, affine: np.ndarray, codes: tuple[int, int], moved: float, pixdim: tuple[float, ...] | None,
    qfac: int | None, slope: float, intercept: float, unit: int, kind: str, order: str, version: int, packed: bool,
    fourth: bool,
) -> None:  # fmt: skip
    def edit(header: Any) -> None:
        if fourth:
            header.set_data_shape((*SHAPE, 1))
        header.set_qform(affine, code=codes[0])
        if pixdim is not None:
            header["pixdim"][1:4] = pixdim
        if qfac is not None:
            header["pixdim"][0] = qfac
        header.set_sform(affine + np.eye(4, k=3) * moved, code=codes[1])
        header["scl_slope"], header["scl_inter"], header["xyzt_units"] = slope, intercept, unit
        header["qform_code"] = codes[0]

    name = "ct.nii.gz" if packed else "ct.nii"
    path = written(tmp_path / name, edit, kind=kind, order=order, version=version)
    header = nib.load(path).header
    try:
        forms = [header.get_sform(), header.get_qform()]
    except ValueError:  # nibabel refuses half a turn where rounding made its quaternion a hair too long
        assume(False)
    corners = np.array([[i, j, k, 1] for i in (0, 4) for j in (0, 3) for k in (0, 2)])
    apart = np.linalg.norm((corners @ (forms[0] - forms[1]).T)[:, :3], axis=1).max()
    half_a_voxel = np.linalg.norm(forms[0][:3, :3], axis=0).min() / 2
    if min(codes) > 0 and apart > half_a_voxel:
        with pytest.raises(errors.Contradiction, match=r"sform .* and qform .* mm apart"):
            read_nifti(path)
        return
    volume = read_nifti(path)
    if fourth:
        volume = Volume(volume.voxels[None].squeeze(0), volume.grid)
        written(path, all_of(edit, lambda h: h.set_data_shape(SHAPE)), kind=kind, order=order, version=version)
    assert_as_nibabel_says(volume, path, UNITS[unit])


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("turn", [(0, 1, 180), (0, 1, 179.99), (90, 0, 180), (180, 0, 0), (0, 180, 1e-5)])
def test_about_half_a_turn_by_qform_is_turned_as_nibabel_turns_it(
    tmp_path: Path, turn: tuple[float, float, float], version: int
) -> None:
    affine = np.eye(4)
    affine[:3, :3] = rotation(*turn) * [0.8, 0.7, 2.5]

    def edit(header: Any) -> None:
        header.set_qform(affine, code=1)
        header["sform_code"] = 0

    path = written(tmp_path / "ct.nii", edit, version=version)
    assert_as_nibabel_says(read_nifti(path), path)


@pytest.mark.parametrize("factor", [1 / 3, 0.97, 1.03, 2, 10])
def test_the_sform_counts_where_pixdim_alone_contradicts_it(tmp_path: Path, factor: float) -> None:
    def edit(header: Any) -> None:
        header["qform_code"] = 0
        header["pixdim"][1:4] *= factor

    path = written(tmp_path / "ct.nii", edit)
    with heard() as said:
        volume = read_voxels(path)
    np.testing.assert_allclose(volume.grid.spacing_mm, (2.5, 0.7, 0.8), rtol=1e-6)
    assert len(said) == 1
    assert "0.8 x 0.7 x 2.5 mm by its sform, which counts" in said[0]


def test_a_pixdim_of_nothing_is_no_fault_where_the_sform_alone_counts(tmp_path: Path) -> None:
    path = written(tmp_path / "ct.nii", all_of(fields(qform_code=0), lambda h: h["pixdim"].__setitem__(2, 0)))
    with heard() as said:
        assert_as_nibabel_says(read_nifti(path), path)
    assert len(said) == 1


@pytest.mark.parametrize("degrees", [0.5, 12, -30])
@pytest.mark.parametrize("q_code", [0, 1])
def test_a_sheared_sform_is_refused_as_the_tilted_series_is(tmp_path: Path, degrees: float, q_code: int) -> None:
    def edit(header: Any) -> None:
        header.set_sform(tilted(degrees), code=2)
        header["qform_code"] = q_code

    if abs(degrees) < 1:  # over three slices that is nothing
        affine = tilted(degrees)
        volume = read_nifti(written(tmp_path / "ct.nii", all_of(edit, fields(qform_code=0))))
        np.testing.assert_allclose(volume.grid.affine[:, 0], (LPS_FROM_RAS @ affine)[:, 2], atol=1e-6)
        affine[:3, 2] *= 20  # over fifty, or thicker ones, it is not
        edit = all_of(edit, sform(affine))
    with pytest.raises(errors.GantryTilt, match=rf"sheared by {abs(degrees):.1f} degrees"):
        read_nifti(written(tmp_path / "ct.nii", edit))


FAULTS = {
    "turned": (all_of(sform(RAS @ np.diag([-1, 1, 1, 1]))), errors.Contradiction, "mm apart: keep the right one"),
    "scaled": (all_of(sform(RAS @ np.diag([1.5, 1, 1, 1]))), errors.Contradiction, "mm apart"),
    "intercept": (fields(scl_slope=1, scl_inter=np.nan), errors.UnreadableFile, "of 1 but a scl_inter of nan"),
    "no rotation": (fields(sform_code=0, quatern_b=3), errors.UnreadableFile, "no rotation and place: 3, "),
    "no place": (fields(sform_code=0, qoffset_x=np.nan), errors.UnreadableFile, "no rotation and place"),
    "no number": (fields(srow_x=[np.inf, 0, 0, 0]), errors.UnreadableFile, "sform that is no number"),
    "flat": (all_of(fields(srow_z=[0, 0, 0, 1], qform_code=0)), errors.UnreadableFile, "places no voxels"),
    "unit": (fields(xyzt_units=5), errors.UnreadableFile, "unknown unit"),
    "two files": (fields(magic="ni1"), errors.UnreadableFile, "no NIfTI file of one piece"),
    "offset": (fields(vox_offset=0), errors.UnreadableFile, "begin at byte 0, within its header"),
    "type": (fields(datatype=1536), errors.UnreadableFile, "datatype 1536"),
    "colors": (fields(datatype=128), errors.NotVolume, "3 numbers per voxel"),
    "complex": (fields(datatype=32), errors.NotVolume, "2 numbers per voxel"),
    "negative": (fields(dim=[3, 5, -4, 3, 1, 1, 1, 1]), errors.UnreadableFile, "sizes that no image has"),
    "no dimensions": (fields(dim=[0, 5, 4, 3, 1, 1, 1, 1]), errors.UnreadableFile, "sizes that no image has"),
    "time": (fields(dim=[4, 5, 4, 3, 7, 1, 1, 1]), errors.NotVolume, "4 dimensions, 7x3x4x5: give one time point"),
    "more than there is": (fields(dim=[3, 500, 400, 300, 1, 1, 1, 1]), errors.UnreadableFile, "bytes of voxels"),
    "far too many": (fields(dim=[3, 30000, 30000, 30000, 1, 1, 1, 1]), errors.TooLarge, "30000x30000x30000 voxels"),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("fault", FAULTS)
def test_bad_headers_are_refused_by_name(tmp_path: Path, fault: str, suffix: str) -> None:
    edit, error, message = FAULTS[fault]
    with pytest.raises(error, match=message) as refusal:
        read_voxels(written(tmp_path / f"bad{suffix}", edit))
    assert "\n" not in str(refusal.value)
    assert f"bad{suffix}" in str(refusal.value)


@pytest.mark.parametrize(("slope", "intercept"), [(0, -1024), (0, np.nan), (np.nan, 5), (np.inf, 5)])
def test_a_slope_of_nothing_means_no_scaling(tmp_path: Path, slope: float, intercept: float) -> None:
    path = written(tmp_path / "ct.nii", fields(scl_slope=slope, scl_inter=intercept))
    stored = read_nifti(written(tmp_path / "plain.nii", fields(scl_slope=1, scl_inter=0)))
    volume = read_nifti(path)
    assert volume.voxels.dtype == np.int16
    np.testing.assert_array_equal(volume.voxels, stored.voxels)


def test_memory_is_not_asked_for_before_the_file_can_hold_it(tmp_path: Path) -> None:
    """A gzip of 300 bytes cannot hold 2 GB, whatever its header says."""
    import tracemalloc

    path = written(tmp_path / "ct.nii.gz", lambda header: header.set_data_shape((1000, 1000, 1000)))
    tracemalloc.start()
    with pytest.raises(errors.UnreadableFile, match="can be there"):
        read_voxels(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 22
    tracemalloc.stop()

"""Measurements against answers known by hand."""

import json
import time

import numpy as np
import pytest
from conftest import rotation
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from clmsda.geometry import Grid, GridError, Volume
from clmsda.measurements import EmptyMask, component_at, measure, size_group


def mask_of(voxels, spacing_mm=(1.0, 1.0, 1.0)) -> Volume:
    voxels = np.asarray(voxels, bool)
    return Volume(voxels, Grid.axial(voxels.shape, spacing_mm, origin_mm=(-12.0, 7.0, -100.0)))


def ellipse(shape, spacing_mm, half_axes_mm, turn_degrees=0.0, offset_mm=(0.0, 0.0)) -> Volume:
    """An ellipse in the middle slice; half axes along x and y before the turn."""
    grid = Grid.axial(shape, spacing_mm, center_mm=(0, 0, 0))
    _, y, x = np.moveaxis(grid.to_lps(np.moveaxis(np.indices(shape), 0, -1)), -1, 0)[::-1]
    x, y = x - offset_mm[0], y - offset_mm[1]
    turn = np.radians(turn_degrees)
    along, across = np.cos(turn) * x + np.sin(turn) * y, -np.sin(turn) * x + np.cos(turn) * y
    inside = (along / half_axes_mm[0]) ** 2 + (across / half_axes_mm[1]) ** 2 <= 1
    inside[: shape[0] // 2] = inside[shape[0] // 2 + 1 :] = False
    return Volume(inside, grid)


@given(
    hnp.arrays(np.float64, 2, elements=st.floats(-0.35, 0.35)),
    st.sampled_from([(2.5, 0.7, 0.7), (1.25, 0.59, 0.59), (3.0, 0.5, 0.5)]),
)
def test_disk_of_20_mm_measures_20_mm(offset_mm, spacing_mm):
    found = measure(ellipse((3, 51, 51), spacing_mm, (10, 10), offset_mm=offset_mm))
    assert 20 <= found.long_axis_mm <= 20 + spacing_mm[1]
    assert found.short_axis_mm == pytest.approx(20, abs=spacing_mm[1])
    assert found.center_mm == pytest.approx((*offset_mm, 0), abs=0.1)


@pytest.mark.parametrize("turn_degrees", [0, 17, 45, 90, 131])
@pytest.mark.parametrize("spacing_mm", [(2.5, 0.7, 0.7), (2.5, 0.4, 1.1)])
def test_ellipse(turn_degrees, spacing_mm):
    found = measure(ellipse((5, 141, 61), spacing_mm, (20, 9), turn_degrees))
    assert found.long_axis_mm == pytest.approx(40, abs=1.2)
    assert found.short_axis_mm == pytest.approx(18, abs=1.5)
    along = np.subtract(*found.long_axis_lps)
    expected = np.array([np.cos(np.radians(turn_degrees)), np.sin(np.radians(turn_degrees)), 0])
    assert abs(along @ expected) / np.linalg.norm(along) > np.cos(np.radians(6))
    assert found.slices == (2, 2)
    assert found.measured_slice == 2


def test_one_voxel_is_as_wide_as_its_spacing():
    voxels = np.zeros((4, 5, 6), bool)
    voxels[2, 3, 1] = True
    found = measure(mask_of(voxels, (3.0, 0.5, 0.8)))
    assert found.volume_ml == pytest.approx(3.0 * 0.5 * 0.8 / 1000)
    assert found.long_axis_mm == pytest.approx(0.8)
    assert found.short_axis_mm == pytest.approx(0.5, abs=1e-4)
    assert found.center_mm == pytest.approx((-12 + 0.8, 7 + 1.5, -100 + 6))
    assert found.long_axis_lps[0][1] == pytest.approx(8.5)


def test_single_row_is_as_long_as_its_voxels():
    voxels = np.zeros((1, 3, 9), bool)
    voxels[0, 1, 1:8] = True
    found = measure(mask_of(voxels, (2.0, 0.6, 0.9)))
    assert found.long_axis_mm == pytest.approx(7 * 0.9)
    assert found.short_axis_mm == pytest.approx(0.6, abs=1e-4)
    assert sorted(end[0] for end in found.long_axis_lps) == pytest.approx([-12 + 0.5 * 0.9, -12 + 7.5 * 0.9])


def test_rectangle():
    """20 x 4 mm: the contour's corners are cut by half a voxel, so the diagonal is sqrt(20^2 + 3^2)."""
    voxels = np.zeros((1, 8, 24), bool)
    voxels[0, 2:6, 2:22] = True
    found = measure(mask_of(voxels))
    assert found.long_axis_mm == pytest.approx(np.hypot(20, 3))
    # A line across the rectangle at a right angle to its diagonal is 4 mm / cos of the diagonal's slope.
    assert found.short_axis_mm == pytest.approx(4 / np.cos(np.arctan2(3, 20)), abs=1e-4)


def test_short_axis_stays_inside_a_concave_mask():
    """A U: its arms are 20 mm long and 2 mm wide, 16 mm apart; across the gap there is no mask."""
    voxels = np.zeros((1, 24, 24), bool)
    voxels[0, 2:22, [2, 3, 20, 21]] = True
    voxels[0, 20:22, 2:22] = True
    found = measure(mask_of(voxels))
    assert found.long_axis_mm == pytest.approx(np.hypot(20, 19))
    low, high = np.array(found.short_axis_lps)
    centers = np.argwhere(voxels)[:, ::-1] + (-12, 7, -100)
    for fraction in np.linspace(0, 1, 50):
        assert np.linalg.norm(centers - (low + fraction * (high - low)), axis=1).min() < 0.9
    assert voxels[0, *np.rint(np.subtract(found.center_mm, (-12, 7, -100)))[[1, 0]].astype(int)]


def test_largest_slice_is_measured_and_not_the_longest():
    voxels = np.zeros((5, 30, 30), bool)
    voxels[1, 5, 2:28] = True
    voxels[3, 10:20, 10:20] = True
    voxels[2, 12, 12] = True
    found = measure(mask_of(voxels))
    assert (found.slices, found.measured_slice) == ((1, 3), 3)
    assert found.long_axis_mm == pytest.approx(np.hypot(10, 9))


def test_of_equal_slices_the_middle_one_is_measured():
    voxels = np.zeros((9, 6, 6), bool)
    voxels[1:8, 1:5, 1:5] = True
    assert measure(mask_of(voxels)).measured_slice == 4


@pytest.mark.parametrize("size_mm, group", [(1, 1), (30, 1), (30.01, 2), (50, 2), (50.01, 3), (140, 3)])
def test_size_groups(size_mm, group):
    assert size_group(size_mm) == group


masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=7)).filter(np.any)
spacings = st.tuples(*[st.sampled_from([0.5, 0.7, 0.977, 2.5])] * 3)


@given(masks, spacings)
def test_axes_are_perpendicular_and_the_long_one_is_longer(voxels, spacing_mm):
    found = measure(mask_of(voxels, spacing_mm))
    assert found.long_axis_mm >= found.short_axis_mm - 1e-9
    long, short = (np.subtract(*axis) for axis in (found.long_axis_lps, found.short_axis_lps))
    assert np.linalg.norm(long) == pytest.approx(found.long_axis_mm)
    assert np.linalg.norm(short) == pytest.approx(found.short_axis_mm)
    assert long @ short == pytest.approx(0, abs=1e-6)


@given(masks, spacings, st.sampled_from([(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)]))
def test_flips_change_nothing(voxels, spacing_mm, axes):
    one, other = (measure(mask_of(v, spacing_mm)) for v in (voxels, np.flip(voxels, axes)))
    assert other.volume_ml == one.volume_ml
    assert other.long_axis_mm == pytest.approx(one.long_axis_mm)
    assert other.short_axis_mm == pytest.approx(one.short_axis_mm, abs=1e-4)


@given(masks, spacings, st.sampled_from([0.5, 2.0, 4.0]))
def test_lengths_scale_with_spacing(voxels, spacing_mm, factor):
    one = measure(mask_of(voxels, spacing_mm))
    other = measure(mask_of(voxels, tuple(factor * s for s in spacing_mm)))
    assert other.volume_ml == pytest.approx(factor**3 * one.volume_ml)
    assert other.long_axis_mm == pytest.approx(factor * one.long_axis_mm)
    assert other.short_axis_mm == pytest.approx(factor * one.short_axis_mm, abs=1e-4)


@given(masks, spacings, hnp.arrays(np.float64, 3, elements=st.floats(-180, 180)))
def test_a_turned_patient_measures_the_same(voxels, spacing_mm, degrees):
    mask = mask_of(voxels, spacing_mm)
    turn = np.eye(4)
    turn[:3, :3] = rotation(*degrees)
    turn[:3, 3] = (40, -30, 900)
    turned = Volume(mask.voxels, Grid(mask.grid.shape, turn @ mask.grid.affine))
    one, other = measure(mask), measure(turned)
    assert other.long_axis_mm == pytest.approx(one.long_axis_mm)
    assert other.short_axis_mm == pytest.approx(one.short_axis_mm, abs=1e-4)
    assert other.center_mm == pytest.approx(turn[:3, :3] @ one.center_mm + turn[:3, 3], abs=1e-6)


@settings(max_examples=50)
@given(masks, st.integers(0, 3), st.integers(0, 3))
def test_room_around_a_mask_changes_nothing(voxels, before, after):
    one, other = measure(mask_of(voxels)), measure(mask_of(np.pad(voxels, ((before, after),) * 3)))
    assert (other.volume_ml, other.long_axis_mm) == (one.volume_ml, one.long_axis_mm)
    assert other.slices == (one.slices[0] + before, one.slices[1] + before)


def test_mean_hu_and_json():
    voxels = np.zeros((3, 6, 6), np.uint8)
    voxels[1, 2:4, 2:4] = 1
    mask = mask_of(voxels)
    image = Volume(np.where(mask.voxels, 40, -800).astype(np.int16), mask.grid)
    found = json.loads(json.dumps(measure(mask, image=image).to_json()))
    assert found["mean_hu"] == 40
    assert found["slices"] == [1, 1]
    assert (len(found["long_axis_lps"]), len(found["short_axis_lps"][0])) == (2, 3)
    assert {"volume_ml", "long_axis_mm", "short_axis_mm", "size_group"} <= found.keys()
    with pytest.raises(GridError, match="one grid"):
        measure(mask, image=Volume(np.zeros((3, 6, 7)), Grid.axial((3, 6, 7), (1, 1, 1))))


def test_empty_mask_is_refused():
    with pytest.raises(EmptyMask, match="empty"):
        measure(mask_of(np.zeros((3, 4, 5))))


def test_component_at_a_point():
    voxels = np.zeros((6, 20, 20), bool)
    voxels[1:3, 2:5, 2:5] = True
    voxels[3, 5, 5] = True  # touches the first by a corner
    voxels[1:3, 2:5, 10:13] = True
    mask = mask_of(voxels, (2.0, 1.0, 1.0))
    first, second = (component_at(mask, mask.grid.to_lps(index)).voxels for index in ((1, 3, 3), (2, 3, 8)))
    assert first.sum() == 19
    assert second.sum() == 18
    assert second[1, 2, 10]
    with pytest.raises(EmptyMask, match="within 5 mm"):
        component_at(mask, mask.grid.to_lps((5, 19, 19)))


def test_a_whole_ct_is_measured_quickly():
    grid = Grid.axial((130, 512, 512), (3.0, 0.8, 0.8))
    voxels = np.zeros(grid.shape, np.uint8)
    _, y, x = np.ogrid[:30, :125, :125]
    voxels[50:80, 200:325, 200:325] = (x - 62) ** 2 + (y - 62) ** 2 < 60**2
    mask = Volume(voxels, grid)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        measure(mask)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.25  # 0.03 s on an idle machine


def test_real_masks(shared_data):
    """Figures that others published for these two tumors (see the README beside the data)."""
    sitk = pytest.importorskip("SimpleITK")
    expected = {"ibsi-ct-phantom/mask.nii.gz": (358.7, 104, (17, 42)), "lidc-idri/LIDC-IDRI-0001/nodule.nii.gz": (
        6.7, 32, (36, 43))}  # fmt: skip
    for name, (volume_ml, size_mm, slices) in expected.items():
        image = sitk.ReadImage(str(shared_data / name))
        voxels = sitk.GetArrayFromImage(image)
        found = measure(Volume(voxels, Grid.axial(voxels.shape, image.GetSpacing()[::-1])))
        assert found.volume_ml == pytest.approx(volume_ml, abs=0.05)
        assert found.long_axis_mm == pytest.approx(size_mm, abs=0.5)
        assert found.slices == slices

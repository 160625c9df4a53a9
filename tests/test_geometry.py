"""Properties of grids and of the one function that moves voxels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import rotation
from hypothesis import given, settings
from hypothesis import strategies as st

from clmsda.geometry import LPS_FROM_RAS, Grid, GridError, Volume, box_around, resample

angles = st.floats(-180, 180, allow_nan=False)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def grids(draw: Any, longest: int = 9, shortest: int = 1) -> Grid:
    """Any grid of perpendicular axes, right- or left-handed."""
    shape = tuple(draw(st.integers(shortest, longest)) for _ in range(3))
    spacing = np.array([draw(st.floats(0.3, 5)) for _ in range(3)])
    signs = np.array([draw(st.sampled_from([-1, 1])) for _ in range(3)])
    affine = np.eye(4)
    affine[:3, :3] = rotation(*(draw(angles) for _ in range(3))) * spacing * signs
    affine[:3, 3] = [draw(st.floats(-800, 800)) for _ in range(3)]
    return Grid(shape, affine)


def indices(grid: Grid) -> np.ndarray:
    """(voxels, 3) indices of every voxel."""
    return np.array(list(np.ndindex(grid.shape)))


def noise(grid: Grid, seed: int) -> Volume:
    return Volume(np.random.default_rng(seed).uniform(-1000, 1000, grid.shape).astype(np.float32), grid)


@given(grids(), seeds)
def test_to_index_undoes_to_lps(grid: Grid, seed: int) -> None:
    index = np.random.default_rng(seed).uniform(-20, 20, (2, 5, 3))
    np.testing.assert_allclose(grid.to_index(grid.to_lps(index)), index, atol=1e-8)


@given(grids())
def test_spacing_is_the_distance_between_neighbors(grid: Grid) -> None:
    for axis in range(3):
        step = grid.to_lps(np.eye(3)[axis]) - grid.to_lps((0, 0, 0))
        assert np.linalg.norm(step) == pytest.approx(grid.spacing_mm[axis])
    assert grid.voxel_ml == pytest.approx(np.prod(grid.spacing_mm) / 1000)


@given(grids(), st.data())
def test_crops_compose_and_keep_voxels_in_place(grid: Grid, data: st.DataObject) -> None:
    lower = [data.draw(st.integers(0, n - 1)) for n in grid.shape]
    upper = [data.draw(st.integers(a + 1, n)) for a, n in zip(lower, grid.shape, strict=True)]
    part = grid.crop(lower, upper)
    np.testing.assert_allclose(part.to_lps(indices(part)), grid.to_lps(indices(part) + lower), atol=1e-9)
    again = part.crop([n - 1 for n in part.shape], part.shape)
    assert again.same_as(grid.crop([n - 1 for n in upper], upper))


@given(grids(), seeds)
def test_contains_reaches_half_a_voxel_beyond_the_centers(grid: Grid, seed: int) -> None:
    index = np.random.default_rng(seed).uniform(-1, np.array(grid.shape), (50, 3))
    inside = ((index > -0.5) & (index < np.array(grid.shape) - 0.5)).all(axis=1)
    assert (grid.contains(grid.to_lps(index)) == inside).all()
    assert grid.contains(grid.center_mm)


@given(grids())
def test_same_as_sees_a_shift_a_turn_and_another_shape(grid: Grid) -> None:
    assert grid.same_as(Grid(grid.shape, grid.affine + np.eye(4, k=3) * 1e-3))
    assert not grid.same_as(Grid(grid.shape, grid.affine + np.eye(4, k=3) * 0.1))
    assert not grid.same_as(Grid((grid.shape[0] + 1, *grid.shape[1:]), grid.affine))
    if grid.shape[2] > 1:
        turned = grid.affine.copy()
        turned[:3, 2] *= -1
        assert not grid.same_as(Grid(grid.shape, turned))


def test_axial_places_the_first_voxel_or_the_middle() -> None:
    grid = Grid.axial((4, 6, 8), (2.5, 0.7, 0.8), origin_mm=(1, 2, 3))
    np.testing.assert_allclose(grid.to_lps((1, 2, 3)), (1 + 3 * 0.8, 2 + 2 * 0.7, 3 + 2.5))
    np.testing.assert_allclose(Grid.axial((4, 6, 8), (2.5, 0.7, 0.8), center_mm=(1, 2, 3)).center_mm, (1, 2, 3))


def test_ras_and_lps_differ_in_two_signs() -> None:
    np.testing.assert_array_equal(LPS_FROM_RAS @ (1, 2, 3, 1), (-1, -2, 3, 1))
    np.testing.assert_array_equal(LPS_FROM_RAS @ LPS_FROM_RAS, np.eye(4))


def test_equal_grids_have_equal_hashes() -> None:
    one, other = (Grid.axial((4, 6, 8), (2.5, 0.7, 0.8)) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert one != Grid.axial((4, 6, 8), (2.5, 0.7, 0.81))


@pytest.mark.parametrize(
    ("shape", "affine", "message"),
    [
        ((0, 2, 3), np.eye(4), "positive lengths"),
        ((2, 3), np.eye(4), "positive lengths"),
        ((1, 2, 3), np.eye(3), "4x4"),
        ((1, 2, 3), np.full((4, 4), np.nan), "finite"),
        ((1, 2, 3), np.diag([1.0, 1, 0, 1]), "not independent"),
    ],
)
def test_impossible_grids_are_refused(shape: Any, affine: Any, message: str) -> None:
    with pytest.raises(GridError, match=message):
        Grid(shape, affine)


def test_voxels_must_fit_their_grid() -> None:
    with pytest.raises(GridError, match="do not fit"):
        Volume(np.zeros((2, 3, 4)), Grid.axial((2, 4, 3), (1, 1, 1)))


@given(grids(), seeds, st.sampled_from([0, 1]))
def test_resampling_on_its_own_grid_changes_nothing(grid: Grid, seed: int, order: int) -> None:
    volume = noise(grid, seed)
    np.testing.assert_allclose(resample(volume, grid, order=order).voxels, volume.voxels, atol=1e-2)


@given(grids(), seeds, st.sampled_from([0, 1]), st.data())
def test_resampling_on_a_part_crops(grid: Grid, seed: int, order: int, data: st.DataObject) -> None:
    volume = noise(grid, seed)
    lower = [data.draw(st.integers(0, n - 1)) for n in grid.shape]
    upper = [data.draw(st.integers(a + 1, n)) for a, n in zip(lower, grid.shape, strict=True)]
    part = volume.crop(lower, upper)
    np.testing.assert_allclose(resample(volume, part.grid, order=order).voxels, part.voxels, atol=1e-2)


@given(grids(), seeds, st.permutations(range(3)), st.sampled_from([0, 1]))
def test_resampling_on_swapped_and_flipped_axes_and_back_is_the_identity(
    grid: Grid, seed: int, order_of_axes: list[int], order: int
) -> None:
    volume = noise(grid, seed)
    affine = grid.affine.copy()
    affine[:3, 3] = grid.to_lps((grid.shape[0] - 1, 0, 0))
    affine[:3, 0] *= -1
    affine[:3, :3] = affine[:3, order_of_axes]
    other = resample(volume, Grid(tuple(grid.shape[a] for a in order_of_axes), affine), order=order)
    np.testing.assert_allclose(other.voxels, volume.voxels[::-1].transpose(order_of_axes), atol=1e-2)
    np.testing.assert_allclose(resample(other, grid, order=order).voxels, volume.voxels, atol=1e-2)


@given(grids(shortest=3), grids(longest=4), seeds)
def test_linear_fields_are_sampled_exactly(grid: Grid, other: Grid, seed: int) -> None:
    """Wherever the eight neighbors are there, at any angle, if the target is not coarser."""
    scale = min(0.9, float(grid.spacing_mm.min() / other.spacing_mm.max() / 2))
    affine = other.affine.copy()
    affine[:3, :3] *= scale
    affine[:3, 3] = grid.center_mm - affine[:3, :3] @ ((np.array(other.shape) - 1) / 2)
    target = Grid(other.shape, affine)
    slope = np.random.default_rng(seed).uniform(-10, 10, 3)
    field = ((grid.to_lps(indices(grid)) - grid.center_mm) @ slope).reshape(grid.shape)
    sampled = resample(Volume(field, grid), target)
    index = grid.to_index(target.to_lps(indices(target)))
    covered = ((index >= 0) & (index <= np.array(grid.shape) - 1)).all(axis=1)
    expected = (target.to_lps(indices(target)) - grid.center_mm) @ slope
    np.testing.assert_allclose(sampled.voxels.ravel()[covered], expected[covered], atol=1e-2)


@given(grids(shortest=2), grids())
@settings(max_examples=50)
def test_outside_is_fill_and_a_constant_stays_constant_inside(grid: Grid, other: Grid) -> None:
    affine = other.affine.copy()
    affine[:3, 3] = grid.center_mm
    target = Grid(other.shape, affine)
    sampled = resample(Volume(np.full(grid.shape, 40.0), grid), target, fill=-7)
    points = target.to_lps(indices(target))
    near = np.abs(np.abs(grid.to_index(points) - (np.array(grid.shape) - 1) / 2) - np.array(grid.shape) / 2).min(axis=1)
    sure = near > 1e-6
    expected = np.where(grid.contains(points), 40.0, -7)
    np.testing.assert_allclose(sampled.voxels.ravel()[sure], expected[sure], rtol=1e-6)


def test_far_away_is_all_fill() -> None:
    volume = Volume(np.ones((3, 3, 3), np.int16), Grid.axial((3, 3, 3), (1, 1, 1)))
    target = Grid.axial((2, 2, 2), (1, 1, 1), origin_mm=(100, 0, 0))
    assert (resample(volume, target).voxels == -1024).all()


def test_labels_keep_their_type_and_values(labels: Volume) -> None:
    finer = Grid.axial((30, 30, 30), (0.9, 0.6, 0.5), center_mm=labels.grid.center_mm)
    sampled = resample(labels, finer, fill=0, order=0)
    assert sampled.voxels.dtype == np.uint8
    assert set(np.unique(sampled.voxels)) <= {0, 1, 2, 3}
    index = np.rint(labels.grid.to_index(finer.to_lps((12, 14, 13)))).astype(int)
    assert sampled.voxels[12, 14, 13] == labels.voxels[tuple(index)]


def test_a_coarser_grid_averages_noise() -> None:
    fine = Grid.axial((40, 40, 40), (0.5, 0.5, 0.5))
    coarse = Grid.axial((10, 10, 10), (2, 2, 2), center_mm=fine.center_mm)
    volume = noise(fine, 3)
    assert resample(volume, coarse).voxels.std() < 0.35 * volume.voxels.std()


@given(grids(), grids())
def test_the_box_around_holds_every_voxel_of_the_other_grid(grid: Grid, other: Grid) -> None:
    affine = other.affine.copy()
    affine[:3, 3] = grid.center_mm
    other = Grid(other.shape, affine)
    lower, upper = box_around(grid, other, margin=0)
    index = grid.to_index(other.to_lps(indices(other)))
    met = index[grid.contains(other.to_lps(indices(other)))]
    nearest = np.clip(np.rint(met), 0, np.array(grid.shape) - 1)
    assert (nearest >= lower).all()
    assert (nearest < upper).all()

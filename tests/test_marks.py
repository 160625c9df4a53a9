"""Marks: what was said about a lesion, on a patch's grid."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import rotation
from hypothesis import given
from hypothesis import strategies as st

from clmsda.geometry import Grid
from clmsda.marks import Marks, Shape, paint

GRID = Grid.axial((12, 14, 16), (2.0, 2.0, 2.0), center_mm=(5, -3, 8))


def at(*index: float) -> tuple[float, float, float]:
    x, y, z = GRID.to_lps(index).tolist()
    return x, y, z


@pytest.mark.parametrize("shape", ["gaussian", "distance"])
def test_each_kind_has_its_channel(shape: Shape) -> None:
    marks = Marks(inside=(at(3, 4, 5),), outside=(at(9, 9, 9), at(2, 2, 2)), ends=(at(1, 1, 1), at(10, 12, 14)))
    inside, outside, extent = paint(marks, GRID, shape)
    assert inside.dtype == np.float32 and inside.shape == GRID.shape
    for channel, points in (
        (inside, [(3, 4, 5)]),
        (outside, [(9, 9, 9), (2, 2, 2)]),
        (extent, [(1, 1, 1), (10, 12, 14)]),
    ):
        assert {tuple(index) for index in np.argwhere(channel == 1)} == set(points)
    assert inside[3, 4, 7] == pytest.approx(np.exp(-0.5) if shape == "gaussian" else 0.8)  # two voxels away


def test_nothing_said_is_nothing_painted() -> None:
    assert not paint(Marks(), GRID).any()


def test_a_model_without_corrections_sees_the_points_inside_alone() -> None:
    marks = Marks(inside=(at(3, 4, 5),), outside=(at(9, 9, 9),))
    np.testing.assert_array_equal(paint(marks, GRID, all_kinds=False), paint(marks, GRID)[:1])


def test_a_box_is_marked_on_its_faces() -> None:
    marks = Marks(box=(at(2, 3, 4), at(8, 9, 10)))
    extent = paint(marks, GRID, "distance")[2]
    assert extent[2, 5, 7] == extent[5, 3, 7] == extent[5, 5, 10] == 1
    assert extent[5, 6, 7] == pytest.approx(0.7)  # three voxels from every face
    assert extent[0, 5, 7] == pytest.approx(0.8)
    assert extent[0, 1, 7] == pytest.approx(1 - np.sqrt(8) / 10, abs=1e-6)  # from an edge


def test_a_box_on_one_slice_is_marked_there() -> None:
    extent = paint(Marks(box=(at(5, 3, 4), at(5, 9, 10))), GRID, "distance")[2]
    assert (extent[5, 3:10, 4:11] == 1).all() and extent[7, 5, 5] == pytest.approx(0.8)


@given(st.integers(0, 1000))
def test_a_mark_is_where_the_point_is_whatever_the_grid(seed: int) -> None:
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = rotation(*rng.uniform(-180, 180, 3)) * rng.choice([-1.0, 1.0]) * 1.7
    affine[:3, 3] = rng.uniform(-50, 50, 3)
    grid = Grid((9, 10, 11), affine)
    index = rng.integers(0, (9, 10, 11))
    x, y, z = grid.to_lps(index).tolist()
    channel = paint(Marks(inside=((x, y, z),)), grid)[0]
    assert np.unravel_index(channel.argmax(), channel.shape) == tuple(index)

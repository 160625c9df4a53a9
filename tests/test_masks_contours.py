"""What contours of one region on one slice mean together, and gaps between slices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_series import rtstruct, save
from hypothesis import given
from hypothesis import strategies as st

from clmsda.geometry import Grid
from clmsda.images import errors, read_mask
from clmsda.images.polygons import same, within, without_repeats

GRID = Grid.axial((9, 40, 44), (3.0, 0.8, 0.8), origin_mm=(-20.0, -30.0, 100.0))
Points = list[tuple[float, float]]


def box(row: float, column: float, rows: float, columns: float) -> Points:
    """Corners of a rectangle of whole voxels, as (row, column)."""
    top, left = row - 0.5, column - 0.5
    return [(top, left), (top, left + columns), (top + rows, left + columns), (top + rows, left)]


def drawn(tmp_path: Path, *contours: Points, k: float = 4.0, kind: str = "CLOSED_PLANAR") -> np.ndarray:
    """(rows, columns) of the slice as our reader fills the contours, which are given in voxels."""
    lps = [GRID.to_lps([(k, *point) for point in contour]) for contour in contours]
    (path,) = save([rtstruct({"GTV": lps}, kind=kind)], tmp_path, name="mask{}")
    return read_mask(path, grid=GRID).voxels[round(k)]


def filled(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    plane = np.zeros(GRID.shape[1:], np.uint8)
    for row, column, rows, columns in boxes:
        plane[row : row + rows, column : column + columns] = 1
    return plane


OUTER, INNER = (5, 5, 20, 20), (10, 10, 8, 6)


def star(turns: int = 60, radius: float = 11.0) -> Points:
    angles = np.linspace(0, 2 * np.pi, turns, endpoint=False)
    reach = radius * (1 + 0.25 * np.cos(5 * angles))
    return list(zip(18 + reach * np.sin(angles), 20 + reach * np.cos(angles), strict=True))


def moved_start(points: Points) -> Points:
    return points[7:] + points[:7]


COPIES = {
    "another start": moved_start,
    "the other direction": lambda points: points[::-1],
    "another start and direction": lambda points: moved_start(points)[::-1],
    "closed": lambda points: [*points, points[0]],
    "rounded to a tenth of a millimeter": lambda points: np.round(np.array(points) * 0.8, 1) / 0.8,
    "with more points on its edges": lambda points: [
        point
        for a, b in zip(points, points[1:] + points[:1], strict=True)
        for point in (a, ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2))
    ],
    "all of it": lambda points: np.round(np.array(moved_start([*points, points[0]])[::-1]) * 0.8, 1) / 0.8,
}


@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize("count", [1, 2])
def test_a_contour_that_repeats_counts_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, copy: str, count: int
) -> None:
    alone = drawn(tmp_path / "alone", star())
    repeated = drawn(tmp_path / "again", star(), *[COPIES[copy](star())] * count)
    np.testing.assert_array_equal(repeated, alone)
    assert alone.sum() > 300
    assert "repeats another" in caplog.text


def test_a_copy_may_lie_at_a_rounded_height(tmp_path: Path) -> None:
    lps = [GRID.to_lps([(k, *point) for point in star()]) for k in (4.0, 4.15)]
    (path,) = save([rtstruct({"GTV": lps})], tmp_path, name="mask{}")
    np.testing.assert_array_equal(read_mask(path, grid=GRID).voxels[4], drawn(tmp_path / "alone", star()))


def test_a_hole_that_repeats_stays_a_hole(tmp_path: Path) -> None:
    """Three copies of the inner contour, and two of the outer one, in any order."""
    inner, outer = box(*INNER), box(*OUTER)
    found = drawn(tmp_path, inner, outer, inner[::-1], outer[1:] + outer[:1], [*inner, inner[0]])
    np.testing.assert_array_equal(found, filled(OUTER) - filled(INNER))


def test_a_contour_that_goes_around_twice(tmp_path: Path) -> None:
    np.testing.assert_array_equal(drawn(tmp_path, star() + star()), drawn(tmp_path / "alone", star()))
    np.testing.assert_array_equal(without_repeats(np.array(star() * 3)), np.array(star()))


def test_holes_and_islands_in_any_order_and_direction(tmp_path: Path) -> None:
    island = (12, 11, 3, 3)
    expected = filled(OUTER) - filled(INNER) + filled(island)
    for number, order in enumerate([(OUTER, INNER, island), (island, INNER, OUTER), (INNER, island, OUTER)]):
        turned = [box(*one)[:: -1 if n % 2 else 1] for n, one in enumerate(order)]
        np.testing.assert_array_equal(drawn(tmp_path / str(number), *turned), expected)


def test_a_hole_that_touches_the_border_from_within(tmp_path: Path) -> None:
    """Two edges in common: still within."""
    corner = (5, 5, 6, 7)
    np.testing.assert_array_equal(drawn(tmp_path, box(*OUTER), box(*corner)), filled(OUTER) - filled(corner))


def test_strokes_that_overlap_in_part_are_a_union(tmp_path: Path) -> None:
    strokes = [(5, 5, 20, 8), (15, 9, 6, 25), (3, 28, 30, 5)]
    np.testing.assert_array_equal(drawn(tmp_path, *(box(*one) for one in strokes)), filled(*strokes))


def test_a_hole_in_overlapping_strokes_is_a_hole(tmp_path: Path) -> None:
    strokes, hole = [(5, 5, 20, 20), (5, 12, 20, 20)], (10, 14, 4, 4)
    found = drawn(tmp_path, *(box(*one) for one in strokes), box(*hole))
    np.testing.assert_array_equal(found, filled(*strokes) - filled(hole))


def test_a_stroke_over_a_hole_fills_what_it_covers(tmp_path: Path) -> None:
    stroke = (12, 2, 3, 12)
    found = drawn(tmp_path, box(*OUTER), box(*INNER), box(*stroke))
    np.testing.assert_array_equal(found, np.maximum(filled(OUTER) - filled(INNER), filled(stroke)))


def test_neighbors_that_share_a_border_add_up(tmp_path: Path) -> None:
    parts = [(5, 5, 10, 10), (5, 15, 10, 10), (15, 5, 3, 20)]
    np.testing.assert_array_equal(drawn(tmp_path, *(box(*one) for one in parts)), filled(*parts))


def keyhole(outer: Points, inner: Points) -> Points:
    """Outer border, a channel without width, the hole in the other direction, and back."""
    return [*outer, outer[0], *[inner[0], *inner[:0:-1], inner[0]], outer[0]]


@pytest.mark.parametrize("copies", [1, 2])
def test_keyholes_stay_holes(tmp_path: Path, copies: int) -> None:
    one = keyhole(box(*OUTER), box(*INNER))
    again = one[3:] + one[:3]
    np.testing.assert_array_equal(drawn(tmp_path, *[one, again][:copies]), filled(OUTER) - filled(INNER))


def test_an_island_in_a_keyhole_and_a_contour_that_fills_it(tmp_path: Path) -> None:
    one, island = keyhole(box(*OUTER), box(*INNER)), (12, 11, 3, 3)
    np.testing.assert_array_equal(
        drawn(tmp_path / "a", one, box(*island)), filled(OUTER) - filled(INNER) + filled(island)
    )
    np.testing.assert_array_equal(drawn(tmp_path / "b", one, box(*INNER)), filled(OUTER))


def test_exclusive_or_is_taken_at_its_word(tmp_path: Path) -> None:
    first, second = (5, 5, 12, 12), (10, 10, 12, 12)
    found = drawn(tmp_path, box(*first), box(*second), kind="CLOSEDPLANAR_XOR")
    np.testing.assert_array_equal(found, filled(first) ^ filled(second))


@given(st.integers(0, 2**32 - 1), st.floats(0.0, 0.1), st.integers(3, 80))
def test_rounding_never_makes_two_of_one(seed: int, error: float, corners: int) -> None:
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    polygon = 20 + rng.uniform(3, 15, (corners, 1)) * np.stack([np.sin(angles), np.cos(angles)], axis=1)
    noisy = np.roll(polygon + rng.uniform(-error, error, polygon.shape), int(rng.integers(corners)), axis=0)
    assert same(polygon, noisy[::-1])
    widest = np.diff(angles, append=angles[0] + 2 * np.pi).max()
    assert within(20 + 0.5 * (polygon - 20), polygon) or widest > np.pi  # which leaves the middle out


@pytest.mark.parametrize(
    ("slices", "said"),
    [
        ((1, 2, 3, 5, 6), "no contour on 1 slice (4) between its first, 1, and its last, 6"),
        ((0, 1, 5), "no contour on 3 slices (2-4) between its first, 0, and its last, 5"),
        ((0, 2, 3, 5, 8), "no contour on 4 slices (1, 4, 6-7) between"),
    ],
)
def test_gaps_between_contours_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, slices: tuple[int, ...], said: str
) -> None:
    lps = [GRID.to_lps([(k, *point) for point in box(*OUTER)]) for k in slices]
    (path,) = save([rtstruct({"GTV": lps})], tmp_path, name="mask{}")
    assert read_mask(path, grid=GRID).voxels.sum() == len(slices) * 400
    assert said in caplog.text


def test_no_gap_is_no_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lps = [GRID.to_lps([(k, *point) for point in box(*OUTER)]) for k in (3, 2, 4)]
    (path,) = save([rtstruct({"GTV": lps})], tmp_path, name="mask{}")
    read_mask(path, grid=GRID)
    assert not caplog.text


def test_thicknesses_and_volumes_that_a_structure_set_states_are_not_trusted(tmp_path: Path) -> None:
    dataset = rtstruct({"GTV": [GRID.to_lps([(k, *point) for point in box(*OUTER)]) for k in (3, 4)]})
    dataset.StructureSetROISequence[0].ROIVolume = "999"
    for contour in dataset.ROIContourSequence[0].ContourSequence:
        contour.ContourSlabThickness = "1.5"
    (path,) = save([dataset], tmp_path, name="mask{}")
    assert read_mask(path, grid=GRID).voxels.sum() == 800


def test_coordinates_that_are_no_numbers(tmp_path: Path) -> None:
    dataset = rtstruct({"GTV": [GRID.to_lps([(4, *point) for point in box(*OUTER)])]})
    (path,) = save([dataset], tmp_path, name="mask{}")
    whole = path.read_bytes()
    assert b"-16.4" in whole
    path.write_bytes(whole.replace(b"-16.4", b"-1x.4"))
    with pytest.raises(errors.BadContour, match="contour 1 of ROI 'GTV' in mask1 is damaged"):
        read_mask(path, grid=GRID)

"""Metrics on masks that fit on squared paper."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from clmsda.metrics import ShapeMismatch, f1, hd95, precision, recall, surface_dice

NOTHING = np.zeros((4, 4, 4), bool)
SOMETHING = np.zeros((4, 4, 4), bool)
SOMETHING[1:3, 1:3, 1:3] = True


def square(rows, columns, size=(20, 20)) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[slice(*rows), slice(*columns)] = True
    return mask


def test_overlap_by_hand():
    truth, pred = np.array([1, 1, 1, 1, 0, 0]), np.array([0, 1, 1, 1, 1, 1])
    assert recall(pred, truth) == pytest.approx(3 / 4)
    assert precision(pred, truth) == pytest.approx(3 / 5)
    assert f1(pred, truth) == pytest.approx(2 * 3 / (5 + 4))


@pytest.mark.parametrize("metric", [f1, recall, precision, lambda a, b: surface_dice(a, b, (1, 1, 1))])
def test_empty_masks(metric):
    assert metric(NOTHING, NOTHING) == 1.0
    assert metric(NOTHING, SOMETHING) == 0.0
    assert metric(SOMETHING, NOTHING) == 0.0
    assert metric(SOMETHING, SOMETHING) == 1.0


def test_distance_of_empty_masks():
    assert hd95(NOTHING, NOTHING, (1, 1, 1)) == 0.0
    assert hd95(SOMETHING, NOTHING, (1, 1, 1)) == hd95(NOTHING, SOMETHING, (1, 1, 1)) == np.inf
    assert hd95(SOMETHING, SOMETHING, (1, 1, 1)) == 0.0


def test_other_shapes_are_refused():
    with pytest.raises(ShapeMismatch, match="one shape"):
        f1(NOTHING, NOTHING[1:])
    with pytest.raises(ShapeMismatch, match="one spacing per axis"):
        hd95(NOTHING, NOTHING, (1, 1))


@given(*[hnp.arrays(np.bool_, (3, 4, 5))] * 2)
def test_f1_is_the_harmonic_mean(pred, truth):
    a, b = recall(pred, truth), precision(pred, truth)
    assert f1(pred, truth) == pytest.approx(2 * a * b / (a + b) if a + b else 0.0)


def test_square_moved_by_three_voxels_of_half_a_millimeter():
    """Both sides across the motion lie 1.5 mm away; of the other two, some part does."""
    truth, pred = square((5, 15), (5, 15)), square((5, 15), (8, 18))
    assert surface_dice(pred, truth, (0.5, 0.5), tolerance_mm=1.5) == 1.0
    assert hd95(pred, truth, (0.5, 0.5)) == pytest.approx(1.5)
    # Within 0 mm: the 7 mm of top and bottom that coincide, less the corners, of 40 voxels of outline.
    assert surface_dice(pred, truth, (0.5, 0.5), tolerance_mm=0) == pytest.approx(14 / 40, abs=0.06)


def test_tolerance_respects_anisotropic_spacing():
    """Of an outline of 2 x 25 mm and 2 x 7 mm, the short sides lie 2.5 mm apart."""
    truth, pred = square((5, 15), (5, 15)), square((6, 16), (5, 15))
    assert surface_dice(pred, truth, (2.5, 0.7), tolerance_mm=2.0) == pytest.approx(50 / 64, abs=0.03)
    assert surface_dice(np.rot90(pred), np.rot90(truth), (2.5, 0.7), tolerance_mm=2.0) == 1.0


def test_sides_count_by_their_length():
    """Two rectangles 10 mm high, 10 and 13 mm wide, with pixels of 0.5 x 1 mm, that share three sides."""
    truth, pred = square((5, 25), (5, 15), (30, 30)), square((5, 25), (5, 18), (30, 30))
    # Of 40 mm, 8 mm of the end are more than 1 mm away; of 46 mm, the end (10) and 2 mm above and below.
    expected = ((40 - 8) + (46 - 10 - 4)) / (40 + 46)
    assert surface_dice(pred, truth, (0.5, 1.0), tolerance_mm=1.0) == pytest.approx(expected, abs=0.02)


def test_one_far_speck_does_not_move_hd95():
    truth = square((10, 40), (10, 40), (60, 60))
    pred = truth.copy()
    pred[55, 55] = True
    assert hd95(pred, truth, (1, 1)) == 0.0
    assert surface_dice(pred, truth, (1, 1)) < 1.0


def test_concentric_spheres():
    z, y, x = np.ogrid[-15:16, -30:31, -30:31]
    radius = np.sqrt((2.0 * z) ** 2 + y**2 + x**2)
    inner, outer = radius <= 15, radius <= 18
    assert hd95(inner, outer, (2, 1, 1)) == pytest.approx(3, abs=0.8)
    assert surface_dice(inner, outer, (2, 1, 1), tolerance_mm=4.5) == 1.0
    assert surface_dice(inner, outer, (2, 1, 1), tolerance_mm=1.0) < 0.05


masks = hnp.arrays(np.bool_, (4, 5, 6))


@given(masks, masks, st.tuples(*[st.sampled_from([0.7, 1.0, 2.5])] * 3))
def test_surface_metrics_are_symmetric_and_ignore_flips(pred, truth, spacing_mm):
    for metric in (surface_dice, hd95):
        value = metric(pred, truth, spacing_mm)
        assert metric(truth, pred, spacing_mm) == pytest.approx(value)
        assert metric(pred[::-1, :, ::-1], truth[::-1, :, ::-1], spacing_mm) == pytest.approx(value)
    assert 0 <= surface_dice(pred, truth, spacing_mm) <= 1

"""Volumes between scans: thresholds, doubling times and repeatability against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from response_cases import ball_ml, overall, respond_to, scans

from clmsda.response.recist import Response
from clmsda.response.report import Report, respond
from clmsda.response.statements import Link, Statements
from clmsda.response.volumes import doubling_time_days, volume_limit

GONE = frozenset({(1, 1)})


def by_volume(report: Report) -> list[Response]:
    return [one.response for one in report.volumes]


@pytest.mark.parametrize(
    ("first_ml", "second_ml", "days", "expected"),
    [
        (1.0, 2.0, 90, 90.0),
        (1.0, 8.0, 90, 30.0),  # three doublings
        (4.0, 1.0, 90, -45.0),  # halved twice
        (1.0, 1.26, 100, 299.9),  # ln 2 * 100 / ln 1.26
        (0.0, 1.0, 90, None),
        (1.0, 0.0, 90, None),
        (1.0, 1.0, 90, None),
        (1.0, 2.0, 0, None),
    ],
)
def test_doubling_time(first_ml: float, second_ml: float, days: int, expected: float | None) -> None:
    found = doubling_time_days(first_ml, second_ml, days)
    assert found == (expected if expected is None else pytest.approx(expected, abs=0.05))


@settings(max_examples=50)
@given(st.floats(0.01, 500), st.floats(10, 2000), st.integers(1, 3000))
def test_growth_at_a_doubling_time_has_that_doubling_time(first_ml: float, doubling_days: float, days: int) -> None:
    second_ml = first_ml * 2 ** (days / doubling_days)
    assert doubling_time_days(first_ml, second_ml, days) == pytest.approx(doubling_days, rel=1e-6)


@pytest.mark.parametrize(
    ("long_axis_mm", "percent"),
    [(9.9, None), (10, 39), (34.9, 39), (35, 29), (49.9, 29), (50, 24), (100, 24), (100.1, None)],
)
def test_repeatability_of_one_lesion(long_axis_mm: float, percent: float | None) -> None:
    """QIBA CTV-AD 2018: 39, 29 and 24 %, from within-lesion variations of 14.1, 10.3 and 8.5 %."""
    found = volume_limit([(5.0, long_axis_mm)])
    assert found == (None if percent is None else pytest.approx(percent / 100, abs=0.005))


def test_errors_of_several_lesions_cancel_in_part() -> None:
    """Two equal lesions of 60 mm: 23.6 % / sqrt 2. One without a published figure leaves the sum without one."""
    alone = volume_limit([(10.0, 60.0)])
    assert alone == pytest.approx(1.96 * math.sqrt(2) * 0.085)
    assert volume_limit([(10.0, 60.0), (10.0, 60.0)]) == pytest.approx(alone / math.sqrt(2))
    assert volume_limit([(10.0, 60.0), (0.1, 6.0)]) is None


def test_changes_are_told_from_repeatability() -> None:
    """A ball of 30 mm that shrinks to 27 mm: diameter -10 % (more than 8 %), volume -27.1 % (less than 39 %)."""
    report = respond_to({1: 30.0}, {1: 27.0})
    change = report.change_of(1, 1)
    assert change.change == pytest.approx(0.9**3 - 1)
    assert change.is_repeatable
    said = report.to_json()
    lesion = said["lesions"][0]["time_points"][1]
    assert lesion["diameter_change_percent"] == -10.0
    assert lesion["diameter_within_repeatability"] is False
    assert lesion["volume_change_percent"] == -27.1
    assert lesion["volume_within_repeatability"] is True
    assert said["follow_ups"][0]["volume"]["volume_within_repeatability"] is True
    smaller = respond_to({1: 30.0}, {1: 28.0}).to_json()
    assert smaller["lesions"][0]["time_points"][1]["diameter_within_repeatability"] is True


@pytest.mark.parametrize(
    ("factor", "expected"),
    [(0.7**3, Response.PR), (0.344, Response.SD), (1.2**3, Response.PD), (1.727, Response.SD), (1.0, Response.SD)],
)
def test_thresholds_are_those_of_a_sphere(factor: float, expected: Response) -> None:
    """-65.7 and +72.8 %: a ball's volume at 0.7 and 1.2 of its diameter."""
    first, second = scans({1: 40.0}, {1: 40.0 * factor ** (1 / 3)})
    assert by_volume(respond((first, second))) == [expected]


@settings(max_examples=30)
@given(st.floats(20, 80), st.floats(5, 160))
def test_a_single_ball_responds_alike_by_diameter_and_by_volume(first_mm: float, second_mm: float) -> None:
    """Where the absolute 5 mm, which volumes lack, does not decide."""
    report = respond_to({1: first_mm}, {1: second_mm})
    near = min(abs(second_mm / first_mm - limit) for limit in (0.7, 1.2)) < 1e-6
    if not near and not 0 < second_mm - first_mm < 5:
        assert by_volume(report) == [Response(overall(report)[0])]


def test_the_total_counts_every_lesion() -> None:
    """Three balls in one organ: two are targets, all three are in the volume; 20 mm of them are gone at the end."""
    report = respond_to({1: 40.0, 2: 30.0, 3: 20.0}, {1: 40.0, 2: 30.0}, gone=frozenset({(1, 3)}))
    total = report.volumes[0].total
    assert total.baseline_ml == pytest.approx(ball_ml(40) + ball_ml(30) + ball_ml(20))
    assert total.volume_ml == pytest.approx(ball_ml(40) + ball_ml(30))
    assert by_volume(report) == [Response.SD]


def test_progression_by_volume_counts_from_the_smallest_total() -> None:
    report = respond_to({1: 40.0}, {1: 20.0}, {1: 24.1})
    assert by_volume(report) == [Response.PR, Response.PD]
    assert report.volumes[1].nadir_ml == pytest.approx(ball_ml(20))


def test_zero_volume_at_the_end() -> None:
    """Gone is -100 % and has no doubling time; not found is not gone."""
    report = respond_to({1: 40.0}, {}, gone=GONE)
    assert by_volume(report) == [Response.CR]
    change = report.change_of(1, 1)
    assert (change.change, change.growth) == (-1.0, None)
    assert by_volume(respond_to({1: 40.0}, {1: 0.0})) == [Response.NE]
    assert overall(respond_to({1: 40.0}, {1: 0.0})) == ["NE"]


def test_zero_volume_at_the_beginning() -> None:
    """No change can be given for it, it is no target, and the reader is told."""
    report = respond_to({1: 40.0, 2: 0.0}, {1: 40.0, 2: 15.0})
    assert report.targets.labels == (1,)
    assert report.change_of(2, 1).change is None
    assert report.volumes[0].total.baseline_ml == pytest.approx(ball_ml(40))
    assert any("nothing was found at the baseline for lesion 2" in note for note in report.notes)
    assert overall(report) == ["SD"]


def test_too_small_leaves_the_total_unknown() -> None:
    report = respond_to({1: 40.0, 2: 20.0}, {1: 40.0}, too_small=frozenset({(1, 2)}))
    assert by_volume(report) == [Response.NE]
    assert report.volumes[0].missing == (2,)


def test_a_new_lesion_is_progression_by_volume_too() -> None:
    assert by_volume(respond_to({1: 40.0}, {1: 20.0, 2: 8.0})) == [Response.PD]


def test_merged_and_split_volumes() -> None:
    """Merged lesions change together; nothing is published on how repeatable either is."""
    merged = respond_to({1: 30.0, 2: 20.0}, {1: 45.0}, links=(Link(1, (1,), (1, 2)),))
    first, second = merged.change_of(1, 1), merged.change_of(2, 1)
    assert first.baseline_ml == pytest.approx(ball_ml(30) + ball_ml(20))
    assert first.change == pytest.approx(ball_ml(45) / (ball_ml(30) + ball_ml(20)) - 1)
    assert (second.volume_ml, second.change, first.limit) == (None, None, None)
    assert merged.volumes[0].total.volume_ml == pytest.approx(ball_ml(45))
    split = respond_to({1: 40.0}, {1: 15.0, 7: 12.0}, links=(Link(1, (1, 7), (1,)),))
    assert split.change_of(1, 1).volume_ml == pytest.approx(ball_ml(15) + ball_ml(12))


def test_growth_is_since_the_scan_before() -> None:
    """Scans 60 days apart; the volume halves, then grows eightfold: it doubles in 20 days, not from the baseline."""
    half = 40.0 * 0.5 ** (1 / 3)
    report = respond_to({1: 40.0}, {1: half}, {1: 2 * half})
    first, second = report.change_of(1, 1).growth, report.change_of(1, 2).growth
    assert first is not None and second is not None
    assert (first.days, first.doubling_days) == (60, pytest.approx(-60))
    assert (second.days, second.doubling_days) == (60, pytest.approx(20))
    assert report.change_of(1, 2).change == pytest.approx(3)


def test_without_dates_there_is_no_doubling_time() -> None:
    from dataclasses import replace

    points = tuple(replace(point, date=None) for point in scans({1: 40.0}, {1: 50.0}))
    report = respond(points, Statements())
    growth = report.change_of(1, 1).growth
    assert growth is not None
    assert (growth.days, growth.doubling_days) == (None, None)
    assert any("no date in scan0.json, scan1.json" in note for note in report.notes)

"""RECIST 1.1 against cases worked out by hand, at every edge of its rules.

Sections, tables and appendices are of the guideline: Eisenhauer et al., Eur J Cancer 2009;45:228-247. "Working Group"
is what its authors answer at recist.eortc.org.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from response_cases import overall, respond_to

from clmsda.response.recist import Response, overall_response
from clmsda.response.statements import Link, StatementError

CR, PR, SD, PD, NE, NON = "CR", "PR", "SD", "PD", "NE", "non-CR/non-PD"


@pytest.mark.parametrize(
    ("sizes_mm", "expected"),
    [
        ((100.0, 70.0), PR),  # exactly 30 % less
        ((100.0, 70.1), SD),  # 29.9 % less
        ((50.0, 60.0), PD),  # exactly 20 % and 10 mm more
        ((50.0, 59.9), SD),  # 19.8 % more
        ((24.5, 29.4), SD),  # exactly 20 %, but 4.9 mm
        ((25.0, 30.0), PD),  # exactly 20 % and exactly 5 mm
        ((40.0, 45.0), SD),  # 5 mm, but 12.5 %
        ((10.0, 14.9), SD),  # 49 %, but 4.9 mm
        ((10.0, 15.0), PD),
    ],
)
def test_one_target_between_two_scans(sizes_mm: tuple[float, float], expected: str) -> None:
    """Section 4.3.1: PR from 30 % below the baseline's sum; PD from 20 % and 5 mm above the smallest; else SD."""
    assert overall(respond_to({1: sizes_mm[0]}, {1: sizes_mm[1]})) == [expected]


@settings(max_examples=40)
@given(st.integers(300, 2000), st.integers(300, 2000), st.integers(1, 60))
def test_the_limits_hold_to_a_hundredth_of_a_millimeter(one: int, other: int, off: int) -> None:
    """Section 4.3.1, where sums of decimal fractions are not exact in binary."""
    sizes = {1: one / 10, 2: other / 10}
    seven_tenths = {1: round(0.7 * one / 10, 2), 2: round(0.7 * other / 10, 2)}
    six_fifths = {1: round(1.2 * one / 10, 2), 2: round(1.2 * other / 10, 2)}
    assert overall(respond_to(sizes, seven_tenths)) == [PR]
    assert overall(respond_to(sizes, six_fifths)) == [PD]
    assert overall(respond_to(sizes, {1: seven_tenths[1] + off / 100, 2: seven_tenths[2]})) == [SD]
    assert overall(respond_to(sizes, {1: six_fifths[1] - off / 100, 2: six_fifths[2]})) == [SD]


@settings(max_examples=40)
@given(st.permutations([1, 2, 3, 4]), st.lists(st.floats(10, 90), min_size=8, max_size=8))
def test_names_of_lesions_do_not_matter(order: list[int], sizes: list[float]) -> None:
    """No section: but what lesions are called must not change a response."""
    organs = {1: "lung", 2: "lung", 3: "liver", 4: "liver"}
    first, second = dict(zip(organs, sizes[:4], strict=True)), dict(zip(organs, sizes[4:], strict=True))
    named = dict(zip(organs, order, strict=True))
    renamed = ({named[label]: size for label, size in one.items()} for one in (first, second))
    other = respond_to(*renamed, organs={named[label]: organ for label, organ in organs.items()})
    assert overall(other) == overall(respond_to(first, second, organs=organs))


def test_progression_counts_from_the_smallest_sum() -> None:
    """Section 4.3.1: 100, 60, 72 mm: 28 % below the baseline, but exactly 20 % (12 mm) above the nadir."""
    report = respond_to({1: 100.0}, {1: 60.0}, {1: 72.0})
    assert overall(report) == [PR, PD]
    last = report.recist[1]
    assert (last.baseline_mm, last.nadir_mm, last.sum_mm) == (100.0, 60.0, 72.0)
    assert last.from_baseline == pytest.approx(-0.28)
    assert last.from_nadir == pytest.approx(0.20)


def test_the_baseline_is_the_nadir_where_it_is_the_smallest() -> None:
    """Section 4.3.1: 50, 55, 60 mm: no step reaches 20 %, but both together do."""
    assert overall(respond_to({1: 50.0}, {1: 55.0}, {1: 60.0})) == [SD, PD]


def test_less_than_30_percent_after_a_partial_response() -> None:
    """Appendix III: a fall of 28 % after one of 32 % is a time point without PR; the Working Group reads on."""
    report = respond_to({1: 100.0}, {1: 68.0}, {1: 72.0}, {1: 67.0})
    assert overall(report) == [PR, SD, PR]
    assert any("Working Group" in reason for reason in report.recist[1].reasons)
    assert report.to_json()["best_response"] == PR


def test_complete_response() -> None:
    """Section 4.3.1: all targets gone. A lesion that was only not measured is not gone."""
    assert overall(respond_to({1: 30.0, 2: 20.0}, {}, gone=frozenset({(1, 1), (1, 2)}))) == [CR]
    assert overall(respond_to({1: 30.0, 2: 20.0}, {}, gone=frozenset({(1, 1)}))) == [NE]
    assert overall(respond_to({1: 30.0, 2: 20.0}, {})) == [NE]


def test_coming_back_after_a_complete_response_is_progression() -> None:
    """Appendix III: a lesion of 4 mm, which no sum would call progression, after a CR."""
    report = respond_to({1: 30.0}, {}, {1: 4.0}, gone=frozenset({(1, 1)}))
    assert overall(report) == [CR, PD]
    assert "come back after a complete response" in report.recist[1].reasons[0]


def test_coming_back_after_a_partial_response_counts_in_the_sum() -> None:
    """Appendix III: (30, 20), (30, gone), (30, 4.9): 34.9 mm is 4.9 mm above the nadir, 30.2 % below the baseline."""
    report = respond_to({1: 30.0, 2: 20.0}, {1: 30.0}, {1: 30.0, 2: 4.9}, gone=frozenset({(1, 2)}))
    assert overall(report) == [PR, PR]
    again = respond_to({1: 30.0, 2: 20.0}, {1: 30.0}, {1: 30.0, 2: 6.0}, gone=frozenset({(1, 2)}))
    assert overall(again) == [PR, PD]  # 6 mm are exactly 20 % of 30 mm, and more than 5 mm


@pytest.mark.parametrize(("short_mm", "expected"), [(9.9, CR), (10.0, PR)])
def test_a_node_below_10_mm_is_gone(short_mm: float, expected: str) -> None:
    """Section 4.3.1: nodes must fall below 10 mm in short axis; section 4.3.2: the sum need not be zero for a CR."""
    report = respond_to({1: (28.0, 16.0)}, {1: (20.0, short_mm)}, organs={1: "node"})
    assert overall(report) == [expected]
    assert report.recist[0].sum_mm == short_mm  # of a node, the short axis counts


def test_a_node_that_grows_back_after_a_complete_response() -> None:
    """Working Group: nodes of 10 mm or more after a CR; growing from 4 to 9.9 mm they stay gone."""
    sizes = [{1: (28.0, 16.0)}, {1: (9.0, 4.0)}, {1: (14.0, 9.9)}, {1: (15.0, 10.0)}]
    assert overall(respond_to(*sizes, organs={1: "lymph node"})) == [CR, CR, PD]


def test_too_small_to_measure_counts_5_mm() -> None:
    """Section 4.3.2: 20 + 20 mm, then 20 mm and one too small: 25 mm, a fall of 37.5 %."""
    report = respond_to({1: 20.0, 2: 20.0}, {1: 20.0}, too_small=frozenset({(1, 2)}))
    assert overall(report) == [PR]
    assert report.recist[0].sum_mm == 25.0
    assert overall(respond_to({1: 20.0}, {}, too_small=frozenset({(1, 1)}))) == [PR]  # there: no CR


def test_below_5_mm_what_was_measured_counts() -> None:
    """Working Group: what can be measured is recorded, even below 5 mm."""
    assert respond_to({1: 20.0}, {1: 3.2}).recist[0].sum_mm == 3.2


def test_six_lesions_give_five_targets() -> None:
    """Section 4.2: at most five, and at most two per organ: the third of the lung, though larger, is left out."""
    sizes = {1: 60.0, 2: 50.0, 3: 40.0, 4: 30.0, 5: 25.0, 6: 20.0}
    organs = {1: "lung", 2: "lung", 3: "lung", 4: "liver", 5: "liver", 6: "adrenal"}
    report = respond_to(sizes, sizes, organs=organs)
    assert set(report.targets.labels) == {1, 2, 4, 5, 6}
    assert report.recist[0].sum_mm == 60 + 50 + 30 + 25 + 20
    assert report.targets.reasons == {3: "2 larger targets in lung"}


def test_targets_represent_every_organ() -> None:
    """Section 4.2: with four organs the smallest one's lesion comes before the second of a large one."""
    sizes = {1: 50.0, 2: 45.0, 3: 40.0, 4: 35.0, 5: 20.0, 6: 10.0}
    organs = {1: "lung", 2: "lung", 3: "liver", 4: "liver", 5: "adrenal", 6: "spleen"}
    report = respond_to(sizes, sizes, organs=organs)
    assert set(report.targets.labels) == {1, 3, 5, 6, 2}
    assert report.targets.reasons == {4: "5 targets already"}


def test_three_in_one_organ_give_two_targets() -> None:
    """Section 4.2; both lungs are one organ, and all nodes are one (Working Group)."""
    report = respond_to({1: 12.0, 2: 40.0, 3: 30.0}, {1: 12.0, 2: 40.0, 3: 30.0})
    assert report.targets.labels == (2, 3)
    assert report.recist[0].non_target == Response.NON


@pytest.mark.parametrize(
    ("size_mm", "slice_mm", "is_target"),
    [
        (10.0, 5.0, True),
        (9.9, 5.0, False),
        (9.9, 1.0, False),
        (14.0, 7.0, True),
        (13.9, 7.0, False),
        (10.0, None, True),
    ],
)
def test_measurable_depends_on_slice_thickness(size_mm: float, slice_mm: float | None, is_target: bool) -> None:
    """Section 3.1.1, appendices II and III: 10 mm on slices up to 5 mm; twice the thickness of thicker ones."""
    report = respond_to({1: size_mm, 2: 50.0}, {1: size_mm, 2: 50.0}, slice_mm=slice_mm)
    assert (1 in report.targets.labels) == is_target


@pytest.mark.parametrize(
    ("short_mm", "is_target", "is_followed"),
    [(15.0, True, True), (14.9, False, True), (10.0, False, True), (9.9, False, False)],
)
def test_nodes_at_the_baseline(short_mm: float, is_target: bool, is_followed: bool) -> None:
    """Sections 3.1.1 and 4.2: targets from 15 mm in short axis, non-targets from 10 mm, below that not followed."""
    sizes = {1: 50.0, 2: (30.0, short_mm)}
    report = respond_to(sizes, sizes, organs={2: "node"})
    assert (2 in report.targets.labels) == is_target
    assert (report.recist[0].non_target is not None) == (is_followed and not is_target)


def test_a_missing_target_is_not_evaluable() -> None:
    """Section 4.4.2: where a part of the targets was measured, usually NE; its sum is no nadir either."""
    report = respond_to({1: 40.0, 2: 30.0}, {1: 20.0}, {1: 40.0, 2: 30.0})
    assert overall(report) == [NE, SD]
    assert report.recist[0].missing == (2,)
    assert report.recist[1].nadir_mm == 70.0


def test_a_missing_target_does_not_hide_progression() -> None:
    """Section 4.4.2, its own example: 50 mm in three lesions, then two of them alone are 80 mm: PD."""
    organs = {3: "liver"}
    report = respond_to({1: 20.0, 2: 20.0, 3: 10.0}, {1: 45.0, 2: 35.0}, organs=organs)
    assert overall(report) == [PD]
    assert any("even without target 3" in reason for reason in report.recist[0].reasons)


def test_a_new_lesion_is_progression() -> None:
    """Section 4.3.5 and table 1: whatever the targets do, and however small it is (appendix III)."""
    report = respond_to({1: 100.0}, {1: 50.0, 2: 6.0})
    assert overall(report) == [PD]
    assert report.recist[0].target == Response.PR
    assert overall(respond_to({1: 100.0}, {1: 50.0}, new=((1, "liver, segment 4"),))) == [PD]
    assert overall(respond_to({1: 100.0}, {1: 50.0, 2: 6.0}, not_new=frozenset({(1, 2)}))) == [PR]


@pytest.mark.parametrize(
    ("short_mm", "expected", "is_doubtful"), [(9.9, SD, False), (12.0, PD, True), (15.0, PD, False)]
)
def test_a_new_node(short_mm: float, expected: str, is_doubtful: bool) -> None:
    """Working Group: nodes below 10 mm are normal; one of 10 to 15 mm as the only sign should be looked at again."""
    report = respond_to({1: 50.0, 2: (12.0, 8.0)}, {1: 50.0, 2: (20.0, short_mm)}, organs={2: "node"})
    assert overall(report) == [expected]
    assert any("look again" in reason for reason in report.recist[0].reasons) == is_doubtful
    sizes = [{1: 50.0, 2: (12.0, 8.0)}, {1: 50.0, 2: (20.0, short_mm)}]
    assert overall(respond_to(*sizes, organs={2: "node"}, not_new=frozenset({(1, 2)}))) == [SD]


def test_non_target_lesions() -> None:
    """Section 4.3.3 and table 1: one that stays makes a target CR a PR; its unequivocal progression is PD."""
    sizes, gone = {1: 40.0, 2: 8.0}, frozenset({(1, 1)})
    assert overall(respond_to(sizes, {2: 8.0}, gone=gone)) == [PR]
    assert overall(respond_to(sizes, {}, gone=gone)) == [PR]  # lesion 2 was not looked at
    assert overall(respond_to(sizes, {}, gone=gone | {(1, 2)})) == [CR]
    grown = respond_to(sizes, {1: 40.0, 2: 30.0})
    assert overall(grown) == [SD]
    assert any("non-target lesion 2 grew from 8.0 to 30.0 mm" in reason for reason in grown.recist[0].reasons)
    assert overall(respond_to(sizes, {1: 40.0, 2: 30.0}, progressing=frozenset({(1, 2)}))) == [PD]
    with pytest.raises(StatementError, match="lesion 1 is a target"):
        respond_to(sizes, sizes, progressing=frozenset({(1, 1)}))


def test_without_measurable_disease() -> None:
    """Table 2: non-target lesions alone are gone, progressing, not evaluable, or neither."""
    assert overall(respond_to({1: 9.0}, {1: 9.0})) == [NON]
    assert overall(respond_to({1: 9.0}, {})) == [NE]
    assert overall(respond_to({1: 9.0}, {}, gone=frozenset({(1, 1)}))) == [CR]
    assert overall(respond_to({1: 9.0}, {1: 9.0}, new=((1, "bone"),))) == [PD]


def test_a_lesion_that_splits() -> None:
    """Section 4.3.2: the fragments' longest diameters add up: 40 mm, then 15 + 12 mm: a fall of 32.5 %."""
    report = respond_to({1: 40.0}, {1: 15.0, 7: 12.0}, links=(Link(1, (1, 7), (1,)),))
    assert overall(report) == [PR]
    assert report.recist[0].sum_mm == 27.0


def test_lesions_that_merge() -> None:
    """Section 4.3.2: the longest diameter of what has merged counts once: 30 + 20 mm, then 45 mm: 10 % less."""
    report = respond_to({1: 30.0, 2: 20.0}, {1: 45.0}, links=(Link(1, (1,), (1, 2)),))
    assert overall(report) == [SD]
    assert report.recist[0].sum_mm == 45.0
    assert report.recist[0].missing == ()


def test_a_target_carries_what_merges_with_it() -> None:
    """Section 4.3.2: non-target 3 and target 1 become one: the sum keeps the diameter, in whatever order it is said."""
    sizes = {1: 30.0, 2: 20.0, 3: 11.0}
    report = respond_to(sizes, {2: 20.0, 3: 50.0}, links=(Link(1, (3,), (3, 1)),))
    assert report.recist[0].sum_mm == 70.0
    assert overall(report) == [PD]


@pytest.mark.parametrize(
    ("target", "non_target", "expected"),
    [
        (CR, CR, CR), (CR, None, CR), (CR, NON, PR), (CR, NE, PR), (PR, NON, PR), (PR, NE, PR), (PR, CR, PR),
        (SD, NON, SD), (SD, NE, SD), (NE, NON, NE), (PD, CR, PD), (PD, None, PD), (CR, PD, PD), (NE, PD, PD),
        (None, CR, CR), (None, NON, NON), (None, NE, NE), (None, PD, PD),
    ],
)  # fmt: skip
def test_overall_response(target: str | None, non_target: str | None, expected: str) -> None:
    """Tables 1 and 2, row by row, without new lesions."""
    found = overall_response(target and Response(target), non_target and Response(non_target))  # type: ignore[arg-type]
    assert found == expected


@pytest.mark.parametrize(
    ("chosen", "said"),
    [((1, 2, 3), "2 per organ, found 3 in lung"), ((9,), "no lesion 9"), ((4,), "not measurable: long axis 8.0 mm")],
)
def test_targets_that_the_reader_must_not_choose(chosen: tuple[int, ...], said: str) -> None:
    """Sections 3.1.1 and 4.2."""
    sizes = {1: 50.0, 2: 40.0, 3: 30.0, 4: 8.0}
    with pytest.raises(StatementError, match=said):
        respond_to(sizes, sizes, targets=chosen)


def test_targets_chosen_by_the_reader() -> None:
    """Section 4.2: a smaller lesion that can be measured again reliably may be the better target."""
    report = respond_to({1: 50.0, 2: 40.0, 3: 30.0}, {1: 50.0, 2: 40.0, 3: 20.0}, targets=(3,))
    assert overall(report) == [PR]
    assert report.targets.reasons == {1: "not chosen by the reader", 2: "not chosen by the reader"}

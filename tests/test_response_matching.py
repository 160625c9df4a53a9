"""Which lesion is which: by tracking UID, by label, by the reader's word; and what must not be taken for another."""

from __future__ import annotations

from dataclasses import replace

import pytest
from response_cases import lesion, overall, respond_to, scans

from clmsda.response.courses import State
from clmsda.response.matching import follow
from clmsda.response.report import respond
from clmsda.response.statements import (
    Link,
    StatementError,
    Statements,
    parse_dates,
    parse_labels,
    parse_links,
    parse_new,
    parse_organs,
    parse_places,
)
from clmsda.response.timepoints import TimePoint, TimePointError


def tracked(*uids_and_sizes: dict[str, float]) -> tuple[TimePoint, ...]:
    """Scans whose lesions have tracking UIDs, numbered in another order at each scan."""
    points = scans(*({} for _ in uids_and_sizes))
    found = []
    for point, sizes in zip(points, uids_and_sizes, strict=True):
        items = list(sizes.items())[:: 1 if point.number % 2 == 0 else -1]
        lesions = [lesion(label, size, tracking_uid=uid) for label, (uid, size) in enumerate(items, 1)]
        found.append(replace(point, lesions=tuple(lesions)))
    return tuple(found)


def test_tracking_uids_follow_lesions_whose_labels_differ() -> None:
    points = tracked({"2.25.1": 40.0, "2.25.2": 20.0}, {"2.25.1": 30.0, "2.25.2": 15.0})
    matching = follow(points, Statements())
    assert matching.by == "tracking"
    assert [course.diameters_mm for course in matching.courses] == [(40.0, 30.0), (20.0, 15.0)]
    assert [course.sightings[1].labels for course in matching.courses] == [(2,), (1,)]
    assert follow(points, Statements(), "label").courses[0].diameters_mm == (40.0, 15.0)


def test_an_unknown_tracking_uid_is_a_new_lesion() -> None:
    points = tracked({"2.25.1": 40.0}, {"2.25.1": 40.0, "2.25.9": 12.0})
    assert [str(one) for one in follow(points, Statements()).new] == ["lesion 1 (lung, 12.0 mm)"]
    assert overall(respond(points)) == ["PD"]


def test_without_a_shared_uid_labels_match_and_tracking_is_refused() -> None:
    """UIDs made of the series and the label are never shared: all would be missing, and all new."""
    points = tracked({"2.25.1": 40.0}, {"2.25.2": 40.0})
    assert follow(points, Statements()).by == "label"
    assert overall(respond(points)) == ["SD"]
    with pytest.raises(TimePointError, match=r"shares no tracking UID .* use --match label"):
        follow(points, Statements(), "tracking")


def test_the_reader_says_which_lesion_is_which() -> None:
    """Lesion 2 is gone and lesion 3 was measured as 2: by label, 3 would be missing and 2 much larger."""
    sizes = {1: 40.0, 2: 12.0, 3: 30.0}
    said = {"links": (Link(1, (2,), (3,)),), "gone": frozenset({(1, 2)})}
    report = respond_to(sizes, {1: 40.0, 2: 30.0}, **said)
    assert [course.diameters_mm[1] for course in report.courses] == [40.0, 0.0, 30.0]
    assert report.matching.new == ()


def test_exchanged_labels_are_noticed() -> None:
    """Two lesions 120 mm apart: exchanged, each lies 120 mm from where the shift of both puts it."""
    first, second = scans({}, {})
    shift = 300.0  # another position of the table moves all lesions alike
    before = [lesion(1, 40.0, center_lps=(60.0, 0.0, 0.0)), lesion(2, 20.0, center_lps=(-60.0, 0.0, 0.0))]
    right = [replace(one, center_lps=(one.center_lps[0], 8.0, shift)) for one in before if one.center_lps]
    exchanged = [replace(one, label=3 - one.label) for one in right]
    first = replace(first, lesions=tuple(before))
    assert follow((first, replace(second, lesions=tuple(right))), Statements()).notes == ()
    notes = follow((first, replace(second, lesions=tuple(exchanged))), Statements()).notes
    assert [note.startswith(f"follow-up 1: lesion {n} lies 120 mm") for n, note in enumerate(notes, 1)] == [True, True]


def test_organs_of_new_lesions_are_named_at_their_scan() -> None:
    points = scans({1: 40.0}, {1: 40.0, 2: (20.0, 8.0)})
    assert overall(respond(points, Statements({(1, 2): "node"}))) == ["SD"]
    assert overall(respond(points)) == ["PD"]
    with pytest.raises(StatementError, match="--organ 1:1: it is not new"):
        respond(points, Statements({(1, 1): "node"}))


def test_states() -> None:
    sizes = {1: 40.0, 2: 12.0, 3: 30.0, 4: 30.0, 5: 20.0}
    report = respond_to(
        sizes, {1: 40.0, 2: 0.0, 3: 50.0}, links=(Link(1, (3,), (3, 4)),), too_small=frozenset({(1, 5)})
    )
    states = [course.sightings[1].state for course in report.courses]
    assert states == [State.MEASURED, State.NOT_MEASURED, State.MERGED, State.ABSORBED, State.TOO_SMALL]


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        ({"gone": frozenset({(1, 1)})}, "--gone 1:1: it is measured in scan1.json"),
        ({"too_small": frozenset({(1, 1)})}, "--too-small 1:1: it is measured in scan1.json"),
        ({"gone": frozenset({(1, 2)}), "too_small": frozenset({(1, 2)})}, "cannot be gone and too small"),
        ({"gone": frozenset({(1, 9)})}, "--gone: there is no lesion 9 in scan0.json, only 1, 2"),
        ({"not_new": frozenset({(1, 1)})}, "--not-new 1:1: it is not new, but lesion 1 of the baseline"),
        ({"not_new": frozenset({(1, 9)})}, "--not-new: there is no lesion 9 in scan1.json, only 1"),
        ({"links": (Link(1, (5,), (1,)),)}, "--same: there is no lesion 5 in scan1.json"),
        ({"links": (Link(1, (1,), (5,)),)}, "--same: there is no lesion 5 in scan0.json"),
        ({"links": (Link(1, (1,), (1,)), Link(1, (1,), (2,)))}, "lesion 1 is named twice for follow-up 1"),
    ],
)
def test_statements_that_contradict_the_files(statements: dict[str, object], said: str) -> None:
    with pytest.raises(StatementError) as error:
        respond_to({1: 40.0, 2: 20.0}, {1: 40.0}, **statements)
    assert said in str(error.value)


def test_statements_are_parsed() -> None:
    assert parse_organs(["2=Lymph_Node", "1:4= Liver "], 2) == {(0, 2): "node", (1, 4): "liver"}
    assert parse_places(["2:3", "1:2"], "--gone", 2) == {(2, 3), (1, 2)}
    assert parse_places(["3"], "--gone", 1) == {(1, 3)}
    assert parse_links(["2=3", "2+4=2", "1:2=2+3"], 1) == (
        Link(1, (2,), (3,)),
        Link(1, (2, 4), (2,)),
        Link(1, (2,), (2, 3)),
    )
    assert parse_new(["2:liver: segment 4"], 2) == ((2, "liver: segment 4"),)
    assert parse_new(["liver: segment 4"], 1) == ((1, "liver: segment 4"),)
    assert [day.isoformat() for day in parse_dates(["0:2024-01-31", "1:20240301"], 2).values()] == [
        "2024-01-31",
        "2024-03-01",
    ]
    assert parse_labels(["2", "1"], "--target") == (2, 1)


@pytest.mark.parametrize(
    ("parse", "said"),
    [
        (lambda: parse_places(["2"], "--gone", 2), "--gone '2': say at which of the 2 follow-ups, such as 1:2"),
        (lambda: parse_places(["3:2"], "--gone", 2), "there is no follow-up 3, only 1 to 2"),
        (lambda: parse_places(["x"], "--gone", 1), "--gone expects the label of a lesion, such as 2 or 1:2, found 'x'"),
        (lambda: parse_organs(["2"], 1), "--organ expects LABEL=NAME"),
        (lambda: parse_organs(["2="], 1), "--organ expects LABEL=NAME"),
        (lambda: parse_links(["2"], 1), "--same expects"),
        (lambda: parse_links(["1+2=3+4"], 1), "--same expects"),
        (lambda: parse_links(["2+2=3"], 1), "--same expects"),
        (lambda: parse_new([" "], 1), "--new-lesion expects a description"),
        (lambda: parse_dates(["2024-01-31"], 2), "--date expects N:YYYY-MM-DD"),
        (lambda: parse_dates(["2:2024-01-31"], 2), "N from 0 (the baseline) to 1"),
        (lambda: parse_dates(["0:2024-02-31"], 2), "found '0:2024-02-31'"),
        (lambda: parse_labels(["1:2"], "--target"), "--target"),
    ],
)
def test_statements_that_cannot_be_read(parse: object, said: str) -> None:
    with pytest.raises(StatementError) as error:
        parse()  # type: ignore[operator]
    assert said in str(error.value)

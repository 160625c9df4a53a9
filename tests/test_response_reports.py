"""Structured reports that are malformed or unusual: a value that is right, or one left out and named, never another."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import clmsda, refused
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from measurement_reports import GROUP, LONG, SHORT, VOLUME, axes, coded, content, group, number, raw, report
from pydicom import Dataset, dcmread

from clmsda.errors import InputError
from clmsda.response import read_time_point, read_time_points, respond
from clmsda.response.timepoints import TimePointError

UID, OTHER = "2.25.11", "2.25.22"
Item = Callable[[], Dataset]


@pytest.fixture(autouse=True)
def quiet() -> None:
    warnings.simplefilter("ignore")  # of pydicom, on writing what is malformed


def without(keyword: str) -> Callable[[Dataset], object]:
    return lambda item: delattr(item.MeasuredValueSequence[0], keyword)


def with_value(**values: object) -> Callable[[Dataset], object]:
    return lambda item: [setattr(item.MeasuredValueSequence[0], name, value) for name, value in values.items()]


def emptied(keyword: str) -> Callable[[Dataset], object]:
    return lambda item: setattr(item, keyword, [])


MALFORMED: dict[str, tuple[Item, str]] = {
    "no unit": (lambda: number(LONG, 30, edit=without("MeasurementUnitsCodeSequence")), "30 has no unit"),
    "empty unit": (lambda: number(LONG, 30, edit=with_value(MeasurementUnitsCodeSequence=[])), "30 has no unit"),
    "unit without a code": (
        lambda: number(LONG, 30, edit=with_value(MeasurementUnitsCodeSequence=[Dataset()])), "30 has no unit",
    ),
    "unit of volume": (lambda: number(LONG, 30, "mL"), "expected a value in mm, cm, m, um, found the unit 'mL'"),
    "odd unit": (lambda: number(LONG, 30, "[in_i]"), "found the unit '[in_i]'"),
    "comma": (lambda: number(LONG, 0, edit=raw(b"30,5")), "found '30,5', with a comma"),
    "text": (lambda: number(LONG, 0, edit=raw(b"about 30")), "expected a number, found 'about 30'"),
    "underscore": (lambda: number(LONG, 0, edit=raw(b"3_0")), "expected a number, found '3_0'"),
    "nan": (lambda: number(LONG, 0, edit=raw(b"nan")), "expected a number, found 'nan'"),
    "infinite": (lambda: number(LONG, 0, edit=raw(b"1e999")), "expected 0 to 1000 mm, found inf mm"),
    "infinite double": (
        lambda: number(LONG, "", edit=with_value(FloatingPointValue=float("inf"))), "expected a number, found 'inf'",
    ),
    "negative": (lambda: number(LONG, -30), "expected 0 to 1000 mm, found -30 mm"),
    "huge": (lambda: number(LONG, "1e30"), "expected 0 to 1000 mm, found 1e+30 mm"),
    "meters for millimeters": (lambda: number(LONG, 30, "m"), "expected 0 to 1000 mm, found 30 m"),
    "two numbers": (lambda: number(LONG, 0, edit=raw(b"30\\20")), "expected a number, found"),
    "no number": (lambda: number(LONG, 30, edit=without("NumericValue")), "there is no value"),
    "empty number": (lambda: number(LONG, ""), "there is no value"),
    "no value": (lambda: number(LONG, 30, edit=lambda item: delattr(item, "MeasuredValueSequence")), "is no value"),
    "empty value": (lambda: number(LONG, 30, edit=emptied("MeasuredValueSequence")), "there is no value"),
    "several values": (
        lambda: number(LONG, 30, edit=lambda item: item.MeasuredValueSequence.append(item.MeasuredValueSequence[0])),
        "expected one value, found several",
    ),
    "contradiction": (
        lambda: number(LONG, 30, edit=with_value(FloatingPointValue=20.0)), "contradict each other, 30 and 20",
    ),
    "text item": (lambda: content("TEXT", LONG, TextValue="30 mm"), "there is no value"),
    "another scheme": (lambda: number(("103339001", "99X", "Length"), 30), "its code is '103339001' of 99X"),
    "another code": (lambda: number(("L1", "99X", "Long axis"), 30), "its code is 'L1' of 99X, not 103339001 of SCT"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MALFORMED)
def test_what_cannot_be_used_is_left_out_and_named(kind: str, tmp_path: Path) -> None:
    """The lesion counts as not measured, another one stays; and if it was the only one, the report is refused."""
    make, said = MALFORMED[kind]
    bad, good = group(make(), number(SHORT, 12)), group(*axes(28, 20), uid=OTHER, text="Lesion 2")
    point = read_time_point(report(tmp_path / "two.dcm", bad, good))
    assert [(one.label, one.is_empty, one.long_axis_mm) for one in point.lesions] == [(1, True, None), (2, False, 28.0)]
    assert "lesion 1: left out the long axis: " in point.notes[0]
    assert said in point.notes[0]
    assert point.notes[1] == "lesion 1 counts as not measured, as an axis is missing"
    with pytest.raises(TimePointError) as error:
        read_time_point(report(tmp_path / "one.dcm", bad))
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert "Sally" not in str(error.value)


def test_a_volume_that_is_left_out_leaves_the_diameters(tmp_path: Path) -> None:
    volume = number(VOLUME, 11, "mm")
    point = read_time_point(report(tmp_path / "a.dcm", group(*axes(28, 20), volume)))
    assert (point.lesions[0].volume_ml, point.lesions[0].long_axis_mm) == (None, 28.0)
    assert point.notes == (
        "lesion 1: left out the volume: expected a value in mm3, cm3, ml, dl, l, found the unit 'mm'",
    )


@pytest.mark.parametrize("scheme", ["SRT", "SNM3", "99SDM"])
def test_old_codes_and_double_values_are_read(scheme: str, tmp_path: Path) -> None:
    def exact(item: Dataset) -> None:
        item.MeasuredValueSequence[0].FloatingPointValue = 2.8004

    long = number(("G-A185", scheme, "Grand axe"), "2.80", "cm", exact)
    item = group(long, number(("G-A186", scheme, ""), " 20.0 "), number(("G-D705", scheme, "V"), 11000, "mm3"))
    (lesion,) = read_time_point(report(tmp_path / "a.dcm", item)).lesions
    assert (lesion.long_axis_mm, lesion.short_axis_mm, lesion.volume_ml) == (
        pytest.approx(28.004), 20.0, pytest.approx(11.0),
    )  # fmt: skip


# ---- several groups of one lesion


@pytest.mark.parametrize("where", [{"uid": UID}, {"uid": ""}])
def test_groups_of_one_lesion_are_put_together(where: dict[str, str], tmp_path: Path) -> None:
    """By tracking UID, or, where there is none, by identifier; equal values may repeat."""
    parts = [group(number(LONG, 28), **where), group(number(SHORT, 20), number(LONG, "28.001"), **where)]
    point = read_time_point(report(tmp_path / "a.dcm", *parts, group(number(VOLUME, 9, "mL"), **where)))
    assert [(one.long_axis_mm, one.short_axis_mm, one.volume_ml) for one in point.lesions] == [(28.0, 20.0, 9.0)]
    assert point.notes == ()


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("within", [True, False])
def test_one_lesion_measured_twice_is_not_measured(order: int, within: bool, tmp_path: Path) -> None:
    """As where a report holds two time points: neither value counts, in any order, in one group or in two."""
    first, second = (axes(30, 20), axes(20, 14))[::order]
    groups = [group(*first, *second, uid=UID)] if within else [group(*first, uid=UID), group(*second, uid=UID)]
    rest = group(*axes(40, 30), uid=OTHER, text="Lesion 2")
    point = read_time_point(report(tmp_path / "a.dcm", *groups, rest))
    assert [one.is_empty for one in point.lesions] == [True, False]
    assert "lesion 1: left out the long axis: measured twice, as" in point.notes[0]
    with pytest.raises(TimePointError, match=r"measured twice, as \d0 and \d0 mm \(two scans\?\)"):
        read_time_point(report(tmp_path / "alone.dcm", *groups))


def test_several_time_points_in_one_report_are_refused(tmp_path: Path) -> None:
    def at(name: str, uid: str) -> Dataset:
        item = content("TEXT", ("C2348792", "UMLS", "Time Point"), TextValue=name)
        return group(item, *axes(30, 20), uid=uid, text=f"Lesion {uid[-1]}")

    assert len(read_time_point(report(tmp_path / "a.dcm", at("TP1", UID), at("TP1", OTHER))).lesions) == 2
    with pytest.raises(TimePointError, match="several time points"):
        read_time_point(report(tmp_path / "b.dcm", at("TP1", UID), at("TP2", OTHER)))


# ---- what surrounds the numbers


def test_measurements_outside_of_groups_are_counted(tmp_path: Path) -> None:
    stray = group(*axes(50, 40), concept=("125007", "99X", "Measurement Group"))
    point = read_time_point(report(tmp_path / "a.dcm", stray, number(VOLUME, 3, "mL"), group(*axes(28, 20))))
    assert [one.long_axis_mm for one in point.lesions] == [28.0]
    assert point.notes == ("3 lengths or volumes were left out, as they lie in no measurement group (TID 1500)",)
    with pytest.raises(TimePointError, match="holds no measurement group"):
        read_time_point(report(tmp_path / "b.dcm", stray))


def test_items_without_names_codes_and_content_are_passed_over(tmp_path: Path) -> None:
    nameless = content("NUM", None)
    empty = content("CODE", ("363698007", "SCT", "Finding Site"), ConceptCodeSequence=[])
    bare = content("CODE", ("363698007", "SCT", "Finding Site"), ConceptCodeSequence=[Dataset()])
    hollow = content("CONTAINER", GROUP)
    hollow.ContentSequence = []
    blank = Dataset()
    unnamed = content("TEXT", None)
    unnamed.ConceptNameCodeSequence = []
    item = group(nameless, empty, bare, blank, unnamed, *axes(28, 20), uid=UID)
    (lesion,) = read_time_point(report(tmp_path / "a.dcm", blank, hollow, item)).lesions
    assert (lesion.long_axis_mm, lesion.organ, lesion.tracking_uid) == (28.0, None, UID)


@pytest.mark.parametrize(
    ("code", "organ"),
    [(("39607008", "SCT", "Poumon"), "lung"), (("T-28000", "SRT", "Lung"), "lung"),
     (("10200004", "SCT", "Liver "), "liver")],
)  # fmt: skip
def test_finding_sites(code: tuple[str, str, str], organ: str, tmp_path: Path) -> None:
    site = content("CODE", ("G-C0E3", "SRT", "Finding Site"), ConceptCodeSequence=[coded(code)])
    assert read_time_point(report(tmp_path / "a.dcm", group(site, *axes(28, 20)))).lesions[0].organ == organ


def test_lesions_that_are_numbered_by_place_are_said(tmp_path: Path) -> None:
    names = [group(*axes(28, 20), text="apex"), group(*axes(18, 12), text="hilus")]
    point = read_time_point(report(tmp_path / "a.dcm", *names))
    assert [one.label for one in point.lesions] == [1, 2]
    assert "numbered by their place" in point.notes[0]
    assert read_time_point(report(tmp_path / "b.dcm", *names[:1])).notes == ()
    huge = group(*axes(28, 20), text="lesion 99999999999999999999")
    assert read_time_point(report(tmp_path / "c.dcm", huge)).lesions[0].label == 1


def test_axes_that_may_be_exchanged_are_said(tmp_path: Path) -> None:
    assert "were they exchanged?" in read_time_point(report(tmp_path / "a.dcm", group(*axes(12, 30)))).notes[0]


def test_a_copy_of_a_report_is_the_same_scan(tmp_path: Path) -> None:
    first = report(tmp_path / "a.dcm", group(*axes(28, 20)))
    (tmp_path / "b.dcm").write_bytes(first.read_bytes())
    with pytest.raises(TimePointError, match="measure the same scan"):
        read_time_points([first, tmp_path / "b.dcm"])
    (tmp_path / "c.dcm").symlink_to(first)
    with pytest.raises(TimePointError, match="are the same file"):
        read_time_points([first, tmp_path / "c.dcm"])


# ---- which lesion is which


def test_a_lesion_left_out_at_the_baseline_is_not_new_later(tmp_path: Path) -> None:
    """It was there: what cannot be read of it must not become progression."""
    bad = group(number(LONG, 0, edit=raw(b"12,5")), number(SHORT, 10), uid=UID)
    good = group(*axes(28, 20), uid=OTHER, text="Lesion 2")
    first = report(tmp_path / "a.dcm", bad, good)
    second = report(tmp_path / "b.dcm", group(*axes(13, 10), uid=UID), good, when="20240310")
    found = respond(read_time_points([first, second]))
    assert found.recist[0].overall.value == "SD"
    assert found.recist[0].new == ()
    assert any(note.startswith("a.dcm: lesion 1: left out the long axis") for note in found.notes)
    back = respond(read_time_points([report(tmp_path / "d.dcm", group(*axes(13, 10), uid=UID), good),
                                     report(tmp_path / "e.dcm", bad, good, when="20240310")]))  # fmt: skip
    assert back.recist[0].overall.value == "NE"  # neither gone nor smaller


@pytest.mark.parametrize("form", ["json", "sr"])
def test_lesions_pair_by_tracking_uid_however_they_came(form: str, tmp_path: Path) -> None:
    """Labels are exchanged, the UID (with the padding that some writers leave) tells."""
    first = report(tmp_path / "a.dcm", group(*axes(30, 20), uid=UID), group(*axes(50, 40), uid=OTHER, text="Lesion 2"))
    if form == "sr":
        second = report(
            tmp_path / "b.dcm",
            group(*axes(50, 40), uid=OTHER, text="Lesion 1"), group(*axes(30, 20), uid=UID, text="Lesion 2"),
            when="20240310",
        )  # fmt: skip
    else:
        second = tmp_path / "b.json"
        lesions = [{"label": 1, "long_axis_mm": 50.0, "short_axis_mm": 40.0, "tracking_uid": OTHER + " "},
                   {"label": 2, "long_axis_mm": 30.0, "short_axis_mm": 20.0, "tracking_uid": UID + "\0"}]  # fmt: skip
        second.write_text(json.dumps({"lesions": lesions}))
    found = respond(read_time_points([first, second]))
    assert found.matching.by == "tracking"
    assert [course.diameters_mm for course in found.courses] == [(30.0, 30.0), (50.0, 50.0)]


def test_a_lesion_without_a_tracking_uid_is_said_to_count_as_new(tmp_path: Path) -> None:
    first = report(tmp_path / "a.dcm", group(*axes(30, 20), uid=UID), group(*axes(50, 40), uid=OTHER, text="Lesion 2"))
    parts = group(*axes(50, 40), uid=OTHER, text="Lesion 2"), group(*axes(30, 20))
    found = respond(read_time_points([first, report(tmp_path / "b.dcm", *parts, when="20240310")]))
    assert any("lesion 1 has no tracking UID and counts as new" in note for note in found.notes)


# ---- on the command line, and bytes that nobody meant


def test_what_was_left_out_is_on_the_screen_and_in_the_json(tmp_path: Path) -> None:
    bad = group(number(LONG, 0, edit=raw(b"12,5")), number(SHORT, 10))
    good = group(*axes(28, 20), text="Lesion 2")
    first, second = report(tmp_path / "a.dcm", bad, good), report(tmp_path / "b.dcm", good, when="20240310")
    done = clmsda("response", first, second, "--json", tmp_path / "r.json")
    assert done.returncode == 0, done.stderr
    assert "note: a.dcm: lesion 1: left out the long axis: expected a number, found '12,5', with a comma" in done.stderr
    notes = json.loads((tmp_path / "r.json").read_text())["notes"]
    assert any(note.startswith("a.dcm: lesion 1: left out the long axis") for note in notes)
    alone = report(tmp_path / "c.dcm", bad, when="20240310")
    assert "no lesion that can be used" in refused("response", first, alone)


def read_or_refused(path: Path) -> None:
    try:
        read_time_point(path)
    except InputError as error:
        assert "\n" not in str(error)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4),
       st.one_of(st.none(), st.integers(140, 10_000)))  # fmt: skip
def test_damaged_bytes_are_read_or_refused(tmp_path: Path, spots: list[tuple[int, bytes]], end: int | None) -> None:
    content_ = bytearray(whole(tmp_path).read_bytes())
    for place, damage in spots:
        at = 132 + place % (len(content_) - 132)
        content_[at : at + len(damage)] = damage
    path = tmp_path / "damaged.dcm"
    path.write_bytes(content_[:end])
    read_or_refused(path)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=5))
def test_missing_attributes_are_read_or_refused(tmp_path: Path, gone: list[int]) -> None:
    dataset = dcmread(whole(tmp_path))
    for number_ in gone:
        places = list(elements(dataset))
        owner, tag = places[number_ % len(places)]
        del owner[tag]
    dataset.save_as(tmp_path / "less.dcm", enforce_file_format=False)
    read_or_refused(tmp_path / "less.dcm")


def whole(folder: Path) -> Path:
    site = content(
        "CODE", ("363698007", "SCT", "Finding Site"), ConceptCodeSequence=[coded(("39607008", "SCT", "Lung"))]
    )
    parts = group(site, *axes("28.5", 20), number(VOLUME, 9, "mL"), uid=UID), group(*axes(8, 7), text="Lesion 2")
    return report(folder / "whole.dcm", *parts)


def elements(dataset: Dataset) -> list[tuple[Dataset, int]]:
    """Every element of a data set and of what it holds, with the data set that it stands in."""
    found = []
    for element in dataset:
        found.append((dataset, int(element.tag)))
        for item in element.value if element.VR == "SQ" else ():
            found += elements(item)
    return found


def test_content_that_is_nested_without_end_is_refused(tmp_path: Path) -> None:
    item = group(*axes(28, 20))
    for _ in range(40):
        item = content("CONTAINER", ("1", "99X", "more"), [item])
    assert read_time_point(report(tmp_path / "deep.dcm", item)).lesions[0].long_axis_mm == 28.0
    encoded = (tmp_path / "deep.dcm").read_bytes()
    start = b"\x40\x00\x30\xa7SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    (tmp_path / "deeper.dcm").write_bytes(encoded[: encoded.index(b"\x40\x00\x30\xa7")] + start * 50_000)
    with pytest.raises(TimePointError, match="truncated or damaged"):
        read_time_point(tmp_path / "deeper.dcm")

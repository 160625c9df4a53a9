"""Which lesion is which: every lesion of the baseline followed through the later scans, and what is new there.

Lesions are matched by tracking UID or by label (by name, where both files name all lesions), and where the reader says
so (`Statements.links`). A lesion that a follow-up's file lacks, or where nothing was found, counts as not measured:
only the reader can say that it is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from clmsda.response.courses import PATHOLOGICAL_NODE_MM, TOO_SMALL_MM, Course, NewLesion, Sighting, State
from clmsda.response.statements import LUNG, NODE, Link, Place, StatementError, Statements, organ_name
from clmsda.response.timepoints import Lesion, TimePoint, TimePointError

By = Literal["tracking", "label"]

MISPLACED_MM = 50.0
"""A lesion that moved so much farther than the others may be another one; breathing moves a lesion by 30 mm at most."""


_NOT_NEW = "the reader does not count it as new"


@dataclass(frozen=True)
class Matching:
    """by: how lesions were matched. notes: what the reader should look at."""

    by: By
    courses: tuple[Course, ...]
    new: tuple[NewLesion, ...]
    notes: tuple[str, ...]


def follow(points: Sequence[TimePoint], statements: Statements, by: By | None = None) -> Matching:
    """Follow the baseline's lesions through the later time points.

    by: "tracking" or "label"; None takes tracking UIDs where every follow-up shares one with the baseline, else labels,
    or names where every lesion of both scans has one and they share some: a region's number may differ between files.

    Raises TimePointError where `by` is "tracking" and a follow-up shares none, StatementError for a
    statement about a lesion that is not there or that contradicts what was measured.
    """
    baseline, follow_ups = points[0], points[1:]
    strangers = [point for point in follow_ups if point.lesions and not _uids(point) & _uids(baseline)]
    if by == "tracking" and strangers:
        point = strangers[0]
        raise TimePointError(
            f"{point.source} shares no tracking UID with {baseline.source}: use --match label, or name each lesion "
            "with --same"
        )
    names = by is None
    by = by or ("label" if strangers or not any(point.lesions for point in follow_ups) else "tracking")
    _check(points, statements)
    organs = {lesion.label: _organ(lesion, (0, lesion.label), statements) for lesion in baseline.lesions}
    sightings = {lesion.label: [_seen([lesion])] for lesion in baseline.lesions}
    new: list[NewLesion] = []
    notes: list[str] = []
    for point in follow_ups:
        found = _assign(
            baseline, point, statements, "name" if names and by == "label" and _named(baseline, point) else by
        )
        _check_matched(point, found, statements, organs)
        for label, sighting in _sight(point, found, statements, baseline).items():
            sightings[label].append(sighting)
        new += _new(point, found, statements)
        notes += [*_strangers(baseline, point, found), *_misplaced(baseline, point, found)]
        notes += _unnamed(point, found) if by == "tracking" else []
    courses = [
        Course(lesion.label, organs[lesion.label], tuple(sightings[lesion.label]), lesion.tracking_uid)
        for lesion in baseline.lesions
    ]
    return Matching(by, tuple(courses), tuple(new + _grown_nodes(courses, statements)), tuple(notes))


def _uids(point: TimePoint) -> set[str]:
    return {lesion.tracking_uid for lesion in point.lesions if lesion.tracking_uid}


def _named(baseline: TimePoint, point: TimePoint) -> bool:
    """Whether names tell which lesion is which: each has one of its own in its scan, and some are in both."""
    names = [[(lesion.name or "").strip().casefold() for lesion in scan.lesions] for scan in (baseline, point)]
    alone = all(all(own) and len(set(own)) == len(own) for own in names)
    return alone and bool(set(names[0]) & set(names[1]))


def _strangers(baseline: TimePoint, point: TimePoint, links: Sequence[Link]) -> list[str]:
    """A scan whose lesions all seem to be others than the baseline's: most likely they are not."""
    if links or not any(not lesion.is_empty for lesion in point.lesions):
        return []
    return [
        f"{point.name}: no lesion of {point.source} is called or numbered like one of {baseline.source}, so all of "
        "them count as new: say which is which with --same"
    ]


def _organ(lesion: Lesion, place: Place, statements: Statements) -> str:
    return organ_name(statements.organs.get(place) or lesion.organ or LUNG)


def _assign(
    baseline: TimePoint, point: TimePoint, statements: Statements, by: By | Literal["name"]
) -> tuple[Link, ...]:
    """What of a follow-up's file is what of the baseline's: the reader's links first, then by UID, name or label."""
    links = [link for link in statements.links if link.follow_up == point.number]
    known = {label for link in links for label in link.baseline}
    taken = {label for link in links for label in link.found}
    for lesion in baseline.lesions:
        for other in point.lesions:
            if _same(lesion, other, by) and lesion.label not in known and other.label not in taken:
                links.append(Link(point.number, (other.label,), (lesion.label,)))
                known.add(lesion.label)
                taken.add(other.label)
    return tuple(links)


def _same(lesion: Lesion, other: Lesion, by: By | Literal["name"]) -> bool:
    if by == "tracking":
        return lesion.tracking_uid is not None and other.tracking_uid == lesion.tracking_uid
    if by == "name":
        return (lesion.name or "").strip().casefold() == (other.name or "").strip().casefold()
    return other.label == lesion.label


def _sight(point: TimePoint, links: Iterable[Link], statements: Statements, baseline: TimePoint) -> dict[int, Sighting]:
    """Every baseline lesion at a follow-up."""
    seen: dict[int, Sighting] = {}
    for link in links:
        parts = [one for one in map(point.lesion, link.found) if one is not None and not one.is_empty]
        if not parts:
            continue
        first, *others = link.baseline
        seen[first] = _seen(parts, merged=tuple(others))
        seen |= {other: Sighting(State.ABSORBED, link.found, 0.0, 0.0, 0.0, (first,)) for other in others}
    for lesion in baseline.lesions:
        said = _said(point, lesion.label, statements, is_measured=lesion.label in seen)
        seen.setdefault(lesion.label, said or Sighting(State.NOT_MEASURED))
    return seen


def _said(point: TimePoint, label: int, statements: Statements, *, is_measured: bool) -> Sighting | None:
    """What the reader says of a lesion that was not measured."""
    place = (point.number, label)
    gone, too_small = place in statements.gone, place in statements.too_small
    if (gone and too_small) or ((gone or too_small) and is_measured):
        option = "--gone" if gone else "--too-small"
        why = f"it is measured in {point.source}" if is_measured else "it cannot be gone and too small"
        raise StatementError(f"{option} {point.number}:{label}: {why}; leave out one of the two")
    if gone:
        return Sighting(State.GONE, (), 0.0, 0.0, 0.0)
    return Sighting(State.TOO_SMALL, (), TOO_SMALL_MM, TOO_SMALL_MM) if too_small else None


def _seen(parts: Sequence[Lesion], merged: tuple[int, ...] = ()) -> Sighting:
    """One lesion, or the parts of one that has split: their diameters and volumes add up (section 4.3.2)."""
    if all(part.is_empty for part in parts):
        return Sighting(State.NOT_MEASURED, tuple(part.label for part in parts))
    volumes = [part.volume_ml for part in parts]
    return Sighting(
        State.SPLIT if len(parts) > 1 else State.MERGED if merged else State.MEASURED,
        tuple(part.label for part in parts),
        sum(part.long_axis_mm or 0.0 for part in parts),
        sum(part.short_axis_mm or 0.0 for part in parts),
        None if None in volumes else sum(volume or 0.0 for volume in volumes),
        merged,
    )


def _new(point: TimePoint, links: Iterable[Link], statements: Statements) -> list[NewLesion]:
    """The lesions of a follow-up that are none of the baseline's, and those that the reader adds."""
    taken = {label for link in links for label in link.found}
    found = []
    for lesion in point.lesions:
        if lesion.label in taken or lesion.is_empty:
            continue
        place = (point.number, lesion.label)
        organ = _organ(lesion, place, statements)
        remark = ""
        if place in statements.not_new:
            remark = _NOT_NEW
        elif organ == NODE and (lesion.short_axis_mm or 0.0) < PATHOLOGICAL_NODE_MM:
            remark = "a node with a short axis below 10 mm is not pathological"
        axes = lesion.long_axis_mm, lesion.short_axis_mm
        name = f"lesion {lesion.label}"
        found.append(NewLesion(point.number, name, organ, *axes, lesion.volume_ml, not remark, remark))
    added = [NewLesion(number, text, "") for number, text in statements.new if number == point.number]
    return found + added


def _grown_nodes(courses: Iterable[Course], statements: Statements) -> list[NewLesion]:
    """Nodes that were normal at the baseline and are pathological now: new lesions, says the Working Group."""
    found = []
    for course in courses:
        for number, (sighting, size_mm) in enumerate(zip(course.sightings, course.diameters_mm, strict=True)):
            if number and course.is_normal_node and size_mm is not None and size_mm >= PATHOLOGICAL_NODE_MM:
                name = f"lesion {course.label}, {course.diameters_mm[0]:.1f} mm at the baseline"
                remark = _NOT_NEW * any((number, label) in statements.not_new for label in sighting.labels)
                axes = sighting.long_axis_mm, sighting.short_axis_mm
                found.append(NewLesion(number, name, NODE, *axes, sighting.volume_ml, not remark, remark))
    return found


def _misplaced(baseline: TimePoint, point: TimePoint, links: Iterable[Link]) -> list[str]:
    """Lesions that moved much farther than the others, as when two labels are exchanged."""
    moves: dict[int, np.ndarray] = {}
    for link in links:
        before, after = baseline.lesion(link.baseline[0]), point.lesion(link.found[0])
        alone = len(link.found) == len(link.baseline) == 1
        if alone and before and after and before.center_lps and after.center_lps:
            moves[link.baseline[0]] = np.subtract(after.center_lps, before.center_lps)
    if len(moves) < 2:
        return []
    middle = np.median(list(moves.values()), axis=0)
    far = {label: float(np.linalg.norm(move - middle)) for label, move in moves.items()}
    return [
        f"{point.name}: lesion {label} lies {far_mm:.0f} mm from where the other lesions' shift puts it: "
        "is it the same lesion? Labels may have been exchanged"
        for label, far_mm in far.items()
        if far_mm > MISPLACED_MM
    ]


def _unnamed(point: TimePoint, links: Iterable[Link]) -> list[str]:
    """Lesions that could not be matched by tracking UID, as they have none."""
    taken = {label for link in links for label in link.found}
    labels = [str(one.label) for one in point.lesions if not (one.tracking_uid or one.is_empty or one.label in taken)]
    if not labels:
        return []
    return [
        f"{point.name}: lesion {', '.join(labels)} has no tracking UID and counts as new: if it is one of the "
        "baseline, say --same, or --match label"
    ]


def _check(points: Sequence[TimePoint], statements: Statements) -> None:
    """Refuse statements about lesions that are not there."""
    baseline = points[0]
    for option, labels in (
        ("--target", statements.targets),
        ("--gone", [label for _, label in statements.gone]),
        ("--too-small", [label for _, label in statements.too_small]),
        ("--progression", [label for _, label in statements.progressing]),
        ("--same", [label for link in statements.links for label in link.baseline]),
        ("--organ", [label for number, label in statements.organs if number == 0]),
    ):
        _check_labels(option, labels, baseline)
    for point in points[1:]:
        own = [link for link in statements.links if link.follow_up == point.number]
        _check_labels("--same", [label for link in own for label in link.found], point)
        _check_labels("--not-new", [label for number, label in statements.not_new if number == point.number], point)
        _check_labels("--organ", [label for number, label in statements.organs if number == point.number], point)
        for side in (
            [label for link in own for label in link.found],
            [label for link in own for label in link.baseline],
        ):
            twice = {label for label in side if side.count(label) > 1}
            if twice:
                raise StatementError(f"--same: lesion {min(twice)} is named twice for {point.name}: name it once")


def _check_matched(point: TimePoint, links: Iterable[Link], statements: Statements, organs: Mapping[int, str]) -> None:
    """Refuse what is said of a new lesion where the lesion is one of the baseline's. organs: of those."""
    for link in links:
        for label in link.found:
            place = (point.number, label)
            for option, is_said in (
                ("--organ", place in statements.organs),
                (
                    "--not-new",
                    place in statements.not_new and organs[link.baseline[0]] != NODE,
                ),  # a node may have grown
            ):
                if is_said:
                    raise StatementError(
                        f"{option} {point.number}:{label}: it is not new, but lesion {link.baseline[0]} of the "
                        "baseline: leave it out, or speak of that one"
                    )


def _check_labels(option: str, labels: Iterable[int], point: TimePoint) -> None:
    known = {lesion.label for lesion in point.lesions}
    missing = sorted(set(labels) - known)
    if missing:
        have = ", ".join(map(str, sorted(known)))
        raise StatementError(f"{option}: there is no lesion {missing[0]} in {point.source}, only {have}")

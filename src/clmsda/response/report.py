"""The response of one patient: RECIST 1.1 and volumes at every follow-up, and what the reader should beware of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from clmsda.response.courses import Course, NewLesion, State
from clmsda.response.matching import By, Matching, follow
from clmsda.response.recist import Assessment, Targets, assess, best_response, choose_targets
from clmsda.response.statements import LUNG, Statements
from clmsda.response.timepoints import TimePoint, days_between, facts_to_json
from clmsda.response.volumes import (
    DIAMETER_LIMIT,
    PARTIAL_VOLUME,
    PROGRESS_VOLUME,
    VolumeChange,
    VolumeResponse,
    volume_changes,
    volume_responses,
)

SOURCES = {
    "criteria": (
        "RECIST 1.1, responses not confirmed; Eisenhauer EA et al. Eur J Cancer 2009;45(2):228-247, recist.eortc.org"
    ),
    "response_by_volume": (
        f"no agreed criterion: RECIST's limits extrapolated to a sphere, -{PARTIAL_VOLUME:.1%} and "
        f"+{PROGRESS_VOLUME:.1%}"
    ),
    "repeatability_of_diameters": "8 %, Zhao B et al. Radiology 2009;252(1):263-272 (same-day scans, computer-aided)",
    "repeatability_of_volumes": (
        "39, 29, 24 % for 10-34, 35-49, 50-100 mm, QIBA profile CT Tumor Volume Change for Advanced Disease, 2018 "
        "(same scanner, protocol and software)"
    ),
    "repeatability_of_clmsda": "not measured on repeated scans, and may be worse than the published figures",
}
NOTICE = "For research use only. Not for clinical decisions."


@dataclass(frozen=True)
class Report:
    """points: the baseline first. recist, volumes: one per follow-up. changes: per lesion and follow-up."""

    points: tuple[TimePoint, ...]
    matching: Matching
    targets: Targets
    recist: tuple[Assessment, ...]
    volumes: tuple[VolumeResponse, ...]
    changes: tuple[VolumeChange, ...]
    notes: tuple[str, ...]

    @property
    def courses(self) -> tuple[Course, ...]:
        return self.matching.courses

    def change_of(self, label: int, number: int) -> VolumeChange:
        """The change in volume of a lesion at a follow-up."""
        return next(one for one in self.changes if (one.label, one.follow_up) == (label, number))

    def to_json(self) -> dict[str, Any]:
        """Lengths to 0.01 mm, volumes to 0.001 ml, changes in percent to 0.1, times in days to 0.1."""
        return {
            "notice": NOTICE,
            "sources": SOURCES,
            "matched_by": self.matching.by,
            "time_points": [facts_to_json(point) for point in self.points],
            "lesions": [self._lesion(course) for course in self.courses],
            "follow_ups": [self._follow_up(index) for index in range(len(self.recist))],
            "best_response": best_response(self.recist).value,
            "notes": list(self.notes),
        }

    def _lesion(self, course: Course) -> dict[str, Any]:
        is_target = course.label in self.targets.labels
        return {
            "label": course.label,
            "tracking_uid": course.tracking_uid,
            "organ": course.organ,
            "target": is_target,
            "why_not": None if is_target else self.targets.reasons[course.label],
            "time_points": [self._sighting(course, number) for number in range(len(self.points))],
        }

    def _sighting(self, course: Course, number: int) -> dict[str, Any]:
        sighting, diameters = course.sightings[number], course.diameters_mm
        found: dict[str, Any] = {
            "state": sighting.state.value,
            "labels": list(sighting.labels),
            "merged_with": list(sighting.merged),
            "diameter_mm": _round(diameters[number], 2),
            "volume_ml": _round(sighting.volume_ml, 3),
        }
        if number:
            change = self.change_of(course.label, number)
            found |= {
                "diameter_change_percent": _percent(diameter_change(course, number)),
                "diameter_within_repeatability": within_diameter_limit(diameter_change(course, number)),
                **_volume_json(change),
            }
        return found

    def _follow_up(self, index: int) -> dict[str, Any]:
        recist, volume = self.recist[index], self.volumes[index]
        return {
            "name": self.points[recist.follow_up].name,
            "days": days_between(self.points[0], self.points[recist.follow_up]),
            "overall_response": recist.overall.value,
            "target_response": recist.target.value if recist.target else None,
            "non_target_response": recist.non_target.value if recist.non_target else None,
            "new_lesions": [_new_json(one) for one in recist.new],
            "sum_mm": _round(recist.sum_mm, 2),
            "targets_not_measured": list(recist.missing),
            "baseline_sum_mm": _round(recist.baseline_mm, 2),
            "smallest_earlier_sum_mm": _round(recist.nadir_mm, 2),
            "change_from_baseline_percent": _percent(recist.from_baseline),
            "change_from_smallest_percent": _percent(recist.from_nadir),
            "sum_within_repeatability": within_diameter_limit(recist.from_baseline),
            "reasons": list(recist.reasons),
            "volume": {
                "response_extrapolated": volume.response.value,
                "total_ml": _round(volume.total.volume_ml, 3),
                "baseline_ml": _round(volume.total.baseline_ml, 3),
                "smallest_earlier_ml": _round(volume.nadir_ml, 3),
                "not_measured": list(volume.missing),
                **_volume_json(volume.total),
            },
        }


def respond(points: Sequence[TimePoint], statements: Statements | None = None, *, by: By | None = None) -> Report:
    """RECIST 1.1 and volumetric response of a baseline and its follow-ups.

    statements: what the reader says beyond the measurements. by: "tracking" or "label"; see `matching.follow`.
    Raises StatementError, TimePointError.
    """
    statements = statements or Statements()
    at_baseline = follow(points[:1], replace(statements, links=()), by="label")
    targets = choose_targets(at_baseline.courses, points[0].slice_mm, statements.targets)
    # of lesions that merge, a target carries the diameter, so that the sum keeps it
    links = [
        replace(link, baseline=tuple(sorted(link.baseline, key=lambda label: label not in targets.labels)))
        for link in statements.links
    ]
    matching = follow(points, replace(statements, links=tuple(links)), by)
    courses, new = matching.courses, matching.new
    return Report(
        tuple(points),
        matching,
        targets,
        assess(courses, targets.labels, new, statements),
        volume_responses(courses, points, new),
        volume_changes(courses, points),
        tuple(_notes(points, matching, targets, statements)),
    )


def diameter_change(course: Course, number: int) -> float | None:
    """The change of a lesion's diameter from the baseline, as a fraction; None where it is not defined."""
    first, now = course.diameters_mm[0], course.diameters_mm[number]
    alone = course.sightings[number].state not in (State.MERGED, State.ABSORBED)
    return now / first - 1 if alone and first and now is not None else None


def within_diameter_limit(change: float | None) -> bool | None:
    return None if change is None else abs(change) < DIAMETER_LIMIT


def _notes(points: Sequence[TimePoint], matching: Matching, targets: Targets, statements: Statements) -> list[str]:
    notes = [f"{point.source}: {note}" for point in points for note in point.notes]
    notes += matching.notes
    if not targets.labels:
        notes.append("no lesion is measurable at the baseline: only non-target lesions are assessed (table 2)")
    empty = [str(course.label) for course in matching.courses if course.sightings[0].state == State.NOT_MEASURED]
    if empty:
        notes.append(
            f"nothing was found at the baseline for lesion {', '.join(empty)}: no target, and no change can be given; "
            "if it is new at a follow-up, say --new-lesion"
        )
    unknown = [point.source for point in points if point.patient_check is None and point.lesions]
    if unknown:
        notes.append(f"whether all scans are of one patient was not checked: {', '.join(unknown)} names none")
    undated = [point.source for point in points if point.date is None]
    if undated:
        notes.append(f"no date in {', '.join(undated)}: order as given, no doubling times; say --date N:YYYY-MM-DD")
    slices = {point.slice_mm for point in points}
    if points[0].slice_mm is None:
        notes.append(
            "the baseline's slice thickness is not known: lesions from 10 mm (nodes 15 mm) count as measurable"
        )
    if len(slices - {None}) > 1:
        thick = ", ".join(f"{point.name} {point.slice_mm:g} mm" for point in points if point.slice_mm)
        notes.append(f"slice thickness differs ({thick}): repeatability holds for one protocol only")
    if any(course.organ == LUNG for course in matching.courses) and not statements.organs:
        notes.append("lesions without another organ count as lung: at most two targets; nodes and others by --organ")
    return notes


def _new_json(lesion: NewLesion) -> dict[str, Any]:
    return {
        "name": lesion.name,
        "organ": lesion.organ or None,
        "long_axis_mm": _round(lesion.long_axis_mm, 2),
        "short_axis_mm": _round(lesion.short_axis_mm, 2),
        "volume_ml": _round(lesion.volume_ml, 3),
        "counts": lesion.counts,
        "remark": lesion.remark or None,
    }


def _volume_json(change: VolumeChange) -> dict[str, Any]:
    growth = change.growth
    return {
        "volume_change_percent": _percent(change.change),
        "volume_repeatability_percent": _percent(change.limit),
        "volume_within_repeatability": change.is_repeatable,
        "since_scan_before": {
            "days": growth.days,
            "volume_change_percent": _percent(growth.change),
            "volume_repeatability_percent": _percent(growth.limit),
            "volume_within_repeatability": growth.is_repeatable,
            "doubling_time_days": _round(growth.doubling_days, 1),
        }
        if growth
        else None,
    }


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else round(100 * fraction, 1)


def _round(number: float | None, digits: int) -> float | None:
    return None if number is None else round(number, digits)

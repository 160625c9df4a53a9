"""RECIST 1.1 for lesions that were followed through time.

Sections and tables are of the guideline: Eisenhauer EA, Therasse P, Bogaerts J, et al. New response evaluation criteria
in solid tumours: revised RECIST guideline (version 1.1). Eur J Cancer 2009;45(2):228-247. The RECIST Working Group's
answers to questions are at recist.eortc.org.

A response at one time point is not confirmed: whether it must be, 4 weeks later, is for the trial to say (section 4.6).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from clmsda.response.courses import Course, NewLesion, State
from clmsda.response.statements import NODE, StatementError, Statements

MEASURABLE_MM, MEASURABLE_NODE_MM, THICK_SLICE_MM = 10.0, 15.0, 5.0
"""Section 3.1.1: smallest longest diameter, smallest short axis of a node, thickest slices for which these hold."""
MOST_TARGETS, MOST_PER_ORGAN = 5, 2
"""Section 4.2."""
PARTIAL, PROGRESS, PROGRESS_MM = 0.30, 0.20, 5.0
"""Section 4.3.1: fall from the baseline's sum; rise from the smallest sum, relative and absolute."""

_EXACT = 1e-9
"""A sum of decimal fractions may miss a limit in the last bit: 70.0 of 100.0 is a fall of 30 %."""


class Response(StrEnum):
    """NON: non-target lesions that are neither gone nor progressing (non-CR/non-PD)."""

    CR = "CR"
    PR = "PR"
    SD = "SD"
    PD = "PD"
    NE = "NE"
    NON = "non-CR/non-PD"


@dataclass(frozen=True)
class Targets:
    """labels: in the order of choice. reasons: why each other lesion is no target."""

    labels: tuple[int, ...]
    reasons: dict[int, str]


@dataclass(frozen=True)
class Assessment:
    """RECIST at one follow-up. Sums in mm, changes as fractions.

    sum_mm: of the targets that were measured; `missing` names the others. nadir_mm: the smallest whole sum before
    this time point, the baseline's included. non_target: None where there is no such lesion. reasons: in words.
    """

    follow_up: int
    sum_mm: float
    missing: tuple[int, ...]
    baseline_mm: float
    nadir_mm: float
    target: Response | None
    non_target: Response | None
    new: tuple[NewLesion, ...]
    overall: Response
    reasons: tuple[str, ...]

    @property
    def from_baseline(self) -> float | None:
        return None if self.missing or not self.baseline_mm else self.sum_mm / self.baseline_mm - 1

    @property
    def from_nadir(self) -> float | None:
        return None if self.missing or not self.nadir_mm else self.sum_mm / self.nadir_mm - 1


def unmeasurable(course: Course, slice_mm: float | None) -> str:
    """Why a lesion of the baseline is not measurable, or nothing.

    Section 3.1.1 and appendix II: at least 10 mm on slices of at most 5 mm, on thicker ones twice their thickness; a
    node's short axis at least 15 mm, and twice the thickness likewise.
    """
    size_mm = course.diameters_mm[0]
    if size_mm is None:
        return "nothing was measured at the baseline"
    least_mm = MEASURABLE_NODE_MM if course.is_node else MEASURABLE_MM
    axis = "short axis" if course.is_node else "long axis"
    why = ""
    if slice_mm is not None and slice_mm > THICK_SLICE_MM + _EXACT and 2 * slice_mm > least_mm:
        least_mm, why = 2 * slice_mm, f", twice the slice thickness of {slice_mm:g} mm"
    if size_mm >= least_mm - _EXACT:
        return ""
    return f"not measurable: {axis} {size_mm:.1f} mm, needed {least_mm:g} mm{why}"


def choose_targets(courses: Sequence[Course], slice_mm: float | None, chosen: Sequence[int] = ()) -> Targets:
    """At most five measurable lesions, at most two per organ, the largest first, every organ represented (section 4.2).

    chosen: by the reader instead. Raises StatementError where those break a rule.
    """
    reasons = {course.label: reason for course in courses if (reason := unmeasurable(course, slice_mm))}
    by_size = sorted(courses, key=lambda course: (-(course.diameters_mm[0] or 0.0), course.label))
    by_label = {course.label: course for course in courses}
    if chosen:
        for label in chosen:
            if label in reasons:
                raise StatementError(f"--target {label}: {reasons[label]}")
        labels = tuple(dict.fromkeys(chosen))
        organs = [by_label[label].organ for label in labels]
        crowded = [organ for organ in organs if organs.count(organ) > MOST_PER_ORGAN]
        if len(labels) > MOST_TARGETS or crowded:
            found = f"{organs.count(crowded[0])} in {crowded[0]}" if crowded else f"{len(labels)}"
            raise StatementError(
                f"--target: RECIST takes at most {MOST_TARGETS} lesions and {MOST_PER_ORGAN} per organ, found {found}: "
                "leave some out, or name their organs with --organ"
            )
    else:
        ranks = _ranks([course for course in by_size if course.label not in reasons])
        labels = tuple(sorted(ranks, key=lambda label: ranks[label])[:MOST_TARGETS])
        labels = tuple(label for label in labels if ranks[label][0] < MOST_PER_ORGAN)
    for course in by_size:
        if course.label not in labels and course.label not in reasons:
            same = sum(by_label[label].organ == course.organ for label in labels)
            full = same >= MOST_PER_ORGAN and not chosen
            reasons[course.label] = (
                "not chosen by the reader" if chosen
                else f"{MOST_PER_ORGAN} larger targets in {course.organ}" if full
                else f"{MOST_TARGETS} targets already"
            )  # fmt: skip
    return Targets(labels, reasons)


def _ranks(by_size: Iterable[Course]) -> dict[int, tuple[int, int]]:
    """For each lesion its rank within its organ, then over all: every organ's largest comes before any second one."""
    seen: dict[str, int] = {}
    ranks = {}
    for place, course in enumerate(by_size):
        ranks[course.label] = (seen.get(course.organ, 0), place)
        seen[course.organ] = ranks[course.label][0] + 1
    return ranks


def assess(
    courses: Sequence[Course], targets: Sequence[int], new: Sequence[NewLesion], statements: Statements
) -> tuple[Assessment, ...]:
    """RECIST at every follow-up. Raises StatementError for a progressing lesion that is a target."""
    chosen = [course for course in courses if course.label in targets]
    others = [course for course in courses if course.label not in targets and not course.is_normal_node]
    for number, label in sorted(statements.progressing):
        if label in targets:
            raise StatementError(f"--progression {number}:{label}: lesion {label} is a target; its sum decides")
    found: list[Assessment] = []
    for number in range(1, len(courses[0].sightings)):
        own = tuple(one for one in new if one.follow_up == number)
        progressing = [label for n, label in sorted(statements.progressing) if n == number]
        found.append(_assess_one(number, chosen, others, own, progressing, found))
    return tuple(found)


def _assess_one(
    number: int,
    targets: Sequence[Course],
    others: Sequence[Course],
    new: tuple[NewLesion, ...],
    progressing: Sequence[int],
    before: Sequence[Assessment],
) -> Assessment:
    baseline_mm = sum_of(targets, 0)
    nadir_mm = min([baseline_mm, *(one.sum_mm for one in before if not one.missing)])
    was_complete = any(one.overall == Response.CR for one in before)
    target, reasons = _target(number, targets, nadir_mm, was_complete) if targets else (None, [])
    non_target, more = _non_target(number, others, progressing, was_complete) if others else (None, [])
    of_lesions = overall_response(target, non_target)
    counted = [one for one in new if one.counts]
    overall = Response.PD if counted else of_lesions
    reasons += more
    if target == Response.CR and of_lesions == Response.PR:
        reasons.append("but non-target lesions remain" if non_target == Response.NON else "so no complete response")
    reasons += [f"new lesion: {one}" for one in counted]
    reasons += [f"not counted as new: {one}: {one.remark}" for one in new if not one.counts]
    if overall == Response.SD and any(one.overall in (Response.CR, Response.PR) for one in before):
        reasons.append("after an earlier response the RECIST Working Group calls this a continuing response")
    if counted and of_lesions != Response.PD and all(_is_small_node(one) for one in counted):
        reasons.append(
            "the only sign of progression is a node below 15 mm: the RECIST Working Group suggests to look again at "
            "the next scan"
        )
    return Assessment(
        number,
        sum_of(targets, number),
        _missing(targets, number),
        baseline_mm,
        nadir_mm,
        target,
        non_target,
        new,
        overall,
        tuple(reasons),
    )


def sum_of(targets: Iterable[Course], number: int) -> float:
    """The sum of diameters of the targets that were measured at a time point."""
    return float(sum(course.diameters_mm[number] or 0.0 for course in targets))


def _missing(targets: Iterable[Course], number: int) -> tuple[int, ...]:
    return tuple(course.label for course in targets if course.diameters_mm[number] is None)


def _is_small_node(lesion: NewLesion) -> bool:
    return lesion.organ == NODE and (lesion.short_axis_mm or 0.0) < MEASURABLE_NODE_MM


def _target(number: int, targets: Sequence[Course], nadir_mm: float, was_complete: bool) -> tuple[Response, list[str]]:
    """Sections 4.3.1 and 4.4.2, and why."""
    baseline_mm, sum_mm, missing = sum_of(targets, 0), sum_of(targets, number), _missing(targets, number)
    named = ", ".join(map(str, missing))
    rise_mm, fall_mm = sum_mm - nadir_mm, baseline_mm - sum_mm
    rise = f"{rise_mm:.1f} mm" + (f" ({rise_mm / nadir_mm:+.1%})" if nadir_mm else "")
    counted = [course for course in targets if course.sightings[number].state != State.ABSORBED]
    if was_complete and any(course.diameters_mm[number] and not course.is_gone(number) for course in counted):
        return Response.PD, ["a target lesion has come back after a complete response"]
    if not missing and all(course.is_gone(number) for course in counted):
        nodes = ", nodes below 10 mm" * any(course.is_node for course in targets)
        return Response.CR, [f"every target lesion is gone{nodes}"]
    steep = rise_mm > _EXACT and rise_mm >= PROGRESS * nadir_mm - _EXACT
    if steep and rise_mm >= PROGRESS_MM - _EXACT:
        reasons = [f"sum {sum_mm:.1f} mm, {rise} above the smallest sum of {nadir_mm:.1f} mm"]
        return Response.PD, reasons + [f"even without target {named}, which was not measured"] * bool(missing)
    if missing:
        return Response.NE, [
            f"target {named} was not measured: say --gone if it has disappeared, --too-small if it is there"
        ]
    if fall_mm >= PARTIAL * baseline_mm - _EXACT:
        reasons = [f"sum {sum_mm:.1f} mm, {fall_mm / baseline_mm:.1%} below the baseline's {baseline_mm:.1f} mm"]
        return Response.PR, reasons + [f"{rise} above the smallest sum, which is no 5 mm"] * steep
    reasons = [f"sum {sum_mm:.1f} mm, {-fall_mm / baseline_mm:+.1%} from the baseline's {baseline_mm:.1f} mm"]
    return Response.SD, reasons + [f"{rise} above the smallest sum, which is no 5 mm"] * steep


def _non_target(
    number: int, others: Sequence[Course], progressing: Sequence[int], was_complete: bool
) -> tuple[Response, list[str]]:
    """Section 4.3.3, and why: lesions are present or absent, their progression is the reader's word."""
    if progressing:
        named = ", ".join(map(str, progressing))
        return Response.PD, [f"unequivocal progression of non-target lesion {named}, says the reader"]
    seen = [course for course in others if course.sightings[number].state != State.NOT_MEASURED]
    there = [course for course in seen if not course.is_gone(number)]
    if there and was_complete:
        return Response.PD, ["a non-target lesion has come back after a complete response"]
    if there:
        return Response.NON, [reason for course in there if (reason := _growth_to_judge(course, number))]
    if len(seen) < len(others):
        return Response.NE, ["non-target lesions were not all assessed"]
    return Response.CR, []


def _growth_to_judge(course: Course, number: int) -> str:
    """Section 4.3.4: growth that would be progression of a target is for the reader to judge, with all the rest."""
    earlier = [size_mm for size_mm in course.diameters_mm[:number] if size_mm is not None]
    size_mm = course.diameters_mm[number]
    if not earlier or size_mm is None:
        return ""
    rise_mm = size_mm - min(earlier)
    if rise_mm < max(PROGRESS_MM, PROGRESS * min(earlier)) - _EXACT:
        return ""
    grown = f"non-target lesion {course.label} grew from {min(earlier):.1f} to {size_mm:.1f} mm"
    return f"{grown}: if that is unequivocal progression, say --progression"


def overall_response(target: Response | None, non_target: Response | None) -> Response:
    """Tables 1 and 2 for a time point without new lesions; None where there are no lesions of that kind."""
    if Response.PD in (target, non_target):
        return Response.PD
    if target is None:
        return non_target or Response.NE
    if target == Response.CR and non_target not in (None, Response.CR):
        return Response.PR
    return target


def best_response(assessments: Iterable[Assessment]) -> Response:
    """The best overall response before and at the first progression, unconfirmed (section 4.4.3)."""
    order = [Response.CR, Response.PR, Response.SD, Response.NON, Response.PD, Response.NE]
    best = Response.NE
    for one in assessments:
        best = min(best, one.overall, key=order.index)
        if one.overall == Response.PD:
            break
    return best

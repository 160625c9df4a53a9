"""How volumes change between scans, how fast, and whether the change is more than measuring twice would show.

Response by volume has no agreed thresholds. Those here are RECIST's for diameters, carried over to a sphere: a fall of
30 % in diameter is one of 65.7 % in volume, a rise of 20 % one of 72.8 %. RECIST's absolute 5 mm has no counterpart.

Repeatability (95 %) is as published; clmsda's own has not been measured on repeated scans.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from clmsda.response.courses import Course, NewLesion, Sighting, State
from clmsda.response.recist import PARTIAL, PROGRESS, Response
from clmsda.response.timepoints import TimePoint, days_between

PARTIAL_VOLUME = 1 - (1 - PARTIAL) ** 3
PROGRESS_VOLUME = (1 + PROGRESS) ** 3 - 1
"""0.657 and 0.728: of a sphere."""

VOLUME_VARIATION = ((10.0, 35.0, 0.141), (35.0, 50.0, 0.103), (50.0, 100.0, 0.085))
"""From and below which long axis at the baseline (mm), and the coefficient of variation of one lesion's volume.

QIBA CT Volumetry Technical Committee, Profile: CT Tumor Volume Change for Advanced Disease (CTV-AD), 2018: a change of
more than 39, 29 and 24 % is real with 95 % confidence, with the same scanner, protocol, software and reader.
"""
DIAMETER_LIMIT = 0.08
"""Zhao B, James LP, Moskowitz CS, et al. Evaluating variability in tumor measurements from same-day repeat CT scans of
patients with non-small cell lung cancer. Radiology 2009;252(1):263-272 (the RIDER Lung CT collection): computer-aided
diameters of the same tumors within 15 minutes agreed within -7.3 and +6.2 %; a change of 8 % or more exceeds that."""

_TWO_MEASUREMENTS = 1.96 * math.sqrt(2)


@dataclass(frozen=True)
class Growth:
    """The change since the scan before. limit: as in VolumeChange.

    doubling_days: negative where the volume halves in that time; None where it is not defined (see
    `doubling_time_days`).
    """

    change: float
    limit: float | None
    days: int | None
    doubling_days: float | None

    @property
    def is_repeatable(self) -> bool | None:
        """Whether the change is within the measurement's repeatability; None where that is not known."""
        return _is_within(self.change, self.limit)


@dataclass(frozen=True)
class VolumeChange:
    """The volume of a lesion (or of all, label None) at a follow-up, and its change from the baseline as a fraction.

    baseline_ml: of a merged lesion, of all that merged. limit: the change that measuring twice may show, None where
    nothing is published for the lesion's size. growth: None where the volume was not known, or zero, before or now.
    """

    follow_up: int
    label: int | None
    volume_ml: float | None
    baseline_ml: float | None
    change: float | None = None
    limit: float | None = None
    growth: Growth | None = None

    @property
    def is_repeatable(self) -> bool | None:
        """Whether the change is within the measurement's repeatability; None where that is not known."""
        return None if self.change is None else _is_within(self.change, self.limit)


@dataclass(frozen=True)
class VolumeResponse:
    """The response by the volume of all lesions of the baseline, by thresholds extrapolated from RECIST.

    nadir_ml: the smallest total before. missing: lesions whose volume is not known. is_new: there are new lesions.
    """

    follow_up: int
    total: VolumeChange
    nadir_ml: float | None
    missing: tuple[int, ...]
    is_new: bool
    response: Response


def doubling_time_days(first_ml: float, second_ml: float, days: float) -> float | None:
    """ln 2 * days / ln(second / first), of exponential growth: negative where the volume shrinks (it halves then).

    None where it is not defined: a volume of zero at either end, no change, or no time between.
    """
    if first_ml <= 0 or second_ml <= 0 or days <= 0 or first_ml == second_ml:
        return None
    return math.log(2) * days / math.log(second_ml / first_ml)


def volume_limit(volumes: Sequence[tuple[float, float]]) -> float | None:
    """The change, as a fraction, that measuring the summed volume of lesions twice may show (95 %).

    volumes: ml and long axis in mm of each lesion at the baseline. Errors of different lesions are taken as
    independent. None where nothing is published for a size (below 10 mm, above 100 mm).
    """
    total_ml = sum(volume_ml for volume_ml, _ in volumes)
    variations = [_variation(long_axis_mm) for _, long_axis_mm in volumes]
    if None in variations or not total_ml:
        return None
    deviations = (volume_ml * (cv or 0.0) for (volume_ml, _), cv in zip(volumes, variations, strict=True))
    return _TWO_MEASUREMENTS * math.hypot(*deviations) / total_ml


def _variation(long_axis_mm: float) -> float | None:
    for low_mm, high_mm, variation in VOLUME_VARIATION:
        if low_mm <= long_axis_mm < high_mm or long_axis_mm == high_mm == VOLUME_VARIATION[-1][1]:
            return variation
    return None


def volume_changes(courses: Sequence[Course], points: Sequence[TimePoint]) -> tuple[VolumeChange, ...]:
    """Every lesion at every follow-up, follow-up by follow-up."""
    return tuple(_change(course, courses, points, number) for number in range(1, len(points)) for course in courses)


def _change(course: Course, courses: Sequence[Course], points: Sequence[TimePoint], number: int) -> VolumeChange:
    first, before, now = course.sightings[0], course.sightings[number - 1], course.sightings[number]
    if now.state == State.ABSORBED:
        return VolumeChange(number, course.label, None, first.volume_ml)
    whole = [one for one in courses if one.label == course.label or one.label in now.merged]
    baseline_ml = _sum([one.sightings[0].volume_ml for one in whole])
    growth = None
    if before.volume_ml and now.volume_ml and before.merged == now.merged:
        days = days_between(points[number - 1], points[number])
        growth = _growth(before.volume_ml, now.volume_ml, _limit(before, now), days)
    change = _relative(now.volume_ml, baseline_ml)
    return VolumeChange(number, course.label, now.volume_ml, baseline_ml, change, _limit(first, now), growth)


def _limit(before: Sighting, now: Sighting) -> float | None:
    """Of one lesion; nothing is published for lesions that split or merge."""
    alone = {before.state, now.state} <= {State.MEASURED, State.GONE}
    return volume_limit([(before.volume_ml, before.long_axis_mm or 0.0)]) if alone and before.volume_ml else None


def _growth(before_ml: float, now_ml: float, limit: float | None, days: int | None) -> Growth:
    return Growth(now_ml / before_ml - 1, limit, days, doubling_time_days(before_ml, now_ml, days or 0))


def volume_responses(
    courses: Sequence[Course], points: Sequence[TimePoint], new: Sequence[NewLesion]
) -> tuple[VolumeResponse, ...]:
    """The total of all lesions that had a volume at the baseline, and the response by it, at every follow-up."""
    followed = [course for course in courses if course.sightings[0].volume_ml]
    totals = [_sum([course.sightings[number].volume_ml for course in followed]) for number in range(len(points))]
    found: list[VolumeResponse] = []
    for number in range(1, len(points)):
        first_ml, before_ml, now_ml = totals[0], totals[number - 1], totals[number]
        days = days_between(points[number - 1], points[number])
        limit = _total_limit(followed, number - 1)
        growth = _growth(before_ml, now_ml, limit, days) if before_ml and now_ml else None
        change = _relative(now_ml, first_ml)
        total = VolumeChange(number, None, now_ml, first_ml, change, _total_limit(followed, 0), growth)
        nadir_ml = min((total_ml for total_ml in totals[:number] if total_ml is not None), default=None)
        missing = tuple(course.label for course in followed if course.sightings[number].volume_ml is None)
        is_new = any(one.counts for one in new if one.follow_up == number)
        response = Response.PD if is_new else _response(now_ml, first_ml, nadir_ml)
        found.append(VolumeResponse(number, total, nadir_ml, missing, is_new, response))
    return tuple(found)


def _total_limit(followed: Sequence[Course], number: int) -> float | None:
    seen = [course.sightings[number] for course in followed]
    return volume_limit([(one.volume_ml, one.long_axis_mm or 0.0) for one in seen if one.volume_ml])


def _response(now_ml: float | None, baseline_ml: float | None, nadir_ml: float | None) -> Response:
    if now_ml is None or not baseline_ml or nadir_ml is None:
        return Response.NE
    if now_ml == 0:
        return Response.CR
    if now_ml >= (1 + PROGRESS_VOLUME) * nadir_ml - 1e-9:
        return Response.PD
    return Response.PR if now_ml <= (1 - PARTIAL_VOLUME) * baseline_ml + 1e-9 else Response.SD


def _is_within(change: float, limit: float | None) -> bool | None:
    return None if limit is None else abs(change) <= limit


def _relative(now: float | None, baseline: float | None) -> float | None:
    return None if now is None or not baseline else now / baseline - 1


def _sum(volumes: Sequence[float | None]) -> float | None:
    return None if None in volumes or not volumes else sum(volume or 0.0 for volume in volumes)

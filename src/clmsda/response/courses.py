"""Lesions through time: each lesion of the baseline as it was seen at every time point, and lesions that are new."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from clmsda.response.statements import NODE

TOO_SMALL_MM = 5.0
"""What RECIST 1.1 (section 4.3.2) counts for a lesion that is there, but too small to measure."""
PATHOLOGICAL_NODE_MM = 10.0
"""Short axis from which on a lymph node is pathological (RECIST 1.1, section 4.2)."""


class State(StrEnum):
    """How a lesion was seen at a time point."""

    MEASURED = "measured"
    SPLIT = "split"
    MERGED = "merged"
    ABSORBED = "part of a merged lesion"
    GONE = "gone"
    TOO_SMALL = "too small to measure"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Sighting:
    """One lesion at one time point. labels: in that time point's file (several where it has split).

    merged: the other baseline lesions in this one, or (ABSORBED) the one that counts for it.
    """

    state: State
    labels: tuple[int, ...] = ()
    long_axis_mm: float | None = None
    short_axis_mm: float | None = None
    volume_ml: float | None = None
    merged: tuple[int, ...] = ()


@dataclass(frozen=True)
class Course:
    """One lesion of the baseline through all time points, the baseline first."""

    label: int
    organ: str
    sightings: tuple[Sighting, ...]
    tracking_uid: str | None = None

    @property
    def is_node(self) -> bool:
        return self.organ == NODE

    @property
    def is_normal_node(self) -> bool:
        """Whether this was a node of less than 10 mm at the baseline, which is not followed (section 4.2)."""
        size_mm = self.diameters_mm[0]
        return self.is_node and size_mm is not None and size_mm < PATHOLOGICAL_NODE_MM

    @property
    def diameters_mm(self) -> tuple[float | None, ...]:
        """What RECIST counts at each time point: the long axis, of nodes the short one; None where not measured."""
        return tuple(s.short_axis_mm if self.is_node else s.long_axis_mm for s in self.sightings)

    def is_gone(self, number: int) -> bool:
        """Whether the lesion has disappeared; of a node, whether its short axis is below 10 mm (section 4.3.1)."""
        sighting, diameter_mm = self.sightings[number], self.diameters_mm[number]
        if self.is_node and diameter_mm is not None and sighting.state != State.ABSORBED:
            return diameter_mm < PATHOLOGICAL_NODE_MM
        return sighting.state == State.GONE


@dataclass(frozen=True)
class NewLesion:
    """A lesion of a follow-up that the baseline does not hold. counts: as progression; `remark` says why not."""

    follow_up: int
    name: str
    organ: str
    long_axis_mm: float | None = None
    short_axis_mm: float | None = None
    volume_ml: float | None = None
    counts: bool = True
    remark: str = ""

    def __str__(self) -> str:
        if self.long_axis_mm is None or self.short_axis_mm is None:
            return self.name
        axis = f"short axis {self.short_axis_mm:.1f}" if self.organ == NODE else f"{self.long_axis_mm:.1f}"
        return f"{self.name} ({self.organ}, {axis} mm)"

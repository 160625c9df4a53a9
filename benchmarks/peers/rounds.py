"""Things done by turns, and how their times compare."""

from __future__ import annotations

import gc
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Contestant:
    """What is timed.

    gflop: of one run; 0 where nobody counts them. voxels: of the CT that one run looks at. more: facts for the table.
    heavy: a run takes so long that a first one to warm up would be wasted.
    """

    name: str
    run: Callable[[], object]
    gflop: float = 0.0
    voxels: int = 0
    more: dict[str, Any] = field(default_factory=dict)
    heavy: bool = False


@dataclass(frozen=True)
class Timed:
    """A contestant's processor and wall seconds, one of each for every round."""

    name: str
    cpu: tuple[float, ...]
    wall: tuple[float, ...]
    gflop: float = 0.0
    voxels: int = 0
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Processor seconds, the median."""
        return statistics.median(self.cpu)

    @property
    def rate(self) -> float:
        """GFLOP in a processor second."""
        return self.gflop / self.seconds

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(content: dict[str, Any]) -> Timed:
        return Timed(**{**content, "cpu": tuple(content["cpu"]), "wall": tuple(content["wall"])})


@dataclass(frozen=True)
class Spread:
    """The median of several ratios, and the least and the largest of them."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{short(self.median)} [{short(self.low)}, {short(self.high)}]"


def short(number: float) -> str:
    """Two digits below ten, three above, and none behind the point from 100 on."""
    if number < 0.1:
        return f"{number:.2g}"
    return f"{number:.2f}" if number < 10 else f"{number:.1f}" if number < 100 else f"{number:,.0f}"


def by_turns(contestants: Sequence[Contestant], rounds: int) -> list[Timed]:
    """Run each once a round, each round beginning with another one."""
    for one in contestants:
        if not one.heavy:
            one.run()
    cpu: dict[str, list[float]] = {one.name: [] for one in contestants}
    wall: dict[str, list[float]] = {one.name: [] for one in contestants}
    for number in range(rounds):
        first = number % len(contestants)
        for one in [*contestants[first:], *contestants[:first]]:
            gc.collect()
            start, work = time.perf_counter(), processor_seconds()
            one.run()
            wall[one.name].append(time.perf_counter() - start)
            cpu[one.name].append(processor_seconds() - work)
    return [Timed(c.name, tuple(cpu[c.name]), tuple(wall[c.name]), c.gflop, c.voxels, c.more) for c in contestants]


def processor_seconds() -> float:
    """Of this process, all of its threads, and its children that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def ratio(theirs: Timed, ours: Timed, *, per_gflop: bool = False) -> Spread:
    """How many times our processor time a peer takes, round by round; above 1 we are faster.

    per_gflop: of the time for one GFLOP. Raises ValueError unless both ran in the same rounds, and where
    GFLOP were not counted.
    """
    if len(theirs.cpu) != len(ours.cpu) or not ours.cpu:
        raise ValueError(
            f"{theirs.name} ran {len(theirs.cpu)} times, {ours.name} {len(ours.cpu)}: not in the same rounds"
        )
    if per_gflop and not (theirs.gflop and ours.gflop):
        raise ValueError(f"GFLOP of {theirs.name} or {ours.name} were not counted")
    work = ours.gflop / theirs.gflop if per_gflop else 1.0
    found = [a / b * work for a, b in zip(theirs.cpu, ours.cpu, strict=True)]
    return Spread(statistics.median(found), min(found), max(found))

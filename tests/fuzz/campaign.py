"""Starts workers, groups what fails by its cause, and sums up."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzz.cases import Case
from fuzz.limits import CPU_SECONDS, HANGS_SECONDS, MEMORY_BYTES, PATIENCE_SECONDS, cpu_seconds
from fuzz.worker import FAILURES, Outcome

Tell = Callable[[str], object]
CORPUS = Path(__file__).with_name("corpus.jsonl")


@dataclass
class Failure:
    """All cases that failed alike. case: the first one, made small."""

    case: Case
    outcome: Outcome
    count: int = 1


@dataclass
class Summary:
    """counts: by reader and kind of outcome."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    failures: dict[tuple[str, ...], Failure] = field(default_factory=dict)
    slowest: tuple[float, str] = (0.0, "")
    hungriest: tuple[float, str] = (0.0, "")
    refusals: Counter[str] = field(default_factory=Counter)
    workers: int = 0
    seconds: float = 0.0
    done: bool = False

    @property
    def inputs(self) -> int:
        return sum(sum(counts.values()) for counts in self.counts.values())

    def add(self, case: Case, outcome: Outcome, small: Case) -> bool:
        """Count a case; returns whether it failed in a new way."""
        self.counts.setdefault(case.reader, Counter())[outcome.kind] += 1
        self.slowest = max(self.slowest, (outcome.seconds, case.to_json()))
        self.hungriest = max(self.hungriest, (outcome.peak_mb, case.to_json()))
        if outcome.kind == "refused":
            self.refusals[outcome.message.partition(":")[0]] += 1
        if outcome.kind not in FAILURES:
            return False
        key = (case.reader, *outcome.cause)
        if key in self.failures:
            self.failures[key].count += 1
            return False
        self.failures[key] = Failure(small, outcome)
        return True

    def lines(self) -> list[str]:
        """For people."""
        kinds = ["result", "refused", *(kind for kind in FAILURES if any(c[kind] for c in self.counts.values()))]
        rows = [f"{'reader':16}" + "".join(f"{kind:>11}" for kind in kinds)]
        for name, counts in sorted(self.counts.items()):
            rows.append(f"{name:16}" + "".join(f"{counts[kind]:11,}" for kind in kinds))
        total = sum(self.counts.values(), Counter())
        rows.append(f"{'all':16}" + "".join(f"{total[kind]:11,}" for kind in kinds))
        failed = sum(failure.count for failure in self.failures.values())
        rows += [
            f"{self.inputs:,} inputs in {self.seconds:.0f} s: {failed:,} failures of {len(self.failures)} causes "
            f"({self.workers} worker processes)",
            f"limits: {CPU_SECONDS:g} s of CPU time, {MEMORY_BYTES >> 30} GiB of address space above the idle process",
            f"slowest: {self.slowest[0]:.2f} s of CPU time, {self.slowest[1][:300]}",
            f"most memory above idle: {self.hungriest[0]:.0f} MB, {self.hungriest[1][:300]}",
        ]
        return rows


def describe(failure: Failure) -> str:
    """What failed, how often, and the line that repeats it."""
    outcome = failure.outcome
    return (
        f"{failure.case.reader}: {outcome.kind}, {failure.count} times: {' '.join(outcome.message.split())[:300]}\n"
        f"    at {outcome.where or '-'}\n    {failure.case.command}"
    )


def fuzz(names: Sequence[str], seed: int, minutes: float = float("inf"), tell: Tell = print, count: int = 0) -> Summary:
    """Draw and run cases for so many minutes, or so many cases."""
    return _run(",".join(names), seed, 60 * minutes, None, tell, count)


def replay(cases: Sequence[Case], tell: Tell = print) -> Summary:
    """Run these cases."""
    return _run("-", 0, float("inf"), list(cases), tell)


def _run(names: str, seed: int, seconds: float, cases: list[Case] | None, tell: Tell, count: int = 0) -> Summary:
    summary, skip, workers = Summary(), 0, 0
    while summary.seconds < seconds and not summary.done:
        workers += 1
        if workers > 1 + len(summary.failures) + summary.inputs:
            raise RuntimeError("workers die again and again")
        _Watched(names, seed, skip, count, cases, summary, tell).follow(seconds)
        skip = summary.inputs
    summary.workers = workers
    return summary


class _Watched:
    """One worker, followed from its first line to its last."""

    def __init__(
        self, names: str, seed: int, skip: int, count: int, cases: list[Case] | None, summary: Summary, tell: Tell
    ) -> None:
        self.names, self.seed, self.skip, self.count, self.cases = names, seed, skip, count, cases
        self.summary, self.tell = summary, tell
        self.running: Case | None = None
        self.began = 0.0

    def follow(self, seconds: float) -> None:
        """Until it ends, is killed for giving no answer, or the campaign has lasted so many seconds."""
        lines, out = os.pipe()
        skip, given = (self.skip, []) if self.cases is None else (0, self.cases[self.skip :])
        command = [
            sys.executable,
            "-m",
            "fuzz.worker",
            str(out),
            str(self.seed),
            str(skip),
            str(self.count),
            self.names,
        ]
        paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "OMP_NUM_THREADS": "1",
            "MALLOC_ARENA_MAX": "2",  # an arena of address space for each thread would count as memory
        }
        with subprocess.Popen(command, pass_fds=[out], stdin=subprocess.PIPE, env=environment) as process:
            os.close(out)
            assert process.stdin is not None
            process.stdin.write("".join(case.to_json() + "\n" for case in given).encode())
            process.stdin.close()
            silent = self._read(lines, seconds, process.pid)
            process.send_signal(signal.SIGKILL if silent else signal.SIGTERM)
            process.wait()
        if not self.began:
            raise RuntimeError("the worker did not start")
        self.summary.seconds += time.time() - self.began
        if self.running is not None and self.summary.seconds < seconds:
            said = (
                f"no answer within {HANGS_SECONDS:g} s of CPU time"
                if silent
                else f"the process ended with {process.returncode}"
            )
            self._add(self.running, Outcome("hang" if silent else "crash", said), self.running)

    def _read(self, lines: int, seconds: float, pid: int) -> bool:
        """Take in lines; returns whether the worker went on with one case for too long."""
        with os.fdopen(lines, "rb", buffering=0) as pipe:
            rest, used, waited = b"", cpu_seconds(pid), time.time()
            while True:
                if select.select([pipe], [], [], PATIENCE_SECONDS / 10)[0]:
                    block = pipe.read(1 << 16)
                    if not block:
                        return False
                    *whole, rest = (rest + block).split(b"\n")
                    for line in whole:
                        self._take(json.loads(line))
                    used, waited = cpu_seconds(pid), time.time()
                elif self.began and (
                    cpu_seconds(pid) - used > HANGS_SECONDS or time.time() - waited > PATIENCE_SECONDS
                ):
                    return True
                if self.began and self.summary.seconds + time.time() - self.began > seconds:
                    return False

    def _take(self, values: dict[str, Any]) -> None:
        if "ready" in values:
            self.began = time.time()
        elif "case" in values:
            self.running = Case.from_json(values["case"])
        elif "outcome" in values and self.running is not None:
            self._add(self.running, Outcome(**values["outcome"]), Case.from_json(values["small"]))
            self.running = None
        elif "done" in values:
            self.summary.done = True

    def _add(self, case: Case, outcome: Outcome, small: Case) -> None:
        if self.summary.add(case, outcome, small):
            self.tell(describe(self.summary.failures[case.reader, *outcome.cause]))


def corpus() -> list[Case]:
    """Cases that failed once."""
    return [Case.from_json(line) for line in CORPUS.read_text(encoding="utf8").splitlines() if line.strip()]


def keep(failures: Sequence[Failure]) -> None:
    """Add failures to the corpus."""
    known = {case.to_json() for case in corpus()}
    with CORPUS.open("a", encoding="utf8") as file:
        for failure in failures:
            if failure.case.to_json() not in known:
                file.write(failure.case.to_json() + "\n")

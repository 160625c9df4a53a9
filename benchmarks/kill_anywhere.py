"""Kills commands of clmsda at many moments, and looks at what is left: nothing may be half, wrong or lost.

    python benchmarks/kill_anywhere.py --kills 220                 all commands; some minutes
    python benchmarks/kill_anywhere.py --kills 10 --only train     one of them
    python benchmarks/kill_anywhere.py --kills 220 --record FILE   goes on where it was stopped

Each command is a process of its own that is killed by SIGKILL: at a moment drawn up to the time that it takes, or right
after one of the changes that it makes in the folder of its results. After each kill every file at its final name must
be whole and as an undisturbed run has it, and no earlier result may be gone ("mixed" are results of which only some are
replaced yet). Then the same command goes on, to be killed again or to end, with the results of an undisturbed run and
without temporary files, its own or a killed one's.

Processes are forked from one that has read torch, so that kills hit work; --fresh starts a new interpreter each time.
`pacs` commands run against Orthanc where it is installed (`make orthanc`).
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))

import killing  # noqa: E402
import orthanc  # noqa: E402
from killing import Command, Fresh, Moment, contents, debris, kill_when, lost, run, wrong  # noqa: E402
from preloaded import Preloaded, preloaded  # noqa: E402
from pydicom import dcmread  # noqa: E402

LONGEST_CHAIN = 3
"""So often, at most, is a command killed before it may end."""

COLUMNS = ("kills", "at a write", "left debris", "mixed", "lost", "wrong", "ends", "ends wrong")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=220, help="in all, shared evenly by the commands")
    parser.add_argument("--only", action="append", metavar="COMMAND", help="by the start of its name; repeatable")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fresh", action="store_true", help="a new interpreter for every process")
    parser.add_argument(
        "--record", type=Path, help="JSON lines of what was found; kills that it holds are not repeated"
    )
    options = parser.parse_args()
    with ExitStack() as whole:
        folder = Path(whole.enter_context(tempfile.TemporaryDirectory(prefix="kill-")))
        home = Fresh() if options.fresh else whole.enter_context(preloaded())
        chosen = [*killing.commands(folder / "inputs"), *whole.enter_context(pacs_commands(folder))]
        if options.only:
            chosen = [one for one in chosen if one.name.startswith(tuple(options.only))]
        record = Record(options.record)
        kill_all(chosen, options.kills, options.seed, home, folder, record)
    print_table(record)


@dataclass
class Record:
    """Counts of what was found by command, kept in a file where one is given."""

    path: Path | None

    def __post_init__(self) -> None:
        self.counts: dict[str, Counter[str]] = {}
        if self.path and self.path.exists():
            for line in self.path.read_text().splitlines():
                self._count(json.loads(line))

    def add(self, **facts: Any) -> None:
        self._count(facts)
        if self.path:
            with self.path.open("a") as file:
                file.write(json.dumps(facts) + "\n")

    def kills(self, name: str) -> int:
        return self.counts.get(name, Counter())["kills"]

    def _count(self, facts: dict[str, Any]) -> None:
        counts = self.counts.setdefault(facts["command"], Counter())
        counts.update({name: 1 for name in COLUMNS if facts.get(name)})


def kill_all(
    chosen: list[Command], kills: int, seed: int, home: Fresh | Preloaded, folder: Path, record: Record
) -> None:
    each = -(-kills // len(chosen))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=600) as bar:
        task = bar.add_task("kills", total=each * len(chosen))
        for command in chosen:
            bar.update(task, description=command.name, completed=sum(record.kills(one.name) for one in chosen))
            if record.kills(command.name) >= each:
                continue
            trial = Trial.begin(command, home, folder / command.name.replace(" ", "-"), record, bar.console)
            while record.kills(command.name) < each:
                rng = random.Random(f"{seed} {command.name} {record.counts.get(command.name)}")
                trial.chain(rng, each - record.kills(command.name))
                bar.update(task, completed=sum(record.kills(one.name) for one in chosen))


@dataclass
class Trial:
    """A command, and what it does undisturbed: how long, how many changes are seen, what there is in the end."""

    command: Command
    home: Fresh | Preloaded
    folder: Path
    record: Record
    console: Console
    seconds: float
    changes: int
    whole: dict[str, Any]
    earlier: dict[str, Any]

    @classmethod
    def begin(cls, command: Command, home: Fresh | Preloaded, folder: Path, record: Record, console: Console) -> Trial:
        out, earlier = folder / "out", folder / "earlier"
        folder.mkdir()
        if command.earlier:
            status, said = run(home, command.earlier(earlier), folder)
            assert status == 0, said
        command.reset(out)
        home.warm_up(command.arguments(out))
        command.reset(out)
        done = kill_when(home, command.arguments(out), folder, command.watched(out), lambda seconds, changes: False)
        assert done.status == 0, done.said
        whole, before = command.held(out), contents(earlier)
        assert not debris(out) and whole and not (before.items() & whole.items())
        return cls(command, home, folder, record, console, done.seconds, done.changes, whole, before)

    def chain(self, rng: random.Random, most: int) -> None:
        """Kill the command some times in a row, then let it end."""
        out, before = self.folder / "out", self.begun(rng)
        for _ in range(min(most, rng.randint(1, LONGEST_CHAIN))):
            at_write, when, change = rng.random() < 0.6, rng.uniform(0, self.seconds), rng.randint(1, self.changes)
            moment = after_change(change) if at_write else after_seconds(when)
            arguments = self.command.arguments(out)
            done = kill_when(self.home, arguments, self.folder, self.command.watched(out), moment)
            if not done.killed:
                break
            before = self.look(before, at_write)
        status, said = (0, "") if done.killed else (done.status, done.said)
        left = debris(out) + debris(self.folder / "t")
        if done.killed:
            status, said = run(self.home, self.command.arguments(out), self.folder)
            left = debris(out) + debris(self.folder / "t")
        problem = f"exit status {status}: {said[-2000:]}" if status else ", ".join(left) or self.differing(out)
        self.record.add(**{"command": self.command.name, "ends": 1, "ends wrong": problem})
        if problem:
            self.console.print(f"{self.command.name} ends wrong: {problem}", markup=False)

    def begun(self, rng: random.Random) -> dict[str, Any]:
        """Make the output folder new, or fill it with results of another run, for the command to replace."""
        out = self.folder / "out"
        self.command.reset(out)
        shutil.rmtree(self.folder / "t", ignore_errors=True)
        if self.earlier and rng.random() < 0.5:
            shutil.copytree(self.folder / "earlier", out, dirs_exist_ok=True)
            return self.earlier
        return {}

    def look(self, before: dict[str, Any], at_write: bool) -> dict[str, Any]:
        """Record what a kill has left; returns it."""
        out = self.folder / "out"
        left = debris(self.command.watched(out)) + debris(self.folder / "t")
        try:
            now = self.command.held(out)
            old = {name for name, content in now.items() if content == self.earlier.get(name)}
            bad = [name for name in wrong(now, self.whole) if name not in old]
            new = self.whole.keys() - old if self.earlier else set()
            mixed = bool(now.keys() & new) and now.keys() & new != self.whole.keys()
            gone = lost(before, now)
        except Exception as error:  # a file at its final name that cannot be read
            now, bad, gone, mixed = before, [repr(error)], [], False
        facts = {"command": self.command.name, "kills": 1, "at a write": at_write, "left debris": left, "mixed": mixed}
        self.record.add(**facts, lost=gone, wrong=bad)
        if bad or gone:
            self.console.print(f"{self.command.name}: wrong {bad}, lost {gone}", markup=False)
        return now

    def differing(self, out: Path) -> str:
        """Names of the results that are not those of the undisturbed run."""
        now = self.command.held(out)
        return ", ".join(name for name in now.keys() | self.whole.keys() if now.get(name) != self.whole.get(name))


def after_change(number: int) -> Moment:
    return lambda seconds, changes: changes >= number


def after_seconds(limit: float) -> Moment:
    return lambda seconds, changes: seconds >= limit


@contextmanager
def pacs_commands(folder: Path) -> Iterator[list[Command]]:
    """`pacs store` and `pacs pull` of the series of `killing.commands`; the servers run as long as the block."""
    if orthanc.MISSING:
        print(f"without pacs: {orthanc.MISSING}", file=sys.stderr)
        yield []
        return
    series = folder / "inputs" / "series"
    uid = dcmread(next(series.iterdir()), stop_before_pixels=True).SeriesInstanceUID
    storage = folder / "storage"
    with orthanc.running(storage) as store, orthanc.running() as pull:
        for path in series.iterdir():
            pull.put(path.read_bytes())
        yield [
            Command(
                "pacs store",
                lambda out: ["pacs", "store", series, "--url", store.url],
                reset=lambda out: store.forget(),
                held=lambda out: store.held(),
                watched=lambda out: storage,
            ),
            Command("pacs pull", lambda out: ["pacs", "pull", "--url", pull.url, "--series", uid, "--out", out]),
        ]


def print_table(record: Record) -> None:
    table = Table(*(("command", *COLUMNS)), box=None)
    for name, counts in record.counts.items():
        table.add_row(name, *(str(counts[column]) for column in COLUMNS))
    totals = sum(record.counts.values(), Counter())
    table.add_row("all", *(str(totals[column]) for column in COLUMNS))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()

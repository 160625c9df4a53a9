"""Runs cases one after the other, within limits, and says what came of each: a line of JSON before and after each.

It is a process of its own: what kills it (a crash in a C library) or stops it (a loop that no signal interrupts) is
seen by the campaign that started it, which knows the case from the line before.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TextIO

from fuzz import limits
from fuzz.cases import Case
from fuzz.edits import apply, draw

RESULT, REFUSED = "result", "refused"
FAILURES = ("exception", "memory", "slow", "words", "noise", "debris", "wrong", "hang", "crash")
VARYING = re.compile(r"/\S+|0x[0-9a-f]+|\d+|WARNING: In|line , ")
"""What differs between messages that say the same."""
FOREIGN = re.compile(r"\w+Error\b|Traceback|NoneType|object (has no|is not)|not subscriptable|<_?io\.| 0x[0-9a-f]{6}")
"""What Python says and a user need not read."""
Say = Callable[[dict[str, object]], None]
NO_MEMORY = ("bad_alloc", "allocate memory", "Unable to allocate", "can't allocate")


@dataclass(frozen=True)
class Outcome:
    """kind: result, refused, or one of FAILURES. where: the line that raised. cause: groups what fails alike.

    seconds: of CPU time, of all threads.
    """

    kind: str
    message: str = ""
    where: str = ""
    seconds: float = 0.0
    peak_mb: float = 0.0

    @property
    def cause(self) -> tuple[str, str, str]:
        said = self.message.partition(":")[0] if self.where else VARYING.sub("", self.message)[:24]
        return self.kind, said, self.where


class Worker:
    """Runs cases. folder: where their files lie for a moment, and what readers write in passing."""

    def __init__(self, folder: Path, errors: TextIO) -> None:
        from fuzz.readers import readers
        from fuzz.samples import all_samples

        self.inputs, self.temporary, self.errors = folder / "inputs", folder / "temporary", errors
        for path in (self.inputs, self.temporary):
            path.mkdir()
        self.samples = all_samples()
        tempfile.tempdir = str(self.temporary)
        self.readers = readers()

    def warm_up(self) -> None:
        """Every sample gives a result, undamaged; then memory is limited to what that took and `limits.MEMORY_BYTES`."""
        for reader in self.readers.values():
            for sample in reader.samples:
                outcome = self.run(Case(reader.name, sample, ()))
                if outcome.kind != RESULT:
                    raise AssertionError(f"{reader.name} does not read the sample {sample}: {outcome}")
        limits.limit_memory()

    def run(self, case: Case) -> Outcome:
        """Damage a sample and read it."""
        files = dict(self.samples[case.sample])
        for edit in case.edits:
            apply(files, edit)
        folder = self.inputs / case.sample
        folder.mkdir()
        try:
            for path, data in files.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(data)
            return self._read(case, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _read(self, case: Case, folder: Path) -> Outcome:
        from clmsda.cli import own_words
        from clmsda.errors import InputError

        self.errors.seek(0)
        self.errors.truncate()
        limits.forget_peak()
        before, start = limits.resident_mb(), time.process_time()
        kind, message, where = RESULT, "", ""
        limits.start_clock()
        try:
            with own_words():  # as the command line does, so that what is said is what a user sees
                self.readers[case.reader].call(folder)
        except InputError as error:
            kind, message = REFUSED, f"{type(error).__name__}: {error}"
            if any(_no_memory(one) for one in _chain(error)):
                kind, where = "memory", _where(error)
            elif FOREIGN.search(str(error)) or not str(error).isprintable():
                kind, where, message = "words", _where(error), f"a refusal in Python's words: {error}"
        except limits.TooSlow as error:
            kind, message, where = "slow", str(error), _where(error)
        except AssertionError as error:
            kind, message, where = "wrong", f"{error}", _where(error)
        except BaseException as error:
            kind = "memory" if _no_memory(error) else "exception"
            message, where = f"{type(error).__name__}: {error}", _where(error)
        finally:
            limits.stop_clock()
        seconds, peak = time.process_time() - start, max(0.0, limits.peak_mb() - before)
        if kind in (RESULT, REFUSED):
            kind, message = self._aftermath(kind, message)
        return Outcome(kind, message[:400], where, round(seconds, 4), round(peak, 1))

    def _aftermath(self, kind: str, message: str) -> tuple[str, str]:
        """What reached the screen, and files that were left behind."""
        sys.stderr.flush()
        self.errors.seek(0)
        said = [line for line in self.errors.read(4000).split("\n") if line and not line.startswith("warning: ")]
        if said:
            return "noise", "; ".join(said)
        left = sorted(os.listdir(self.temporary))
        if left:
            for name in left:
                shutil.rmtree(self.temporary / name, ignore_errors=True)
                (self.temporary / name).unlink(missing_ok=True) if (self.temporary / name).is_file() else None
            return "debris", f"temporary files are left: {', '.join(left)}"
        return kind, message

    def shrink(self, case: Case, outcome: Outcome) -> Case:
        """The same failure from fewer edits."""
        for number in reversed(range(len(case.edits))):
            fewer = case.without(number)
            if fewer.edits and self.run(fewer).cause == outcome.cause:
                case = fewer
        return case


def draw_cases(samples: dict, readers: dict, names: list[str], seed: int) -> Iterator[Case]:
    """Cases without end, always the same for a seed; each of one to five edits."""
    rng = random.Random(seed)
    shares = [readers[name].share for name in names]
    while True:
        reader = readers[rng.choices(names, shares)[0]]
        sample = rng.choice(reader.samples)
        edits = []
        for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5))):
            edit = draw(rng, samples[sample], reader.families)
            if edit is not None:
                edits.append(edit)
        if edits:
            yield Case(reader.name, sample, tuple(edits))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _no_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY)


def _where(error: BaseException) -> str:
    """The innermost line of clmsda that an error came through, without the number of the line."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/clmsda/" in frame.filename]
    last = frames[-1]
    raised = f"{Path(last.filename).name}:{last.name}"
    if not own:
        return raised
    frame = own[-1]
    return f"{frame.filename.rpartition('/clmsda/')[2]}:{frame.lineno} {frame.name} <- {raised}"


def work(
    folder: Path, say: Say, cases: Iterator[Case] | None, names: list[str], seed: int, skip: int, count: int
) -> None:
    """Run cases until SIGTERM, or their end.

    skip: so many cases of a seed have been run by a worker before this one. count: so many are drawn, with 0 no end.
    """
    with open(folder / "stderr", "w+", encoding="utf8", errors="replace") as errors:
        screen = os.dup(2)
        os.dup2(errors.fileno(), 2)
        try:
            worker = Worker(folder, errors)
            worker.warm_up()
        except BaseException:
            os.dup2(screen, 2)
            raise
        say({"ready": True, "memory_mb": limits.resident_mb()})
        drawn = cases if cases is not None else draw_cases(worker.samples, worker.readers, names, seed)
        drawn = islice(drawn, count) if count else drawn
        failed: set[tuple[str, ...]] = set()
        for number, case in enumerate(drawn):
            if number < skip:
                continue
            say({"number": number, "case": case.to_json()})
            outcome, small = worker.run(case), case
            if outcome.kind in FAILURES and (case.reader, *outcome.cause) not in failed:
                failed.add((case.reader, *outcome.cause))
                small = worker.shrink(case, outcome)
            say({"number": number, "outcome": asdict(outcome), "small": small.to_json()})
    say({"done": True})


def main() -> None:
    """Arguments: the descriptor to write lines to, the seed, how many cases to skip and to draw, readers with commas
    between or -.

    With `-` for the readers, cases are read from standard input, one a line.
    """
    out, seed, skip, count, names = sys.argv[1:]
    pipe = os.fdopen(int(out), "w", buffering=1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

    def say(values: dict[str, object]) -> None:
        pipe.write(json.dumps(values) + "\n")

    given = iter([Case.from_json(line) for line in sys.stdin if line.strip()]) if names == "-" else None
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    with tempfile.TemporaryDirectory(prefix="clmsda-fuzz-") as folder:
        work(Path(folder), say, given, names.split(","), int(seed), int(skip), int(count))


if __name__ == "__main__":
    main()

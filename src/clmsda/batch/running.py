"""A batch from beginning to end: what is done stays, the rest is given to processes, table and page are renewed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from clmsda import models
from clmsda.batch.case import PLAIN, Wanted, work
from clmsda.batch.outcomes import Folder, Outcome, failed
from clmsda.batch.page import write_page
from clmsda.batch.pool import spread
from clmsda.batch.results import write_results
from clmsda.batch.table import Row, read_table
from clmsda.runtimes import cores

RENEWED_S = 30.0
"""Results are written anew at least this far apart, and at the end."""


@dataclass(frozen=True)
class Progress:
    """done, failed: rows, of all. seconds_left: None until one was done."""

    done: int
    failed: int
    count: int
    seconds_left: float | None


def run(
    table: Path,
    out: Path,
    *,
    model: str = models.DEFAULT,
    device: str = "auto",
    runtime: str = "auto",
    processes: int = 1,
    wanted: Wanted = PLAIN,
    retry: bool = False,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> list[Outcome]:
    """Segment every row of a table into `out`, going on with what is there. Returns the outcomes in the table's order.

    Stopped or killed anywhere, the same call goes on: no row is done twice, none is lost. Raises BatchError,
    ModelError before any work; what is wrong with one row is its outcome. retry: try again what failed before.
    """
    rows = read_table(table)
    loaded = models.load(model, device, runtime=runtime)  # what cannot be loaded is refused here, once
    settings = {"model": loaded.version, "frame": wanted.frame, "table": _digest(rows)}
    folder = Folder(out, settings)
    if retry:
        folder.retry()
    outcomes = {row.name: found for row in rows if (found := folder.outcome(row.name))}
    left = [row for row in rows if row.name not in outcomes]
    started, renewed, fresh = time.monotonic(), time.monotonic(), 0
    begin = partial(_begin, out, settings, partial(models.load, model, device, runtime=runtime), processes, wanted)
    for outcome in spread(left, processes, begin, partial(_lost, folder)):
        outcomes[outcome.name], fresh = outcome, fresh + 1
        gone = time.monotonic() - started
        bad = sum(one.status != "done" for one in outcomes.values())
        progress(Progress(len(outcomes), bad, len(rows), gone / fresh * (len(rows) - len(outcomes))))
        if time.monotonic() - renewed > RENEWED_S:
            _write(out, rows, outcomes)
            renewed = time.monotonic()
    _write(out, rows, outcomes)
    return [outcomes[row.name] for row in rows]


def _begin(
    out: Path, settings: dict[str, str], load: Callable[..., models.Model], processes: int, wanted: Wanted
) -> Callable[[Row], Outcome]:
    """In each process: the model, once, and its share of the threads."""
    model = load(threads=max(1, cores() // processes))
    return partial(_work, folder=Folder(out, settings), model=model, wanted=wanted)


def _work(row: Row, folder: Folder, model: models.Model, wanted: Wanted) -> Outcome:
    return work(row, folder, model, wanted)


def _lost(folder: Folder, row: Row) -> Outcome:
    known = folder.outcome(row.name)  # it may have been killed after its last step
    if known is not None:
        return known
    outcome = failed(row, "its process was killed twice: is the memory too small for this CT? then try --retry")
    folder.put(outcome)
    return outcome


def _write(out: Path, rows: Sequence[Row], outcomes: dict[str, Outcome]) -> None:
    known = [outcomes[row.name] for row in rows if row.name in outcomes]
    write_results(known, out / "results.csv")
    write_page(known, len(rows), out / "results.html")


def _digest(rows: Sequence[Row]) -> str:
    """What tells a table from another; more rows at its end are another one, too."""
    text = "\n".join(repr((row.name, str(row.ct), row.prompts, list(map(str, row.drawn)), row.series)) for row in rows)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

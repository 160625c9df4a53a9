"""A batch from beginning to end: what is done stays, the rest is given to processes, table and page are renewed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from clmsda import models
from clmsda.batch import pool
from clmsda.batch.case import PLAIN, Wanted, failed, work
from clmsda.batch.errors import BatchError
from clmsda.batch.outcomes import DONE, FAILED, Folder, Outcome
from clmsda.batch.page import write_page
from clmsda.batch.results import write_results
from clmsda.batch.table import Row
from clmsda.files import OutputError
from clmsda.runtimes import check, cores

RENEWED_S = 30.0
"""Results are written anew at least this far apart, and at the end."""
RENEWING_SHARE = 0.02
"""And so seldom that writing them takes no more of the time than this."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """done, failed: rows, of all. seconds_left: None until one was done."""

    done: int
    failed: int
    count: int
    seconds_left: float | None


def run(
    rows: Sequence[Row],
    out: Path,
    *,
    model: str = models.DEFAULT,
    device: str = "auto",
    runtime: str = "auto",
    processes: int | None = None,
    wanted: Wanted = PLAIN,
    retry: bool = False,
    ray: str | None = None,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> list[Outcome]:
    """Segment every row (`read_table`, `read_studies`) into `out`, going on with what is there.

    Returns the outcomes in the order of the rows. Stopped or killed anywhere, the same call goes on: no row is done
    twice, none is lost. Raises BatchError, ModelError, DeviceError before any work; what is wrong with one row is its
    outcome.

    out: a folder, or an address (`places`). processes: how many rows at once; without, one, or as many as a cluster
    has processors. retry: try again what failed before. ray: the address of a cluster that does the work.
    """
    loaded = models.read(model)
    models.check_outliner(loaded)
    if ray is None:
        check(runtime, device)
    folder = Folder(out)
    threads = 1 if ray else max(1, cores() // (processes or 1))
    load = partial(models.start, loaded, device, runtime=runtime, threads=threads)
    with _spreading(ray, device) as spread, folder.alone():
        settings = folder.begin({"model": loaded.version, "frame": wanted.frame})
        outcomes = _standing(folder, rows, wanted, retry)
        left = [row for row in rows if row.name not in outcomes]
        fresh = spread(left, processes, partial(_begin, folder, settings, load, wanted), partial(_lost, folder, wanted))
        _gather(partial(_write, folder, settings["batch"], rows, outcomes), len(rows), outcomes, fresh, progress)
        folder.tidy()
    return [outcomes[row.name] for row in rows]


def _spreading(ray: str | None, device: str) -> AbstractContextManager[Callable[..., Iterator[Outcome]]]:
    """What gives rows to processes: to those of a cluster, or to our own."""
    if ray is None:
        return nullcontext(pool.spread)
    from clmsda.batch.cluster import connected

    return connected(ray, device)


def _standing(folder: Folder, rows: Sequence[Row], wanted: Wanted, retry: bool) -> dict[str, Outcome]:
    """What became of rows before, as far as it stands: of the same row, and with what is wanted now.

    Raises BatchError as `_check_names` and `_check_done`.
    """
    _check_names(folder, rows)
    found = folder.outcomes(row.name for row in rows)
    changed = [row for row in rows if row.name in found and found[row.name].row != row.digest]
    _check_done(folder, [row for row in changed if found[row.name].status == DONE])
    if retry:
        for one in [one for one in found.values() if one.status == FAILED]:
            folder.forget(found.pop(one.name))
    for row in changed:
        found.pop(row.name, None)
    lines = {row.name: row.line for row in rows}
    return {name: replace(one, line=lines[name]) for name, one in found.items() if wanted.met(one)}


def _check_names(folder: Folder, rows: Sequence[Row]) -> None:
    """Say which cases are of no row any more; raise BatchError where all are."""
    there = folder.names()
    others = sorted(there - {row.name for row in rows})
    if there and len(others) == len(there):
        raise BatchError(f"{folder.path} holds a batch of other rows, as {others[0]}: give another folder")
    if others:
        log.warning(f"{folder.cases} has {len(others)} of no row any more, as {others[0]}: they stay, but in no table")


def _check_done(folder: Folder, changed: Sequence[Row]) -> None:
    """Raise BatchError for rows that are done and have changed."""
    if not changed:
        return
    row, more = changed[0], f" (as are {len(changed) - 1} more)" if len(changed) > 1 else ""
    where = f"line {row.line}, {row.name}" if row.line else row.name
    why = f" ({row.wrong})" if row.wrong else ""
    raise BatchError(
        f"{where}: expected the row by which it was done, found another{why}{more}: change it back, give it another "
        f"name, or remove {folder.cases / row.name} to have it done again"
    )


def _gather(
    write: Callable[[], None],
    rows: int,
    outcomes: dict[str, Outcome],
    fresh: Iterator[Outcome],
    progress: Callable[[Progress], None],
) -> None:
    """Add outcomes as they come. write: table and page, renewed now and then, and at the end, whatever ends it."""
    started, due = time.monotonic(), RENEWED_S
    bad = sum(one.status != DONE for one in outcomes.values())
    progress(Progress(len(outcomes), bad, rows, None))
    try:
        for count, outcome in enumerate(fresh, 1):
            outcomes[outcome.name], bad = outcome, bad + (outcome.status != DONE)
            gone = time.monotonic() - started
            progress(Progress(len(outcomes), bad, rows, gone / count * (rows - len(outcomes))))
            if gone > due:
                write()
                ended = time.monotonic() - started
                due = ended + max(RENEWED_S, (ended - gone) / RENEWING_SHARE)
    except BaseException:
        with suppress(OutputError):  # where the disk is full, that is what ended it
            write()
        raise
    write()


def _begin(
    folder: Folder, settings: dict[str, str], load: Callable[[], models.Model], wanted: Wanted
) -> Callable[[Row], Outcome]:
    """In each process: the model, once, and the folder, which another machine may not see. Raises BatchError."""
    folder.check(settings)
    return partial(_work, folder=folder, model=load(), wanted=wanted)


def _work(row: Row, folder: Folder, model: models.Model, wanted: Wanted) -> Outcome:
    return work(row, folder, model, wanted)


def _lost(folder: Folder, wanted: Wanted, row: Row) -> Outcome:
    known = folder.outcome(row.name)  # it may have been killed after its last step
    outcome = failed(
        row, wanted, f"its process was killed {pool.ATTEMPTS} times: is the memory too small for this CT? then --retry"
    )
    if known is not None and (known.row, known.wanted) == (outcome.row, outcome.wanted):
        return known
    folder.put(outcome)
    return outcome


def _write(folder: Folder, batch: str, rows: Sequence[Row], outcomes: dict[str, Outcome]) -> None:
    known = [outcomes[row.name] for row in rows if row.name in outcomes]
    write_results(known, folder.path / "results.csv")
    write_page(known, len(rows), folder.path / "results.html", batch)

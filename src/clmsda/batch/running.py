"""A batch from beginning to end: what is done stays, the rest is given to processes, table and page are renewed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from clmsda import models
from clmsda.batch import pool
from clmsda.batch.case import PLAIN, Wanted, work
from clmsda.batch.outcomes import DONE, FAILED, Folder, Outcome, failed
from clmsda.batch.page import write_page
from clmsda.batch.results import write_results
from clmsda.batch.table import Row
from clmsda.runtimes import cores

RENEWED_S = 30.0
"""Results are written anew at least this far apart, and at the end."""
RENEWING_SHARE = 0.02
"""And so seldom that writing them takes no more of the time than this."""


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
    settings = {"model": loaded.version, "frame": wanted.frame, "table": _digest(rows)}
    folder = Folder(out)
    threads = 1 if ray else max(1, cores() // (processes or 1))
    load = partial(models.start, loaded, device, runtime=runtime, threads=threads)
    with _spreading(ray, device) as spread, folder.alone():
        folder.begin(settings)
        outcomes = folder.outcomes(row.name for row in rows)
        if retry:
            for again in [one for one in outcomes.values() if one.status == FAILED]:
                folder.forget(outcomes.pop(again.name))
        left = [row for row in rows if row.name not in outcomes]
        fresh = spread(left, processes, partial(_begin, folder, settings, load, wanted), partial(_lost, folder))
        _gather(folder, rows, outcomes, fresh, progress)
        folder.tidy()
    return [outcomes[row.name] for row in rows]


def _spreading(ray: str | None, device: str) -> AbstractContextManager[Callable[..., Iterator[Outcome]]]:
    """What gives rows to processes: to those of a cluster, or to our own."""
    if ray is None:
        return nullcontext(pool.spread)
    from clmsda.batch.cluster import connected

    return connected(ray, device)


def _gather(
    folder: Folder,
    rows: Sequence[Row],
    outcomes: dict[str, Outcome],
    fresh: Iterator[Outcome],
    progress: Callable[[Progress], None],
) -> None:
    """Add outcomes as they come; table and page are renewed now and then, and at the end."""
    started, due = time.monotonic(), RENEWED_S
    bad = sum(one.status != DONE for one in outcomes.values())
    for count, outcome in enumerate(fresh, 1):
        outcomes[outcome.name], bad = outcome, bad + (outcome.status != DONE)
        gone = time.monotonic() - started
        progress(Progress(len(outcomes), bad, len(rows), gone / count * (len(rows) - len(outcomes))))
        if gone > due:
            _write(folder, rows, outcomes)
            ended = time.monotonic() - started
            due = ended + max(RENEWED_S, (ended - gone) / RENEWING_SHARE)
    _write(folder, rows, outcomes)


def _begin(
    folder: Folder, settings: dict[str, str], load: Callable[[], models.Model], wanted: Wanted
) -> Callable[[Row], Outcome]:
    """In each process: the model, once, and the folder, which another machine may not see. Raises BatchError."""
    folder.check(settings)
    return partial(_work, folder=folder, model=load(), wanted=wanted)


def _work(row: Row, folder: Folder, model: models.Model, wanted: Wanted) -> Outcome:
    return work(row, folder, model, wanted)


def _lost(folder: Folder, row: Row) -> Outcome:
    known = folder.outcome(row.name)  # it may have been killed after its last step
    if known is not None:
        return known
    outcome = failed(
        row, f"its process was killed {pool.ATTEMPTS} times: is the memory too small for this CT? then try --retry"
    )
    folder.put(outcome)
    return outcome


def _write(folder: Folder, rows: Sequence[Row], outcomes: dict[str, Outcome]) -> None:
    known = [outcomes[row.name] for row in rows if row.name in outcomes]
    write_results(known, folder.path / "results.csv")
    write_page(known, len(rows), folder.path / "results.html")


def _digest(rows: Sequence[Row]) -> str:
    """What tells a table from another; more rows at its end are another one, too."""
    text = "\n".join(repr((row.name, str(row.ct), row.prompts, list(map(str, row.drawn)), row.series)) for row in rows)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

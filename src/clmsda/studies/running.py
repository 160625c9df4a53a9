"""Runs a study: trains and evaluates variants x folds x seeds, and goes on wherever it was stopped.

A run that is done is kept. One that was training goes on from its checkpoint, one that was being evaluated after its
last complete case. Ranks of `torchrun` share the training of each run, and the leader evaluates; independent
processes share the runs by `shard`, and never work on one run at the same time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from clmsda import models
from clmsda.cohorts import Case
from clmsda.errors import InputError
from clmsda.files import claimed, make_folder, replacing
from clmsda.images import write_mask
from clmsda.runtimes.torch import select_device
from clmsda.studies import detectors, peers, protocols
from clmsda.studies.config import Peer, Protocol, Study, Variant
from clmsda.studies.folder import SPLIT, Prepared, Run, plan, prepare
from clmsda.studies.progress import DONE, is_done, read_epochs, seconds_left, steps
from clmsda.studies.protocols import Prediction, Target
from clmsda.studies.score_rows import SCORE_FILE, SCORES, SLICE_FILE, SLICES, read_rows, write_rows
from clmsda.studies.scores import score, score_slices
from clmsda.training import ConfigError, TrainingConfig, is_finished, train
from clmsda.training.loop import MODEL
from clmsda.training.ranks import Ranks, join
from clmsda.words import duration

if TYPE_CHECKING:
    from rich.progress import Progress

Method = Callable[[Target], dict[Protocol, list[Prediction]]]
"""Outlines a tumor by each protocol; a prediction for each click."""


def run_study(
    study: Study, out: Path, *, device: str = "auto", shard: tuple[int, int] = (1, 1), minutes: float | None = None
) -> bool:
    """Run a study, or go on with it, in the folder `out`; returns whether every run of the shard is done.

    shard: (i, n) takes the i-th of n parts of the runs, counted from 1. minutes: stop in good order after about
    this long. Raises InputError before any long work for what is wrong with the study, its cohort or its peers.
    """
    if not 1 <= shard[0] <= shard[1]:
        raise ConfigError(f"expected a shard i/n with i from 1 to n, found {shard[0]}/{shard[1]}")
    deadline = float("inf") if minutes is None else time.monotonic() + 60 * minutes
    with join(select_device(device)) as ranks:
        ready = ranks.from_leader(_prepare(study, out) if ranks.leads else None)
        assert ready is not None  # the leader's
        with _bars(ranks.leads) as bars:
            if ranks.leads and "automatic" in study.protocols:
                _say(bars, detectors.reservation(study.automatic, ready.seen, ready.patients))
            return _run_all(ready, ranks, shard, device, deadline, bars)


def _run_all(
    ready: Prepared, ranks: Ranks, shard: tuple[int, int], device: str, deadline: float, bars: Progress
) -> bool:
    study, whole = ready.study, plan(ready.study, len(ready.tests))
    mine = sorted(whole[shard[0] - 1 :: shard[1]], key=lambda run: _order(run, study))
    overall = bars.add_task(study.name, total=len(whole), left=_seldom(lambda: _left(ready)))
    for run in mine:
        done = [is_done(one.folder(ready.out)) for one in whole]
        bars.update(overall, completed=sum(done))
        if ranks.from_leader(is_done(run.folder(ready.out))):
            continue
        if ranks.leads:
            left = duration(_left(ready))
            text = f"{sum(done)} of {len(whole)} runs done, time left {left}; now {run.name}"
            _say(bars, text)
        _carry_out(ready, run, ranks, device, deadline, bars)
        if ranks.from_leader(time.monotonic() > deadline):  # asked last: every call gets on, however short it is
            break
    bars.update(overall, completed=sum(is_done(run.folder(ready.out)) for run in whole))
    return ranks.from_leader(all(is_done(run.folder(ready.out)) for run in mine))


def _order(run: Run, study: Study) -> tuple[bool, int, int]:
    """Peers, then seed by seed and fold by fold all variants: so that what is there can be compared early."""
    trained = isinstance(run.row, Variant)
    return trained, study.seeds.index(run.seed) if trained else 0, run.fold


def _carry_out(ready: Prepared, run: Run, ranks: Ranks, device: str, deadline: float, bars: Progress) -> None:
    """Train and evaluate one run, as far as time allows; nothing where another process is at it."""
    folder = run.folder(ready.out)
    if ranks.leads:
        make_folder(folder)
    with claimed(folder) if ranks.leads else nullcontext(True) as free:
        if not ranks.from_leader(free):
            if ranks.leads:
                _say(bars, f"{run.name}: another process is at it")
            return
        seconds = 0.0
        if isinstance(run.row, Variant):
            started = time.monotonic()
            minutes = None if deadline == float("inf") else max(0.0, deadline - started) / 60
            train(training_config(ready, run), folder, device=device, minutes=minutes, bar=bars)
            seconds = time.monotonic() - started
        if ranks.leads and (isinstance(run.row, Peer) or is_finished(folder)):
            _evaluate(ready, run, device, deadline, seconds, bars)
        ranks.from_leader(None)  # wait for it


def training_config(ready: Prepared, run: Run) -> TrainingConfig:
    """The configuration of a run's training: the study's, the variant's differences, and the fold."""
    assert isinstance(run.row, Variant)
    study = ready.study
    if study.trains_on_phantoms:
        return study.training_config(run.row, run.seed)
    split = str(ready.out / SPLIT)
    return study.training_config(run.row, run.seed, source=str(ready.cohort.folder), split=split, fold=run.fold)


def _evaluate(ready: Prepared, run: Run, device: str, deadline: float, training_s: float, bars: Progress) -> None:
    """Score every test case that is not scored yet, and say that the run is done; or stop at the deadline."""
    folder, cases = run.folder(ready.out), ready.cases(run)
    wanted = [run.row.given] if isinstance(run.row, Peer) else ready.study.protocols
    rows, slices, complete = _scored(folder, wanted)
    method, digests = _method(ready, run, device)
    facts = {"variant": run.row.name, "fold": run.fold, "seed": run.seed}
    started, left = time.monotonic(), [case for case in cases if case.case not in complete]
    task = bars.add_task(f"{run.name}: evaluation", total=len(cases), completed=len(cases) - len(left))
    for case in left:
        target = Target.open(ready.cohort, case)
        for protocol, predictions in method(target).items():
            masks = make_folder(folder / "predictions" / protocol)
            write_mask(predictions[0].mask, masks / f"{case.case}.nii.gz")
            slices += score_slices(target, protocol, predictions[0], facts)
            rows.append(score(target, protocol, predictions, facts))
        write_rows(folder / SLICE_FILE, SLICES, slices)
        write_rows(folder / SCORE_FILE, SCORES, rows)  # last: what it holds is complete
        bars.advance(task)
        if case is not left[-1] and time.monotonic() > deadline:
            break
    else:
        seconds = (time.monotonic() - started) / max(len(left), 1) * len(cases)
        epochs = read_epochs(folder)
        _write_done(folder, digests, max(training_s, epochs[-1]["seconds"] if epochs else 0.0), seconds)
    bars.remove_task(task)


def _method(ready: Prepared, run: Run, device: str) -> tuple[Method, Mapping[str, str | None]]:
    """How a run outlines a tumor, and the digests of its model and of the detector that it needs."""
    study, row = ready.study, run.row
    if isinstance(row, Variant):
        model, config = models.load(run.folder(ready.out) / MODEL, device), training_config(ready, run)
        at_size = config.loss.pairs or config.views.size_error > 1
        searching = "automatic" in study.protocols
        detector = detectors.load(study.automatic.detector, device) if searching else None
        return lambda target: protocols.predict(
            target, model, study.protocols, protocols.clicks(target, study.click), at_size=at_size, detector=detector
        ), {"model": model.digest} | ({"detector": detector.digest} if detector else {})
    if row.predictions is not None:
        return lambda target: {row.given: [peers.read_prediction(row, target)]}, {"model": None}
    if row.method == "ball":
        return lambda target: {row.given: [peers.ball(target)]}, {"model": None}
    return lambda target: {
        row.given: [peers.region_growing(target, c, row.multiplier) for c in protocols.clicks(target, study.click)]
    }, {"model": None}


def _scored(folder: Path, wanted: Sequence[Protocol]) -> tuple[list[dict[str, str]], list[dict[str, str]], set[str]]:
    """The rows of scores.csv and slices.csv of the cases that are scored under every protocol, and these cases."""
    rows, slices = read_rows(folder / SCORE_FILE, SCORES), read_rows(folder / SLICE_FILE, SLICES)
    under: dict[str, set[str]] = {}
    for row in rows:
        under.setdefault(row["case"], set()).add(row["protocol"])
    complete = {case for case, found in under.items() if found >= set(wanted)}
    rows, slices = ([row for row in table if row["case"] in complete] for table in (rows, slices))
    return rows, slices, complete


def _write_done(folder: Path, digests: Mapping[str, str | None], training_s: float, evaluation_s: float) -> None:
    seconds = {"training_seconds": round(training_s, 1), "evaluation_seconds": round(evaluation_s, 1)}
    facts = {"seconds": round(sum(seconds.values()), 1), **seconds, **digests}
    with replacing(folder / DONE) as temporary:
        temporary.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf8")


def _prepare(study: Study, out: Path) -> Prepared:
    """Make the folder ready, showing how phantoms come along; a refusal before that is all that is said."""
    bars = _bars(enabled=True)
    task = bars.add_task("phantoms", total=study.cohort.phantoms.cases if study.cohort.phantoms else None)

    def made(_: Case) -> None:
        bars.start()
        bars.advance(task)

    try:
        return prepare(study, out, made)
    finally:
        if bars.live.is_started:
            bars.stop()


def _left(ready: Prepared) -> float | None:
    try:
        return seconds_left(steps(ready.study, ready.out, [len(names) for names in ready.tests]))
    except InputError:  # a damaged file stops the run whose it is, not this
        return None


def _seldom(work: Callable[[], float | None], pause_s: float = 5.0) -> Callable[[], float | None]:
    """`work`, asked anew only after a pause: bars are drawn ten times a second, and draw away training's time."""
    known, due = None, 0.0

    def value() -> float | None:
        nonlocal known, due
        if time.monotonic() >= due:
            known, due = work(), time.monotonic() + pause_s
        return known

    return value


def _say(bars: Progress, text: str) -> None:
    """Above the bars; nothing for nothing."""
    if text:
        bars.console.print(text, highlight=False, markup=False)


def _bars(enabled: bool) -> Progress:
    """Progress on stderr: the study's bar, with the time that is left, above the current run's."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class TimeLeft(TimeRemainingColumn):
        def render(self, task: Task) -> Text:
            left = task.fields.get("left")
            return Text(duration(left()) + " left", style="progress.remaining") if left else super().render(task)

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeLeft())
    return Progress(*columns, console=Console(stderr=True), disable=not enabled)

"""How far a study is, read from its folder, and how long the rest will take, judged by what is finished."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from clmsda.studies.config import Study, StudyError, Variant
from clmsda.studies.folder import Run, known_study, plan, tested
from clmsda.studies.score_rows import SCORE_FILE, SCORES, read_rows
from clmsda.training import is_finished
from clmsda.training.loop import CONFIG, METRICS

DONE = "done.json"

Phase = Literal["waiting", "training", "evaluating", "done"]


@dataclass(frozen=True)
class Step:
    """Where a run stands. done, total: epochs while it trains, cases while it is evaluated.

    training_s, evaluation_s: seconds that both took; of a run that is not done, what is known of its training.
    """

    run: Run
    phase: Phase
    done: int = 0
    total: int = 0
    training_s: float = 0.0
    evaluation_s: float = 0.0


def survey(out: Path) -> tuple[Study, list[Step]]:
    """The study of a folder and where each of its runs stands. Raises StudyError where there is none."""
    study, _ = known_study(out)
    return study, steps(study, out, tested(study, out))


def steps(study: Study, out: Path, tests: Sequence[int]) -> list[Step]:
    """Where each run stands. tests: how many cases each fold tests."""
    return [_step(study, run, out, tests[run.fold]) for run in plan(study, len(tests))]


def is_done(folder: Path) -> bool:
    """Whether a run is finished; one whose scores were deleted is not."""
    return (folder / DONE).is_file() and (folder / SCORE_FILE).is_file()


def _step(study: Study, run: Run, out: Path, cases: int) -> Step:
    folder = run.folder(out)
    if is_done(folder):
        return Step(run, "done", cases, cases, *read_done(folder, "training_seconds", "evaluation_seconds"))
    trained = 0.0
    if isinstance(run.row, Variant):
        epochs = read_epochs(folder)
        trained = epochs[-1]["seconds"] if epochs else 0.0
        if not is_finished(folder):
            phase: Phase = "training" if (folder / CONFIG).is_file() else "waiting"
            return Step(run, phase, len(epochs), study.epochs(run.row), trained)
    scored = len({row["case"] for row in read_rows(folder / SCORE_FILE, SCORES)})
    begun = isinstance(run.row, Variant) or scored > 0
    return Step(run, "evaluating" if begun else "waiting", scored, cases, trained)


def seconds_left(steps: Iterable[Step]) -> float | None:
    """Seconds of work that are left, by what other runs of the same row took; None while nothing is known.

    A row of which no run is finished counts like the mean of the others, or as its epochs so far suggest.
    """
    steps = list(steps)
    open_steps = [step for step in steps if step.phase != "done"]
    left = 0.0
    for step in open_steps:
        trained = isinstance(step.run.row, Variant)
        training = _expected(step, steps) if trained else 0.0
        if training is None:
            return None
        evaluation = _mean(step, steps, "evaluation_s") or 0.0
        share = step.done / max(step.total, 1)
        if step.phase == "evaluating" or not trained:
            left += (1 - share) * evaluation
        else:
            left += (1 - share) * training + evaluation
    return left


def _expected(step: Step, steps: Sequence[Step]) -> float | None:
    """How long a run's training should take in all."""
    if any(other.phase == "done" and other.run.row == step.run.row for other in steps):
        return _mean(step, steps, "training_s")
    begun = [s for s in steps if s.phase == "training" and s.done]
    same = [s for s in begun if s.run.row == step.run.row]
    rates = [s.training_s / s.done * s.total for s in same or begun]
    known = _mean(step, steps, "training_s")
    return float(np.mean(rates)) if same or (rates and known is None) else known


def _mean(step: Step, steps: Sequence[Step], name: str) -> float | None:
    """Mean over finished runs of the same row, or else of all rows of its kind."""
    finished = [s for s in steps if s.phase == "done" and isinstance(s.run.row, type(step.run.row))]
    same = [s for s in finished if s.run.row == step.run.row]
    return float(np.mean([getattr(s, name) for s in same or finished])) if finished else None


def read_done(folder: Path, *names: str) -> list[float]:
    """Numbers of a finished run's done.json. Raises StudyError."""
    try:
        facts = json.loads((folder / DONE).read_bytes())
        return [float(facts[name]) for name in names]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise StudyError(f"{folder / DONE} is damaged: remove it, and run the study again") from error


def read_epochs(folder: Path) -> tuple[dict[str, float], ...]:
    """The lines of a run's metrics.jsonl, as far as it came; its seconds are of all processes that had a part in it."""
    path, epochs = folder / METRICS, []
    lines = path.read_text(encoding="utf8", errors="replace").splitlines() if path.is_file() else []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            epochs.append({name: float(row[name]) for name in row})
        except (TypeError, ValueError, RecursionError) as error:
            raise StudyError(
                f"{path}, line {number}: expected the numbers of an epoch, found {line[:40]!r}: bring back the file, "
                "or remove the folder of this run and run the study again"
            ) from error
    return tuple(epochs)

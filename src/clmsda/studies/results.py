"""Reads what a study left in its folder: its description, its runs, and the scores of those that are finished.

    OUT/study.json, OUT/split.json
    OUT/runs/VARIANT/fold-K/seed-S/     config.json, metrics.jsonl, scores.csv, slices.csv, predictions/, done.json

An unfinished study is read as far as it is: `Results.missing` says what is not there. What is damaged is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from clmsda.cohorts import Cohort, CohortError, Split, describe
from clmsda.studies.config import Peer, Study, StudyError, Variant
from clmsda.studies.detectors import reservation
from clmsda.studies.folder import SPLIT, Run, known_study, plan
from clmsda.studies.progress import is_done, read_done, read_epochs
from clmsda.studies.score_rows import AGAIN, SCORE_FILE, Score, SliceScore, first_problem, read_scores, read_slices
from clmsda.studies.statistics import Comparison, Estimate, compare, estimate, per_patient
from clmsda.training import TrainingConfig

GROUPS = {group: f"group {group} ({words})" for group, words in describe.GROUPS.items()}
"""Size groups as they are printed."""


@dataclass(frozen=True)
class CohortUsed:
    """The cohort that a study was run on. path: from the study's folder. All are empty before it is made.

    seen: its patients whom the detector of the automatic protocol knows; None where that is not known.
    """

    path: str = ""
    digest: str = ""
    synthetic: bool = False
    seen: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Record:
    """What a run left. epochs: the lines of metrics.jsonl, as far as it came. seconds: all that it took, when done."""

    run: Run
    folder: Path
    finished: bool
    epochs: tuple[dict[str, float], ...] = ()
    seconds: float | None = None

    @cached_property
    def config(self) -> TrainingConfig | None:
        """The resolved training configuration; None before training began, and for a peer."""
        path = self.folder / "config.json"
        if not path.is_file():
            return None
        try:
            return TypeAdapter(TrainingConfig).validate_json(path.read_bytes())
        except ValidationError as error:
            raise StudyError(
                f"{path} is damaged ({first_problem(error)}): bring it back, or remove the folder of this run and run "
                "the study again"
            ) from error


@dataclass(frozen=True)
class Results:
    """Everything that a report is made of, in the study's order of variants.

    collection: whose scores alone these are; empty for those of all cases.
    """

    folder: Path
    study: Study
    cohort: CohortUsed
    split: Split | None
    records: tuple[Record, ...]
    scores: tuple[Score, ...]
    slices: tuple[SliceScore, ...]
    missing: tuple[str, ...]
    collection: str = ""

    @property
    def rows(self) -> tuple[Variant | Peer, ...]:
        """Variants, then peers."""
        return (*self.study.variants, *self.study.peers)

    def place(self, name: str) -> int:
        """Of a method among the rows, by which it has its color and its marker."""
        return [row.name for row in self.rows].index(name)

    @property
    def headline(self) -> str:
        """The protocol of Tables 4 to 6: the paper's, where the study has it."""
        return "oracle" if "oracle" in self.study.protocols else self.study.protocols[0]

    @property
    def shown_protocols(self) -> list[str]:
        """The study's protocols, and those that only its peers were scored under."""
        return list(dict.fromkeys([*self.study.protocols, *(score.protocol for score in self.scores)]))

    @property
    def searched(self) -> str:
        """What captions of several protocols say of the automatic one, where somebody was scored under it."""
        if not any(score.protocol == "automatic" for score in self.scores):
            return ""
        return (
            " Automatic: of a chest, only the slab around the tumor is searched and scored, which flatters it: what "
            "would be found falsely elsewhere does not count."
        )

    @property
    def reservation(self) -> str:
        """Whether the networks' automatic scores are of patients whom the detector has seen; empty where not."""
        names = {variant.name for variant in self.study.variants}
        tested = {s.patient for s in self.scores if s.protocol == "automatic" and s.variant in names}
        return reservation(self.study.automatic, self.cohort.seen, tested) if tested else ""

    @property
    def folds(self) -> int:
        return len(self.split.folds) if self.split else 1

    @property
    def validation(self) -> str:
        """How the study was validated, in words."""
        if self.split is None:
            return "every case tested; trained on other phantoms"
        return "hold-out" if self.folds == 1 else f"{self.folds}-fold cross-validation"

    def caption(self, words: str) -> str:
        """A caption that says so where no patient is behind it, or one collection alone."""
        alone = f" Cases of {self.collection} alone." if self.collection else ""
        return words + alone + " Synthetic phantoms, not patients." * self.cohort.synthetic

    def names(self, protocol: str) -> list[str]:
        """Variants, and those peers that were scored under this protocol."""
        scored = {score.variant for score in self.scores if score.protocol == protocol}
        peers = [peer.name for peer in self.study.peers if peer.name in scored]
        return [variant.name for variant in self.study.variants] + peers

    def of(self, variant: str, protocol: str, group: int | None = None) -> list[Score]:
        """The scores of a variant under one protocol, of one size group or of all."""
        return [s for s in self._indexed.get((variant, protocol), []) if group is None or s.size_group == group]

    def patients(self, variant: str, protocol: str, metric: str, group: int | None = None) -> dict[str, float]:
        """Each patient's mean of a metric over seeds and tumors."""
        return per_patient((score.patient, getattr(score, metric)) for score in self.of(variant, protocol, group))

    def percent(self, variant: str, protocol: str, metric: str, group: int | None = None) -> Estimate:
        """Mean over patients of a metric in percent."""
        values = self.patients(variant, protocol, metric, group).values()
        return estimate([100 * value for value in values])

    def compared(self, group: int | None) -> list[Comparison]:
        """Paired tests of every two methods under the headline protocol, in points of F1; of one size group or all."""
        shares = {name: self.patients(name, self.headline, "f1", group) for name in self.names(self.headline)}
        return compare({name: {patient: 100 * f1 for patient, f1 in own.items()} for name, own in shares.items()})

    @cached_property
    def _indexed(self) -> dict[tuple[str, str], list[Score]]:
        index: dict[tuple[str, str], list[Score]] = {}
        for score in self.scores:
            index.setdefault((score.variant, score.protocol), []).append(score)
        return index


def volume_differences(scores: Sequence[Score]) -> tuple[list[float], list[float]]:
    """Mean of measured and true volume (ml), and their difference in percent of it; empty predictions left out."""
    pairs = [(s.volume_ml, s.true_volume_ml) for s in scores if s.volume_ml and s.true_volume_ml]
    return [(a + b) / 2 for a, b in pairs], [200 * (a - b) / (a + b) for a, b in pairs]


def diameter_differences(scores: Sequence[Score]) -> tuple[list[float], list[float]]:
    """Mean of measured and true long axis (mm), and their difference in mm; empty predictions left out."""
    pairs = [(s.long_axis_mm, s.true_long_axis_mm) for s in scores if s.long_axis_mm and s.true_long_axis_mm]
    return [(a + b) / 2 for a, b in pairs], [a - b for a, b in pairs]


def read_results(folder: Path | str) -> Results:
    """Read a study folder, finished or not. Raises StudyError, or CohortError for its split."""
    folder = Path(folder)
    study, used = known_study(folder)
    split = Split.read(folder / SPLIT) if (folder / SPLIT).is_file() else None
    records = tuple(_record(run, folder) for run in _in_order(study, len(split.folds) if split else 1))
    scores: list[Score] = []
    slices: list[SliceScore] = []
    missing = _unfinished(records)
    for record in records:
        if record.finished:
            own = read_scores(record.run, record.folder)
            missing += _untested(record, own, split, study)
            scores += own
            slices += read_slices(record.run, record.folder)
    cohort = TypeAdapter(CohortUsed).validate_python(used)
    return Results(folder, study, cohort, split, records, tuple(scores), tuple(slices), tuple(missing))


def open_cohort(results: Results) -> tuple[Cohort | None, str]:
    """The study's cohort, or None and why not: scores stay true without it, tables and pictures of it do not."""
    used = results.cohort
    if not used.digest:
        return None, "the cohort is not made yet: what shows its CT and its tumors is left out"
    place = results.folder / used.path
    if not place.is_dir():
        return None, f"the cohort {place} is not there any more: what shows its CT and its tumors is left out"
    try:
        cohort = Cohort.open(place)
    except CohortError as error:
        return None, f"the cohort cannot be read, so what shows its CT and its tumors is left out ({error})"
    if cohort.digest != used.digest:
        return None, (
            f"the cohort {place} has changed since the study was run (digest {cohort.digest[:12]}, then "
            f"{used.digest[:12]}): what shows its CT and its tumors is left out"
        )
    return cohort, ""


def of_collection(results: Results, cohort: Cohort, collection: str) -> tuple[Results, Cohort]:
    """The scores of one collection's cases, and these cases. Raises StudyError where the cohort has none of it."""
    names = {case.case for case in cohort.cases if case.collection == collection}
    if not names:
        found = ", ".join(sorted({case.collection for case in cohort.cases if case.collection})) or "none"
        raise StudyError(f"{cohort.folder}: expected cases of the collection {collection!r}, found {found}")
    scores = tuple(score for score in results.scores if score.case in names)
    slices = tuple(one for one in results.slices if one.case in names)
    return replace(results, scores=scores, slices=slices, collection=collection), cohort.subset(names)


def _in_order(study: Study, folds: int) -> list[Run]:
    """Every run that the study asks for, variants before peers."""
    return sorted(plan(study, folds), key=lambda run: isinstance(run.row, Peer))


def _record(run: Run, out: Path) -> Record:
    folder = run.folder(out)
    finished = is_done(folder)
    (seconds,) = read_done(folder, "seconds") if finished else [None]
    return Record(run, folder, finished, read_epochs(folder), seconds)


def _unfinished(records: Sequence[Record]) -> list[str]:
    waiting = [record for record in records if not record.finished]
    if not waiting:
        return []
    begun = [one.run.name + (f" (epoch {len(one.epochs)})" if one.epochs else "") for one in waiting]
    return [f"{len(waiting)} of {len(records)} runs are not finished, and left out of all scores: {_some(begun)}"]


def _untested(record: Record, scores: list[Score], split: Split | None, study: Study) -> list[str]:
    """Test cases of a finished run without a score."""
    run = record.run
    expected = set(split.folds[run.fold].test) if split else {score.case for score in scores}
    unknown = {score.case for score in scores} - expected
    if unknown:
        raise StudyError(
            f"{record.folder / SCORE_FILE}: found cases that fold {run.fold} does not test: {_some(sorted(unknown))}: "
            f"{AGAIN}"
        )
    found = []
    wanted = [run.row.given] if isinstance(run.row, Peer) else study.protocols
    for protocol in wanted:
        lacking = sorted(expected - {score.case for score in scores if score.protocol == protocol})
        if lacking:
            found.append(f"{run.name}: no {protocol} score of {_some(lacking)}")
    return found


def _some(names: list[str]) -> str:
    return "; ".join(names[:5]) + (f"; and {len(names) - 5} more" if len(names) > 5 else "")

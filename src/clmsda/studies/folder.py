"""A study's folder: what was studied, so that the same command goes on and another one is refused.

OUT/study.json    the study as it was resolved, with the cohort's digest
OUT/split.json    which cases each fold trains on, stops by and tests (not where every case is tested)
OUT/cohort/       the phantoms, where the study makes its own
OUT/runs/VARIANT/fold-K/seed-S/    training's files; then scores.csv, slices.csv, predictions/, and done.json
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clmsda.cohorts import Case, Cohort, Split, check_split, hold_out_test, k_fold, write_phantoms
from clmsda.errors import InputError
from clmsda.files import claimed, make_folder, replacing
from clmsda.studies.config import Peer, SplitConfig, Study, StudyError, Variant, check_study, dotted, slug
from clmsda.studies.detectors import check_detector, seen
from clmsda.studies.peers import check_predictions
from clmsda.version import software

STUDY, SPLIT, RUNS = "study.json", "split.json", "runs"


@dataclass(frozen=True)
class Run:
    """One row of the study on one fold, with one seed."""

    row: Variant | Peer
    fold: int
    seed: int

    @property
    def key(self) -> tuple[str, int, int]:
        """As every row of its scores has it."""
        return self.row.name, self.fold, self.seed

    @property
    def name(self) -> str:
        return f"{self.row.name}, fold {self.fold}, seed {self.seed}"

    def folder(self, out: Path) -> Path:
        return out / RUNS / self.row.slug / f"fold-{self.fold}" / f"seed-{self.seed}"


@dataclass(frozen=True)
class Prepared:
    """A study ready to run. tests: the names of the test cases of each fold.

    seen: the cohort's patients whom the detector of the automatic protocol knows; None where that is not known.
    """

    out: Path
    study: Study
    cohort: Cohort
    tests: tuple[tuple[str, ...], ...]
    seen: list[str] | None

    @property
    def patients(self) -> set[str]:
        """All who are tested."""
        return {case.patient for case in self.cohort.subset({name for names in self.tests for name in names}).cases}

    def cases(self, run: Run) -> tuple[Case, ...]:
        """The cases that a run is tested on."""
        return self.cohort.subset(set(self.tests[run.fold])).cases


def plan(study: Study, folds: int) -> list[Run]:
    """Every run: peers first (what is wrong with them should show at once), then variant by variant."""
    peers = [Run(peer, fold, 0) for peer in study.peers for fold in range(folds)]
    return peers + [Run(one, fold, seed) for one in study.variants for fold in range(folds) for seed in study.seeds]


def prepare(study: Study, out: Path, made: Callable[[Case], None] | None = None) -> Prepared:
    """Make or check the study's folder, the phantoms that it asks for, and its split.

    made: called for every phantom that is there. Raises StudyError where the folder holds another study, the
    cohort changed since, or predictions are missing; what the folder holds stays as it is.
    """
    make_folder(out)
    with claimed(out, wait=True):
        stored, used = read_study_file(out) or (study, {})
        _refuse_changes(stored, study, out)
        if "automatic" in study.protocols:
            check_detector(study.automatic)
        _write(study, used, out)
        cohort = _cohort(study, out, made)
        if used.get("digest") not in (None, cohort.digest):
            raise StudyError(_changed(cohort, out))
        tests = _tests(study.split, cohort, out)
        for peer in study.peers:
            if peer.predictions is not None:
                check_predictions(peer, {name for names in tests for name in names})
        used = _used(study, cohort, out)
        _write(study, used, out)
    return Prepared(out, study, cohort, tests, used["seen"])


def read_study_file(out: Path) -> tuple[Study, dict[str, Any]] | None:
    """The study of a folder and what it knows of its cohort (see `_used`); None where there is none.

    Raises StudyError for a damaged file.
    """
    path = out / STUDY
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_bytes())
        used = {key: values["cohort"].pop(key) for key in _USED if key in values["cohort"]}
        values["split"].pop("kind")
        values["split"] = values["split"] or None
        for row in (*values["variants"], *values["peers"]):
            row.pop("slug")
        values.pop("software")
        for variant in values["variants"]:
            variant |= variant.pop("differences")
        return check_study(values, str(path)), used
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = str(error) if isinstance(error, InputError) else "it is not what a study writes there"
        raise StudyError(f"{path} is damaged ({why}): bring it back, or run the study into a new folder") from error


def known_study(out: Path) -> tuple[Study, dict[str, Any]]:
    """As `read_study_file`; raises StudyError where there is none, too."""
    stored = read_study_file(out)
    if stored is None:
        raise StudyError(f"{out} is not a study's folder: it has no study.json; make one with `clmsda study run`")
    return stored


def tested(study: Study, out: Path) -> list[int]:
    """How many cases each fold tests; empty while the cohort is still being made."""
    if study.split is not None:
        return [len(fold.test) for fold in Split.read(out / SPLIT).folds] if (out / SPLIT).is_file() else []
    stored = read_study_file(out)
    return [stored[1]["cases"]] if stored and "cases" in stored[1] else []


_USED = ("path", "digest", "cases", "synthetic", "seen")


def _used(study: Study, cohort: Cohort, out: Path) -> dict[str, Any]:
    """What study.json says of a cohort. A path within the study's folder is relative to it, so that both can move.

    seen: see `Prepared`; no phantom has been.
    """
    folder, home = cohort.folder.resolve(), out.resolve()
    path = folder.relative_to(home) if folder.is_relative_to(home) else folder
    synthetic = all(re.fullmatch(r"phantom-\d+", case.case) for case in cohort.cases)
    known = [] if synthetic else seen(study.automatic, [case.patient for case in cohort.cases])
    return dict(zip(_USED, (str(path), cohort.digest, len(cohort.cases), synthetic, known), strict=True))


def _write(study: Study, used: dict[str, Any], out: Path) -> None:

    values = asdict(study)
    values["cohort"] |= used
    values["split"] = {"kind": study.split.kind, **asdict(study.split)} if study.split else {"kind": "none"}
    for row in (*values["variants"], *values["peers"]):
        row["slug"] = slug(row["name"])
    with replacing(out / STUDY) as temporary:
        text = json.dumps(values | {"software": software()}, indent=2)
        temporary.write_text(text + "\n", encoding="utf8")


def _refuse_changes(stored: Study, study: Study, out: Path) -> None:
    """Raise StudyError where results in the folder would not be the study's. Rows, seeds and titles may be added."""
    was, now = _decisive(stored), _decisive(study)
    changed = [f"{key} was {was.get(key)!r}, is {now.get(key)!r}" for key in sorted(was.keys() | now.keys())
               if was.get(key) != now.get(key)]  # fmt: skip
    for what, before, after in (
        ("seed", stored.seeds, study.seeds),
        ("variant", stored.variants, study.variants),
        ("peer", stored.peers, study.peers),
    ):
        rows = {getattr(row, "name", row): row for row in after}
        for row in before:
            name = getattr(row, "name", row)
            if name not in rows:
                changed.append(f"{what} {name!r} is gone")
            elif rows[name] != row:
                changed.append(f"{what} {name!r} was {_differing(row, rows[name])}, is {_differing(rows[name], row)}")
    if changed:
        raise StudyError(
            f"{out} holds another study than the TOML describes ({'; '.join(changed)}): put the TOML back, or choose "
            "another --out. Variants, peers and seeds may be added."
        )


def _decisive(study: Study) -> dict[str, Any]:
    """All that every result depends on, with dotted keys. The cohort's digest stands for its folder."""
    values = asdict(study)
    values["cohort"].pop("folder")
    values["automatic"].pop("patients")
    values["split"] = values["split"] or "none"
    keys = ("name", "cohort", "split", "training", "protocols", "click", "automatic")
    return dotted({key: values[key] for key in keys})


def _differing(row: Any, other: Any) -> str:
    """The values of a row that differ from another's."""
    a, b = dotted(asdict(row)), dotted(asdict(other))
    return ", ".join(f"{key} = {value!r}" for key, value in a.items() if value != b.get(key)) or "without them"


def _changed(cohort: Cohort, out: Path) -> str:
    """How the cohort differs from the one that the study was run on, and what to do."""
    split = Split.read(out / SPLIT) if (out / SPLIT).is_file() else None
    known = {name for part in asdict(split.folds[0]).values() for name in part} if split else set()
    names = {case.case for case in cohort.cases}
    parts = [
        f"{len(some)} cases {what}: {', '.join(sorted(some)[:5])}"
        for what, some in (("are new", names - known), ("are gone", known - names))
        if split and some
    ]
    return (
        f"the cohort {cohort.folder} changed since the study in {out} was begun "
        f"({'; '.join(parts) or 'measurements, patients or voxels are others'}): bring back the cohort as it was, or "
        "choose another --out"
    )


def _cohort(study: Study, out: Path, made: Callable[[Case], None] | None) -> Cohort:
    folder, phantoms = Path(study.cohort.folder or out / "cohort"), study.cohort.phantoms
    if phantoms is None:
        return Cohort.open(folder)
    cohort = write_phantoms(folder, phantoms.cases, seed=phantoms.seed, matrix=phantoms.matrix, progress=made)
    if len(cohort.cases) > phantoms.cases:
        raise StudyError(
            f"{folder} holds {len(cohort.cases)} cases, but the study asks for the phantoms {phantoms.seed} to "
            f"{phantoms.seed + phantoms.cases - 1} alone: choose another cohort.folder"
        )
    return cohort


def _tests(split: SplitConfig | None, cohort: Cohort, out: Path) -> tuple[tuple[str, ...], ...]:
    """The test cases of each fold, from split.json, which is written where it is missing."""
    if split is None:
        return (tuple(case.case for case in cohort.cases),)
    path = out / SPLIT
    if not path.is_file():
        new = _split(split, cohort)
        check_split(new, cohort)
        new.write(path)
    found = Split.read(path)
    check_split(found, cohort)
    return tuple(fold.test for fold in found.folds)


def _split(wanted: SplitConfig, cohort: Cohort) -> Split:
    if wanted.file is not None:
        return Split.read(wanted.file)
    if wanted.folds is not None:
        folds = k_fold(cohort.cases, wanted.folds, wanted.validation_fraction, wanted.seed)
    else:
        folds = hold_out_test(cohort.cases, wanted.test_fraction or 0.0, wanted.validation_fraction, wanted.seed)
    return Split(cohort.digest, wanted.seed, folds)

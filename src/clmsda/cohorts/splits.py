"""Patient-level splits, stratified by tumor size group, and the file that keeps them.

    split.json    {"cohort": digest, "seed": 0, "folds": [{"training": [case...], "validation": [...], "test": [...]}]}

Training fits the network and decides S_mean, validation stops it, test is only ever scored. A hold-out has one
fold; k-fold cross-validation has k, and every case is in exactly one test part.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from clmsda.cohorts.cohort import Case, Cohort, CohortError
from clmsda.files import replacing

FORBID = {"extra": "forbid"}
Seed = int | Sequence[int]
Names = Annotated[tuple[str, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Fold:
    """The names of the cases of each part. No patient is in two of them."""

    __pydantic_config__: ClassVar = FORBID

    training: Names
    validation: Names
    test: Names


@dataclass(frozen=True)
class Split:
    """The folds of one cohort. cohort: its digest when it was split (see `Cohort.digest`)."""

    __pydantic_config__: ClassVar = FORBID

    cohort: str
    seed: int
    folds: Annotated[tuple[Fold, ...], Field(min_length=1)]

    @classmethod
    def read(cls, path: Path | str) -> Split:
        """Read a split file. Raises CohortError where it is missing, damaged or has an empty part."""
        try:
            return TypeAdapter(cls).validate_json(Path(path).read_bytes(), strict=True)
        except OSError as error:
            raise CohortError(
                f"cannot read the split {path}: {error.strerror}; write one with `clmsda cohort split`"
            ) from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "it"
            raise CohortError(f"{path} is not a split: {where}: {first['msg']}; make it again") from error

    def write(self, path: Path | str) -> None:
        """Write a split file atomically. Raises clmsda.files.OutputError."""
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf8")


def hold_out(cases: Sequence[Case], fraction: float, seed: Seed, *, left: int = 1) -> tuple[set[str], set[str]]:
    """Names of the (training, held-out) cases: all cases of a patient are on one side.

    Each size group (of a patient's largest tumor) gives its share of `fraction`, but at least one
    patient is held out and at least `left` remain. The order of `cases` does not matter.
    Raises CohortError for fewer patients than that.
    """
    groups = _shuffled_patients(cases, seed)
    count = sum(map(len, groups.values()))
    if count < left + 1:
        raise CohortError(f"a split into {left + 1} parts needs as many patients, found {count}")
    wanted = min(max(1, round(fraction * count)), count - left)
    taken = dict.fromkeys(groups, 0)
    for _ in range(wanted):
        # The group that is furthest behind its share gives the next patient.
        group = max(groups, key=lambda g: (len(groups[g]) * wanted / count - taken[g], len(groups[g]), -g))
        taken[group] += 1
    held = _cases_of(cases, (patient for group, number in taken.items() for patient in groups[group][:number]))
    return {case.case for case in cases} - held, held


def hold_out_test(
    cases: Sequence[Case], test_fraction: float, validation_fraction: float, seed: int
) -> tuple[Fold, ...]:
    """One fold: `test_fraction` of the patients to test on, `validation_fraction` of the others to stop by.

    Raises CohortError for fewer than three patients.
    """
    _, test = hold_out(cases, test_fraction, seed, left=2)
    return (_fold(cases, test, validation_fraction, [seed, 0]),)


def k_fold(cases: Sequence[Case], folds: int, validation_fraction: float, seed: int) -> tuple[Fold, ...]:
    """`folds` folds, whose test parts share out the patients: both they and each size group to within one patient.

    Within each fold `validation_fraction` of the other patients are held out to stop training by.
    Raises CohortError for fewer than three patients, or a number of folds that leaves a part empty.
    """
    groups = _shuffled_patients(cases, seed)
    dealt = [patient for group in sorted(groups) for patient in groups[group]]
    count = len(dealt)
    if count < 3:
        raise CohortError(f"a split into 3 parts needs as many patients, found {count}")
    least = 3 if count == 3 else 2  # two patients must remain besides those of the largest test part
    if not least <= folds <= count:
        raise CohortError(f"expected {least} to {count} folds for {count} patients, found {folds}")
    return tuple(
        _fold(cases, _cases_of(cases, dealt[number::folds]), validation_fraction, [seed, number])
        for number in range(folds)
    )


def check(split: Split, cohort: Cohort) -> None:
    """Raise CohortError unless this is a whole split of exactly this cohort.

    Refused are a case or a patient in two parts of a fold, a case that the cohort lacks or that a fold leaves
    out, with several folds a case that is not in exactly one test part, and a cohort that changed since.
    """
    for number, fold in enumerate(split.folds):
        _check_fold(fold, cohort, f"fold {number} of the split")
    if len(split.folds) > 1:
        tested = Counter(name for fold in split.folds for name in fold.test)
        twice = {name for name, count in tested.items() if count > 1}
        if twice:
            raise CohortError(f"with several folds every case is tested once, found in two test parts: {_some(twice)}")
        never = {case.case for case in cohort.cases} - tested.keys()
        if never:
            raise CohortError(f"with several folds every case is tested once, found in no test part: {_some(never)}")
    if split.cohort != cohort.digest:
        raise CohortError(
            f"the cohort {cohort.folder} changed after it was split (digest {cohort.digest[:12]}, expected "
            f"{split.cohort[:12]}): bring back the cohort as it was, or split it again and run the study anew"
        )


def _check_fold(fold: Fold, cohort: Cohort, where: str) -> None:
    patients = {case.case: case.patient for case in cohort.cases}
    parts = asdict(fold)
    unknown = {name for names in parts.values() for name in names} - patients.keys()
    if unknown:
        raise CohortError(f"{where} names cases that {cohort.folder} does not hold: {_some(unknown)}: split it again")
    seen_cases: dict[str, str] = {}
    seen_patients: dict[str, str] = {}
    for part, names in parts.items():
        for name in names:
            if name in seen_cases:
                raise CohortError(f"{where} has the case {name} twice, in {seen_cases[name]} and {part}")
            seen_cases[name] = part
            patient = patients[name]
            if seen_patients.setdefault(patient, part) != part:
                raise CohortError(
                    f"{where} has the patient {patient} both in {seen_patients[patient]} and in {part} (case {name}): "
                    "all cases of a patient belong in one part"
                )
    missing = patients.keys() - seen_cases.keys()
    if missing:
        raise CohortError(f"{where} leaves out cases of {cohort.folder}: {_some(missing)}: split it again")


def _fold(cases: Sequence[Case], test: set[str], validation_fraction: float, seed: Seed) -> Fold:
    training, validation = hold_out([case for case in cases if case.case not in test], validation_fraction, seed)
    return Fold(tuple(sorted(training)), tuple(sorted(validation)), tuple(sorted(test)))


def _shuffled_patients(cases: Sequence[Case], seed: Seed) -> dict[int, list[str]]:
    """The patients of each size group (of their largest tumor) in an order that only the seed decides."""
    sizes: dict[str, int] = {}
    for case in cases:
        sizes[case.patient] = max(case.size_group, sizes.get(case.patient, 0))
    groups: dict[int, list[str]] = {}
    for patient in sorted(sizes):
        groups.setdefault(sizes[patient], []).append(patient)
    rng = np.random.default_rng(seed)
    for patients in groups.values():
        rng.shuffle(patients)
    return groups


def _cases_of(cases: Sequence[Case], patients: Iterable[str]) -> set[str]:
    wanted = set(patients)
    return {case.case for case in cases if case.patient in wanted}


def _some(names: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    ordered = sorted(names)
    return ", ".join(ordered[:5]) + (f" and {len(ordered) - 5} more" if len(ordered) > 5 else "")

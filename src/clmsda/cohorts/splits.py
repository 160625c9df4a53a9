"""Patient-level splits, stratified by tumor size group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clmsda.cohorts.cohort import Case, CohortError


def hold_out(cases: Sequence[Case], fraction: float, seed: int) -> tuple[set[str], set[str]]:
    """Names of the (training, held-out) cases: all cases of a patient are on one side.

    Each size group (of a patient's largest tumor) gives its share of `fraction`, but at least one
    patient is held out and at least one is left to train on. The order of `cases` does not matter.
    Raises CohortError for fewer than two patients.
    """
    sizes: dict[str, int] = {}
    for case in cases:
        sizes[case.patient] = max(case.size_group, sizes.get(case.patient, 0))
    if len(sizes) < 2:
        raise CohortError(f"a split needs at least two patients, found {len(sizes)}")
    groups: dict[int, list[str]] = {}
    for patient in sorted(sizes):
        groups.setdefault(sizes[patient], []).append(patient)
    rng = np.random.default_rng(seed)
    for patients in groups.values():
        rng.shuffle(patients)
    wanted = min(max(1, round(fraction * len(sizes))), len(sizes) - 1)
    taken = dict.fromkeys(groups, 0)
    for _ in range(wanted):
        # The group that is furthest behind its share gives the next patient.
        group = max(groups, key=lambda g: (len(groups[g]) * wanted / len(sizes) - taken[g], len(groups[g]), -g))
        taken[group] += 1
    held_patients = {patient for group, count in taken.items() for patient in groups[group][:count]}
    held = {case.case for case in cases if case.patient in held_patients}
    return {case.case for case in cases} - held, held

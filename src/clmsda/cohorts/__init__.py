"""Cohorts: a readable table of cases, memory-mapped slabs of CT around each tumor, and splits by patient.

Importing this costs little: `clmsda.cohorts.importing` and `clmsda.cohorts.describe`, which read images and draw,
are imported by those who need them.
"""

from clmsda.cohorts.adding import add_case
from clmsda.cohorts.cohort import Case, Cohort, CohortError
from clmsda.cohorts.parts import of_patients
from clmsda.cohorts.splits import Fold, Split, hold_out, hold_out_test, k_fold
from clmsda.cohorts.splits import check as check_split
from clmsda.cohorts.synthetic import write_phantoms

__all__ = [
    "Case",
    "Cohort",
    "CohortError",
    "Fold",
    "Split",
    "add_case",
    "check_split",
    "hold_out",
    "hold_out_test",
    "k_fold",
    "of_patients",
    "write_phantoms",
]

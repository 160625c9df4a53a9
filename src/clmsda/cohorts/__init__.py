"""Cohorts: a readable table of cases, and memory-mapped slabs of CT around each tumor."""

from clmsda.cohorts.cohort import Case, Cohort, CohortError, add_case
from clmsda.cohorts.splits import hold_out
from clmsda.cohorts.synthetic import write_phantoms

__all__ = ["Case", "Cohort", "CohortError", "add_case", "hold_out", "write_phantoms"]

"""The table that parts patients once and for all: patient,collection,part, a row per patient.

One table serves several cohorts that share patients. Parts are train, validation and test.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from clmsda.cohorts.cohort import Cohort, CohortError

PARTS = ("train", "validation", "test")
TEST_ONLY = ("NSCLC-Radiomics",)
"""Collections whose license lets nothing that ships be trained on them: their patients are test patients."""


def read_parts(path: Path) -> dict[str, str]:
    """The part of each patient. Raises CohortError for a missing file, a patient named twice, another part."""
    parts: dict[str, str] = {}
    for row in rows(path, ("patient", "collection", "part")):
        patient, part = row["patient"], row["part"]
        if part not in PARTS:
            raise CohortError(f"{path}: expected {patient}'s part to be one of {', '.join(PARTS)}, found {part!r}")
        if patient in parts:
            raise CohortError(f"{path}: expected each patient once, found {patient} twice: remove one of the rows")
        if row["collection"] in TEST_ONLY and part != "test":
            raise CohortError(
                f"{path}: {row['collection']} may only be evaluated on (CC BY-NC), but {patient} is in {part}"
            )
        parts[patient] = part
    return parts


def of_patients(cohort: Cohort, table: Path | str, part: str) -> Cohort:
    """The cases of the patients whom a table puts into a part; cases of others are left out.

    Raises CohortError as `read_parts`, and for a cohort with nobody of that part.
    """
    parts = read_parts(Path(table))
    chosen = {case.case for case in cohort.cases if parts.get(case.patient) == part}
    if not chosen:
        raise CohortError(f"{cohort.folder} has no patient of the part {part!r} of {table}")
    return cohort.subset(chosen)


def rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a table with at least these columns. Raises CohortError."""
    try:
        with path.open(encoding="utf8", newline="") as file:
            found = list(csv.DictReader(file))
    except OSError as error:
        raise CohortError(f"cannot read {path}: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise CohortError(f"{path} is not a table of comma-separated values ({error})") from error
    missing = [name for name in columns if not found or found[0].get(name) is None]
    if missing:
        raise CohortError(f"{path}: expected rows with the columns {', '.join(columns)}, found no {', '.join(missing)}")
    return found

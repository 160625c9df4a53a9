"""The clinical table of NSCLC-Radiomics: which tumor is of which histology."""

from __future__ import annotations

import csv
from pathlib import Path

from clmsda.cohorts.cohort import CohortError

PATIENT, HISTOLOGY = "patientid", "histology"
UNKNOWN = ("", "na", "n/a", "nan", "unknown")


def read_histologies(path: Path | str) -> dict[str, str]:
    """Histology by patient, in lower case; empty where the table does not know.

    path: comma-separated, with the columns PatientID and Histology in any place, upper or lower case.
    Raises CohortError for a table that is missing, damaged, without these columns, or that contradicts itself.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = {str(name).strip().casefold(): name for name in reader.fieldnames or []}
            missing = {PATIENT, HISTOLOGY} - columns.keys()
            if missing:
                raise CohortError(
                    f"{path}: expected the columns PatientID and Histology, found {', '.join(columns) or 'none'}: give "
                    "the collection's clinical table"
                )
            rows = [(row[columns[PATIENT]], row[columns[HISTOLOGY]]) for row in reader]
    except OSError as error:
        raise CohortError(f"cannot read the clinical table {path}: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise CohortError(f"{path} is not a table of comma-separated values ({error})") from error
    found: dict[str, str] = {}
    for line, (patient, histology) in enumerate(rows, 2):
        name, value = (patient or "").strip(), " ".join((histology or "").split()).casefold()
        if not name:
            raise CohortError(f"{path}, line {line}: expected a PatientID, found none")
        value = "" if value in UNKNOWN else value
        if found.setdefault(name, value) != value:
            raise CohortError(
                f"{path}, line {line}: {name} is {value or 'unknown'} here and {found[name] or 'unknown'} above: "
                "correct the table"
            )
    return found

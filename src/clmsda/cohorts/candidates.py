"""What an importer finds: candidates to import, and what it leaves out with the reason.

COHORT/exclusions.csv    patient, source, reason: one row for each tumor that did not become a case
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from clmsda.cohorts.cohort import CohortError
from clmsda.files import replacing

EXCLUSIONS = "exclusions.csv"


@dataclass(frozen=True)
class Candidate:
    """One tumor to import.

    image: a voxel file, or the DICOM folder or .zip that holds the CT. files: the slices of one series in it, where
    the importer has sorted them; else `series` may name one of several.
    mask: a voxel file, an RTSTRUCT or a DICOM SEG. roi: the region of the latter two that is the tumor, and all of
    the tumor. labels: the values in a voxel file that are tumor; without any, each that is not 0 is one.
    every: one slice in so many is taken, from the first on.
    """

    case: str
    patient: str
    image: Path
    mask: Path
    files: tuple[Path, ...] = ()
    series: str = ""
    roi: str = ""
    labels: tuple[int, ...] = ()
    histology: str = ""
    collection: str = ""
    every: int = 1


@dataclass(frozen=True, order=True)
class Exclusion:
    """A patient or a tumor that is left out. source: the file or folder that the reason lies in."""

    patient: str
    source: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """All that a source holds: every tumor is in one of the two."""

    candidates: tuple[Candidate, ...]
    exclusions: tuple[Exclusion, ...]

    def thinned(self, every: int) -> Listing:
        """The same, of which each `every`-th slice is to be read."""
        return Listing(tuple(replace(one, every=every) for one in self.candidates), self.exclusions)


def read_exclusions(folder: Path) -> list[Exclusion]:
    """The rows of exclusions.csv, none where there is no such file. Raises CohortError where it is damaged."""
    path = folder / EXCLUSIONS
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf8") as file:
            return [Exclusion(row["patient"], row["source"], row["reason"]) for row in csv.DictReader(file)]
    except (csv.Error, UnicodeDecodeError, KeyError) as error:
        raise CohortError(f"{path} is not a table of patient, source, reason: delete it and import again") from error


def write_exclusions(folder: Path, exclusions: Iterable[Exclusion]) -> None:
    """Write exclusions.csv atomically, in order, each row once."""
    with replacing(folder / EXCLUSIONS) as temporary, temporary.open("w", newline="", encoding="utf8") as file:
        writer = csv.writer(file)
        writer.writerow(["patient", "source", "reason"])
        writer.writerows((one.patient, one.source, one.reason) for one in sorted(set(exclusions)))

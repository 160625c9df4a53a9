"""Real tumors that come as crops with masks (`clmsda.cohorts.parts` parts their patients).

    lesions.csv             case,patient,collection,diameter_mm,readers_dice,...: a row per lesion
    SET/NAME.nii.gz         HU; beside it NAME_mask.nii.gz on the same grid; the case is SET/NAME

One patient has lesions in several sets: only the column `patient` tells who is who. What lies beyond a crop is unknown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clmsda.cohorts.cohort import CohortError
from clmsda.cohorts.parts import TEST_ONLY, rows
from clmsda.geometry import Volume
from clmsda.images import read_ct, read_mask

TABLE = "lesions.csv"


@dataclass(frozen=True)
class RealTumor:
    """One lesion. readers_dice: mean pairwise F1 of the readers who outlined it; None where only one did."""

    case: str
    patient: str
    collection: str
    part: str
    diameter_mm: float
    readers_dice: float | None

    @property
    def set(self) -> str:
        return self.case.partition("/")[0]

    def read(self, folder: Path) -> tuple[Volume, Volume]:
        """CT (HU) and true mask on its grid, from the folder that holds the table."""
        ct = read_ct(folder / f"{self.case}.nii.gz")
        return ct, read_mask(folder / f"{self.case}_mask.nii.gz", grid=ct.grid)


def real_tumors(folder: Path, parts: Mapping[str, str]) -> list[RealTumor]:
    """Every lesion of a folder's table, with its patient's part (see `clmsda.cohorts.parts.read_parts`).

    Patients of collections that may only be evaluated on need no row in the split: they are test patients.
    Raises CohortError for another patient that the split does not know.
    """
    found = []
    for row in rows(folder / TABLE, ("case", "patient", "collection", "diameter_mm", "readers_dice")):
        patient, collection = row["patient"], row["collection"]
        part = parts.get(patient, "test" if collection in TEST_ONLY else None)
        if part is None:
            raise CohortError(f"{folder / TABLE}: the patient {patient} of {row['case']} is in no part of the split")
        readers = float(row["readers_dice"]) if row["readers_dice"] else None
        found.append(RealTumor(row["case"], patient, collection, part, float(row["diameter_mm"]), readers))
    return found


def subset(tumors: Sequence[RealTumor], count: int) -> list[RealTumor]:
    """`count` of them, the same at every call, from each set in proportion; fewer are a part of more."""
    sets: dict[str, list[RealTumor]] = {}
    for one in sorted(tumors, key=lambda one: hashlib.sha256(one.case.encode()).digest()):
        sets.setdefault(one.set, []).append(one)
    ranked = [((rank + 0.5) / len(part), one) for part in sets.values() for rank, one in enumerate(part)]
    ranked.sort(key=lambda pair: (pair[0], pair[1].case))
    chosen = {one.case for _, one in ranked[:count]}
    return [one for one in tumors if one.case in chosen]

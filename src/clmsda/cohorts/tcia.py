"""NSCLC-Radiomics as TCIA delivers it: CT series, and the RTSTRUCTs or SEGs that were drawn on them.

Its folders are named otherwise from one download to the next, so everything is found by what the files say:
modality, patient, study, series, and the series that a structure set refers to.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from clmsda.cohorts.candidates import Candidate, Exclusion, Listing
from clmsda.cohorts.clinical import read_histologies
from clmsda.cohorts.cohort import CohortError
from clmsda.errors import InputError
from clmsda.images.dicom_files import walk
from clmsda.images.dicom_regions import Regions, read_regions
from clmsda.images.dicom_sorting import Filed, look_at
from clmsda.images.errors import UnreadableFile

PAPERS_HISTOLOGIES = ("adenocarcinoma", "squamous cell carcinoma")
ALL = "all"

log = logging.getLogger(__name__)


def nsclc_radiomics(
    source: Path | str,
    clinical: Path | str,
    histologies: Sequence[str] = PAPERS_HISTOLOGIES,
    progress: Callable[[int], None] | None = None,
) -> Listing:
    """The tumors of a download, one per patient: `GTV-1`, else the only region whose name begins with GTV.

    clinical: the collection's table. histologies: those to take; `all` takes every patient.
    progress: is told the number of files that were looked at.
    Every patient of the table and of the download is a candidate or an exclusion.
    Raises CohortError for a folder or a table that cannot be used.
    """
    source = Path(source)
    if not source.is_dir():
        raise CohortError(
            f"expected a folder with the download, found {'a file' if source.exists() else 'nothing'}: {source}"
        )
    table = read_histologies(clinical)
    wanted = [one.casefold() for one in histologies]
    unheard = [one for one in wanted if one not in (ALL, *PAPERS_HISTOLOGIES, *table.values())]
    if unheard:
        known = ", ".join(sorted(set(table.values()) - {""}))
        raise CohortError(f"{clinical} has no histology {', '.join(unheard)}; found {known}")
    files, exclusions = _sorted(source, progress)
    candidates = []
    for patient in sorted(table.keys() | files.keys()):
        own = files.get(patient, [])
        try:
            _check_wanted(patient, table, wanted)
        except CohortError as error:
            exclusions.append(Exclusion(patient, str(clinical), str(error)))
            continue
        try:
            tumor, left_out = _tumor(patient, own, table.get(patient, ""))
        except InputError as error:
            exclusions.append(Exclusion(patient, str(_common(own) if own else source), str(error)))
            continue
        candidates.append(tumor)
        exclusions += left_out
    return Listing(tuple(candidates), tuple(exclusions))


def _check_wanted(patient: str, table: dict[str, str], wanted: Sequence[str]) -> None:
    """Raise CohortError for a patient who is not of the histologies that are asked for."""
    if ALL in wanted:
        return
    if patient not in table:
        raise CohortError("not in the clinical table, so its histology is unknown")
    if not table[patient]:
        raise CohortError("the clinical table does not know the histology")
    if table[patient] not in wanted:
        raise CohortError(f"histology is {table[patient]}, not {' or '.join(wanted)}")


def _tumor(patient: str, files: list[Filed], histology: str) -> tuple[Candidate, list[Exclusion]]:
    """The patient's tumor, and the tumors that are left out beside it. Raises InputError: why there is none."""
    if not files:
        raise CohortError("no CT, RTSTRUCT or SEG of this patient in the download")
    if not patient:
        raise CohortError("the files have no PatientID")
    series: dict[str, list[Filed]] = {}
    for file in files:
        if file.modality == "CT" and not file.localizer:
            series.setdefault(file.series, []).append(file)
    if not series:
        raise CohortError(f"no CT series, found {', '.join(sorted({file.modality or 'none' for file in files}))}")
    regions = _with_tumor(files)
    name, others = tumor_region(regions.names)
    if name is None:
        raise CohortError(
            f"{regions.path.name} has {len(others)} tumors, none of them named GTV-1: {', '.join(others)}"
        )
    uid = _drawn_on(regions, series)
    paths = tuple(sorted(file.path for file in series[uid]))
    tumor = Candidate(
        patient, patient, _common(series[uid]), regions.path, paths, series=uid, roi=name, histology=histology
    )
    reason = f"is a further tumor of this patient: {name} is the one that is studied"
    return tumor, [Exclusion(patient, str(tumor.mask), f"{other} {reason}") for other in others]


def _with_tumor(files: list[Filed]) -> Regions:
    """The one RTSTRUCT, or else the one SEG, that has a tumor. Raises CohortError, UnreadableFile."""
    others: list[Regions] = []
    for kind in ("RTSTRUCT", "SEG"):
        regions = [read_regions(file.path) for file in files if file.modality == kind]
        chosen = [one for one in regions if any(tumor_region(one.names))]
        if len(chosen) == 1:
            return chosen[0]
        if chosen:
            raise CohortError(f"{len(chosen)} files with a tumor, expected one: keep one of them ({_listed(chosen)})")
        others += regions
    if others:
        raise CohortError(f"no region whose name begins with GTV, found {_listed(others)}")
    raise CohortError("no RTSTRUCT and no SEG")


def _listed(regions: list[Regions]) -> str:
    return "; ".join(f"{one.path.name}: {', '.join(one.names) or 'none'}" for one in regions)


def _drawn_on(regions: Regions, series: dict[str, list[Filed]]) -> str:
    """The UID of the CT series that the regions belong to. Raises CohortError."""
    found = sorted(regions.references & series.keys())
    name = regions.path.name
    if regions.references and not found:
        missing = ", ".join(sorted(regions.references))
        raise CohortError(f"{name} was drawn on series {missing}, which is no CT in the download: fetch it")
    if not regions.references:
        found = [uid for uid, files in series.items() if any(file.study == regions.study for file in files)]
    if len(found) != 1:
        says = "was drawn on" if regions.references else "does not say on which series it was drawn; its study has"
        raise CohortError(f"{name} {says} {len(found)} CT series, expected one: keep the right one")
    return found[0]


def _sorted(source: Path, progress: Callable[[int], None] | None) -> tuple[dict[str, list[Filed]], list[Exclusion]]:
    """The DICOM files by patient, and those that cannot be read."""
    files: dict[str, list[Filed]] = {}
    exclusions, others = [], []
    for count, path in enumerate(walk(source), 1):
        if progress and count % 100 == 0:
            progress(count)
        try:
            file = look_at(path)
        except (UnreadableFile, OSError) as error:
            exclusions.append(Exclusion("", str(path), str(error)))
            continue
        if file is None:
            others.append(path.name)
        elif not file.directory:
            files.setdefault(file.patient, []).append(file)
    if others:
        log.info("passed over %d files in %s that are not DICOM: %s", len(others), source, ", ".join(others[:10]))
    return files, exclusions


def _common(files: Sequence[Filed]) -> Path:
    """The folder that holds all files."""
    return Path(os.path.commonpath([file.path.parent for file in files]))


def tumor_region(names: tuple[str, ...]) -> tuple[str | None, list[str]]:
    """The gross tumor volume to study, and the others: `GTV-1`, else the only name that begins with GTV."""
    tumors = [name for name in names if name.casefold().startswith("gtv")]
    first = [name for name in tumors if "".join(filter(str.isalnum, name.casefold())) == "gtv1"]
    chosen = (first or tumors)[0] if first or len(tumors) == 1 else None
    return chosen, [name for name in tumors if name != chosen]

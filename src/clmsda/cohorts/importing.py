"""Importing: read each candidate's CT and mask, measure the tumor, write its slab. The same for every kind of source.

An import can be killed at any moment: every finished case is in the table, and the same import goes on from there.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path

from clmsda.cohorts.adding import save_slab
from clmsda.cohorts.candidates import EXCLUSIONS, Candidate, Exclusion, Listing, read_exclusions, write_exclusions
from clmsda.cohorts.cohort import TABLE, Case, Cohort, CohortError, is_name, write_table
from clmsda.cohorts.reading import read_tumor
from clmsda.errors import InputError, heard
from clmsda.files import OutputError, make_folder, remove_unfinished

log = logging.getLogger(__name__)


class NothingImported(CohortError):
    """A source without a tumor that could be imported."""

    def __init__(self, folder: Path, exclusions: list[Exclusion]) -> None:
        self.exclusions = exclusions
        reasons = Counter(one.reason for one in exclusions).most_common(1)
        most = f"most often ({reasons[0][1]}) because: {reasons[0][0]}" if reasons else "as the source has none"
        super().__init__(
            f"no tumor could be imported into {folder}: {len(exclusions)} were left out, {most}; every reason is in "
            f"{folder / EXCLUSIONS}"
        )


@dataclass(frozen=True)
class Outcome:
    """What became of a candidate: a case or none, and the tumors that were left out."""

    case: Case | None
    exclusions: tuple[Exclusion, ...]


def import_cases(
    folder: Path | str,
    listing: Listing,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Cohort, list[Exclusion]]:
    """Import all candidates into a cohort, new or begun; returns it and all that was left out.

    Finished cases whose slabs are whole are kept, also those of other imports into the same folder.
    workers: processes; each holds one CT at most, and this one alone writes the tables.
    progress: is told how many of how many cases that were to be imported are done.

    Raises NothingImported; CohortError where the folder holds a case of the same name from another source, or a
    worker dies; OutputError where the folder cannot be written.
    """
    folder = make_folder(folder)
    make_folder(folder / "slabs")
    remove_unfinished(folder / "slabs")
    candidates, twice = _named_once(listing.candidates)
    cases = {case.case: case for case in Cohort.open(folder).cases} if (folder / TABLE).is_file() else {}
    _check_same_source(folder, candidates, cases)
    kept = {one.case for one in candidates if one.case in cases and _is_whole(folder, cases[one.case])}
    todo = [one for one in candidates if one.case not in kept]
    exclusions = [*_still_true(folder, listing, kept), *listing.exclusions, *twice]
    write_exclusions(folder, exclusions)
    if progress:
        progress(0, len(todo))
    for done, outcome in enumerate(_outcomes(folder, todo, workers), 1):
        if outcome.exclusions:
            exclusions += outcome.exclusions
            write_exclusions(folder, exclusions)
        if outcome.case:
            cases[outcome.case.case] = outcome.case
            write_table(folder, cases.values())
        if progress:
            progress(done, len(todo))
    if not cases:
        raise NothingImported(folder, sorted(set(exclusions)))
    return Cohort.open(folder), sorted(set(exclusions))


def import_one(folder: Path, candidate: Candidate) -> Outcome:
    """Import one candidate but for the table's row. Raises OutputError where the cohort cannot be written."""
    try:
        tumor = read_tumor(candidate)
        case = save_slab(
            folder,
            candidate.case,
            tumor.grid,
            tumor.slices,
            tumor.mask,
            image_path=_recorded(folder, candidate.image),
            mask_path=_recorded(folder, candidate.mask),
            patient=candidate.patient,
            series=candidate.series,
            roi=candidate.roi or " ".join(map(str, candidate.labels)),
            histology=candidate.histology,
            collection=candidate.collection,
            every=candidate.every,
        )
    except OutputError:
        raise
    except InputError as error:
        return Outcome(None, (Exclusion(candidate.patient, str(candidate.mask), str(error)),))
    left_out = (Exclusion(candidate.patient, str(candidate.mask), reason) for reason in tumor.left_out)
    return Outcome(case, tuple(left_out))


def _outcomes(folder: Path, todo: Sequence[Candidate], workers: int) -> Iterator[Outcome]:
    """What becomes of the candidates, as they are finished."""
    if workers <= 1 or len(todo) <= 1:
        yield from (import_one(folder, candidate) for candidate in todo)
        return
    pool = ProcessPoolExecutor(min(workers, len(todo)), mp_context=get_context("spawn"), initializer=_leave_with_parent)
    try:
        for future in as_completed([pool.submit(_heard_import, folder, candidate) for candidate in todo]):
            outcome, said = future.result()
            for line in said:
                log.warning("%s", line)
            yield outcome
    except BrokenProcessPool as error:
        raise CohortError(
            "a process of the import died, most likely for want of memory: finished cases are kept, so start it "
            "again with fewer --workers"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _heard_import(folder: Path, candidate: Candidate) -> tuple[Outcome, list[str]]:
    """In a worker: what becomes of a candidate, and the warnings, which the parent has to give."""
    with heard() as said:
        return import_one(folder, candidate), said


def _leave_with_parent() -> None:
    """In a worker: leave Ctrl-C to the parent, and end when that ends, even if it was killed. Libraries are silent."""
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()


def _named_once(candidates: Iterable[Candidate]) -> tuple[list[Candidate], list[Exclusion]]:
    """The candidates whose name is fit and theirs alone, and the others."""
    by_name: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        by_name.setdefault(candidate.case.casefold(), []).append(candidate)  # as some file systems see names
    once, others = [], []
    for same in by_name.values():
        for one in same:
            where = str(one.mask)
            if len(same) > 1:
                masks = ", ".join(str(other.mask) for other in same)
                reason = f"{len(same)} cases are called {one.case}, expected one: rename them ({masks})"
                others.append(Exclusion(one.patient, where, reason))
            elif not is_name(one.case):
                reason = f"a case called {one.case!r} cannot name files: use letters, digits, space and .+=@_- only"
                others.append(Exclusion(one.patient, where, reason))
            else:
                once.append(one)
    return once, others


def _check_same_source(folder: Path, candidates: Sequence[Candidate], cases: dict[str, Case]) -> None:
    for one in candidates:
        image, mask = _recorded(folder, one.image), _recorded(folder, one.mask)
        case = cases.get(one.case)
        if case is None:
            continue
        for was, found in ((case.image, image), (case.mask, mask)):
            if was != found:
                raise CohortError(
                    f"{folder} already holds a case {one.case} from {was}, not from {found}: import into another folder"
                )
        if case.every != one.every:
            raise CohortError(
                f"{folder} already holds a case {one.case} of each slice in {case.every}, not in {one.every}: import "
                "into another folder"
            )


def _is_whole(folder: Path, case: Case) -> bool:
    try:
        Cohort(folder, (case,)).slab(case)
    except CohortError:
        return False
    return True


def _still_true(folder: Path, listing: Listing, kept: set[str]) -> list[Exclusion]:
    """Rows of an earlier import that this one will not find again: of other sources, and of cases that are kept."""
    own = {str(one.mask) for one in listing.candidates if one.case in kept}
    patients = {one.patient for one in listing.candidates} | {one.patient for one in listing.exclusions if one.patient}
    sources = {one.source for one in listing.exclusions} | {str(one.mask) for one in listing.candidates}
    return [
        row
        for row in read_exclusions(folder)
        if row.source in own or (row.patient not in patients and row.source not in sources)
    ]


def _recorded(folder: Path, path: Path) -> str:
    """The path as the table has it: relative to the cohort's folder where it lies in it."""
    absolute = path.resolve()
    inside = absolute.is_relative_to(folder.resolve())
    return str(absolute.relative_to(folder.resolve()) if inside else absolute)

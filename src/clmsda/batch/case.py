"""One row's work: read, segment, measure, and write all that `clmsda segment` writes."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clmsda.batch.outcomes import DONE, FAILED, Folder, Outcome
from clmsda.batch.places import at_hand
from clmsda.batch.table import Row
from clmsda.dicom_objects import Source, read_lines, read_source, write_objects
from clmsda.errors import InputError, heard, one_line
from clmsda.files import OutputError
from clmsda.geometry import Volume
from clmsda.images import read_ct, write_mask
from clmsda.images.scan_facts import read_patient_id
from clmsda.images.voxel_files import is_voxel_file
from clmsda.models import Model
from clmsda.prompts import RecistLine
from clmsda.segmentation import Segmentation, delivery, segment


@dataclass(frozen=True)
class Wanted:
    """frame: of the prompts' coordinates. dicom: write SEG, RTSTRUCT and SR where the CT is a DICOM series.

    anonymize: leave out what leads back to the patient, but in DICOM objects. labelmap: make the SEG one.
    """

    frame: str = "lps"
    dicom: bool = False
    preview: bool = True
    anonymize: bool = False
    labelmap: bool = False

    @property
    def words(self) -> tuple[str, ...]:
        """What is wanted beside mask and measurements, as outcomes keep it."""
        return tuple(word for word in ("anonymize", "dicom", "labelmap", "preview") if getattr(self, word))

    def met(self, outcome: Outcome) -> bool:
        """Whether an outcome is as if it were made for this. One that has more files is, a failure is only its own."""
        have, want = set(outcome.wanted), set(self.words)
        if outcome.status != DONE:
            return have == want
        more = have - want
        return want <= have and "anonymize" not in more and not (self.dicom and "labelmap" in more)


PLAIN = Wanted()

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def failed(row: Row, wanted: Wanted, reason: str, seconds: float = 0.0) -> Outcome:
    patient, date = ("", "") if wanted.anonymize else (row.patient, row.date)
    return Outcome(
        row.name, row.line, FAILED, reason, round(seconds, 2), patient, date, row=row.digest, wanted=wanted.words
    )


def work(row: Row, folder: Folder, model: Model, wanted: Wanted) -> Outcome:
    """Do a row and put its outcome in place. Whatever is wrong with it is its outcome: the others go on.

    Raises OutputError where the folder cannot be written or is full: that is no row's fault.
    """
    started = time.perf_counter()
    with folder.making() as made:
        try:
            outcome = _done(row, made, model, wanted, started)
        except Exception as error:
            reason = _reason(error, folder)
        else:
            folder.put(outcome, made)
            return outcome
    outcome = failed(row, wanted, reason, time.perf_counter() - started)
    folder.put(outcome)
    return outcome


def _reason(error: Exception, folder: Folder) -> str:
    if isinstance(error, OutputError):
        raise error
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        raise OutputError(f"cannot write into {folder.path}: {error.strerror}; make room, then go on") from error
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, FileNotFoundError):  # at an address; of a path the readers say it
        return f"there is no file or folder {error.filename or error}"
    if isinstance(error, OSError):
        return f"cannot be read: {one_line(str(error))}; try again with --retry"
    if isinstance(error, MemoryError):
        return "the machine's memory was full: use fewer processes, then --retry"
    return f"a mistake of this software, please report it: {type(error).__name__}: {error}"


def _done(row: Row, made: Path, model: Model, wanted: Wanted, started: float) -> Outcome:
    if row.wrong:
        raise InputError(row.wrong)
    with at_hand(row.ct, row.files) as ct, _named(ct, row.ct):
        with heard() as warnings:
            volume = read_ct(ct, series=row.series)
            needed = row.drawn or wanted.dicom
            source = read_source(ct, series=row.series, for_lines=bool(row.drawn)) if needed else None
            drawn = _drawn(row, source) if source else []
            found = segment(volume, [*row.parsed(wanted.frame, volume.grid), *drawn], model)
        delivery.refuse_nothing(found)
        said = [line.replace(str(ct), str(row.ct)) for line in warnings]
        patient = "" if wanted.anonymize else _patient(row, ct, volume, said)
        report = delivery.report(found, ct, volume, warnings=said, anonymize=wanted.anonymize)
        files = _write(volume, found, report, made, wanted, source if wanted.dicom else None)
    date = "" if wanted.anonymize else row.date or report["scan"]["date"] or ""
    return Outcome(
        row.name, row.line, DONE, "", round(time.perf_counter() - started, 2), patient, date,
        tuple(report["lesions"]), tuple(report["warnings"]), tuple(files), row.digest, wanted.words,
    )  # fmt: skip


def _patient(row: Row, ct: Path, volume: Volume, said: list[str]) -> str:
    """Whose CT it is: as the table says, else as the CT does. said: gets a warning where both do, and differ."""
    known = "" if ct.is_file() and is_voxel_file(ct) else read_patient_id(ct, series=volume.source)
    if row.patient and known and row.patient != known:
        said.append(f"the table calls its patient {row.patient}, its PatientID is {known}: is it the right CT?")
    return row.patient or known


@contextmanager
def _named(ct: Path, place: Path) -> Iterator[None]:
    """Errors name the place that the row has, not that of a copy."""
    try:
        yield
    except InputError as error:
        if ct == place:
            raise
        raise InputError(str(error).replace(str(ct), str(place))) from error


def _drawn(row: Row, source: Source) -> list[RecistLine]:
    lines = []
    for place in row.drawn:
        with at_hand(place) as path, _named(path, place):
            lines += read_lines(path, source)
    return lines


def _write(
    volume: Volume, found: Segmentation, report: dict[str, object], made: Path, wanted: Wanted, source: Source | None
) -> list[str]:
    """The files of a row, in its folder; returns their names. source: what DICOM objects refer to; None for none."""
    write_mask(found.mask, made / "mask.nii.gz")
    (made / "measurements.json").write_text(json.dumps(report, indent=2), encoding="utf8")
    files = ["mask.nii.gz", "measurements.json"]
    if wanted.preview:
        from clmsda.segmentation.preview import draw

        draw(volume, [(one.label, one.mask, one.measurement) for one in found.lesions if one.measurement],
             made / "preview.png")  # fmt: skip
        files.append("preview.png")
    if source is not None:
        seg, rtstruct, sr = (made / name for name in ("seg.dcm", "rtstruct.dcm", "sr.dcm"))
        lesions = delivery.findings(found, volume, source.series_uid)
        write_objects(source, lesions, seg=seg, rtstruct=rtstruct, sr=sr, labelmap=wanted.labelmap)
        files += [seg.name, rtstruct.name, sr.name]
    return files

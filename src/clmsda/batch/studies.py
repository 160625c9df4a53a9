"""A folder of studies and a file of prompts: CTs are found by what they say of themselves, and each has its row."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os.path import commonpath
from pathlib import Path

from clmsda.batch.errors import BatchError
from clmsda.batch.table import DRAWN, PROMPTS, Cells, Row, fit, read_cells, refuse_twice
from clmsda.images.dicom_files import CT_CLASSES, walk
from clmsda.images.dicom_sorting import Filed, look_at
from clmsda.images.errors import UnreadableFile
from clmsda.images.voxel_files import is_voxel_file

SAYING = ("path", "patient", "study", "series", "date")
"""The columns that say which CT a line is about."""
COLUMNS = ("name", *SAYING, *PROMPTS)
CT = "CT"
LISTED = 5
"""So many CTs are named in one reason."""


@dataclass(frozen=True)
class Scan:
    """A CT, or what should be one: a DICOM series, or a file. place: the file, or the folder that holds the series.

    files: where its folder holds other series, too, those of the series, and those beside them that nobody can read,
    which may be slices of it. modality: "" for a file, whose patient, study and series nobody knows. date: YYYY-MM-DD.
    images: files of the series.
    """

    place: Path
    files: tuple[Path, ...] = ()
    modality: str = ""
    patient: str = ""
    study: str = ""
    series: str = ""
    date: str = ""
    wrong: str = ""
    images: int = 1

    @property
    def is_ct(self) -> bool:
        return self.modality in ("", CT)


def read_studies(
    folder: Path,
    prompts: Path,
    progress: Callable[[int], None] = lambda count: None,
    *,
    out: Path | None = None,
    anonymize: bool = False,
) -> list[Row]:
    """A row for each CT in a folder that a line of the prompts is about, and, with the reason, for each line that is
    about none or several, and each study that no line is about.

    folder: DICOM files in any order, NIfTI, NRRD and MetaImage files, zips of DICOM. prompts: CSV with one or more of
    `path`, `patient`, `study`, `series`, `date`; of `point`, `recist`, `box`, `recist_from`; and as wanted `name`.
    Lines about the same CT are its lesions. progress: is told the number of files that were looked at.
    out: where results go, which are no studies: left out where it is in the folder. anonymize: rows tell no patient and
    no date, and those without a name are called by their lines.
    Raises BatchError where one of both cannot be used.
    """
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise BatchError(f"expected a folder of studies beside --prompts, found {found}: {folder}")
    if out is not None and folder.resolve().is_relative_to(out.resolve()):
        raise BatchError(f"expected a folder for results that holds no studies, found {out}: give another one")
    lines = read_cells(prompts, COLUMNS, needed=())
    if not any(cells[column] for cells in lines for column in SAYING):
        raise BatchError(f"{prompts}: expected one or more of the columns {', '.join(SAYING)} to say which CT is meant")
    scans = find_scans(folder, progress, out)
    index = _index(scans, folder)
    about = [(cells, _meant(cells, index, folder)) for cells in lines]
    told = {(scan.study or scan.place) for _, meant in about for scan in meant}
    rows = [*_rows(about, scans, folder, prompts), *_untold(scans, told, folder, prompts)]
    rows = _named(_anonymous(rows) if anonymize else rows)
    refuse_twice(rows, prompts)
    return rows


def _anonymous(rows: Sequence[Row]) -> list[Row]:
    """Without patients and dates, also in names: rows are called by their lines, which stay when others come."""
    names = [row.name or (f"line-{row.line}" if row.line else f"scan-{count}") for count, row in enumerate(rows, 1)]
    return [replace(row, name=name, patient="", date="") for row, name in zip(rows, names, strict=True)]


def find_scans(
    folder: Path, progress: Callable[[int], None] = lambda count: None, out: Path | None = None
) -> list[Scan]:
    """The DICOM series and voxel files in a folder, but those in `out`, in order of their places."""
    series: dict[str, _Series] = {}
    alone: list[Scan] = []
    damaged: dict[Path, dict[str, str]] = defaultdict(dict)
    results = _within(folder, out)
    for count, path in enumerate(walk(folder), 1):
        if count % 100 == 0:
            progress(count)
        if results and str(path).startswith(results):
            continue
        if is_voxel_file(path) or path.suffix.lower() == ".zip":
            alone.append(Scan(path))
            continue
        try:
            file = look_at(path)
        except (UnreadableFile, OSError) as error:
            damaged[path.parent][path.name] = str(error)
            continue
        if file is not None and not file.directory:
            series.setdefault(file.series, _Series(file)).add(file)
    inside = _inside(series.values(), folder)
    found = [*alone, *(one.scan(damaged, inside) for one in series.values())]
    for parent in damaged.keys() - {folder for one in series.values() for folder in one.names}:
        name, reason = next(iter(damaged[parent].items()))
        found.append(Scan(parent, wrong=f"{name} in {parent}: {reason}"))
    return sorted(found, key=lambda scan: (str(scan.place), scan.series))


def _within(folder: Path, out: Path | None) -> str:
    """What the paths of files in `out` begin with, where that is in the folder; else ""."""
    if out is None or not out.resolve().is_relative_to(folder.resolve()):
        return ""
    return f"{folder / out.resolve().relative_to(folder.resolve())}{os.sep}"


@dataclass
class _Series:
    """Files of one series, by folder: names alone, as there may be millions. typical: a slice, if there is one."""

    typical: Filed
    names: dict[Path, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, file: Filed) -> None:
        self.names[file.path.parent].append(file.path.name)
        if _is_slice(file) and not _is_slice(self.typical):
            self.typical = file

    @property
    def count(self) -> int:
        return sum(map(len, self.names.values()))

    @property
    def place(self) -> Path:
        return Path(commonpath(self.names))

    def scan(self, damaged: Mapping[Path, Mapping[str, str]], inside: Mapping[Path, int]) -> Scan:
        """inside: how many files of series there are in a folder, and in those in it."""
        file, place = self.typical, self.place
        files: tuple[Path, ...] = ()
        if inside[place] > self.count:
            files = tuple(
                folder / name for folder, names in self.names.items() for name in (*names, *damaged.get(folder, ()))
            )
        kind = f"{file.modality or 'no modality'}{' without slices' * (file.modality == CT)}"
        return Scan(
            place,
            files,
            CT if _is_slice(file) else kind,
            file.patient,
            file.study,
            file.series,
            _iso(file.date),
            images=self.count,
        )


def _is_slice(file: Filed) -> bool:
    return not file.localizer and file.sop_class in CT_CLASSES


def _inside(series: Iterable[_Series], folder: Path) -> Mapping[Path, int]:
    """How many files of series there are in each folder, and in those in it."""
    inside: Counter[Path] = Counter()
    for one in series:
        for parent, names in one.names.items():
            for above in (parent, *parent.parents):
                inside[above] += len(names)
                if above == folder:
                    break
    return inside


def _iso(date: str) -> str:
    """YYYYMMDD, or with other signs between, as YYYY-MM-DD."""
    digits = re.sub(r"[-./ ]", "", date)
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:]}" if re.fullmatch(r"\d{8}", digits) else date


def _index(scans: Sequence[Scan], folder: Path) -> dict[tuple[str, object], list[Scan]]:
    """The scans by each thing that a line may say: a column and its text, or the path of a file or a folder."""
    index: dict[tuple[str, object], list[Scan]] = defaultdict(list)
    for scan in scans:
        for column in SAYING[1:]:
            index[column, getattr(scan, column)].append(scan)
        for path in (scan.place, *scan.place.parents):
            index["path", path].append(scan)
            if path == folder:
                break
    return index


def _meant(cells: Cells, index: dict[tuple[str, object], list[Scan]], folder: Path) -> list[Scan]:
    """What a line is about: all that it says fits."""
    said: list[tuple[str, object]] = [(column, cells[column]) for column in SAYING[1:] if cells[column]]
    said = [(column, _iso(str(text)) if column == "date" else text) for column, text in said]
    if cells["path"]:
        said.append(("path", folder / cells["path"]))
    found = sorted((index.get(one, []) for one in said), key=len)
    others = [{id(scan) for scan in more} for more in found[1:]]
    return [scan for scan in found[0] if all(id(scan) in more for more in others)] if found else []


def _rows(
    about: Sequence[tuple[Cells, Sequence[Scan]]], scans: Sequence[Scan], folder: Path, prompts: Path
) -> list[Row]:
    """The rows of the lines, in their order; those about one CT are one row."""
    rows: dict[object, Row] = {}
    for cells, meant in about:
        cts = [scan for scan in meant if scan.is_ct]
        wrong = cells.wrong or _unclear(cells, meant, cts)
        if not wrong and not (cells.prompts() or cells[DRAWN]):
            wrong = f"expected a prompt in one of the columns {', '.join(PROMPTS)}, found none"
        scan = cts[0] if len(cts) == 1 else Scan(folder, patient=cells["patient"], date=_iso(cells["date"]))
        row = _row(scan, cells.line, wrong, cells["name"])
        row = replace(row, prompts=cells.prompts(), drawn=cells.drawn(prompts.parent))
        former = rows.get(scan if len(cts) == 1 else cells.line)
        rows[scan if len(cts) == 1 else cells.line] = row if former is None else _joined(former, row)
    return list(rows.values())


def _joined(one: Row, other: Row) -> Row:
    """Two lines about one CT: the lesions of both."""
    wrong = one.wrong or other.wrong
    if one.name and other.name and one.name != other.name and not wrong:
        lines = f"lines {one.line} and {other.line}"
        wrong = f"the {lines} are about one CT, {one.ct}, but call it {one.name} and {other.name}: give one name"
    name = one.name or other.name
    return replace(one, name=name, prompts=one.prompts + other.prompts, drawn=one.drawn + other.drawn, wrong=wrong)


def _unclear(cells: Cells, meant: Sequence[Scan], cts: Sequence[Scan]) -> str:
    """Why a line does not tell one CT, or ""."""
    if len(cts) == 1:
        return cts[0].wrong
    said = ", ".join(f"{column} {cells[column]}" for column in SAYING if cells[column]) or "nothing"
    if not cts:
        others = ", ".join(sorted({scan.modality for scan in meant}))
        return f"expected a CT of {said}, found {others or 'none'}"
    listed = "; ".join(f"{scan.series or scan.place.name} ({scan.images} files)" for scan in cts[:LISTED])
    more = f" and {len(cts) - LISTED} more" if len(cts) > LISTED else ""
    return f"{said} is said of {len(cts)} CTs: choose one by `series` or `path`, of {listed}{more}"


def _untold(scans: Sequence[Scan], told: set[str | Path], folder: Path, prompts: Path) -> list[Row]:
    """A row for each study, or file, that no line is about."""
    rows, seen = [], set(told)
    for scan in sorted(scans, key=lambda scan: not scan.is_ct):  # stable: of each study a CT first
        study = scan.study or scan.place
        if study in seen:
            continue
        seen.add(study)
        if scan.is_ct:
            wrong = scan.wrong or f"no line of {prompts.name} is about it"
        else:
            wrong = f"a study without CT (found {scan.modality}), and no line of {prompts.name} is about it"
        rows.append(_row(scan, 0, wrong))
    return sorted(rows, key=lambda row: str(row.ct))


def _row(scan: Scan, line: int, wrong: str, name: str = "") -> Row:
    if name and not fit(name) and not wrong:
        wrong = f"expected a name of letters, digits, and . _ + - that can be a folder's, found {name[:60]!r}"
    return Row(
        line,
        name if fit(name) else "",
        scan.place,
        (),
        series=scan.series or None,
        patient=scan.patient,
        date=scan.date,
        wrong=wrong,
        files=scan.files,
    )


def _named(rows: Sequence[Row]) -> list[Row]:
    """Rows without a name get one: the patient's, with the date where there are several; a file's; and a number."""
    wanted = [row.name or _safe(_base(row)) for row in rows]
    if any(count > 1 for count in Counter(wanted).values()):
        often = Counter(wanted)
        dated = [
            name if row.name or often[name] == 1 or not (row.patient and row.date) else _safe(f"{name}-{row.date}")
            for row, name in zip(rows, wanted, strict=True)
        ]
        wanted = dated
    taken = {row.name.casefold() for row in rows if row.name}
    named = []
    for row, name in zip(rows, wanted, strict=True):
        own, number = name, 1
        while not row.name and own.casefold() in taken:
            number += 1
            own = f"{name}-{number}"
        taken.add(own.casefold())
        named.append(replace(row, name=own))
    return named


def _base(row: Row) -> str:
    if row.patient:
        return row.patient
    if not row.files and not row.ct.is_dir():
        return re.sub(r"(\.nii)?\.[^.]+$", "", row.ct.name)
    return row.ct.name if not row.wrong or not row.line else f"line-{row.line}"


def _safe(text: str) -> str:
    """A name that can be a folder's."""
    return re.sub(r"[^A-Za-z0-9_.+-]+", "_", text).strip("_.+-")[:80].rstrip(".") or "scan"

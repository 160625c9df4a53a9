"""A study's report: tables, figures, and one page that holds them all.

OUT/report.html        everything embedded: opens offline, and prints
OUT/tables/*.csv, *.tex, *.md
OUT/figures/*.png, *.svg
"""

from __future__ import annotations

from pathlib import Path

from clmsda.files import make_folder, replacing
from clmsda.studies.config import StudyError
from clmsda.studies.report.figures import all_plates, render
from clmsda.studies.report.page import page
from clmsda.studies.report.table import to_csv, to_latex, to_text
from clmsda.studies.report.tables import all_tables
from clmsda.studies.results import of_collection, open_cohort, read_results

FIGURE_KINDS = ("png", "svg")


def write_report(study_folder: Path | str, out: Path | str, collection: str = "") -> Path:
    """Report a study, finished or not, into the folder `out`; returns the path of the page.

    collection: whose cases alone are reported, where the cohort has several; all were trained on together.
    Everything is made before anything is written, the page last. A figure that an earlier report had and this
    one cannot draw is removed. Raises StudyError for a folder that is no study or damaged, CohortError, OutputError.
    """
    results = read_results(study_folder)
    cohort, no_cohort = open_cohort(results)
    if collection:
        if cohort is None:
            raise StudyError(f"which cases are of {collection} is not known: {no_cohort}")
        results, cohort = of_collection(results, cohort, collection)
    tables = all_tables(results, cohort)
    plates = all_plates(results, cohort, no_cohort)
    drawn = {plate.name: render(plate) for plate in plates}
    notices = [*filter(None, (no_cohort, results.reservation)), *results.missing]
    html = page(results, tables, plates, drawn, notices)
    out = make_folder(out)
    for table in tables:
        for suffix, text in (("csv", to_csv(table)), ("tex", to_latex(table)), ("md", to_text(table))):
            _write(make_folder(out / "tables") / f"{table.name}.{suffix}", text.encode())
    for plate in plates:
        for kind in FIGURE_KINDS:
            path = make_folder(out / "figures") / f"{plate.name}.{kind}"
            if kind in drawn[plate.name]:
                _write(path, drawn[plate.name][kind])
            else:
                path.unlink(missing_ok=True)
    _write(out / "report.html", html.encode())
    return out / "report.html"


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content)

"""The report's one page: every table and figure embedded, for screens of any width, in light and dark, and paper.

Its words and its order are in page.html, a table's in table.html, its looks in page.css.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from clmsda.studies.config import PROTOCOLS
from clmsda.studies.report.figures import Plate
from clmsda.studies.report.findings import findings
from clmsda.studies.report.published import SOURCE
from clmsda.studies.report.table import Table, to_csv, to_latex
from clmsda.studies.results import Results
from clmsda.version import software_version

SECTIONS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("cohort", "Cohort", ("Table 1", "Figure 1")),
    ("method", "Method, settings and split", ("Figure 2", "Table 2", "Table 3")),
    ("results", "Results", ("Table 4", "Table 5", "Figure S1", "Table S1")),
    ("size", "Results by tumor size", ("Table 6", "Figure S2")),
    ("cases", "Cases", ("Figure 6", "Figure 7")),
    ("protocols", "Protocols side by side", ("Table S2", "Figure S3")),
    ("surfaces", "Surfaces and slices", ("Table S3", "Table S4")),
    ("agreement", "Volume and diameter", ("Figure S4", "Table S5")),
    ("coverage", "Tumor outside the patch", ("Figure S5", "Table S6")),
    ("training", "Training", ("Figure S6", "Table S7")),
)
"""Anchor, heading, and what stands below it, by label."""


def page(
    results: Results,
    tables: Sequence[Table],
    plates: Sequence[Plate],
    drawn: Mapping[str, Mapping[str, bytes]],
    notices: Sequence[str],
) -> str:
    """The whole page. drawn: each plate's "png" and "svg" by its name, nothing where it could not be drawn."""
    finished = sum(record.finished for record in results.records)
    facts = {
        "Study": results.study.name,
        **({"Collection": f"{results.collection} alone"} if results.collection else {}),
        "Validation": results.validation,
        "Patients tested": len({score.patient for score in results.scores}),
        "Methods": ", ".join(row.name for row in results.rows),
        "Runs finished": f"{finished} of {len(results.records)}",
        "Seeds": ", ".join(map(str, results.study.seeds)),
    }
    return templates().get_template("page.html").render(
        results=results, facts=facts, notices=notices, findings=findings(results), sections=SECTIONS,
        tables={table.label: table for table in tables},
        plates={plate.label: (plate, drawn[plate.name]) for plate in plates},
        protocols=PROTOCOLS, source=SOURCE, version=software_version(),
    )  # fmt: skip


def templates() -> Environment:
    """page.html and table.html. Everything is escaped, and a name that the page was not given is an error."""
    found = Environment(
        loader=PackageLoader(__name__.rpartition(".")[0], ""), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    found.filters |= {
        "anchor": lambda label: label.lower().replace(" ", "-"),
        "csv": lambda table: to_csv(table).encode(),
        "latex": lambda table: to_latex(table).encode(),
        "uri": lambda content, mime: f"data:{mime};base64,{b64encode(content).decode()}",
    }
    return found

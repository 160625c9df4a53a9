"""The report's one page: every table and figure embedded, for screens of any width, in light and dark, and paper."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape

from clmsda.studies.report.figures import Plate
from clmsda.studies.report.findings import findings
from clmsda.studies.report.published import SOURCE
from clmsda.studies.report.setting_tables import validation
from clmsda.studies.report.style_sheet import STYLE_SHEET
from clmsda.studies.report.table import Table, to_csv, to_html, to_latex
from clmsda.studies.results import PROTOCOLS, Results
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

READING = (
    "F1 (Dice), recall and precision count the voxels of all slices of a tumor. Seeds of a patient are averaged "
    "before anything else, so n counts patients; the standard deviation is that of single patients.",
    "Intervals are 95 % percentile bootstrap intervals of the mean over patients (10,000 resamples, seeded). They "
    "say how far the mean depends on which patients were tested, not on how a network happened to be trained, and "
    "with few patients (below ten or so) they are too narrow.",
    "Tumor outside the patch counts as missed. An empty prediction has F1 0 and an infinite HD95, which is why HD95 "
    "is given as a median with the share of infinite ones.",
    "Columns headed paper (shaded) are the published figures, on other patients: they are there for orientation, "
    "and no test compares them with ours. A dash is not known to us.",
    "The layout of Tables 1 to 6 is reconstructed from the paper's abstract and from what it is known to report: the "
    "printed tables were not at hand. Figures 3 to 5 of the paper describe its method, and have no counterpart here.",
)


def page(
    results: Results,
    tables: Sequence[Table],
    plates: Sequence[Plate],
    drawn: Mapping[str, Mapping[str, bytes]],
    notices: Sequence[str],
) -> str:
    """The whole page. drawn: each plate's "png" and "svg" by its name, nothing where it could not be drawn."""
    blocks = {table.label: _table(table) for table in tables}
    blocks |= {plate.label: _figure(plate, drawn[plate.name]) for plate in plates}
    title = escape(results.study.title or results.study.name)
    body = [_head(title, results), _warnings(results, notices), _short(results), _contents(tables, plates)]
    for anchor, heading, labels in SECTIONS:
        body.append(f'<section id="{anchor}">\n<h2>{heading}</h2>')
        body += [blocks[label] for label in labels if label in blocks]
        body.append("</section>")
    body.append(_foot())
    return "\n".join([
        "<!doctype html>", '<html lang="en">', "<head>", '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">', f"<title>{title}</title>",
        f"<style>{STYLE_SHEET}</style>", "</head>", "<body>", "<main>", *body, "</main>", "</body>", "</html>", "",
    ])  # fmt: skip


def _head(title: str, results: Results) -> str:
    study = results.study
    tested = len({score.patient for score in results.scores})
    facts = [
        ("Study", study.name),
        ("Validation", validation(results)),
        ("Patients tested", str(tested)),
        ("Methods", ", ".join(row.name for row in results.rows)),
        ("Runs finished", f"{sum(one.finished for one in results.records)} of {len(results.records)}"),
        ("Seeds", ", ".join(map(str, study.seeds))),
    ]
    listed = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    kind = "Lung tumor segmentation study"
    return f'<header>\n<p class="kind">{kind}</p>\n<h1>{title}</h1>\n<dl class="facts">{listed}</dl>\n</header>'


def _warnings(results: Results, notices: Sequence[str]) -> str:
    """What a reader must know before any number: that no patient is behind them, and what is missing."""
    parts = []
    if results.cohort.synthetic:
        parts.append(
            '<div class="warning"><strong>Synthetic data.</strong> Every tumor in this report is a computer-generated '
            "phantom. No number here says how a method does on patients.</div>"
        )
    if notices:
        items = "".join(f"<li>{escape(notice[:1].upper() + notice[1:])}.</li>" for notice in notices)
        parts.append(f'<div class="warning"><strong>This report is not complete.</strong><ul>{items}</ul></div>')
    parts.append('<p class="faint">For research only: nothing here was tested for a clinical purpose.</p>')
    return "\n".join(parts)


def _short(results: Results) -> str:
    """The main result in words, from the same numbers as the tables."""
    found = findings(results)
    if not found:
        return ""
    items = []
    for one in found:
        numbers = "".join(f"<li>{escape(number)}</li>" for number in one.numbers)
        items.append(f"<li>{escape(one.text)}<ul>{numbers}</ul></li>")
    return f'<section id="short">\n<h2>In short</h2>\n<ul>{"".join(items)}</ul>\n</section>'


def _contents(tables: Sequence[Table], plates: Sequence[Plate]) -> str:
    there = {table.label for table in tables} | {plate.label for plate in plates}
    items = []
    for anchor, heading, labels in SECTIONS:
        links = ", ".join(f'<a href="#{_anchor(label)}">{label}</a>' for label in labels if label in there)
        items.append(f'<li><a href="#{anchor}">{heading}</a> <span class="faint">{links}</span></li>')
    return f'<nav aria-label="Contents">\n<h2>Contents</h2>\n<ul>{"".join(items)}</ul>\n</nav>'


def _anchor(label: str) -> str:
    return label.lower().replace(" ", "-")


def _table(table: Table) -> str:
    links = " ".join([
        _download("CSV", f"{table.name}.csv", "text/csv", to_csv(table).encode()),
        _download("LaTeX", f"{table.name}.tex", "text/x-tex", to_latex(table).encode()),
    ])  # fmt: skip
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in table.notes)
    caption = _caption(table.label, table.caption, links)
    body = f'<div class="scroll" tabindex="0" role="region" aria-label="{table.label}">{to_html(table)}</div>'
    return f'<figure class="table" id="{_anchor(table.label)}">\n{caption}\n{body}\n{notes}\n</figure>'


def _figure(plate: Plate, drawn: Mapping[str, bytes]) -> str:
    """A picture of CT as pixels; a drawing as vectors, with its pixels to be taken along."""
    opening = f'<figure id="{_anchor(plate.label)}">'
    if not drawn:
        left_out = f"<strong>{plate.label}.</strong> Left out: {escape(plate.omitted)}."
        return f'{opening}\n<p class="omitted">{left_out}</p>\n</figure>'
    source = _uri("image/png", drawn["png"]) if plate.picture else _uri("image/svg+xml", drawn["svg"])
    link = "" if plate.picture else _download("PNG", f"{plate.name}.png", "image/png", drawn["png"])
    image = f'<div class="plate scroll" tabindex="0"><img src="{source}" alt="{escape(plate.caption)}"></div>'
    return f"{opening}\n{image}\n{_caption(plate.label, plate.caption, link)}\n</figure>"


def _caption(label: str, text: str, links: str) -> str:
    return f'<figcaption><strong>{label}.</strong> {escape(text)} <span class="links">{links}</span></figcaption>'


def _download(text: str, name: str, mime: str, content: bytes) -> str:
    return f'<a download="{name}" href="{_uri(mime, content)}">{text}</a>'


def _uri(mime: str, content: bytes) -> str:
    return f"data:{mime};base64,{b64encode(content).decode()}"


def _foot() -> str:

    protocols = "".join(f"<li><strong>{name}</strong>: {escape(words)}</li>" for name, words in PROTOCOLS.items())
    reading = "".join(f"<p>{escape(text)}</p>" for text in READING)
    return (
        f'<section id="reading">\n<h2>How to read this</h2>\n{reading}\n<p>Protocols, by what a method is told:</p>\n'
        f"<ul>{protocols}</ul>\n</section>\n<footer><p>Published figures: {escape(SOURCE)}</p><p>Made by clmsda "
        f"{escape(software_version())}. The folder of this page holds every table as CSV, LaTeX and Markdown, and "
        "every figure as PNG and SVG.</p></footer>"
    )

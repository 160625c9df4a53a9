"""The report as one HTML file, which needs nothing but itself."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from html import escape
from pathlib import Path

from clmsda.files import replacing
from clmsda.serving.saving.summary import COLUMNS, NOTICE, Summary

_STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; color: #1b1f24; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem; margin: 0 0 .2rem } .notice { font-weight: 600; color: #9a3412 }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 }
dl { display: grid; grid-template-columns: 10rem 1fr } dt { color: #57606a } dd { margin: 0 }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid #d0d7de }
figure { margin: 1.2rem 0; break-inside: avoid } img { width: 100% }
figcaption { font-weight: 600; margin-bottom: .3rem }
@media print { body { margin: 0 } }
"""


def write_page(summary: Summary, path: Path) -> None:
    """Raises OutputError."""
    with replacing(path) as temporary:
        temporary.write_text(_page(summary), encoding="utf8")


def _page(summary: Summary) -> str:
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in summary.facts)
    rows = "".join(_row("td", row) for row in summary.rows)
    remarks = "".join(f"<li>{escape(line)}</li>" for line in summary.remarks)
    figures = "".join(
        f'<figure><figcaption>{escape(caption)}</figcaption><img alt="{escape(caption)}, three planes" '
        f'src="data:image/png;base64,{b64encode(png).decode()}"></figure>'
        for caption, png in summary.pictures
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f"<title>Lesions: {escape(summary.title)}</title><style>{_STYLE}</style></head><body>"
        f'<h1>Lesions: {escape(summary.title)}</h1><p class="notice">{NOTICE}</p><dl>{facts}</dl>'
        f"<table><thead>{_row('th', COLUMNS)}</thead><tbody>{rows}</tbody></table>"
        f"{f'<ul>{remarks}</ul>' if remarks else ''}{figures}</body></html>\n"
    )


def _row(cell: str, values: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{cell}>{escape(value)}</{cell}>' for value in values)}</tr>"

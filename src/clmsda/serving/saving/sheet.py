"""The report as PDF, for the paper: A4, on one page as long as the lesions are few."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clmsda.files import replacing
from clmsda.serving.saving.summary import COLUMNS, NOTICE, Summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, HEIGHT, MARGIN = 8.27, 11.69, 0.6
LINE = 0.21
"""All in inches."""
_PLACES = (0, 0.2, 0.32, 0.445, 0.575, 0.685, 0.785, 0.91)
"""Where the columns of the table begin, over the width of the text."""
_LONGEST = 105
_INK, _FAINT, _NOTICE = "#1b1f24", "#57606a", "#9a3412"


def write_sheet(summary: Summary, path: Path) -> None:
    """Raises OutputError."""
    from matplotlib.backends.backend_pdf import PdfPages

    with replacing(path) as temporary, PdfPages(temporary, metadata={"Title": "Lesions", "Creator": "clmsda"}) as pages:
        figure, top = _first_page(summary)
        for caption, png in summary.pictures:
            image = _image(png)
            height = (WIDTH - 2 * MARGIN) * image.shape[0] / image.shape[1]
            if top - height - 0.3 < MARGIN:
                pages.savefig(figure)
                figure, top = _new_page(), HEIGHT - MARGIN
            _write(figure, MARGIN, top - 0.2, caption, weight="bold")
            box = (MARGIN / WIDTH, (top - 0.3 - height) / HEIGHT, 1 - 2 * MARGIN / WIDTH, height / HEIGHT)
            axes = figure.add_axes(box)
            axes.imshow(image, aspect="auto", interpolation="lanczos")
            axes.set_axis_off()
            top -= height + 0.45
        pages.savefig(figure)


def _first_page(summary: Summary) -> tuple[Figure, float]:
    """The page with title, facts, table and remarks, and the height that is left."""
    figure, y = _new_page(), HEIGHT - MARGIN - 0.1
    _write(figure, MARGIN, y, _cut(f"Lesions: {summary.title}", 60), size=15, weight="bold")
    _write(figure, MARGIN, y - 0.3, NOTICE, color=_NOTICE, weight="bold")
    y -= 0.65
    for name, value in summary.facts:
        _write(figure, MARGIN, y, name, color=_FAINT)
        _write(figure, MARGIN + 1.4, y, _cut(value, 90))
        y -= LINE
    y -= 0.15
    for number, row in enumerate((COLUMNS, *summary.rows)):
        for place, text in zip(_PLACES, row, strict=True):
            _write(
                figure, MARGIN + place * (WIDTH - 2 * MARGIN), y, _cut(text, 22), weight="normal" if number else "bold"
            )
        y -= LINE * 1.1
    y -= 0.1
    for line in summary.remarks[:12]:
        _write(figure, MARGIN, y, _cut(f"\N{BULLET} {line}", _LONGEST), color=_FAINT)
        y -= LINE
    return figure, y


def _new_page() -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, HEIGHT), facecolor="white")


def _write(figure: Figure, x: float, y: float, text: str, **style: Any) -> None:
    usual: dict[str, Any] = {"size": 8.5, "color": _INK, "va": "baseline", "parse_math": False}
    figure.text(x / WIDTH, y / HEIGHT, text, **usual | style)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _image(png: bytes) -> Any:
    from matplotlib.image import imread

    return imread(BytesIO(png))

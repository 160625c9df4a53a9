"""`results.html`: all cases on one page that opens offline; keys accept, reject and rate, verdicts are saved as CSV."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path

from clmsda.batch.outcomes import Outcome
from clmsda.batch.places import writing
from clmsda.version import software

_DATA = "/*CASES*/"


def write_page(outcomes: Sequence[Outcome], count: int, path: Path) -> None:
    """count: of the table's rows. The page shows the pictures in `cases`, beside it. Raises OutputError."""
    template = files("clmsda.batch").joinpath("page.html").read_text(encoding="utf8")
    data = {"software": software(), "count": count, "cases": [asdict(one) for one in outcomes]}
    text = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")  # no cell of a table ends the script
    with writing(path) as temporary:
        temporary.write_text(template.replace(_DATA, text), encoding="utf8")

"""`results.html`: all cases on one page that opens offline; keys accept, reject and rate, verdicts are saved as CSV."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from clmsda.batch.outcomes import Outcome
from clmsda.batch.places import writing
from clmsda.version import software

_DATA = "/*CASES*/"


def write_page(outcomes: Sequence[Outcome], count: int, path: Path, batch: str) -> None:
    """count: of the table's rows. batch: its own name (`Folder.begin`). Raises OutputError.

    The page shows the pictures in `cases`, beside it. A browser keeps verdicts by batch, and by what was judged.
    """
    template = files("clmsda.batch").joinpath("page.html").read_text(encoding="utf8")
    data = {"software": software(), "batch": batch, "count": count, "cases": [_shown(one) for one in outcomes]}
    text = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")  # no cell of a table ends the script
    with writing(path) as temporary:
        temporary.write_text(template.replace(_DATA, text), encoding="utf8")


def _shown(outcome: Outcome) -> dict[str, Any]:
    """mark: of what is judged. A row that was done again with the same result has the same one."""
    judged = json.dumps((outcome.row, outcome.reason, outcome.lesions))
    shown = asdict(outcome) | {"mark": hashlib.blake2b(judged.encode(), digest_size=8).hexdigest()}
    del shown["row"], shown["wanted"]
    return shown

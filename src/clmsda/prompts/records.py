"""Prompts and corrections as JSON: {"kind": "Point", "lps_mm": [x, y, z]}."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from clmsda.prompts.kinds import Box, Correction, Inside, Outside, Point, Prompt, PromptError, RecistLine

_KINDS: dict[str, type[Prompt | Correction]] = {
    kind.__name__: kind for kind in (Point, RecistLine, Box, Inside, Outside)
}


def to_json(said: Prompt | Correction) -> dict[str, Any]:
    """kind: the name of its class; then its positions in LPS mm."""
    return {"kind": type(said).__name__} | asdict(said)


def from_json(record: Any) -> Prompt | Correction:
    """What `to_json` wrote, or a person's program. Raises PromptError for anything else."""
    kind = _KINDS.get(str(record.get("kind"))) if isinstance(record, dict) else None
    if kind is None:
        found = record.get("kind") if isinstance(record, dict) else record
        raise PromptError(f"expected a prompt of the kind {', '.join(_KINDS)}, found {str(found)[:40]!r}")
    names = [one.name for one in fields(kind)]
    missing = [name for name in names if name not in record]
    if missing or not set(record) <= {"kind", *names}:
        raise PromptError(
            f"{kind.__name__} needs {', '.join(names)}, found {', '.join(sorted(set(record) - {'kind'}))}"
        )
    try:
        positions: Any = [tuple(float(value) for value in record[name]) for name in names]
        return kind(*positions)
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, PromptError):
            raise
        raise PromptError(f"{kind.__name__} needs three numbers for each of {', '.join(names)} (LPS mm)") from error

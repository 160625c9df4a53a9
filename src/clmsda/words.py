"""Numbers as people say them."""

from __future__ import annotations


def duration(seconds: float | None) -> str:
    """Words for people: "1 h 20 min", "3 min", "40 s", or "unknown"."""
    if seconds is None:
        return "unknown"
    if seconds < 99:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"

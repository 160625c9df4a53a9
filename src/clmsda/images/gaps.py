"""Slices that a region leaves out: said, as software that draws every second slice only gives half the volume."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import pairwise

MOST = 8
"""So many gaps are named."""

log = logging.getLogger(__name__)


def say_gaps(slices: Sequence[int], where: str, what: str) -> None:
    """Say which slices between the first and the last of a region hold none of it.

    slices: those that do, in order. where: the region in words. what: "contour", or what else a slice lacks.
    """
    gaps = [(before + 1, after - 1) for before, after in pairwise(slices) if after - before > 1]
    if not gaps:
        return
    names = [f"{first}" if first == last else f"{first}-{last}" for first, last in gaps[:MOST]]
    more = f" and {len(gaps) - MOST} more gaps" if len(gaps) > MOST else ""
    count = sum(last - first + 1 for first, last in gaps)
    log.warning(
        "%s has no %s on %d slice%s (%s%s) between its first, %d, and its last, %d: nothing is counted there; was "
        "every slice drawn?",
        where,
        what,
        count,
        "s" * (count != 1),
        ", ".join(names),
        more,
        slices[0],
        slices[-1],
    )

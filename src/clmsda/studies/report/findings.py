"""The main result in words, from the same numbers as the tables: does the paper's ordering hold, and who gains most?"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from clmsda.studies.report.published import ORDER
from clmsda.studies.report.table import Column, printed
from clmsda.studies.results import GROUPS, Results
from clmsda.studies.statistics import Comparison, Estimate

BASE, BEST = ORDER[0], ORDER[-1]


@dataclass(frozen=True)
class Finding:
    """A sentence, and the numbers that it rests on."""

    text: str
    numbers: tuple[str, ...]


def findings(results: Results) -> list[Finding]:
    """None where nothing is scored yet; the paper's claims only where all of its variants are."""
    protocol = results.headline
    found = {name: results.percent(name, protocol, "f1") for name in results.names(protocol)}
    known = {name: f1 for name, f1 in found.items() if f1.mean is not None}
    if not known:
        return []
    numbers = tuple(f"{name}: {_mean(f1)} (n = {f1.n})" for name, f1 in known.items())
    means = Finding(f"Mean F1 in percent, {protocol} protocol, with the 95 % interval:", numbers)
    return [means, _ordering(results, known), _gains(results)] if all(name in known for name in ORDER) else [means]


def _ordering(results: Results, known: dict[str, Estimate]) -> Finding:
    """Whether the means rise in the paper's order, and how sure each step is."""
    means = [known[name].mean or 0.0 for name in ORDER]
    holds = all(a < b for a, b in pairwise(means))
    pairs = {(one.first, one.second): one for one in results.compared(None)}
    steps = [*pairwise(ORDER), (BASE, BEST)]
    return Finding(
        f"The paper's ordering ({' < '.join(ORDER)}) {'holds' if holds else 'does not hold'} in the means. "
        "Differences in points, patient by patient; an interval that holds 0 leaves a step undecided:",
        tuple(_step(_turned(pairs, first, second)) for first, second in steps),
    )


def _step(one: Comparison) -> str:
    p = (
        ""
        if one.p_holm is None
        else f", p = {printed(one.p_holm, Column('', show='p'))} after Holm".replace("= <", "<")
    )
    return f"{one.second} over {one.first}: {_mean(one.difference)}{p}"


def _gains(results: Results) -> Finding:
    """In which size group the paper's method gains most over the plain U-Net."""
    gains = {}
    for group in GROUPS:
        pairs = {(one.first, one.second): one for one in results.compared(group)}
        gain = _turned(pairs, BASE, BEST).difference
        if gain.mean is not None:
            gains[group] = gain
    largest = max(gains, key=lambda group: gains[group].mean or 0.0)
    return Finding(
        f"{BEST} gains most over {BASE} in {GROUPS[largest]}; the paper: in small tumors. Gains in points:",
        tuple(f"{GROUPS[group]}: {_mean(gain)} (n = {gain.n})" for group, gain in gains.items()),
    )


def _turned(pairs: dict[tuple[str, str], Comparison], first: str, second: str) -> Comparison:
    """The comparison of second with first, whichever of them the study names first."""
    if (first, second) in pairs:
        return pairs[first, second]
    one = pairs[second, first]
    found = one.difference
    low, mean, high = (None if value is None else -value for value in (found.high, found.mean, found.low))
    difference = Estimate(found.n, mean, found.sd, low, high)
    return Comparison(first, second, difference, one.p, one.p_holm, one.only_second, one.only_first)


def _mean(one: Estimate) -> str:
    return printed(one, Column("", show="mean [interval]", digits=1))

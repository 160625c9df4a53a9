"""What was measured as the tables of docs/performance.md. A ratio above 1: clmsda needs less processor time."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from peers.rounds import Timed, ratio, short

LIMITS = ("matrix product", "3-D convolution", "copy of")
Results = Mapping[str, Mapping[str, Any]]


def page(results: Results) -> str:
    """All tables, in Markdown."""
    texts = [ran(results)]
    for name, part in results.items():
        times = timed(part)
        shape = "x".join(map(str, part["facts"].get("shape", [])))
        rows = masks(times) if "masks" in name else reading(times) if "reading" in name else steps(times)
        texts.append(f"### {name}{f' ({shape})' if shape else ''}\n\n{markdown(rows)}")
    return "\n\n".join(
        [*texts, f"### limits\n\n{markdown(limits(results))}", f"### shares\n\n{markdown(shares(results))}"]
    )


def ran(results: Results) -> str:
    """Versions, and how busy the machine was."""
    loads = [load for part in results.values() for load in part["load"]]
    versions = next(iter(results.values()))["versions"]
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{named}. Load average {min(loads):.1f} to {max(loads):.1f}."


def timed(part: Mapping[str, Any]) -> list[Timed]:
    return [Timed.from_json(one) for one in part["times"]]


def contenders(times: Iterable[Timed]) -> list[Timed]:
    """All but the machine's limits; the first is ours, which the others are compared with."""
    return [one for one in times if not one.name.startswith(LIMITS)]


def masks(times: list[Timed]) -> list[list[str]]:
    ours, *others = contenders(times)
    rows = [
        ["", "voxels looked at", "GFLOP", "processor, s", "wall, s", "times our click", "for each GFLOP", "whole CT, s"]
    ]
    for one in (ours, *others):
        counted = f"{one.gflop:,.0f}" if one.gflop else "-"
        per_gflop = str(ratio(one, ours, per_gflop=True)) if one.gflop else "-"
        same = one is ours
        rows.append(
            [
                one.name, f"{one.voxels / 1e6:.2f} M", counted, *seconds(one), "1" if same else str(ratio(one, ours)),
                "1" if same else per_gflop, whole(one),
            ]
        )  # fmt: skip
    return rows


def whole(one: Timed) -> str:
    """Computed, not measured: as many tiles as the whole CT has; with the mirroring that nnU-Net does by default."""
    if "whole" not in one.more:
        return "-"
    plain = one.seconds / one.more["tiles"] * one.more["whole"]
    mirrored = f"; mirrored {short(plain * one.more['mirrored'])}" if one.more["mirrored"] > 1 else ""
    return f"{short(plain)} ({one.more['whole']} tiles){mirrored}"


def reading(times: list[Timed]) -> list[list[str]]:
    ours = times[0]
    rows = [["", "processor, s", "wall, s", "times `read_ct`", "MB of voxels a processor second"]]
    for one in times:
        compared = "1" if one is ours else str(ratio(one, ours))
        rows.append([one.name, *seconds(one), compared, short(2 * one.voxels / 1e6 / one.seconds)])
    return rows


def steps(times: list[Timed]) -> list[list[str]]:
    ours, *others = contenders(times)
    rows = [["", "width", "GFLOP", "processor, s", "wall, s", "GFLOP/s", "times ours, for each GFLOP"]]
    for one in (ours, *others):
        compared = "1" if one is ours else str(ratio(one, ours, per_gflop=True))
        rows.append([one.name, str(one.more["width"]), f"{one.gflop:.0f}", *seconds(one), short(one.rate), compared])
    return rows


def seconds(one: Timed) -> list[str]:
    return [short(one.seconds), short(statistics.median(one.wall))]


def limits(results: Results) -> list[list[str]]:
    """The best rate of each part's median, since a limit is what can be reached, and how far parts differ."""
    rows = [["", "best", "median of the parts"]]
    for name, rates in limiting(results).items():
        unit = "GB/s" if name.startswith("copy") else "GFLOP/s"
        rows.append([name, f"{short(max(rates))} {unit}", f"{short(statistics.median(rates))} {unit}"])
    return rows


def limiting(results: Results) -> dict[str, list[float]]:
    """The rate of every limit in every part."""
    found: dict[str, list[float]] = {}
    for part in results.values():
        for one in timed(part):
            if one.name.startswith(LIMITS):
                found.setdefault(one.name, []).append(one.rate)
    return found


def shares(results: Results) -> list[list[str]]:
    """What clmsda reaches of the best that was measured in the same precision."""
    rows = [["", "GFLOP/s", "of the machine's best"]]
    for name, part in results.items():
        for one in contenders(timed(part)):
            if one.gflop and one.name.startswith("clmsda"):
                best = peak(results, half="bfloat16" in name)
                rows.append([f"{name}: {one.name}", short(one.rate), f"{100 * one.rate / best:.0f} %"])
    return rows


def peak(results: Results, *, half: bool) -> float:
    """GFLOP/s of the fastest thing in this precision."""
    wanted = "bfloat16" if half else "float32"
    return max(rate for name, rates in limiting(results).items() if wanted in name for rate in rates)


def markdown(rows: list[list[str]]) -> str:
    head, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body))

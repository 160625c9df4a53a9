"""What was measured as the tables of docs/performance.md. A ratio above 1: clmsda needs less processor time."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from peers.rounds import Spread, Timed, ratio, short

LIMITS = ("matrix product", "3-D convolution", "copy of")
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
ALONE = "network alone"
"""A part of our click, which is no rival of it."""
Results = Mapping[str, Mapping[str, Any]]


def rewrite(path: Path, results: Results) -> None:
    """Put the tables into a page, in the place of those between its marks."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n\n{page(results)}\n\n{END}{after}", encoding="utf-8")


def page(results: Results) -> str:
    """All tables, in Markdown."""
    texts = [ran(results), "## Where clmsda is slower", "\n".join(lost(results))]
    for name, part in results.items():
        times = timed(part)
        rows = masks(times) if "masks" in name else reading(times) if "reading" in name else steps(times)
        texts += [f"## {title(name)}", *size(part["facts"]), markdown(rows)]
    texts += ["## What the machine can do", markdown(limits(results)), markdown(shares(results))]
    return "\n\n".join(texts)


def place(name: str) -> tuple[int, str, bool]:
    """In the order of the page: masks, reading, steps; float32 before bfloat16, a patient before a phantom."""
    kind = ("masks", "reading", "steps").index(name.split()[0].rstrip(","))
    return kind, "bfloat16" * ("bfloat16" in name), "phantom" in name


def title(name: str) -> str:
    """Of a part of the results."""
    if name.startswith("steps"):
        _, dims, precision = name.split()
        return f"A training step, {dims}, {precision}"
    what, ct = name.split(", ")
    return f"{ct}: " + ("reading its DICOM series" if what == "reading" else "from the CT in memory to a mask")


def each(name: str) -> str:
    """Widths are multiples of four, which leaves training steps of unequal FLOPs: the time for each GFLOP counts."""
    return " for each GFLOP" if name.startswith("steps") else ""


def size(facts: Mapping[str, Any]) -> list[str]:
    if not facts:
        return []
    spacing = " x ".join(f"{mm:.2f}" for mm in facts["spacing_mm"])
    return [f"{' x '.join(map(str, facts['shape']))} voxels of {spacing} mm (slices, rows, columns)."]


def compared(name: str, times: list[Timed]) -> dict[str, Spread]:
    """What counts in a part: times clmsda's processor time, of training steps for each GFLOP."""
    per_gflop = name.startswith("steps")
    ours, *others = (one for one in contenders(times) if ALONE not in one.name)
    return {one.name: ratio(one, ours, per_gflop=per_gflop) for one in others}


def lost(results: Results) -> list[str]:
    """Every peer that needs less processor time, by the median."""
    found = [
        f"- {title(name)}: {peer} takes {spread} times clmsda's time" + each(name)
        for name, part in results.items()
        for peer, spread in compared(name, timed(part)).items()
        if spread.median < 1 and not peer.startswith("clmsda")
    ]
    return found or ["Nowhere, of what is measured here."]


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
                rows.append([f"{title(name)}: {one.name}", short(one.rate), f"{100 * one.rate / best:.0f} %"])
    return rows


def peak(results: Results, *, half: bool) -> float:
    """GFLOP/s of the fastest thing in this precision."""
    wanted = "bfloat16" if half else "float32"
    return max(rate for name, rates in limiting(results).items() if wanted in name for rate in rates)


def markdown(rows: list[list[str]]) -> str:
    head, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body))

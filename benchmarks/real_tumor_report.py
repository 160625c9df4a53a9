"""The rows of `real_tumors.py` as Markdown tables and as a figure of F1 by size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from clmsda.studies.confidence import FAILED_BELOW, announced, fifths, rank_correlation
from clmsda.studies.statistics import Estimate, clustered

LIDC_MM = (6.0, 10.0, 20.0, 30.0)
NSCLC_CM = (3.0, 5.0)
WORSE = 0.05
END_OF_SCAN = "of the scan: it may be incomplete"
"""In a warning that says nothing about the mask where a crop ends with its nodule."""


@dataclass(frozen=True)
class Scored:
    """A row of the file: a lesion's mask by one prompt, after so many corrections."""

    case: str
    patient: str
    size_mm: float
    readers: float | None
    prompt: str
    corrections: int
    f1: float
    confidence: float
    seconds: float
    peak_mb: float
    note: str

    @classmethod
    def of(cls, row: Mapping[str, str]) -> Scored:
        numbers = (float(row[name] or "nan") for name in ("f1", "confidence", "seconds", "peak_mb"))
        readers = float(row["readers"]) if row["readers"] else None
        prompt = "moved clicks" if row["prompt"].startswith("moved") else row["prompt"]
        return cls(row["case"], row["patient"], float(row["size_mm"]), readers, prompt, int(row["corrections"]),
                   *numbers, row["note"])  # fmt: skip

    @property
    def set(self) -> str:
        return self.case.partition("/")[0]

    @property
    def way(self) -> str:
        """The prompt with what was added to it."""
        return f"{self.prompt} + {self.corrections}" if self.corrections else self.prompt

    @property
    def warned(self) -> bool:
        """Whether a note tells of doubt in this mask; that a crop ends with its nodule tells nothing."""
        return any(note and END_OF_SCAN not in note for note in self.note.split("; "))


def size_groups(set_name: str) -> list[str]:
    """The labels of a set's groups, smallest first."""
    limits, unit = (LIDC_MM, "mm") if set_name.startswith("lidc") else (NSCLC_CM, "cm")
    between = [f"{low:g} to {high:g} {unit}" for low, high in pairwise(limits)]
    return [f"up to {limits[0]:g} {unit}", *between, f"above {limits[-1]:g} {unit}"]


def size_group(one: Scored) -> str:
    """A lesion's group; a limit belongs to the smaller group."""
    limits_mm = LIDC_MM if one.set.startswith("lidc") else [10 * limit_cm for limit_cm in NSCLC_CM]
    return size_groups(one.set)[sum(one.size_mm > limit_mm for limit_mm in limits_mm)]


def over_patients(rows: Iterable[Scored], values: Iterable[float]) -> Estimate:
    """Mean over lesions; its interval draws patients."""
    patients: dict[str, list[float]] = {}
    for row, value in zip(rows, values, strict=True):
        patients.setdefault(row.patient, []).append(value)
    return clustered([np.array(part) for part in patients.values()])


def by_way(rows: Iterable[Scored]) -> dict[str, list[Scored]]:
    found: dict[str, list[Scored]] = {}
    for row in rows:
        found.setdefault(row.way, []).append(row)
    return found


def best_setting(rows: Iterable[Mapping[str, str]]) -> str:
    """The prompt (a setting of region growing) with the best mean."""
    scores: dict[str, list[float]] = {}
    for row in rows:
        scores.setdefault(row["prompt"], []).append(float(row["f1"]))
    means = {name: float(np.mean(values)) for name, values in scores.items()}
    print("on validation lesions: " + ", ".join(f"{name} {mean:.3f}" for name, mean in means.items()))
    return max(means, key=lambda name: means[name])


def print_scores(rows: Sequence[Scored], growing: Mapping[str, float]) -> None:
    """F1 by set, prompt and size. growing: region growing's F1 by case."""
    columns = ("set", "prompt", "size", "lesions (patients)", "F1 mean [95 %]", "median", "below 0.5 [95 %]")
    _print_head(*columns, "readers", "growing")
    for name in dict.fromkeys(row.set for row in rows):
        for way, part in by_way(row for row in rows if row.set == name).items():
            print(_line(name, way, "all", part, growing))
            if way != "click":
                continue
            if name == "lidc-crops":
                print(_line(name, way, "above 6 mm", [row for row in part if row.size_mm > 6], growing))
            groups = [(group, [row for row in part if size_group(row) == group]) for group in size_groups(name)]
            if name == "whole-cts":
                groups = [(row.patient, [row]) for row in part]
            for group, rest in groups:
                if rest:
                    print(_line(name, way, group, rest, growing))


def _line(name: str, way: str, group: str, rows: Sequence[Scored], growing: Mapping[str, float]) -> str:
    scores = [row.f1 for row in rows]
    failed = over_patients(rows, [float(score < FAILED_BELOW) for score in scores])
    lesions, patients = len({row.case for row in rows}), len({row.patient for row in rows})
    readers = [row.readers for row in rows if row.readers is not None]
    grown = [growing[row.case] for row in rows if row.case in growing]
    cells = [name, way, group, f"{lesions} ({patients})", interval(over_patients(rows, scores)),
             f"{np.median(scores):.3f}" if scores else "", interval(failed, ".0%"),
             *(f"{np.mean(part):.3f}" if part else "" for part in (readers, grown))]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def interval(found: Estimate, form: str = ".3f") -> str:
    """A mean with its interval, where there is one."""
    if found.mean is None:
        return ""
    return f"{found.mean:{form}}" + (f" [{found.low:{form}}, {found.high:{form}}]" if found.low is not None else "")


def print_gains(rows: Sequence[Scored]) -> None:
    """Each prompt against one click, and each correction also against the one before, on the same lesions."""
    ways = {way: _means(part) for way, part in by_way(rows).items()}
    sets = [("all", rows), *((name, [r for r in rows if r.set == name]) for name in dict.fromkeys(r.set for r in rows))]
    if "click" not in ways or len(ways) == 1:
        return
    _print_head("set", "prompt", "against", "lesions", "F1 difference [95 %]", "worse by more than 0.05", "refused")
    for name, part in sets:
        for way, own in by_way(part).items():
            number = own[0].corrections
            before = f"click + {number - 1}" if number > 1 else "click"
            for other in dict.fromkeys(("click", before)) if way != "click" else ():
                same = [row for row in own if row.case in ways.get(other, {})]
                unique = list({row.case: row for row in same}.values())
                changes = [ways[way][row.case] - ways[other][row.case] for row in unique]
                worse = np.mean([change < -WORSE for change in changes]) if changes else np.nan
                refused = sum(row.note.startswith("refused") for row in own)
                cells = [name, way, other, str(len(unique)), interval(over_patients(unique, changes)), f"{worse:.0%}"]
                print(f"| {' | '.join(cells)} | {refused} |")


def _means(rows: Iterable[Scored]) -> dict[str, float]:
    """Mean F1 of each lesion."""
    scores: dict[str, list[float]] = {}
    for row in rows:
        scores.setdefault(row.case, []).append(row.f1)
    return {case: float(np.mean(values)) for case, values in scores.items()}


def print_confidence(rows: Sequence[Scored]) -> None:
    """Of one click: confidence against F1 by fifths, and whether failures were announced."""
    clicks = [row for row in rows if row.way == "click"]
    print(
        "\nOf one click, confidence -> F1 by fifths of confidence. Announced: confidence below 0.6, or a warning other"
    )
    print("than that the scan ends; in brackets by confidence alone. False alarms: the same, of masks from 0.5 on.")
    _print_head("set", "lesions", "fifths", "rank correlation", "below 0.5", "of them announced", "false alarms")
    for name in ("all", *dict.fromkeys(row.set for row in clicks)):
        part = [row for row in clicks if name in ("all", row.set)]
        said, scores = [row.confidence for row in part], [row.f1 for row in part]
        both = announced(said, scores, [row.warned for row in part])
        alone = announced(said, scores, [False] * len(part))
        steps = ", ".join(f"{one.confidence:.2f} -> {one.f1:.2f}" for one in fifths(said, scores))
        told = f"{_share(both.share)} ({_share(alone.share)})"
        alarms = f"{_share(both.alarms)} ({_share(alone.alarms)})"
        ranks = f"{rank_correlation(said, scores):.2f}"
        print(f"| {name} | {len(part)} | {steps} | {ranks} | {both.failed} | {told} | {alarms} |")


def _print_head(*columns: str) -> None:
    print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")


def _share(value: float | None) -> str:
    return "none" if value is None else f"{value:.0%}"


def print_costs(rows: Sequence[Scored]) -> None:
    """Time and memory, and what was refused (and scored as a miss)."""
    seconds = np.array([row.seconds for row in rows if row.way == "click"])
    print(f"\nSeconds per click, reading aside: median {np.median(seconds):.1f}, 95 % below ", end="")
    print(f"{np.quantile(seconds, 0.95):.1f}; peak memory of a process {max(row.peak_mb for row in rows):.0f} MB")
    for row in rows:
        if row.note.startswith("refused") and not row.corrections:
            print(f"F1 {row.f1:g}, {row.prompt} at {row.case} {row.note}")


def draw(rows: Sequence[Scored], growing: Mapping[str, float], path: Path) -> None:
    """F1 of one click by size with its interval, a panel per set, beside readers' agreement and region growing."""
    from matplotlib.figure import Figure

    clicks = [row for row in rows if row.way == "click" and row.set != "whole-cts"]
    sets = list(dict.fromkeys(row.set for row in clicks))
    figure = Figure(figsize=(3.2 * len(sets), 3.8), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(sets), sharey=True, squeeze=False)[0], sets, strict=True):
        parts = {group: [r for r in clicks if r.set == name and size_group(r) == group] for group in size_groups(name)}
        parts = {group: part for group, part in parts.items() if part}
        for at, part in enumerate(parts.values()):
            _column(axes, at, part, growing)
        axes.set_xticks(range(len(parts)), [f"{group}\nn {len(part)}" for group, part in parts.items()], fontsize=7)
        axes.set(title=name, xlim=(-0.5, len(parts) - 0.5), ylim=(0, 1))
        axes.grid(axis="y", color="0.9")
    figure.axes[0].set_ylabel("F1")
    figure.axes[0].legend(loc="lower right", fontsize=7)
    figure.savefig(path, dpi=150)


def _column(axes, at: int, rows: Sequence[Scored], growing: Mapping[str, float]) -> None:  # type: ignore[no-untyped-def]
    """One size group: every lesion, their mean with its interval, readers and region growing."""
    found = over_patients(rows, [row.f1 for row in rows])
    mean = found.mean or 0.0
    reach = [[mean - (mean if found.low is None else found.low)], [(found.high or mean) - mean]]
    axes.scatter(at + 0.3 * np.linspace(-1, 1, len(rows) + 2)[1:-1], [r.f1 for r in rows], s=5, color="0.8", zorder=0)
    axes.errorbar(at, mean, yerr=reach, fmt="o", color="C0", capsize=3, label=None if at else "one click, 95 %")
    readers = [row.readers for row in rows if row.readers is not None]
    grown = [growing[row.case] for row in rows if row.case in growing]
    for values, style, label in ((readers, "C2_", "readers with each other"), (grown, "C3x", "region growing")):
        if values:
            axes.plot(at, np.mean(values), style, markersize=9, label=None if at else label)

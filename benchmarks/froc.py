"""What `clmsda find` finds on phantoms, and takes for a tumor: FROC, by size and site, and the competition metric.

    python benchmarks/froc.py runs/detector/model.safetensors --cases 60 --seed 2000000011 --rows froc.csv \\
        --curve froc.png --write detector.safetensors

A lesion with F1 above 0.2, or half of it within the tumor, finds it; of several the most probable one. Of the others,
those in nodules that a phantom has besides its tumor count neither way; all others are false. The competition metric is
LUNA16's, the mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false ones in a scan. Intervals: 95 %, bootstrap.
--write: the model once more, with the operating points that were found here. --rows keeps every lesion: a run that
is stopped goes on from there.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clmsda import models, phantoms
from clmsda.metrics import f1
from clmsda.models import Model
from clmsda.segmentation.automatic import search

LEAST = 0.12
"""Least probability of the lesions that are looked at: each costs seconds. What is less probable is not found."""
LEAST_F1 = 0.2
NEAR_MM = 5.0
RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
COLUMNS = ("seed", "size_mm", "site", "kind", "of", "probability", "x", "y", "z")


@dataclass(frozen=True)
class Scan:
    """found: the probability of its tumor, 0 where no lesion is there. false: of its false lesions."""

    size_mm: float
    site: str
    found: float
    false: tuple[float, ...]


def rows_of(seed: int, matrix: int, detector: Model, outliner: Model) -> list[dict[str, str]]:
    """A row per lesion that is found in a phantom's CT, and one for the tumor where none is."""
    phantom = phantoms.sample(seed)
    ct, truth = phantoms.scan(phantom, matrix=matrix)
    facts = [str(seed), f"{phantom.tumor_extent()[1]:.1f}", phantom.tumor.site, phantom.tumor.kind]
    rows = [[*facts, "tumor", "0", "", "", ""]]
    for one in search(ct, detector, outliner, LEAST, lambda text: None).lesions:
        assert one.measurement
        point, mask, tumor = np.array(one.measurement.center_mm), one.mask.voxels, truth.voxels > 0
        nodule = any(
            np.linalg.norm(point - other.center_mm) < 1.3 * other.radius_mm + NEAR_MM
            for other in phantom.findings.nodules
        )
        hit = f1(mask, tumor) > LEAST_F1 or (mask & tumor).sum() > mask.sum() / 2
        of = "tumor" if hit else "nodule" if nodule else "nothing"
        rows.append([*facts, of, f"{one.probability:.4f}", *(f"{value:.1f}" for value in point)])
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows]


def all_rows(model: Path, seeds: range, matrix: int, path: Path) -> list[dict[str, str]]:
    kept = list(csv.DictReader(path.open())) if path.is_file() else []
    known = {row["seed"] for row in kept}
    detector, outliner = models.load(model), models.load()
    for number, seed in enumerate(seeds, 1):
        if str(seed) not in known:
            rows = rows_of(seed, matrix, detector, outliner)
            new = not path.is_file()
            with path.open("a", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS)
                if new:
                    writer.writeheader()
                writer.writerows(rows)
            kept += rows
        print(f"\r{number}/{len(seeds)}", end="", flush=True)
    print("\r", end="")
    return [row for row in kept if int(row["seed"]) in seeds]


def scans(rows: list[dict[str, str]]) -> list[Scan]:
    groups: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        groups[row["seed"]].append(row)
    return [
        Scan(
            float(group[0]["size_mm"]),
            group[0]["site"],
            max(float(row["probability"]) for row in group if row["of"] == "tumor"),
            tuple(float(row["probability"]) for row in group if row["of"] == "nothing"),
        )
        for group in groups.values()
    ]


def threshold(found: list[Scan], rate: float) -> float:
    """From which probability on there are at most so many false findings in a scan, on the mean."""
    false = np.sort([p for one in found for p in one.false])[::-1]
    allowed = int(rate * len(found))
    return LEAST if allowed >= len(false) else float(np.nextafter(false[allowed], 1))


def sensitivity(found: list[Scan], least: float) -> float:
    return float(np.mean([one.found >= least for one in found]))


def interval(hits: NDArray[np.bool_]) -> str:
    draws = np.random.default_rng(0).choice(hits, (2000, len(hits))).mean(axis=1)
    low, high = np.percentile(draws, (2.5, 97.5))
    return f"{hits.mean():.2f} [{low:.2f}, {high:.2f}] n {len(hits)}"


def report(found: list[Scan]) -> None:
    points = [(rate, threshold(found, rate)) for rate in RATES]
    print(f"{len(found)} scans; competition metric {np.mean([sensitivity(found, t) for _, t in points]):.3f}")
    for rate, least in points:
        print(f"  {rate:5.3f} false a scan: from {least:.2f} on, sensitivity {sensitivity(found, least):.2f}")
    least = threshold(found, 1.0)
    print("at 1 false finding in a scan:")
    sizes = {"6 to 10 mm": (6, 10), "10 to 30 mm": (10, 30), "30 to 50 mm": (30, 50), "above 50 mm": (50, 999)}
    groups = {name: [one for one in found if low < one.size_mm <= high] for name, (low, high) in sizes.items()}
    groups["above 10 mm"] = [one for one in found if one.size_mm > 10]
    groups |= {site: [one for one in found if one.site == site] for site in sorted({one.site for one in found})}
    for name, group in groups.items():
        if group:
            print(f"  {name:12} {interval(np.array([one.found >= least for one in group]))}")


def curve(found: list[Scan], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4))
    axes = figure.add_subplot()
    levels = np.unique([LEAST, *(p for one in found for p in (one.found, *one.false))])
    false = [sum(p >= level for one in found for p in one.false) / len(found) for level in levels]
    for name, low, high in (("all", 0, 999), ("to 10 mm", 0, 10), ("10 to 30 mm", 10, 30), ("above 30 mm", 30, 999)):
        group = [one for one in found if low < one.size_mm <= high]
        if group:
            axes.step(false, [sensitivity(group, level) for level in levels], label=f"{name} (n {len(group)})")
    axes.set(xscale="log", xlim=(0.1, 10), ylim=(0, 1.02), xlabel="false findings in a scan", ylabel="sensitivity")
    axes.set_title("Synthetic chests")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=130, bbox_inches="tight")


def write(model: Path, found: list[Scan], out: Path) -> None:
    trained = models.read(model)
    points = []
    for rate in sorted({*RATES, 0.75, 1.5, 3.0}):
        least = threshold(found, rate)
        false = sum(p >= least for one in found for p in one.false) / len(found)
        points.append((round(least, 4), round(sensitivity(found, least), 3), round(false, 2)))
    table = tuple(sorted({point[0]: point for point in points}.values()))
    models.save(trained.weights, replace(trained.config, operating=table), out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--seed", type=int, default=2_000_000_011)
    parser.add_argument("--matrix", type=int, default=256)
    parser.add_argument("--rows", type=Path, default=Path("froc.csv"))
    parser.add_argument("--curve", type=Path)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    seeds = range(given.seed, given.seed + given.cases)
    found = scans(all_rows(given.model, seeds, given.matrix, given.rows))
    report(found)
    if given.curve:
        curve(found, given.curve)
    if given.write:
        write(given.model, found, given.write)


if __name__ == "__main__":
    main()

"""Choices of the second model, each trained on one small budget and scored on lesions of validation patients.

    python benchmarks/second_choices.py --out runs/second-choices
    python benchmarks/second_choices.py --out runs/second-choices --only base "no real tumors"

Every choice is models/second.toml at half its width, from random weights, for so many epochs (EPOCHS), but for what is
said in CHOICES. Trained one after the other on two ranks, then scored by one click and by a line
(benchmarks/real_tumors.py). A run that is stopped goes on; the table has what is finished. It tells what helps a small
budget, and chooses on validation patients: test patients are not looked at.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
from pathlib import Path

import real_tumor_report as report
from real_tumor_report import Scored

ROOT = Path(__file__).parents[1]
EPOCHS = 8
BUDGET = (
    "network.width=16", "optimization.start=''", "optimization.anchor=''", "optimization.decay=0.8",
    f"optimization.epochs={EPOCHS}", f"optimization.patience={EPOCHS}",
)  # fmt: skip
BASE = "base"
CHOICES: dict[str, tuple[str, ...]] = {
    BASE: (),
    "no real tumors": ("data.cohorts=[]",),
    "distance marks": ("patches.marks='distance'",),
    "no lines or boxes": ("views.prompting.lines=0", "views.prompting.boxes=0"),
    "scans end nowhere": ("views.cropped=0",),
    "no corrections": ("views.again.corrections=0",),
    "consistency 0": ("loss.weight=0",),
    "consistency 1": ("loss.weight=1",),
    "MS": ("network.block='ms'",),
    "no block": ("network.block='none'",),
}
WAYS = ("click", "line")


def trained(name: str, out: Path) -> Path:
    """The model of a choice; a run that was begun goes on, one that has ended ends at once."""
    folder = out / name.replace(" ", "-")
    changes = [part for change in (*BUDGET, *CHOICES[name]) for part in ("--set", change)]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "clmsda"]
    command = [*torchrun, "train", ROOT / "models" / "second.toml", "--out", folder, "--device", "cpu", *changes]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return folder / "model.safetensors"


def scored(model: Path, rows: Path, limit: int | None) -> list[Scored]:
    """A row per validation lesion and prompt."""
    command = [
        sys.executable,
        Path(__file__).with_name("real_tumors.py"),
        model,
        "--rows",
        rows,
        "--part",
        "validation",
    ]
    only = ["--limit", str(limit)] if limit else []
    subprocess.run([*command, "--prompts", *WAYS, "--processes", "2", *only], check=True, stdout=subprocess.DEVNULL)
    with rows.open(encoding="utf8", newline="") as stream:
        return [Scored.of(row) for row in csv.DictReader(stream)]


def line(name: str, rows: list[Scored], base: list[Scored]) -> str:
    """F1 by each prompt, how often below 0.5, and against the base on the same lesions."""
    cells = [name]
    for way in WAYS:
        own = [row for row in rows if row.way == way]
        known = {row.case: row.f1 for row in base if row.way == way}
        both = [row for row in own if row.case in known]
        against = report.over_patients(both, [row.f1 - known[row.case] for row in both])
        failed = sum(row.f1 < report.FAILED_BELOW for row in own) / len(own)
        cells += [report.interval(report.over_patients(own, [row.f1 for row in own])), f"{failed:.0%}"]
        cells.append("" if name == BASE else report.interval(against, "+.3f"))
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=CHOICES, default=list(CHOICES))
    parser.add_argument("--limit", type=int, metavar="N", help="score a fixed part of the lesions")
    given = parser.parse_args()
    found: dict[str, list[Scored]] = {}
    for name in given.only:
        model = trained(name, given.out)
        found[name] = scored(model, model.with_name("validation.csv"), given.limit)
        head = [f"{way}{column}" for way in WAYS for column in (": F1 [95 %]", ", below 0.5", ", against base")]
        print(f"\n| {' | '.join(['choice', *head])} |\n|{'---|' * (1 + len(head))}")
        for one, rows in found.items():
            print(line(one, rows, found.get(BASE, [])), flush=True)


if __name__ == "__main__":
    main()

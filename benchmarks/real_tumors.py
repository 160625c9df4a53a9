"""F1 on real tumors of patients kept apart: one click and other prompts, corrections, confidence, beside readers.

    python benchmarks/real_tumors.py MODEL --rows rows.csv                    the test patients of every set
    python benchmarks/real_tumors.py --sets lidc-cubes whole-cts --rows rows.csv --prompts click line box
    python benchmarks/real_tumors.py --rows rows.csv --corrections 5 --moved 4 --growing --figure by_size.png
    python benchmarks/real_tumors.py --rows rows.csv --part validation --limit 40 --processes 2     a quick look
    python benchmarks/real_tumors.py --rows rows.csv --cases cases.png        local only, never to be committed

Lesions are those of ../shared/data/real-tumors, and the labeled whole CTs beside it; patients are parted by
models/real_tumors_split.csv. All voxels of a crop (of a whole CT, all of it) are scored; what lies beyond a crop is
unknown. click: the center of the true mask's largest slice, moved inside. --moved N: N clicks within the inner half.
line: the true long axis. box: the one around the true mask. --corrections N: after the click, N times a click deepest
inside the largest error. --growing: SimpleITK's confidence-connected region growing from the same click, its best
single setting on all validation lesions. Intervals: 95 % bootstrap over patients.

--rows keeps a row per lesion, prompt and number of corrections as they come; a run that is stopped goes on from there,
and a model is told by its digest. The picture of --cases shows patients' pixels: it must not enter the repository.
"""

from __future__ import annotations

import argparse
import csv
import resource
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

import numpy as np
import real_tumor_cases
from numpy.typing import NDArray
from real_cases import NAMES, read_case
from real_tumor_report import Scored, best_setting, draw, print_confidence, print_costs, print_gains, print_scores

from clmsda import models
from clmsda.cohorts.parts import PARTS, read_parts
from clmsda.cohorts.real_tumors import RealTumor, real_tumors, subset
from clmsda.geometry import Grid, Volume
from clmsda.images.errors import NotHounsfield
from clmsda.measurements import bounding_box, measure
from clmsda.metrics import f1
from clmsda.models import Model
from clmsda.prompts import Box, Correction, Point, Prompt, PromptError, RecistLine
from clmsda.segmentation import segment
from clmsda.studies.peers import grow
from clmsda.studies.protocols import correction, inner_clicks, into

ROOT = Path(__file__).parents[1]
SPLIT = ROOT / "models" / "real_tumors_split.csv"
WHOLE = dict(zip(NAMES, (104.0, 95.0, 32.0), strict=True))
"""Size in mm of each whole CT's tumor."""
SETS = ("lidc-crops", "lidc-cubes", "nsclc-radiogenomics", "nsclc-radiomics-cubes", "whole-cts")
GROWING = "region growing"
MULTIPLIERS = (0.75, 1.0, 1.5, 2.0, 2.5)
COLUMNS = ("model", "case", "patient", "size_mm", "readers", "prompt", "corrections", "f1", "confidence",
           "seconds", "peak_mb", "note")  # fmt: skip

Row = dict[str, str]


@dataclass(frozen=True)
class Answer:
    """A mask (bool) for a prompt. seconds: without reading. note: warnings, or why nothing was given."""

    mask: Volume
    confidence: float
    seconds: float
    note: str


@dataclass(frozen=True)
class Asked:
    """What to score a lesion by. raw: report the views' agreement for the confidence (to calibrate it)."""

    prompts: tuple[str, ...]
    corrections: int = 0
    raw: bool = False
    runtime: str = "auto"


def every_tumor(shared: Path, split: Path) -> list[RealTumor]:
    """The crops of real-tumors and the tumors of the whole CTs, which are test cases."""
    whole = [RealTumor(f"whole-cts/{name}", name, "", "test", size_mm, None) for name, size_mm in WHOLE.items()]
    return real_tumors(shared / "real-tumors", read_parts(split)) + whole


def read(tumor: RealTumor, shared: Path) -> tuple[Volume, Volume]:
    if tumor.set == "whole-cts":
        return read_case(tumor.patient, shared)
    return tumor.read(shared / "real-tumors")


def prompt(name: str, case: str, truth: Volume) -> Prompt:
    """click, line, box, or "moved N": the N-th click within the inner half, which depends on the case alone."""
    true = measure(truth)
    if name == "line":
        return RecistLine(*true.long_axis_lps)
    if name == "box":
        lower, upper = bounding_box(truth.voxels)
        corners = truth.grid.to_lps(np.array(list(np.ndindex(2, 2, 2))) * (upper - lower) + lower - 0.5)
        return Box(tuple(corners.min(axis=0)), tuple(corners.max(axis=0)))
    if name == "click":
        return Point(true.center_mm)
    number = int(name.split()[1])
    seed = int.from_bytes(sha256(case.encode()).digest()[:8], "big")
    return into(truth, inner_clicks(truth, np.array(true.center_mm), 1, [number, seed])[0])


def ask(ct: Volume, said: Sequence[Prompt | Correction], model: Model, refine: Volume | None = None) -> Answer:
    """What the model gives for one lesion's prompts; an empty mask where they, or the CT, are refused."""
    start = perf_counter()
    try:
        (lesion,) = segment(ct, said, model, refine=refine).lesions
    except (PromptError, NotHounsfield) as error:
        nothing = Volume(np.zeros(ct.grid.shape, bool), ct.grid)
        return Answer(nothing, float("nan"), perf_counter() - start, f"refused: {error}")
    return Answer(lesion.mask, lesion.confidence, perf_counter() - start, "; ".join(lesion.warnings))


def corrected(ct: Volume, truth: Volume, said: Prompt, model: Model, count: int) -> Iterator[Answer]:
    """The answer to a prompt, then those after each correction. One that is refused leaves the mask and is the last."""
    answer = ask(ct, [said], model)
    yield answer
    added: list[Correction] = []
    for number in range(1, count + 1):
        wrong = correction(answer.mask, truth)
        if wrong is None:
            yield from [replace(answer, seconds=0.0, note="nothing left to correct")] * (count + 1 - number)
            return
        added.append(wrong)
        before = answer.mask if answer.mask.voxels.any() else None
        new = ask(ct, [said, *added], model, before)
        if new.note.startswith("refused"):
            yield from [replace(answer, seconds=new.seconds, note=new.note)] * (count + 1 - number)
            return
        answer = new
        yield answer


def score(tumor: RealTumor, shared: Path, asked: Asked, model: Model) -> list[Row]:
    """A row per prompt, and per number of corrections for the click. A CT that is refused is a miss."""
    name = version(model, asked.raw)
    try:
        ct, truth = read(tumor, shared)
    except NotHounsfield as error:
        nothing = Volume(np.zeros((1, 1, 1), bool), Grid.axial((1, 1, 1), (1, 1, 1)))
        refused = Answer(nothing, float("nan"), 0.0, f"refused: {error}")
        return [
            _row(tumor, GROWING if said.startswith("grow") else name, said, number, refused, 0.0)
            for said in asked.prompts
            for number in range(1 + (asked.corrections if said == "click" else 0))
        ]
    rows: list[Row] = []
    for said in asked.prompts:
        if said.startswith("grow"):
            answer = _grown(ct, truth, float(said.split()[1]))
            rows.append(_row(tumor, GROWING, said, 0, answer, f1(answer.mask.voxels, truth.voxels != 0)))
            continue
        count = asked.corrections if said == "click" else 0
        for number, answer in enumerate(corrected(ct, truth, prompt(said, tumor.case, truth), model, count)):
            rows.append(_row(tumor, name, said, number, answer, f1(answer.mask.voxels, truth.voxels != 0)))
    return rows


def _grown(ct: Volume, truth: Volume, multiplier: float) -> Answer:
    start = perf_counter()
    grown = grow(ct, np.array(measure(truth).center_mm), multiplier)
    return Answer(Volume(grown, ct.grid), float("nan"), perf_counter() - start, "")


def version(model: Model, raw: bool) -> str:
    return model.version + " raw" * raw


def _row(tumor: RealTumor, model: str, name: str, corrections: int, answer: Answer, score: float) -> Row:
    numbers = [score, answer.confidence]
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**10 if sys.platform == "linux" else 2**20)
    readers = "" if tumor.readers_dice is None else f"{tumor.readers_dice:g}"
    values = [model, tumor.case, tumor.patient, f"{tumor.diameter_mm:g}", readers, name, str(corrections),
              *("" if np.isnan(number) else f"{number:.4f}" for number in numbers),
              f"{answer.seconds:.2f}", f"{peak_mb:.0f}", answer.note]  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def score_all(
    tumors: Sequence[RealTumor], asked: Asked, shared: Path, model: str, file: Path, processes: int = 1
) -> list[Row]:
    """The rows of these lesions and prompts, those in `file` read from there and new ones added to it as they come."""
    loaded = version(models.load(model, "cpu", runtime=asked.runtime), asked.raw)
    kept = list(csv.DictReader(file.open(encoding="utf8", newline=""))) if file.is_file() else []
    known = {(row["model"], row["case"], row["prompt"], int(row["corrections"])): row for row in kept}
    tasks = [
        (one, replace(asked, prompts=missing)) for one in tumors if (missing := _missing(one, asked, loaded, known))
    ]
    with file.open("a", encoding="utf8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        if not kept:
            writer.writeheader()
        for number, rows in enumerate(_work_off(tasks, shared, model, asked, processes), 1):
            for row in rows:
                key = row["model"], row["case"], row["prompt"], int(row["corrections"])
                if key not in known:
                    known[key] = row
                    writer.writerow(row)
            stream.flush()
            print(f"\r{number}/{len(tasks)}", end="" if number < len(tasks) else "\n", file=sys.stderr, flush=True)
    wanted = {one.case for one in tumors}
    return [row for (owner, case, name, number), row in known.items() if owner in (loaded, GROWING)
            and case in wanted and name in asked.prompts and number <= asked.corrections]  # fmt: skip


def _missing(tumor: RealTumor, asked: Asked, model: str, known: Iterable[tuple[str, str, str, int]]) -> tuple[str, ...]:
    """The prompts of which a row is still to be made."""
    last = {name: asked.corrections if name == "click" else 0 for name in asked.prompts}
    owner = {name: GROWING if name.startswith("grow") else model for name in asked.prompts}
    return tuple(name for name in asked.prompts if (owner[name], tumor.case, name, last[name]) not in known)


_model: Model


def _start(name: str, asked: Asked) -> None:
    """What a process of the pool needs: its own model, one thread."""
    global _model
    _model = models.load(name, "cpu", threads=1, runtime=asked.runtime)
    if asked.raw:
        _model = replace(_model, config=replace(_model.config, calibration=()))


def _work(tumor: RealTumor, shared: Path, asked: Asked) -> list[Row]:
    return score(tumor, shared, asked, _model)


def _work_off(
    tasks: Sequence[tuple[RealTumor, Asked]], shared: Path, model: str, asked: Asked, processes: int
) -> Iterator[list[Row]]:
    """The rows of each lesion as they come: from this process, or from several."""
    if processes == 1:
        if tasks:
            _start(model, asked)
        for one, part in tasks:
            yield _work(one, shared, part)
        return
    with ProcessPoolExecutor(processes, get_context("spawn"), _start, (model, asked)) as pool:
        for done in as_completed([pool.submit(_work, one, shared, part) for one, part in tasks]):
            yield done.result()


def masks(tumor: RealTumor, shared: Path, model: Model) -> tuple[Volume, NDArray[np.bool_], NDArray[np.bool_]]:
    """CT, true mask and the mask of one click, for a picture."""
    ct, truth = read(tumor, shared)
    return ct, truth.voxels != 0, ask(ct, [prompt("click", tumor.case, truth)], model).mask.voxels


def report(rows: Sequence[Scored], growing: Mapping[str, float], options: argparse.Namespace) -> None:
    print(f"{options.model}, {options.part} patients")
    print_scores(rows, growing)
    print_gains(rows)
    print_confidence(rows)
    print_costs(rows)
    if options.figure:
        draw(rows, growing, options.figure)
    if options.cases:
        tumors = {one.case: one for one in every_tumor(options.shared, options.split)}
        model = models.load(options.model, "cpu")
        real_tumor_cases.draw(rows, lambda case: masks(tumors[case], options.shared, model), options.cases)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default=models.DEFAULT)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--split", type=Path, default=SPLIT)
    parser.add_argument("--part", choices=PARTS, default="test")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--above", type=float, default=0.0, metavar="MM", help="only lesions larger than this")
    parser.add_argument("--limit", type=int, metavar="N", help="a fixed part of them, from each set in proportion")
    parser.add_argument("--prompts", nargs="+", choices=("click", "line", "box"), default=("click",))
    parser.add_argument("--moved", type=int, default=0, metavar="N")
    parser.add_argument("--corrections", type=int, default=0, choices=range(6), metavar="0..5")
    parser.add_argument("--growing", action="store_true")
    parser.add_argument("--runtime", choices=("auto", "openvino", "torch"), default="auto", help="each its own --rows")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--figure", type=Path, help="F1 by size")
    parser.add_argument("--cases", type=Path, help="the worst and the median cases: patients' pixels, local only")
    return parser


def main() -> None:
    options = arguments().parse_args()
    everyone = every_tumor(options.shared, options.split)
    tumors = [one for one in everyone if one.part == options.part and one.set in options.sets]
    tumors = [one for one in tumors if one.diameter_mm > options.above]
    tumors = subset(tumors, options.limit or len(tumors))
    if not tumors:
        sys.exit(f"no lesion of the part {options.part} in {', '.join(options.sets)}")
    count = options.corrections
    names = (*options.prompts, *(f"moved {number}" for number in range(1, options.moved + 1)))
    common = (options.shared, options.model, options.rows, options.processes)
    rows = score_all(tumors, Asked(names, count, runtime=options.runtime), *common)
    growing: list[Row] = []
    if options.growing:
        settings = Asked(tuple(f"grow {multiplier}" for multiplier in MULTIPLIERS))
        validation = [one for one in everyone if one.part == "validation"]
        best = best_setting(score_all(validation, settings, *common))
        growing = score_all(tumors, Asked((best,)), *common)
    report([Scored.of(row) for row in rows], {row["case"]: float(row["f1"]) for row in growing}, options)


if __name__ == "__main__":
    main()

"""A study folder as `clmsda study run` leaves it, of true masks worn down instead of networks' predictions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from small_study import SIZES_MM, chest

from clmsda.cohorts import Case, Cohort, Split, add_case
from clmsda.geometry import Volume
from clmsda.images import write_mask
from clmsda.measurements import bounding_box
from clmsda.studies.config import Peer, check_study, slug
from clmsda.studies.folder import plan, prepare
from clmsda.studies.protocols import Prediction, Target
from clmsda.studies.running import training_config
from clmsda.studies.score_rows import SCORES, SLICES, write_rows
from clmsda.studies.scores import score, score_slices
from clmsda.training import TrainingConfig


def write_study(
    out: Path,
    cohort: Cohort,
    *,
    folds: int = 1,
    seeds: Sequence[int] = (1, 2),
    predictions: bool = True,
    **changes: Any,
) -> Path:
    """Four variants and a one-click peer on a cohort; every number is measured on a mask that was really worn down."""
    study = check_study(description(cohort, folds, seeds) | changes, "study")
    ready = prepare(study, out)
    for run in plan(study, len(ready.tests)):
        folder, cases = run.folder(out), ready.cases(run)
        folder.mkdir(parents=True)
        facts = {"variant": run.row.name, "fold": run.fold, "seed": run.seed}
        if isinstance(run.row, Peer):
            write_scores(folder, cohort, cases, facts, 7.0, [run.row.given], predictions)
            continue
        rank = list(study.variants).index(run.row)
        write_training(folder, training_config(ready, run), cohort, rank)
        write_scores(folder, cohort, cases, facts, 4.0 - rank, study.protocols, predictions)
    return out


def description(cohort: Cohort, folds: int, seeds: Sequence[int]) -> dict[str, Any]:
    """The study's TOML."""
    return {
        "name": "worn-masks",
        "title": "Worn masks: the report's own test",
        "cohort": {"folder": str(cohort.folder)},
        "split": {"test_fraction": 0.5} if folds == 1 else {"folds": folds},
        "training": {
            "name": "worn",
            "data": {"source": "cohort"},
            "patches": {"shape": [96, 96]},
            "network": {"width": 16, "levels": 4},
        },
        "seeds": list(seeds),
        "protocols": ["oracle", "estimated", "prompted", "automatic"],
        "peers": [{"name": "Region growing", "method": "region-growing"}],
    }


def write_phantom_cohort(folder: Path, sizes_mm: Sequence[float] = SIZES_MM) -> Cohort:
    """Small chests that are named like phantoms, so that a study takes them for synthetic."""
    for number, size in enumerate(sizes_mm):
        image, mask = chest(size, number)
        add_case(folder, f"phantom-{number:05d}", image, mask, image_path="", mask_path="", patient=f"P{number}")
    return Cohort.open(folder)


def run_folder(out: Path, name: str, fold: int = 0, seed: int = 1) -> Path:
    return out / "runs" / slug(name) / f"fold-{fold}" / f"seed-{seed}"


def write_training(folder: Path, config: TrainingConfig, cohort: Cohort, rank: int) -> None:
    """config.json with what the data decide, and a metrics.jsonl whose curves look like training."""
    split = Split.read(str(config.data.split))
    training = [case for case in cohort.cases if case.case in split.folds[config.data.fold or 0].training]
    spacing = min(case.pixel_mm for case in training)
    mean = round(float(np.mean([case.size_mm for case in training])), 3)
    patches = replace(config.patches, reference_spacing_mm=spacing, mean_size_mm=mean)
    (folder / "config.json").write_text(replace(config, patches=patches).to_json())
    rng = np.random.default_rng([config.seed, rank])
    lines = []
    for epoch in range(18 + 2 * rank + config.seed):
        left = np.exp(-epoch / (6 - rank))
        f1 = 0.74 + 0.02 * rank - 0.6 * left + rng.normal(0, 0.012)
        row = {"epoch": epoch, "seconds": round(31.5 * (epoch + 1), 1), "learning_rate": 1e-4 * 0.95**epoch}
        row |= {"total": 0.35 + 1.1 * left + rng.normal(0, 0.01), "f1": f1, "f1_variant": f1, "f1_invariant": f1 - 0.01}
        lines.append(json.dumps(row))
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def write_scores(
    folder: Path,
    cohort: Cohort,
    cases: Sequence[Case],
    facts: dict[str, Any],
    harm: float,
    protocols: Sequence[str],
    predictions: bool,
) -> None:
    """scores.csv, slices.csv, predictions and done.json of one run."""
    rows, slices = [], []
    for case in cases:
        target = Target.open(cohort, case)
        for number, protocol in enumerate(protocols):
            seed = [facts["seed"], int(10 * harm), number, case.tumor_slices[1]]
            prediction = worn(target, harm + 1.5 * number, seed)
            rows.append(score(target, protocol, [prediction], facts))
            slices += score_slices(target, protocol, prediction, facts)
            if predictions:
                (folder / "predictions" / protocol).mkdir(parents=True, exist_ok=True)
                write_mask(prediction.mask, folder / "predictions" / protocol / f"{case.case}.nii.gz")
    write_rows(folder / "slices.csv", SLICES, slices)
    write_rows(folder / "scores.csv", SCORES, rows)
    seconds = {"seconds": 700.0, "training_seconds": 600.0, "evaluation_seconds": 100.0, "model": None}
    (folder / "done.json").write_text(json.dumps(seconds))


def worn(target: Target, harm: float, seed: Sequence[int]) -> Prediction:
    """The truth, shifted, and grown or shrunk along a smooth random field; the worse, the smaller and the more harm."""
    rng = np.random.default_rng(seed)
    whole, spacing = target.truth.voxels, target.truth.grid.spacing_mm
    lower, upper = bounding_box(whole)
    box = tuple(slice(max(a - 5, 0), b + 5) for a, b in zip(lower, upper, strict=True))
    truth = whole[box]
    signed = ndimage.distance_transform_edt(truth, spacing) - ndimage.distance_transform_edt(~truth, spacing)
    noise = ndimage.gaussian_filter(rng.normal(0, 1, truth.shape), 8 / spacing)
    noise /= noise.std() + 1e-9
    reach = 0.8 + 0.35 * harm + 0.02 * harm * target.case.size_mm / 10
    signed = ndimage.shift(signed, rng.normal(0, 0.3 * reach, 3) / spacing, order=1, mode="nearest")
    mask = np.zeros(whole.shape, bool)
    if harm < 6 or rng.random() > 0.1:
        mask[box] = signed + reach * noise * 0.7 + rng.normal(-0.2, 0.5) * reach > 0.25 * reach
    outside = max(0.0, (target.case.size_mm - 70) / 400) * (1 if harm > 2 else 0.2)
    confidence = float(np.clip(0.9 - 0.03 * harm + rng.normal(0, 0.03), 0, 1))
    return Prediction(Volume(mask, target.truth.grid), outside=outside, confidence=confidence)

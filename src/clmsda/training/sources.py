"""Which samples a run is trained and validated on: phantoms, a cohort, or real tumors among phantoms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from clmsda import phantoms
from clmsda.cohorts import Cohort, Split, check_split, hold_out, of_patients
from clmsda.patches import NO_AUGMENTATION
from clmsda.training.config import PHANTOMS, ConfigError, DataConfig, TrainingConfig, ViewConfig
from clmsda.training.samples import CohortSamples, Pair, PhantomSamples, Samples

VALIDATION_SEED = 1_000_000_007
"""Phantoms of the validation set are numbered from here: training never reaches them."""


def open_samples(config: TrainingConfig) -> tuple[Samples, Samples, TrainingConfig]:
    """Training samples, validation samples, and the configuration with what the data decided.

    A cohort decides its reference spacing (the smallest pixel spacing, paper section 2.1) and the
    mean tumor size where the configuration leaves them open, from the training part alone.

    Raises CohortError for a cohort that is damaged or not the one that was split, ConfigError for a fold
    that the split does not have.
    """
    data, views = config.data, config.views
    still = replace(views, augmentation=NO_AUGMENTATION)
    if data.source == PHANTOMS:
        backgrounds = phantoms.read_backgrounds(data.backgrounds) if data.backgrounds else []
        cavities = phantoms.CAVITIES if data.cavity_share is None else data.cavity_share
        scene = partial(
            scene_of, backgrounds=backgrounds, share=data.background_share, even=data.even_share, cavities=cavities
        )
        seed = config.seed * 10_000_019
        fresh = PhantomSamples(config.patches, views, seed, data.samples_per_epoch, scene=scene)
        held = PhantomSamples(config.patches, still, VALIDATION_SEED, data.validation_samples, fresh=False)
        if not data.cohorts:
            return fresh, held, config
        return (
            Mixed(fresh, _real(config, views, "train"), [one.share for one in data.cohorts], config.seed),
            Mixed(held, _real(config, still, "validation"), [one.share for one in data.cohorts]),
            config,
        )
    cohort = Cohort.open(data.source)
    training, validation = _parts(cohort, data, config.seed)
    spacing = config.patches.reference_spacing_mm or min(case.pixel_mm for case in training.cases)
    mean = config.patches.mean_size_mm or float(np.mean([case.size_mm for case in training.cases]))
    patches = replace(config.patches, reference_spacing_mm=float(spacing), mean_size_mm=round(mean, 3))
    return (
        CohortSamples(training, patches, views, config.seed, data.samples_per_slice, data.slice_step_mm),
        CohortSamples(validation, patches, still, config.seed, 1, data.slice_step_mm),
        replace(config, patches=patches),
    )


def _real(config: TrainingConfig, views: ViewConfig, part: str) -> list[CohortSamples]:
    """The samples of each of `data.cohorts`, of the patients of one part."""
    return [
        CohortSamples(of_patients(Cohort.open(one.folder), one.patients, part), config.patches, views, config.seed, 1)
        for one in config.data.cohorts
    ]


def scene_of(
    seed: int, backgrounds: list[phantoms.Background], share: float, even: float, cavities: float
) -> phantoms.Scene:
    """A tumor in a real chest for this share of the seeds, where there are any; a phantom for the others.

    even: the share of both whose tumor is of any size, site and kind alike; see `DataConfig.even_share`.
    """
    real, evenly = np.random.default_rng([seed, 5]).random(2) < (share, even)
    size, site, kind = phantoms.draw_evenly(seed) if evenly else (None, None, None)
    if backgrounds and real:
        return phantoms.sample_inset(seed, backgrounds, tumor_size_mm=size, kind=kind, cavities=cavities)
    return phantoms.sample(seed, tumor_size_mm=size, site=site, kind=kind, cavities=cavities)


def _parts(cohort: Cohort, data: DataConfig, seed: int) -> tuple[Cohort, Cohort]:
    """The cases to train on, and those to validate on."""
    if data.split is None:
        names, held = hold_out(cohort.cases, data.validation_fraction, seed)
        return cohort.subset(names), cohort.subset(held)
    split = Split.read(data.split)
    check_split(split, cohort)
    count = len(split.folds)
    if (data.fold or 0) >= count or (data.fold is None and count > 1):
        raise ConfigError(f"data.fold: expected 0 to {count - 1}, as {data.split} has {count} folds; found {data.fold}")
    fold = split.folds[data.fold or 0]
    return cohort.subset(set(fold.training)), cohort.subset(set(fold.validation))


class Mixed:
    """Real tumors among phantoms: the first numbers are cohorts', each with its share, the others phantoms'.

    seed: draws the order in which an epoch goes on through a cohort; None for every epoch the same, spread evenly.
    """

    def __init__(
        self, base: PhantomSamples, cohorts: Sequence[CohortSamples], shares: Sequence[float], seed: int | None = None
    ) -> None:
        self.base, self.cohorts, self.seed = base, cohorts, seed
        self.counts = [round(share * len(base)) for share in shares]

    def __len__(self) -> int:
        return len(self.base)

    def pair(self, epoch: int, number: int) -> Pair:
        first = 0
        for cohort, count in zip(self.cohorts, self.counts, strict=True):
            if number < first + count:
                return cohort.pair(*self._visit(len(cohort), count, epoch, number - first))
            first += count
        return self.base.pair(epoch, number)

    def _visit(self, length: int, count: int, epoch: int, place: int) -> tuple[int, int]:
        """Which pass through a cohort of this length it is, and at which of its samples."""
        if self.seed is None:
            return 0, place * length // max(count, length)
        visit = epoch * count + place
        order = np.random.default_rng([self.seed, length, visit // length]).permutation(length)
        return visit // length, int(order[visit % length])

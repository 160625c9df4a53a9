"""A peer for a study in two dimensions: MONAI's BasicUNet, taught by MONAI's trainer on the folds of the study.

    python benchmarks/monai_peer.py runs/nsclc_cubes masks --seconds 110

It sees what a U-Net of the study sees, the same augmented size-variant patches; network, loss (Dice and cross entropy)
and trainer are MONAI's. --seconds: of processor time for the training of each fold. The masks are those of the
oracle protocol (true center, the tumor's slices), one for each test case; add them to the study's TOML:

    [[peers]]
    name = "MONAI BasicUNet"
    predictions = "masks"
    protocol = "oracle"

It needs monai and pytorch-ignite, which no extra of clmsda installs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from monai.losses import DiceCELoss
from monai.networks.nets import BasicUNet
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from clmsda.cohorts import Cohort
from clmsda.images import write_mask
from clmsda.patches import PatchConfig
from clmsda.studies.config import StudyError, Variant
from clmsda.studies.protocols import Target, around
from clmsda.studies.results import Record, open_cohort, read_results
from clmsda.training import TrainingConfig
from clmsda.training.samples import CohortSamples
from clmsda.training.sources import open_samples

LEARNING_RATE = 1e-3
FAR = -20.0
"""Logit of what is not known, where the target is 0: it carries no loss."""


class Slices(Dataset):
    """The study's training samples of an epoch as MONAI's trainer takes them; the label's second channel: known."""

    def __init__(self, samples: CohortSamples) -> None:
        self.samples, self.epoch = samples, 0

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        pair = self.samples.pair(self.epoch, number)
        return {"image": pair.variant, "label": torch.cat([pair.variant_mask, pair.variant_known.float()])}


@dataclass
class Peer:
    """What the oracle protocol asks of a model."""

    network: torch.nn.Module
    patches: PatchConfig

    @property
    def config(self) -> SimpleNamespace:
        return SimpleNamespace(patches=self.patches)

    @torch.inference_mode()
    def probabilities(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.network(torch.from_numpy(patches)).sigmoid().numpy()


def trained(config: TrainingConfig, seconds: float) -> Peer:
    """Train on a fold until so much processor time is gone; the learning rate falls to nothing with it."""
    torch.manual_seed(config.seed)
    samples, _, config = open_samples(config)
    data = Slices(samples)
    network = BasicUNet(spatial_dims=2, in_channels=config.patches.channels, out_channels=1)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"), max_epochs=1_000_000, network=network, optimizer=optimizer,
        train_data_loader=DataLoader(data, config.optimization.batch_size, shuffle=True, drop_last=True),
        loss_function=known_loss(),
    )  # fmt: skip
    started = time.process_time()

    @trainer.on(Events.ITERATION_COMPLETED)
    def slower() -> None:
        gone = (time.process_time() - started) / seconds
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * max(0.0, 1 - gone)
        if gone >= 1:
            trainer.terminate()

    @trainer.on(Events.EPOCH_COMPLETED)
    def further() -> None:
        data.epoch += 1

    trainer.run()
    seen = trainer.state.iteration * config.optimization.batch_size
    print(f"fold {config.data.fold}: {seen} samples in {time.process_time() - started:.0f} s of processor time")
    return Peer(network.eval(), config.patches)


def known_loss() -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Dice and cross entropy of what is known."""
    loss = DiceCELoss(sigmoid=True)

    def of(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        target, known = label.chunk(2, dim=1)
        return loss(torch.where(known > 0, logits, FAR), target * known)

    return of


def first_u_net(records: tuple[Record, ...], fold: int) -> TrainingConfig:
    """The configuration of a network of the study in this fold that sees size-variant patches alone."""
    for record in records:
        config = record.config if isinstance(record.run.row, Variant) and record.run.fold == fold else None
        if config is not None and not config.loss.pairs and config.patches.spatial_dims == 2:
            return config
    raise StudyError(f"fold {fold}: expected a run of a 2-D variant that is not trained on pairs, found none")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=110.0)
    options = parser.parse_args()
    results = read_results(options.study)
    cohort, reason = open_cohort(results)
    if cohort is None or results.split is None:
        raise StudyError(reason or "expected a study with a split")
    options.out.mkdir(parents=True, exist_ok=True)
    for number, fold in enumerate(results.split.folds):
        peer = trained(first_u_net(results.records, number), options.seconds)
        predict(peer, cohort.subset(set(fold.test)), options.out)


def predict(peer: Peer, cohort: Cohort, out: Path) -> None:
    """Write the mask of every case."""
    for case in cohort.cases:
        target = Target.open(cohort, case)
        found = around(target, peer, peer.patches.ratio(1.0))
        write_mask(found.mask, out / f"{case.case}.nii.gz")


if __name__ == "__main__":
    main()

"""The training loop (paper section 2.4): Adam, a decaying learning rate, early stop on validation F1.

What a sample is depends only on (seed, epoch, number), what a step does only on its samples and the
state before it; so a run that is stopped anywhere and resumed ends with the same weights.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from clmsda import losses, models, networks
from clmsda.files import make_folder, replacing
from clmsda.runtimes.torch import select_device
from clmsda.training import checkpoint
from clmsda.training.averaging import Average
from clmsda.training.checkpoint import CheckpointError, Progress
from clmsda.training.config import ConfigError, TrainingConfig
from clmsda.training.ranks import Ranks, join
from clmsda.training.report import Report
from clmsda.training.samples import Again, Pair, Samples
from clmsda.training.second_look import look_again
from clmsda.training.sources import open_samples
from clmsda.training.starting import weights_for

if TYPE_CHECKING:
    import rich.progress

NORM_SAMPLES = 32
"""From so many training samples batch norm's statistics are measured before a network is judged or kept."""

LONGEST_TEMPORARY = 75
"""Bytes of TMPDIR: torch's sockets lie 32 below it, and have room for 107; else its processes wait for ever."""

CHECKPOINT, MODEL, CONFIG, METRICS = "checkpoint.safetensors", "model.safetensors", "config.json", "metrics.jsonl"


def train(
    config: TrainingConfig,
    out: Path | str,
    *,
    device: str = "auto",
    minutes: float | None = None,
    bar: rich.progress.Progress | None = None,
) -> Path:
    """Train, or go on training, in the folder `out`; returns the path of the best model so far.

    minutes: stop in good order after about this long, to be resumed later by the same call. The first
    model is there after the first epoch. bar: shows this run among others'; by default it shows itself.

    Writes config.json (resolved), metrics.jsonl (a line per epoch), TensorBoard events where
    tensorboard is installed, checkpoint.safetensors and model.safetensors.
    """
    out = Path(out)
    _check_meeting_place(config.data.workers)
    training, validation, config = open_samples(config)
    _reproducible(select_device(device))
    with join(select_device(device)) as ranks:
        run = _Run.start(config, out, ranks)
        if run.progress.finished:
            return out / MODEL
        with Report(out, config, bar, enabled=ranks.leads) as report:
            deadline = float("inf") if minutes is None else time.monotonic() + 60 * minutes
            while not run.progress.finished:
                if not run.train_epoch(training, report, deadline):
                    break
                run.finish_epoch(training, validation, report)
    return out / MODEL


def _check_meeting_place(workers: int) -> None:
    """Raise ConfigError where processes that prepare samples could not hand them over."""
    place = os.fsencode(tempfile.gettempdir())
    if workers and len(place) > LONGEST_TEMPORARY:
        raise ConfigError(
            f"expected a folder for temporary files with a path of at most {LONGEST_TEMPORARY} bytes, found "
            f"{len(place)} (processes that prepare samples meet there): set TMPDIR to a shorter one, or data.workers=0"
        )


def is_finished(out: Path) -> bool:
    """Whether the run in a folder has ended, by its last epoch or for want of a better one."""
    return checkpoint.read_progress(out / CHECKPOINT).finished


def _reproducible(device: torch.device) -> None:
    """Ask CUDA for kernels that add in one order; where it has none, PyTorch warns and goes on."""
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True, warn_only=True)


@dataclass
class _Run:
    """The moving parts of a run: what a checkpoint holds, and where it is written."""

    config: TrainingConfig
    out: Path
    ranks: Ranks
    network: nn.Module
    parallel: nn.Module
    optimizer: torch.optim.Optimizer
    average: Average
    progress: Progress
    best: dict[str, torch.Tensor]

    @classmethod
    def start(cls, config: TrainingConfig, out: Path, ranks: Ranks) -> _Run:
        """A new run, or the one whose checkpoint lies in `out`."""
        if config.optimization.batch_size < ranks.count:
            size = config.optimization.batch_size
            raise ConfigError(f"optimization.batch_size = {size} leaves some of {ranks.count} ranks without a sample")
        torch.manual_seed(config.seed)
        network = networks.build(config.network)
        resumed = (out / CHECKPOINT).is_file()
        if config.optimization.start and not resumed:
            network.load_state_dict(weights_for(network, config, "start"))
        network = network.to(ranks.device)
        optimizer = torch.optim.Adam(network.parameters(), lr=config.optimization.learning_rate)
        anchor = weights_for(network, config, "anchor") if config.optimization.anchor else {}
        average = Average.start(network, config.optimization.average, anchor, config.optimization.anchor_share)
        progress = Progress()
        best: dict[str, torch.Tensor] = {}
        if resumed:
            progress, best = checkpoint.load(out / CHECKPOINT, network, optimizer, average.weights, config.to_json())
        elif ranks.leads:
            make_folder(out)
            with replacing(out / CONFIG) as temporary:
                temporary.write_text(config.to_json(), encoding="utf8")
        if not ranks.alike((progress.epoch, progress.step)):
            raise CheckpointError(f"ranks found different checkpoints in {out}: --out must be a folder that all share")
        return cls(config, out, ranks, network, ranks.wrap(network), optimizer, average, progress, best)

    def train_epoch(self, samples: Samples, report: Report, deadline: float) -> bool:
        """Go through the rest of this epoch; False where the deadline came first."""
        progress, settings = self.progress, self.config.optimization
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * settings.decay**progress.epoch
        batches = [batch for batch in self.batches(samples) if len(batch) >= self.ranks.count]
        batches, total = batches[progress.step :], len(batches)
        shares = [self.ranks.share(batch) for batch in batches]
        self.parallel.train()
        saved = started = time.monotonic()
        report.start_epoch(progress.epoch, progress.step, total)
        loaded = _load(samples, progress.epoch, shares, self.config.data.workers, self.ranks.device)
        for batch, numbers in zip(loaded, batches, strict=True):
            parts = self.step(batch, weight=len(batch.ratio) * self.ranks.count / len(numbers))
            for name, value in parts.items():
                progress.sums[name] = progress.sums.get(name, 0.0) + value
            progress.step += 1
            now = time.monotonic()
            progress.seconds, started = progress.seconds + now - started, now
            report.advance(progress)
            stop = self._agree(now > deadline)
            if stop or self._agree(now - saved > 60 * settings.checkpoint_minutes):
                self.save()
                saved = time.monotonic()
            if stop:
                return False
        return True

    def batches(self, samples: Samples) -> list[list[int]]:
        """The numbers of this epoch's samples, in its order, batch by batch."""
        order = np.random.default_rng([self.config.seed, self.progress.epoch]).permutation(len(samples)).tolist()
        size = self.config.optimization.batch_size
        return [order[i : i + size] for i in range(0, len(order), size)]

    def step(self, batch: Pair, weight: float = 1.0) -> dict[str, float]:
        """One update on this rank's share of a batch; returns the parts of its loss.

        weight: of this rank's mean, so that every sample of an unevenly shared batch counts alike.
        """
        parts = self.backward(batch, weight, half=self.half)
        if self.half and not self.finite():
            # On CPUs, bfloat16 convolutions now and then leave a weight's gradient unset (oneDNN, tiny 3-D maps).
            parts = self.backward(batch, weight, half=False)
        if not self.half or self.finite():  # else the weights would be lost with this one step
            self.optimizer.step()
            self.average.follow(self.network)
        return {name: float(value.detach()) for name, value in parts.items()}

    def backward(self, batch: Pair, weight: float, *, half: bool) -> dict[str, torch.Tensor]:
        """Gradients of the loss of a batch; returns its parts."""
        self.optimizer.zero_grad(set_to_none=True)
        if not batch.again.image.numel() or not self.config.loss.pairs:
            parts, _ = self.loss(batch, half)
            (weight * parts["total"]).backward()
            return parts
        with self.ranks.unsynced(self.parallel):
            parts, found = self.loss(batch, half)
            (weight * parts["total"]).backward()
        again = self.second_loss(batch.again, found.detach().sigmoid(), half)
        (weight * again).backward()
        return parts | {"total": parts["total"].detach() + again, "again": again}

    def finite(self) -> bool:
        """Whether every gradient is. Ranks agree, since each has the mean over all."""
        return bool(
            torch.stack([p.grad.isfinite().all() for p in self.network.parameters() if p.grad is not None]).all()
        )

    @property
    def half(self) -> bool:
        """Whether this run computes in bfloat16."""
        precision = self.config.optimization.precision
        return precision == "bfloat16" or (precision == "auto" and pays_in_half(self.ranks.device))

    def loss(self, batch: Pair, half: bool) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Design section 2.3: on both views, consistent between them, or on one alone. Also the last view's logits."""
        settings = self.config.loss
        with self.autocast(half):
            logits = self.parallel(self.views(batch))
        if not settings.pairs:
            alone = losses.supervised if self.config.views.search is None else losses.centers
            return {"total": alone(logits, batch.variant_mask, batch.variant_known)}, logits
        variant, invariant = logits.float().chunk(2)
        parts = losses.total(
            variant, invariant, batch.variant_mask, batch.invariant_mask, batch.ratio,
            known_v=batch.variant_known, known_i=batch.invariant_known,
            distance=settings.consistency, weight=settings.weight,
        )  # fmt: skip
        return parts._asdict(), invariant

    def second_loss(self, again: Again, found: torch.Tensor, half: bool) -> torch.Tensor:
        """Supervised on the second look, which sees what the first one found and the corrections to it."""
        patches = self.config.patches
        images = look_again(again, found, len(patches.windows_hu), patches.marks)
        with self.autocast(half):
            logits = self.parallel(images)
        return losses.supervised(logits, again.mask, again.known)

    def views(self, batch: Pair) -> torch.Tensor:
        """What one forward pass of training takes: both views, one after the other, or the size-variant one."""
        return torch.cat([batch.variant, batch.invariant]) if self.config.loss.pairs else batch.variant

    def autocast(self, half: bool) -> AbstractContextManager[None]:
        return torch.autocast(self.ranks.device.type, torch.bfloat16, enabled=half)

    def finish_epoch(self, training: Samples, validation: Samples, report: Report) -> None:
        """Validate, keep the best network, decide whether to stop, and save."""
        progress, settings = self.progress, self.config.optimization
        names = sorted(progress.sums)
        sums = self.ranks.sum([progress.sums[name] for name in names])
        means = {name: value / (progress.step * self.ranks.count) for name, value in zip(names, sums, strict=True)}
        with self.average.shown(self.network):
            self.measure_norms(training)
            scores = self.validate(validation)
            if scores["f1"] > progress.best_f1:
                progress.best_f1, progress.best_epoch = scores["f1"], progress.epoch
                self.best = {name: tensor.detach().cpu().clone() for name, tensor in self.network.state_dict().items()}
                if self.ranks.leads:
                    self.save_model()
        report.finish_epoch(progress, self.optimizer.param_groups[0]["lr"], means, scores)
        progress.epoch, progress.step, progress.sums = progress.epoch + 1, 0, {}
        waited = progress.epoch - 1 - progress.best_epoch
        progress.finished = progress.epoch >= settings.epochs or waited >= settings.patience
        self.save()

    @torch.no_grad()
    def measure_norms(self, samples: Samples) -> None:
        """Measure batch norm's statistics with the weights as they are (Wu and Johnson 2021, "precise batch norm").

        The running averages of training lag behind weights that still move: with them, validation scored half of
        what the same weights reach. Every rank takes the same samples, and comes to the same numbers.
        """
        norms = [m for m in self.network.modules() if isinstance(m, nn.BatchNorm2d | nn.BatchNorm3d)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over all batches
        self.network.train()
        batches = self.batches(samples)[: -(-NORM_SAMPLES // self.config.optimization.batch_size)]
        for batch in _load(samples, self.progress.epoch, batches, self.config.data.workers, self.ranks.device):
            with self.autocast(self.half):
                invariant = self.network(self.views(batch)).chunk(2)[-1]
                self.second_answer(batch.again, invariant)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

    @torch.inference_mode()
    def validate(self, samples: Samples) -> dict[str, float]:
        """Mean F1 over the validation samples, for both views, whichever the network is trained on.

        `f1` decides: the size-invariant view's for pairs (and the second look's, their mean), else the size-variant
        view's.
        """
        self.network.eval()
        numbers = self.ranks.share(list(range(len(samples))))
        size = self.config.optimization.batch_size
        shares = [numbers[i : i + size] for i in range(0, len(numbers), size)]
        sums = np.zeros(4)
        for batch in _load(samples, 0, shares, self.config.data.workers, self.ranks.device):
            with self.autocast(self.half):
                variant, invariant = self.network(batch.variant), self.network(batch.invariant)
                again = self.second_answer(batch.again, invariant)
            scores = [
                _f1(variant, batch.variant_mask, batch.variant_known),
                _f1(invariant, batch.invariant_mask, batch.invariant_known),
                _f1(again, batch.again.mask, batch.again.known) if again is not None else torch.zeros(1),
            ]
            sums += [*(float(score.sum()) for score in scores), len(batch.ratio)]
        *totals, count = self.ranks.sum(sums.tolist())
        names = ["f1_variant", "f1_invariant", *(["f1_again"] if self.config.views.again else [])]
        found = {name: total / count for name, total in zip(names, totals, strict=False)}
        looks = [name for name in names if name != "f1_variant"] if self.config.loss.pairs else ["f1_variant"]
        return {"f1": float(np.mean([found[name] for name in looks])), **found}

    def second_answer(self, again: Again, invariant: torch.Tensor) -> torch.Tensor | None:
        """Logits of the second look; None where the run has none."""
        if not again.image.numel():
            return None
        patches = self.config.patches
        return self.network(look_again(again, invariant.float().sigmoid(), len(patches.windows_hu), patches.marks))

    def save(self) -> None:
        """Write the checkpoint, with the mean of the ranks' sums, from which each of them goes on."""
        names = sorted(self.progress.sums)
        sums = self.ranks.sum([self.progress.sums[name] / self.ranks.count for name in names])
        if self.ranks.leads:
            progress = replace(self.progress, sums=dict(zip(names, sums, strict=True)))
            kept = (self.network, self.best, self.optimizer, self.average.weights)
            checkpoint.save(self.out / CHECKPOINT, *kept, progress, self.config.to_json())

    def save_model(self) -> None:
        """Write the network as it is now as the run's model."""
        backgrounds = self.config.data.backgrounds
        cohorts = {Path(one.folder).name: one.share for one in self.config.data.cohorts}
        provenance = {
            "name": self.config.name, "data": self.config.data.source,
            "backgrounds": sorted(path.stem for path in Path(backgrounds).glob("[!.]*.json")) if backgrounds else [],
            "cohorts": cohorts, "epoch": self.progress.epoch,
            "validation_f1": round(self.progress.best_f1, 4), "training_seconds": round(self.progress.seconds),
        }  # fmt: skip
        config = models.ModelConfig(
            self.config.network, self.config.patches, self.config.loss.pairs,
            searches=self.config.views.search is not None, provenance=provenance,
        )  # fmt: skip
        models.save(networks.weights_of(self.network), config, self.out / MODEL)

    def _agree(self, wanted: bool) -> bool:
        """Whether any rank wants it: clocks differ, but all ranks must stop and save together."""
        return self.ranks.sum([float(wanted)])[0] > 0


def _f1(logits: torch.Tensor, target: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """(N,) F1 of each sample at probability 0.5, of what is known; 1 where nothing is to be found, and nothing is."""
    seen = known.flatten(1)
    found, true = (logits.flatten(1) > 0) & seen, (target.flatten(1) > 0.5) & seen
    both, either = (found & true).sum(1), found.sum(1) + true.sum(1)
    return torch.where(either > 0, 2 * both / either.clamp(min=1), torch.ones_like(both, dtype=torch.float32))


@dataclass(frozen=True)
class _Epoch:
    """One epoch's samples as a map-style dataset; workers get it whole, so no state can go astray."""

    samples: Samples
    epoch: int

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, number: int) -> Pair:
        return self.samples.pair(self.epoch, number)


def _load(samples: Samples, epoch: int, shares: list[list[int]], workers: int, device: torch.device) -> Iterator[Pair]:
    """Batches of pairs on the device, in order, prepared by `workers` processes."""
    dataset: Any = _Epoch(samples, epoch)
    loader: DataLoader[Pair] = DataLoader(dataset, batch_sampler=shares, num_workers=workers)
    for batch in loader:
        yield _on(batch, device)


def _on(batch: Any, device: torch.device) -> Any:
    """A named tuple of tensors, or of such tuples, on a device."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    return type(batch)(*(_on(part, device) for part in batch))


def pays_in_half(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16: CUDA, and CPUs with AMX or AVX512-BF16. Others emulate it."""
    if device.type == "cpu":  # older versions of torch cannot tell
        asked = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
        return any(ask() for ask in asked if ask is not None)
    return device.type == "cuda"

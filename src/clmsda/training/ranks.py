"""Ranks: the processes of one training run, as `torchrun` starts them (paper section 2.4).

One process without `torchrun` is rank 0 of 1, and every function here then does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")

WEEK = timedelta(days=7)


@dataclass(frozen=True)
class Ranks:
    """This process's number among `count` processes, and the device that it trains on.

    patient: a group in which ranks wait for each other as long as it takes; None within another `join`.
    """

    rank: int
    count: int
    device: torch.device
    patient: dist.ProcessGroup | None = None

    @property
    def leads(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def share(self, numbers: list[int]) -> list[int]:
        """This rank's part of one batch: every rank takes turns, so that all see one order."""
        return numbers[self.rank :: self.count]

    def wrap(self, network: nn.Module) -> nn.Module:
        """Average gradients over ranks; batch-norm statistics follow rank 0."""
        if self.count == 1:
            return network
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(network, device_ids=ids)

    def alike(self, value: object) -> bool:
        """Whether every rank has the same value."""
        if self.count == 1:
            return True
        values: list[object] = [None] * self.count
        dist.all_gather_object(values, value)
        return all(other == value for other in values)

    def unsynced(self, parallel: nn.Module) -> AbstractContextManager[None]:
        """Within it, gradients stay on their rank: those of a later backward pass are added before they travel."""
        return parallel.no_sync() if isinstance(parallel, DistributedDataParallel) else nullcontext()

    def from_leader(self, value: T) -> T:
        """The leader's value, on every rank: the others wait for it, for days if need be."""
        if self.count == 1:
            return value
        values: list[T] = [value]
        dist.broadcast_object_list(values, src=0, group=self.patient)
        return values[0]

    def sum(self, values: list[float]) -> list[float]:
        """Sum of each value over all ranks, in float64."""
        if self.count == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return tensor.tolist()


@contextmanager
def join(device: torch.device) -> Iterator[Ranks]:
    """Join the group that `torchrun` announces in the environment, with NCCL on CUDA, gloo elsewhere.

    A `join` within a `join` gives the same group.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Ranks(0, 1, device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    if dist.is_initialized():
        yield Ranks(dist.get_rank(), count, device)
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        patient = dist.new_group(backend="gloo", timeout=WEEK)
        yield Ranks(dist.get_rank(), count, device, patient)
    finally:
        dist.destroy_process_group()

"""Several processes that train one model together, as torchrun starts them.

Each takes `training.batch` series of every batch, so that a batch has as many times more; losses
and gradients are averaged by the readings that count, over gloo, and all processes take the same
step. That is one process with so large a batch, but for the order of sums. The first one (rank 0)
measures, draws and records; the others only follow.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor

_PATIENCE = timedelta(minutes=30)
"""The first process may load data, fit heads or write to MLflow for so long."""


@dataclass(frozen=True, slots=True)
class Processes:
    """How many there are, and which of them this one is, from 0."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this one records what is done."""
        return self.rank == 0

    def share(self, rows: Tensor) -> Tensor:
        """Which of a batch's series are this one's; maybe none."""
        return rows.tensor_split(self.size)[self.rank] if self.size > 1 else rows

    def total(self, part: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            torch.distributed.all_reduce(part)
        return part

    def check_same(self, what: str, digest: str) -> None:
        """ValueError in all processes where they do not have the same."""
        if self.size == 1:
            return
        number = int(digest[:12], 16)
        ends = torch.tensor([number, -number])
        torch.distributed.all_reduce(ends, torch.distributed.ReduceOp.MAX)
        if int(ends[0]) != -int(ends[1]):
            raise ValueError(f"the processes of this training do not have the same {what}")


ALONE = Processes()


@contextmanager
def together() -> Iterator[Processes]:
    """The processes that torchrun started, joined for the block; else this one alone."""
    size = int(os.environ.get("WORLD_SIZE") or 1)
    if size == 1:
        yield ALONE
        return
    if not torch.distributed.is_available():
        raise ValueError("WORLD_SIZE: this PyTorch is built without torch.distributed")
    try:
        torch.distributed.init_process_group("gloo", timeout=_PATIENCE)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"WORLD_SIZE is {size}, but torchrun's others are missing: {error}") from (
            error
        )
    try:
        yield Processes(torch.distributed.get_rank(), size)
    finally:
        torch.distributed.destroy_process_group()

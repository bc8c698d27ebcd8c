"""Gradient descent on slow weights; one for all recipes.

`Descent` is the optimiser. `RecurrentFit` follows the gradient through the recurrence of a memory:
what a reading looks like from its past does not depend on slow weights, so it is computed once;
keys of a whole unroll are one matrix product; only reading and updating the memory are
sequential. Unrolls are truncated: the memory is carried on from one to the next, the gradient is
not.

Letters: B series, T readings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from titans_stream.lifecycle.checkpoint import Checkpoint
from titans_stream.lifecycle.data import TrainingData, stack
from titans_stream.lifecycle.processes import ALONE, Processes
from titans_stream.lifecycle.series import Series
from titans_stream.recipe_settings import ResidualConfig, TrainingConfig
from titans_stream.records import Float64

RISE = 0.1
"""Share of all steps in which the learning rate rises."""

Weights = Mapping[str, Tensor]
"""Slow weights by name."""


@dataclass(frozen=True, slots=True)
class Tensors:
    """Tensors that are cut and detached together."""

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """`change` of each."""
        return type(self)(*(change(getattr(self, one.name)) for one in fields(self)))

    def detach(self) -> Self:
        """The same values, cut from the graph."""
        return self.map(Tensor.detach)


@dataclass(frozen=True, slots=True)
class Inputs(Tensors):
    """T readings of B series as a memory sees them; a recurrence adds its own."""

    target: Tensor
    """[T, B, ...]"""
    counts: Tensor
    """[T, B] bool: the reading counts in the loss; padding never does."""

    def part(self, rows: Tensor, times: slice) -> Self:
        """The readings `times` of the series `rows`."""
        return self.map(lambda column: column[times, rows])

    @property
    def readings(self) -> int:
        """T."""
        return self.target.shape[0]

    @property
    def series(self) -> int:
        """B."""
        return self.target.shape[1]


I = TypeVar("I", bound=Inputs)  # noqa: E741
C = TypeVar("C", bound=Tensors)


class Recurrence(Protocol[I, C]):
    """What is trained: a module with these functions."""

    def prepare(self, values: Tensor, calendar: Tensor, /) -> I:
        """Inputs of series values [B, T] (NaN after a series' end) with calendar [B, T, 10]."""

    def fresh_carry(self, series: int, /) -> C:
        """Empty memories."""

    def unroll(self, inputs: I, carry: C, weights: Weights, /) -> tuple[Tensor, C]:
        """Predict and learn T readings in turn: outputs [T, B, ...] and what is carried on."""

    def yardsticks(self, inputs: I, weights: Weights, /) -> tuple[Tensor, ...]:
        """What the loss of each series is relative to, [B, ...] each; `weights` are the first."""

    def loss(self, outputs: Tensor, inputs: I, yardsticks: tuple[Tensor, ...], /) -> Tensor:
        """The mean over readings and series."""


class Descent:
    """AdamW over one cycle of the learning rate, with the gradient's norm bounded."""

    def __init__(
        self,
        weights: Iterable[Tensor],
        config: TrainingConfig | ResidualConfig,
        steps: int,
        setting: str = "training",
    ) -> None:
        """`setting` is the recipe's that `config` comes from."""
        self._setting = setting
        self._weights = list(weights)
        self._clip = config.gradient_clip
        self._optimizer = torch.optim.AdamW(
            self._weights, lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer, config.learning_rate, total_steps=steps + 1, pct_start=RISE
        )

    @property
    def learning_rate(self) -> float:
        """That of the next step."""
        return float(self._schedule.get_last_lr()[0])

    def step(self, loss: Tensor) -> float:
        """Take one step; returns the loss. ArithmeticError where it is not finite."""
        self._check(loss)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._advance()
        return loss.item()

    def step_together(self, loss: Tensor | None, readings: float, processes: Processes) -> float:
        """The step of all processes; returns the loss of the whole batch.

        Each has the mean loss of its `readings`, or None where it has none.
        """
        own = torch.zeros(()) if loss is None else loss.detach()
        sums = torch.stack([own.double() * readings, torch.tensor(readings).double()])
        total, count = processes.total(sums)
        mean = total / count.clamp_min(1.0)
        self._check(mean)
        self._optimizer.zero_grad()
        if loss is not None:
            loss.backward()  # type: ignore[no-untyped-call]
        for weight in self._weights:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            weight.grad *= readings
            processes.total(weight.grad)
            weight.grad /= count.clamp_min(1.0)
        self._advance()
        return float(mean)

    def _check(self, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            raise ArithmeticError(
                f"training diverged: the loss is not finite; lower {self._setting}.learning_rate"
            )

    def _advance(self) -> None:
        torch.nn.utils.clip_grad_norm_(self._weights, self._clip)
        self._optimizer.step()
        self._schedule.step()

    def state(self) -> dict[str, Any]:
        """What the next step depends on beside the weights: tensors and plain numbers."""
        return {"optimizer": self._optimizer.state_dict(), "schedule": _plain(self._schedule)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])


def _plain(schedule: torch.optim.lr_scheduler.LRScheduler) -> dict[str, Any]:
    """The state of a schedule without functions."""
    kinds = (int, float, str, bool, list, dict)
    return {n: v for n, v in schedule.state_dict().items() if isinstance(v, kinds)}


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass over the training series."""

    number: int
    training_loss: float
    validation_loss: float
    learning_rate: float
    weights: dict[str, Float64]


class RecurrentFit(Generic[I, C]):
    """Fits the weights of one recurrence, from `start`."""

    def __init__(
        self,
        recurrence: Recurrence[I, C],
        config: TrainingConfig,
        data: TrainingData,
        start: Mapping[str, Float64],
        seed: int,
        *,
        skip_padding: bool = False,
        processes: Processes = ALONE,
    ) -> None:
        """With `skip_padding` no step is taken for an unroll in which no reading counts."""
        self._processes = processes
        self._recurrence = recurrence
        self._config = config
        self._skip_padding = skip_padding
        self._training = self._prepared(data.training)
        self._validation = self._prepared(data.validation)
        self._weights = {n: torch.from_numpy(a.copy()).requires_grad_() for n, a in start.items()}
        with torch.no_grad():
            self._yardsticks = recurrence.yardsticks(self._training, self._weights)
            self._reference = recurrence.yardsticks(self._validation, self._weights)
        readings = self._training.readings
        self._unrolls = [
            slice(first, min(first + config.unroll, readings))
            for first in range(0, readings, config.unroll)
        ]
        self._batch = config.batch * processes.size
        batches = -(-self._training.series // self._batch)
        steps = config.epochs * batches * len(self._unrolls)
        self._descent = Descent(self._weights.values(), config, steps)
        self._order = torch.Generator().manual_seed(seed)

    def passes(self, checkpoint: Checkpoint | None = None) -> Iterator[Pass]:
        """Train; one item after each epoch, until patience ends.

        With a `checkpoint` each epoch is kept in it; those that it holds already are given again,
        and training goes on after them as if it had never stopped.
        """
        waited, lowest = 0, float("inf")
        done = [] if checkpoint is None else self._resumed(checkpoint)
        self._processes.check_same("checkpoint (one cache for all?)", f"{len(done):x}")
        for number in range(1, self._config.epochs + 1):
            if number <= len(done):
                made = done[number - 1]
            else:
                training_loss = self._pass()
                weights = {n: t.detach().numpy().copy() for n, t in self._weights.items()}
                loss = self.validation_loss(weights)
                made = Pass(number, training_loss, loss, self._descent.learning_rate, weights)
                done.append(made)
                if checkpoint is not None and self._processes.leads:
                    checkpoint.save(self._state(done))
            loss = made.validation_loss
            waited, lowest = (0, loss) if loss < lowest else (waited + 1, lowest)
            yield made
            if self._config.patience is not None and waited >= self._config.patience:
                return

    def _state(self, done: Sequence[Pass]) -> dict[str, Any]:
        passes = [
            {
                "number": one.number,
                "training_loss": one.training_loss,
                "validation_loss": one.validation_loss,
                "learning_rate": one.learning_rate,
                "weights": {n: torch.from_numpy(a) for n, a in one.weights.items()},
            }
            for one in done
        ]
        return {
            "passes": passes, "order": self._order.get_state(), "descent": self._descent.state(),
        }  # fmt: skip

    def _resumed(self, checkpoint: Checkpoint) -> list[Pass]:
        """Put the state of a checkpoint in place; the epochs that it holds."""
        state = checkpoint.load()
        if state is None:
            return []
        done = [
            Pass(**{**one, "weights": {n: t.numpy() for n, t in one["weights"].items()}})
            for one in state["passes"]
        ]
        with torch.no_grad():
            for name, array in done[-1].weights.items():
                self._weights[name].copy_(torch.from_numpy(array))
        self._order.set_state(state["order"])
        self._descent.restore(state["descent"])
        return done

    @torch.no_grad()
    def validation_loss(self, weights: Mapping[str, Float64]) -> float:
        """The loss on the validation series."""
        tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
        carry = self._recurrence.fresh_carry(self._validation.series)
        outputs, _ = self._recurrence.unroll(self._validation, carry, tensors)
        return self._recurrence.loss(outputs, self._validation, self._reference).item()

    def _pass(self) -> float:
        losses = []
        order = torch.randperm(self._training.series, generator=self._order)
        for first in range(0, len(order), self._batch):
            rows = self._processes.share(order[first : first + self._batch])
            carry = self._recurrence.fresh_carry(len(rows))
            yardsticks = tuple(one[rows] for one in self._yardsticks)
            for times in self._unrolls:
                inputs = self._training.part(rows, times)
                outputs, carry = self._recurrence.unroll(inputs, carry, self._weights)
                carry = carry.detach()
                loss = self._recurrence.loss(outputs, inputs, yardsticks)
                losses += self._stepped(loss, inputs)
        return float(np.mean(losses))

    def _stepped(self, loss: Tensor, inputs: I) -> list[float]:
        """Take a step, unless there is nothing to learn for any process; its loss."""
        count = inputs.counts.sum()
        if self._processes.size == 1:
            skipped = self._skip_padding and not count
            return [] if skipped else [self._descent.step(loss)]
        if self._skip_padding and not self._processes.total(count.clone()):
            return []
        readings = float(count)
        own = loss if readings else None
        return [self._descent.step_together(own, readings, self._processes)]

    def _prepared(self, series: Sequence[Series]) -> I:
        values, calendar = stack(series)
        return self._recurrence.prepare(torch.from_numpy(values), torch.from_numpy(calendar))


def pseudo_huber(error: Tensor) -> Tensor:
    """Half the square of a small error, the size of a large one."""
    return (1.0 + error.square()).sqrt() - 1.0


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch: sums in parallel may differ in the last bit from run to run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

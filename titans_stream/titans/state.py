"""Memory state as rows: what a series has learned at test time, apart from the slow weights.

A state is a frozen dataclass whose fields are tensors with the rows (series) as first dimension,
tuples of such tensors, or further states. Its size does not depend on how much was read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class RowState:
    """Operations on all tensors of a state alike; one series = one row = index 0 of each."""

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """A state with `function` applied to every tensor."""
        return type(self)(**{f.name: _map(getattr(self, f.name), function) for f in fields(self)})

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by its dotted name, contiguous, for safetensors; `load` is the inverse."""
        return {name: tensor.contiguous() for name, tensor in self._named("")}

    def load(self, tensors: dict[str, Tensor]) -> Self:
        """A state of this one's layout made of `tensors`; its number of rows may differ.

        ValueError where a tensor is missing, unknown or of another shape.
        """
        own = self.tensors()
        unknown = sorted(set(tensors) ^ set(own))
        if unknown:
            raise ValueError(f"state: missing or unknown tensors {unknown}")
        counts = {tensor.shape[0] for tensor in tensors.values()}
        if len(counts) > 1:
            raise ValueError(f"state: tensors disagree on the number of rows: {sorted(counts)}")
        for name, tensor in tensors.items():
            if tensor.shape[1:] != own[name].shape[1:]:
                raise ValueError(
                    f"state: {name} has shape {tuple(tensor.shape)}, "
                    f"not [rows, {', '.join(map(str, own[name].shape[1:]))}]"
                )
        order = iter([tensors[name] for name in own])
        return self.map(lambda _: next(order))

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """The state on `device`; its floating tensors as `dtype` (counts stay integers)."""
        return self.map(
            lambda t: t.to(device=device, dtype=dtype if t.is_floating_point() else None)
        )

    def detach(self) -> Self:
        """The state cut from the autograd graph."""
        return self.map(Tensor.detach)

    def clone(self) -> Self:
        """A copy that shares no memory with this state."""
        return self.map(Tensor.clone)

    def repeat_rows(self, rows: int) -> Self:
        """A state of `rows` copies of this state's only row."""
        return self.map(lambda t: t.repeat(rows, *[1] * (t.ndim - 1)))

    def gather(self, rows: Tensor) -> Self:
        """Copy out the rows at `rows` (int64), in that order."""
        return self.map(lambda t: t.index_select(0, rows.to(t.device)))

    def scatter_(self, rows: Tensor, part: Self) -> None:
        """Write the rows of `part` over this state's rows at `rows` (int64, distinct), in place."""
        for (_, own), (_, new) in zip(self._named(""), part._named(""), strict=True):
            own.index_copy_(0, rows.to(own.device), new.to(device=own.device, dtype=own.dtype))

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(next(iter(self.tensors().values())).shape[0])

    @property
    def bytes_per_row(self) -> int:
        """Bytes that one row takes."""
        return sum(t[:1].numel() * t.element_size() for t in self.tensors().values())

    def _named(self, prefix: str) -> Iterator[tuple[str, Tensor]]:
        for f in fields(self):
            yield from _named(f"{prefix}{f.name}", getattr(self, f.name))


def common(counts: Tensor) -> int | None:
    """The number that all of `counts` int64 [B] are; None if they differ, or while compiling."""
    if torch.compiler.is_compiling():
        return None
    first = counts[0]
    return int(first) if bool((counts == first).all()) else None


def _map(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, RowState):
        return value.map(function)
    return tuple(_map(item, function) for item in value)


def _named(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, RowState):
        yield from value._named(f"{name}.")
    else:
        for index, item in enumerate(value):
            yield from _named(f"{name}.{index}", item)

"""The four ways to use the memory: LMM alone, MAC as context, MAG as gate, MAL as layer.

Section 4 of arXiv 2501.00663. Each variant is one residual block, tokens in, tokens out:
`y, state = layer(x)`, `y, state = layer(x_next, state)`; outputs and final state do not depend
on the cutting, and the state's size does not depend on how much was read. Where the paper leaves
room, this reading is taken:

- Blocks are pre-normalised (RMSNorm) and residual; every branch ends in normalisation, a gate
  that is linear in the block's input, and the output projection (section 4.4).
- The non-linear gating of two branches (eq. 25 and 28) is (norm(y) + a) * SiLU(norm(m) + b): SiLU
  as everywhere else, unbounded, so that content passes and not only a weight. Without a and b the
  memory's content is multiplied by whatever the token is, and MAC learns to recall much later.
- MAC: token t of a segment sees persistent tokens and, of the retrieved context and the segment,
  what belongs to tokens up to t: the layer is causal inside a segment too. All of the segment is
  retrieved with the memory of the segment's start (eq. 21). The attention has a residual
  connection, whose branch is scaled per feature and starts small: what the memory learns and its
  gates see, y, is at first the token itself. Without the connection recall is hardly learned;
  unscaled, it was learned, but more of it was lost over long distances.
- A token with a NaN or an infinity in it counts as zeros to its own residual, is not seen by the
  attention of others and not learned (`memory.py`).
- MAG and MAL: persistent tokens pass through the memory first and stay visible to every token of
  the window attention.

Letters: B rows, T tokens, D width, N persistent tokens, G segment length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from titans_stream.titans.attention import (
    SegmentAttention,
    SegmentState,
    WindowAttention,
    WindowState,
)
from titans_stream.titans.config import (
    LMMConfig,
    MACConfig,
    MAGConfig,
    MALConfig,
    MemoryConfig,
)
from titans_stream.titans.memory import NeuralMemory, finite
from titans_stream.titans.recurrence import MemoryState, Surprise, current_weights
from titans_stream.titans.state import RowState, common

_NORM_EPSILON = 1e-6


class _Block(nn.Module):
    """What the variants share: the width and single steps."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.norm = _norm(width)

    def step(self, x: Tensor, state: Any = None, return_surprise: bool = False) -> Any:
        """`forward` for one token: x [B, D] -> y [B, D], state, with each surprise [B] if asked."""
        y, state, *surprise = self(x.unsqueeze(1), state, return_surprise)
        if not surprise:
            return y[:, 0], state
        return y[:, 0], state, Surprise(*(s[:, 0] for s in surprise[0]))

    def _checked(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x with zeros for tokens that do not count, and which do [B, T]."""
        if x.ndim != 3 or x.shape[-1] != self.width or not x.shape[1]:
            raise ValueError(
                f"x: shape [rows, tokens >= 1, {self.width}] is needed, not {tuple(x.shape)}"
            )
        return finite(x)


class _MemoryBlock(_Block):
    """A block with a memory and persistent tokens [1, N, D] of its own."""

    def __init__(self, memory: MemoryConfig, persistent: int) -> None:
        super().__init__(memory.width)
        self.memory = NeuralMemory(memory)
        self.persistent = nn.Parameter(torch.randn(1, persistent, memory.width))


class LMM(_MemoryBlock):
    """x + output(M(norm(x))): the neural memory as a sequence layer (section 4.3)."""

    def __init__(self, config: LMMConfig) -> None:
        super().__init__(config.memory, config.persistent)
        self.config = config
        self.output = GatedOutput(self.width)

    def initial_state(self, rows: int) -> MemoryState:
        """The state after the persistent tokens, for `rows` series."""
        return self.prefix()[1].repeat_rows(rows)

    def prefix(self) -> tuple[Tensor, MemoryState]:
        """Outputs [1, N, D] at the persistent tokens and the state after them, one row."""
        if not self.persistent.shape[1]:
            return self.persistent, self.memory.initial_state(1)
        everyone = torch.ones_like(self.persistent[..., 0], dtype=torch.bool)
        y, state = self._block(self.persistent, None, everyone)
        return y, state

    def forward(
        self,
        x: Tensor,
        state: MemoryState | None = None,
        return_surprise: bool = False,
        counts: Tensor | None = None,
    ) -> Any:
        """x [B, T, D] -> y [B, T, D], state and, if asked for, the memory's `Surprise`.

        `counts` bool [B, T] says which tokens count; without it those that are finite.
        """
        x, finite_ones = self._checked(x)
        if state is None and self.persistent.shape[1]:
            state = self.initial_state(x.shape[0])
        return self._block(x, state, finite_ones if counts is None else counts, return_surprise)

    def _block(
        self, x: Tensor, state: MemoryState | None, counts: Tensor, return_surprise: bool = False
    ) -> Any:
        normed = self.norm(x)
        y, *rest = self.memory(normed, state, return_surprise=return_surprise, counts=counts)
        return (x + self.output(y, normed), *rest)


@dataclass(frozen=True)
class WindowedState(RowState):
    """State of MAG and MAL."""

    memory: MemoryState
    attention: WindowState


class MAG(_MemoryBlock):
    """x + output(attention(x~) (x) M(x~)), x~ = [persistent || x] (eq. 26 to 28)."""

    def __init__(self, config: MAGConfig) -> None:
        super().__init__(config.memory, config.persistent)
        self.config = config
        self.attention = WindowAttention(self.width, config.attention_heads, config.window)
        self.combine = Combine(self.width)
        self.output = GatedOutput(self.width)

    def initial_state(self, rows: int) -> WindowedState:
        """The state after the persistent tokens, for `rows` series."""
        prefix = self.norm(self.persistent)
        memory = self.memory.initial_state(1)
        if prefix.shape[1]:
            _, memory = self.memory(prefix, memory)
        return WindowedState(memory, self.attention.start(prefix)).repeat_rows(rows)

    def forward(
        self, x: Tensor, state: WindowedState | None = None, return_surprise: bool = False
    ) -> Any:
        """x [B, T, D] -> y [B, T, D], state and, if asked for, the memory's `Surprise`."""
        x, counts = self._checked(x)
        state = self.initial_state(x.shape[0]) if state is None else state
        normed = self.norm(x)
        attended, attention = self.attention(normed, state.attention, counts)
        recalled, memory, *rest = self.memory(
            normed, state.memory, return_surprise=return_surprise, counts=counts
        )
        y = x + self.output(self.combine(attended, recalled), normed)
        return (y, WindowedState(memory, attention), *rest)


class MAL(_Block):
    """An LMM block over x~ = [persistent || x], then a window attention block (eq. 29 to 31)."""

    def __init__(self, config: MALConfig) -> None:
        super().__init__(config.memory.width)
        self.config = config
        self.layer = LMM(LMMConfig(memory=config.memory, persistent=config.persistent))
        self.attention = WindowAttention(self.width, config.attention_heads, config.window)
        self.output = GatedOutput(self.width)

    def initial_state(self, rows: int) -> WindowedState:
        """The state after the persistent tokens, for `rows` series."""
        y, memory = self.layer.prefix()
        return WindowedState(memory, self.attention.start(self.norm(y))).repeat_rows(rows)

    def forward(
        self, x: Tensor, state: WindowedState | None = None, return_surprise: bool = False
    ) -> Any:
        """x [B, T, D] -> y [B, T, D], state and, if asked for, the memory's `Surprise`."""
        x, counts = self._checked(x)
        state = self.initial_state(x.shape[0]) if state is None else state
        y, memory, *rest = self.layer(x, state.memory, return_surprise, counts)
        normed = self.norm(y)
        attended, attention = self.attention(normed, state.attention, counts)
        return (y + self.output(attended, normed), WindowedState(memory, attention), *rest)


@dataclass(frozen=True)
class MACState(RowState):
    """State of MAC."""

    memory: MemoryState
    recall: tuple[Tensor, ...]
    """The memory's weights at the segment's start, per layer [B, P, O, I]."""
    tail: Tensor
    """Last query projections of the block's input [B, taps - 1, D]."""
    attention: SegmentState
    position: Tensor
    """Tokens of the segment so far, int64 [B], 0 to G - 1."""


class MAC(_MemoryBlock):
    """Segments that attend to what the memory recalls for them (eq. 21 to 25).

    h = M*(q) of the segment; y = segment + s attention([persistent || h || segment]); M learns y;
    o = y (x) M*(y). s is a learned scale per feature.
    """

    def __init__(self, config: MACConfig) -> None:
        super().__init__(config.memory, config.persistent)
        self.config = config
        self.attention = SegmentAttention(self.width, config.attention_heads, config.segment)
        self.norm_recalled, self.norm_attended = _norm(self.width), _norm(self.width)
        self.mixed = nn.Parameter(torch.full((self.width,), 0.1))
        self.combine = Combine(self.width)
        self.output = GatedOutput(self.width)

    def initial_state(self, rows: int) -> MACState:
        """The state of `rows` series of which nothing has been read."""
        memory = self.memory.initial_state(rows)
        return MACState(
            memory=memory,
            recall=_cloned(memory.weights),
            tail=memory.tail[..., : self.width].clone(),
            attention=self.attention.start(rows),
            position=torch.zeros_like(memory.filled),
        )

    def forward(
        self, x: Tensor, state: MACState | None = None, return_surprise: bool = False
    ) -> Any:
        """x [B, T, D] -> y [B, T, D], state and, if asked for, the memory's `Surprise`.

        The memory's tokens, and so its surprise, are the attention's outputs.
        """
        x, counts = self._checked(x)
        position = 0 if state is None else common(state.position)
        state = self.initial_state(x.shape[0]) if state is None else state
        size, count = self.config.segment, x.shape[1]
        if position is None:  # rows stand at different places, or at unknown ones
            cuts = [1] * count
        else:
            head = min(size - position, count)
            cuts = [head] + [size] * ((count - head) // size)
            cuts += [count - sum(cuts)] if count > sum(cuts) else []
        results = []
        for piece in zip(torch.split(x, cuts, 1), torch.split(counts, cuts, 1), strict=True):
            at = state.position if position is None else position
            y, state, *surprise = self._piece(piece, state, at, return_surprise)
            if position is not None:
                position = (position + y.shape[1]) % size
            results.append((y, *(surprise[0] if surprise else ())))
        y, *surprise = (torch.cat(column, 1) for column in zip(*results, strict=True))
        return (y, state, Surprise(*surprise)) if return_surprise else (y, state)

    def _piece(
        self,
        tokens: tuple[Tensor, Tensor],
        state: MACState,
        position: int | Tensor,
        return_surprise: bool,
    ) -> Any:
        """Tokens of one segment and which count, from `position` on."""
        x, counts = tokens
        normed = self.norm(x)
        recalled, tail = self.memory.read(state.recall, normed, state.tail)
        attended, attention = self.attention(
            (normed, self.norm_recalled(recalled)),
            self.norm(self.persistent),
            state.attention,
            position,
            counts,
        )
        attended = normed + self.mixed * attended
        read, memory, *rest = self.memory(
            self.norm_attended(attended),
            state.memory,
            return_surprise=return_surprise,
            counts=counts,
        )
        y = x + self.output(self.combine(attended, read), normed)
        place = state.position + x.shape[1]
        after = MACState(memory, state.recall, tail, attention, place)
        if isinstance(position, int) and position + x.shape[1] < self.config.segment:
            return (y, after, *rest)
        weights = current_weights(self.config.memory, memory)
        fresh = MACState(
            memory,
            _cloned(weights),
            tail,
            self.attention.start(x.shape[0]),
            torch.zeros_like(place),
        )
        return (y, fresh if isinstance(position, int) else self._ended(after, fresh), *rest)

    def _ended(self, after: MACState, fresh: MACState) -> MACState:
        """Row by row `fresh` where a segment has ended, `after` elsewhere."""
        ended = after.position == self.config.segment
        news = iter(fresh.tensors().values())
        return after.map(lambda t: torch.where(ended.view(-1, *[1] * (t.ndim - 1)), next(news), t))


class Combine(nn.Module):
    """o = (norm(y) + a) * SiLU(norm(m) + b), norms with learned weights (section 4.2).

    The learned a and b start at 1, so that what each branch holds passes by itself from the start.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attended, self.recalled = _norm(width), _norm(width)
        self.shifts = nn.Parameter(torch.ones(2, width))

    def forward(self, attended: Tensor, recalled: Tensor) -> Tensor:
        """attended, recalled [B, T, D] -> o [B, T, D]."""
        a, b = self.shifts
        o: Tensor = (self.attended(attended) + a) * silu(self.recalled(recalled) + b)
        return o


class GatedOutput(nn.Module):
    """W_O (norm(y) * SiLU(W_G x)): the end of every branch (section 4.4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = _norm(width)
        self.gate = nn.Linear(width, width, bias=False)
        self.project = nn.Linear(width, width, bias=False)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        """The branch's outcome y and the block's normed input x, [B, T, D] -> [B, T, D]."""
        o: Tensor = self.project(self.norm(y) * silu(self.gate(x)))
        return o


def _cloned(layers: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Copies, so that states can be written in place."""
    return tuple(layer.clone() for layer in layers)


def _norm(width: int) -> nn.RMSNorm:
    return nn.RMSNorm(width, eps=_NORM_EPSILON)

"""The neural long-term memory: chunk-parallel, constant state, one meaning for any cutting.

Equations of arXiv 2501.00663. Where the paper leaves room, this reading is taken:

- y_t = M_t(q_t): a token is retrieved after its own update (eq. 15 after eq. 13), as in linear
  attention; surprise is read before it. Surprise and gradients refer to the weights of the
  chunk's start (eq. 16), which for C = 1 is M_{t-1}.
- alpha and eta are sigmoids, theta a sigmoid times `theta_max`: bounded steps. Each head is a
  memory of its own with its own gates. A sigmoid never closes, so what was learned is worn away
  by long stretches of tokens that do not matter; with a floor f, alpha and theta are
  max(0, sigmoid - f) / (1 - f), which can be exactly 0.
- Gates per chunk are those of the chunk's first token: the only choice that is causal and known
  while a chunk is being filled.
- The depthwise-separable convolution is the projection (pointwise) followed by a depthwise one.
- M_0 is a slow weight, shared by all rows.
- The gradient is clipped per token and head, and steps shrink once those of the chunk's earlier
  tokens have a sum of a norm above `chunk_clip`: all of them are taken at the chunk's start, so
  together they overshoot where each alone would not. A memory of depth >= 2 diverges without the
  two.
- A token with a NaN or an infinity in it does not count: nothing is written or forgotten, the
  momentum ends, the read-out is that of the memory as it is for a token of zeros; surprise 0.

Letters: B rows (series), T tokens, D width, P heads, d = D / P head width.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, logsigmoid, silu

from titans_stream.titans.chunk import Layers, retrieve, whole_chunk
from titans_stream.titans.config import MemoryConfig
from titans_stream.titans.recurrence import (
    MemoryState,
    Surprise,
    Tokens,
    WholeChunk,
    current_weights,
    recur,
)

_EPSILON = 1e-6  # added to squared norms of keys and queries


class NeuralMemory(nn.Module):
    """A sequence layer whose state is a small network, trained by its own surprise while it reads.

    `y, state = memory(x)` and `y, state = memory(x_next, state)`: outputs and final state do not
    depend on how a sequence is cut into calls. Everything is differentiable, the inner updates
    included; the recurrence runs in float32 or better under autocast too.
    """

    def __init__(self, config: MemoryConfig) -> None:
        super().__init__()
        self.config = config
        self.whole_chunk: WholeChunk = whole_chunk
        width, heads = config.width, config.heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.gates = nn.Linear(width, 3 * heads)
        taps = config.convolution
        self.filter = nn.Parameter(torch.empty(3 * width, taps)) if taps else None
        self.start = nn.ParameterList(
            nn.Parameter(torch.empty(heads, *shape)) for shape in config.layer_shapes
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the slow weights: little forgetting, half momentum, steps theta of at most 1 / C.

        M_0(k) is 0 for L_M = 1 and k for L_M = 2. A deeper memory whose last layer starts at zero
        hardly learns, so there it is drawn like the others.
        """
        self.qkv.reset_parameters()
        nn.init.zeros_(self.gates.weight)
        config = self.config
        open_ = config.theta_floor + (1 - config.theta_floor) / (config.chunk * config.theta_max)
        theta = min(-2.0, math.log(open_ / (1 - open_))) if open_ < 1 else -2.0
        with torch.no_grad():
            start = torch.tensor([-5.0, 0.0, theta]).repeat_interleave(config.heads)
            self.gates.bias.copy_(start)
        if self.filter is not None:
            nn.init.normal_(self.filter, std=0.1)
            with torch.no_grad():
                self.filter[:, -1] += 1.0
        *others, last = self.start
        for weight in others:
            nn.init.normal_(weight, std=weight.shape[-1] ** -0.5)
        if config.depth < 3:
            nn.init.zeros_(last)
        else:
            nn.init.normal_(last, std=last.shape[-1] ** -0.5)

    def initial_state(self, rows: int) -> MemoryState:
        """The state of `rows` series of which nothing has been read."""
        heads, slots = self.config.heads, self.config.chunk - 1
        weights = tuple(w.to(self.dtype).repeat(rows, 1, 1, 1) for w in self.start)
        zeros = weights[0].new_zeros
        return MemoryState(
            weights=weights,
            momentum=tuple(torch.zeros_like(w) for w in weights) if self.config.momentum else (),
            inputs=tuple(zeros((rows, heads, slots, w.shape[-1])) for w in weights),
            errors=tuple(zeros((rows, heads, slots, w.shape[-2])) for w in weights),
            gates=zeros((rows, heads, slots, 4)),
            filled=zeros(rows, dtype=torch.int64),
            tail=zeros((rows, max(self.config.convolution - 1, 0), 3 * self.config.width)),
        )

    @overload
    def forward(
        self,
        x: Tensor,
        state: MemoryState | None = ...,
        return_surprise: Literal[False] = ...,
        counts: Tensor | None = ...,
    ) -> tuple[Tensor, MemoryState]: ...

    @overload
    def forward(
        self,
        x: Tensor,
        state: MemoryState | None = ...,
        *,
        return_surprise: Literal[True],
        counts: Tensor | None = ...,
    ) -> tuple[Tensor, MemoryState, Surprise]: ...

    def forward(
        self,
        x: Tensor,
        state: MemoryState | None = None,
        return_surprise: bool = False,
        counts: Tensor | None = None,
    ) -> tuple[Tensor, MemoryState] | tuple[Tensor, MemoryState, Surprise]:
        """Read x [B, T, D] and learn from it; y [B, T, D] and the state after it.

        With `return_surprise` also the `Surprise` of every token. `counts` bool [B, T] says which
        tokens count, of those that are finite; without it all of these. ValueError for another
        shape.
        """
        fresh = state is None
        state = self._checked(x, state)
        x, known = finite(x)
        counts = known if counts is None else counts & known
        projected = self.qkv(x).to(self.dtype)
        with torch.autocast(x.device.type, enabled=False):
            tokens, tail = self.tokens(x.to(self.dtype), projected, state.tail, counts)
            y, state, surprise = recur(
                self.config, state, tokens, fresh, return_surprise, self.whole_chunk
            )
        state = replace(state, tail=tail)
        out = y.transpose(1, 2).flatten(2).to(x.dtype)
        return (out, state) if surprise is None else (out, state, surprise)

    def step(
        self, x: Tensor, state: MemoryState | None = None, return_surprise: bool = False
    ) -> tuple[Tensor, MemoryState] | tuple[Tensor, MemoryState, Surprise]:
        """`forward` for one token: x [B, D] -> y [B, D]; surprise [B]."""
        if return_surprise:
            y, state, surprise = self(x.unsqueeze(1), state, return_surprise=True)
            return y[:, 0], state, Surprise(*(s[:, 0] for s in surprise))
        y, state = self(x.unsqueeze(1), state)
        return y[:, 0], state

    def retrieve(self, x: Tensor, state: MemoryState) -> Tensor:
        """What the memory holds for x [B, T, D], as its next tokens, without an update (eq. 15)."""
        state = self._checked(x, state)
        x, _ = finite(x)
        return self.read(
            current_weights(self.config, state), x, state.tail[..., : self.config.width]
        )[0]

    def read(self, weights: Layers, x: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        """M(q) of x [B, T, D] at given weights [B, P, O, I], and the next tail.

        `tail` [B, taps - 1, D] holds the query projections before x.
        """
        width = self.config.width
        projected = linear(x, self.qkv.weight[:width]).to(self.dtype)
        with torch.autocast(x.device.type, enabled=False):
            q, tail = self._convolve(projected, tail)
            y = retrieve(weights, _unit(self._by_head(q)), self.config.residual)
        return y.transpose(1, 2).flatten(2).to(x.dtype), tail

    @property
    def dtype(self) -> torch.dtype:
        """What the recurrence computes in: float32 or better."""
        return torch.promote_types(self.start[0].dtype, torch.float32)

    def _checked(self, x: Tensor, state: MemoryState | None) -> MemoryState:
        if x.ndim != 3 or x.shape[-1] != self.config.width or not x.shape[1]:
            raise ValueError(
                f"x: shape [rows, tokens >= 1, {self.config.width}] is needed, not {tuple(x.shape)}"
            )
        if state is None:
            return self.initial_state(x.shape[0])
        if state.rows != x.shape[0]:
            raise ValueError(f"state: it has {state.rows} rows, x has {x.shape[0]}")
        return state.to(dtype=self.dtype)

    def tokens(
        self, x: Tensor, projected: Tensor, tail: Tensor, counts: Tensor
    ) -> tuple[Tokens, Tensor]:
        """q, k, v and gates of finite x [B, T, D], whose projections are [B, T, 3 D].

        `counts` bool [B, T] says which tokens count.
        """
        mixed, tail = self._convolve(projected, tail)
        q, k, v = (self._by_head(part) for part in mixed.chunk(3, -1))
        weight, bias = self.gates.weight.to(self.dtype), self.gates.bias.to(self.dtype)
        alpha, eta, theta = linear(x, weight, bias).transpose(1, 2).chunk(3, 1)
        held = counts.to(self.dtype).unsqueeze(1).expand_as(alpha)
        gates = [self._log_keep(alpha), logsigmoid(eta), self._theta(theta), held]
        return Tokens(_unit(q), _unit(k), v, torch.stack(gates, -1)), tail

    def _log_keep(self, logits: Tensor) -> Tensor:
        """log(1 - alpha), exactly 0 where the sigmoid is below its floor."""
        if not self.config.forgetting:
            return torch.zeros_like(logits)
        return (logsigmoid(-logits) - math.log1p(-self.config.alpha_floor)).clamp_max(0.0)

    def _theta(self, logits: Tensor) -> Tensor:
        floor = self.config.theta_floor
        scale = self.config.theta_max / (1.0 - floor)
        return scale * (torch.sigmoid(logits) - floor).clamp_min(0.0)

    def _convolve(self, projected: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        """SiLU of the causal depthwise convolution of [B, T, W <= 3 D], and the next tail."""
        if self.filter is None:
            return silu(projected), tail
        count, width = projected.shape[1:]
        taps = self.filter[:width].to(projected.dtype).unbind(-1)
        history = torch.cat([tail, projected], 1)
        mixed = sum(
            (history[:, j : j + count] * tap for j, tap in enumerate(taps[:-1])),
            start=projected * taps[-1],
        )
        return silu(mixed), history[:, count:].clone()

    def _by_head(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, P, T, d]."""
        return x.view(*x.shape[:2], self.config.heads, -1).transpose(1, 2)


def finite(x: Tensor) -> tuple[Tensor, Tensor]:
    """x [B, T, D] with zeros for tokens that hold a NaN or an infinity, and which do not [B, T]."""
    counts = torch.isfinite(x).all(-1)
    return torch.where(counts.unsqueeze(-1), x, 0.0), counts


def compile_chunks(module: nn.Module, **options: Any) -> None:
    """Compile what a whole chunk computes, for every memory in `module` from its next call on.

    The first pass of each shape takes some seconds longer; the values stay those of plain torch
    to rounding. Chunks that a call begins or ends inside, and calls that ask for the surprise,
    are not compiled. `options` go to `torch.compile`.
    """
    for part in module.modules():
        if isinstance(part, NeuralMemory):
            part.whole_chunk = torch.compile(whole_chunk, dynamic=False, **options)


def _unit(x: Tensor) -> Tensor:
    """L2-normalised along the last dimension."""
    return x * (x.square().sum(-1, keepdim=True) + _EPSILON).rsqrt()

"""Causal attention with a constant cache: over a sliding window, and within segments.

Prefix tokens (persistent memory, section 3.3 of arXiv 2501.00663) stay visible to every token.
Positions are rotary and relative to the block at hand, so nothing grows with the stream; prefix
keys carry no position.

Letters: B rows, T tokens, D width, A attention heads, d = D / A head width, W window length,
G segment length, N prefix tokens, b tokens of a block.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from titans_stream.titans.state import RowState

_BASE = 10_000.0  # of the rotary frequencies


@dataclass(frozen=True)
class WindowState(RowState):
    """Keys and values of the last W - 1 tokens and of the prefix."""

    keys: Tensor
    """[B, A, W - 1, d], newest last, before rotation."""
    values: Tensor
    seen: Tensor
    """How many of the W - 1 places hold a token, int64 [B]."""
    prefix_keys: Tensor
    """[B, A, N, d]."""
    prefix_values: Tensor


@dataclass(frozen=True)
class SegmentState(RowState):
    """Keys and values of the segment so far, [B, A, G - 1, d] each; zero beyond."""

    keys: Tensor
    values: Tensor
    context_keys: Tensor
    context_values: Tensor


class Attention(nn.Module):
    """Projections of both kinds of attention; heads are concatenated, there is no output layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v [B, A, T, d] of x [B, T, D], in the weights' own precision."""
        shape = (*x.shape[:2], self.heads, x.shape[-1] // self.heads)
        q, k, v = (
            part.view(shape).transpose(1, 2).to(self.qkv.weight.dtype)
            for part in self.qkv(x).chunk(3, -1)
        )
        return q * q.shape[-1] ** -0.5, k, v


class WindowAttention(Attention):
    """Each token attends to itself, the W - 1 tokens before it and the prefix."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__(width, heads)
        self.window = window

    def start(self, prefix: Tensor) -> WindowState:
        """The state before the first token: prefix [B, N, D], N may be 0."""
        _, keys, values = self._project(prefix)
        rows, heads, _, width = keys.shape
        empty = keys.new_zeros((rows, heads, self.window - 1, width))
        seen = torch.zeros(rows, dtype=torch.int64, device=keys.device)
        return WindowState(empty, empty.clone(), seen, keys, values)

    def forward(self, x: Tensor, state: WindowState) -> tuple[Tensor, WindowState]:
        """x [B, T, D] -> y [B, T, D] and the next state; cost linear in T."""
        q, k, v = self._project(x)
        keys, values = torch.cat([state.keys, k], 2), torch.cat([state.values, v], 2)
        count, past = x.shape[1], self.window - 1
        seen = state.seen
        kept = WindowState(
            keys[:, :, count:].clone(),
            values[:, :, count:].clone(),
            (seen + count).clamp_max(past),
            state.prefix_keys,
            state.prefix_values,
        )
        block = min(count, self.window)
        spare = -count % block
        q, keys, values = (pad(t, (0, 0, 0, spare)) for t in (q, keys, values))
        place = torch.arange(keys.shape[2], device=x.device)
        held = (place >= past - seen[:, None]).unfold(1, block + past, block)  # [B, n, b + W - 1]
        q = q.reshape(*q.shape[:2], -1, block, q.shape[-1])  # [B, A, n, b, d]
        keys = keys.unfold(2, block + past, block).mT
        values = values.unfold(2, block + past, block).mT
        visible = _band(block, past, x.device) & held[:, None, :, None, :]
        near = rotate(q, past) @ rotate(keys, 0).mT
        near = near.masked_fill(~visible, -torch.inf)
        far = q @ state.prefix_keys.unsqueeze(2).mT
        weight = torch.cat([far, near], -1).softmax(-1)
        prefixed, local = weight.tensor_split([far.shape[-1]], -1)
        y = local @ values + prefixed @ state.prefix_values.unsqueeze(2)
        y = y.flatten(2, 3)[:, :, :count]
        return y.transpose(1, 2).flatten(2).to(x.dtype), kept


class SegmentAttention(Attention):
    """Attention over [prefix || context || segment], causal in context and segment alike.

    Context token j was made for segment token j and has its position; token t sees both up to t.
    """

    def __init__(self, width: int, heads: int, segment: int) -> None:
        super().__init__(width, heads)
        self.segment = segment

    def start(self, rows: int) -> SegmentState:
        """The state at a segment's start."""
        width = self.qkv.weight.shape[1] // self.heads
        empty = self.qkv.weight.new_zeros((rows, self.heads, self.segment - 1, width))
        return SegmentState(*(empty.clone() for _ in range(4)))

    def forward(
        self, x: Tensor, context: Tensor, prefix: Tensor, state: SegmentState, position: int
    ) -> tuple[Tensor, SegmentState]:
        """x, context [B, T, D] at `position`.. of one segment; prefix [1, N, D] -> y [B, T, D].

        After the segment's last token the state is to be replaced by `start`.
        """
        q, k, v = self._project(x)
        _, ck, cv = self._project(context)
        _, pk, pv = self._project(prefix)
        count = x.shape[1]
        keys, values, context_keys, context_values = (
            torch.cat([old[:, :, :position], new], 2)
            for old, new in zip(vars(state).values(), (k, v, ck, cv), strict=True)
        )
        end = position + count
        rows = torch.arange(position, end, device=x.device)[:, None]
        visible = torch.arange(end, device=x.device) <= rows
        turned = rotate(q, position)
        scores = [
            q @ pk.mT,
            (turned @ rotate(context_keys, 0).mT).masked_fill(~visible, -torch.inf),
            (turned @ rotate(keys, 0).mT).masked_fill(~visible, -torch.inf),
        ]
        cuts = [pk.shape[2], pk.shape[2] + end]
        far, recalled, near = torch.cat(scores, -1).softmax(-1).tensor_split(cuts, -1)
        y = far @ pv + recalled @ context_values + near @ values
        spare = (0, 0, 0, self.segment - 1 - end)
        if end < self.segment:
            state = SegmentState(
                *(pad(t, spare) for t in (keys, values, context_keys, context_values))
            )
        return y.transpose(1, 2).flatten(2).to(x.dtype), state


def rotate(x: Tensor, offset: int) -> Tensor:
    """Rotary embedding of x [..., T, d] at positions offset, offset + 1, ...; d even."""
    half = x.shape[-1] // 2
    exponent = torch.arange(half, device=x.device, dtype=torch.float64) / half
    place = torch.arange(x.shape[-2], device=x.device, dtype=torch.float64) + offset
    angle = place[:, None] * _BASE**-exponent
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def _band(block: int, past: int, device: torch.device) -> Tensor:
    """[b, b + W - 1]: key c is visible to query r if r <= c <= r + W - 1."""
    shape = (block, block + past)
    ones = torch.ones(shape, dtype=torch.bool, device=device)
    return ones.triu(0) & ones.tril(past)

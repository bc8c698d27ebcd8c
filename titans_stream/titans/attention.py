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
    held: Tensor
    """Which of the W - 1 places hold a token that counts, bool [B, W - 1]."""
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
    held: Tensor
    """Which places hold a token that counts, bool [B, G - 1]."""


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
    """Each token attends to itself, the W - 1 tokens before it and the prefix.

    Tokens that do not count are seen by themselves alone.
    """

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__(width, heads)
        self.window = window

    def start(self, prefix: Tensor) -> WindowState:
        """The state before the first token: prefix [B, N, D], N may be 0."""
        _, keys, values = self._project(prefix)
        rows, heads, _, width = keys.shape
        empty = keys.new_zeros((rows, heads, self.window - 1, width))
        held = torch.zeros(rows, self.window - 1, dtype=torch.bool, device=keys.device)
        return WindowState(empty, empty.clone(), held, keys, values)

    def forward(self, x: Tensor, state: WindowState, counts: Tensor) -> tuple[Tensor, WindowState]:
        """x [B, T, D], which count [B, T] -> y [B, T, D] and the next state; cost linear in T."""
        q, k, v = self._project(x)
        keys, values = torch.cat([state.keys, k], 2), torch.cat([state.values, v], 2)
        held = torch.cat([state.held, counts], 1)
        count, past = x.shape[1], self.window - 1
        kept = WindowState(
            keys[:, :, count:].clone(),
            values[:, :, count:].clone(),
            held[:, count:].clone(),
            state.prefix_keys,
            state.prefix_values,
        )
        block = min(count, self.window)
        spare = -count % block
        q, keys, values = (pad(t, (0, 0, 0, spare)) for t in (q, keys, values))
        held = pad(held, (0, spare)).unfold(1, block + past, block)  # [B, n, b + W - 1]
        q = q.reshape(*q.shape[:2], -1, block, q.shape[-1])  # [B, A, n, b, d]
        keys = keys.unfold(2, block + past, block).mT
        values = values.unfold(2, block + past, block).mT
        band, own = _band(block, past, x.device)
        visible = own | band & held[:, None, :, None, :]
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
        held = empty.new_zeros((rows, self.segment - 1), dtype=torch.bool)
        return SegmentState(empty, empty.clone(), empty.clone(), empty.clone(), held)

    def forward(
        self,
        tokens: tuple[Tensor, Tensor],
        prefix: Tensor,
        state: SegmentState,
        position: int | Tensor,
        counts: Tensor,
    ) -> tuple[Tensor, SegmentState]:
        """Tokens x and context [B, T, D] at `position`.. of one segment -> y [B, T, D].

        prefix [1, N, D]; counts bool [B, T]; a position per row int64 [B] is for single tokens.
        After the segment's last token the state is to be replaced by `start`.
        """
        x, context = tokens
        q, k, v = self._project(x)
        _, ck, cv = self._project(context)
        _, pk, pv = self._project(prefix)
        keys, values, context_keys, context_values = (
            self._placed(old, new, position)
            for old, new in zip(
                (state.keys, state.values, state.context_keys, state.context_values),
                (k, v, ck, cv),
                strict=True,
            )
        )
        held = self._placed(state.held[:, None, :, None], counts[:, None, :, None], position)
        at = torch.arange(x.shape[1], device=x.device)
        at = at + (position if isinstance(position, int) else position[:, None, None])
        places = torch.arange(keys.shape[2], device=x.device)
        own = places == at.unsqueeze(-1)
        visible = own | (places <= at.unsqueeze(-1)) & held.mT
        turned = rotate(q, position)
        scores = [
            q @ pk.mT,
            (turned @ rotate(context_keys, 0).mT).masked_fill(~visible, -torch.inf),
            (turned @ rotate(keys, 0).mT).masked_fill(~visible, -torch.inf),
        ]
        cuts = [pk.shape[2], pk.shape[2] + keys.shape[2]]
        far, recalled, near = torch.cat(scores, -1).softmax(-1).tensor_split(cuts, -1)
        y = far @ pv + recalled @ context_values + near @ values
        after = SegmentState(
            self._kept(keys), self._kept(values), self._kept(context_keys),
            self._kept(context_values), self._kept(held)[:, 0, :, 0],
        )  # fmt: skip
        return y.transpose(1, 2).flatten(2).to(x.dtype), after

    def _placed(self, old: Tensor, new: Tensor, position: int | Tensor) -> Tensor:
        """The segment so far [B, A, E, d]: `old` [B, A, G - 1, d] with `new` from `position` on.

        E is up to the last token, or all of the segment where rows differ.
        """
        if isinstance(position, int):
            return torch.cat([old[:, :, :position], new], 2)
        at = torch.arange(self.segment, device=old.device) == position[:, None]
        return torch.where(at[:, None, :, None], new, pad(old, (0, 0, 0, 1)))

    def _kept(self, placed: Tensor) -> Tensor:
        """[B, A, E, d] -> [B, A, G - 1, d]."""
        spare = self.segment - 1 - placed.shape[2]
        return pad(placed, (0, 0, 0, spare)) if spare >= 0 else placed[:, :, :spare].clone()


def rotate(x: Tensor, offset: int | Tensor) -> Tensor:
    """Rotary embedding of x [B, A, T, d] at positions offset, offset + 1, ...; d even.

    `offset`: one number, or one per row [B].
    """
    half = x.shape[-1] // 2
    exponent = torch.arange(half, device=x.device, dtype=torch.float64) / half
    place = torch.arange(x.shape[-2], device=x.device, dtype=torch.float64)
    place = place + (offset if isinstance(offset, int) else offset[:, None, None])
    angle = place.unsqueeze(-1) * _BASE**-exponent
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def _band(block: int, past: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """[b, b + W - 1]: key c is visible to query r if r <= c <= r + W - 1, its own at the end."""
    shape = (block, block + past)
    ones = torch.ones(shape, dtype=torch.bool, device=device)
    band = ones.triu(0) & ones.tril(past)
    return band, band & ones.triu(past)

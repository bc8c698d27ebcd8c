"""The recurrence of the neural memory over rows: state in, state out, chunk by chunk.

Between folds the weights are only read: a state holds the weights and momentum of the chunk's
start and the rank-one factors of the tokens since, at most C - 1 of them. Outputs and state do
not depend on how a sequence is cut into calls (section 3.2 of arXiv 2501.00663).

Letters: B rows (series), T tokens, D width, P heads, H hidden width, L_M depth, C chunk length,
n tokens in the chunk being filled, I and O a layer's input and output width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from titans_stream.memory.rule import clip_scale
from titans_stream.titans import chunk as closed_form
from titans_stream.titans.chunk import Gradients, Layers
from titans_stream.titans.config import MemoryConfig
from titans_stream.titans.scan import Decays, decays, last
from titans_stream.titans.state import RowState, concatenate, rows_by_count

WholeChunk = Callable[..., tuple[Tensor, Layers]]
"""`chunk.whole_chunk`, or a compiled one."""

_CHUNKS_AT_ONCE = 32  # chunks that decay matrices are made for at a time


@dataclass(frozen=True)
class MemoryState(RowState):
    """What B series have learned. The rank-one factors are those of the chunk being filled."""

    weights: tuple[Tensor, ...]
    """M at the chunk's start, per layer [B, P, O, I]."""
    momentum: tuple[Tensor, ...]
    """S at the chunk's start, the same shapes; empty without momentum."""
    inputs: tuple[Tensor, ...]
    """h_{l-1} of each layer [B, P, C - 1, I]; zero from `filled` on."""
    errors: tuple[Tensor, ...]
    """g_l of each layer [B, P, C - 1, O]."""
    gates: Tensor
    """log(1 - alpha), log eta, theta and the step -theta min(1, clip / norm) [B, P, C - 1, 4]."""
    filled: Tensor
    """Tokens in the chunk being filled, int64 [B], 0 to C - 1."""
    tail: Tensor
    """Last projections, for the convolution [B, taps - 1, 3 D]."""


class Surprise(NamedTuple):
    """How unexpected each token was, over all heads, before the memory learned it; [B, T]."""

    momentary: Tensor
    """Norm of the loss' gradient before clipping (eq. 8)."""
    loss: Tensor
    """|| M(k_t) - v_t ||^2 (eq. 12)."""
    past: Tensor
    """Norm of S_t (eq. 10), with this token in it."""


class Tokens(NamedTuple):
    """What the recurrence reads of T tokens: q, k, v [B, P, T, d] and the gates."""

    q: Tensor
    k: Tensor
    v: Tensor
    gates: Tensor
    """log(1 - alpha), log eta and theta [B, P, T, 3]."""


def recur(
    config: MemoryConfig,
    state: MemoryState,
    tokens: Tokens,
    fresh: bool = False,
    surprise: bool = False,
    whole: WholeChunk = closed_form.whole_chunk,
) -> tuple[Tensor, MemoryState, Surprise | None]:
    """Read and learn T tokens: y [B, P, T, d], the next state, the surprise if asked for.

    Rows at different places in their chunk are taken in groups. `fresh` says that every chunk
    is empty, which spares a look at the state; `whole` computes chunks that start and end here.
    """
    if fresh or config.chunk == 1:
        return _recur_aligned(config, state, 0, tokens, surprise, whole)
    groups = rows_by_count(state.filled)
    if len(groups) == 1:
        return _recur_aligned(config, state, groups[0][0], tokens, surprise, whole)
    results = [
        _recur_aligned(
            config, state.gather(rows), fill, Tokens(*(t[rows] for t in tokens)), surprise, whole
        )
        for fill, rows in groups
    ]
    order = torch.argsort(torch.cat([rows for _, rows in groups]))
    y = torch.cat([r[0] for r in results])[order]
    joined: MemoryState = concatenate([r[1] for r in results], order)
    found = [r[2] for r in results if r[2] is not None]
    merged = Surprise(*(torch.cat(s)[order] for s in zip(*found, strict=True))) if found else None
    return y, joined, merged


def current_weights(config: MemoryConfig, state: MemoryState) -> Layers:
    """M_t itself, per layer [B, P, O, I]: the chunk being filled folded in (eq. 13)."""
    groups = rows_by_count(state.filled)
    parts = []
    for fill, rows in groups:
        part = state if len(groups) == 1 else state.gather(rows)
        if fill:
            stacks, gates = _stack(part), _flat(part.gates)[:, :fill]
            found = Gradients(_first(part.inputs, fill), _first(part.errors, fill))
            stacks = closed_form.fold(stacks, found, gates[..., 3], _decays(config, gates))
            part = _unstack(config, part, stacks, found, gates, part.gates.shape[:2])
        parts.append(part.weights)
    if len(groups) == 1:
        return parts[0]
    order = torch.argsort(torch.cat([rows for _, rows in groups]))
    return tuple(torch.cat(layer)[order] for layer in zip(*parts, strict=True))


class _Piece(NamedTuple):
    """Tokens of one chunk, those of earlier calls included in the decays."""

    tokens: Tokens
    decays: Decays
    complete: bool


def _recur_aligned(
    config: MemoryConfig,
    state: MemoryState,
    fill: int,
    tokens: Tokens,
    surprise: bool,
    whole: WholeChunk,
) -> tuple[Tensor, MemoryState, Surprise | None]:
    """`recur` for rows that all have `fill` tokens in their chunk.

    Rows and heads are one dimension here, N = B P.
    """
    grid, count = tokens.q.shape[:2], tokens.q.shape[2]
    flat = Tokens(*(_flat(t) for t in tokens))
    stacks = _stack(state)
    found = Gradients(_first(state.inputs, fill), _first(state.errors, fill))
    gates = _flat(state.gates)[:, :fill]
    ys: list[Tensor] = []
    seen: list[tuple[Tensor, Tensor, Tensor]] = []
    for piece in _pieces(config, flat, gates):
        q, k, v, new_gates = piece.tokens
        if piece.complete and q.shape[1] == config.chunk and not surprise:
            theta, clip = new_gates[..., 2], config.clip
            y, stacks = whole(stacks, q, k, v, theta, piece.decays, clip, config.residual)
            ys.append(y)
            continue
        weights = tuple(s[:, :i] for s, (_, i) in zip(stacks, config.layer_shapes, strict=True))
        new = closed_form.surprise_gradients(weights, k, v, config.residual)
        squared = new.squared_norm() if surprise or config.clip is not None else None
        new_gates = _with_step(new_gates, squared, config.clip)
        gates = torch.cat([gates, new_gates], 1) if gates.shape[1] else new_gates
        found = _join(found, new)
        step, recent = gates[..., 3], last(piece.decays, q.shape[1])
        ys.append(closed_form.retrieve_within(stacks, found, step, recent, q, config.residual))
        if squared is not None and surprise:
            past = closed_form.past_squared_norm(stacks, found, step, recent)
            seen.append((squared, new.loss(), past))
        if piece.complete:
            stacks = closed_form.fold(stacks, found, step, piece.decays)
            gates, found = gates[:, :0], Gradients(*(_empty(f) for f in found))
    after = _unstack(config, state, stacks, found, gates, grid)
    y = torch.cat(ys, 1).view(*grid, count, -1)
    return y, after, _surprise(seen, grid) if surprise else None


def _pieces(config: MemoryConfig, tokens: Tokens, before: Tensor) -> Iterator[_Piece]:
    """Cut T tokens where chunks end.

    `before` [N, n, 4] are the open chunk's gates so far.
    """
    size, fill, count = config.chunk, before.shape[1], tokens.q.shape[1]
    if config.gates == "chunk":
        tokens = tokens._replace(gates=_hold(tokens.gates, before[..., :3], size))
    head = min(size - fill, count) if fill else 0
    full = (count - head) // size
    rest = count - head - full * size
    cuts = [n for n in (head, *[size] * full, rest) if n]
    parts = [Tokens(*part) for part in zip(*(torch.split(t, cuts, 1) for t in tokens), strict=True)]
    if head:
        first, *parts = parts
        gates = torch.cat([before[..., :3], first.gates], 1)
        yield _Piece(first, _decays(config, gates), fill + head == size)
    aligned = tokens.gates[:, head : head + full * size]
    aligned = aligned.reshape(aligned.shape[0], full, size, 3)
    for group in torch.split(aligned, _CHUNKS_AT_ONCE, 1) if full else ():
        taken = group.shape[1]
        factors = zip(*_unbind(_decays(config, group), taken), strict=True)
        for part, factor in zip(parts[:taken], factors, strict=True):
            yield _Piece(part, Decays(*factor), True)
        parts = parts[taken:]
    if rest:
        yield _Piece(parts[0], _decays(config, parts[0].gates), False)


def _decays(config: MemoryConfig, gates: Tensor) -> Decays:
    return decays(gates[..., 0], gates[..., 1] if config.momentum else None)


def _unbind(factors: Decays, count: int) -> list[tuple[Tensor | None, ...]]:
    return [(None,) * count if f is None else f.unbind(1) for f in factors]


def _hold(gates: Tensor, before: Tensor, size: int) -> Tensor:
    """Gates [N, T, 3] with those of each chunk's first token in every place of the chunk."""
    fill, count = before.shape[1], gates.shape[1]
    place = torch.arange(count, device=gates.device) + fill
    first = place - place % size - fill
    held = gates.index_select(1, first.clamp_min(0))
    return torch.where((first < 0)[:, None], before[:, :1], held) if fill else held


def _with_step(gates: Tensor, squared_norm: Tensor | None, clip: float | None) -> Tensor:
    """Gates [N, T, 3] and the step -theta, shortened where the gradient is clipped: [N, T, 4]."""
    step = -gates[..., 2]
    if clip is not None and squared_norm is not None:
        step = step * clip_scale(squared_norm, clip)
    return torch.cat([gates, step.unsqueeze(-1)], -1)


def _surprise(seen: list[tuple[Tensor, Tensor, Tensor]], grid: torch.Size) -> Surprise:
    squared, loss, past = (
        torch.cat(column, 1).view(*grid, -1).sum(1) for column in zip(*seen, strict=True)
    )
    return Surprise(_root(squared), loss, _root(past))


def _root(squares: Tensor) -> Tensor:
    """The square root, with gradient 0 at 0 like that of a norm."""
    positive = squares > 0
    return torch.where(positive, squares, 1.0).sqrt() * positive


def _stack(state: MemoryState) -> Layers:
    """Each layer as [B P, J I, O]: weights transposed, momentum below them."""
    weights = [_flat(w).mT for w in state.weights]
    if not state.momentum:
        return tuple(weights)
    return tuple(
        torch.cat([w, _flat(s).mT], 1) for w, s in zip(weights, state.momentum, strict=True)
    )


def _unstack(
    config: MemoryConfig,
    state: MemoryState,
    stacks: Layers,
    found: Gradients,
    gates: Tensor,
    grid: torch.Size,
) -> MemoryState:
    """The state of rows that stand as given; `state` supplies what the recurrence leaves alone."""
    split = [
        (s[:, :i].mT.reshape(*grid, o, i), s[:, i:].mT.reshape(*grid, -1, i))
        for s, (o, i) in zip(stacks, config.layer_shapes, strict=True)
    ]
    spare = (0, 0, 0, config.chunk - 1 - gates.shape[1])
    inputs, errors = (
        tuple(pad(f, spare).view(*grid, config.chunk - 1, f.shape[-1]) for f in factors)
        for factors in found
    )
    return replace(
        state,
        weights=tuple(w for w, _ in split),
        momentum=tuple(s for _, s in split) if config.momentum else (),
        inputs=inputs,
        errors=errors,
        gates=pad(gates, spare).view(*grid, config.chunk - 1, 4),
        filled=torch.full_like(state.filled, gates.shape[1]),
    )


def _join(old: Gradients, new: Gradients) -> Gradients:
    if not old.inputs[0].shape[1]:
        return new
    inputs, errors = (
        tuple(torch.cat(pair, 1) for pair in zip(a, b, strict=True))
        for a, b in zip(old, new, strict=True)
    )
    return Gradients(inputs, errors)


def _first(layers: Layers, count: int) -> Layers:
    """The first `count` tokens of [B, P, C - 1, ...], rows and heads as one dimension."""
    return tuple(_flat(layer)[:, :count] for layer in layers)


def _empty(layers: Layers) -> Layers:
    return tuple(layer[:, :0] for layer in layers)


def _flat(x: Tensor) -> Tensor:
    """[B, P, ...] -> [B P, ...], contiguous."""
    return x.flatten(0, 1).contiguous()

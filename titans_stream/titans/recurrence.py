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

from titans_stream.titans import chunk as closed_form
from titans_stream.titans.chunk import Gradients, Layers, Rule, root
from titans_stream.titans.config import MemoryConfig
from titans_stream.titans.scan import Decays, decays, last
from titans_stream.titans.state import RowState, common

WholeChunk = Callable[..., tuple[Tensor, Layers]]
"""`chunk.whole_chunk`, or a compiled one."""

_CLOSED = -1e4  # log eta of a token that does not count
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
    """log(1 - alpha), log eta, theta and whether the token counts (0 or 1) [B, P, C - 1, 4]."""
    filled: Tensor
    """Tokens in the chunk being filled, int64 [B], 0 to C - 1."""
    tail: Tensor
    """Last projections, for the convolution [B, taps - 1, 3 D]."""


class Surprise(NamedTuple):
    """How unexpected each token was, over all heads, before the memory learned it; [B, T].

    0 for a token that does not count.
    """

    momentary: Tensor
    """Norm of the loss' gradient before clipping (eq. 8)."""
    loss: Tensor
    """|| M(k_t) - v_t ||^2 (eq. 12), or Huber's loss."""
    past: Tensor
    """Norm of S_t (eq. 10), with this token in it."""


class Tokens(NamedTuple):
    """What the recurrence reads of T tokens: q, k, v [B, P, T, d] and the gates."""

    q: Tensor
    k: Tensor
    v: Tensor
    gates: Tensor
    """log(1 - alpha), log eta, theta and whether the token counts (0 or 1) [B, P, T, 4]."""


def recur(
    config: MemoryConfig,
    state: MemoryState,
    tokens: Tokens,
    fresh: bool = False,
    surprise: bool = False,
    whole: WholeChunk = closed_form.whole_chunk,
) -> tuple[Tensor, MemoryState, Surprise | None]:
    """Read and learn T tokens: y [B, P, T, d], the next state, the surprise if asked for.

    `fresh` says that every chunk is empty, which spares a look at the state; `whole` computes
    chunks that start and end here.
    """
    fill = 0 if fresh or config.chunk == 1 else common(state.filled)
    if fill is None:
        return _recur_ragged(config, state, tokens, surprise)
    return _recur_aligned(config, state, fill, tokens, surprise, whole)


def current_weights(config: MemoryConfig, state: MemoryState) -> Layers:
    """M_t itself, per layer [B, P, O, I]: the chunk being filled folded in (eq. 13)."""
    grid, size = state.gates.shape[:2], config.chunk - 1
    if not size:
        return state.weights
    stacks, gates = _stack(state), _flat(state.gates)
    found = Gradients(_first(state.inputs, size), _first(state.errors, size))
    step = closed_form.bounded_steps(Rule.of(config), _theta(gates), found, found.squared_norm())
    filled = state.filled.repeat_interleave(grid[1])
    whole = _decays(config, gates)
    at = (filled - 1).clamp_min(0)[:, None, None]
    row = whole._replace(
        ends=whole.read.take_along_dim(at, 1), folds=whole.write.take_along_dim(at, 1).mT
    )
    some = (filled > 0)[:, None, None]
    return tuple(
        torch.where(some, folded.mT, _flat(w)).view(w.shape)
        for folded, w in zip(closed_form.fold(stacks, found, step, row), state.weights, strict=True)
    )


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
    rule = Rule.of(config)
    stacks = _stack(state)
    found = Gradients(_first(state.inputs, fill), _first(state.errors, fill))
    gates = _flat(state.gates)[:, :fill]
    ys: list[Tensor] = []
    seen: list[Tensor] = []
    for piece in _pieces(config, Tokens(*(_flat(t) for t in tokens)), gates):
        q, k, v, new_gates = piece.tokens
        if piece.complete and q.shape[1] == config.chunk and not surprise:
            y, stacks = whole(stacks, q, k, v, _theta(new_gates), piece.decays, rule)
            ys.append(y)
            continue
        new, off = closed_form.surprise_gradients(_weights(config, stacks), k, v, rule)
        gates = torch.cat([gates, new_gates], 1) if gates.shape[1] else new_gates
        found = _join(found, new)
        squared = found.squared_norm()
        step = closed_form.bounded_steps(rule, _theta(gates), found, squared)
        recent = last(piece.decays, q.shape[1])
        ys.append(closed_form.retrieve_within(stacks, found, step, recent, q, rule.residual))
        if surprise:
            past = closed_form.past_squared_norm(stacks, found, step, recent)
            parts = torch.stack([squared[:, -q.shape[1] :], rule.loss(off), past], -1)
            seen.append(parts * new_gates[..., 3:])
        if piece.complete:
            stacks = closed_form.fold(stacks, found, step, piece.decays)
            gates, found = gates[:, :0], Gradients(*(_empty(f) for f in found))
    spare = (0, 0, 0, config.chunk - 1 - gates.shape[1])
    found = Gradients(*(tuple(pad(f, spare) for f in factors) for factors in found))
    filled = torch.full_like(state.filled, gates.shape[1])
    after = _unstack(config, state, stacks, found, pad(gates, spare), filled)
    y = torch.cat(ys, 1).view(*grid, count, -1)
    return y, after, _surprise(torch.cat(seen, 1), grid) if surprise else None


def _recur_ragged(
    config: MemoryConfig, state: MemoryState, tokens: Tokens, surprise: bool
) -> tuple[Tensor, MemoryState, Surprise | None]:
    """`recur` for rows that stand at different places of their chunk, or at unknown ones.

    Chunk after chunk of every row at once; what a row does not reach is computed and left. Shapes
    do not depend on the places.
    """
    grid, count, size = tokens.q.shape[:2], tokens.q.shape[2], config.chunk
    rule = Rule.of(config)
    flat = Tokens(*(_flat(t) for t in tokens))
    stacks = _stack(state)
    filled = state.filled.repeat_interleave(grid[1])
    one = (0, 0, 0, 1)
    place = torch.arange(size, device=filled.device) - filled[:, None]
    gates = pad(_flat(state.gates), one)
    old = Gradients(*(tuple(pad(_flat(f), one) for f in fs) for fs in (state.inputs, state.errors)))
    kept, kept_gates = old, gates
    ys: list[Tensor] = []
    seen: list[Tensor] = []
    for chunk in range((2 * size + count - 2) // size):
        index = place + chunk * size
        is_new = ((index >= 0) & (index < count)).unsqueeze(-1)
        taken = index.clamp(0, count - 1).unsqueeze(-1)
        q, k, v, fresh = (t.take_along_dim(taken, 1) for t in flat)
        gates = torch.where(is_new, fresh, gates)
        if config.gates == "chunk":
            gates = torch.cat([gates[:, :1, :3].expand(-1, size, -1), gates[..., 3:]], -1)
        new, off = closed_form.surprise_gradients(_weights(config, stacks), k, v, rule)
        found = _where(is_new, new, old)
        squared, whole = found.squared_norm(), _decays(config, gates)
        step = closed_form.bounded_steps(rule, _theta(gates), found, squared)
        ys.append(closed_form.retrieve_within(stacks, found, step, whole, q, rule.residual))
        if surprise:
            past = closed_form.past_squared_norm(stacks, found, step, whole)
            parts = torch.stack([squared, rule.loss(off), past], -1)
            seen.append(parts * gates[..., 3:])
        there = (filled + count - chunk * size)[:, None, None]  # tokens in this chunk by now
        folded = closed_form.fold(stacks, found, step, whole)
        stacks = tuple(
            torch.where(there >= size, a, b) for a, b in zip(folded, stacks, strict=True)
        )
        is_open = (there >= 0) & (there < size)
        kept, kept_gates = _where(is_open, found, kept), torch.where(is_open, gates, kept_gates)
        gates, old = torch.zeros_like(gates), found
    filled = (state.filled + count) % size
    held = torch.arange(size - 1, device=filled.device) < filled.repeat_interleave(grid[1])[:, None]
    held = held.unsqueeze(-1)
    left = Gradients(*(tuple(torch.where(held, f[:, :-1], 0.0) for f in fs) for fs in kept))
    after = _unstack(
        config, state, stacks, left, torch.where(held, kept_gates[:, :-1], 0.0), filled
    )
    own = (torch.arange(count, device=filled.device) - place[:, :1]).unsqueeze(-1)
    y = torch.cat(ys, 1).take_along_dim(own, 1).view(*grid, count, -1)
    if not surprise:
        return y, after, None
    return y, after, _surprise(torch.cat(seen, 1).take_along_dim(own, 1), grid)


def _pieces(config: MemoryConfig, tokens: Tokens, before: Tensor) -> Iterator[_Piece]:
    """Cut T tokens where chunks end.

    `before` [N, n, 4] are the open chunk's gates so far.
    """
    size, fill, count = config.chunk, before.shape[1], tokens.q.shape[1]
    if config.gates == "chunk":
        tokens = tokens._replace(gates=_hold(tokens.gates, before, size))
    head = min(size - fill, count) if fill else 0
    full = (count - head) // size
    rest = count - head - full * size
    cuts = [n for n in (head, *[size] * full, rest) if n]
    parts = [Tokens(*part) for part in zip(*(torch.split(t, cuts, 1) for t in tokens), strict=True)]
    if head:
        first, *parts = parts
        gates = torch.cat([before, first.gates], 1)
        yield _Piece(first, _decays(config, gates), fill + head == size)
    aligned = tokens.gates[:, head : head + full * size]
    aligned = aligned.reshape(aligned.shape[0], full, size, 4)
    for group in torch.split(aligned, _CHUNKS_AT_ONCE, 1) if full else ():
        taken = group.shape[1]
        factors = zip(*_unbind(_decays(config, group), taken), strict=True)
        for part, factor in zip(parts[:taken], factors, strict=True):
            yield _Piece(part, Decays(*factor), True)
        parts = parts[taken:]
    if rest:
        yield _Piece(parts[0], _decays(config, parts[0].gates), False)


def _weights(config: MemoryConfig, stacks: Layers) -> Layers:
    """The weights alone, per layer [N, I, O]."""
    return tuple(s[:, :i] for s, (_, i) in zip(stacks, config.layer_shapes, strict=True))


def _theta(gates: Tensor) -> Tensor:
    """theta [...] of gates [..., 4]; 0 for tokens that do not count."""
    return gates[..., 2] * gates[..., 3]


def _decays(config: MemoryConfig, gates: Tensor) -> Decays:
    """The coefficients of gates [..., 4]; a token that does not count ends the momentum."""
    log_keep, log_eta, _, counts = gates.unbind(-1)
    eta = torch.where(counts > 0, log_eta, _CLOSED) if config.momentum else None
    return decays(log_keep * counts, eta)


def _unbind(factors: Decays, count: int) -> list[tuple[Tensor | None, ...]]:
    return [(None,) * count if f is None else f.unbind(1) for f in factors]


def _hold(gates: Tensor, before: Tensor, size: int) -> Tensor:
    """Gates [N, T, 4] with those of each chunk's first token in every place of the chunk."""
    fill, count = before.shape[1], gates.shape[1]
    place = torch.arange(count, device=gates.device) + fill
    first = place - place % size - fill
    held = gates.index_select(1, first.clamp_min(0))
    held = torch.where((first < 0)[:, None], before[:, :1], held) if fill else held
    return torch.cat([held[..., :3], gates[..., 3:]], -1)


def _surprise(seen: Tensor, grid: tuple[int, ...]) -> Surprise:
    """Of squared norm, loss and squared momentum norm [N, T, 3]."""
    squared, loss, past = seen.view(*grid, -1, 3).sum(1).unbind(-1)
    return Surprise(root(squared), loss, root(past))


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
    filled: Tensor,
) -> MemoryState:
    """The state of stacks and of C - 1 places each of factors and gates, rows and heads apart."""
    grid = state.gates.shape[:2]
    split = [
        (s[:, :i].mT.reshape(*grid, o, i), s[:, i:].mT.reshape(*grid, -1, i))
        for s, (o, i) in zip(stacks, config.layer_shapes, strict=True)
    ]
    inputs, errors = (tuple(f.view(*grid, *f.shape[1:]) for f in factors) for factors in found)
    return replace(
        state,
        weights=tuple(w for w, _ in split),
        momentum=tuple(s for _, s in split) if config.momentum else (),
        inputs=inputs,
        errors=errors,
        gates=gates.view(*grid, *gates.shape[1:]),
        filled=filled,
    )


def _join(old: Gradients, new: Gradients) -> Gradients:
    if not old.inputs[0].shape[1]:
        return new
    inputs, errors = (
        tuple(torch.cat(pair, 1) for pair in zip(a, b, strict=True))
        for a, b in zip(old, new, strict=True)
    )
    return Gradients(inputs, errors)


def _where(mask: Tensor, a: Gradients, b: Gradients) -> Gradients:
    inputs, errors = (
        tuple(torch.where(mask, x, y) for x, y in zip(fa, fb, strict=True))
        for fa, fb in zip(a, b, strict=True)
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

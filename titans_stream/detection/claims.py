"""How far the members of an asset are believed: their rarities, against how often such ones came.

Each member of an asset has a rarity of its own. Were each right and the members independent, the
rarest of them would be right by the sum of their shares of the budget. But members fail together,
and where values shift in earnest their tails are heavier than they say: what is stated to come
once in years comes each week. So the largest claim of each block of an asset's frames is kept: how
many blocks have one above LEAST, and by how much in the mean. Claims that are right count for some
blocks of history; claims that came less often than they say are believed more, GAIN times at most.
"""

from __future__ import annotations

import math
from typing import Annotated

from titans_stream.jit import njit
from titans_stream.memory.rows import Record
from titans_stream.records import Float64

BLOCK = 100.0
SHARE = 1.0 / 3.0
"""Of an asset's budget for its members one by one, divided evenly among them."""
LEAST = 0.5
"""A claim above it counts; claims that are right do in SHARE / 3 of the blocks."""
RATE_BLOCKS = 5.0
EXCESS_CLAIMS = 2.0
"""Blocks, and claims in the mean excess, that claims which are right count for."""
DECAY = 0.998
"""Per block."""
WINSOR = 3.0
"""Mean excesses that a claim adds at most."""
WAIT = 8
"""Blocks until a claim above LEAST counts: an event makes neither itself nor the next one usual."""
GAIN = 2.0
_UNIT = 1.0 / math.log(10.0)
"""The mean excess of claims that are right, in decades."""
_WINSOR_FACTOR = 1.0 / (1.0 - math.exp(-WINSOR))
_DUE = SHARE * 10.0**-LEAST


class Claims(Record):
    """The largest claims of an asset's past blocks."""

    seen: float
    top: float
    """Frames of the block that is being filled, and its largest claim."""
    filled: float
    waiting: Annotated[Float64, WAIT]
    """Blocks so far, and the largest claims of the newest, 0 where not above LEAST; by k % WAIT."""
    blocks: float
    passed: float
    excess: float
    """Decaying numbers of blocks and of those with a claim above LEAST, and the sum of what is
    above."""


@njit(inner=True)
def stated(rarity: float, members: float) -> float:
    """The claim of so many members, of which the rarest has this rarity."""
    return rarity + math.log10(SHARE / members)


@njit(inner=True)
def _mean_excess(state: Claims) -> float:
    mean: float = (EXCESS_CLAIMS * _UNIT + state.excess) / (EXCESS_CLAIMS + state.passed)
    return mean


@njit(inner=True)
def believed(state: Claims, claim: float) -> float:
    """-log10 of how often, per 100 frames, a claim like this comes; -inf stays what it is."""
    rate = (RATE_BLOCKS * _DUE + state.passed) / (RATE_BLOCKS + state.blocks)
    above = claim - LEAST
    if above > 0.0:
        above *= _UNIT / _mean_excess(state)
    found: float = LEAST + above - math.log10(max(rate / _DUE, 1.0 / GAIN))
    return found


@njit(inner=True)
def judge(state: Claims, claim: float) -> float:
    """As `believed`, of the next frame's claim, which then enters."""
    found = believed(state, claim)
    learn(state, claim)
    return found


@njit(inner=True)
def learn(state: Claims, claim: float) -> None:
    """Take a frame's claim in."""
    state.top = claim if state.seen == 0.0 else max(state.top, claim)
    state.seen += 1.0
    if state.seen < BLOCK:
        return
    state.seen = 0.0
    most = WINSOR * _mean_excess(state)
    place = int(state.filled) % WAIT
    known = state.waiting[place]
    state.waiting[place] = state.top if state.top > LEAST else 0.0
    state.filled += 1.0
    state.blocks = DECAY * state.blocks
    state.passed *= DECAY
    state.excess *= DECAY
    if state.top <= LEAST:
        state.blocks += 1.0
    if known > 0.0:
        state.blocks += 1.0
        state.passed += 1.0
        state.excess += min(known - LEAST, most) * _WINSOR_FACTOR

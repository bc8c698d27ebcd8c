"""The second stage: what is rare waits before it becomes usual."""

from __future__ import annotations

import numpy as np
import pytest

from titans_stream.detection import tail
from titans_stream.jit import njit
from titans_stream.memory.rows import ArraySpec

SPACE = tail.Space(np.empty(3), np.empty(3))


@njit()
def learn(state: tail.Tail, statistic: float, space: tail.Space) -> None:
    tail.learn(state, statistic, space)


@njit()
def rarity(state: tail.Tail, statistic: float, space: tail.Space) -> float:
    return tail.rarity(state, statistic, space)


def fresh() -> np.record:
    return ArraySpec.of(tail.Tail).rows(1).view(np.recarray)[0]


def feed(state: np.record, maxima: list[float]) -> None:
    """Blocks with the given maxima."""
    for top in maxima:
        for i in range(int(tail.BLOCK)):
            learn(state, top if i == 40 else -0.5, SPACE)


def test_a_rare_maximum_waits_and_then_counts() -> None:
    state = fresh()
    feed(state, [0.1] * 10)
    count = state.k_sum
    feed(state, [1.2])
    assert state.waiting.max() == 1.2
    assert state.k_sum == pytest.approx(tail.COUNT_DECAY * count)
    before = rarity(state, 1.2, SPACE)
    feed(state, [0.1] * (tail.WAIT - 1))
    assert state.ended[2] == 0.0
    assert rarity(state, 1.2, SPACE) == pytest.approx(before, abs=0.15)
    feed(state, [0.1])
    assert state.ended[2] == 1.0
    assert state.n_sum == 1.0
    assert state.waiting.max() == 0.0
    assert rarity(state, 1.2, SPACE) < before - 0.3


def test_an_ordinary_maximum_counts_at_once() -> None:
    state = fresh()
    feed(state, [0.1, 0.05, -0.2])
    assert state.k_sum == pytest.approx(sum(tail.COUNT_DECAY**i for i in range(3)))
    assert (state.waiting == 0.0).all()


def test_what_waits_is_always_above_zero() -> None:
    """Zero stands for an empty place."""
    state = fresh()
    feed(state, [-0.5] * 3000)
    assert rarity(state, 0.0, SPACE) > tail.WAIT_ABOVE  # rare, but not of the tail
    count = state.k_sum
    feed(state, [-0.1])
    assert (state.waiting == 0.0).all()
    assert state.k_sum == pytest.approx(tail.COUNT_DECAY * count + 1.0)


def test_a_delay_changes_no_rate_where_maxima_come_in_no_order() -> None:
    rng = np.random.default_rng(0)
    tops = np.clip(rng.exponential(0.16, (4, 3000)) - 0.05, None, 1.5)
    above = 0
    for row in tops:
        state = fresh()
        for top in row:
            above += rarity(state, top, SPACE) >= 1.5
            feed(state, [top])
    assert above / tops.size == pytest.approx(10**-1.5, rel=0.3)

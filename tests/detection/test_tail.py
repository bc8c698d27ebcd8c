"""The second stage: what is rare waits before it becomes usual."""

from __future__ import annotations

import numpy as np
import pytest

from titans_stream.detection import tail


def fresh() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.zeros(tail.TAIL), np.empty(3), np.empty(3)


def feed(state: np.ndarray, maxima: list[float], scratch: tuple[np.ndarray, np.ndarray]) -> None:
    """Blocks with the given maxima."""
    for top in maxima:
        for i in range(int(tail.BLOCK)):
            tail.learn(state, top if i == 40 else -0.5, *scratch)


def test_a_rare_maximum_waits_and_then_counts() -> None:
    state, *scratch = fresh()
    feed(state, [0.1] * 10, scratch)
    count = state[tail.K_SUM]
    feed(state, [1.2], scratch)
    assert state[tail.WAITING : tail.WAITING + tail.WAIT].max() == 1.2
    assert state[tail.K_SUM] == pytest.approx(tail.COUNT_DECAY * count)
    before = tail.rarity(state, 1.2, *scratch)
    feed(state, [0.1] * (tail.WAIT - 1), scratch)
    assert state[tail.M + 2] == 0.0
    assert tail.rarity(state, 1.2, *scratch) == pytest.approx(before, abs=0.15)
    feed(state, [0.1], scratch)
    assert state[tail.M + 2] == 1.0
    assert state[tail.N_SUM] == 1.0
    assert state[tail.WAITING : tail.WAITING + tail.WAIT].max() == 0.0
    assert tail.rarity(state, 1.2, *scratch) < before - 0.3


def test_an_ordinary_maximum_counts_at_once() -> None:
    state, *scratch = fresh()
    feed(state, [0.1, 0.05, -0.2], scratch)
    assert state[tail.K_SUM] == pytest.approx(sum(tail.COUNT_DECAY**i for i in range(3)))
    assert (state[tail.WAITING :] == 0.0).all()


def test_what_waits_is_always_above_zero() -> None:
    """Zero stands for an empty place."""
    state, *scratch = fresh()
    feed(state, [-0.5] * 3000, scratch)
    assert tail.rarity(state, 0.0, *scratch) < tail.WAIT_ABOVE


def test_a_delay_changes_no_rate_where_maxima_come_in_no_order() -> None:
    rng = np.random.default_rng(0)
    tops = np.clip(rng.exponential(0.16, (4, 3000)) - 0.05, None, 1.5)
    above = 0
    for row in tops:
        state, *scratch = fresh()
        for top in row:
            above += tail.rarity(state, top, *scratch) >= 1.5
            feed(state, [top], scratch)
    assert above / tops.size == pytest.approx(10**-1.5, rel=0.3)

"""The reorder buffer against its definition, and at its limit."""

from __future__ import annotations

import numpy as np
import pytest

from titans_stream.engine.columns import Columns, joined
from titans_stream.engine.reorder import BUFFER_LIMIT, ReorderBuffer
from titans_stream.records import Int64


def columns(uid: Int64, time: Int64) -> Columns:
    n = len(uid)
    return Columns(
        uid, time, np.arange(n, dtype=np.float64), np.zeros(n, np.int32), np.arange(n),
        np.zeros(n, np.int8), np.full(n, -1),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_what_waits_leaves_in_order_once_its_series_is_seen_so_much_later(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bound, n = 20, 300
    stream = columns(rng.integers(0, 3, n), np.arange(n) + rng.integers(-30, 31, n))
    buffer = ReorderBuffer(bound, "keep-order")
    cuts = np.sort(rng.integers(0, n, 5))
    parts = [
        buffer.push(stream.take(np.arange(*pair)))
        for pair in zip((0, *cuts), (*cuts, n), strict=True)
    ]
    out = joined(parts)
    for uid in range(3):
        expected: list[int] = []
        waiting: list[tuple[int, int]] = []
        newest = -1_000
        for offset in np.flatnonzero(stream.uid == uid).tolist():
            time = int(stream.timestamp[offset])
            if time <= newest - bound:
                expected.append(offset)
                continue
            waiting.append((time, offset))
            newest = max(newest, time)
            gone = sorted(one for one in waiting if one[0] <= newest - bound)
            expected += [one[1] for one in gone]
            waiting = [one for one in waiting if one[0] > newest - bound]
        assert out.offset[out.uid == uid].tolist() == expected
    assert len(out) + buffer.waiting() == n
    assert len(buffer.flush()) == n - len(out)
    assert buffer.waiting() == 0


def test_beyond_its_limit_the_oldest_goes_on() -> None:
    buffer = ReorderBuffer(10**12, "drop")
    n = BUFFER_LIMIT + 7
    out = buffer.push(columns(np.zeros(n, np.int64), np.arange(n)[::-1].copy()))
    assert out.timestamp.tolist() == list(range(6, -1, -1)), "each as it came, being the oldest"
    assert buffer.waiting() == BUFFER_LIMIT


def test_nodes_of_a_series_that_is_forgotten_are_used_again() -> None:
    buffer = ReorderBuffer(1_000, "drop")
    for uid in range(50):
        buffer.push(columns(np.full(400, uid), np.arange(400)))
        buffer.forget(uid)
    assert buffer.waiting() == 0
    assert len(buffer._nodes.time) == 1_024
    assert buffer.export([("a", 3)], str) == {}

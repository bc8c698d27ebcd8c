"""The reorder buffer against its definition, and at its limit."""

from __future__ import annotations

import numpy as np
import pytest

from titans_stream.engine import reorder
from titans_stream.engine import reorder_kernels as kernels
from titans_stream.engine.columns import Columns, joined
from titans_stream.engine.order import NEVER
from titans_stream.engine.reorder import BUFFER_LIMIT, ReorderBuffer
from titans_stream.records import Int64


def columns(uid: Int64, time: Int64) -> Columns:
    n = len(uid)
    return Columns(
        uid, time, np.arange(n, dtype=np.float64), np.zeros(n, np.int32), np.arange(n),
        np.zeros(n, np.int8), np.full(n, -1),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_what_waits_leaves_in_order_once_its_series_is_seen_so_much_later(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if seed % 2:  # the nodes move all the time
        for name in ("_FIRST", "_KEPT", "_SPARE"):
            monkeypatch.setattr(reorder, name, 1)
    rng = np.random.default_rng(seed)
    bound, n = 20, 300
    stream = columns(rng.integers(0, 3, n), np.arange(n) + rng.integers(-30, 31, n))
    buffer = ReorderBuffer(bound, "keep-order")
    cuts = np.sort(rng.integers(0, n, 25))
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


def test_nodes_are_given_back_once_few_are_in_use() -> None:
    buffer = ReorderBuffer(10**12, "drop")
    for uid in range(20):
        buffer.push(columns(np.full(8_000, uid), np.arange(8_000)))
    assert len(buffer._nodes.time) >= 160_000
    for uid in range(19):
        buffer.forget(uid)
    few = len(buffer._nodes.time)
    assert few < 80_000
    assert buffer.flush().offset.tolist() == list(range(8_000)), "those that wait have moved"
    buffer.push(columns(np.zeros(3, np.int64), np.array([5, 4, 6])))
    assert buffer.waiting() == 3
    assert buffer.flush().timestamp.tolist() == [4, 5, 6]


class Counted(list):  # type: ignore[type-arg]
    """Counts what is looked at."""

    looks = 0

    def __getitem__(self, at):  # type: ignore[no-untyped-def]
        self.looks += 1
        return super().__getitem__(at)


@pytest.mark.parametrize("late", [[5], [1_000], [700, 701, 702], [990, 1_010], [-1]])
@pytest.mark.parametrize("duplicates", [kernels.DROP, kernels.KEEP_ORDER])
def test_what_comes_late_where_others_came_late_is_put_in_at_once(
    late: list[int], duplicates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's source, run as it is written: it looks at few of the nodes that wait."""
    for name, one in vars(kernels).copy().items():
        if hasattr(one, "py_func"):
            monkeypatch.setattr(kernels, name, one.py_func)
    waiting, n = 2_000, 400
    times = list(range(waiting))
    for i in range(n // 2):  # every second reading is late
        times += [waiting + i, late[i % len(late)]]
    size = len(times)
    lists = kernels.Lists(*(np.full(1, kernels.NONE) for _ in kernels.Lists._fields))
    lists.newest[0] = lists.released[0] = NEVER
    lists.width[0] = lists.held[0] = 0
    nodes = kernels.Nodes(*(Counted([0] * size) for _ in kernels.Nodes._fields))  # type: ignore[arg-type]
    nodes.following[:] = range(1, size + 1)
    given = columns(np.zeros(size, np.int64), np.array(times))
    settings = kernels.Settings(10**9, duplicates, np.zeros(1, np.int64))
    kernels.push(
        kernels.Given(given.uid, given.timestamp, given.value * 0, given.partition.astype(np.int64),
                      given.offset, given.group),
        lists, nodes, settings, reorder._released(size),
    )  # fmt: skip
    looks = sum(one.looks for one in nodes)  # type: ignore[attr-defined]
    assert looks < 30 * size, f"{looks / size:.0f} a reading"

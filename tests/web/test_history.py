"""Rings of readings against plain lists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from titans_stream.web.history import READING, SMALLEST, History


def rows(values: list[int]) -> np.ndarray:
    made = np.zeros(len(values), READING)
    made["time"] = values
    made["value"] = values
    return made


def feed(history: History, kept: dict[int, list[int]], series: list[int], first: int) -> None:
    """Give one call's readings to the history and to lists."""
    names = np.sort(np.array(series, np.int64))
    values = list(range(first, first + len(series)))
    history.append(names, rows(values))
    for name, value in zip(names.tolist(), values, strict=True):
        kept.setdefault(name, []).append(value)


@given(
    calls=st.lists(st.lists(st.integers(0, 6), max_size=90), max_size=12),
    most=st.sampled_from([256, 300, 512, 4096]),
)
@settings(max_examples=30, deadline=None)
def test_a_ring_holds_the_newest_readings_of_its_series(calls: list[list[int]], most: int) -> None:
    history, kept, first = History(most, 128), {}, 0
    history.reserve(7)
    for series in calls:
        feed(history, kept, series, first)
        first += len(series)
    for name in range(7):
        found = history.of(name)["time"].tolist()
        assert found == kept.get(name, [])[len(kept.get(name, [])) - len(found) :]
        assert len(found) >= min(len(kept.get(name, [])), SMALLEST)
    assert history.kept <= most


def test_many_series_share_what_few_had() -> None:
    history, kept = History(1024, 512), {}
    history.reserve(32)
    feed(history, kept, [0] * 600, 0)
    assert len(history.of(0)) == 512 == history.limit
    for name in range(1, 32):
        feed(history, kept, [name] * 32, 1_000 * name)
    assert history.limit == 32
    assert all(history.of(n)["time"].tolist() == kept[n][-32:] for n in range(32))
    assert history.kept == 1024
    history.reserve(2000)
    feed(history, kept, [1500] * 5, 90_000)
    assert len(history.of(1500)) == 0, "nothing is left, and the others keep theirs"
    assert history.of(0)["time"].tolist() == kept[0][-32:]


def test_the_block_holds_as_much_as_it_is_large() -> None:
    """Rings that grow one by one leave no holes: 16 series of 64 readings fill 1,024 places."""
    history, kept = History(1024, 256), {}
    history.reserve(16)
    for part in range(64 // 8):
        feed(history, kept, [name for name in range(16) for _ in range(8)], 1_000 * part)
    assert (history.kept, history.limit) == (1024, 256)
    assert all(history.of(n)["time"].tolist() == kept[n] for n in range(16))


def test_columns_are_aligned_to_the_right() -> None:
    history, kept = History(4096, 64), {}
    history.reserve(3)
    feed(history, kept, [0] * 100 + [2] * 3, 0)
    found, count = history.column("value", np.array([0, 1, 2]), 5)
    assert count.tolist() == [5, 0, 3]
    assert found[0].tolist() == [95, 96, 97, 98, 99]
    assert found[2, 2:].tolist() == [100, 101, 102]
    assert history.first(np.array([0, 2])).tolist() == [36, 100]


def test_a_history_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="32 readings at least"):
        History(1000, 16)

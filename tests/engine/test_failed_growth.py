"""Where memory does not suffice to grow, what there is stays."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from titans_stream.engine.store import HostStore
from titans_stream.engine.young import Young
from titans_stream.memory.growing import GrowingRows
from titans_stream.memory.rows import ArraySpec

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="rows grow so on Linux")
WIDE = ArraySpec((64,), np.float64)


@contextmanager
def little_memory() -> Iterator[None]:
    """No more than 8 MB beyond what this process has."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + 8 * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


@linux
@pytest.mark.parametrize("first", [10, 20_000], ids=["copied", "moved"])
def test_rows_that_cannot_grow_are_still_there(first: int) -> None:
    growing = GrowingRows(WIDE)
    growing.reserve(first)
    growing.rows[:] = 7.0
    with little_memory(), pytest.raises(MemoryError):
        growing.reserve(200_000)
    assert growing.rows.shape == (first, 64)
    assert (growing.rows == 7.0).all()
    growing.reserve(30_000)
    assert (growing.rows[:first] == 7.0).all()
    assert not growing.rows[first:].any()


@linux
def test_a_store_that_cannot_grow_keeps_its_arrays() -> None:
    store = HostStore({"a": WIDE, "b": WIDE})
    store.reserve(20_000)
    for rows in store.arrays.values():
        rows[:] = 7.0
    with little_memory(), pytest.raises(MemoryError):
        store.reserve(200_000)
    assert sorted(store.arrays) == ["a", "b"]
    for rows in store.arrays.values():
        assert rows.shape == (20_000, 64)
        assert (rows == 7.0).all()
    store.reserve(30_000)
    assert (store.read("b", np.array([0, 19_999])) == 7.0).all()


def _second_fails(plain: Callable[[GrowingRows, int], None]) -> Callable[[GrowingRows, int], None]:
    calls = 0

    def reserve(self: GrowingRows, count: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise MemoryError
        plain(self, count)

    return reserve


def test_young_series_stay_where_others_find_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """And fewer find a place later, though some of the arrays have grown by more."""
    young = Young()
    few = np.arange(10)
    young.admit(few)
    before = young.export(few)
    with monkeypatch.context() as patch:
        patch.setattr(GrowingRows, "reserve", _second_fails(GrowingRows.reserve))
        with pytest.raises(MemoryError):
            young.admit(np.arange(10, 50_000))
    assert len(young) == 10
    young.admit(np.arange(10, 5_000))
    assert len(young) == 5_000
    after = young.export(few)
    assert sorted(after) == sorted(before)
    assert all(after[name].tobytes() == before[name].tobytes() for name in before)

"""A partition's state copied out while readings go on, stored as deltas and put together again."""

from __future__ import annotations

import dataclasses
import itertools
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engine.streams import engine, make_stream
from titans_stream.control.messages import message_of, text_of
from titans_stream.engine import capture as capturing
from titans_stream.engine.engine import StreamEngine
from titans_stream.ops.storage import Snapshots
from titans_stream.records import Order, Readings, Snapshot
from titans_stream.stream.recovery import Saved, StoredSnapshot

SERIES, BUSY = 12, 3
FOLDERS = itertools.count()


@pytest.fixture(autouse=True)
def slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capturing, "_MOST_WAITING", 1_000)  # none is taken before the end here
    monkeypatch.setattr("titans_stream.engine.partition_states.SLICE_BYTES", 1)
    monkeypatch.setattr("titans_stream.engine.partition_states.MOST_TOUCHED", 0.95)


def part(first: int, last: int, seed: int, names: list[str]) -> Readings:
    """Readings `first` to `last` of a stream, of these series in groups of four."""
    stream = make_stream(seed, series=len(names), readings=last - last % len(names), shuffle=True)
    mine = stream.slice(first, last)
    series = [names[int(name[1:])] for name in mine.series]
    groups = [f"g{int(name[1:]) // 4}" for name in series]
    offset = mine.offset + last
    return Readings(series, mine.timestamp, mine.value, mine.partition, offset, groups)


def same(one: Snapshot, other: Snapshot) -> None:
    assert one.meta == other.meta
    assert one.arrays.keys() == other.arrays.keys()
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, other.arrays[name], err_msg=name)


def build(**more: Any) -> StreamEngine:
    return engine(
        bound=30, slots=10, settings={"max_series": 13, "when_full": "replace-idle"}, **more
    )


@settings(max_examples=1, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10_000))
def test_a_base_and_deltas_are_the_state_of_the_moment(tmp_path: Path, seed: int) -> None:
    """While more series than slots go on, some come, some make room, and one is reset."""
    store, one = Snapshots(tmp_path / str(next(FOLDERS)), "g", keep=2), build()
    names = [f"s{i}" for i in range(SERIES)]
    one.process(part(0, 55 * SERIES, seed, names))
    saved: Saved | None = None
    mark: int | None = None
    for turn in range(4):
        busy = [f"s{(turn * 3 + i) % SERIES}" for i in range(BUSY)]
        if turn == 2:
            busy += ["s100", "s101"]
        one.process(part(0, 12 * len(busy), seed + turn, busy))
        expected, capture = one.snapshot(0), one.capture(0, mark)
        assert capture.whole == (turn == 0)
        text = text_of(message_of({"action": "reset", "series": "s1"}))
        for step in range(3):
            capture.step(0.0)
            one.process(part(0, 4 * len(busy), seed + 10 * turn + step, busy[::-1]))
            if step == turn % 3:
                one.control(0, Order(f"m{turn}", text), 7)
        while not capture.step(1.0):
            pass
        onto = "" if saved is None else saved.name
        told = StoredSnapshot(turn, capture.snapshot, {}, onto)
        saved, mark = store.save("in", 0, told), capture.mark
        assert saved.deltas == turn
        found, other = store.load("in", 0, 99, one.state_schema), build()
        assert found is not None
        assert found.saved == saved
        other.restore(0, found.snapshot)
        same(expected, other.snapshot(0))
    assert store.load("in", 0, 2, one.state_schema).offset == 2  # type: ignore[union-attr]


def test_a_delta_after_a_restart_stands_on_what_was_restored(tmp_path: Path) -> None:
    store, one = Snapshots(tmp_path, "g"), build()
    names = [f"s{i}" for i in range(SERIES)]
    one.process(part(0, 55 * SERIES, 0, names))
    base = store.save("in", 0, StoredSnapshot(1, one.snapshot(0), {}))
    again = build()
    found = store.load("in", 0, 1, one.state_schema)
    assert found is not None
    again.restore(0, found.snapshot)
    mark = again.mark(0)
    again.process(part(0, 60, 3, ["s3", "s4"]))
    capture = again.capture(0, mark)
    while not capture.step(1.0):
        pass
    told = StoredSnapshot(2, capture.snapshot, {}, base.name)
    saved = store.save("in", 0, told)
    assert not capture.whole
    assert (saved.deltas, saved.base_size) == (1, base.size)
    assert saved.size < base.size / 4
    last = build()
    found = store.load("in", 0, 2, one.state_schema)
    assert found is not None
    last.restore(0, found.snapshot)
    same(again.snapshot(0), last.snapshot(0))


def test_a_release_gives_up_what_is_being_copied() -> None:
    one = build()
    one.process(part(0, 600, 0, [f"s{i}" for i in range(6)]))
    capture = one.capture(0, None)
    capture.step(0.0)
    one.release(0)
    assert capture.step(1.0)
    parts = iter(capture.snapshot.parts or ())
    assert len(next(parts).meta["series"]) == 1
    with pytest.raises(CancelledError):
        list(parts)


@pytest.mark.parametrize("damage", ["missing", "twice", "schema"])
def test_parts_that_do_not_fit_are_refused(damage: str) -> None:
    one = build()
    one.process(part(0, 600, 0, [f"s{i}" for i in range(6)]))
    capture = one.capture(0, None)
    while not capture.step(1.0):
        pass
    head, parts = capture.snapshot, list(capture.snapshot.parts or ())
    if damage == "missing":
        del parts[2]
    elif damage == "schema":
        parts[2] = dataclasses.replace(parts[2], schema="other")
    else:
        parts[2] = dataclasses.replace(parts[2], meta=parts[2].meta | {"series": ["s1", "s1"]})
    with pytest.raises(ValueError, match=r"is in no part|another schema, or names a series twice"):
        one.restore(0, dataclasses.replace(head, parts=parts))
    assert one.snapshot(0).meta["series"] == []

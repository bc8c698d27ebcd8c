"""Snapshots beside the stream: what is slow or fails holds up nothing, and what they build on."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import pytest
from kafka import TopicPartition

from titans_stream.engine.capture import Capture
from titans_stream.records import Int64, Snapshot
from titans_stream.stream.kafka.deadline import Deadline
from titans_stream.stream.metrics import Metrics
from titans_stream.stream.recovery import (
    FencedError,
    NoBaseError,
    Origin,
    Progress,
    Saved,
    StoredSnapshot,
)
from titans_stream.stream.snapshot_wishes import SnapshotWishes
from titans_stream.stream.snapshots import Snapshotter


class Engine:
    """Ten series, of which two are touched between any two snapshots."""

    def __init__(self) -> None:
        self.since: list[int | None] = []
        self.capture_of: Capture

    def capture(self, partition: int, since: int | None) -> Capture:
        def copy(uids: Int64) -> Snapshot:
            return Snapshot("s", {"series": uids.tolist()}, {"p": np.full(len(uids), partition)})

        self.since.append(since)
        uids = np.arange(10 if since is None else 2)
        head = Snapshot("s", {}, {})
        self.capture_of = Capture(
            head, uids, copy, rows=1, whole=since is None, mark=len(self.since)
        )
        return self.capture_of


class Store:
    """Remembers what was saved; `gate` holds it up, `error` is raised instead."""

    def __init__(self) -> None:
        self.gate, self.error = threading.Event(), None
        self.gate.set()
        self.saved: list[tuple[int, int, str, int]] = []
        self.error: Exception | None = None
        self.threads: set[str] = set()
        self.cancelled = 0

    def save(self, topic: str, partition: int, stored: StoredSnapshot) -> Saved:
        self.threads.add(threading.current_thread().name)
        assert self.gate.wait(20)
        try:
            series = sum(len(part.meta["series"]) for part in stored.snapshot.parts or ())
        except CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        self.saved.append((partition, stored.offset, stored.onto, series))
        deltas = len(self.saved) - 1 if stored.onto else 0
        return Saved(f"{partition}@{stored.offset}", 100 * series, deltas, 200 * deltas, 1_000)


class World:
    def __init__(self, partitions: int = 1) -> None:
        self.engine, self.store, self.metrics = Engine(), Store(), Metrics()
        self.wishes = SnapshotWishes()
        self.snapshots = Snapshotter(
            self.engine, self.store, 1e6, self.metrics,  # type: ignore[arg-type]
            lambda place: int(place.partition), self.wishes,
        )  # fmt: skip
        self.held = [
            Progress(TopicPartition("in", p), 1, 0, 0, 1, Origin(built_from=0, life="l"))
            for p in range(partitions)
        ]

    def commit(self) -> None:
        for progress in self.held:
            progress.position += 1
            progress.committed = progress.position
            progress.snapshot_due = 0.0

    def take(self) -> None:
        self.commit()
        self.snapshots.take_all(self.held, Deadline(20))


@pytest.fixture
def world() -> World:
    return World()


def test_a_slow_write_holds_up_nothing_and_is_one_at_a_time(world: World) -> None:
    world.store.gate.clear()
    (progress,) = world.held
    progress.snapshot_due = 0.0
    for _ in range(50):
        world.snapshots.turn(world.held)
        progress.position += 1
        progress.committed = progress.position
        progress.snapshot_due = 0.0
    assert world.engine.since == [None], "no second one while the first is being written"
    assert (progress.snapshot_offset, progress.chain) == (-1, None)
    assert not world.snapshots.copying
    world.store.gate.set()
    world.snapshots.take_all(world.held, Deadline(20))
    assert [saved[:2] for saved in world.store.saved] == [(0, 1), (0, 51)]
    assert progress.snapshot_offset == progress.origin.snapshot == 51
    assert world.store.threads == {"snapshots"}
    assert world.metrics.counts["snapshots"] == 2
    assert world.metrics.durations["snapshot"].sum > 0


def test_what_is_touched_since_the_last_one_is_written_until_that_is_too_much(world: World) -> None:
    for _ in range(9):
        world.take()
    series = [saved[3] for saved in world.store.saved]
    assert series[:6] == [10, 2, 2, 2, 2, 2]
    assert series[6] == 10, "the deltas are as large as what they stand on"
    assert [saved[2] for saved in world.store.saved][:3] == ["", "0@2", "0@3"]
    assert world.engine.since[:3] == [None, 1, 2]


def test_after_a_failed_write_the_next_one_stands_on_the_last_good_one(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.take()
    world.store.error = OSError(28, "No space left on device")
    with caplog.at_level(logging.ERROR):
        world.take()
    assert "in partition 0: no snapshot at 3: [Errno 28] No space left on device" in caplog.text
    assert world.metrics.counts["failed_snapshots"] == 1
    assert world.held[0].snapshot_offset == 2
    world.store.error = None
    world.take()
    assert world.store.saved[-1] == (0, 4, "0@2", 2)
    assert world.engine.since == [None, 1, 1], "with what the failed one would have had"


def test_who_was_fenced_writes_again_after_a_commit_only(world: World) -> None:
    """And all of it: what the other one has written is not what this one's deltas stand on."""
    world.take()
    world.store.error = FencedError("another worker has taken over")
    world.take()
    world.store.error = None
    world.held[0].snapshot_due = 0.0
    for _ in range(5):
        world.snapshots.turn(world.held)
    assert len(world.engine.since) == 2
    world.take()
    assert world.store.saved[-1] == (0, 4, "", 10)


def test_where_the_ground_is_lost_the_next_one_has_all(world: World) -> None:
    world.take()
    world.store.error = NoBaseError("0@2, on which it stands, is damaged")
    world.take()
    world.store.error = None
    world.take()
    assert world.store.saved[-1] == (0, 4, "", 10)


def test_an_error_that_nobody_expected_is_told_and_the_next_one_has_all(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.take()
    world.store.error = KeyError("x")
    world.take()
    assert "KeyError: 'x'" in caplog.text
    world.store.error = None
    world.take()
    assert world.store.saved[-1] == (0, 4, "", 10)


def test_a_state_that_is_dropped_is_not_written(world: World) -> None:
    world.store.gate.clear()
    world.held[0].snapshot_due = 0.0
    world.snapshots.turn(world.held)
    world.engine.capture_of.cancel()
    world.store.gate.set()
    while world.metrics.counts["snapshots"] == 0:
        world.held[0].snapshot_due = 0.0
        world.snapshots.turn(world.held)
    assert world.store.cancelled in (0, 1)  # all may have been copied before
    assert world.metrics.counts["failed_snapshots"] == 0


def test_a_change_of_the_model_makes_what_is_being_written_no_ground_to_build_on(
    world: World,
) -> None:
    world.store.gate.clear()
    (progress,) = world.held
    progress.snapshot_due = 0.0
    world.snapshots.turn(world.held)
    progress.lineage, progress.origin = object(), Origin(built_from=7, life="m")
    world.store.gate.set()
    world.take()
    assert world.engine.since == [None, None]
    assert (progress.origin.life, progress.snapshot_offset) == ("m", 2)


def test_at_the_end_no_more_is_waited_than_there_is_time_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(partitions=3)
    world.store.gate.clear()
    world.commit()
    world.snapshots.take_all(world.held, Deadline(0.05))
    assert "no time left for snapshots" in caplog.text
    assert len(world.engine.since) == 1
    world.snapshots.close(0.0)
    world.store.gate.set()


def test_who_asks_for_snapshots_waits_until_they_are_stored() -> None:
    world, found = World(partitions=2), list[Any]()
    world.store.gate.clear()
    for progress in world.held:
        progress.snapshot_due = 1e12
    thread = threading.Thread(target=lambda: found.append(world.wishes.ask(20)))
    thread.start()
    while not world.engine.since:
        world.snapshots.turn(world.held)
    for _ in range(20):
        world.snapshots.turn(world.held)
    assert found == []
    world.store.gate.set()
    while not found:
        world.snapshots.turn(world.held)
    thread.join()
    assert found == [2]
    assert sorted(saved[0] for saved in world.store.saved) == [0, 1]

"""When snapshots are taken, and by whom: the loop copies, a thread writes.

The loop copies a partition's state out between its turns, some milliseconds each
(`Engine.capture`); a thread serialises, syncs and uploads it meanwhile, one snapshot at a time.
What was written, or failed, the loop learns in a later turn: a write that fails or takes long
holds up nothing.

A snapshot has the series only that were touched since the last one, on which it stands then. After
`_MOST_DELTAS` of them, or where together they are as large as the one at the bottom that has all
series, the next one has all.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import CancelledError, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from queue import SimpleQueue

from kafka import TopicPartition

from titans_stream.records import Capture, Engine
from titans_stream.stream.kafka.deadline import Deadline
from titans_stream.stream.kafka.errors import UnansweredError
from titans_stream.stream.metrics import Metrics
from titans_stream.stream.recovery import (
    Chain,
    FencedError,
    NoBaseError,
    Progress,
    Saved,
    SnapshotStore,
    StoredSnapshot,
    UnreachableError,
    stored_state,
)
from titans_stream.stream.snapshot_wishes import SnapshotWishes

log = logging.getLogger(__name__)

_BUDGET = 0.015
"""Seconds of copying between two turns."""
_MOST_DELTAS = 16
_LONGEST_STEP = 1.0
"""Seconds of copying at once where nothing else is to be done."""


@dataclass(frozen=True, slots=True)
class _Flight:
    """A snapshot in work."""

    progress: Progress
    lineage: object
    stored: StoredSnapshot
    capture: Capture
    begun: float
    written: Future[Saved]


class Snapshotter:
    """Takes the snapshots of one worker's partitions; all methods belong to the loop's thread.

    `interval` is seconds between those of a partition; `number` gives the one by which the engine
    knows it.
    """

    def __init__(
        self,
        engine: Engine,
        store: SnapshotStore,
        interval: float,
        metrics: Metrics,
        number: Callable[[TopicPartition], int],
        wishes: SnapshotWishes,
    ) -> None:
        self._engine = engine
        self._store = store
        self._interval = interval
        self._metrics = metrics
        self._number = number
        self._wishes = wishes
        self._flight: _Flight | None = None
        self._copied = True
        self._writer = _Writer()

    def claim(self, partition: TopicPartition) -> None:
        """Have what an earlier owner of a partition still writes refused."""
        try:
            self._store.claim(partition.topic, partition.partition)
        except UnreachableError:
            raise
        except OSError as error:
            log.warning("%s partition %d: snapshots cannot be claimed: %s", *partition, error)

    def discard(self, partition: TopicPartition) -> None:
        """Remove the snapshots of an earlier life, which no recovery would take."""
        try:
            self._store.discard(partition.topic, partition.partition, after=-1)
        except UnreachableError:
            raise
        except OSError as error:
            log.warning("%s partition %d: old snapshots stay: %s", *partition, error)

    @property
    def copying(self) -> bool:
        """Whether there is more to copy in the next turn."""
        return self._flight is not None and not self._copied

    def due(self) -> float:
        """When the next snapshot of a partition is due that has one now, by `time.monotonic`."""
        return time.monotonic() + self._interval

    def turn(self, held: Collection[Progress]) -> None:
        """Go on with the snapshot in work, or begin that of the partition that waits longest."""
        now, counts = time.monotonic(), self._metrics.counts
        if self._wishes.take(counts):
            for progress in held:
                progress.snapshot_due = min(progress.snapshot_due, now)
        self._land()
        if self._flight is None:
            due = [p for p in held if p.snapshot_due <= now and _may_begin(p)]
            if due:
                self._begin(min(due, key=lambda progress: progress.snapshot_due))
        self._copy(_BUDGET)
        if self._flight is None and all(progress.snapshot_due > now for progress in held):
            self._wishes.done(counts)

    def take_all(self, held: Collection[Progress], deadline: Deadline) -> None:
        """Take a snapshot of each partition and wait for it, as far as time allows."""
        for progress in list(held):
            if not self._finish(deadline) or deadline.expired:
                break
            if _may_begin(progress):
                self._begin(progress)
        else:
            if self._finish(deadline):
                return
        log.warning("no time left for snapshots; a replay will make up for them")

    def close(self, seconds: float) -> None:
        """Give what is in work so long."""
        self._finish(Deadline(seconds))
        if self._flight is not None:
            self._flight.capture.cancel()

    def _finish(self, deadline: Deadline) -> bool:
        """Wait for the snapshot in work; whether there is none now."""
        while self._flight is not None and not deadline.expired:
            self._copy(_LONGEST_STEP)
            wait([self._flight.written], 0.002 if self.copying else deadline.remaining)
            self._land()
        return self._flight is None

    def _begin(self, progress: Progress) -> None:
        progress.snapshot_due = self.due()
        if progress.snapshot_offset == progress.position:
            return
        partition, chain = progress.partition, progress.chain
        with self._metrics.timed("snapshot"):
            onto = None if chain is None or _is_long(chain.saved) else chain
            capture = self._engine.capture(
                self._number(partition), None if onto is None else onto.mark
            )
            stored = stored_state(progress, capture.snapshot)
            if onto is not None and not capture.whole:
                stored = replace(stored, onto=onto.saved.name)
        written = self._writer.submit(
            lambda: self._store.save(partition.topic, partition.partition, stored)
        )
        begun = time.monotonic()
        self._flight = _Flight(progress, progress.lineage, stored, capture, begun, written)
        self._copied = False

    def _copy(self, seconds: float) -> None:
        if self.copying:
            assert self._flight is not None
            with self._metrics.timed("snapshot"):
                self._copied = self._flight.capture.step(seconds)

    def _land(self) -> None:
        """Take note of a snapshot that is written, or failed."""
        flight = self._flight
        if flight is None or not flight.written.done():
            return
        self._flight = None
        progress, partition = flight.progress, flight.progress.partition
        try:
            saved = flight.written.result()
        except CancelledError:
            return  # the partition is gone, or its state was dropped
        except FencedError as error:
            progress.chain, progress.fenced_at = None, progress.committed
            self._failed(flight, f"{error}")
        except OSError as error:
            if isinstance(error, NoBaseError):
                progress.chain = None
            self._failed(flight, f"{error}")
        except Exception as error:  # noqa: BLE001 - the stream goes on
            progress.chain = None
            self._failed(flight, f"{type(error).__name__}: {error}")
        else:
            self._metrics.snapshot_saved(partition, saved.size, time.monotonic() - flight.begun)
            what = f"on {flight.stored.onto}" if flight.stored.onto else "of all series"
            log.debug(
                "%s partition %d: snapshot at %d %s, %d bytes",
                *partition, flight.stored.offset, what, saved.size,
            )  # fmt: skip
            if progress.lineage is flight.lineage:
                offset = flight.stored.offset
                progress.snapshot_offset = offset
                progress.chain = Chain(saved, flight.capture.mark)
                progress.origin = replace(
                    progress.origin, built_from=None, start=0, snapshot=offset
                )

    def _failed(self, flight: _Flight, why: str) -> None:
        flight.capture.cancel()
        self._metrics.counts["failed_snapshots"] += 1
        log.error(
            "%s partition %d: no snapshot at %d: %s",
            *flight.progress.partition, flight.stored.offset, why,
        )  # fmt: skip


class _Writer:
    """A thread that does one thing after another; it ends with the process."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[Callable[[], Saved], Future[Saved]]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, write: Callable[[], Saved]) -> Future[Saved]:
        """What the thread is to do next."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)
            self._thread.start()
        done: Future[Saved] = Future()
        self._queue.put((write, done))
        return done

    def _run(self) -> None:
        while True:
            write, done = self._queue.get()
            try:
                done.set_result(write())
            except Exception as error:  # noqa: BLE001 - for who waits for it
                done.set_exception(error)


@contextmanager
def reachable() -> Iterator[None]:
    """Snapshots that cannot be had for now are waited for, as Kafka is."""
    try:
        yield
    except UnreachableError as error:
        raise UnansweredError(f"snapshots: {error}") from error


def _may_begin(progress: Progress) -> bool:
    """Whether a snapshot of a partition can be taken.

    Not where another worker was found to write them, until Kafka has taken a commit since.
    """
    return progress.settled and progress.committed > progress.fenced_at


def _is_long(saved: Saved) -> bool:
    return saved.deltas >= _MOST_DELTAS or saved.delta_size >= saved.base_size

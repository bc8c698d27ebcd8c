"""The worker's loop, from a poll to a commit.

A turn of the loop:

1. Poll at most N messages. Rebalances happen in here: the listener below is called by
   kafka-python while this thread waits.
2. Recover partitions that are new (recovery.py).
3. Decode. What cannot be decoded is a dead letter.
4. Let the engine process the readings, in segments: warm-up and replay (output is discarded) and
   live (output is published). A transaction opens with the first live message.
5. Encode and send alerts, frames of scores, forecasts, dead letters.
6. After `commit_interval`: commit output and offsets together (commit.py).
7. Copy for a snapshot; begin one where a partition is due and committed (snapshots.py).

Where 5 or 6 fail, or take too long, the transaction is aborted, the state of all partitions is
discarded, and 2 rebuilds it from what is committed, as soon as Kafka answers; the worker ends only
where that does not succeed for `delivery.give_up_after`. On revocation: 6, a snapshot of each
partition. On loss: abort and release; nothing is written for partitions that belong to others.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from kafka import AsyncConsumerRebalanceListener, TopicPartition
from kafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from titans_stream.durations import SECOND
from titans_stream.stream.assignment import Offsets
from titans_stream.stream.commit import OutputState, TooLargeError
from titans_stream.stream.dropped import DropWatch
from titans_stream.stream.kafka.deadline import Deadline, Patience, call_within
from titans_stream.stream.kafka.errors import (
    UNREADABLE,
    AbortedError,
    ConnectError,
    FatalError,
    LateError,
    UnansweredError,
)
from titans_stream.stream.kafka.translation import translated, user_error
from titans_stream.stream.messages import RawMessage, raw_messages, slices
from titans_stream.stream.parts import Parts, Signals
from titans_stream.stream.poll_size import PollSize
from titans_stream.stream.recovery import Progress
from titans_stream.stream.settings import DeliveryConfig, Subscription
from titans_stream.stream.swap import Swapper
from titans_stream.stream.ticks import Ticks

log = logging.getLogger(__name__)

_IDLE_POLL = 0.2
_JOIN_SECONDS = 90.0
"""Longer than a dead member's session (45 s), for which a sound join waits too."""
_MOST_UNCOMMITTED_BYTES = 16 * 2**20
_MOST_PAUSE = 10.0
_REVOCATION_SECONDS = 15.0
_LONGEST_COMMIT = 60.0


class Loop:
    """One worker's session with Kafka, from joining the group to leaving it."""

    def __init__(
        self, parts: Parts, delivery: DeliveryConfig, signals: Signals, commit_timeout: float
    ) -> None:
        self._consumer = parts.consumer
        self._assignment = parts.assignment
        self._processor = parts.processor
        self._outbox = parts.outbox
        self._output = parts.output
        self._metrics = parts.metrics
        self._watch = parts.watch
        self._swap = parts.swap
        self._control = parts.control
        self._dropped = DropWatch(parts.metrics)
        self._delivery = delivery
        self._signals = signals
        self._commit_timeout = commit_timeout
        self._size = PollSize(delivery.max_poll_records)
        self._ticks = Ticks(parts.assignment, parts.processor)
        self._begun, self._failed_aborts = 0.0, 0
        self._patience = Patience(delivery.give_up_after / SECOND)
        self._listener_error: Exception | None = None
        self._open, self._subscribed = True, False
        self._topics: Subscription
        self.joining_since: float | None = None
        """When the join began that has not given an assignment yet; an empty one counts."""

    def run(self, topics: Subscription) -> None:
        """Work until `stop` is set, then finish in good order."""
        self._topics = topics
        try:
            while not self._signals.stop.is_set():
                self._turn()
            self._finish()
        finally:
            self._open = False

    def _join(self) -> None:
        """Join the group where this has not been done, and anew where a join was lost.

        kafka-python 3.0 can drop a finished join: no assignment, no heartbeat, no error. One that
        takes longer than `_JOIN_SECONDS` is given up.
        """
        since = self.joining_since
        if since is not None and time.monotonic() - since >= _JOIN_SECONDS:
            log.warning("no answer to joining the group for %.0f s; joining anew", _JOIN_SECONDS)
            with translated("leave group"):
                self._consumer.unsubscribe()
            self._assignment.assign(())
            self._subscribed, self.joining_since = False, None
            self._output.abort()
        if not self._subscribed:
            with translated("join group"):
                self._consumer.subscribe(
                    self._topics.names, pattern=self._topics.regex, listener=_Listener(self)
                )
                # Fetched partitions spare the group a first rebalance, in which nothing is
                # assigned and in which kafka-python 3.0 can lose the join.
                self._consumer.topics()
            self.joining_since = time.monotonic()
            self._subscribed = True

    def _finish(self) -> None:
        """The orderly end; a failure in it costs a replay at the next start, nothing else."""
        deadline = Deadline(self._delivery.shutdown_timeout / SECOND)
        log.info("stopping")
        self._output.hurry(deadline.remaining)
        try:
            self._commit(deadline)
            self._assignment.snapshot_all(deadline)
        except AbortedError as error:
            log.warning("the last commit failed: %s; the next start recovers", error)
        self._open = False
        timeout = max(1.0, deadline.remaining)
        try:
            call_within(
                timeout + 1, "leave group", lambda: self._consumer.close(False, timeout * 1e3)
            )
        except LateError as error:
            log.warning("%s; the others wait for the end of this worker's session", error)
        self._output.close(max(1.0, deadline.remaining))
        self._assignment.close(deadline.remaining)

    def _turn(self) -> None:
        try:
            self._work()
        except AbortedError as error:
            self._abort(error)
        except UnansweredError as error:
            self._wait(error)

    def _wait(self, error: UnansweredError) -> None:
        log.warning("waiting for Kafka: %s", error)
        self._patience.failed(error)
        self._signals.stop.wait(_IDLE_POLL)

    def _work(self) -> None:
        self._join()
        records = self._poll()
        if self._listener_error is not None:
            error, self._listener_error = self._listener_error, None
            raise error
        if self._output.state is OutputState.ABORTED:
            self._output.abort()
        if self._assignment.new:
            # An assignment or an abort makes all partitions new: none is read before.
            assert not records
            self._assignment.recover(self._pin)
            self._watch.joined()
            self._signals.ready.set()
        if records:
            self._metrics.last_message = time.monotonic()
            self._take(records)
            self._size.took(records, self._metrics.last_message)
        if self._control is not None:
            self._control.turn(self._assignment.recovered, self._begin, self._outbox.obeyed)
        silent = self._ticks.look()
        if silent:
            self._begin()
            self._outbox.alerts(silent, {})
        if self._commit_due():
            self._commit(self._commit_deadline())
        if self._swap is not None:
            self._change_models(self._swap)
        self._assignment.snapshot_next_due()
        self._report()
        if records and self._failed_aborts and self._output.state is OutputState.IDLE:
            self._failed_aborts = 0

    def _poll(self) -> dict[TopicPartition, list[Any]]:
        """Records by partition."""
        wait = _IDLE_POLL
        if self._output.state is OutputState.OPEN:
            wait = min(wait, max(0.0, self._due_at() - time.monotonic()))
        if self._assignment.copying or (self._swap is not None and self._swap.busy):
            wait = 0.0
        begun, polled = time.perf_counter(), dict[TopicPartition, list[Any]]()
        try:
            with translated("poll"):
                polled = self._poll_once(wait)
        except UNREADABLE as error:
            if isinstance(error, ConnectError):
                raise
            raise FatalError(f"poll: an answer of Kafka cannot be read: {error!r}") from error
        finally:
            self._metrics.polled(begun, sum(map(len, polled.values())))
        held = self._assignment.progress.keys() - self._assignment.new
        return {partition: records for partition, records in polled.items() if partition in held}

    def _poll_once(self, wait: float) -> dict[TopicPartition, list[Any]]:
        try:
            return self._consumer.poll(int(wait * 1000), self._size.most)
        except NoOffsetForPartitionError:
            return {}  # of a partition that is new: `recover` gives it a position
        except OffsetOutOfRangeError as error:
            for partition, offset in dict(*error.args).items():
                self._assignment.lost_range(partition, offset)
            return {}

    def _take(self, records: dict[TopicPartition, list[Any]]) -> None:
        """Process messages: replayed ones without output, then the live ones."""
        live: list[RawMessage] = []
        for partition, found in records.items():
            progress = self._assignment.progress[partition]
            progress.heard(time.monotonic())
            messages = self._assignment.credible(partition, raw_messages(found))
            for part in slices(messages):
                kept = self._replay(progress, part) if progress.replaying else part
                if kept:
                    live += kept
                    progress.position = kept[-1].offset + 1
                self._report()
        for part in slices(live):
            self._process_live(part)
            self._report()

    def _replay(self, progress: Progress, messages: list[RawMessage]) -> list[RawMessage]:
        """Process what lies before `resume` without output; the rest is returned."""
        cuts = {min(progress.warm_until, progress.resume), progress.resume}
        cuts |= set() if self._control is None else self._control.cuts(progress)
        for until in sorted(cuts):
            count = sum(message.offset < until for message in messages)
            segment, messages = messages[:count], messages[count:]
            if segment:
                warming = segment[0].offset < progress.warm_until
                for alert in self._processor.replay(segment):
                    if self._swap is not None:
                        progress.note(alert)
                    if alert.status == "resolved":
                        progress.muted.discard(alert.alert_id)
                    elif warming and alert.status == "opened":
                        progress.muted.add(alert.alert_id)
                progress.position = segment[-1].offset + 1
                self._metrics.counts["replayed_messages"] += len(segment)
            if self._control is not None and (messages or progress.position >= until):
                self._control.replay(progress, until)
        self._assignment.replayed(progress)
        return messages

    def _begin(self) -> None:
        if self._output.state is OutputState.IDLE:
            self._output.begin()
            self._begun = time.monotonic()

    def _process_live(self, messages: Sequence[RawMessage]) -> None:
        metrics = self._metrics
        processed = self._processor.process(messages)
        self._begin()
        with metrics.timed("encode"):
            muted = {p: x.muted for p, x in self._assignment.progress.items() if x.muted}
            self._outbox.alerts(processed.alerts, muted)
            for topic, scores, model in processed.scores:
                self._outbox.scores(scores, topic, model)
                metrics.took(scores)
                self._dropped.take(scores)
            self._outbox.forecasts(processed.forecasts)
            self._outbox.dead_letters(processed.dead)
        metrics.counts["messages"] += len(messages)
        metrics.counts["readings"] += processed.readings
        if self._swap is not None:
            self._swap.took(self._assignment.progress, messages, processed.alerts)

    def _change_models(self, swap: Swapper) -> None:
        """Warm up a new model for a while; change and commit where it has caught up."""
        held, new = self._assignment.progress, self._assignment.new
        if swap.rules_due:
            self._commit(self._commit_deadline())
            if swap.change_rules(held, new):
                self._assignment.snapshot_all(self._commit_deadline())
        ready = swap.step(held, new)
        if ready:
            self._begin()
            self._outbox.alerts(swap.change(ready), {})
            self._outbox.swapped(swap.announcements(ready))
            self._commit(self._commit_deadline())
            swap.changed(ready)

    # --- commit and abort

    def _due_at(self) -> float:
        return self._begun + self._delivery.commit_interval / SECOND

    def _commit_due(self) -> bool:
        if self._output.state is not OutputState.OPEN:
            return False
        return self._output.sent > _MOST_UNCOMMITTED_BYTES or time.monotonic() >= self._due_at()

    def _commit_deadline(self) -> Deadline:
        """Longer after failures: a commit may be slow for its size, too."""
        most = max(self._commit_timeout, _LONGEST_COMMIT)
        return Deadline(min(self._commit_timeout * 2**self._failed_aborts, most))

    def _commit(self, deadline: Deadline) -> None:
        """Commit what is open, if anything is."""
        if self._output.state is not OutputState.OPEN:
            return
        offsets = self._assignment.offsets()
        with self._metrics.timed("commit"):
            self._output.commit(offsets, self._consumer.group_metadata(), deadline)
            if not self._output.commits_offsets:
                self._commit_by_consumer(offsets, deadline)
        self._note_committed()

    def _note_committed(self) -> None:
        self._assignment.note_committed()
        self._patience.succeeded()
        self._size.committed()
        self._metrics.counts["commits"] += 1

    def _report(self) -> None:
        self._watch.look(self._begun if self._output.state is OutputState.OPEN else None)

    def _commit_by_consumer(self, offsets: Offsets, deadline: Deadline) -> None:
        try:
            self._consumer.commit(offsets, timeout_ms=deadline.remaining * 1000)
        except KafkaError as error:
            raise user_error(error) or AbortedError(f"commit: {error}") from error

    def _pin(self, offsets: Offsets) -> None:
        """Commit offsets alone, before anything is read."""
        assert self._output.state is OutputState.IDLE, self._output.state
        deadline = self._commit_deadline()
        if self._output.commits_offsets:
            self._output.begin()
            self._output.commit(offsets, self._consumer.group_metadata(), deadline)
        else:
            self._commit_by_consumer(offsets, deadline)

    def _abort(self, error: AbortedError) -> None:
        """Drop what is open and the state that went with it."""
        if isinstance(error, TooLargeError):
            self._outbox.shrink(error.topic)
        self._metrics.aborted(error.reason)
        self._size.failed()
        log.warning("going back to the last commit: %s", error)
        self._patience.failed(error)
        if self._swap is not None:
            self._swap.reset()
        self._assignment.discard_state()
        try:
            self._output.abort()
        except UnansweredError as late:
            self._wait(late)
        self._signals.stop.wait(min(_MOST_PAUSE, 0.1 * 2**self._failed_aborts - 0.1))
        self._failed_aborts = min(self._failed_aborts + 1, 10)

    # --- rebalances: on kafka-python's I/O thread, while this worker's thread waits in poll

    async def revoked(self) -> None:
        """Commit and snapshot before partitions go; they are held until the next assignment."""
        deadline = Deadline(min(_REVOCATION_SECONDS, self._delivery.shutdown_timeout / SECOND))
        if self._output.state is OutputState.OPEN:
            offsets = self._assignment.offsets()
            self._output.commit(offsets, self._consumer.group_metadata(), deadline)
            if not self._output.commits_offsets and offsets:
                await self._consumer.commit_within(offsets, deadline.remaining * 1000)
            self._note_committed()
        self._assignment.snapshot_all(deadline)

    def lost(self) -> None:
        """Drop partitions that others own by now."""
        self._assignment.assign(())
        self._output.abort()


class _Listener(AsyncConsumerRebalanceListener):  # type: ignore[misc]
    """Tells the loop of rebalances; errors, which poll would replace by others, are kept for it."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    async def on_partitions_revoked(self, revoked: Any) -> None:
        loop = self._loop
        loop.joining_since = time.monotonic()
        if revoked and loop._open:
            try:
                await loop.revoked()
            except KafkaError as error:
                loop._listener_error = AbortedError(f"revocation: {error}", "revocation")
            except (AbortedError, ConnectError, FatalError) as error:
                loop._listener_error = error

    async def on_partitions_assigned(self, assigned: Any) -> None:
        self._loop.joining_since = None
        self._loop._metrics.joined = True
        self._loop._assignment.assign(assigned)

    async def on_partitions_lost(self, lost: Any) -> None:
        loop = self._loop
        if loop._open:
            log.warning("partitions were lost to other members of the group")
            try:
                loop.lost()
            except (ConnectError, FatalError) as error:
                loop._listener_error = error

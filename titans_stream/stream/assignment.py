"""The partitions that a worker holds: recovers, snapshots and releases their state."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace
from operator import attrgetter

from kafka import TopicPartition
from kafka.structs import OffsetAndMetadata

from titans_stream.durations import MILLISECOND
from titans_stream.records import Alert, Engine
from titans_stream.stream.control import Controller, with_journal
from titans_stream.stream.credible import credible, go_on
from titans_stream.stream.kafka.deadline import TURN_ANSWER_MS, Deadline
from titans_stream.stream.kafka.protocols import Consumer
from titans_stream.stream.kafka.translation import translated
from titans_stream.stream.messages import RawMessage
from titans_stream.stream.metrics import Metrics
from titans_stream.stream.own_times import OwnTimes
from titans_stream.stream.recovery import (
    Chain,
    Committed,
    LogRange,
    Origin,
    Plan,
    Progress,
    SnapshotStore,
    StoredSnapshot,
    plan_first,
    plan_recovery,
    with_birth,
    with_life,
)
from titans_stream.stream.settings import InputConfig
from titans_stream.stream.snapshot_wishes import SnapshotWishes
from titans_stream.stream.snapshots import Snapshotter, reachable
from titans_stream.stream.starts import Starts
from titans_stream.stream.switch import SwitchEngine

log = logging.getLogger(__name__)

_UNFIT = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What restoring a state raises that is not of the engine's making."""

Offsets = dict[TopicPartition, OffsetAndMetadata]


class Assignment:
    """The state of the assigned partitions, in the engine and in `progress`.

    A partition is *new* until `recover` has put its state in place; until then its messages must
    not be processed. A partition that is revoked and assigned again at once is *held*: its state
    stays, and is used again if nobody has committed for it in between. `snapshot_interval` is
    seconds between snapshots of a partition; `number` gives the one by which the engine knows it.
    """

    def __init__(
        self,
        consumer: Consumer,
        engine: Engine,
        snapshots: SnapshotStore,
        config: InputConfig,
        snapshot_interval: float,
        metrics: Metrics,
        number: Callable[[TopicPartition], int] = attrgetter("partition"),
        own_times: OwnTimes | None = None,
        control: Controller | None = None,
        wishes: SnapshotWishes | None = None,
    ) -> None:
        self._consumer = consumer
        self._engine = engine
        self._snapshots = snapshots
        self._config = config
        self._metrics = metrics
        self._number = number
        self._control = control
        self._snapshotter = Snapshotter(
            engine, snapshots, snapshot_interval, metrics, number, wishes or SnapshotWishes()
        )
        self._starts = Starts(consumer, config, own_times)
        self.progress: dict[TopicPartition, Progress] = {}
        self.new: set[TopicPartition] = set()
        self._unfit: dict[TopicPartition, int] = {}

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Take over exactly these partitions; they are not read before `recover`."""
        assigned = set(partitions)
        self.release(set(self.progress) - assigned)
        self.new = assigned
        self._consumer.pause(*assigned)
        self._metrics.recovery_begun(assigned)
        self._metrics.partitions = len(assigned)
        if assigned:
            self._metrics.counts["rebalances"] += 1
            names = [f"{name} {number}" for name, number in sorted(assigned)]
            log.info("assigned: %s", ", ".join(names))

    @property
    def recovered(self) -> list[Progress]:
        """The partitions whose state is in place, those that replay among them."""
        return [x for partition, x in self.progress.items() if partition not in self.new]

    def release(self, partitions: Iterable[TopicPartition]) -> None:
        """Forget partitions, without writing anything."""
        for partition in list(partitions):
            self.new.discard(partition)
            self._metrics.released(partition)
            self._drop_state(partition)
        self._metrics.partitions = len(self.progress | dict.fromkeys(self.new))

    def _drop_state(self, partition: TopicPartition) -> None:
        if self.progress.pop(partition, None) is not None:
            self._engine.release(self._number(partition))
            if self._control is not None:
                self._control.drop(partition)

    def discard_state(self) -> None:
        """Drop the state of all partitions and read them anew from what is committed."""
        self.new |= set(self.progress)
        for partition in self.new:
            self._drop_state(partition)
        self._consumer.pause(*self.new)
        self._metrics.recovery_begun(self.new)

    def recover(self, pin: Callable[[Offsets], None]) -> None:
        """Rebuild the state of the new partitions and read on from there.

        `pin` commits offsets at once. UnansweredError where Kafka does not answer for now; all of
        them stay new then.
        """
        with self._metrics.timed("recover"), translated("recovery"), reachable():
            for partition in sorted(self.new):
                self._snapshotter.claim(partition)
            plans = with_journal(self._plans(sorted(self.new)), self._control)
            pins = {p: plan for p, plan in plans.items() if plan is not None and plan.pin}
            for partition in pins:
                self._snapshotter.discard(partition)
            if pins:
                pin({p: _offset(plan.resume, plan.origin) for p, plan in pins.items()})
            for partition, plan in plans.items():
                if plan is not None:
                    self._apply(partition, plan)
            # none is read before all are in place: the loop takes no messages while one is new
            for partition in plans:
                progress = self.progress[partition]
                if not progress.replaying:
                    self._metrics.recovery_ended(partition)
                self._consumer.seek(partition, progress.position)
                self._consumer.resume(partition)
                self.new.discard(partition)

    def _plans(self, partitions: list[TopicPartition]) -> dict[TopicPartition, Plan | None]:
        """A plan per partition; None where the held state is still the committed one."""
        begins = self._consumer.beginning_offsets(partitions, TURN_ANSWER_MS)
        ends = self._consumer.end_offsets(partitions, TURN_ANSWER_MS)
        plans: dict[TopicPartition, Plan | None] = {}
        told: dict[str, Origin | None] = {}
        for partition in partitions:
            logged = LogRange(begins[partition], ends[partition])
            found = self._consumer.committed(partition, metadata=True, timeout_ms=TURN_ANSWER_MS)
            held = self.progress.get(partition)
            if found is None:
                self._schema(partition, "")
                topic = partition.topic
                if topic not in told:
                    told[topic] = self._told(topic)
                plans[partition] = self._first_plan(partition, logged, told[topic])
            elif held is not None and _is_committed(held, found):
                plans[partition] = None
            else:
                plans[partition] = self._recovery_plan(partition, found, logged)
        return {
            p: None if plan is None else with_life(self._with_model(p, plan), uuid.uuid4().hex[:16])
            for p, plan in plans.items()
        }

    def _with_model(self, partition: TopicPartition, plan: Plan) -> Plan:
        """A plan that names the model that the partition is on, where models can change."""
        if not isinstance(self._engine, SwitchEngine):
            return plan
        model = self._engine.model(self._number(partition)).key
        return replace(plan, origin=replace(plan.origin, model=model))

    def _schema(self, partition: TopicPartition, model: str) -> str:
        """What a state of the partition has to be of; puts it on the model that it was on."""
        if not isinstance(self._engine, SwitchEngine):
            return self._engine.state_schema
        return self._engine.choose(self._number(partition), model).engine.state_schema

    def _told(self, topic: str) -> Origin | None:
        """What the group tells of itself with the offsets of a topic; None where it has none."""
        for number in sorted(self._consumer.partitions_for_topic(topic) or ()):
            found = self._consumer.committed(
                TopicPartition(topic, number), metadata=True, timeout_ms=TURN_ANSWER_MS
            )
            if found is not None:
                return Origin.decode(found.metadata)
        return None

    def _born(self) -> int:
        """When the group began to read any of its topics, in milliseconds; 0: not told, or new."""
        topics = sorted(filter(self._config.subscription.has, self._consumer.topics()))
        return next((told.born for told in map(self._told, topics) if told is not None), 0)

    def _first_plan(self, partition: TopicPartition, logged: LogRange, told: Origin | None) -> Plan:
        """A plan for a partition of which nothing is committed; `told` as the topic tells it.

        A partition that is younger than the group is read from its beginning, and a topic that a
        pattern matches later from the group's beginning on.
        """
        if told is not None:
            if partition.partition < told.partitions:
                return with_birth(self._starts.plan(partition, logged), told)
            return with_birth(plan_first(logged, logged.begin, logged.begin), told)
        known = self._consumer.partitions_for_topic(partition.topic) or set()
        count = max(known | {partition.partition}) + 1
        born = 0 if self._config.topic_pattern is None else self._born()
        if born:
            start = self._starts.offset_at(partition, born * MILLISECOND, logged.end)
            plan = plan_first(logged, start, start)
        else:
            plan, born = self._starts.plan(partition, logged), time.time_ns() // MILLISECOND
        return with_birth(plan, Origin(partitions=count, born=born))

    def _recovery_plan(
        self, partition: TopicPartition, found: OffsetAndMetadata, logged: LogRange
    ) -> Plan:
        committed = Committed(found.offset, Origin.decode(found.metadata))
        schema = self._schema(partition, committed.origin.model)

        def load(at_most: int) -> StoredSnapshot | None:
            at_most = min(at_most, self._unfit.get(partition, at_most + 1) - 1)
            return self._snapshots.load(partition.topic, partition.partition, at_most, schema)

        def warm_up_from() -> int:
            return self._starts.again(partition, logged, int(found.offset))

        plan = plan_recovery(committed, logged, load, warm_up_from)
        plan = with_birth(plan, committed.origin)
        return replace(plan, origin=replace(plan.origin, journal=committed.origin.journal))

    def _apply(self, partition: TopicPartition, plan: Plan) -> None:
        self._drop_state(partition)
        while plan.stored is not None and not self._restored(partition, plan.stored):
            self._unfit[partition] = plan.stored.offset
            if plan.stored.saved is not None:
                self._snapshots.refuse(partition.topic, partition.partition, plan.stored.saved)
            again = self._plans([partition])[partition]
            assert again is not None, "a state that was dropped is not held"
            plan = again
        self._unfit.pop(partition, None)
        stored = plan.stored
        muted: set[str] = set()
        opened: dict[str, Alert] = {}
        if stored is not None:
            muted, opened = stored.episodes(left=plan.warm_until > stored.start)
        progress = Progress(
            partition,
            position=plan.seek,
            resume=plan.resume,
            warm_until=plan.warm_until,
            committed=plan.resume,
            origin=plan.origin,
            muted=muted,
            snapshot_offset=-1 if stored is None else stored.offset,
            snapshot_due=self._snapshotter.due(),
            chain=self._chain(partition, stored),
            open=opened,
            journal=0 if stored is None else int(stored.notes.get("journal", 0)),
        )
        self.progress[partition] = progress
        if self._control is None:
            progress.journal = plan.origin.journal[1]
        else:
            self._control.begin(progress, plan)
        self.replayed(progress)
        self._metrics.counts["lost_messages"] += plan.lost
        if plan.warning:
            log.error("%s partition %d: %s", *partition, plan.warning)
        log.info(
            "%s partition %d: %s; replaying %d messages, output from offset %d",
            *partition,
            "nothing known" if stored is None else f"snapshot at {stored.offset}",
            plan.resume - plan.seek,
            plan.resume,
        )

    def _chain(self, partition: TopicPartition, stored: StoredSnapshot | None) -> Chain | None:
        """What the next snapshot can build on, the state being that of `stored`."""
        if stored is None or stored.saved is None:
            return None
        if stored.snapshot.schema != self._schema_of(partition):
            return None  # a part of the state began anew
        return Chain(stored.saved, self._engine.mark(self._number(partition)))

    def _schema_of(self, partition: TopicPartition) -> str:
        """The schema of a partition's state as it is."""
        if not isinstance(self._engine, SwitchEngine):
            return self._engine.state_schema
        return self._engine.model(self._number(partition)).engine.state_schema

    def replayed(self, progress: Progress) -> None:
        """Where a replay is over, tell the engine what the wall clock had told it by then."""
        if progress.replaying:
            return
        self._metrics.recovery_ended(progress.partition)
        if any(progress.origin.silent):
            number = self._number(progress.partition)
            self._engine.set_silent_since(number, list(progress.origin.silent))

    def _restored(self, partition: TopicPartition, stored: StoredSnapshot) -> bool:
        """Put a stored state in place; False, with a warning, where it does not fit the engine."""
        try:
            self._engine.restore(self._number(partition), stored.snapshot)
        except _UNFIT as error:
            log.warning(
                "%s partition %d: the snapshot at %d does not fit and is passed over: %s: %s",
                *partition,
                stored.offset,
                type(error).__name__,
                error,
            )
            self._engine.release(self._number(partition))
            return False
        return True

    def lost_range(self, partition: TopicPartition, wanted: int) -> None:
        """The log does not hold `wanted`: go on, never before the position, and say so."""
        with translated("recovery"):
            begin = self._consumer.beginning_offsets([partition], TURN_ANSWER_MS)[partition]
        progress = self.progress.get(partition)
        if progress is not None:
            go_on(self._consumer, progress, begin, wanted, self._metrics)

    def credible(self, partition: TopicPartition, messages: list[RawMessage]) -> list[RawMessage]:
        """The messages whose offsets can be theirs; see `credible.credible`."""
        return credible(self._consumer, self.progress[partition], messages, self._metrics)

    def offsets(self) -> Offsets:
        """What has to be committed of each partition that is past the replay."""
        found = {}
        for partition, progress in self.progress.items():
            if progress.position > progress.committed or progress.ticked or progress.moved:
                silent = tuple(self._engine.silent_since(self._number(partition)))
                journal = (progress.origin.journal[0], progress.journal)
                progress.origin = replace(progress.origin, silent=silent, journal=journal)
                found[partition] = _offset(progress.position, progress.origin)
        return found

    def note_committed(self) -> None:
        """Everything up to the positions is committed now."""
        if self._control is not None:
            self._control.committed()
        for progress in self.progress.values():
            progress.committed = max(progress.committed, progress.position)
            progress.ticked = progress.moved = False

    def is_read(self, partition: TopicPartition) -> bool:
        """Whether the log is known to hold nothing more."""
        end = self._consumer.highwater(partition)
        return end is not None and end <= self.progress[partition].position

    def note_lag(self) -> None:
        """Bring the lag by partition up to date."""
        for partition, progress in self.progress.items():
            end = self._consumer.highwater(partition)
            if end is not None:
                self._metrics.lag[partition] = max(0, end - progress.position)

    @property
    def copying(self) -> bool:
        """Whether a snapshot is to be gone on with in the next turn."""
        return self._snapshotter.copying

    def snapshot_next_due(self) -> None:
        """Go on with the snapshot in work; begin one if one is due."""
        self._snapshotter.turn(self.progress.values())

    def snapshot_all(self, deadline: Deadline) -> None:
        """Snapshot all partitions, as far as time allows; the others replay a little more."""
        self._snapshotter.take_all(self.progress.values(), deadline)

    def close(self, seconds: float) -> None:
        """Forget all partitions; a snapshot in work may take so long."""
        self._snapshotter.close(seconds)
        self.release(list(self.progress))


def _is_committed(held: Progress, found: OffsetAndMetadata) -> bool:
    """Whether a held state is that of the committed offset, control messages included."""
    at = held.position == held.committed == found.offset
    return at and held.journal == Origin.decode(found.metadata).journal[1]


def _offset(offset: int, origin: Origin) -> OffsetAndMetadata:
    return OffsetAndMetadata(offset, origin.encode(), -1)

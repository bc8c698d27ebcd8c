"""Changes a running worker to another model: nothing is lost, doubled or held up for long.

A new model is offered to the `SwitchEngine`. For each partition, in a *lane* of its own:

1. A reader in the background reads the last `swap.warm_up` of the log, up to where the worker is
   (swap_reader.py); from there on the lane is given every message that the worker processes.
2. Between two turns of the loop, for some milliseconds each, the lane's messages go through the new
   model's engine, beside the live state. Nothing of it is published.
3. When the lane has caught up, and what it said so far is plausible, the partition changes to the
   new state: episodes of the old one that are open are resolved, and one commit holds that, all
   output of the old model, and in the offset's metadata the model and where its warm-up began.

That commit is the journal. A recovery builds the new model's state from the same messages (it began
empty at `from` and speaks from `start` on, recovery.py), so what follows is the same bit for bit;
before it, the old model is recovered, and the change is made again. Episodes that the new model
opened during its warm-up are never published, as with any warm-up.

The state that is left is kept beside the snapshots, in the background. On the way back to its model
(a rollback) a lane begins with that state instead of an empty one, if no more than
`swap.most_messages` came since; the offset's metadata then names it.

A lane that fails, or says too much, ends the change for all: the worker goes on with the old model.
"""

from __future__ import annotations

import logging
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from kafka import TopicPartition

from titans_stream.control.announcements import Swapped
from titans_stream.control.messages import names_model
from titans_stream.records import Alert, ModelRef, Source
from titans_stream.stream.control import Controller
from titans_stream.stream.journal import Entry
from titans_stream.stream.messages import RawMessage
from titans_stream.stream.metrics import Metrics
from titans_stream.stream.recovery import (
    Origin,
    Progress,
    SnapshotStore,
    StoredSnapshot,
    load_of_life,
    stored_state,
)
from titans_stream.stream.swap_reader import History
from titans_stream.stream.swap_settings import SwapConfig
from titans_stream.stream.switch import Candidate, SwitchEngine
from titans_stream.times import format_timestamp

log = logging.getLogger(__name__)

OpenHistory = Callable[[TopicPartition, int, Callable[[], StoredSnapshot | None]], History]
"""Begins to read what a lane is warmed up with: a partition's messages up to an offset, from a
state on that may be loaded."""
Replay = Callable[[Candidate, Sequence[RawMessage]], list[Alert]]
"""Has a model's engine process messages of one partition; the alerts that come of it."""

_AT_ONCE = 4
"""Partitions that warm up at the same time."""
_SLICE = 50
"""Messages that go through the new engine at once: some milliseconds."""
_SWITCH = 5e-4
"""Seconds after which the reader in the background gives way to the loop while lanes are open; by
Python's own 5 ms, each of the many times that a kernel's arrays are made costs the loop so much."""
_BUDGET = 0.03
"""Seconds of warming up between two turns."""
_PAUSE = 5.0
"""Seconds before history that could not be read is tried again."""
_LEAST_JUDGED = 1_000
"""Messages of a lane before the rate of its alerts is judged."""
_BAD = (ArithmeticError, AssertionError, LookupError, TypeError, ValueError)
"""What an engine raises that cannot take the readings."""


@dataclass
class Lane:
    """A partition's way to the new model."""

    progress: Progress
    model: Candidate
    history: History
    pending: deque[RawMessage] = field(default_factory=deque)
    """Messages that the worker processed since the lane began."""
    muted: set[str] = field(default_factory=set)
    journal: int = 0
    """The number of the last journal entry that the new state has seen."""
    messages: int = 0
    opened: int = 0
    begun: bool = False
    """Whether the new state is the one from which the history goes on."""
    left: StoredSnapshot | None = None
    """The old model's state, once the partition has changed, ..."""
    before: ModelRef | None = None
    """... and the old model."""

    @property
    def caught_up(self) -> bool:
        """Whether the new state has seen all that the live one has."""
        return self.begun and self.history.done and not self.pending

    def next(self) -> list[RawMessage]:
        """The next messages for the new engine; none where it has to wait."""
        if not self.history.done:
            return self.history.take()
        return [self.pending.popleft() for _ in range(min(_SLICE, len(self.pending)))]


class Swapper:
    """Brings all partitions of a worker to the switch's target."""

    def __init__(
        self,
        switch: SwitchEngine,
        config: SwapConfig,
        open_history: OpenHistory,
        replay: Replay,
        number: Callable[[TopicPartition], int],
        metrics: Metrics,
        store: SnapshotStore,
        control: Controller | None = None,
        group_id: str = "",
    ) -> None:
        self._control = control
        self._group_id = group_id
        self._switch = switch
        self._config = config
        self._open_history = open_history
        self._replay = replay
        self._number = number
        self._metrics = metrics
        self._store = store
        self._keeping = ThreadPoolExecutor(1, "swap-keep")
        self._unfit: set[TopicPartition] = set()
        """Partitions whose kept state did not fit the engine."""
        self._lanes: dict[TopicPartition, Lane] = {}
        self._not_before = 0.0
        self._switch_interval = sys.getswitchinterval()

    @property
    def busy(self) -> bool:
        """Whether partitions are warming up."""
        return bool(self._lanes)

    def took(
        self,
        progress: dict[TopicPartition, Progress],
        messages: Sequence[RawMessage],
        alerts: Sequence[Alert],
    ) -> None:
        """The worker has processed messages, which come to the lanes now, and published alerts."""
        for alert in alerts:
            mine = progress.get(TopicPartition(alert.source.topic, alert.source.partition))
            if mine is not None:
                mine.note(alert)
        if self._lanes:
            for message in messages:
                lane = self._lanes.get(TopicPartition(message.topic, message.partition))
                if lane is not None:
                    lane.pending.append(message)

    def reset(self) -> None:
        """Drop all lanes: what they have seen is not what the worker has processed any more."""
        for partition in list(self._lanes):
            self._close(partition)

    def step(self, held: dict[TopicPartition, Progress], new: set[TopicPartition]) -> list[Lane]:
        """Warm up for a while; the lanes that can change now. `new` are not recovered yet."""
        if self._switch.accept():
            log.info("model %s: warming up beside the running one", self._switch.target.key)
            self.reset()
        for partition, lane in list(self._lanes.items()):
            if held.get(partition) is not lane.progress or partition in new:
                self._close(partition)
        self._begin({p: x for p, x in held.items() if p not in new and not x.replaying})
        end = time.perf_counter() + _BUDGET
        for partition in list(self._lanes):
            if partition in self._lanes:
                self._feed(self._lanes[partition], end)
        return [lane for lane in self._lanes.values() if lane.caught_up]

    def change_rules(self, held: dict[TopicPartition, Progress], new: set[TopicPartition]) -> bool:
        """Make a change of the rules that was offered, where no partition is being recovered.

        The caller has committed all that the old rules made; a snapshot of each partition, which it
        takes then, keeps a recovery from taking the new ones for the readings before.
        """
        if new or any(progress.replaying for progress in held.values()):
            return False
        self.reset()
        self._switch.make_change()
        self._metrics.reload_ended(taken=True)
        log.info("rules and budgets are changed")
        return True

    @property
    def rules_due(self) -> bool:
        """Whether a change of the rules was offered."""
        return self._switch.change_due

    def _begin(self, ready: dict[TopicPartition, Progress]) -> None:
        target = self._switch.target
        if self._switch.choosing or time.monotonic() < self._not_before:
            return
        for partition, progress in sorted(ready.items()):
            if len(self._lanes) >= _AT_ONCE:
                return
            on = self._switch.model(self._number(partition)).key
            if partition not in self._lanes and on != target.key:
                target.engine.release(self._number(partition))
                sys.setswitchinterval(_SWITCH)
                load = self._loader(progress, target)
                history = self._open_history(partition, progress.position, load)
                self._lanes[partition] = Lane(progress, target, history)

    def _loader(self, progress: Progress, target: Candidate) -> Callable[[], StoredSnapshot | None]:
        """Gives the state that a partition was on before, where the target has to do with it."""
        (topic, number), life, until = progress.partition, progress.origin.left, progress.position
        if not life or progress.partition in self._unfit:
            return lambda: None
        schema = target.engine.state_schema
        return lambda: load_of_life(
            lambda at_most: self._store.load(topic, number, at_most, schema), until, life
        )

    def _take_up(self, lane: Lane) -> bool:
        """Have the lane's engine begin with the state that was kept, if any; False: not now."""
        stored, partition = lane.history.stored, lane.progress.partition
        if stored is not None:
            try:
                lane.muted, _ = stored.episodes(left=True)
                lane.journal = int(stored.notes.get("journal", 0))
                lane.model.engine.restore(self._number(partition), stored.snapshot)
            except _BAD as error:
                log.warning(
                    "%s partition %d: the state that was kept of model %s does not fit and is "
                    "passed over: %s: %s",
                    *partition, lane.model.key, type(error).__name__, error,
                )  # fmt: skip
                self._unfit.add(partition)
                self._close(partition)
                return False
        lane.begun = True
        return True

    def _feed(self, lane: Lane, end: float) -> None:
        """Have the lane's engine process messages until the time is up."""
        if lane.history.found and not lane.begun and not self._take_up(lane):
            return
        try:
            while time.perf_counter() < end:
                messages = lane.next()
                if not messages:
                    break
                for alert in self._passed(lane, messages):
                    if alert.status == "opened":
                        lane.opened += 1
                        lane.muted.add(alert.alert_id)
                    elif alert.status == "resolved":
                        lane.muted.discard(alert.alert_id)
                lane.messages += len(messages)
            if lane.history.error is not None:
                log.warning("swap: %s cannot be read: %s", lane.progress.partition[0],
                            lane.history.error)  # fmt: skip
                self._close(lane.progress.partition)
                self._not_before = time.monotonic() + _PAUSE
                return
        except _BAD as error:
            self._refuse(lane, f"{type(error).__name__}: {error}")
            return
        limit = self._config.most_alerts_per_1000
        if lane.messages >= _LEAST_JUDGED and 1000 * lane.opened > limit * lane.messages:
            self._refuse(
                lane,
                f"{lane.opened:,} alerts in {lane.messages:,} messages of its warm-up, more than "
                f"swap.most_alerts_per_1000 ({limit:g})",
            )

    def _passed(self, lane: Lane, messages: Sequence[RawMessage]) -> list[Alert]:
        """The lane's engine takes messages, and control messages where the live one took them."""
        if self._control is None:
            return self._replay(lane.model, messages)
        found: list[Alert] = []
        for entry in self._control.entries(lane.progress.partition, lane.journal):
            at = entry.at if entry.number > lane.progress.origin.journal[0] else 0
            if at > messages[-1].offset:
                break
            count = sum(message.offset < at for message in messages)
            if count:
                found += self._replay(lane.model, messages[:count])
            messages = messages[count:]
            self._obey(lane, entry)
        return found + self._replay(lane.model, messages)

    def _obey(self, lane: Lane, entry: Entry) -> None:
        """What ends by a control message was opened in the warm-up: nobody is told."""
        partition = self._number(lane.progress.partition)
        lane.journal = entry.number
        if entry.order is not None and not names_model(entry.order):
            for alert in lane.model.engine.control(partition, entry.order, entry.at):
                lane.muted.discard(alert.alert_id)

    def _refuse(self, lane: Lane, why: str) -> None:
        log.error("model %s is refused, the old one goes on: %s", lane.model.key, why)
        self._metrics.counts["refused_models"] += 1
        self._switch.refuse(lane.model.key)
        self.reset()

    def change(self, lanes: Sequence[Lane]) -> list[Alert]:
        """Put partitions on the new model; the alerts that end the old one's open episodes.

        Both are to be committed at once. After an abort everything is recovered.
        """
        ended: list[Alert] = []
        for lane in lanes:
            progress, key = lane.progress, lane.model.key
            if self._control is not None:
                for entry in self._control.entries(progress.partition, lane.journal):
                    self._obey(lane, entry)
            reason = f"ended by the change to model {lane.model.ref.name} version "
            for alert in progress.open.values():
                if alert.alert_id not in progress.muted:
                    told = reason + lane.model.ref.version
                    topic, number = progress.partition
                    source = Source(topic, number, alert.source.offset)
                    ended.append(replace(alert, status="resolved", explanation=told, source=source))
            number = self._number(progress.partition)
            old = self._switch.model(number)
            lane.before = old.ref
            lane.left = stored_state(progress, old.engine.snapshot(number))
            self._switch.move(number, key)
            origin, stored = progress.origin, lane.history.stored
            progress.origin = Origin(
                built_from=lane.history.begin if stored is None else None,
                start=progress.position,
                snapshot=None if stored is None else stored.offset,
                life=uuid.uuid4().hex[:16] if stored is None else stored.life,
                partitions=origin.partitions,
                born=origin.born,
                model=key,
                left=origin.life,
                journal=origin.journal,
            )
            progress.warm_until = progress.position
            progress.muted, progress.open = lane.muted, {}
            progress.snapshot_offset, progress.moved = -1, True
            progress.chain, progress.lineage = None, object()
        return ended

    def announcements(self, lanes: Sequence[Lane]) -> list[Swapped]:
        """What is told of partitions that have changed, to be committed with the change."""
        told = []
        for lane in lanes:
            progress = lane.progress
            assert lane.before is not None
            told.append(
                Swapped(
                    self._group_id,
                    progress.partition.topic,
                    progress.partition.partition,
                    offset=progress.position,
                    model=lane.model.ref,
                    before=lane.before,
                    state="warmed_up" if lane.history.stored is None else "taken_up_again",
                    messages=lane.messages,
                    time=format_timestamp(time.time_ns()),
                )
            )
        return told

    def changed(self, lanes: Sequence[Lane]) -> None:
        """The change is committed."""
        for lane in lanes:
            progress = lane.progress
            log.info(
                "%s partition %d: model %s from offset %d on, %s with %d messages from offset %d",
                *progress.partition, lane.model.key, progress.position,
                "warmed up" if lane.history.stored is None else "taken up again",
                lane.messages, lane.history.begin,
            )  # fmt: skip
            assert lane.left is not None
            self._keeping.submit(self._keep, progress.partition, lane.left)
            self._unfit.discard(progress.partition)
            self._metrics.counts["swaps"] += 1
            self._close(progress.partition)
        self._switch.forget_unused()

    def _keep(self, partition: TopicPartition, left: StoredSnapshot) -> None:
        try:
            self._store.keep(partition.topic, partition.partition, left)
        except OSError as error:
            log.warning(
                "%s partition %d: the state before the change is not kept: %s", *partition, error
            )

    def _close(self, partition: TopicPartition) -> None:
        lane = self._lanes.pop(partition, None)
        if lane is not None:
            lane.history.close()
            number = self._number(partition)
            if self._switch.model(number).key != lane.model.key:
                lane.model.engine.release(number)
        if not self._lanes:
            sys.setswitchinterval(self._switch_interval)

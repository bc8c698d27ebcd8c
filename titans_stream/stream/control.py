"""Control messages in the worker: each takes effect at a recorded offset of each partition.

1. A thread reads the control topic (control_topic.py). Between two turns of the loop each partition
   that is not replaying takes what has come: the engine does as it says before the message at the
   partition's position, and a journal entry (journal.py) says so in the open transaction.
2. That transaction commits the partition's offset, though it may not have moved, with the number
   of its last entry. A worker that has lost the partition cannot commit it.
   What names the model is for the worker, not for an engine: the entry says where it was heard of,
   the change itself has its place in the metadata of offsets (swap.py).
3. A recovery applies the entries that its snapshot has not seen: those of the beginning at once,
   the others before the messages at which they were applied first. What follows is the same bit
   for bit.

What cannot be used is a dead letter, of the worker that has the first partition of all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from kafka import TopicPartition

from titans_stream.control.messages import names_model
from titans_stream.records import Alert, DeadLetter, Order
from titans_stream.stream.codec.fields import Reason
from titans_stream.stream.control_topic import ControlTopic, Received
from titans_stream.stream.journal import Entry, Journal
from titans_stream.stream.kafka.errors import UnansweredError
from titans_stream.stream.metrics import Metrics
from titans_stream.stream.recovery import Plan, Progress

log = logging.getLogger(__name__)

_PATIENCE = 3.0

Apply = Callable[[TopicPartition, Order, int], list[Alert]]
"""Has the engine do as an order says, for a partition, before the message at an offset."""


@dataclass
class Obeyed:
    """What control messages came to in one turn."""

    alerts: list[Alert] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)


@dataclass
class _Place:
    """How far a partition is: the next of the messages that came, those of earlier times aside."""

    next: int
    done: dict[int, int]
    """Offset of the control topic's next message, by its partition."""


class Controller:
    """Brings control messages to partitions, and journal entries back to them.

    `apply` is the live engine's; `first` names the partition whose worker writes dead letters.
    `steer` hears of each message that names the model, the standing one at the start too.
    """

    def __init__(
        self,
        topic: ControlTopic,
        journal: Journal,
        apply: Apply,
        first: Callable[[], TopicPartition],
        metrics: Metrics,
        steer: Callable[[Order], None] | None = None,
    ) -> None:
        self._steer = steer
        self._steered = 0
        self._topic = topic
        self.journal = journal
        self._apply = apply
        self._first = first
        self._metrics = metrics
        self._places: dict[TopicPartition, _Place] = {}
        self._open: list[Entry] = []
        """Entries of the transaction that is open."""
        self._ends: dict[int, int] = {}
        """Where the control topic ended at the last recovery, by its partition."""

    def close(self) -> None:
        """End."""
        self._topic.close()
        self.journal.close()

    # --- recovery

    def read(self, wanted: dict[TopicPartition, int]) -> None:
        """Read the journal up to what is committed, as `Journal.read`, and the control topic."""
        if not self._topic.read.wait(_PATIENCE):
            raise UnansweredError(f"the control topic {self._topic.topic} is not read yet")
        self.journal.read(wanted)
        self._ends = self.journal.ends(self._topic.topic)

    def begin(self, progress: Progress, plan: Plan) -> None:
        """A partition's state is that of its plan: apply what it has not seen of the beginning."""
        partition = progress.partition
        first, last = plan.origin.journal
        self.journal.forget(partition, last)
        done: dict[int, int] = {}
        for entry in self.journal.of(partition):
            done[entry.control[0]] = entry.control[1] + 1
            if plan.stored is None and entry.number <= first:
                self._replay(progress, entry)
        for number in [n for n, offset in done.items() if offset > self._ends.get(n, 0)]:
            log.error("control topic %s was made anew: taken from its beginning", self._topic.topic)
            del done[number]
        self._places[partition] = _Place(0, done)
        self.replay(progress, progress.position)

    def cuts(self, progress: Progress) -> set[int]:
        """The offsets before `resume` at which a replay has to apply entries."""
        entries = self._after(progress.partition, progress.journal)
        return {entry.at for entry in entries if entry.at < progress.resume}

    def replay(self, progress: Progress, until: int) -> None:
        """Apply the entries up to those at the offset `until`; all messages before it are taken."""
        for entry in self._after(progress.partition, progress.journal):
            if entry.at > until and until < progress.resume:
                break
            self._replay(progress, entry)

    def _after(self, partition: TopicPartition, number: int) -> list[Entry]:
        return [entry for entry in self.journal.of(partition) if entry.number > number]

    def _replay(self, progress: Progress, entry: Entry) -> None:
        """Apply an entry; the alerts that it came to are published already."""
        progress.journal = entry.number
        if entry.order is not None and not names_model(entry.order):
            for alert in self._apply(entry.partition, entry.order, entry.at):
                progress.obeyed(alert)

    # --- live

    def turn(
        self,
        held: Iterable[Progress],
        begin: Callable[[], None],
        publish: Callable[[Obeyed], None],
    ) -> None:
        """Have what came take effect; `begin` opens a transaction, in which it is published."""
        self._choose_model()
        done = self._obey(held)
        if done.entries:
            begin()
            publish(done)

    def _choose_model(self) -> None:
        """Pass on what was said last of the model, if anything new was."""
        count = len(self._topic.messages)
        said = [
            message.order
            for message in self._topic.messages[self._steered : count]
            if message.order is not None and names_model(message.order)
        ]
        self._steered = count
        if said and self._steer is not None:
            self._steer(said[-1])

    def _obey(self, held: Iterable[Progress]) -> Obeyed:
        """Apply what has come to partitions that are recovered, replays aside."""
        done = Obeyed()
        count = len(self._topic.messages)
        for progress in held:
            place = self._places.get(progress.partition)
            if place is None or place.next >= count or progress.replaying:
                continue
            for message in self._topic.messages[place.next : count]:
                self._take(progress, place, message, done)
            place.next = count
        self._open += done.entries
        return done

    def _take(self, progress: Progress, place: _Place, message: Received, done: Obeyed) -> None:
        number = message.partition
        if message.offset < place.done.get(number, 0):
            return
        place.done[number] = message.offset + 1
        partition = progress.partition
        if message.order is None and partition != self._first():
            return
        progress.journal += 1
        progress.moved = True
        name = message.order.id if message.order else ""
        entry = Entry(
            partition, progress.journal, progress.position, (number, message.offset), name,
            message.order,
        )  # fmt: skip
        done.entries.append(entry)
        if message.order is None:
            done.dead.append(
                DeadLetter(
                    Reason.INVALID_CONTROL, message.problem, message.key, message.value,
                    self._topic.topic, number, message.offset,
                )
            )  # fmt: skip
            return
        alerts = (
            []
            if names_model(message.order)
            else self._apply(partition, message.order, progress.position)
        )
        done.alerts += [alert for alert in alerts if progress.obeyed(alert)]
        self._metrics.counts["control_messages"] += 1
        log.info(
            "%s partition %d: %s %s, from offset %d on",
            *partition,
            "control message" if message.order.text else "undone:",
            name,
            progress.position,
        )

    def committed(self) -> None:
        """The open transaction is committed."""
        self.journal.add(self._open)
        self._open = []

    def drop(self, partition: TopicPartition) -> None:
        """A partition's state goes: what is not committed of it goes, too."""
        self._places.pop(partition, None)
        self._open = [entry for entry in self._open if entry.partition != partition]

    # --- a state that is built beside the live one

    def entries(self, partition: TopicPartition, number: int) -> list[Entry]:
        """All entries of a partition after one, those of the open transaction too."""
        mine = [entry for entry in self._open if entry.partition == partition]
        known = [entry for entry in self._after(partition, number) if entry not in mine]
        return [*known, *(entry for entry in mine if entry.number > number)]


def with_journal(
    plans: dict[TopicPartition, Plan | None], control: Controller | None
) -> dict[TopicPartition, Plan | None]:
    """Plans, with what the journal holds for them read; a new life begins with all of it."""
    wanted = {p: plan.origin.journal[1] for p, plan in plans.items() if plan is not None}
    if control is None:
        if any(wanted.values()):
            log.warning("control: is not set; the control messages of its journal do not count")
        return plans
    if wanted:
        control.read(wanted)
    found = dict(plans)
    for partition, plan in plans.items():
        if plan is not None and plan.pin:
            newest = control.journal.newest(partition)
            found[partition] = replace(plan, origin=replace(plan.origin, journal=(newest, newest)))
    return found

"""How a partition's state is rebuilt: the newest snapshot, and a replay up to what is committed.

A partition is assigned, lost or aborted; its state in memory must then become what it was when
the committed offset C was committed:

1. Take the newest snapshot at an offset a <= C that the engine's schema can restore.
2. Seek to a. Messages from a up to C are processed without output: it is published already.
3. From C on, go on as always.

Without a snapshot the metadata of the committed offset says where the state began (`Origin`):
with the first commit of a partition, made before anything is read, that place is pinned. A crash
during a warm-up thus repeats the warm-up, and loses nothing that came in meanwhile.

A change of the model begins a life, too (swap.py); a way back to a model takes up the life and the
state that were left then, and what was told before that stays told.

A pin also begins a new *life* of the partition, which every later commit and snapshot names. In an
earlier life (before the topic was made anew, or the group's offsets expired) the same offsets meant
other messages: its snapshots are never restored.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import msgspec
from kafka import TopicPartition

from titans_stream.records import Alert, Snapshot

_PAUSE_FADES = 0.97
"""The longest pause between messages fades so with each time that some come."""


class FencedError(OSError):
    """A write was refused, for another worker has taken over the partition."""


class NoBaseError(OSError):
    """What a snapshot stands on is gone or damaged: the next one must hold all series."""


class UnreachableError(OSError):
    """Whether there are snapshots cannot be known for now."""


@dataclass(frozen=True, slots=True)
class Saved:
    """How a snapshot is stored: under `name`, in `size` bytes.

    It stands, by way of `deltas` others of `delta_size` bytes together, on one of `base_size` bytes
    that has all series. One that has all itself stands on itself.
    """

    name: str
    size: int
    deltas: int
    delta_size: int
    base_size: int


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """A partition's state before the message at `offset`, with the worker's own notes."""

    offset: int
    snapshot: Snapshot
    notes: dict[str, Any]
    onto: str = ""
    """Where it has those series only that were touched since another snapshot: that one's name."""
    saved: Saved | None = None
    """How it is stored; None where it is not."""

    @property
    def life(self) -> str:
        """The life of the partition that it belongs to; nothing where that is not told."""
        return str(self.notes.get("life", ""))

    @property
    def start(self) -> int:
        """The offset from which its state's alerts are published."""
        return int(self.notes.get("start", 0))

    def episodes(self, *, left: bool) -> tuple[set[str], dict[str, Alert]]:
        """The episodes that stay unsaid, and those that are open.

        `left`: the state was left for another model's, by which what was open has been ended.
        """
        told = [msgspec.convert(each, Alert) for each in self.notes.get("open", ())]
        open_episodes = {alert.alert_id: alert for alert in told}
        muted = set(self.notes.get("muted", ()))
        return (muted | set(open_episodes), {}) if left else (muted, open_episodes)


class SnapshotStore(Protocol):
    """Keeps snapshots of the partitions of one consumer group.

    Methods may be called from several threads.
    """

    def claim(self, topic: str, partition: int) -> None:
        """This worker writes a partition's snapshots from now on, and no one else does.

        OSError where that fails; what is written later claims it then.
        """

    def save(self, topic: str, partition: int, stored: StoredSnapshot) -> Saved:
        """Keep a snapshot; older ones beyond a number may go.

        OSError where that fails, `FencedError` where another worker has claimed the partition
        since, `NoBaseError`. CancelledError of the snapshot's parts goes on; nothing is kept then.
        """

    def load(self, topic: str, partition: int, at_most: int, schema: str) -> StoredSnapshot | None:
        """The newest sound snapshot that `schema` can restore, at an offset up to `at_most`.

        `UnreachableError` where that cannot be known.
        """

    def refuse(self, topic: str, partition: int, saved: Saved) -> None:
        """Count a snapshot that `load` gave as damaged: it does not fit the engine."""

    def keep(self, topic: str, partition: int, stored: StoredSnapshot) -> None:
        """Keep a state that was left for another model's, whatever is saved after it.

        `load` gives it, too. The newest one stays. OSError where that fails.
        """

    def discard(self, topic: str, partition: int, after: int) -> None:
        """Forget the snapshots at offsets beyond `after`. OSError where that fails."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a partition's state comes from, as the metadata of its committed offset says it.

    `built_from`: the state began empty at that offset, and output at `start` (before it lies the
    warm-up). `snapshot`: a snapshot at that offset was saved; with `start`, its state was taken up
    again there. `life` is a name that no other life of the partition has. `partitions`: how many
    the topic had when the group began to read it, `born`: when that was, in milliseconds. `model`:
    `name/version` of the model that the state is of. `left`: the life of the state that was left
    for this one. 0, or nothing, where one is not told.
    """

    built_from: int | None = None
    start: int = 0
    snapshot: int | None = None
    life: str = ""
    partitions: int = 0
    born: int = 0
    silent: tuple[int, ...] = ()
    """What the wall clock has told the engine by this offset (`Engine.silent_since`)."""
    model: str = ""
    left: str = ""
    journal: tuple[int, int] = (0, 0)
    """Numbers of the journal's entries: the last one before this life, which its state begins with,
    and the last one of the partition."""

    def encode(self) -> str:
        """The metadata of an offset."""
        first = {"life": self.life, "partitions": self.partitions, "born": self.born}
        told: dict[str, Any] = {name: value for name, value in first.items() if value}
        if any(self.silent):
            told["silent"] = list(self.silent)
        if self.model:
            told["model"] = self.model
        if self.left:
            told["left"] = self.left
        if any(self.journal):
            told["journal"] = list(self.journal)
        if self.snapshot is not None:
            if self.start:
                told["start"] = self.start
            return json.dumps({"snapshot": self.snapshot, **told})
        return json.dumps({"from": self.built_from, "start": self.start, **told})

    @classmethod
    def decode(cls, metadata: str | None) -> Origin:
        """Read metadata; what this worker did not write tells nothing."""
        try:
            found = json.loads(metadata or "")
        except ValueError:
            return cls()
        if not isinstance(found, dict):
            return cls()
        numbers = {name: value for name, value in found.items() if type(value) is int}
        life = str(found.get("life", ""))
        silent = found.get("silent")
        times = tuple(one for one in silent if type(one) is int) if isinstance(silent, list) else ()
        journal = found.get("journal")
        if not isinstance(journal, list) or [type(one) for one in journal] != [int, int]:
            journal = [0, 0]
        told = cls(
            life=life,
            partitions=numbers.get("partitions", 0),
            born=numbers.get("born", 0),
            silent=times,
            model=str(found.get("model", "")),
            left=str(found.get("left", "")),
            start=numbers.get("start", 0),
            journal=(journal[0], journal[1]),
        )
        if "snapshot" in numbers:
            return replace(told, snapshot=numbers["snapshot"])
        if "from" in numbers:
            return replace(told, built_from=numbers["from"])
        return cls()


@dataclass(frozen=True, slots=True)
class Committed:
    """The offset that a group has committed for a partition."""

    offset: int
    origin: Origin


@dataclass(frozen=True, slots=True)
class LogRange:
    """The offsets that a partition's log holds: from `begin` up to, not including, `end`."""

    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Plan:
    """How to rebuild a partition.

    Start from `stored`, or from nothing; read from `seek`; before `warm_until` alerts are not
    for publication ever, before `resume` they are published already. `lost` messages are no
    longer in the log; `warning` says so to the user. `pin`: the place must be committed first.
    """

    seek: int
    resume: int
    warm_until: int
    origin: Origin
    stored: StoredSnapshot | None = None
    lost: int = 0
    pin: bool = False
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Chain:
    """A stored snapshot, and the engine's mark of its moment."""

    saved: Saved
    mark: int


@dataclass(slots=True)
class Progress:
    """A partition in work. Offsets are of the next message to be taken."""

    partition: TopicPartition
    position: int
    resume: int
    warm_until: int
    committed: int
    origin: Origin
    muted: set[str] = field(default_factory=set)
    journal: int = 0
    """The number of the last journal entry that the state has seen."""
    snapshot_offset: int = -1
    snapshot_due: float = 0.0
    chain: Chain | None = None
    """The stored snapshot that the next one can build on."""
    fenced_at: int = -1
    """The committed offset at which another worker was found to write snapshots; -1: none was."""
    lineage: object = field(default_factory=object)
    """Another one where a change of the model replaces the state."""
    ticked: bool = False
    """Whether a tick of the wall clock waits for a commit."""
    last_message: float = field(default_factory=time.monotonic)
    """When messages came last, or were waited for first."""
    arrivals: int = 0
    """How often messages came, and the longest pause between two times of late, in seconds."""
    pause: float = 0.0

    def heard(self, now: float) -> None:
        """Messages came at `now`, on the clock of `last_message`."""
        if self.arrivals:
            self.pause = max(now - self.last_message, _PAUSE_FADES * self.pause)
        self.arrivals += 1
        self.last_message = now

    open: dict[str, Alert] = field(default_factory=dict)
    """The last message of each open episode, where a change of the model may have to end it."""
    beyond: int = -1
    """An offset that the log was found to end before."""
    moved: bool = False
    """Whether its origin has to be committed though no message was taken since."""

    def note(self, alert: Alert) -> None:
        """Keep in mind whether an episode is open."""
        if alert.status == "resolved":
            self.open.pop(alert.alert_id, None)
        else:
            self.open[alert.alert_id] = alert

    def obeyed(self, alert: Alert) -> bool:
        """A control message came to an alert; whether it is for publication."""
        known = alert.alert_id not in self.muted
        self.note(alert)
        if alert.status == "resolved":
            self.muted.discard(alert.alert_id)
        return known

    @property
    def replaying(self) -> bool:
        """Whether output is discarded still."""
        return self.position < self.resume

    @property
    def settled(self) -> bool:
        """Whether the state is that of a committed offset, or of one before it."""
        return self.position <= self.committed and not self.moved


def plan_first(log: LogRange, start: int, warm_up_from: int) -> Plan:
    """A partition for which the group has committed nothing: warm up, then start."""
    start = min(max(start, log.begin), log.end)
    seek = min(max(warm_up_from, log.begin), start)
    return Plan(seek, start, start, Origin(built_from=seek, start=start), pin=True)


def plan_recovery(
    committed: Committed,
    log: LogRange,
    load: Callable[[int], StoredSnapshot | None],
    warm_up_from: Callable[[], int],
) -> Plan:
    """A partition with a committed offset.

    `load` gives the newest fitting snapshot up to an offset; `warm_up_from` the offset at which
    a warm-up before now begins, or the first one where a connector starts at the earliest.
    """
    offset = committed.offset
    if offset > log.end:
        warning = (
            f"the committed offset {offset} lies beyond the end of the log ({log.end}): the topic "
            f"was truncated or created anew; starting from its first message, {log.begin}"
        )
        origin = Origin(built_from=log.begin, start=log.begin)
        return Plan(log.begin, log.begin, log.begin, origin, pin=True, warning=warning)
    life = committed.origin.life
    stored = load_of_life(load, offset, life)
    resume = max(offset, log.begin)
    lost = resume - offset
    warnings = []
    if lost:
        warnings.append(f"{lost} messages were deleted before they were read")
    if stored is not None:
        wanted, origin = stored.offset, Origin(snapshot=stored.offset, life=stored.life)
        warm_until = stored.start
        if committed.origin.snapshot is not None and committed.origin.start > stored.start:
            warm_until = committed.origin.start
            origin = replace(origin, start=warm_until)
    elif committed.origin.built_from is not None:
        wanted, origin = committed.origin.built_from, committed.origin
        warm_until = committed.origin.start
    else:
        wanted = min(warm_up_from(), resume)
        origin, warm_until = Origin(built_from=wanted, start=resume, life=life), resume
        warnings.append(
            "no snapshot fits (the state folder has none, or settings or model have changed): "
            f"learning anew from offset {wanted}"
        )
    seek = min(max(wanted, log.begin), resume)
    missing = min(seek, offset) - wanted
    if missing > 0:
        lost += missing
        warnings.append(f"{missing} messages needed to rebuild the state were deleted")
    return Plan(seek, resume, warm_until, origin, stored, lost, warning="; ".join(warnings))


def load_of_life(
    load: Callable[[int], StoredSnapshot | None], at_most: int, life: str
) -> StoredSnapshot | None:
    """The newest snapshot of a life; of any where the committed offset tells none."""
    stored = load(at_most)
    while stored is not None and life and stored.life != life:
        stored = load(stored.offset - 1)
    return stored


def stored_state(progress: Progress, snapshot: Snapshot) -> StoredSnapshot:
    """A partition's state as it is now, with what is noted of it."""
    notes: dict[str, Any] = {
        "start": progress.warm_until,
        "muted": sorted(progress.muted),
        "life": progress.origin.life,
    }
    if progress.open:
        notes["open"] = [msgspec.to_builtins(alert) for alert in progress.open.values()]
    if progress.journal:
        notes["journal"] = progress.journal
    return StoredSnapshot(progress.position, snapshot, notes)


def with_birth(plan: Plan, told: Origin) -> Plan:
    """A plan that goes on telling what is no part of the state: the group's birth, for instance."""
    origin = replace(
        plan.origin, partitions=told.partitions, born=told.born, silent=told.silent, left=told.left
    )
    return replace(plan, origin=origin)


def with_life(plan: Plan, name: str) -> Plan:
    """A plan of a state that begins empty names its life."""
    if plan.stored is not None or plan.origin.life:
        return plan
    return replace(plan, origin=replace(plan.origin, life=name))

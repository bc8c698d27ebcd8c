"""Kafka as the worker's protocol sees it, in memory and without time.

One input topic, one consumer group, outputs in transactions. A rebalance is the eager one: every
member gives up its partitions before the next generation begins, and one that is not heard of is
left out. The broker refuses commits of members that are not of the present generation (KIP-447)
and of producers whose id another one has taken over (KIP-98).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from kafka import TopicPartition
from kafka.errors import CommitFailedError, KafkaTimeoutError, ProducerFencedError
from kafka.structs import ConsumerGroupMetadata, OffsetAndMetadata

from titans_stream.stream.kafka.client import TopicInfo
from titans_stream.stream.kafka.groups import GroupUse

Message = tuple[str, bytes | None, bytes | None]


class Record(tuple[Any, ...]):
    """A consumer record, by its fields' places."""

    __slots__ = ()


@dataclass
class Cluster:
    """The brokers: one input topic, its group, and the outputs that are committed."""

    topic: str
    partitions: int
    logs: dict[int, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    committed: dict[TopicPartition, OffsetAndMetadata] = field(default_factory=dict)
    outputs: list[Message] = field(default_factory=list)
    members: dict[int, ModelConsumer] = field(default_factory=dict)
    generation: int = 0
    joining: bool = False
    joined: set[int] = field(default_factory=set)
    epochs: dict[str, int] = field(default_factory=dict)
    commits: list[tuple[int, int, frozenset[TopicPartition]]] = field(default_factory=list)
    """Member, generation and partitions of every commit that was accepted."""
    meanwhile: Callable[[int], None] | None = None
    """Called once with the member whose commit is next, before the broker looks at it."""
    lost_answers: int = 0
    """So many commits from now on take effect without an answer."""
    lost_requests: int = 0
    """So many commits from now on never arrive."""

    def write(self, partition: int, value: bytes) -> None:
        self.logs[partition].append(value)

    def end(self, partition: TopicPartition) -> int:
        return len(self.logs[partition.partition])

    def names(self) -> list[TopicPartition]:
        return [TopicPartition(self.topic, number) for number in range(self.partitions)]

    def rebalance(self) -> None:
        """A member comes or goes: all have to join anew."""
        self.joining = True
        self.joined.clear()
        self.settle()

    def settle(self) -> None:
        """Begin the next generation once every member has joined."""
        if not self.joining or self.joined != self.members.keys() or not self.members:
            return
        self.joining = False
        self.generation += 1
        ranks = sorted(self.members)
        for member in self.members.values():
            member.generation = self.generation
            member.given = []
        for partition in self.names():
            self.members[ranks[partition.partition % len(ranks)]].given.append(partition)

    def expire(self, member: int) -> None:
        """The session of a member that is not heard of ends."""
        if self.members.pop(member, None) is not None:
            self.rebalance()

    def commit(
        self, id: str, epoch: int, sent: list[Message], offsets: Mapping[Any, Any], member: Any
    ) -> None:
        """A transaction with its offsets, or an error that says why not."""
        number = int(member.member_id)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile(number)
        if self.lost_requests:
            self.lost_requests -= 1
            raise KafkaTimeoutError("a broker that does not answer")
        if self.epochs[id] != epoch:
            raise ProducerFencedError("another producer has this id")
        if number not in self.members or member.generation_id != self.generation:
            raise CommitFailedError("not of this generation")
        self.committed.update(offsets)
        self.outputs += sent
        self.commits.append((number, self.generation, frozenset(offsets)))
        if self.lost_answers:
            self.lost_answers -= 1
            raise KafkaTimeoutError("an answer that was lost")


class ModelProducer:
    """A `Producer`. As kafka-python's, it keeps offsets that were refused and sends them again."""

    def __init__(self, cluster: Cluster, id: str) -> None:
        self._cluster, self._id = cluster, id
        self._epoch = -1
        self._sent: list[Message] = []
        self._offsets: dict[Any, Any] = {}
        self._member: Any = None

    def init_transactions(self, timeout: float) -> None:
        self._epoch = self._cluster.epochs[self._id] = self._cluster.epochs.get(self._id, -1) + 1

    def begin_transaction(self) -> None:
        self._sent = []

    def send(self, topic: str, value: Any, key: Any, *rest: Any) -> Future[None]:
        self._sent.append((topic, key, value))
        done: Future[None] = Future()
        done.add_errback = lambda *arguments: None  # type: ignore[attr-defined]
        return done

    def send_offsets_to_transaction(self, offsets: Any, member: Any, timeout: float) -> None:
        self._offsets = {**self._offsets, **offsets}
        self._member = member

    def commit_transaction(self, timeout: float) -> None:
        self._cluster.commit(self._id, self._epoch, self._sent, self._offsets, self._member)
        self._sent, self._offsets = [], {}

    def abort_transaction(self, timeout: float) -> None:
        self._sent = []

    def wakeup(self) -> None: ...

    def close(self, timeout: float) -> None: ...

    def abandon(self) -> None: ...


class ModelConsumer:
    """A `Consumer` that reads a few messages a poll, and hears of rebalances in it."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        self._cluster, self.number = cluster, number
        self.generation = -1
        self.given: list[TopicPartition] = []
        self.owned: list[TopicPartition] = []
        self.most = 5
        self._heard = -1
        self._at: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._listener: Any = None

    @property
    def is_member(self) -> bool:
        return self._cluster.members.get(self.number) is self

    def topics(self) -> set[str]:
        return {self._cluster.topic}

    def partitions_for_topic(self, topic: str) -> set[int]:
        return set(range(self._cluster.partitions))

    def subscribe(self, topics: Any, *, pattern: Any, listener: Any) -> None:
        self._listener = listener
        self._join()

    def unsubscribe(self) -> None:
        self._cluster.expire(self.number)

    def _join(self) -> None:
        self._cluster.members[self.number] = self
        self._cluster.rebalance()

    def _hear(self, told: Coroutine[Any, Any, None]) -> None:
        try:
            told.send(None)
        except StopIteration:
            return
        raise AssertionError("nothing has to be waited for here")

    def poll(self, timeout_ms: float, max_records: int) -> dict[Any, list[Any]]:
        cluster = self._cluster
        if not self.is_member:
            lost, self.owned = self.owned, []
            self._hear(self._listener.on_partitions_lost(lost))
            self._join()
        if cluster.joining and self.number not in cluster.joined:
            revoked, self.owned = self.owned, []
            self._hear(self._listener.on_partitions_revoked(revoked))
            cluster.joined.add(self.number)
            cluster.settle()
        if cluster.joining:
            return {}
        if self._heard != self.generation:
            self._heard = self.generation
            self.owned = list(self.given)
            self._paused, self._at = set(), {}
            self._hear(self._listener.on_partitions_assigned(self.owned))
            return {}
        return self._read()

    def _read(self) -> dict[Any, list[Any]]:
        found: dict[Any, list[Any]] = {}
        for partition in self.owned:
            if partition in self._paused or partition not in self._at:
                continue
            begin = self._at[partition]
            log = self._cluster.logs[partition.partition][begin : begin + self.most]
            self._at[partition] = begin + len(log)
            if log:
                found[partition] = [
                    Record((*partition, -1, begin + i, 1_000 + begin + i, 0, None, value, (), None))
                    for i, value in enumerate(log)
                ]
        return found

    def seek(self, partition: Any, offset: int) -> None:
        self._at[partition] = offset

    def pause(self, *partitions: Any) -> None:
        self._paused |= set(partitions)

    def resume(self, *partitions: Any) -> None:
        self._paused -= set(partitions)

    def highwater(self, partition: Any) -> int:
        return self._cluster.end(partition)

    def committed(self, partition: Any, metadata: bool, timeout_ms: float) -> Any:
        return self._cluster.committed.get(partition)

    def beginning_offsets(self, partitions: Iterable[Any], timeout_ms: float) -> dict[Any, int]:
        return dict.fromkeys(partitions, 0)

    def end_offsets(self, partitions: Iterable[Any], timeout_ms: float) -> dict[Any, int]:
        return {partition: self._cluster.end(partition) for partition in partitions}

    def answered(self) -> float:
        return float("inf")

    def group_metadata(self) -> ConsumerGroupMetadata:
        return ConsumerGroupMetadata("g", self.generation, str(self.number), None)

    def close(self, autocommit: bool, timeout_ms: float) -> None:
        if self.is_member:
            self._cluster.expire(self.number)


class ModelClients:
    """`KafkaClients` of one worker."""

    servers = "model:0"

    def __init__(self, cluster: Cluster, number: int) -> None:
        self._cluster = cluster
        self.model = ModelConsumer(cluster, number)

    def consumer(self, group_id: str | None, most_bytes_at_once: int | None = None) -> Any:
        return self.model

    def producer(self, id: str = "", *settings: Any) -> Any:
        return ModelProducer(self._cluster, id)

    def topics(self, names: Iterable[str]) -> dict[str, TopicInfo | None]:
        count = {self._cluster.topic: self._cluster.partitions}
        return {name: TopicInfo(tuple(range(count.get(name, 1))), None) for name in names}

    def group_use(self, group_id: str) -> GroupUse:
        return GroupUse("Empty", (), frozenset())

    def message_limits(self, topics: Iterable[str]) -> dict[str, int]:
        return dict.fromkeys(topics, 2**20)


class Clock(SimpleNamespace):
    """Stands in for the module `time`; goes on when it is told to."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def perf_counter(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def time_ns(self) -> int:
        return int(self.now * 1e9)

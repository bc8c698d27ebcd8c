"""Joins that fail or are never answered, and a revocation that has to end in time."""

from __future__ import annotations

import asyncio
import struct
import threading
import time
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from kafka import TopicPartition
from kafka.errors import KafkaError, KafkaTimeoutError, TopicAuthorizationFailedError

from tests.stream_harness import NeverSilent
from titans_stream.engine.blank import blank
from titans_stream.engine.columns import columns_of
from titans_stream.records import EngineFigures, Readings, Results
from titans_stream.stream import loop as loop_module
from titans_stream.stream.commit import AtLeastOnceOutput, ExactlyOnceOutput, Output, OutputState
from titans_stream.stream.kafka.errors import AbortedError, ConnectError, FatalError
from titans_stream.stream.loop import Loop, Parts, Signals
from titans_stream.stream.messages import RawMessage, slices
from titans_stream.stream.metrics import Metrics
from titans_stream.stream.processing import PartitionNumbers, Processor
from titans_stream.stream.settings import DeliveryConfig, Subscription
from titans_stream.stream.watch import Watch, Watched


class DeafConsumer:
    """Assigns nothing at its first `deaf` subscriptions, an empty assignment afterwards."""

    def __init__(self, deaf: int) -> None:
        self.deaf = deaf
        self.calls: list[str] = []
        self.listener: Any = None

    def subscribe(self, topics: Any, *, pattern: Any, listener: Any) -> None:
        self.calls.append("subscribe")
        self.listener = listener

    def unsubscribe(self) -> None:
        self.calls.append("unsubscribe")

    def topics(self) -> set[str]:
        self.calls.append("topics")
        return set()

    def poll(self, timeout_ms: float, max_records: int) -> dict[Any, list[Any]]:
        if self.calls.count("subscribe") > self.deaf:
            asyncio.run(self.listener.on_partitions_assigned([]))
        return {}

    def close(self, *args: object) -> None:
        self.calls.append("close")


def make_loop(consumer: Any, stop: threading.Event, output: Any = None) -> Loop:
    assignment = MagicMock()
    output = output if output is not None else MagicMock()
    assignment.new = set()
    assignment.progress = {}
    engine = MagicMock()
    engine.series_count.return_value = 0
    engine.figures.return_value = EngineFigures(0, 0, 0.0, 0)
    metrics = Metrics()
    watch = Watch(Watched(engine, assignment, metrics, time.monotonic), DeliveryConfig())
    parts = Parts(consumer, assignment, MagicMock(), MagicMock(), output, metrics, watch)
    return Loop(parts, DeliveryConfig(), Signals(stop), 5.0)


@pytest.mark.parametrize(("deaf", "joins"), [(0, 1), (2, 3)])
def test_a_lost_join_is_begun_anew(monkeypatch: pytest.MonkeyPatch, deaf: int, joins: int) -> None:
    monkeypatch.setattr(loop_module, "_JOIN_SECONDS", 0.05)
    stop = threading.Event()
    consumer = DeafConsumer(deaf)
    loop = make_loop(consumer, stop)
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        if turns > 400 or (loop.joining_since is None and turns > 100):
            stop.set()
        stop.wait(0.002)
        Loop._turn(loop)

    monkeypatch.setattr(loop, "_turn", turn)
    loop.run(Subscription(("input",)))
    assert consumer.calls.count("subscribe") == joins
    assert consumer.calls.count("unsubscribe") == joins - 1
    assert consumer.calls[:2] == ["subscribe", "topics"]
    assert loop.joining_since is None


class FailingConsumer(DeafConsumer):
    """Fails at chosen calls of the join, once each."""

    def __init__(self, **errors: KafkaError) -> None:
        super().__init__(deaf=0)
        self.errors = errors

    def _maybe_fail(self, name: str) -> None:
        if name in self.errors:
            raise self.errors.pop(name)

    def subscribe(self, topics: Any, *, pattern: Any, listener: Any) -> None:
        super().subscribe(topics, pattern=pattern, listener=listener)
        self._maybe_fail("subscribe")

    def topics(self) -> set[str]:
        self._maybe_fail("topics")
        return super().topics()


@pytest.mark.parametrize("call", ["subscribe", "topics"])
@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (TopicAuthorizationFailedError("in"), ConnectError, "no permission for topic in"),
        (KafkaError("broken"), FatalError, "join group: .*broken"),
    ],
)
def test_a_join_that_fails_is_told_in_our_words(
    call: str, error: KafkaError, kind: type[Exception], text: str
) -> None:
    loop = make_loop(FailingConsumer(**{call: error}), threading.Event())
    with pytest.raises(kind, match=text):
        loop.run(Subscription(("input",)))


@pytest.mark.parametrize("call", ["subscribe", "topics"])
def test_a_join_that_is_not_answered_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(loop_module, "_IDLE_POLL", 0.01)
    stop = threading.Event()
    consumer = FailingConsumer(**{call: KafkaTimeoutError("no answer")})
    loop = make_loop(consumer, stop)
    loop._report = lambda: stop.set() if loop.joining_since is None else None  # type: ignore
    loop.run(Subscription(("input",)))
    assert consumer.calls == ["subscribe", "subscribe", "topics", "close"]


class SlowProducer:
    """Everything that commits takes its time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def flush(self, timeout: float) -> None:
        time.sleep(min(self.seconds, timeout))
        if timeout < self.seconds:
            raise KafkaTimeoutError("flush")

    def __getattr__(self, name: str) -> Any:
        if name in ("commit_transaction", "send_offsets_to_transaction"):
            return lambda *arguments: self.flush(arguments[-1])
        return lambda *arguments: None


@pytest.mark.parametrize("kind", [ExactlyOnceOutput, AtLeastOnceOutput])
def test_the_commit_of_a_revocation_ends_with_its_deadline_and_the_worker_goes_on(
    monkeypatch: pytest.MonkeyPatch, kind: type[Output]
) -> None:
    monkeypatch.setattr(loop_module, "_REVOCATION_SECONDS", 0.3)
    producers = [SlowProducer(20.0), SlowProducer(0.0)]
    clients = MagicMock()
    clients.producer = lambda *settings: producers[0]
    exactly = kind is ExactlyOnceOutput
    output = kind(clients, *(("g", "", 1.0, 30.0) if exactly else (1.0,)))  # type: ignore[arg-type]
    clients.producer = lambda *settings, **more: producers[1]
    consumer = MagicMock()
    consumer.poll.return_value = {}
    consumer.group_metadata.return_value.generation_id = 1
    loop = make_loop(consumer, threading.Event(), output)
    output.begin()
    listener = loop_module._Listener(loop)
    begun = time.monotonic()
    asyncio.run(listener.on_partitions_revoked([TopicPartition("input", 0)]))
    assert time.monotonic() - begun < 10.0, "not the 20 s that the producer takes"
    assert isinstance(loop._listener_error, AbortedError)
    loop._assignment.snapshot_all.assert_not_called()  # type: ignore[attr-defined]
    if exactly:
        loop._subscribed = True
        loop._turn()
        assert output.state is OutputState.IDLE
        assert output._producer is producers[1], "what was given up is not used again"
        loop._assignment.discard_state.assert_called_once()  # type: ignore[attr-defined]


def test_large_messages_are_taken_a_few_at_a_time() -> None:
    sizes = [0, 10, 3 * 2**20, 2**20, 2**20, 5]
    messages = [RawMessage("in", 0, i, 0, None, bytes(size)) for i, size in enumerate(sizes)]
    parts = [[message.offset for message in part] for part in slices(messages)]
    assert parts == [[0, 1, 2], [3, 4], [5]]
    assert list(slices([])) == []


@pytest.mark.parametrize("error", [OSError("gone"), ValueError("odd"), struct.error("short")])
def test_an_answer_that_cannot_be_read_is_told_in_our_words(error: Exception) -> None:
    consumer = MagicMock()
    consumer.poll.side_effect = error
    loop = make_loop(consumer, threading.Event())
    with pytest.raises(FatalError, match="poll: an answer of Kafka cannot be read"):
        loop.run(Subscription(("input",)))


class FullEngine(NeverSilent):
    """Takes in one series, as an engine with `max_series: 1` does."""

    count = 1

    def process(self, readings: Readings) -> Results:
        taken = np.flatnonzero([series == "a" for series in readings.series])
        scores = blank(
            columns_of([(0, 0, 0.0, 0, int(i), 0, -1) for i in taken]),
            ["a"] * len(taken), np.ones(len(taken), np.int8), np.zeros(len(taken), np.int8),
        )  # fmt: skip
        refused = np.flatnonzero([series != "a" for series in readings.series])
        return Results(scores, refused=refused if len(refused) else None)

    def series_count(self) -> int:
        return self.count

    def series_warning(self) -> str:
        return f"{self.count:,} series, an id?"

    def figures(self) -> EngineFigures:
        return EngineFigures(0, 0, 0.0, 0)


def test_refused_readings_are_dead_letters_and_many_series_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = make_loop(DeafConsumer(0), threading.Event())
    engine, codec, outbox = FullEngine(), MagicMock(), MagicMock()
    processor = Processor(codec, engine, PartitionNumbers("t"), Metrics())  # type: ignore[arg-type]
    loop._processor, loop._outbox = processor, outbox
    loop._watch._engine = engine  # type: ignore[assignment]
    zeros = np.zeros(3, np.int64)
    codec.decode.return_value.readings = Readings(
        ["a", "b", "a"], zeros, np.zeros(3), zeros.astype(np.int32), np.arange(3)
    )
    codec.decode.return_value.dead = []
    loop._process_live([RawMessage("t", 0, at, -1, None, b"%d" % at) for at in range(3)])
    letters = [letter for call in outbox.dead_letters.call_args_list for letter in call.args[0]]
    assert [(letter.reason, letter.offset) for letter in letters] == [("too-many-series", 1)]
    for engine.count in (1000, 1500, 1999, 2000):
        loop._watch._next = 0.0
        loop._report()
    told = [record.message for record in caplog.records if "an id?" in record.message]
    assert told == ["1,000 series, an id?", "2,000 series, an id?"]


def test_a_turn_that_is_aborted_makes_the_next_poll_smaller() -> None:
    loop = make_loop(DeafConsumer(0), threading.Event())
    asked: list[int] = []

    def poll(timeout_ms: float, max_records: int) -> dict[Any, list[Any]]:
        asked.append(max_records)
        raise AbortedError("too slow")

    loop._topics = Subscription(("input",))
    loop._consumer.poll = poll  # type: ignore[method-assign]
    loop._signals.stop.wait = lambda seconds: False  # type: ignore[assignment]
    for _ in range(4):
        loop._turn()
    assert asked == [2_000, 1_000, 500, 500]
    loop._note_committed()
    assert loop._size._limit == 1_000

"""The worker on the development broker: exactly once, recovery, dead letters, settings."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError

from tests.stream_harness import (
    ExactEngine,
    Kafka,
    Message,
    Running,
    Setup,
    expected_alerts,
    stream,
)
from titans_stream.devbroker.broker import DevBroker
from titans_stream.stream.encoding import decode_scores
from titans_stream.stream.kafka.client import KafkaClients
from titans_stream.stream.kafka.errors import ConnectError, FatalError
from titans_stream.stream.kafka.settings import KafkaConfig
from titans_stream.stream.worker import WorkerState


@pytest.fixture
def setup(broker: DevBroker, tmp_path: Path) -> Setup:
    return Setup(Kafka(broker.bootstrap).create(), tmp_path)


def test_alerts_offsets_and_snapshots_of_an_undisturbed_run(setup: Setup) -> None:
    messages = stream(400)
    setup.kafka.produce(messages)
    running = Running(setup.worker())
    running.wait_for("messages", 400)
    running.stop()
    assert setup.kafka.alerts_by_series() == expected_alerts(messages, setup.kafka.input)
    assert setup.kafka.committed(setup.group_id) == {0: 200, 1: 200}
    assert setup.snapshots().offsets(setup.kafka.input, 0) == [200]
    stats = running.worker.metrics.stats()
    assert (stats["messages"], stats["readings"], stats["aborts"]) == (400, 400, 0)
    assert stats["alerts"] == sum(map(len, setup.kafka.alerts_by_series().values()))
    assert running.worker.state is WorkerState.STOPPED


@pytest.mark.parametrize("delay", [False, True])
def test_a_restart_goes_on_as_if_it_had_never_stopped(setup: Setup, delay: bool) -> None:
    messages = stream(600)
    worlds = []
    for part in (messages[:250], messages[250:400], messages[400:]):
        setup.kafka.produce(part)
        engine = ExactEngine(setup.kafka.input, delay=delay)
        worlds.append(engine)
        running = Running(setup.worker(engine))
        running.wait_for("messages", len(part))
        running.stop()
        assert running.worker.metrics.counts["replayed_messages"] == 0
    assert setup.kafka.alerts_by_series() == expected_alerts(
        messages, setup.kafka.input, delay=delay
    )
    assert all(engine.states == {} for engine in worlds), "released at the end"


@pytest.mark.parametrize("crash_at", [1, 170, 399])
@pytest.mark.parametrize("snapshot_interval", ["1h", "1ms"])
def test_a_crash_at_any_reading_changes_no_output_and_no_state(
    setup: Setup, crash_at: int, snapshot_interval: str
) -> None:
    messages = stream(400)
    setup.kafka.produce(messages)
    setup.delivery = {"commit_interval": "10ms", "max_poll_records": 20}
    setup.state = {"snapshot_interval": snapshot_interval}
    crashing = Running(
        setup.worker(ExactEngine(setup.kafka.input, delay=True, crash_at=crash_at, pause=0.004))
    )
    crashing.join()
    assert isinstance(crashing.error, RuntimeError)
    before = sum(each or 0 for each in setup.kafka.committed(setup.group_id).values())
    assert before < 400

    engine = ExactEngine(setup.kafka.input, delay=True)
    running = Running(setup.worker(engine))
    running.wait(lambda: engine.taken() == 400)
    running.wait_for("messages", 400 - before)
    replayed = running.worker.metrics.counts["replayed_messages"]
    state = {p: engine.snapshot(p) for p in (0, 1)}
    running.stop()
    assert setup.kafka.alerts_by_series() == expected_alerts(
        messages, setup.kafka.input, delay=True
    )
    assert running.worker.metrics.counts["messages"] == 400 - before
    if snapshot_interval == "1h":
        assert replayed == before, "no snapshot: the state was rebuilt from the first message"
    elif before > 300:
        assert replayed < before
    never_stopped = ExactEngine(setup.kafka.input, delay=True)
    _feed(never_stopped, messages)
    for partition in (0, 1):
        expected = never_stopped.snapshot(partition)
        assert state[partition].meta == expected.meta
        for name, array in expected.arrays.items():
            assert state[partition].arrays[name].tobytes() == array.tobytes(), name


def _feed(engine: ExactEngine, messages: list[Message]) -> None:
    import numpy as np

    from titans_stream.records import Readings

    offsets = {0: 0, 1: 0}
    for message in messages:
        engine.process(
            Readings(
                [message.series],
                np.array([message.timestamp_ms * 1_000_000], np.int64),
                np.array([message.value]),
                np.array([message.partition], np.int32),
                np.array([offsets[message.partition]], np.int64),
            )
        )
        offsets[message.partition] += 1


class FaultyClients:
    """Clients whose producer fails at chosen calls, after or before it did what was asked."""

    def __init__(self, clients: KafkaClients, faults: dict[str, list[tuple[int, str]]]) -> None:
        self._clients = clients
        self._faults = faults
        self.calls: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._clients, name)

    def producer(self, *arguments: Any, **settings: Any) -> Any:
        return FaultyProducer(self, self._clients.producer(*arguments, **settings))

    def fault(self, name: str, when: str) -> None:
        if (self.calls.get(name, 0), when) in self._faults.get(name, []):
            raise KafkaTimeoutError(f"{name} fails {when}")


class FaultyProducer:
    def __init__(self, owner: FaultyClients, producer: Any) -> None:
        self._owner = owner
        self._producer = producer

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._producer, name)

        def call(*arguments: Any) -> Any:
            self._owner.calls[name] = self._owner.calls.get(name, 0) + 1
            self._owner.fault(name, "before")
            result = method(*arguments)
            self._owner.fault(name, "after")
            return result

        return call


@pytest.mark.parametrize(
    "faults",
    [
        {"commit_transaction": [(3, "before")]},
        {"commit_transaction": [(3, "after")]},  # committed, but the worker does not know
        {"send_offsets_to_transaction": [(2, "before"), (3, "after"), (6, "before")]},
        {"send": [(5, "before"), (30, "after")]},
        {"commit_transaction": [(3, "before")], "abort_transaction": [(1, "before")]},
        {
            "commit_transaction": [(3, "after"), (5, "before")],
            "init_transactions": [(2, "before"), (3, "after"), (5, "before")],
        },
        {"begin_transaction": [(2, "before"), (4, "after")]},
    ],
    ids=[
        "commit",
        "commit-unknown",
        "offsets",
        "send",
        "commit-and-abort",
        "commit-and-init",
        "begin",
    ],
)
def test_an_aborted_transaction_leaves_no_trace(
    setup: Setup, faults: dict[str, list[tuple[int, str]]]
) -> None:
    messages = stream(400)
    setup.kafka.produce(messages)
    setup.delivery = {"commit_interval": "10ms", "max_poll_records": 40}
    setup.state = {"snapshot_interval": "20ms"}
    clients = FaultyClients(setup.clients(), faults)
    engine = ExactEngine(setup.kafka.input, delay=True, pause=0.004)
    running = Running(setup.worker(engine, clients))
    running.wait(lambda: setup.kafka.committed(setup.group_id) == {0: 200, 1: 200})
    running.stop()
    counts = running.worker.metrics.counts
    recovering = ("abort_transaction", "init_transactions")
    assert counts["aborts"] == sum(len(at) for call, at in faults.items() if call not in recovering)
    assert setup.kafka.alerts_by_series() == expected_alerts(
        messages, setup.kafka.input, delay=True
    )


def test_a_worker_whose_commits_never_end_gives_up_with_one_line(setup: Setup) -> None:
    class Stuck(FaultyClients):
        def fault(self, name: str, when: str) -> None:
            if name == "commit_transaction" and self.calls[name] > 1 and when == "before":
                raise KafkaTimeoutError(f"{name} did not end within 5 s; is Kafka reachable?")

    setup.kafka.produce(stream(50))
    setup.delivery["give_up_after"] = "2s"
    running = Running(setup.worker(clients=Stuck(setup.clients(), {})))
    running.join(60)
    assert isinstance(running.error, FatalError)
    told = r"nothing worked for \d+ s: commit: .*commit_transaction did not end within 5 s; .*"
    assert re.fullmatch(told, str(running.error))
    assert running.worker.metrics.counts["aborts"] > 1


def test_dead_letters_hold_the_exact_bytes_and_the_context(setup: Setup) -> None:
    bad: list[tuple[bytes | None, bytes | None]] = [
        (b"k1", b"{not json"),
        (None, b"\xff\xfe\x00"),
        (b"\x00key", b'{"s": "a"}'),
        (None, None) if False else (b"tombstone", None),
    ]
    good = [Message("a", 500.0, 0, 5_000), Message("b", 1.0, 0, 5_001)]
    setup.kafka.produce([good[0], *bad, good[1]])
    running = Running(setup.worker())
    running.wait_for("messages", 6)
    running.stop()
    found = setup.kafka.read(setup.kafka.dead)
    assert [(record.key, record.value) for record in found] == bad
    headers = [dict(record.headers) for record in found]
    assert [each["titans.reason"] for each in headers] == [
        b"invalid-json",
        b"byte-order-mark",
        b"missing-field",
        b"empty-message",
    ]
    assert [each["titans.offset"] for each in headers] == [b"1", b"2", b"3", b"4"]
    assert {each["titans.topic"] for each in headers} == {setup.kafka.input.encode()}
    assert running.worker.metrics.counts["dead_letters"] == 4
    assert running.worker.metrics.counts["readings"] == 2
    assert setup.kafka.alerts_by_series() == {"a": [("a@0", "opened", 1, 500.0, 0)]}


@pytest.mark.parametrize("told", [True, False])
def test_a_dead_letter_that_is_too_large_is_cut_and_marked(tmp_path: Path, told: bool) -> None:
    """Also where the broker refuses what its own limit allows, in the midst of a transaction."""
    with DevBroker(auto_create=False, max_message_bytes=100_000) as small:
        kafka = Kafka(small.bootstrap).create()
        setup = Setup(kafka, tmp_path)
        clients = setup.clients()
        if told:
            assert clients.message_limits([kafka.dead]) == {kafka.dead: 100_000}
        else:
            clients.message_limits = lambda topics: dict.fromkeys(topics, 1_000_000)  # type: ignore[method-assign]
        value = b"x" * 99_900
        messages = stream(40, partitions=1)
        kafka.produce([*messages[:20], (b"key", value), *messages[20:]])
        running = Running(setup.worker(clients=clients))
        running.wait(lambda: kafka.committed(setup.group_id)[0] == 41)
        running.stop()
        (letter,) = kafka.read(kafka.dead)
        headers = dict(letter.headers)
        assert headers["titans.truncated"] == b"99900"
        assert letter.key == b"key"
        assert 10_000 < len(letter.value) < 99_800
        assert letter.value == value[: len(letter.value)]
        assert len(kafka.alerts_by_series()) == 3
        assert (running.worker.metrics.counts["aborts"] > 0) is not told


@pytest.mark.parametrize("limit", ["topic", "untold", "producer"])
def test_frames_of_scores_are_split_to_what_their_topic_takes(
    broker: DevBroker, tmp_path: Path, limit: str
) -> None:
    kafka = Kafka(broker.bootstrap)
    small = {"max.message.bytes": "40000"}
    kafka.create(partitions=1, scores={} if limit == "producer" else small)
    setup = Setup(kafka, tmp_path, output={"scores": kafka.scores})
    if limit == "producer":
        setup.client = {"producer": {"max_request_size": 40_000}}
    clients = setup.clients()
    if limit == "untold":
        clients.message_limits = lambda topics: dict.fromkeys(topics, 1_000_000)  # type: ignore[method-assign]
    kafka.produce(stream(600, partitions=1))
    running = Running(setup.worker(clients=clients))
    running.wait(lambda: kafka.committed(setup.group_id, 1)[0] == 600)
    running.stop()
    records = kafka.read(kafka.scores)
    offsets = [o for r in records for o in decode_scores(r.value).scores.offset.tolist()]
    assert offsets == list(range(600))
    assert all(len(record.value) < 40_000 for record in records)
    assert (running.worker.metrics.counts["aborts"] > 0) is (limit == "untold")
    assert kafka.read(kafka.dead) == []


def test_a_topic_whose_messages_are_too_small_is_named(broker: DevBroker, tmp_path: Path) -> None:
    kafka = Kafka(broker.bootstrap)
    kafka.create(scores={"max.message.bytes": "4000"})
    running = Running(Setup(kafka, tmp_path, output={"scores": kafka.scores}).worker())
    running.join()
    assert isinstance(running.error, ConnectError)
    assert str(running.error).startswith(
        f"output.scores: topic {kafka.scores} takes messages of 4,000 bytes, 4,096 are needed"
    )


def test_one_log_line_a_second_for_dead_letters(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    setup.kafka.produce([(None, b"junk %d" % i) for i in range(500)])
    setup.delivery = {"max_poll_records": 10}
    running = Running(setup.worker())
    running.wait_for("dead_letters", 500)
    running.stop()
    lines = [r.getMessage() for r in caplog.records if "could not be used" in r.getMessage()]
    assert 1 <= len(lines) <= 3
    assert f"see topic {setup.kafka.dead}" in lines[0]


def test_scores_are_published_in_frames(setup: Setup) -> None:
    messages = stream(300)
    setup.output = {"scores": setup.kafka.scores}
    setup.kafka.produce(messages)
    running = Running(setup.worker())
    running.wait_for("messages", 300)
    running.stop()
    frames = [decode_scores(record.value) for record in setup.kafka.read(setup.kafka.scores)]
    rows = sorted(
        (int(p), int(o), s, v)
        for frame in frames
        for p, o, s, v in zip(
            frame.scores.partition,
            frame.scores.offset,
            frame.scores.series,
            frame.scores.value.tolist(),
            strict=True,
        )
    )
    expected, offsets = [], {0: 0, 1: 0}
    for message in messages:
        expected.append(
            (message.partition, offsets[message.partition], message.series, message.value)
        )
        offsets[message.partition] += 1
    assert rows == sorted(expected)


def test_at_least_once_loses_nothing_over_a_crash(setup: Setup) -> None:
    messages = stream(400)
    setup.kafka.produce(messages)
    setup.delivery = {"mode": "at_least_once", "commit_interval": "10ms", "max_poll_records": 20}
    engine = ExactEngine(setup.kafka.input, crash_at=230, pause=0.004)
    crashing = Running(setup.worker(engine))
    crashing.join()
    before = sum(each or 0 for each in setup.kafka.committed(setup.group_id).values())
    assert 0 < before < 400
    running = Running(setup.worker())
    running.wait_for("messages", 400 - before)
    running.stop()
    expected = expected_alerts(messages, setup.kafka.input)
    found = setup.kafka.alerts_by_series()
    # Some may come twice; each of them is the same as the first time, and none is missing.
    assert {name: list(dict.fromkeys(alerts)) for name, alerts in found.items()} == expected
    assert setup.kafka.committed(setup.group_id) == {0: 200, 1: 200}


def test_two_workers_share_and_hand_over_without_a_gap(setup: Setup) -> None:
    messages = stream(900)
    setup.delivery = {"commit_interval": "30ms"}
    setup.client = {"consumer": {"heartbeat_interval_ms": 100, "session_timeout_ms": 6000}}
    engines = [ExactEngine(setup.kafka.input, delay=True) for _ in range(3)]
    first = Running(setup.worker(engines[0]))
    setup.kafka.produce(messages[:300])
    first.wait_for("messages", 300)
    second = Running(setup.worker(engines[1]))
    second.wait(lambda: second.worker.metrics.partitions == 1 and second.worker.ready.is_set())
    first.wait(lambda: first.worker.metrics.partitions == 1)
    setup.kafka.produce(messages[300:600])
    second.wait_for("messages", 150)
    first.wait_for("messages", 450)
    assert second.worker.metrics.counts["replayed_messages"] == 0, "snapshot at the revocation"
    first.stop()
    second.wait(lambda: second.worker.metrics.partitions == 2)
    setup.kafka.produce(messages[600:])
    second.wait(lambda: setup.kafka.committed(setup.group_id) == {0: 450, 1: 450})
    second.stop()
    assert setup.kafka.alerts_by_series() == expected_alerts(
        messages, setup.kafka.input, delay=True
    )
    assert second.worker.metrics.counts["aborts"] == first.worker.metrics.counts["aborts"] == 0


@pytest.mark.parametrize("mode", ["exactly_once", "at_least_once"])
def test_a_rebalance_in_mid_stream_is_exact(setup: Setup, mode: str) -> None:
    messages = stream(2_000)
    setup.kafka.produce(messages)
    setup.delivery = {"commit_interval": "20ms", "max_poll_records": 20, "mode": mode}
    setup.client = {"consumer": {"heartbeat_interval_ms": 100, "session_timeout_ms": 6000}}
    first = Running(setup.worker(ExactEngine(setup.kafka.input, delay=True, pause=0.01)))
    first.wait_for("messages", 100)
    second = Running(setup.worker(ExactEngine(setup.kafka.input, delay=True, pause=0.01)))
    second.wait_for("messages", 100)
    first.stop()
    second.wait(lambda: setup.kafka.committed(setup.group_id) == {0: 1_000, 1: 1_000}, 30)
    second.stop()
    assert setup.kafka.alerts_by_series() == expected_alerts(
        messages, setup.kafka.input, delay=True
    )
    taken = first.worker.metrics.counts["messages"] + second.worker.metrics.counts["messages"]
    assert taken == 2_000


def test_warm_up_learns_without_alerting(setup: Setup) -> None:
    now = int(time.time() * 1000)
    old = [Message("a", 500.0 if i == 3 else 1.0, 0, now - 7_200_000 + i) for i in range(10)]
    history = [
        Message("a", 200.0 if 5 <= i < 8 else 1.0, 0, now - 1_800_000 + i) for i in range(20)
    ]
    open_at_start = [Message("b", 900.0, 0, now - 1_000_000)]
    setup.kafka.produce([*old, *history, *open_at_start])
    setup.input = {"start": "latest", "warm_up": "1h"}
    engine = ExactEngine(setup.kafka.input)
    running = Running(setup.worker(engine))
    running.wait(lambda: running.worker.metrics.counts["replayed_messages"] == 21)
    assert engine.states[0]["a"].count == 20, "what is older than the warm-up is not read"
    # b's episode was opened in the warm-up: its end is not told either, but the next one is.
    live = [Message("a", 300.0, 0, now), Message("b", 1.0, 0, now), Message("b", 700.0, 0, now)]
    setup.kafka.produce(live)
    running.wait_for("messages", 3)
    running.stop()
    total = 17 * 1.0 + 3 * 200.0 + 300.0
    assert setup.kafka.alerts_by_series() == {
        "a": [("a@31", "opened", 21, total, 31)],
        "b": [("b@33", "opened", 3, 1601.0, 33)],
    }


def test_a_crash_in_the_warm_up_loses_nothing_that_comes_meanwhile(setup: Setup) -> None:
    now = int(time.time() * 1000)
    history = [Message("a", 1.0, 0, now - 60_000 + i) for i in range(100)]
    setup.kafka.produce(history)
    setup.input = {"start": "latest", "warm_up": "1h"}
    setup.delivery = {"max_poll_records": 10}
    crashing = Running(setup.worker(ExactEngine(setup.kafka.input, crash_at=50)))
    crashing.join()
    assert setup.kafka.committed(setup.group_id) == {0: 100, 1: 0}, "pinned before it is read"
    setup.kafka.produce([Message("a", 500.0, 0, now)])
    engine = ExactEngine(setup.kafka.input)
    running = Running(setup.worker(engine))
    running.wait_for("messages", 1)
    running.stop()
    assert running.worker.metrics.counts["replayed_messages"] == 100
    assert setup.kafka.alerts_by_series() == {"a": [("a@100", "opened", 101, 600.0, 100)]}


def test_what_a_warm_up_opened_stays_untold_over_a_restart(setup: Setup) -> None:
    now = int(time.time() * 1000)
    setup.kafka.produce([Message("b", 900.0, 0, now - 60_000)])
    setup.input = {"start": "latest", "warm_up": "1h"}
    for value, count in ((901.0, 1), (1.0, 2)):
        running = Running(setup.worker())
        running.wait(running.worker.ready.is_set)
        setup.kafka.produce([Message("b", value, 0, now)])
        running.wait_for("messages", 1)
        running.stop()
        assert running.worker.metrics.counts["replayed_messages"] == 2 - count
    assert setup.kafka.alerts_by_series() == {}


def test_start_at_a_time(setup: Setup) -> None:
    base = 1_700_000_000_000
    setup.kafka.produce([Message("a", 500.0 + i, 0, base + i * 60_000) for i in range(10)])
    setup.input = {"start": "2023-11-14T22:18:20Z"}  # base is 22:13:20, so the sixth message
    running = Running(setup.worker())
    running.wait_for("messages", 5)
    running.stop()
    assert running.worker.metrics.counts["messages"] == 5
    assert setup.kafka.alerts_by_series() == {"a": [("a@5", "opened", 1, 505.0, 5)]}


def test_start_latest_takes_what_comes_after_the_first_start(setup: Setup) -> None:
    setup.kafka.produce(stream(50))
    setup.input = {"start": "latest"}
    running = Running(setup.worker())
    running.wait(running.worker.ready.is_set)
    setup.kafka.produce([Message("a", 500.0, 1, 5_000)])
    running.wait_for("messages", 1)
    running.stop()
    setup.kafka.produce([Message("a", 1.0, 1, 5_001)])  # while no worker runs
    running = Running(setup.worker())
    running.wait_for("messages", 1)
    running.stop()
    assert setup.kafka.alerts_by_series() == {
        "a": [("a@25", "opened", 1, 500.0, 25), ("a@25", "resolved", 2, 501.0, 26)]
    }


def test_another_state_schema_starts_anew_and_says_so(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    messages = stream(200)
    setup.kafka.produce(messages[:100])
    running = Running(setup.worker())
    running.wait_for("messages", 100)
    running.stop()
    setup.kafka.produce([Message("p0s0", 500.0, 0, 9_000)])
    running = Running(setup.worker(ExactEngine(setup.kafka.input, schema="exact-2")))
    running.wait_for("messages", 1)
    running.stop()
    # The snapshot was written after the last commit, so the group's metadata still tells that
    # the state began at offset 0: it is rebuilt in full.
    assert running.worker.metrics.counts["replayed_messages"] == 50 + 50
    assert setup.kafka.alerts_by_series()["p0s0"][-1][2] == 18


def test_a_lost_state_folder_is_told(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    setup.state = {"snapshot_interval": "1ms"}
    for part in (stream(100), stream(100), stream(20)):
        setup.kafka.produce(part)
        running = Running(setup.worker())
        running.wait_for("messages", len(part))
        running.stop()
    setup.folder = setup.folder / "elsewhere"
    running = Running(setup.worker())
    running.wait_for("replayed_messages", 220)
    running.stop()
    assert running.worker.metrics.counts["replayed_messages"] == 220, "start: earliest"
    assert "no snapshot fits" in caplog.text


@pytest.mark.parametrize("setting", ["input", "alerts", "dead_letter"])
def test_a_missing_topic_is_named(
    setup: Setup, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("titans_stream.stream.worker._TOPIC_PATIENCE", 0.2)
    if setting == "input":
        setup.input = {"topic": "nowhere"}
        setup.output = {"dead_letter": setup.kafka.dead}
    else:
        setup.output = {setting: "nowhere"}
    running = Running(setup.worker())
    running.join()
    assert isinstance(running.error, ConnectError)
    name = "input.topic" if setting == "input" else f"output.{setting}"
    assert str(running.error) == (
        f"{name}: topic nowhere does not exist on {setup.kafka.bootstrap}; create it first"
    )


def test_an_input_topic_may_appear_late(broker: DevBroker, tmp_path: Path) -> None:
    kafka = Kafka(broker.bootstrap)
    other = Kafka(broker.bootstrap).create()
    setup = Setup(kafka, tmp_path, output={"alerts": other.alerts, "dead_letter": other.dead})
    running = Running(setup.worker())
    time.sleep(0.7)
    kafka.create()
    kafka.produce([Message("a", 500.0, 0, 1)])
    running.wait_for("messages", 1)
    running.stop()


def test_no_broker_gives_up_after_its_patience_with_one_line() -> None:
    clients = KafkaClients(KafkaConfig(bootstrap_servers="127.0.0.1:1"), patience=0.5)
    with pytest.raises(ConnectError) as problem:
        clients.topics(["a"])
    assert str(problem.value) == "cannot reach Kafka at 127.0.0.1:1: connection refused"
    before = threading.active_count()
    for _ in range(3):
        with pytest.raises(ConnectError):
            clients.consumer("g")
    assert threading.active_count() <= before, "no thread is left behind by what failed"


def test_a_worker_waits_for_its_broker(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broker = DevBroker(auto_create=False).start()
    broker.stop()
    kafka = Kafka(broker.bootstrap)
    setup = Setup(kafka, tmp_path)
    running = Running(setup.worker())
    while "trying again" not in caplog.text:
        time.sleep(0.05)
    broker.start()
    try:
        kafka.create()
        kafka.produce([Message("a", 500.0, 0, 1)])
        running.wait_for("messages", 1)
        running.stop()
    finally:
        broker.stop()
    lines = [r.getMessage() for r in caplog.records if "cannot reach" in r.getMessage()]
    assert lines[0] == (
        f"cannot reach Kafka at {kafka.bootstrap}: connection refused; trying again in 1 s"
    )
    noise = [r.getMessage() for r in caplog.records if r.name.startswith("kafka.net")]
    assert not [line for line in noise if kafka.bootstrap in line and "refused" in line.lower()]


def test_a_worker_that_waits_can_be_stopped(tmp_path: Path) -> None:
    running = Running(Setup(Kafka("127.0.0.1:1"), tmp_path).worker())
    time.sleep(0.3)
    running.stop()
    assert running.worker.state is WorkerState.STOPPED


def test_dropped_connections_change_nothing(setup: Setup, broker: DevBroker) -> None:
    messages = stream(1_000)
    setup.delivery = {"commit_interval": "20ms", "max_poll_records": 50}
    running = Running(setup.worker(ExactEngine(setup.kafka.input, delay=True, pause=0.005)))
    for start in range(0, 1_000, 250):
        setup.kafka.produce(messages[start : start + 250])
        running.wait_for("messages", start + 60)
        broker.drop_connections()
    running.wait(lambda: setup.kafka.committed(setup.group_id) == {0: 500, 1: 500}, 40)
    running.stop()
    assert setup.kafka.alerts_by_series() == expected_alerts(
        messages, setup.kafka.input, delay=True
    )


def test_what_retention_took_is_told_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with DevBroker(auto_create=False, retention_bytes=20_000) as broker:
        kafka = Kafka(broker.bootstrap).create(partitions=1)
        setup = Setup(kafka, tmp_path)
        kafka.produce(stream(10, partitions=1))
        running = Running(setup.worker())
        running.wait_for("messages", 10)
        running.stop()
        for start in range(0, 4_000, 400):
            kafka.produce(stream(400, partitions=1, start_ms=10_000 + start))
        running = Running(setup.worker())
        running.wait(lambda: kafka.committed(setup.group_id)[0] == 4_010)
        running.stop()
        counts = running.worker.metrics.counts
        assert counts["lost_messages"] > 1_000
        assert counts["lost_messages"] + counts["messages"] == 4_000
        assert f"{counts['lost_messages']} messages were deleted before" in caplog.text


def test_retention_that_overtakes_a_running_worker_is_told_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with DevBroker(auto_create=False, retention_bytes=20_000) as broker:
        kafka = Kafka(broker.bootstrap).create(partitions=1)
        setup = Setup(kafka, tmp_path, delivery={"max_poll_records": 10})
        setup.client = {"consumer": {"max_partition_fetch_bytes": 2_000, "fetch_max_bytes": 2_000}}
        engine = ExactEngine(kafka.input, pause=2.0)
        running = Running(setup.worker(engine))
        running.wait(running.worker.ready.is_set)
        kafka.produce(stream(10, partitions=1))
        running.wait(lambda: running.worker.metrics.seconds["receive"] > 0)
        for start in range(0, 4_000, 400):
            kafka.produce(stream(400, partitions=1, start_ms=10_000 + start))
        engine.pause = 0.0
        running.wait(lambda: kafka.committed(setup.group_id)[0] == 4_010, 40)
        running.stop()
        counts = running.worker.metrics.counts
        assert counts["lost_messages"] > 1_000
        assert counts["lost_messages"] + counts["messages"] == 4_010
        assert "messages were deleted before they were read; going on at" in caplog.text


def test_alerts_are_json_with_their_schema_version(setup: Setup) -> None:
    setup.kafka.produce([Message("a", 500.0, 0, 5_000)])
    running = Running(setup.worker())
    running.wait_for("messages", 1)
    running.stop()
    (record,) = setup.kafka.read(setup.kafka.alerts)
    alert = json.loads(record.value)
    assert alert["schema_version"] == 2
    assert alert["timestamp"] == "1970-01-01T00:00:05Z"
    assert alert["source"] == {"topic": setup.kafka.input, "partition": 0, "offset": 0}

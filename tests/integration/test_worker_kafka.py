"""The worker on a real Apache Kafka: exactly once over kills, freezes, rebalances and aborts."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.stream_harness import (
    ExactEngine,
    Kafka,
    Running,
    Setup,
    WorkerProcess,
    eventually,
    expected_alerts,
    stream,
)

pytestmark = pytest.mark.kafka

FAST = {
    "consumer": {"heartbeat_interval_ms": 300, "session_timeout_ms": 6000},
    "producer": {"transaction_timeout_ms": 4000},
}
"""Clients that notice a dead worker soon."""


@pytest.fixture
def setup(kafka_bootstrap: str, tmp_path: Path) -> Setup:
    kafka = Kafka(kafka_bootstrap).create(dead={"max.message.bytes": "100000"})
    return Setup(kafka, tmp_path, client=FAST)


def test_a_restart_goes_on_as_if_it_had_never_stopped(setup: Setup) -> None:
    messages = stream(600)
    for part in (messages[:250], messages[250:400], messages[400:]):
        setup.kafka.produce(part)
        running = Running(setup.worker(ExactEngine(setup.kafka.input, delay=True)))
        running.wait_for("messages", len(part))
        running.stop()
        assert running.worker.metrics.counts["replayed_messages"] == 0
    assert setup.kafka.alerts_by_series() == expected_alerts(
        messages, setup.kafka.input, delay=True
    )
    assert setup.kafka.committed(setup.group_id) == {0: 300, 1: 300}


@pytest.mark.parametrize("mode", ["exactly_once", "at_least_once"])
def test_two_workers_share_and_hand_over_without_a_gap(setup: Setup, mode: str) -> None:
    """In both modes the commit on revocation reaches the broker while it still counts."""
    messages = stream(2_000)
    setup.delivery = {"commit_interval": "5s", "max_poll_records": 10, "mode": mode}
    setup.client = {**FAST, "producer": {"transaction_timeout_ms": 60_000}}
    setup.kafka.produce(messages)
    first = Running(setup.worker(ExactEngine(setup.kafka.input, delay=True, pause=0.03)))
    first.wait_for("messages", 100)
    second = Running(setup.worker(ExactEngine(setup.kafka.input, delay=True, pause=0.03)))
    second.wait_for("messages", 100)
    first.stop()
    second.wait(
        lambda: (
            second.worker.metrics.counts["messages"] + first.worker.metrics.counts["messages"]
            == 2_000
        )
    )
    second.stop()
    counts = [each.worker.metrics.counts for each in (first, second)]
    assert sum(each["messages"] for each in counts) == 2_000, "nothing twice, nothing lost"
    assert [each["aborts"] for each in counts] == [0, 0]
    assert [each["replayed_messages"] for each in counts] == [0, 0], "snapshots at the revocation"
    assert setup.kafka.alerts_by_series() == expected_alerts(
        messages, setup.kafka.input, delay=True
    )
    assert setup.kafka.committed(setup.group_id) == {0: 1_000, 1: 1_000}


def test_a_killed_worker_leaves_no_trace(setup: Setup) -> None:
    messages = stream(1_000)
    setup.kafka.produce(messages)
    setup.delivery = {"commit_interval": "50ms", "max_poll_records": 20}
    setup.state = {"snapshot_interval": "200ms"}
    killed = WorkerProcess(setup, delay=True, pause=0.02)
    eventually(lambda: sum(x or 0 for x in setup.kafka.committed(setup.group_id).values()) >= 200)
    killed.signal(signal.SIGKILL)
    assert killed.end()[0] == -signal.SIGKILL
    running = Running(setup.worker(ExactEngine(setup.kafka.input, delay=True)))
    running.wait(lambda: setup.kafka.committed(setup.group_id) == {0: 500, 1: 500}, 40)
    running.stop()
    eventually(
        lambda: (
            setup.kafka.alerts_by_series()
            == expected_alerts(messages, setup.kafka.input, delay=True)
        )
    )
    assert running.worker.metrics.counts["replayed_messages"] < 200, "from a snapshot"


def test_a_frozen_worker_cannot_write_after_others_took_over(setup: Setup) -> None:
    messages = stream(1_000)
    setup.kafka.produce(messages)
    setup.delivery = {"commit_interval": "50ms", "max_poll_records": 10}
    setup.client = {**FAST, "producer": {"transaction_timeout_ms": 60_000}}
    frozen = WorkerProcess(setup, delay=True, pause=0.05)
    eventually(lambda: sum(x or 0 for x in setup.kafka.committed(setup.group_id).values()) >= 100)
    frozen.signal(signal.SIGSTOP)
    setup.client = FAST
    second = Running(setup.worker(ExactEngine(setup.kafka.input, delay=True, pause=0.05)))
    # Where the freeze hits a transaction whose offsets are sent, the others wait for its timeout.
    second.wait_for("messages", 100, 100)
    frozen.signal(signal.SIGCONT)
    second.wait(lambda: setup.kafka.committed(setup.group_id) == {0: 500, 1: 500}, 100)
    second.stop()
    frozen.signal(signal.SIGTERM)
    code, text = frozen.end()
    assert code == 0, text
    expected = expected_alerts(messages, setup.kafka.input, delay=True)
    count = sum(map(len, expected.values()))
    eventually(lambda: sum(map(len, setup.kafka.alerts_by_series().values())) >= count)
    assert setup.kafka.alerts_by_series() == expected


def test_sigterm_finishes_commits_snapshots_and_leaves(setup: Setup) -> None:
    messages = stream(400)
    setup.kafka.produce(messages)
    setup.delivery = {"commit_interval": "30s", "max_poll_records": 10}
    ended = WorkerProcess(setup, delay=True, pause=0.02)
    eventually(lambda: "output from offset" in ended.log.read_text())
    ended.signal(signal.SIGTERM)
    code, text = ended.end()
    assert code == 0, text
    committed = setup.kafka.committed(setup.group_id)
    for partition, offset in committed.items():
        assert setup.snapshots().offsets(setup.kafka.input, partition) in ([offset], [])
    running = Running(setup.worker(ExactEngine(setup.kafka.input, delay=True)))
    running.wait_for("messages", 400 - sum(x or 0 for x in committed.values()), 4)
    running.stop()
    assert running.worker.metrics.counts["replayed_messages"] == 0
    assert setup.kafka.alerts_by_series() == expected_alerts(
        messages, setup.kafka.input, delay=True
    )


def test_dead_letters_are_cut_to_the_limit_of_their_topic(setup: Setup) -> None:
    value = b"\xff" * 150_000
    setup.kafka.produce([(b"key", value), (None, b"{")])
    running = Running(setup.worker())
    running.wait(lambda: setup.kafka.committed(setup.group_id)[0] == 2)
    running.stop()
    large, small = setup.kafka.read(setup.kafka.dead)
    assert dict(large.headers)["titans.truncated"] == b"150000"
    assert large.value == value[: len(large.value)]
    assert 90_000 < len(large.value) < 100_000
    assert (small.key, small.value) == (None, b"{")
    assert running.worker.metrics.counts["aborts"] == 0

"""Control messages on a real Kafka, with a worker that is killed between them."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.stream_harness import Kafka, Message, Setup, WorkerProcess, eventually, obeyed

pytestmark = pytest.mark.kafka


def readings(first: int, count: int) -> list[Message]:
    return [
        Message(f"s{i % 4}", float(13 * i % 140), i % 2, 1_700_000_000_000 + i)
        for i in range(first, first + count)
    ]


FAST = {
    "consumer": {"heartbeat_interval_ms": 300, "session_timeout_ms": 6000},
    "producer": {"transaction_timeout_ms": 4000},
}
"""Clients that notice a dead worker soon."""


def test_a_killed_worker_leaves_every_message_at_its_place(
    kafka_bootstrap: str, tmp_path: Path
) -> None:
    """Messages before, between and after three kills; the alerts are those of one undisturbed."""
    kafka = Kafka(kafka_bootstrap).create()
    setup = Setup(kafka, tmp_path, client=FAST, control=True)
    sent: list[Message] = []

    def feed(count: int) -> None:
        new = readings(len(sent), count)
        sent.extend(new)
        kafka.produce(new)

    def settled() -> bool:
        return kafka.committed(setup.group_id) == {0: len(sent) // 2, 1: len(sent) // 2}

    def journalled(count: int) -> bool:
        return len(kafka.read(kafka.journal)) == count

    process = WorkerProcess(setup)
    try:
        feed(100)
        eventually(settled, 60)
        for number in range(3):
            budget = {"series": "*", "false_alarms_per_series_per_day": 40.0 + 20 * number}
            kafka.tell("budget:*", action="budget", **budget)
            if number == 0:
                eventually(lambda: journalled(2), 60)
            feed(60)
            process.signal(signal.SIGKILL)
            process.end()
            if number == 1:
                kafka.tell("reset:s1", action="reset", series="s1")
            process = WorkerProcess(setup)
            feed(60)
            eventually(settled, 90)
        # committed offsets do not tell that the last message is in the journal for readers, too
        eventually(lambda: journalled(8), 60)
        process.signal(signal.SIGTERM)
        code, log = process.end(40)
        assert code == 0, log
    finally:
        if process.process.poll() is None:
            process.process.kill()
    assert kafka.alerts_by_series() == obeyed(kafka, sent)
    assert len(kafka.read(kafka.journal)) == 8

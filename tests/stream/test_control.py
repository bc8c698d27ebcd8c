"""Control messages in a worker, on the embedded broker; every place is that of the journal."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import TopicPartition

from tests.stream_harness import (
    Kafka,
    Message,
    Running,
    Setup,
    eventually,
    expected_alerts,
    obeyed,
)
from titans_stream.devbroker.broker import DevBroker
from titans_stream.stream.control import Obeyed
from titans_stream.stream.journal import Entry
from titans_stream.stream.kafka.errors import AbortedError
from titans_stream.stream.outbox import Outbox
from titans_stream.stream.recovery import Origin


@pytest.fixture
def setup(broker: DevBroker, tmp_path: Path) -> Setup:
    return Setup(Kafka(broker.bootstrap).create(), tmp_path, control=True)


class Feed:
    """Sends readings whose values rise and fall, over two partitions."""

    def __init__(self, kafka: Kafka) -> None:
        self.kafka = kafka
        self.sent: list[Message] = []

    def __call__(self, count: int) -> None:
        first = len(self.sent)
        new = [
            Message(f"s{i % 4}", float(13 * i % 140), i % 2, 1_700_000_000_000 + i)
            for i in range(first, first + count)
        ]
        self.sent += new
        self.kafka.produce(new)


def entries(kafka: Kafka) -> list[Entry]:
    return [Entry.decode(record.key, record.value) for record in kafka.read(kafka.journal)]


def budget(value: float) -> dict[str, Any]:
    return {"action": "budget", "series": "*", "false_alarms_per_series_per_day": value}


def start(setup: Setup) -> Running:
    return Running(setup.worker())


def forget_snapshots(folder: Path) -> None:
    for part in folder.iterdir():
        shutil.rmtree(part) if part.is_dir() else part.unlink()


def metadata(setup: Setup) -> Iterator[Origin]:
    consumer = setup.clients().consumer(setup.group_id)
    try:
        for partition in range(2):
            found = consumer.committed(TopicPartition(setup.kafka.input, partition), True, 5_000)
            yield Origin.decode(found.metadata)
    finally:
        consumer.close(False, 1_000)


def test_messages_take_effect_at_a_recorded_place_of_each_partition(setup: Setup) -> None:
    feed = Feed(setup.kafka)
    running = start(setup)
    running.wait(running.worker.ready.is_set)
    feed(40)
    running.wait_for("messages", 40)
    setup.kafka.tell("budget:*", **budget(60.0))
    running.wait_for("control_messages", 2)
    feed(40)
    running.wait_for("messages", 80)
    setup.kafka.tell("reset:s1", action="reset", series="s1")
    running.wait_for("control_messages", 4)
    setup.kafka.tell("budget:*")
    running.wait_for("control_messages", 6)
    feed(40)
    running.wait_for("messages", 120)
    running.stop()
    found = entries(setup.kafka)
    assert sorted((e.partition.partition, e.number, e.at) for e in found) == [
        (p, n, at) for p in range(2) for n, at in ((1, 20), (2, 40), (3, 40))
    ]
    assert setup.kafka.alerts_by_series() == obeyed(setup.kafka, feed.sent)
    assert [origin.journal for origin in metadata(setup)] == [(0, 3), (0, 3)]


@pytest.mark.parametrize("kept", ["snapshots", "no snapshots"])
def test_a_replay_applies_them_where_they_were_applied_first(
    setup: Setup, tmp_path: Path, kept: str
) -> None:
    feed = Feed(setup.kafka)
    running = start(setup)
    feed(30)
    running.wait_for("messages", 30)
    for number in range(3):
        setup.kafka.tell("budget:*", **budget(40.0 + 20 * number))
        running.wait_for("control_messages", 2 * number + 2)
        feed(30)
        running.wait_for("messages", 60 + 30 * number)
    running.wait(lambda: setup.kafka.committed(setup.group_id) == {0: 60, 1: 60})
    if kept == "snapshots":
        running.stop()
        for partition in range(2):
            # those of the end do not exist, as after a crash
            setup.snapshots().discard(setup.kafka.input, partition, after=50)
        running = start(setup)
        running.wait(running.worker.ready.is_set)
    running.stop()
    forget_snapshots(tmp_path)
    again = start(setup)
    again.wait(again.worker.ready.is_set)
    feed(40)
    again.wait_for("messages", 40)
    assert again.worker.metrics.counts["replayed_messages"] == 120
    assert again.worker.metrics.counts["control_messages"] == 0, "none is applied anew"
    again.stop()
    assert setup.kafka.alerts_by_series() == obeyed(setup.kafka, feed.sent)


def test_an_abort_takes_them_back_and_they_come_again(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, failed = Outbox.obeyed, []

    def fail_once(self: Outbox, done: Obeyed) -> None:
        plain(self, done)
        if not failed:
            failed.append(len(done.entries))
            raise AbortedError("test")

    monkeypatch.setattr(Outbox, "obeyed", fail_once)
    feed = Feed(setup.kafka)
    running = start(setup)
    feed(30)
    running.wait_for("messages", 30)
    setup.kafka.tell("budget:*", **budget(60.0))
    running.wait_for("control_messages", 3)
    feed(30)
    running.wait(lambda: setup.kafka.committed(setup.group_id) == {0: 30, 1: 30})
    running.stop()
    assert failed
    assert setup.kafka.alerts_by_series() == obeyed(setup.kafka, feed.sent)


def test_what_was_sent_while_nobody_worked_is_taken_before_the_first_reading(
    setup: Setup,
) -> None:
    start(setup).stop()  # makes the topics
    setup.kafka.tell("budget:*", **budget(60.0))
    feed = Feed(setup.kafka)
    feed(20)
    running = start(setup)
    running.wait_for("messages", 20)
    running.stop()
    assert {e.at for e in entries(setup.kafka)} == {0}
    assert setup.kafka.alerts_by_series() == obeyed(setup.kafka, feed.sent)


def test_what_cannot_be_used_is_one_dead_letter(setup: Setup) -> None:
    running = start(setup)
    running.wait(running.worker.ready.is_set)
    setup.kafka.tell("a", action="reset", serie="x")
    setup.kafka.tell("b", action="explode")
    setup.kafka.tell("c", **budget(60.0))
    running.wait_for("control_messages", 2)
    running.stop()
    again = start(setup)
    again.wait(again.worker.ready.is_set)
    again.stop()
    letters = [
        ({name: text.decode() for name, text in record.headers}, record.key)
        for record in setup.kafka.read(setup.kafka.dead)
    ]
    assert [(h["titans.reason"], key) for h, key in letters] == [
        ("invalid-control", b"a"),
        ("invalid-control", b"b"),
    ]
    assert "series: is needed" in letters[0][0]["titans.detail"]
    assert "serie: unknown field" in letters[0][0]["titans.detail"]
    assert "action: one of reset" in letters[1][0]["titans.detail"]
    assert letters[0][0]["titans.topic"] == setup.kafka.control


def test_another_worker_goes_on_with_what_is_in_force(setup: Setup) -> None:
    feed = Feed(setup.kafka)
    first = start(setup)
    first.wait(first.worker.ready.is_set)
    setup.kafka.tell("budget:*", **budget(60.0))
    first.wait_for("control_messages", 2)
    feed(40)
    first.wait_for("messages", 40)
    second = start(setup)
    second.wait(second.worker.ready.is_set, 60)
    feed(40)
    both = (first.worker.metrics.counts, second.worker.metrics.counts)
    first.wait(lambda: sum(counts["messages"] for counts in both) == 80, 60)
    first.stop()
    feed(40)
    second.wait(lambda: setup.kafka.committed(setup.group_id) == {0: 60, 1: 60}, 60)
    second.stop()
    assert len(entries(setup.kafka)) == 2
    assert setup.kafka.alerts_by_series() == obeyed(setup.kafka, feed.sent)


def test_a_topic_made_anew_begins_with_what_is_in_force(setup: Setup, broker: DevBroker) -> None:
    feed = Feed(setup.kafka)
    running = start(setup)
    feed(20)
    running.wait_for("messages", 20)
    setup.kafka.tell("budget:*", **budget(60.0))
    running.wait_for("control_messages", 2)
    running.wait(lambda: [o.journal for o in metadata(setup)] == [(0, 1), (0, 1)])
    running.stop()
    admin = setup.clients()
    with admin._admin() as each:
        each.delete_topics([setup.kafka.input])
    eventually(lambda: admin.topics([setup.kafka.input])[setup.kafka.input] is None)
    admin.create_topic(setup.kafka.input, 2, {"retention.ms": "-1"})
    before = setup.kafka.alerts_by_series()
    feed.sent.clear()
    feed(30)
    again = start(setup)
    again.wait(lambda: setup.kafka.committed(setup.group_id) == {0: 15, 1: 15})
    assert again.worker.metrics.counts["control_messages"] == 0
    again.stop()
    assert [o.journal for o in metadata(setup)] == [(1, 1), (1, 1)]
    found = setup.kafka.alerts_by_series()
    told = {series: alerts[len(before.get(series, ())) :] for series, alerts in found.items()}
    wanted = expected_alerts(feed.sent, setup.kafka.input, threshold=60.0)
    assert {series: alerts for series, alerts in told.items() if alerts} == wanted

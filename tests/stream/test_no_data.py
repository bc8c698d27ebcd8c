"""A topic that falls silent as a whole: one alert by the wall clock, whoever works then."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from kafka import TopicPartition

from tests.engine.streams import engine
from tests.stream_harness import Kafka, Message, Running, Setup
from titans_stream.devbroker.broker import DevBroker
from titans_stream.records import Alert
from titans_stream.stream.recovery import Origin, Progress
from titans_stream.stream.ticks import Ticks


def sent(kafka: Kafka, first: int, count: int, series: int = 3) -> None:
    """Readings of `series` series, a second apart, by their Kafka timestamps."""
    start = 1_772_366_400_000
    kafka.produce(
        [
            Message(f"s{i % series}", 20.0 + i % 5, 0, start + 1_000 * (i // series))
            for i in range(first, first + count)
        ]
    )


def told(kafka: Kafka) -> list[dict[str, Any]]:
    found = [json.loads(record.value) for record in kafka.read(kafka.alerts)]
    return [alert for alert in found if alert["reason"] == "no_data"]


def worker(setup: Setup) -> Running:
    one = engine(budget=1e-3, no_data_after="2s")
    one._no_data._topic = setup.kafka.input
    return Running(setup.worker(engine=one))


def test_a_silent_topic_is_told_once_by_whoever_works(tmp_path: Path) -> None:
    with DevBroker(auto_create=False) as broker:
        kafka = Kafka(broker.bootstrap).create(partitions=1)
        setup = Setup(kafka, tmp_path)
        sent(kafka, 0, 180)
        running = worker(setup)
        running.wait(lambda: len(told(kafka)) == 1, 60)
        (opened,) = told(kafka)
        assert (opened["series_id"], opened["status"], opened["value"]) == ("*", "opened", None)
        assert opened["source"] == {"topic": kafka.input, "partition": 0, "offset": 180}
        running.stop()
        for again in range(2):  # with a snapshot, and without
            running = worker(setup)
            assert running.worker.ready.wait(30)
            time.sleep(4.0)
            running.stop()
            assert len(told(kafka)) == 1, "the one who takes over knows of it"
            if again == 0:
                for path in tmp_path.rglob("*"):
                    if path.is_file():
                        path.unlink()
        running = worker(setup)
        assert running.worker.ready.wait(30)
        sent(kafka, 1_800, 60)
        running.wait(lambda: len(told(kafka)) >= 2, 60)
        running.stop()
        back = told(kafka)[1]
        assert (back["status"], back["alert_id"]) == ("resolved", opened["alert_id"])
        assert [alert["status"] for alert in told(kafka)][2:] in ([], ["opened"])


def test_bursts_are_no_silence() -> None:
    told = []

    class Asked:
        def tick(self, partition: object, silence: int, patience: int, offset: int) -> list[Alert]:
            told.append((silence / 1e9, patience / 1e9))
            return []

    now = 1_000.0
    progress = Progress(TopicPartition("in", 0), 10, 10, 0, 10, Origin(), last_message=now)
    assignment = SimpleNamespace(
        progress={progress.partition: progress}, new=set(), is_read=lambda partition: True
    )
    ticks = Ticks(assignment, Asked(), lambda: now)  # type: ignore[arg-type]
    now += 30.0
    ticks.look()
    assert told.pop() == (30.0, 600.0), "a worker that has just begun"
    for _ in range(25):
        now += 60.0
        progress.heard(now)
    now += 90.0
    ticks.look()
    assert told.pop() == (90.0, 180.0), "three times the pause between two bursts"
    ticks.look()
    assert not told, "asked a moment ago"

"""A warm-up that counts by the readings' own times, however late they were sent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kafka import TopicPartition

from tests.stream_harness import Kafka, Running, Setup
from titans_stream.devbroker.broker import DevBroker
from titans_stream.stream.codec.choice import codec_for
from titans_stream.stream.inspect import inspect_connector
from titans_stream.stream.own_times import OwnTimes
from titans_stream.stream.settings import InputConfig, OutputConfig

START = 1_772_366_400
HOUR = 3_600 * 10**9


def loaded(kafka: Kafka, hours: int, broken: tuple[int, ...] = ()) -> None:
    """A reading of every hour, all of them sent now; those of `broken` cannot be decoded."""
    kafka.produce(
        [
            (None, json.dumps({"s": "a", "v": i % 7, "t": "?" if i in broken else
                               START + 3_600 * i}).encode())
            for i in range(hours)
        ]
    )  # fmt: skip


def config(kafka: Kafka, **more: object) -> InputConfig:
    return InputConfig.model_validate(
        {"topic": kafka.input, "series": "{s}", "value": "v", "timestamp": "t", **more}
    )


@pytest.mark.parametrize("broken", [(), (*range(250, 260), 299, 298)])
def test_the_offset_is_found_by_what_the_messages_say(
    tmp_path: Path, broken: tuple[int, ...]
) -> None:
    with DevBroker(auto_create=False) as broker:
        kafka = Kafka(broker.bootstrap).create(partitions=1)
        loaded(kafka, 300, broken)
        setup = Setup(kafka, tmp_path)
        own = OwnTimes(lambda: setup.clients().consumer(None), codec_for(config(kafka)))
        partition = TopicPartition(kafka.input, 0)
        newest = max(set(range(300)) - set(broken))
        assert own.begin(partition, 0, 300, 24 * HOUR) == newest - 24
        assert own.begin(partition, 0, 100, 24 * HOUR) == 99 - 24
        assert own.begin(partition, 90, 100, 24 * HOUR) == 90
        assert own.begin(partition, 0, 300, 9_000 * HOUR) == 0


def test_a_worker_warms_up_with_the_last_day_and_check_says_so(tmp_path: Path) -> None:
    with DevBroker(auto_create=False) as broker:
        kafka = Kafka(broker.bootstrap).create(partitions=1)
        loaded(kafka, 200)
        setup = Setup(kafka, tmp_path)
        by_own = {"timestamp": "t", "start": "latest", "warm_up": "1d"}
        for given, messages in ((by_own, 25), ({**by_own, "timestamp": "kafka"}, 200)):
            more = {**given, "group_id": f"g{messages}"}
            found = inspect_connector(
                setup.clients(), config(kafka, **more), OutputConfig(alerts=kafka.alerts), 0
            )
            assert [one.warm_up for one in found.partitions] == [messages]
            setup.input = more
            running = Running(setup.worker())
            running.wait_for("replayed_messages", messages)
            running.stop()
            assert running.worker.metrics.counts["replayed_messages"] == messages


def test_where_no_message_tells_its_time_kafka_does(tmp_path: Path) -> None:
    with DevBroker(auto_create=False) as broker:
        kafka = Kafka(broker.bootstrap).create(partitions=1)
        loaded(kafka, 50, tuple(range(50)))
        clients = Setup(kafka, tmp_path).clients()
        own = OwnTimes(lambda: clients.consumer(None), codec_for(config(kafka)))
        assert own.begin(TopicPartition(kafka.input, 0), 0, 50, HOUR) is None

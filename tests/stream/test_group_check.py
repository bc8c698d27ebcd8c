"""A connector whose consumer group belongs to another topic is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from kafka.admin import KafkaAdminClient

from tests.stream_harness import Kafka, Running, Setup, stream
from titans_stream.devbroker.broker import DevBroker
from titans_stream.stream.inspect import inspect_connector
from titans_stream.stream.kafka.errors import ConnectError
from titans_stream.stream.settings import InputConfig, OutputConfig


@pytest.fixture(params=["development broker", pytest.param("kafka", marks=pytest.mark.kafka)])
def both(request: pytest.FixtureRequest, broker: DevBroker, tmp_path: Path) -> list[Setup]:
    """Two connectors of one name, each with a topic of its own."""
    real = request.param == "kafka"
    servers = request.getfixturevalue("kafka_bootstrap") if real else broker.bootstrap
    first, second = Kafka(servers).create(), Kafka(servers).create()
    name = first.prefix + ".g"
    return [
        Setup(kafka, tmp_path / kafka.prefix, input={"group_id": name}) for kafka in (first, second)
    ]


def refused(setup: Setup, line: str) -> None:
    """`run` and `check` end with the line."""
    running = Running(setup.worker())
    running.join()
    with pytest.raises(ConnectError, match=line):
        running.stop()
    with pytest.raises(ConnectError, match=line):
        check(setup)


def check(setup: Setup) -> None:
    config = InputConfig(topic=setup.kafka.input, series="{s}", value="v", **setup.input)
    inspect_connector(setup.clients(), config, OutputConfig(alerts=setup.kafka.alerts), 0)


def test_a_group_that_reads_another_topic(both: list[Setup]) -> None:
    first, second = both
    first.kafka.produce(stream(20))
    running = Running(first.worker())
    running.wait_for("messages", 20)
    group, topic = first.input["group_id"], first.kafka.input
    refused(second, f"group {group} reads topic {topic}: another connector has this name; give")
    check(first)
    helper = Running(replace(first, folder=first.folder / "2").worker())
    running.wait(lambda: helper.worker.metrics.counts["rebalances"] > 0)
    helper.stop()
    running.stop()
    refused(second, f"group {group} has read topic {topic}: another connector")
    check(first)


def test_topics_that_are_no_more_do_not_count(both: list[Setup]) -> None:
    first, second = both
    first.kafka.produce(stream(20))
    running = Running(first.worker())
    running.wait_for("commits", 1)
    running.stop()
    admin = KafkaAdminClient(bootstrap_servers=first.kafka.bootstrap)
    admin.delete_topics([first.kafka.input])
    admin.close()
    second.kafka.produce(stream(20))
    running = Running(second.worker())
    running.wait_for("messages", 20)
    running.stop()

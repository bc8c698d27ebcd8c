"""Topics and producers that compress: each codec is read and written, a missing one is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kafka import KafkaProducer, codec

from tests.stream_harness import Kafka, Running, Setup, expected_alerts, stream
from titans_stream.devbroker.broker import DevBroker
from titans_stream.stream.inspect import inspect_connector
from titans_stream.stream.kafka.errors import ConnectError
from titans_stream.stream.settings import InputConfig, OutputConfig

CODECS = ("gzip", "snappy", "lz4", "zstd")
PACKAGES = {"snappy": "python-snappy", "lz4": "lz4", "zstd": "zstandard"}


@pytest.fixture(params=["development broker", pytest.param("kafka", marks=pytest.mark.kafka)])
def setup(request: pytest.FixtureRequest, broker: DevBroker, tmp_path: Path) -> Setup:
    real = request.param == "kafka"
    servers = request.getfixturevalue("kafka_bootstrap") if real else broker.bootstrap
    return Setup(Kafka(servers).create(), tmp_path)


@pytest.mark.parametrize("name", CODECS)
def test_compressed_messages_are_read_and_output_is_compressed(setup: Setup, name: str) -> None:
    messages = stream(200)
    produce_compressed(setup.kafka, name, messages)
    setup.client = {"producer": {"compression_type": name}}
    found = inspect_connector(setup.clients(), input_of(setup), output_of(setup), 5)
    assert [len(one.readings) for one in found.messages] == [1] * 5
    running = Running(setup.worker())
    running.wait_for("messages", 200)
    running.stop()
    assert setup.kafka.alerts_by_series() == expected_alerts(messages, setup.kafka.input)
    assert setup.kafka.committed(setup.group_id) == {0: 100, 1: 100}


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_a_missing_library_is_one_line_that_names_the_package(
    setup: Setup, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.kafka.produce(stream(4))
    produce_compressed(setup.kafka, name, stream(20))
    monkeypatch.setattr(codec, f"has_{name}", lambda: False)
    line = f"messages of the input are compressed with {name}, .*: pip install {PACKAGES[name]}$"
    with pytest.raises(ConnectError, match=line):
        inspect_connector(setup.clients(), input_of(setup), output_of(setup), 50)
    running = Running(setup.worker())
    running.join()
    with pytest.raises(ConnectError, match=line):
        running.stop()
    setup.client = {"producer": {"compression_type": name}}
    with pytest.raises(ConnectError, match=f"compression_type: {name}, .*{PACKAGES[name]}$"):
        inspect_connector(setup.clients(), input_of(setup), output_of(setup), 0)


def input_of(setup: Setup) -> InputConfig:
    return InputConfig(topic=setup.kafka.input, series="{s}", value="v", min_timestamp="1970-01-01")


def output_of(setup: Setup) -> OutputConfig:
    return OutputConfig(alerts=setup.kafka.alerts)


def produce_compressed(kafka: Kafka, name: str, messages: list) -> None:
    """Write readings in compressed batches."""
    producer = KafkaProducer(
        bootstrap_servers=kafka.bootstrap, compression_type=name, linger_ms=200
    )
    for message in messages:
        value = json.dumps({"s": message.series, "v": message.value}).encode()
        producer.send(
            kafka.input, value, partition=message.partition, timestamp_ms=message.timestamp_ms
        )
    producer.flush(30)
    producer.close()

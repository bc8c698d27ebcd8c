"""Training data from a connector's topic, on the embedded broker."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from kafka import KafkaProducer

from tests.lifecycle.conftest import quick_recipe
from tests.stream_harness import Kafka
from titans_stream.config import Recipe
from titans_stream.devbroker.broker import DevBroker
from titans_stream.lifecycle.data import load_data
from titans_stream.lifecycle.datasets import dataset_records
from titans_stream.lifecycle.topic_data import topic_series, with_history
from titans_stream.recipe_settings import TopicData

HOUR_MS = 3_600_000
COUNT = 400


@pytest.fixture(scope="module")
def connector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two series, one per partition: a message every hour up to now, one of them unreadable."""
    broker = DevBroker(auto_create=False).start()
    kafka = Kafka(broker.bootstrap).create()
    now = time.time_ns() // 1_000_000
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap)
    for i in range(COUNT):
        stamp = now - (COUNT - i) * HOUR_MS
        for partition, name in enumerate(("a", "b")):
            value = 10 * partition + np.sin(i / 4)
            text = json.dumps({"s": name, "v": value, "t": stamp}).encode()
            producer.send(kafka.input, text, partition=partition, timestamp_ms=stamp)
    producer.send(kafka.input, b"{", partition=0, timestamp_ms=now)
    # a time that is there already, and one that comes late
    for back in (1, 30):
        stamp = now - back * HOUR_MS
        text = json.dumps({"s": "a", "v": 99.0, "t": stamp + (back > 1)}).encode()
        producer.send(kafka.input, text, partition=0, timestamp_ms=now)
    producer.flush(30)
    producer.close()
    path = tmp_path_factory.mktemp("connector") / "c.yaml"
    path.write_text(
        f"name: c\nkafka: {{bootstrap_servers: '{kafka.bootstrap}'}}\n"
        f"input: {{topic: {kafka.input}, series: '{{s}}', value: v, timestamp: t}}\n"
        f"output: {{alerts: {kafka.alerts}}}\nengine: {{timezone: Europe/Vienna}}\n"
    )
    yield path
    broker.stop()


def test_series_are_those_of_the_topic_in_order_of_time(
    connector: Path, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = topic_series(TopicData(connector=str(connector)))
    assert (a.name, b.name) == ("a", "b")
    np.testing.assert_allclose(b.value, 10 + np.sin(np.arange(COUNT) / 4))
    assert len(a.value) == COUNT + 1
    assert (np.diff(a.timestamp) > 0).all()
    assert a.value[-1] == pytest.approx(np.sin((COUNT - 1) / 4)), "the first of a time counts"
    assert np.count_nonzero(a.value == 99.0) == 1
    assert a.local_seconds is not None
    assert (a.local_seconds - a.timestamp / 1e9)[0] in (3600.0, 7200.0)
    assert "1 messages or readings cannot be used" in caplog.text


def test_only_the_last_part_is_read(connector: Path) -> None:
    since = TopicData.model_validate({"connector": str(connector), "since": "100h"})
    _, b = topic_series(since)
    assert len(b.value) in (99, 100)
    few = TopicData(connector=str(connector), most_messages=40)
    assert len(topic_series(few)[1].value) == 20


def test_a_recipe_learns_from_it(connector: Path) -> None:
    plain = quick_recipe()
    recipe = with_history(plain, str(connector), "10d")
    assert recipe.data.topic is not None
    assert recipe.training == plain.training
    data = load_data(recipe.data, recipe.seed)
    mine = [one for one in data.training if one.family == "topic"]
    assert [one.name.split("[")[0] for one in mine] == ["a", "b"]
    assert {len(one.value) for one in mine} <= {119, 120, 121}, "half of ten days"
    longer = with_history(plain, str(connector), "30d")
    data = load_data(longer.data, longer.seed)
    assert [one.family for one in data.validation].count("topic") == 2
    record = dataset_records(longer, data)["training"]
    assert record.source_type == "kafka"
    assert json.loads(record.source)["since"] == "30d"
    again = Recipe.model_validate(json.loads(longer.model_dump_json(by_alias=True)))
    assert again == longer
    with pytest.raises(ValueError, match="--since: needs a --connector"):
        with_history(plain, None, "10d")

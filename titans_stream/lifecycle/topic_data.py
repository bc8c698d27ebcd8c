"""Series from the history of a connector's topics: its messages, decoded as the worker does."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator

import numpy as np
from kafka import TopicPartition

from titans_stream.config import Connector, Recipe, load_connector
from titans_stream.engine.clock import LocalTime
from titans_stream.lifecycle.series import Series, make_series
from titans_stream.recipe_settings import TopicData
from titans_stream.records import Float64, Int64
from titans_stream.stream.codec.choice import codec_for
from titans_stream.stream.kafka.client import KafkaClients
from titans_stream.stream.kafka.deadline import ANSWER_MS
from titans_stream.stream.kafka.errors import ConnectError
from titans_stream.stream.kafka.protocols import Consumer
from titans_stream.stream.kafka.translation import translated
from titans_stream.stream.messages import RawMessage, slices
from titans_stream.stream.stretch import offset_at, read_stretch

log = logging.getLogger(__name__)

TOPIC_FAMILY = "topic"
_MOST_RECORDS = 5_000

Columns = dict[str, list[tuple[Int64, Float64]]]


def topic_series(config: TopicData) -> list[Series]:
    """The series of a topic's history, by name; several readings of one time: the first counts.

    ConnectError where Kafka or the topic cannot be read, ConfigError for the connector's file.
    """
    connector = load_connector(config.connector)
    columns: Columns = {}
    unusable = 0
    codec = codec_for(connector.input)
    for messages in _history(connector, config):
        for part in slices(messages):
            decoded = codec.decode(part)
            unusable += len(decoded.dead)
            readings = decoded.readings
            names = np.array(readings.series)
            for name in dict.fromkeys(readings.series):
                rows = names == name
                mine = (readings.timestamp[rows], readings.value[rows])
                columns.setdefault(name, []).append(mine)
    if unusable:
        log.warning("%s: %s messages or readings cannot be used", config.connector, f"{unusable:,}")
    clock = LocalTime(connector.engine.timezone)
    return [_series(name, columns[name], clock) for name in sorted(columns)]


def _series(name: str, pieces: Iterable[tuple[Int64, Float64]], clock: LocalTime) -> Series:
    timestamp, value = (np.concatenate(column) for column in zip(*pieces, strict=True))
    _, first = np.unique(timestamp, return_index=True)
    return make_series(name, TOPIC_FAMILY, value[first], timestamp[first], clock)


def _history(connector: Connector, config: TopicData) -> Iterator[list[RawMessage]]:
    """The messages since then up to the end as it is now, partition after partition."""
    clients = KafkaClients(connector.kafka, patience=30.0)
    names = connector.input.subscription
    topics = list(names.names) or [each for each in clients.topic_names() if names.has(each)]
    found = clients.topics(topics)
    consumer = clients.consumer(None)
    try:
        for topic in topics:
            info = found[topic]
            if info is None:
                raise ConnectError(f"data.topic: topic {topic} does not exist on {clients.servers}")
            most = max(1, config.most_messages // (len(topics) * len(info.partitions)))
            for number in info.partitions:
                yield from _partition(consumer, TopicPartition(topic, number), config.since, most)
    finally:
        consumer.close(False, 1_000)


def _partition(
    consumer: Consumer, partition: TopicPartition, since: int, most: int
) -> Iterator[list[RawMessage]]:
    with translated("read history"):
        first = consumer.beginning_offsets([partition], ANSWER_MS)[partition]
        end = consumer.end_offsets([partition], ANSWER_MS)[partition]
        begin = offset_at(consumer, partition, time.time_ns() - since, end, ANSWER_MS)
        position = max(first, begin, end - most)
        if position > begin:
            log.warning("%s %d: data.topic.most_messages leaves out the oldest", *partition)
    yield from read_stretch(consumer, partition, position, end, _MOST_RECORDS)


def with_history(recipe: Recipe, connector: str | None, since: str | None) -> Recipe:
    """The recipe with a connector's history among its data; what is None stays as it is."""
    settings = recipe.model_dump(mode="json", by_alias=True, exclude_unset=True)
    topic = dict(settings["data"].get("topic") or {})
    if connector is not None:
        topic["connector"] = connector
    if since is not None:
        topic["since"] = since
    if "connector" not in topic:
        raise ValueError("--since: needs a --connector, or data.topic in the recipe")
    settings["data"]["topic"] = topic
    return Recipe.model_validate(settings)

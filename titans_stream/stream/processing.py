"""From messages of any topics to what the engine makes of them.

The engine knows partitions by number. Where a connector reads one topic these are Kafka's own;
where it reads several, each partition of each topic has a number made from its name, which is the
same in every worker: alerts and snapshots are kept apart by it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import groupby
from operator import attrgetter
from typing import Any

import numpy as np
from kafka import TopicPartition

from titans_stream.ids import taken
from titans_stream.records import (
    Alert,
    DeadLetter,
    Engine,
    Forecast,
    Int32,
    Int64,
    ModelRef,
    Order,
    Readings,
    Results,
    Scores,
    Source,
)
from titans_stream.stream.codec.codec import Codec
from titans_stream.stream.late_clocks import LateClocks
from titans_stream.stream.messages import RawMessage
from titans_stream.stream.metrics import Metrics
from titans_stream.stream.refusals import refusals
from titans_stream.stream.switch import SwitchEngine


@dataclass(frozen=True, slots=True)
class Processed:
    """What messages came to; `scores` by input topic and model, None: the worker's only one."""

    readings: int
    alerts: list[Alert]
    forecasts: list[Forecast]
    scores: list[tuple[str, Scores, ModelRef | None]]
    dead: list[DeadLetter]


class PartitionNumbers:
    """The engine's numbers of partitions. `topic`: the only one; None where there are several."""

    def __init__(self, topic: str | None) -> None:
        self.topic = topic
        self._numbers: dict[TopicPartition, int] = {}
        self._names: dict[int, TopicPartition] = {}

    def number(self, partition: TopicPartition) -> int:
        """The number of a partition."""
        if self.topic is not None:
            return int(partition.partition)
        if partition not in self._numbers:
            number = zlib.crc32(f"{partition.topic}/{partition.partition}".encode()) >> 1
            while number in self._names:
                number = (number + 1) % 2**31
            self._numbers[partition], self._names[number] = number, partition
        return self._numbers[partition]

    def name(self, number: int) -> TopicPartition:
        """The partition of a number that was given."""
        if self.topic is not None:
            return TopicPartition(self.topic, number)
        return self._names[number]


class Processor:
    """Decodes messages and has the engine process them."""

    def __init__(
        self, codec: Codec, engine: Engine, numbers: PartitionNumbers, metrics: Metrics
    ) -> None:
        self._codec = codec
        self._engine = engine
        self._numbers = numbers
        self._metrics = metrics
        self._late_clocks = LateClocks()

    def replay(self, messages: Sequence[RawMessage]) -> list[Alert]:
        """Process messages of one partition for the sake of the state; the alerts that come of it.

        Counted as time of recovery.
        """
        with self._metrics.timed("recover"):
            readings = self._codec.decode(messages).readings
            number = self._numbers.number(TopicPartition(*messages[0][:2]))
            readings.partition[:] = number
            return self._engine.process(readings).alerts

    def tick(
        self, partition: TopicPartition, silence: int, patience: int, offset: int
    ) -> list[Alert]:
        """The alerts of a partition that was silent for `silence` ns; as `Engine.tick`."""
        alerts = self._engine.tick(self._numbers.number(partition), silence, patience, offset)
        return _of(partition, offset, alerts)

    def control(self, partition: TopicPartition, order: Order, offset: int) -> list[Alert]:
        """Have the engine do as a control message says; as `Engine.control`."""
        alerts = self._engine.control(self._numbers.number(partition), order, offset)
        return _of(partition, offset, alerts)

    def process(self, messages: Sequence[RawMessage]) -> Processed:
        """Process messages, topic by topic."""
        done = Processed(0, [], [], [], [])
        count = 0
        for topic, found in groupby(messages, attrgetter("topic")):
            taken = list(found)
            with self._metrics.timed("decode"):
                decoded = self._codec.decode(taken)
            readings = decoded.readings
            kafkas = readings.partition
            if self._numbers.topic is None:
                readings = replace(readings, partition=self._numbered(kafkas, topic))
            count += len(readings)
            done.dead.extend(decoded.dead)
            for model, at in self._parts(readings):
                part = readings if len(at) == len(readings) else readings.take(at)
                with self._metrics.timed("engine"):
                    results = self._engine.process(part)
                self._late_clocks.take(taken, results.scores, self._numbers.number)
                if results.refused is not None:
                    refused = replace(part, partition=kafkas[at])
                    done.dead.extend(refusals(taken, refused, results.refused))
                self._add(results, model, done)
        return replace(done, readings=count)

    def _parts(self, readings: Readings) -> Sequence[tuple[ModelRef | None, Int64]]:
        """Which readings go to which model, by place."""
        if isinstance(self._engine, SwitchEngine):
            return self._engine.parts(readings)
        return [(None, np.arange(len(readings)))]

    def _numbered(self, partitions: Int32, topic: str) -> Int32:
        numbers = partitions.copy()
        for partition in np.unique(partitions).tolist():
            number = self._numbers.number(TopicPartition(topic, partition))
            numbers[partitions == partition] = number
        return numbers

    def _add(self, results: Results, model: ModelRef | None, done: Processed) -> None:
        if self._numbers.topic is not None:
            done.alerts.extend(results.alerts)
            done.forecasts.extend(results.forecasts)
            done.scores.append((self._numbers.topic, results.scores, model))
            return
        done.alerts.extend(replace(x, source=self._source(x.source)) for x in results.alerts)
        done.forecasts.extend(replace(x, source=self._source(x.source)) for x in results.forecasts)
        done.scores.extend((*each, model) for each in self._by_topic(results.scores))

    def _source(self, source: Source) -> Source:
        name = self._numbers.name(source.partition)
        return Source(name.topic, name.partition, source.offset)

    def _by_topic(self, scores: Scores) -> Iterator[tuple[str, Scores]]:
        names = {n: self._numbers.name(n) for n in np.unique(scores.partition).tolist()}
        for topic in sorted({name.topic for name in names.values()}):
            mine = [number for number, name in names.items() if name.topic == topic]
            rows = np.flatnonzero(np.isin(scores.partition, mine))
            part = _rows(scores, rows)
            partition: Int32 = np.array(
                [names[number].partition for number in part.partition.tolist()], np.int32
            )
            yield topic, replace(part, partition=partition)


def _of(partition: TopicPartition, offset: int, alerts: list[Alert]) -> list[Alert]:
    """Alerts with their place in Kafka."""
    source = Source(partition.topic, partition.partition, offset)
    return [replace(alert, source=source) for alert in alerts]


def _rows(scores: Scores, rows: Any) -> Scores:
    columns: dict[str, Any] = {}
    for item in fields(Scores):
        column = getattr(scores, item.name)
        arrays = isinstance(column, np.ndarray)
        columns[item.name] = column[rows] if arrays else taken(column, rows)
    return Scores(**columns)

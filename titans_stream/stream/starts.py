"""Where a group that has committed nothing begins to read, and its warm-up before that."""

from __future__ import annotations

import time

from kafka import TopicPartition

from titans_stream.stream.kafka.deadline import TURN_ANSWER_MS
from titans_stream.stream.kafka.protocols import Consumer
from titans_stream.stream.own_times import OwnTimes
from titans_stream.stream.recovery import LogRange, Plan, plan_first
from titans_stream.stream.settings import InputConfig
from titans_stream.stream.stretch import offset_at


class Starts:
    """Begins of partitions; `own_times` None: a warm-up counts by Kafka timestamps alone."""

    def __init__(
        self, consumer: Consumer, config: InputConfig, own_times: OwnTimes | None = None
    ) -> None:
        self._consumer = consumer
        self._config = config
        self._own_times = None if config.timestamp.field is None else own_times

    def plan(self, partition: TopicPartition, logged: LogRange) -> Plan:
        """As `input.start` and `input.warm_up` say."""
        config = self._config
        now = time.time_ns()
        if config.start == "earliest":
            return plan_first(logged, logged.begin, logged.begin)
        if config.start_timestamp is None:
            start, since = logged.end, now
        else:
            since = config.start_timestamp
            start = self.offset_at(partition, since, logged.end)
        if not config.warm_up:
            return plan_first(logged, start, start)
        return plan_first(logged, start, self._warm_up_from(partition, logged, start, since))

    def again(self, partition: TopicPartition, logged: LogRange, offset: int) -> int:
        """Where memories that are lost begin to learn anew, before a committed offset."""
        if self._config.start == "earliest":
            return logged.begin
        if not self._config.warm_up:
            return offset
        return self._warm_up_from(partition, logged, offset, time.time_ns())

    def _warm_up_from(
        self, partition: TopicPartition, logged: LogRange, start: int, since: int
    ) -> int:
        """The first offset of the warm-up before the offset `start`, of the time `since`."""
        if self._own_times is not None and logged.begin < start:
            found = self._own_times.begin(partition, logged.begin, start, self._config.warm_up)
            if found is not None:
                return found
        return self.offset_at(partition, since - self._config.warm_up, start)

    def offset_at(self, partition: TopicPartition, nanoseconds: int, otherwise: int) -> int:
        """The first offset at or after a Kafka timestamp."""
        return offset_at(self._consumer, partition, nanoseconds, otherwise, TURN_ANSWER_MS)

"""Logs of partitions, read outside of any group: from where on, and stretches of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from kafka import TopicPartition

from titans_stream.durations import MILLISECOND
from titans_stream.stream.kafka.errors import ConnectError
from titans_stream.stream.kafka.protocols import Consumer
from titans_stream.stream.kafka.translation import translated
from titans_stream.stream.messages import RawMessage, raw_messages

_POLL_MS = 200
_PATIENCE = 60.0
"""Seconds without a message after which what is missing counts as unreadable."""


def offset_at(
    consumer: Consumer, partition: TopicPartition, nanoseconds: int, otherwise: int, answer_ms: int
) -> int:
    """The first offset at or after a Kafka timestamp; `otherwise` where there is none."""
    milliseconds = max(0, nanoseconds // MILLISECOND)
    found = consumer.offsets_for_times({partition: milliseconds}, answer_ms)[partition]
    return otherwise if found is None or found.offset < 0 else int(found.offset)


def begin_at(
    consumer: Consumer,
    partitions: list[TopicPartition],
    start: Callable[[TopicPartition, int, int], int],
    answer_ms: int,
) -> dict[TopicPartition, int]:
    """Assign partitions and go to `start(partition, begin, end)` of each; where they end."""
    consumer.assign(partitions)
    begins = consumer.beginning_offsets(partitions, answer_ms)
    ends = consumer.end_offsets(partitions, answer_ms)
    for partition in partitions:
        consumer.seek(partition, start(partition, begins[partition], ends[partition]))
    return ends


def read_stretch(
    consumer: Consumer,
    partition: TopicPartition,
    begin: int,
    end: int,
    most: int,
    patience: float = _PATIENCE,
) -> Iterator[list[RawMessage]]:
    """The messages from offset `begin` up to and without `end`, at most `most` at a time.

    What every poll brought, now and then nothing. ConnectError where nothing comes for `patience`
    seconds, and what `translated` makes of other errors.
    """
    with translated("read"):
        consumer.assign([partition])
        consumer.seek(partition, begin)
    position, heard = begin, time.monotonic()
    while position < end:
        with translated("read"):
            polled = consumer.poll(_POLL_MS, most)
        messages = raw_messages(record for records in polled.values() for record in records)
        yield [message for message in messages if begin <= message.offset < end]
        now = consumer.position(partition)
        if now is not None and now > position:
            position, heard = now, time.monotonic()
        elif time.monotonic() - heard > patience:
            raise ConnectError(
                f"topic {partition.topic} partition {partition.partition}: nothing came after "
                f"offset {position}"
            )

"""A Kafka message as it was received, before anything is known about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

_FIELDS = itemgetter(0, 1, 3, 4, 6, 7, 8, 9, 5)
"""topic, partition, offset, timestamp, key, value, headers, checksum, timestamp type of a
kafka-python ConsumerRecord."""

LOG_APPEND_TIME = 1
"""The `timestamp_type` of a message whose timestamp is the broker's, not its producer's."""

_MOST_BYTES_AT_ONCE = 2 * 2**20
"""Between so many bytes of messages the worker shows that it gets on: a message of a megabyte
can hold half a million readings."""


class RawMessage(NamedTuple):
    """One Kafka message; `timestamp_ms` is -1 where the message carries none.

    `problem`: why the message could not be read from its batch; key and value are None then.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()
    problem: str | None = None
    timestamp_type: int = 0


def raw_messages(records: Iterable[Any]) -> list[RawMessage]:
    """The messages in kafka-python's records."""
    return [RawMessage._make(fields) for fields in map(_FIELDS, records)]


def slices(messages: Sequence[RawMessage]) -> Iterator[list[RawMessage]]:
    """The messages in their order, in parts of about `_MOST_BYTES_AT_ONCE`."""
    part: list[RawMessage] = []
    size = 0
    for message in messages:
        part.append(message)
        size += len(message.value or b"")
        if size >= _MOST_BYTES_AT_ONCE:
            yield part
            part, size = [], 0
    if part:
        yield part

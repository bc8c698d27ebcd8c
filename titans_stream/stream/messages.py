"""A Kafka message as it was received, before anything is known about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

_FIELDS = itemgetter(0, 1, 3, 4, 6, 7, 8)
"""topic, partition, offset, timestamp, key, value, headers of a kafka-python ConsumerRecord."""


class RawMessage(NamedTuple):
    """One Kafka message; `timestamp_ms` is -1 where the message carries none."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


def raw_messages(records: Iterable[Any]) -> list[RawMessage]:
    """The messages in kafka-python's records."""
    return [RawMessage._make(fields) for fields in map(_FIELDS, records)]

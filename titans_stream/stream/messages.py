"""A Kafka message as it was received, before anything is known about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class RawMessage(NamedTuple):
    """One Kafka message; `timestamp_ms` is -1 where the message carries none."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()

"""What delivers alerts to whoever is to be told, and what it is given."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from titans_stream.records import Alert


@dataclass(frozen=True, slots=True)
class Entry:
    """A message of the alerts topic; `critical`: its episode is, or was, at some time."""

    alert: Alert
    critical: bool


class Receiver(Protocol):
    """Called from one thread. `deliver` and `refresh` raise DeliveryError where nobody takes it."""

    @property
    def open_count(self) -> int:
        """Alerts that are kept because they are open."""

    def recall(self, entries: Iterable[Entry]) -> None:
        """Learn from messages that were delivered by an earlier process."""

    def forget(self) -> None:
        """Others deliver from now on."""

    def deliver(self, entries: list[Entry]) -> int:
        """Deliver the first few of some messages; how many are done with, at least one."""

    def due(self) -> float | None:
        """When `refresh` is to be called next, on the clock `time.monotonic`; None: never."""

    def refresh(self) -> None:
        """Send again what has to be."""


def message_id(alert: Alert) -> str:
    """Names a message: the same however often it is published or delivered."""
    told = f"{alert.alert_id}\n{alert.status}\n{alert.timestamp}"
    return hashlib.sha256(told.encode()).hexdigest()[:32]

"""From messages to columns of readings: what every format does, and which one a connector uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from titans_stream.records import DeadLetter, Readings
from titans_stream.stream.messages import RawMessage


@dataclass(frozen=True, slots=True)
class Decoded:
    """The readings of some messages in their order, and what could not be used."""

    readings: Readings
    dead: list[DeadLetter]


class Codec(Protocol):
    """Decodes the messages of one input."""

    def decode(self, messages: Sequence[RawMessage]) -> Decoded:
        """Readings in the order of the messages; never raises for what a message holds.

        A message of which some readings cannot be used gives the others, and one dead letter that
        names those.
        """

"""What workers write to a control topic: that a partition has changed to another model.

An announcement is keyed by group and partition, so that compaction keeps the newest one of each;
it goes with the transaction that commits the change. Workers pass announcements over.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Final, Literal

import msgspec

from titans_stream.records import ModelRef

_PREFIX = b"swapped:"
ACTION: Final = "swapped"


@dataclass(frozen=True, slots=True)
class Swapped:
    """A partition is on `model` from the message at `offset` on, and was on `before`.

    `state` says whether the new model's state was warmed up with history or is the one that was
    left when the worker changed away from it; `messages` how many it took in for that. `time` is
    RFC 3339.
    """

    group_id: str
    topic: str
    partition: int
    offset: int
    model: ModelRef
    before: ModelRef
    state: Literal["warmed_up", "taken_up_again"]
    messages: int
    time: str
    action: Literal["swapped"] = ACTION

    def encode(self) -> tuple[bytes, bytes]:
        """Key and value of the record."""
        key = _PREFIX + json.dumps([self.group_id, self.topic, self.partition]).encode()
        return key, json.dumps(asdict(self)).encode()


def is_announcement(key: bytes | None) -> bool:
    """Whether a record of a control topic is what a worker wrote."""
    return (key or b"").startswith(_PREFIX)


def announced(value: bytes | None) -> Swapped | None:
    """An announcement read back; None where it is none that this version knows."""
    try:
        return msgspec.json.decode(value or b"", type=Swapped)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None

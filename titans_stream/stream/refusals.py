"""Dead letters of readings that the engine refused: their partition is full of series."""

from __future__ import annotations

from collections.abc import Sequence

from titans_stream.records import DeadLetter, Int64, Readings
from titans_stream.stream.codec.fields import Reason
from titans_stream.stream.messages import RawMessage


def refusals(
    messages: Sequence[RawMessage], readings: Readings, refused: Int64
) -> list[DeadLetter]:
    """One dead letter for each of `messages` that holds readings at the places `refused`."""
    by_place = {(message.partition, message.offset): message for message in messages}
    found: dict[tuple[int, int], list[str]] = {}
    for i in refused.tolist():
        place = (int(readings.partition[i]), int(readings.offset[i]))
        found.setdefault(place, []).append(readings.series[i])
    return [_letter(by_place[place], series) for place, series in found.items()]


def _letter(message: RawMessage, series: list[str]) -> DeadLetter:
    others = f" and {len(series) - 1:,} other(s)" if len(series) > 1 else ""
    return DeadLetter(
        Reason.TOO_MANY_SERIES,
        f"series {series[0]!r}{others} is new and the partition has engine.max_series of them: "
        "does input.series hold an id that is new with every message?",
        message.key,
        message.value,
        message.topic,
        message.partition,
        message.offset,
    )

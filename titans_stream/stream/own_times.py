"""Where a warm-up begins, by the times that the readings themselves name.

Kafka's index knows when messages were sent; history that was loaded at once has one such time. The
offset is looked for by halving the log and decoding a message at a time, with a consumer of its
own: about twenty of them, whatever the length. Messages are taken to be in order of time, nearly.
"""

from __future__ import annotations

from collections.abc import Callable

from kafka import TopicPartition

from titans_stream.stream.codec.codec import Codec
from titans_stream.stream.kafka.deadline import Deadline
from titans_stream.stream.kafka.protocols import Consumer
from titans_stream.stream.kafka.translation import translated
from titans_stream.stream.messages import raw_messages

_SECONDS = 20.0
_AT_ONCE = 20
"""Messages that are looked through for one that can be decoded."""


class OwnTimes:
    """Finds offsets by readings' own times. `consumer` gives a fresh one, outside of any group."""

    def __init__(self, consumer: Callable[[], Consumer], codec: Codec) -> None:
        self._open = consumer
        self._codec = codec

    def begin(self, partition: TopicPartition, low: int, high: int, before: int) -> int | None:
        """The offset from [low, high] from which readings are at most `before` ns older than the
        last one ahead of `high`; None where the messages tell no time.
        """
        consumer = self._open()
        try:
            with translated("warm-up"):
                consumer.assign([partition])
                deadline = Deadline(_SECONDS)
                newest = self._newest(consumer, partition, low, high, deadline)
                if newest is None:
                    return None
                first, last = low, high
                while first < last and not deadline.expired:
                    middle = (first + last) // 2
                    found = self._time(consumer, partition, middle, high, deadline)
                    if found is None:
                        return None
                    if found >= newest - before:
                        last = middle
                    else:
                        first = middle + 1
                return first if first >= last else None
        finally:
            consumer.close(False, 1_000)

    def _newest(
        self, consumer: Consumer, partition: TopicPartition, low: int, high: int, deadline: Deadline
    ) -> int | None:
        """The newest time of the readings shortly before `high`."""
        first = max(low, high - _AT_ONCE)
        consumer.seek(partition, first)
        found: list[int] = []
        while (consumer.position(partition) or 0) < high and not deadline.expired:
            records = consumer.poll(200, _AT_ONCE).get(partition, [])
            messages = [one for one in raw_messages(records) if first <= one.offset < high]
            found += self._codec.decode(messages).readings.timestamp.tolist()
        return max(found, default=None)

    def _time(
        self, consumer: Consumer, partition: TopicPartition, offset: int, end: int,
        deadline: Deadline,
    ) -> int | None:  # fmt: skip
        """The time of the first reading at or after an offset, before `end`."""
        consumer.seek(partition, offset)
        looked = 0
        while looked < _AT_ONCE and not deadline.expired:
            if (consumer.position(partition) or 0) >= end:
                return None
            records = consumer.poll(200, _AT_ONCE).get(partition, [])
            messages = [one for one in raw_messages(records) if offset <= one.offset < end]
            looked += len(messages)
            readings = self._codec.decode(messages).readings
            if len(readings):
                return int(readings.timestamp[0])
        return None

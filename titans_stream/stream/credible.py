"""Which of the messages that Kafka hands out can be what they say, and what it has no more."""

from __future__ import annotations

import logging

from titans_stream.stream.kafka.deadline import TURN_ANSWER_MS
from titans_stream.stream.kafka.errors import UnansweredError
from titans_stream.stream.kafka.protocols import Consumer
from titans_stream.stream.kafka.translation import translated
from titans_stream.stream.messages import RawMessage
from titans_stream.stream.metrics import Metrics
from titans_stream.stream.recovery import Progress

log = logging.getLogger(__name__)


def credible(
    consumer: Consumer, progress: Progress, messages: list[RawMessage], metrics: Metrics
) -> list[RawMessage]:
    """A partition's messages whose offsets rise, from the position to the log's end.

    A committed offset beyond the log would skip messages that are still to come. A broker notes
    the end that it tells before it reads, so a fetch from a log that grows may reach beyond it:
    the end is asked for anew before any message is refused. Where nobody tells it, all are to be
    read again.
    """
    partition, least = progress.partition, progress.position
    end = consumer.highwater(partition)
    if end is not None and any(message.offset >= end for message in messages):
        try:
            with translated("the end of the log"):
                end = consumer.end_offsets([partition], TURN_ANSWER_MS)[partition]
        except UnansweredError:
            consumer.seek(partition, least)
            return []
    kept: list[RawMessage] = []
    for message in messages:
        if least <= message.offset and (end is None or message.offset < end):
            kept.append(message)
            least = message.offset + 1
    refused = len(messages) - len(kept)
    if refused:
        metrics.counts["refused_messages"] += refused
        log.error(
            "%s partition %d: %d message(s) refused: their offsets do not rise from %d or are "
            "beyond the end of the log, %s",
            *partition,
            refused,
            progress.position,
            end,
        )
    return kept


def go_on(
    consumer: Consumer, progress: Progress, begin: int, wanted: int, metrics: Metrics
) -> None:
    """A log that begins at `begin` does not hold `wanted`: read on where it does, never before the
    position, and say so; once, where it ends before that."""
    if max(begin, progress.position) <= wanted:
        if progress.beyond != wanted:
            progress.beyond = wanted
            log.error(
                "%s partition %d: the log ends before offset %d, where this worker goes on; it "
                "waits for that offset",
                *progress.partition,
                wanted,
            )
        return
    lost = max(0, begin - max(wanted, progress.position))
    progress.position = max(begin, progress.position)
    log.error(
        "%s partition %d: %d messages were deleted before they were read; going on at %d",
        *progress.partition,
        lost,
        progress.position,
    )
    metrics.counts["lost_messages"] += lost
    consumer.seek(progress.partition, progress.position)

"""Which of the messages that Kafka hands out can be what they say."""

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

"""What a worker publishes: alerts, frames of scores, forecasts, dead letters, each to its topic.

No message is larger than its topic takes: frames of scores are split, dead letters cut, and what
can neither be split nor cut is a dead letter itself.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

from kafka import TopicPartition

from titans_stream.control.announcements import Swapped
from titans_stream.records import Alert, DeadLetter, Forecast, ModelRef, Scores
from titans_stream.stream.codec.fields import Reason
from titans_stream.stream.commit import Output
from titans_stream.stream.control import Obeyed
from titans_stream.stream.encoding import (
    MAX_FRAME_BYTES,
    RECORD_OVERHEAD,
    Record,
    dead_letter_record,
    encode_alert,
    encode_forecast,
    encode_scores,
)
from titans_stream.stream.kafka.errors import ConnectError
from titans_stream.stream.metrics import Metrics

log = logging.getLogger(__name__)

LEAST_LIMIT = 4_096
"""A dead letter's headers need room; a topic that takes less than this cannot be used."""
_LOG_INTERVAL = 1.0


class Outbox:
    """Encodes output and hands it over.

    `topics` are by the name of their setting, such as `output.alerts`; those that are not there
    get no output. `limits`: bytes of the largest message by topic.
    """

    def __init__(
        self,
        output: Output,
        topics: Mapping[str, str],
        limits: Mapping[str, int],
        model: ModelRef,
        metrics: Metrics,
    ) -> None:
        self._output = output
        self._topics = topics
        self._limits = dict(limits)
        self._model = model
        self._metrics = metrics
        self._next_log = 0.0
        self._unlogged = 0

    def alerts(self, alerts: Sequence[Alert], muted: Mapping[TopicPartition, set[str]]) -> None:
        """Publish alerts, but for the episodes in `muted` (by partition) while they last."""
        for alert in alerts:
            source = alert.source
            silent = muted and muted.get(TopicPartition(source.topic, source.partition))
            if silent and alert.alert_id in silent:
                if alert.status == "resolved":
                    silent.discard(alert.alert_id)
                continue
            if self._send("alerts", encode_alert(alert)):
                self._metrics.alerted(alert)

    def scores(self, scores: Scores, source: str, model: ModelRef | None = None) -> None:
        """Publish scores of the input topic `source` where a topic is set for them.

        `model` made them; None: the one that the worker began with.
        """
        topic = self._topics.get("output.scores")
        if topic is not None and len(scores):
            room = self._limits[topic] - RECORD_OVERHEAD
            most = min(MAX_FRAME_BYTES, room)
            for record in encode_scores(scores, model or self._model, source, max_bytes=most):
                self._send("scores", record)

    def forecasts(self, forecasts: Sequence[Forecast]) -> None:
        """Publish forecasts where a topic is set for them."""
        if "output.forecasts" in self._topics:
            for forecast in forecasts:
                sent = self._send("forecasts", encode_forecast(forecast))
                self._metrics.counts["forecasts"] += sent

    def dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Publish dead letters, cut where they are too large; log at most once a second."""
        topic = self._topics["output.dead_letter"]
        for letter in letters:
            key, value, headers = dead_letter_record(letter, self._limits[topic])
            self._output.send(topic, key, value, headers)
            self._metrics.dead[letter.reason] += 1
        if letters:
            self._metrics.counts["dead_letters"] += len(letters)
            self._unlogged += len(letters)
            now = time.monotonic()
            if now >= self._next_log:
                self._log(topic, letters[-1])
                self._next_log = now + _LOG_INTERVAL
                self._unlogged = 0

    def obeyed(self, done: Obeyed) -> None:
        """What control messages came to, and where they took effect."""
        self.alerts(done.alerts, {})
        for entry in done.entries:
            self._output.send(self._topics["control.journal"], *entry.encode())
        self.dead_letters(done.dead)

    def swapped(self, told: Sequence[Swapped]) -> None:
        """Announce changes of the model where workers may write to a control topic."""
        topic = self._topics.get("control.topic")
        if topic is not None:
            for each in told:
                self._output.send(topic, *each.encode())

    def shrink(self, topic: str) -> None:
        """Send a topic smaller messages: it refused one that keeps to the limit that it told.

        ConnectError where they cannot be smaller.
        """
        limit = self._limits[topic]
        if limit <= LEAST_LIMIT:
            raise ConnectError(
                f"topic {topic} takes no message of {LEAST_LIMIT:,} bytes: raise max.message.bytes"
            )
        self._limits[topic] = max(limit // 2, LEAST_LIMIT)
        log.warning(
            "messages are too large for topic %s; none is larger than %d bytes from now on",
            topic,
            self._limits[topic],
        )

    def _send(self, name: str, record: Record) -> bool:
        """Publish a message, or a dead letter where its topic does not take it."""
        topic = self._topics[f"output.{name}"]
        size = len(record.key) + len(record.value) + RECORD_OVERHEAD
        if size <= self._limits[topic]:
            self._output.send(topic, record.key, record.value)
            return True
        detail = f"{name}: {size:,} bytes, topic {topic} takes {self._limits[topic]:,}"
        source = record.source
        letter = DeadLetter(
            Reason.OUTPUT_TOO_LARGE,
            detail,
            record.key,
            record.value,
            source.topic,
            source.partition,
            source.offset,
        )
        self.dead_letters([letter])
        return False

    def _log(self, topic: str, letter: DeadLetter) -> None:
        log.warning(
            "%d message(s) could not be used, see topic %s; the last: %s (%s), partition %d "
            "offset %d",
            self._unlogged,
            topic,
            letter.reason,
            letter.detail,
            letter.partition,
            letter.offset,
        )

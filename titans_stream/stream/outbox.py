"""What a worker publishes: alerts, frames of scores, forecasts, dead letters, each to its topic."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

from titans_stream.records import Alert, DeadLetter, Forecast, ModelRef, Scores
from titans_stream.stream.commit import TOO_LARGE, Output
from titans_stream.stream.encoding import (
    dead_letter_record,
    encode_alert,
    encode_forecast,
    encode_scores,
)
from titans_stream.stream.metrics import Metrics
from titans_stream.stream.settings import OutputConfig

log = logging.getLogger(__name__)

_LOG_INTERVAL = 1.0
_LEAST_LIMIT = 4_096
"""A dead letter's headers need room; a broker that takes less than this cannot be used."""


class Outbox:
    """Encodes output and hands it over. `limit`: bytes of the largest dead letter."""

    def __init__(
        self,
        output: Output,
        input_topic: str,
        config: OutputConfig,
        dead_letter_topic: str,
        model: ModelRef,
        metrics: Metrics,
        limit: int,
    ) -> None:
        self._output = output
        self._input_topic = input_topic
        self._config = config
        self._dead_letter_topic = dead_letter_topic
        self._model = model
        self._metrics = metrics
        self._limit = max(limit, _LEAST_LIMIT)
        self._next_log = 0.0
        self._unlogged = 0

    def alerts(self, alerts: Sequence[Alert], muted: Mapping[int, set[str]]) -> None:
        """Publish alerts, but for the episodes in `muted` (by partition) while they last."""
        for alert in alerts:
            hushed = muted.get(alert.source.partition) if muted else None
            if hushed and alert.alert_id in hushed:
                if alert.status == "resolved":
                    hushed.discard(alert.alert_id)
                continue
            key, value = encode_alert(alert)
            self._output.send(self._config.alerts, key, value)
            self._metrics.counts["alerts"] += 1

    def scores(self, scores: Scores) -> None:
        """Publish scores where a topic is set for them."""
        if self._config.scores is not None and len(scores):
            for key, value in encode_scores(scores, self._model, self._input_topic):
                self._output.send(self._config.scores, key, value)

    def forecasts(self, forecasts: Sequence[Forecast]) -> None:
        """Publish forecasts where a topic is set for them."""
        if self._config.forecasts is None:
            return
        for forecast in forecasts:
            key, value = encode_forecast(forecast)
            self._output.send(self._config.forecasts, key, value)
        self._metrics.counts["forecasts"] += len(forecasts)

    def dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Publish dead letters, cut where they are too large; log at most once a second."""
        for letter in letters:
            self._dead_letter(letter)
        if letters:
            self._metrics.counts["dead_letters"] += len(letters)
            self._unlogged += len(letters)
            now = time.monotonic()
            if now >= self._next_log:
                self._log(letters[-1])
                self._next_log = now + _LOG_INTERVAL
                self._unlogged = 0

    def shrink_dead_letters(self) -> None:
        """Cut dead letters more: the broker refused one that keeps to the limit it told."""
        self._limit = max(self._limit // 2, _LEAST_LIMIT)
        log.warning(
            "messages are too large for the broker; cutting dead letters at %d", self._limit
        )

    def _dead_letter(self, letter: DeadLetter) -> None:
        while True:
            key, value, headers = dead_letter_record(letter, self._limit)
            try:
                self._output.send(self._dead_letter_topic, key, value, headers)
                return
            except TOO_LARGE:
                if self._limit == _LEAST_LIMIT:
                    raise
                self.shrink_dead_letters()

    def _log(self, letter: DeadLetter) -> None:
        log.warning(
            "%d message(s) could not be used, see topic %s; the last: %s (%s), partition %d "
            "offset %d",
            self._unlogged,
            self._dead_letter_topic,
            letter.reason,
            letter.detail,
            letter.partition,
            letter.offset,
        )

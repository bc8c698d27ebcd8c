"""Scores the readings of a file with the service's own engine, and keeps their order."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from titans_stream.commands.outputs import Account
from titans_stream.engine.engine import StreamEngine
from titans_stream.files.csv_readings import CsvReadings
from titans_stream.ids import taken
from titans_stream.records import Alert, Int64, Results, Scores, concatenate
from titans_stream.times import parse_timestamp


@dataclass(frozen=True, slots=True)
class ScoredChunk:
    """Scores [N] in input order, with the number of each one's row.

    `severity` and `cause` [N] are those of the episode that is open, as known with that reading;
    empty where none is.
    """

    scores: Scores
    row: Int64
    severity: list[str]
    cause: list[str]


@dataclass
class Tally:
    """What a run came to; `episodes` holds the latest message of each, in order of onset."""

    series: int = 0
    account: Account = field(default_factory=Account)
    episodes: dict[str, Alert] = field(default_factory=dict)
    opened_at: dict[str, int] = field(default_factory=dict)
    """Row in which each episode's first message was sent."""


class FileScorer:
    """Feeds chunks of readings to an engine and gives them back scored, in input order.

    Offsets must count the readings from 0 without a gap, in any order. Scores are kept until all
    those before them are there.
    """

    def __init__(self, engine: StreamEngine) -> None:
        self._engine = engine
        self._first = 0
        self._row = np.empty(0, np.int64)
        self._kept: list[Scores] = []
        self._group: dict[str, str] = {}
        self._told: dict[str, tuple[list[int], list[Alert]]] = {}
        """Alerts by series or group, in order of time, with their times."""
        self.tally = Tally()

    def run(self, chunks: Iterable[CsvReadings]) -> Iterator[ScoredChunk]:
        """Score all chunks; each call of `next` gives the next scores."""
        for chunk in chunks:
            self._note_rows(chunk)
            yield from self._done(self._engine.process(chunk.readings))
        yield from self._done(self._engine.flush())
        assert not len(self._row)

    def remarks(self) -> list[str]:
        """What is odd about the series, after they were scored."""
        expired, warning = self._engine.figures().expired, self._engine.series_warning()
        lines = [warning] if warning else []
        if expired:
            lines.append(
                f"{expired:,} times a series was silent for longer than engine.expire_after, and "
                "for ten of its intervals, and began anew"
            )
        return lines

    def _note_rows(self, chunk: CsvReadings) -> None:
        """Keep the rows of readings, by offset; in a sorted file offsets come in any order."""
        at = chunk.readings.offset - self._first
        lacking = int(at.max(initial=-1)) + 1 - len(self._row)
        if lacking > 0:
            self._row = np.concatenate((self._row, np.zeros(lacking, np.int64)))
        self._row[at] = chunk.row
        if chunk.readings.group is not None:
            self._group.update(zip(chunk.readings.series, chunk.readings.group, strict=True))

    def _done(self, results: Results) -> Iterator[ScoredChunk]:
        """Take results; those of the readings from `_first` on without a gap go on."""
        if results.refused is not None:
            raise ValueError(
                f"more than {self._engine.series_count():,} series: raise engine.max_series, or "
                "name another column with --series"
            )
        self._count(results)
        scores = concatenate(Scores, [*self._kept, results.scores])
        order = np.argsort(scores.offset)
        ready = int(np.sum(scores.offset[order] == self._first + np.arange(len(order))))
        self._kept = [_take(scores, order[ready:])]
        if ready:
            done = _take(scores, order[:ready])
            chunk = ScoredChunk(done, self._row[:ready], *self._episodes(done))
            self._first += ready
            self._row = self._row[ready:]
            yield chunk

    def _episodes(self, scores: Scores) -> tuple[list[str], list[str]]:
        """Severity and cause of the episodes that are open, by reading."""
        severity, cause = [""] * len(scores), [""] * len(scores)
        for i in np.flatnonzero(scores.alert).tolist():
            series = scores.series[i]
            times, alerts = self._told.get(self._group.get(series, series), ([], []))
            found = bisect_right(times, int(scores.timestamp[i])) - 1
            if found >= 0:
                alert = alerts[found]
                severity[i] = alert.severity
                cause[i] = alert.what if alert.reason == "surprise" else alert.reason
        return severity, cause

    def _count(self, results: Results) -> None:
        tally = self.tally
        tally.account.count(results.scores)
        tally.series = self._engine.series_count()
        for alert in results.alerts:
            row = int(self._row[alert.source.offset - self._first])
            tally.opened_at.setdefault(alert.alert_id, row)
            tally.episodes[alert.alert_id] = alert
            times, alerts = self._told.setdefault(alert.series_id, ([], []))
            times.append(parse_timestamp(alert.timestamp))
            alerts.append(alert)


def _take(scores: Scores, at: Int64) -> Scores:
    columns: dict[str, Any] = {
        item.name: getattr(scores, item.name)[at]
        for item in fields(Scores)
        if item.name != "series"
    }
    return Scores(series=taken(scores.series, at), **columns)

"""Scores the readings of a file with the service's own engine, and keeps their order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from titans_stream.commands.outputs import Dropped
from titans_stream.engine.engine import StreamEngine
from titans_stream.files.csv_readings import CsvReadings
from titans_stream.records import Alert, Int64, Results, Scores, Status


@dataclass(frozen=True, slots=True)
class ScoredChunk:
    """Scores [N] in input order, with the number of each one's row."""

    scores: Scores
    row: Int64


class _Block:
    """Scores of one chunk of input, filled in the order in which the engine releases them."""

    def __init__(self, chunk: CsvReadings) -> None:
        readings = chunk.readings
        self.first = int(readings.offset[0])
        self.row = chunk.row
        self.left = len(readings)
        self._columns: dict[str, Any] = {}
        self._series = readings.series

    @property
    def end(self) -> int:
        """The first offset after the block."""
        return self.first + len(self._series)

    def put(self, scores: Scores, at: Int64) -> None:
        """Take the scores at `at`, which belong to this block."""
        to = scores.offset[at] - self.first
        for item in fields(Scores):
            if item.name == "series":
                continue
            given = getattr(scores, item.name)
            if item.name not in self._columns:
                self._columns[item.name] = np.empty(len(self._series), given.dtype)
            self._columns[item.name][to] = given[at]
        self.left -= len(at)

    def chunk(self) -> ScoredChunk:
        """The block, all of whose scores are there."""
        assert self.left == 0
        return ScoredChunk(Scores(series=self._series, **self._columns), self.row)


@dataclass
class Tally:
    """What a run came to; `episodes` holds the latest message of each, in order of onset."""

    scored: int = 0
    series: int = 0
    dropped: Dropped = field(default_factory=Dropped)
    episodes: dict[str, Alert] = field(default_factory=dict)
    opened_at: dict[str, int] = field(default_factory=dict)
    """Row in which each episode's first message was sent."""


class FileScorer:
    """Feeds chunks of readings to an engine and gives them back scored, in input order.

    Offsets must count the readings from 0 without a gap. Where the engine waits for order, chunks
    are kept until all their readings are scored.
    """

    def __init__(self, engine: StreamEngine) -> None:
        self._engine = engine
        self._blocks: list[_Block] = []
        self.tally = Tally()

    def run(self, chunks: Iterable[CsvReadings]) -> Iterator[ScoredChunk]:
        """Score all chunks; each call of `next` gives the next of them."""
        for chunk in chunks:
            self._blocks.append(_Block(chunk))
            yield from self._done(self._engine.process(chunk.readings))
        yield from self._done(self._engine.flush())
        assert not self._blocks

    def _done(self, results: Results) -> Iterator[ScoredChunk]:
        scores = results.scores
        for block in self._blocks:
            inside = (scores.offset >= block.first) & (scores.offset < block.end)
            block.put(scores, np.flatnonzero(inside))
        self._count(results)
        while self._blocks and self._blocks[0].left == 0:
            yield self._blocks.pop(0).chunk()

    def _count(self, results: Results) -> None:
        tally = self.tally
        tally.dropped.count(results.scores)
        tally.scored += int(np.count_nonzero(results.scores.status == Status.SCORED))
        tally.series = self._engine.series_count()
        for alert in results.alerts:
            if alert.alert_id not in tally.opened_at:
                tally.opened_at[alert.alert_id] = self._row(alert.source.offset)
            tally.episodes[alert.alert_id] = alert

    def _row(self, offset: int) -> int:
        block = next(block for block in self._blocks if block.first <= offset < block.end)
        return int(block.row[offset - block.first])

"""Streams of readings for tests of the engine, and how to compare what came of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np

from titans_stream.detection.rules import AlertConfig
from titans_stream.engine.device.api import Device
from titans_stream.engine.engine import StreamEngine
from titans_stream.engine.model import Model, make_model, untrained_weights
from titans_stream.engine.settings import EngineConfig
from titans_stream.forecasting.settings import ForecastConfig
from titans_stream.records import ModelRef, Readings, Results, Scores

MODEL = make_model(ModelRef("test", "0"), untrained_weights(0))
STEP = 300_000_000_000
FLOATS = ("surprise", "score", "p_value", "rarity", "expected", "lower", "upper", "value")


DEVICE: Callable[[], Device] | None = None
"""Makes the device of every engine that is not given one; None: the CPU."""


def engine(
    bound: float = 0,
    slots: int = 1000,
    budget: float = 5.0,
    forecast: dict[str, object] | None = None,
    model: Model = MODEL,
    settings: dict[str, object] | None = None,
    device: Device | None = None,
    **alerts: object,
) -> StreamEngine:
    """An engine; `bound` seconds of disorder; `settings` are further ones of the engine."""
    return StreamEngine(
        EngineConfig.model_validate(
            {"device": "cpu", "slots": slots, "max_out_of_orderness": bound, **(settings or {})}
        ),
        AlertConfig.model_validate({"false_alarms_per_series_per_day": budget, **alerts}),
        model,
        topic="input",
        forecast=None if forecast is None else ForecastConfig.model_validate(forecast),
        device=device or (DEVICE() if DEVICE is not None else None),
    )


@dataclass(frozen=True)
class Stream:
    series: list[str]
    timestamp: np.ndarray
    value: np.ndarray
    partition: np.ndarray
    offset: np.ndarray

    def __len__(self) -> int:
        return len(self.series)

    def slice(self, first: int, last: int) -> Stream:
        return self.where(np.arange(len(self))[first:last])

    def where(self, index: np.ndarray) -> Stream:
        index = np.flatnonzero(index) if index.dtype == bool else index
        return Stream(
            [self.series[i] for i in index.tolist()],
            self.timestamp[index],
            self.value[index],
            self.partition[index],
            self.offset[index],
        )

    def with_values(self, first: int, values: np.ndarray) -> Stream:
        changed = self.value.copy()
        changed[first:] = values
        return Stream(self.series, self.timestamp, changed, self.partition, self.offset)

    def on_partition(self, partition: int) -> Stream:
        return Stream(
            self.series,
            self.timestamp,
            self.value,
            np.full(len(self), partition, np.int32),
            self.offset,
        )

    @staticmethod
    def interleave(left: Stream, right: Stream) -> Stream:
        n = len(left)
        both = Stream(
            left.series + right.series,
            *(
                np.concatenate([getattr(left, name), getattr(right, name)])
                for name in ("timestamp", "value", "partition", "offset")
            ),
        )
        return both.where(np.stack([np.arange(n), n + np.arange(n)], 1).ravel())

    def readings(self) -> Readings:
        return Readings(self.series, self.timestamp, self.value, self.partition, self.offset)


def make_stream(seed: int, series: int, readings: int, shuffle: bool = False) -> Stream:
    """Noise, walks, waves, steps, stuck values; with spikes, gaps, repeats, missing values."""
    rng = np.random.default_rng(seed)
    n = readings // series
    t = np.arange(n)
    kinds = [
        lambda: rng.standard_normal(n),
        lambda: 0.1 * rng.standard_normal(n).cumsum(),
        lambda: np.sin(t / 20) + 0.1 * rng.standard_normal(n),
        lambda: np.where(t < n // 2, 3.0, 7.0),
        lambda: np.round(rng.standard_normal(n)) * 1e6,
    ]
    values = np.stack([kinds[(seed + s) % len(kinds)]() for s in range(series)], 1)
    spikes = rng.random(values.shape) < 0.004
    values[spikes] += rng.standard_normal(int(spikes.sum())) * 40
    values[rng.random(values.shape) < 0.01] = np.nan
    times = np.repeat((t * STEP)[:, None], series, 1) + 10**18
    times += np.cumsum(rng.random(values.shape) < 0.002, 0) * 40 * STEP
    repeat = rng.random(values.shape) < 0.01
    times[1:][repeat[1:]] = times[:-1][repeat[1:]]
    flat_times = times.ravel()
    order = np.arange(series * n)
    if shuffle:
        order = np.argsort(order + rng.integers(0, 3 * series, len(order)), kind="stable")
        flat_times = (flat_times - 10**18) // STEP * 10**10 + 10**18
    names = np.tile([f"s{i}" for i in range(series)], n)
    return Stream(
        names[order].tolist(),
        flat_times[order].astype(np.int64),
        values.ravel()[order],
        np.zeros(len(order), np.int32),
        np.arange(len(order)),
    )


def run(one: StreamEngine, stream: Stream, cuts: list[int]) -> Results:
    """Feed a stream in calls that end at `cuts`."""
    edges = [0, *cuts, len(stream)]
    return concatenate(
        [one.process(stream.slice(first, last).readings()) for first, last in pairwise(edges)]
    )


def concatenate(parts: list[Results]) -> Results:
    columns = {
        item.name: np.concatenate([getattr(part.scores, item.name) for part in parts])
        for item in fields(Scores)
        if item.name != "series"
    }
    names = [name for part in parts for name in part.scores.series]
    return Results(
        Scores(series=names, **columns),
        [alert for part in parts for alert in part.alerts],
        forecasts=[forecast for part in parts for forecast in part.forecasts],
    )


def same_scores(left: Results, right: Results, rows: slice | None = None) -> None:
    """Bitwise equality of every column."""
    rows = rows or slice(None)
    assert left.scores.series[rows] == right.scores.series[rows]
    for item in fields(Scores):
        if item.name != "series":
            np.testing.assert_array_equal(
                getattr(left.scores, item.name)[rows],
                getattr(right.scores, item.name)[rows],
                err_msg=item.name,
            )


def by_reading(results: Results, name: str) -> list[tuple[object, ...]]:
    """A series' rows as comparable tuples, NaN written as text."""
    scores = results.scores
    mine = [i for i, series in enumerate(scores.series) if series == name]
    columns = [getattr(scores, column)[mine].tolist() for column in (*FLOATS, "status", "alert")]
    return [tuple(repr(cell) for cell in row) for row in zip(*columns, strict=True)]

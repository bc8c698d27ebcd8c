"""What a model would have said of recorded series: the service's engine, reading after reading.

Every series starts from an empty memory, as in a worker that has just begun to read it. Measures
are kept by blocks of readings, so that two models can be compared on the same blocks.

T is the number of readings of a series.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from titans_stream.detection.rules import AlertConfig
from titans_stream.engine.build import EngineSetup, build_engine
from titans_stream.engine.model import Model
from titans_stream.engine.settings import EngineConfig
from titans_stream.forecasting.one_step.layout import BAND_LEVEL
from titans_stream.lifecycle.accuracy import LEAST_CHANGE, many_steps
from titans_stream.lifecycle.series import Series
from titans_stream.records import Alert, Float64, Readings, Scores, concatenate
from titans_stream.times import parse_timestamp

BLOCK = 250
"""Readings of a block."""
LEVELS = (0.5, (1 - BAND_LEVEL) / 2, (1 + BAND_LEVEL) / 2)
"""The quantiles that expected, lower and upper are."""
MEASURES = ("quantile_loss", "mae_ratio", "coverage", "alerts_per_1000", "long_mae_ratio")
LONG_SHARE = 0.5
"""The last part of each series, from whose readings many steps are forecast; before it, the
memory learns."""


@dataclass(frozen=True, slots=True)
class Episode:
    """An alert's episode; times in nanoseconds, UTC."""

    series: str
    onset: int
    end: int
    severity: str
    explanation: str

    def overlaps(self, other: Episode) -> bool:
        """Whether both are of one series and share time."""
        return self.series == other.series and self.onset <= other.end and other.onset <= self.end


@dataclass(frozen=True, slots=True)
class Backtest:
    """A model's measures on series, by block; every array is as long as `series`.

    `loss`: mean quantile loss of expected value and band over the mean absolute change of the
    series. `error`: mean absolute error over the same. `inside`: share of readings in the band.
    `alerts` per 1,000 readings. `long`: mean absolute error of forecasts of many steps that are
    made in the block over the series' error of repeating the last value. A block without forecasts
    has NaN.
    """

    series: list[str]
    loss: Float64
    error: Float64
    inside: Float64
    alerts: Float64
    long: Float64
    weight: Float64
    """Readings of each block."""
    episodes: list[Episode] = field(default_factory=list)

    def by_block(self) -> dict[str, Float64]:
        """The measures by name, by block."""
        columns = (self.loss, self.error, self.inside, self.alerts, self.long)
        return dict(zip(MEASURES, columns, strict=True))

    def measures(self) -> dict[str, float]:
        """The measures by name, means over the readings; NaN where there are none."""
        return {name: weighted(column, self.weight) for name, column in self.by_block().items()}


def weighted(column: Float64, weight: Float64) -> float:
    """The mean of what is known."""
    known = np.isfinite(column)
    total = weight[known].sum()
    return float((column[known] * weight[known]).sum() / total) if total > 0 else float("nan")


def backtest(
    model: Model,
    series: Iterable[Series],
    engine: EngineConfig | None = None,
    alerts: AlertConfig | None = None,
) -> Backtest:
    """Score `series`, each from an empty memory."""
    blocks: list[tuple[str, float, float, float, float, int]] = []
    long: list[Float64] = []
    episodes: list[Episode] = []
    for one in series:
        scores, found = _scored(model, one, engine or EngineConfig(), alerts or AlertConfig())
        episodes.extend(found)
        mine = _blocks(one, scores)
        blocks.extend(mine)
        long.append(_long(model, one, len(mine)))
    loss, error, inside, rate, weight = (
        np.array([block[i] for block in blocks], np.float64) for i in range(1, 6)
    )
    names = [block[0] for block in blocks]
    many = np.concatenate(long) if long else np.zeros(0)
    return Backtest(names, loss, error, inside, rate, many, weight, episodes)


def _scored(
    model: Model, one: Series, config: EngineConfig, alerts: AlertConfig
) -> tuple[Scores, list[Episode]]:
    """Scores in order of time, and the episodes."""
    made = build_engine(model, EngineSetup(config, alerts, calendar=one.local_seconds is not None))
    n = len(one.value)
    offset = np.arange(n)
    first = made.process(
        Readings([one.name] * n, one.timestamp, one.value, np.zeros(n, np.int32), offset)
    )
    last = made.flush()
    scores = concatenate(Scores, [first.scores, last.scores])
    told: dict[str, Alert] = {}
    for alert in (*first.alerts, *last.alerts):
        told[alert.alert_id] = alert
    episodes = [
        Episode(
            one.name, parse_timestamp(a.onset), parse_timestamp(a.timestamp), a.severity,
            a.explanation,
        )
        for a in told.values()
    ]  # fmt: skip
    return scores, episodes


def _blocks(one: Series, scores: Scores) -> list[tuple[str, float, float, float, float, int]]:
    change = np.abs(np.diff(scores.value, prepend=scores.value[:1]))
    scale = float(change[1:].mean()) if len(change) > 1 else 0.0
    value = scores.value
    loss = np.zeros(len(value))
    for level, forecast in zip(LEVELS, (scores.expected, scores.lower, scores.upper), strict=True):
        above = value - forecast
        loss += np.maximum(level * above, (level - 1.0) * above) / len(LEVELS)
    error = np.abs(value - scores.expected)
    inside = ((value >= scores.lower) & (value <= scores.upper)).astype(np.float64)
    known = np.isfinite(loss) & (scale > 0)
    found = []
    for first in range(0, len(value), BLOCK):
        rows = slice(first, first + BLOCK)
        at = known[rows]
        means = [
            float(column[rows][at].mean()) / unit if at.any() else float("nan")
            for column, unit in ((loss, scale), (error, scale), (inside, 1.0))
        ]
        n = len(at)
        alerts = 1000.0 * float(scores.onset[rows].sum()) / n
        found.append((one.name, means[0], means[1], means[2], alerts, n))
    return found


def _long(model: Model, one: Series, blocks: int) -> Float64:
    """`Backtest.long` of a series' blocks."""
    ratios = np.full(blocks, np.nan)
    found = many_steps(one, model.weights, LONG_SHARE)
    known = np.zeros(0, np.bool_) if found is None else np.isfinite(found.true)
    if found is None or not known.any() or not blocks:
        return ratios
    repeated = np.abs(found.true - found.repeated)[known]
    if not np.square(repeated).mean() > LEAST_CHANGE:
        return ratios
    error = np.abs(found.true - found.median)
    block = np.minimum(found.origins // BLOCK, blocks - 1)
    for number in np.unique(block):
        rows = block == number
        if known[rows].any():
            ratios[number] = error[rows][known[rows]].mean() / repeated.mean()
    return ratios

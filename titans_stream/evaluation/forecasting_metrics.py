"""Errors, coverage and widths of forecasts, gathered block by block.

D is the number of series, N of origins, H of steps ahead, B of origins in a block, L of quantile
levels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from titans_stream.evaluation.forecasting_data import ForecastSet
from titans_stream.records import Float64, Int64

LEVELS = (0.025, 0.1, 0.9, 0.975)
"""Quantiles of the 95 % and 80 % intervals; the median comes on its own."""
INTERVALS = {80: (1, 2), 95: (0, 3)}
"""Nominal coverage in percent -> the places of its ends in `LEVELS`."""
DRAWS = 500
LEAST_BLOCK = 96
LEAST_BLOCKS = 4
"""A bootstrap error from fewer blocks than this says nothing and is NaN."""


@dataclass(frozen=True, slots=True)
class ForecastBlock:
    """Forecasts of B origins, z-scored; `first` [B] is the row of each one's first value.

    `median` is [B, D, H], `quantiles` [L, B, D, H] at `LEVELS` or None; NaN where a model gives
    no value.
    """

    first: Int64
    median: Float64
    quantiles: Float64 | None = None


class ForecastModel(Protocol):
    """What is compared: forecasts for given origins, in their order."""

    def blocks(self, data: ForecastSet, origins: Int64, steps: int) -> Iterator[ForecastBlock]:
        """Forecasts of `steps` values from each row of `origins` (increasing) on.

        The forecast from row s uses values of rows before s alone.
        """


class PointErrors:
    """Squared and absolute errors of one model on all windows of each horizon.

    A window of horizon h counts where all its rows lie inside the test part.
    """

    def __init__(self, data: ForecastSet, origins: Int64, horizons: Sequence[int]) -> None:
        self.horizons = tuple(horizons)
        self._data = data
        self._origins = origins
        shape = (len(self.horizons), len(origins))
        self._square, self._absolute, self._count = (np.zeros(shape) for _ in range(3))
        self._by_step = np.zeros((3, max(self.horizons)))

    def add(self, block: ForecastBlock, truth: Float64) -> None:
        """Take the forecasts of a block; `truth` [B, D, H]."""
        error = truth - block.median
        known = ~np.isnan(truth)
        if np.isnan(error[known]).any():
            raise ValueError(f"{self._data.name}: a forecast has no value")
        error = np.where(known, error, 0.0)
        sums = np.stack([(error * error).sum(axis=1), np.abs(error).sum(axis=1), known.sum(axis=1)])
        self._by_step += sums.sum(axis=1)
        running = sums.cumsum(axis=2)
        at = np.searchsorted(self._origins, block.first)
        for i, horizon in enumerate(self.horizons):
            whole = block.first + horizon <= len(self._data)
            for kept, found in zip(
                (self._square, self._absolute, self._count), running, strict=True
            ):
                kept[i, at] = np.where(whole, found[:, horizon - 1], 0.0)

    def mse(self, horizon: int, chosen: Int64 | None = None) -> float:
        """Mean squared error over all windows of a horizon, or those at the places `chosen`."""
        return self._mean(self._square, horizon, chosen)

    def mae(self, horizon: int, chosen: Int64 | None = None) -> float:
        """Mean absolute error, likewise."""
        return self._mean(self._absolute, horizon, chosen)

    def _mean(self, sums: Float64, horizon: int, chosen: Int64 | None) -> float:
        row = self.horizons.index(horizon)
        at = slice(None) if chosen is None else chosen
        count = self._count[row, at].sum()
        return float(sums[row, at].sum() / count) if count else float("nan")

    def by_step(self) -> Float64:
        """[H] mean squared error at each step, over all origins that have it."""
        mean: Float64 = self._by_step[0] / np.maximum(self._by_step[2], 1.0)
        return mean


class IntervalErrors:
    """Coverage, width and pinball loss of one model at some steps."""

    def __init__(self, data: ForecastSet, origins: Int64, steps: Sequence[int]) -> None:
        self.steps = tuple(steps)
        self._origins = origins
        shape = (len(self.steps), len(origins), data.series)
        self._inside = {level: np.full(shape, np.nan) for level in INTERVALS}
        self._width = {level: np.full(shape, np.nan) for level in INTERVALS}
        self._pinball = np.full(shape, np.nan)

    def add(self, block: ForecastBlock, truth: Float64) -> None:
        """Take the intervals of a block; `truth` [B, D, H]."""
        assert block.quantiles is not None
        at = np.searchsorted(self._origins, block.first)
        steps = np.array(self.steps) - 1
        actual = truth[:, :, steps]
        quantiles, median = block.quantiles[..., steps], block.median[..., steps]
        missing = np.isnan(actual)
        for level, (low, high) in INTERVALS.items():
            inside = (actual >= quantiles[low]) & (actual <= quantiles[high])
            width = quantiles[high] - quantiles[low]
            self._put(self._inside[level], at, np.where(missing, np.nan, inside))
            self._put(self._width[level], at, np.where(missing, np.nan, width))
        losses = pinball(actual, quantiles, LEVELS).sum(axis=0) + 0.5 * np.abs(actual - median)
        self._put(self._pinball, at, losses / (len(LEVELS) + 1))

    @staticmethod
    def _put(kept: Float64, at: Int64, found: Float64) -> None:
        kept[:, at] = np.moveaxis(found, 2, 0)

    def coverage(self, step: int, level: int) -> float:
        """Share of values inside the interval of `level` percent."""
        return _mean(self._inside[level][self.steps.index(step)])

    def coverage_error(self, step: int, level: int) -> float:
        """Standard error of `coverage`, by a moving-block bootstrap over the origins.

        Blocks are as long as the step, `LEAST_BLOCK` at least (Kuensch, 1989); all series of an
        origin stay together.
        """
        inside = self._inside[level][self.steps.index(step)]
        counted = ~np.isnan(inside)
        origins = counted.any(axis=1)
        shares = np.where(counted, inside, 0.0).sum(axis=1)[origins]
        return block_bootstrap_error(shares / counted.sum(axis=1)[origins], max(step, LEAST_BLOCK))

    def width(self, step: int, level: int) -> float:
        """Mean width of the interval, in standard deviations of the training part."""
        return _mean(self._width[level][self.steps.index(step)])

    def pinball(self, step: int) -> float:
        """Mean pinball loss over the median and `LEVELS`."""
        return _mean(self._pinball[self.steps.index(step)])


def _mean(values: Float64) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def pinball(actual: Float64, quantiles: Float64, levels: Sequence[float]) -> Float64:
    """[L, ...] loss (q - 1[y < x]) (y - x) of quantiles x [L, ...] at levels q for y [...]."""
    q = np.array(levels).reshape(-1, *([1] * actual.ndim))
    below = actual[None] - quantiles
    return np.maximum(q * below, (q - 1.0) * below)


def block_bootstrap_error(values: Float64, length: int, draws: int = DRAWS, seed: int = 1) -> float:
    """Standard error of the mean of a dependent sequence; NaN below `LEAST_BLOCKS` blocks."""
    n = len(values)
    blocks = n // length
    if blocks < LEAST_BLOCKS:
        return float("nan")
    sums = np.concatenate([[0.0], np.cumsum(values)])
    means = (sums[length:] - sums[:-length]) / length
    rng = np.random.default_rng(seed)
    drawn = means[rng.integers(len(means), size=(draws, blocks))].mean(axis=1)
    return float(drawn.std(ddof=1))

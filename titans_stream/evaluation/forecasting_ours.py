"""The service's forecaster under evaluation: carried along the stream, or fresh at each origin.

D is the number of series, B of origins in a block, H of steps ahead, L of quantile levels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from titans_stream.durations import SECOND
from titans_stream.evaluation.forecasting_data import ForecastSet, blocks_of
from titans_stream.evaluation.forecasting_metrics import LEVELS, ForecastBlock
from titans_stream.forecasting.multi.forecaster import (
    ForecastOptions,
    Forecasts,
    MultiStepForecaster,
    state_layout,
)
from titans_stream.records import Float64, Int64

RESIDUAL_OUTPUT = "forecast.residual.output"
UNKNOWN_INTERVAL = 300 * SECOND
"""Spacing of the rows of a set without times; nothing but gaps depends on it."""


@dataclass(frozen=True, slots=True)
class OurForecaster:
    """The forecaster of the service, reading by reading, in the values' own units.

    The interval of the rows is known to it, as with the setting `expected_interval`.
    `lookback` None: one state per series, from the first row on. Else each origin has a state of
    its own that sees the last `lookback` rows before it. `calendar` False hides the times.
    """

    weights: Mapping[str, Float64]
    options: ForecastOptions = field(default_factory=ForecastOptions)
    lookback: int | None = None
    calendar: bool = True

    def blocks(self, data: ForecastSet, origins: Int64, steps: int) -> Iterator[ForecastBlock]:
        """As `ForecastModel` says."""
        make = self._streaming if self.lookback is None else self._fresh
        for first, found in make(data, origins, steps):
            median = found.median.reshape(len(first), data.series, steps)
            quantiles = found.quantiles.reshape(len(LEVELS), len(first), data.series, steps)
            mean, scale = data.mean[:, None], data.scale[:, None]
            yield ForecastBlock(first, (median - mean) / scale, (quantiles - mean) / scale)

    def _streaming(
        self, data: ForecastSet, origins: Int64, steps: int
    ) -> Iterator[tuple[Int64, Forecasts]]:
        """Rows as they come, all series of a row side by side."""
        forecaster = MultiStepForecaster(self.weights, LEVELS, options=self.options)
        arrays = _fresh_state(data.series)
        seen = 0
        for first in blocks_of(data, origins, steps):
            rows = np.arange(seen, first[-1])
            seen = int(first[-1])
            asked = np.where(np.isin(rows + 1, first), steps, 0)
            places = np.repeat(rows, data.series)
            yield (
                first,
                forecaster.run(
                    arrays,
                    np.tile(np.arange(data.series), len(rows)),
                    np.ascontiguousarray(data.values[rows].reshape(-1)),
                    *self._times(data, places),
                    np.repeat(asked, data.series),
                ),
            )

    def _fresh(
        self, data: ForecastSet, origins: Int64, steps: int
    ) -> Iterator[tuple[Int64, Forecasts]]:
        """B x D new states, each fed with its window."""
        assert self.lookback is not None
        forecaster = MultiStepForecaster(self.weights, LEVELS, options=self.options)
        for first in blocks_of(data, origins, steps):
            rows = first[:, None] + np.arange(-self.lookback, 0)
            count = len(first) * data.series
            windows = np.swapaxes(data.values[rows], 1, 2)
            places = np.repeat(rows, data.series, axis=0).reshape(-1)
            asked = np.zeros((count, self.lookback), np.int64)
            asked[:, -1] = steps
            yield (
                first,
                forecaster.run(
                    _fresh_state(count),
                    np.repeat(np.arange(count), self.lookback),
                    np.ascontiguousarray(windows.reshape(-1)),
                    *self._times(data, places),
                    asked.reshape(-1),
                ),
            )

    def _times(self, data: ForecastSet, rows: Int64) -> tuple[Float64, Float64, Int64]:
        """Local seconds, interval and timestamps of readings, as the engine gives them."""
        if data.timestamp is None or not self.calendar:
            interval = np.full(len(rows), float(UNKNOWN_INTERVAL))
            return np.full(len(rows), np.nan), interval, rows * UNKNOWN_INTERVAL
        times = data.timestamp[rows]
        pace = float(np.median(np.diff(data.timestamp)))
        return times / SECOND, np.full(len(rows), pace), times


def _fresh_state(rows: int) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    return {
        name: np.zeros((rows, *spec.shape), spec.dtype) for name, spec in state_layout().items()
    }


@dataclass(frozen=True, slots=True)
class Ablation:
    """A part switched off, or something told that the forecaster finds by itself.

    `zeroed` names weights that are taken as zero.
    """

    options: ForecastOptions = field(default_factory=ForecastOptions)
    calendar: bool = True
    zeroed: tuple[str, ...] = ()

    def of(self, weights: Mapping[str, Float64]) -> OurForecaster:
        """The streaming forecaster with this ablation."""
        blank = {name: np.zeros_like(weights[name]) for name in self.zeroed}
        return OurForecaster({**weights, **blank}, self.options, calendar=self.calendar)


def ablations(data: ForecastSet, weights: Mapping[str, Float64]) -> dict[str, Ablation]:
    """The ablations that make sense on a set, by their names in tables.

    Those of the MAL residual are there where the model has one; a layer without its projection
    passes its input on.
    """
    found = {
        "no memory": Ablation(ForecastOptions(memory=False)),
        "no per-series learning": Ablation(ForecastOptions(learning=False)),
        "no longer cycle": Ablation(ForecastOptions(longer=False)),
        "no carried errors": Ablation(ForecastOptions(carry=False)),
        "no fallback": Ablation(ForecastOptions(fallback=False)),
    }
    with_mal = ForecastOptions(mal=True)
    if np.any(weights.get(RESIDUAL_OUTPUT, 0.0)):
        found |= {
            "with MAL": Ablation(with_mal),
            "MAL without attention": Ablation(
                with_mal, zeroed=("forecast.residual.attended_project",)
            ),
            "MAL without its memory": Ablation(with_mal, zeroed=("forecast.residual.out_project",)),
        }
    if data.season:
        found[f"period told: {data.season}"] = Ablation(ForecastOptions(period=data.season))
    if data.timestamp is not None:
        found["without timestamps"] = Ablation(calendar=False)
    return found

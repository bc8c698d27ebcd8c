"""The multi-step forecaster over rows of state: median and quantiles of the steps ahead.

docs/forecasting.md tells the method; the kernels are in `multi_kernels.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from titans_stream.forecasting.intervals import levels as intervals
from titans_stream.forecasting.mal import weights as mal
from titans_stream.forecasting.mal.residual import Residual
from titans_stream.forecasting.multi import kernels as multi_kernels
from titans_stream.forecasting.multi import layout as L
from titans_stream.forecasting.multi.rows import Row, Shared
from titans_stream.forecasting.period import state as period
from titans_stream.memory.rows import ArraySpec
from titans_stream.records import Float64, Int64


@dataclass(frozen=True, slots=True)
class Forecasts:
    """M forecasts, ragged: forecast i has the values [first[i], first[i + 1])."""

    at: Int64
    """[M] index of the reading after which it was made."""
    first: Int64
    """[M + 1]"""
    median: Float64
    """[first[-1]]"""
    quantiles: Float64
    """[len(levels), first[-1]]"""
    period: Float64
    """[M] in readings, NaN: none found."""


@dataclass(frozen=True, slots=True)
class ForecastOptions:
    """Parts that can be switched off to see what they are worth; the defaults are the product."""

    memory: bool = True
    """The slot memory; without it a slot holds the last value at its phase."""
    shared_head: bool = True
    """The shared head over window and memory, averaged with the structured head."""
    learning: bool = True
    """Weights of each series' own, learned from matured targets."""
    fallback: bool = True
    """Blend with seasonal naive or repeat-last where the forecasts have been worse."""
    mal: bool = True
    """The neural residual: memory, then attention, correct the steps of the next period."""
    period: int | None = None
    """Readings a period; None finds it from the stream and the calendar."""


class MultiStepForecaster:
    """Forecasts and learns, reading by reading, with the shared weights `forecast.head.*`.

    `levels` are the quantile levels in (0, 1) of every forecast. ValueError for others.
    """

    def __init__(
        self,
        weights: Mapping[str, Float64],
        levels: Sequence[float],
        *,
        options: ForecastOptions | None = None,
    ) -> None:
        options = options or ForecastOptions()
        self._fixed = 0.0 if options.period is None else float(options.period)
        self._levels = intervals.level_table(levels)
        w, gram, window = (
            np.ascontiguousarray(weights[name], np.float64) for name in L.weight_shapes()
        )
        self._shared = Shared(
            w, gram, window, options.memory, options.shared_head, options.learning,
            options.fallback,
        )  # fmt: skip
        slow = mal.prepare(weights)
        self._slow = slow._replace(active=slow.active and options.mal)

    def run(
        self,
        arrays: Mapping[str, Any],
        rows: Int64,
        values: Float64,
        seconds: Float64,
        interval: Float64,
        timestamps: Int64,
        steps: Int64,
    ) -> Forecasts:
        """Learn N readings in order; forecast `steps[i]` > 0 steps right after reading i.

        rows [N]: each reading's row of the state arrays; values [N], NaN: missing; seconds [N]:
        local seconds since the epoch, NaN without timestamps; interval [N]: nanoseconds a
        reading, NaN or <= 0: unknown; timestamps [N]: UTC nanoseconds; steps [N]. A reading that
        comes g intervals after the last one leaves g - 1 missing positions between them. Before a
        series' first value its forecasts are NaN.
        """
        at = np.flatnonzero(steps > 0).astype(np.int64)
        first = np.zeros(len(at) + 1, np.int64)
        np.cumsum(steps[at], out=first[1:])
        median = np.empty(first[-1])
        quantiles = np.empty((len(self._levels), first[-1]))
        found = np.empty(len(at))
        multi_kernels.run(
            rows, values, seconds, interval, timestamps, steps, self._fixed,
            Row(*(arrays[name] for name in L.state_layout())),
            tuple(arrays[name] for name in period.state_layout()),
            tuple(arrays[name] for name in intervals.state_layout()),
            Residual(*(arrays[name] for name in mal.state_layout())),
            self._shared, self._slow, self._levels, median, quantiles, found,
        )  # fmt: skip
        return Forecasts(at, first, median, quantiles, found)


def state_layout() -> dict[str, ArraySpec]:
    """The arrays of the forecaster's state, by name; every one starts at zero."""
    return {
        **L.state_layout(),
        **period.state_layout(),
        **intervals.state_layout(),
        **mal.state_layout(),
    }


def weight_shapes() -> dict[str, tuple[int, ...]]:
    """The shared weights, by name; all float64."""
    return {**L.weight_shapes(), **mal.weight_shapes()}


def plain_weights() -> dict[str, Float64]:
    """Untrained shared weights: the last reading fades with the steps, the memory takes over."""
    finer = 0.5 ** np.arange(L.FINER_ROWS, 0, -1)
    ahead = np.concatenate((finer, L.ENDS)) / L.COARSE
    w = np.zeros((L.ROWS, L.FEATURES))
    w[:, 1] = 0.5 * (1.0 - np.exp(-3.0 * ahead))
    w[:, 2] = 0.1 + 0.8 * np.exp(-6.0 * ahead)
    gram = np.broadcast_to(0.25 * np.eye(L.FEATURES), (L.ROWS, L.FEATURES, L.FEATURES))
    return {
        "forecast.head.w": w,
        "forecast.head.gram": gram.copy(),
        "forecast.head.window": np.zeros((L.A_OUTPUTS, L.A_INPUTS)),
        **mal.plain_weights(),
    }

"""The multi-step forecaster over the state of many series: median and quantiles of the steps ahead.

docs/forecasting.md tells the method; `kernels.run` is the way of a reading.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from titans_stream.durations import SECOND
from titans_stream.forecasting.intervals import state as intervals
from titans_stream.forecasting.intervals.widths import level_table
from titans_stream.forecasting.mal import weights as mal
from titans_stream.forecasting.mal.residual import Residual
from titans_stream.forecasting.multi import kernels, layout
from titans_stream.forecasting.multi.series import Series, Shared
from titans_stream.forecasting.multi.state import Batch, Model, State, Written
from titans_stream.forecasting.multi.values import Limits
from titans_stream.forecasting.period import state as period
from titans_stream.memory.rows import ArraySpec
from titans_stream.records import Float64, Int64
from titans_stream.special_days import NO_SPECIAL_DAYS

LocalSeconds = Callable[[Int64], Float64]
"""[N] UTC nanoseconds -> [N] seconds of local time."""
MONTH = 28 * 86_400 * SECOND


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
    longer: Float64
    """[M] a longer cycle beside it, likewise."""


@dataclass(frozen=True, slots=True)
class Plan:
    """N readings, after which M forecasts are due, at `at` and `first` as in `Forecasts`."""

    at: Int64
    first: Int64
    batch: Batch
    written: Written
    """Room for the forecasts."""

    def forecasts(self, written: Written) -> Forecasts:
        """The forecasts, out of what the kernels wrote."""
        periods = written.periods
        return Forecasts(
            self.at, self.first, written.median, written.quantiles, periods[:, 0].copy(),
            periods[:, 1].copy(),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ForecastOptions:
    """Parts that can be switched off to see what they are worth; the defaults are the product."""

    memory: bool = True
    """The slot memory; without it the last value at each phase stands for it."""
    learning: bool = True
    """Weights of each series' own, learned from matured targets."""
    fallback: bool = True
    """Blend with seasonal naive or repeat-last where the forecasts have been worse."""
    longer: bool = True
    """The longer head, a week beside a day; and the day beside a short cycle."""
    carry: bool = True
    """Errors of the last readings carried on over the steps."""
    mal: bool = False
    """The neural residual: memory, then attention, correct the steps of the next period."""
    counters: bool = True
    """Series that only rise are forecast by their changes."""
    period: int | None = None
    """Readings a period; None finds it from the stream and the calendar."""
    bounds: tuple[float | None, float | None] = (None, None)
    """What no forecast is below, and above."""
    learn_bounds: bool = True
    """A series that never was negative is not forecast below zero, one of whole numbers in whole
    ones."""


class MultiStepForecaster:
    """Forecasts and learns, reading by reading, with the shared weights `forecast.head.*`.

    `levels` are the quantile levels in (0, 1) of every forecast. ValueError for others.
    `special_days` [days from 1970 on] says which local days are holidays: they are forecast, and
    learned from, as Sundays.
    """

    def __init__(
        self,
        weights: Mapping[str, Float64],
        levels: Sequence[float],
        *,
        options: ForecastOptions | None = None,
        special_days: npt.NDArray[np.bool_] = NO_SPECIAL_DAYS,
    ) -> None:
        options = options or ForecastOptions()
        w, gram = (
            np.array(weights[name], np.float64, order="C") for name in layout.weight_shapes()
        )
        slow = mal.prepare(weights)
        self.model = Model(
            Shared(
                w, gram, options.memory, options.learning, options.fallback, options.longer,
                options.carry, special_days.astype(np.uint8),
            ),
            slow._replace(active=slow.active and options.mal),
            level_table(levels),
            0.0 if options.period is None else float(options.period),
            Limits(
                -math.inf if options.bounds[0] is None else float(options.bounds[0]),
                math.inf if options.bounds[1] is None else float(options.bounds[1]),
                options.learn_bounds,
            ),
            options.counters,
        )  # fmt: skip

        self.blank = states_of({name: spec.rows(1) for name, spec in state_layout().items()})
        """The state of a new series."""

    def run(
        self,
        arrays: Mapping[str, Any],
        slots: Int64,
        values: Float64,
        seconds: Float64,
        interval: Float64,
        timestamps: Int64,
        steps: Int64,
        local: LocalSeconds | None = None,
    ) -> Forecasts:
        """Learn N readings in order; forecast `steps[i]` > 0 steps right after reading i.

        slots [N]: each reading's slot in the state arrays; values [N], NaN: missing; seconds [N]:
        local seconds since the epoch, NaN without timestamps; interval [N]: nanoseconds a
        reading, NaN or <= 0: unknown; timestamps [N]: UTC nanoseconds; steps [N]. A reading that
        comes g intervals after the last one leaves g - 1 missing positions between them. Before a
        series' first value its forecasts are NaN. `local` turns times into local seconds: a step
        beyond a change of clocks has the phase of its own local time.
        """
        plan = self.plan(slots, values, seconds, interval, timestamps, steps, local)
        kernels.run(
            plan.batch, states_of(arrays), self.blank, self.model, period.workspace(), plan.written
        )
        return plan.forecasts(plan.written)

    def plan(
        self, slots: Int64, values: Float64, seconds: Float64, interval: Float64,
        timestamps: Int64, steps: Int64, local: LocalSeconds | None = None,
    ) -> Plan:  # fmt: skip
        """What `run` is to do; arguments as there."""
        at = np.flatnonzero(steps > 0).astype(np.int64)
        first = np.zeros(len(at) + 1, np.int64)
        np.cumsum(steps[at], out=first[1:])
        ahead = np.arange(1, steps.max(initial=0) + 1, dtype=np.int64)
        shifts = _shifts(at, first, seconds, interval, timestamps, local)
        return Plan(
            at, first,
            Batch(slots, values, seconds, interval, timestamps, steps, ahead, shifts),
            Written(
                np.empty(first[-1]), np.empty((len(self.model.levels), first[-1])),
                np.empty(first[-1]), np.empty((len(at), 2)),
            ),
        )  # fmt: skip


def _shifts(
    at: Int64, first: Int64, seconds: Float64, interval: Float64, timestamps: Int64,
    local: LocalSeconds | None,
) -> Float64:  # fmt: skip
    """Whole ticks by which clocks are changed between each forecast and each of its steps."""
    shifts = np.zeros(first[-1])
    if local is None:
        return shifts
    for i, origin in enumerate(at.tolist()):
        pace = interval[origin]
        offset = np.rint(seconds[origin] - timestamps[origin] / SECOND)
        if not pace > 0.0 or not np.isfinite(offset):
            continue
        ahead = np.rint(np.arange(1, 1 + first[i + 1] - first[i]) * pace)
        # a month at most between two that are looked up: clocks stay changed for longer
        some = ahead[np.unique(np.append(np.arange(0, len(ahead), max(1, int(MONTH / pace))), -1))]
        if (_offsets(local, timestamps[origin], some) == offset).all():
            continue
        change = _offsets(local, timestamps[origin], ahead) - offset
        shifts[first[i] : first[i + 1]] = np.rint(change * SECOND / pace)
    return shifts


def _offsets(local: LocalSeconds, start: int, ahead: Float64) -> Float64:
    """Seconds of local time ahead of UTC, at times so many nanoseconds after `start`."""
    times: Int64 = start + ahead.astype(np.int64)
    return np.rint(local(times) - times / SECOND)


def states_of(arrays: Mapping[str, Any]) -> State:
    """The arrays of `state_layout`, of all series or of one, as the kernels take them."""
    return State(
        Series(*(arrays[name] for name in layout.state_layout())),
        period.Finder(*(arrays[name] for name in period.state_layout())),
        intervals.Intervals(*(arrays[name] for name in intervals.state_layout())),
        Residual(*(arrays[name] for name in mal.state_layout())),
    )


def state_layout() -> dict[str, ArraySpec]:
    """The arrays of the forecaster's state, by name; every one starts at zero."""
    return {
        **layout.state_layout(),
        **period.state_layout(),
        **intervals.state_layout(),
        **mal.state_layout(),
    }


def weight_shapes() -> dict[str, tuple[int, ...]]:
    """The shared weights, by name; all float64."""
    return {**layout.weight_shapes(), **mal.weight_shapes()}


def plain_weights() -> dict[str, Float64]:
    """Untrained shared weights: the last reading fades with the steps, the memory takes over.

    math.exp, as numpy's differs in the last bit between processors, and with it the state's schema.
    """
    finer = 0.5 ** np.arange(layout.FINER_BANDS, 0, -1)
    ahead = np.concatenate((finer, layout.ENDS)) / layout.COARSE
    w = np.zeros((layout.BANDS, layout.FEATURES))
    w[:, 1] = [0.5 * (1.0 - math.exp(-3.0 * x)) for x in ahead]
    w[:, 2] = [0.1 + 0.8 * math.exp(-6.0 * x) for x in ahead]
    gram = np.broadcast_to(
        0.25 * np.eye(layout.FEATURES), (layout.BANDS, layout.FEATURES, layout.FEATURES)
    )
    return {
        "forecast.head.w": w,
        "forecast.head.gram": gram.copy(),
        **mal.plain_weights(),
    }

"""What the shared weights of the multi-step forecaster are fitted to, from the serving kernels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from titans_stream.forecasting.multi import layout
from titans_stream.forecasting.multi.clock import keep_scale, take_scale
from titans_stream.forecasting.multi.layout import (
    BANDS,
    COARSE,
    FEATURES,
)
from titans_stream.forecasting.multi.learning import learn_tick, sample, start
from titans_stream.forecasting.multi.series import (
    Series,
    Shared,
    coarse_cells,
    fine_cells,
    new_view,
    read_memory,
)
from titans_stream.jit import njit
from titans_stream.records import Float64


@dataclass(frozen=True, slots=True)
class HeadStatistics:
    """Sums over matured origins, in units of the series' variance; addable over series."""

    xx: Float64
    """[BANDS, FEATURES, FEATURES] of x x', each origin's mean over the band's steps."""
    xy: Float64
    """[BANDS, FEATURES] of x (y - anchor)."""
    mass: Float64
    """[BANDS] origins."""

    def __add__(self, other: HeadStatistics) -> HeadStatistics:
        return HeadStatistics(self.xx + other.xx, self.xy + other.xy, self.mass + other.mass)


def _fresh() -> Series:
    """The state of one series, zero."""
    return Series(*(spec.rows(1)[0] for spec in layout.state_layout().values()))


def _shared() -> Shared:
    """No weights: the memory alone."""
    w, gram = (np.zeros(shape) for shape in layout.weight_shapes().values())
    return Shared(w, gram, True, False, False, False, False, np.zeros(0, np.uint8))


def head_statistics(values: Float64, period: float) -> HeadStatistics:
    """Statistics of one series: values [T], NaN: missing; `period` in readings.

    ValueError for a period below 2 readings.
    """
    if not period >= 2.0:
        raise ValueError(f"period: {period:g} is less than 2 readings")
    series = _fresh()
    _learn(series, _shared(), np.ascontiguousarray(values, np.float64), float(period))
    scale = (_unit(series) * _inverse_deviation(values)) ** 2
    sums = series.sums
    xx = np.empty((BANDS, FEATURES, FEATURES))
    upper = np.triu_indices(FEATURES)
    products = sums["products"].astype(np.float64) * scale
    xx[:, upper[0], upper[1]] = xx[:, upper[1], upper[0]] = products
    xy = sums["cross"].astype(np.float64) * scale
    return HeadStatistics(xx, xy, sums["mass"].astype(np.float64))


def _unit(series: Series) -> float:
    return float(series.meta["unit"])  # type: ignore[index]


def _inverse_deviation(values: Float64) -> float:
    """One over the deviation of a whole series, 0 where it is constant."""
    known = values[np.isfinite(values)]
    sd = float(known.std()) if len(known) else 0.0
    return 1.0 / sd if sd > 0.0 else 0.0


@njit()
def _learn(series: Series, shared: Shared, values: Float64, period: float) -> None:
    meta = series.meta
    view = new_view()
    start(series, shared, period, 0.0, False, False)
    for t in range(values.shape[0]):
        if t % layout.REFIT_EVERY == 0:
            keep_scale(series)
        z = take_scale(series, values[t]) if math.isfinite(values[t]) else math.nan
        meta.tick = t
        if meta.count == 0.0:
            continue
        learn_tick(series, shared, view, float(t), z, meta.last_z)
        seen = meta.coarse_cell - meta.started
        if period <= COARSE or seen < layout.READY_PERIODS * coarse_cells(period):
            continue
        if read_memory(series.memory, fine_cells(period), z, int(meta.last_place), view):
            sample(series, view, float(t), z, shared.fallback)

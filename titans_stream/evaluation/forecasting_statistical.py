"""Automatic statistical methods of the library statsforecast, an optional dependency.

Each origin's model is fitted anew on the values before it, which takes a good part of a second,
so that these run on a subset of the origins.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from titans_stream.evaluation.forecasting_data import ForecastSet, blocks_of
from titans_stream.evaluation.forecasting_metrics import INTERVALS, ForecastBlock, ForecastModel
from titans_stream.records import Float64, Int64

EVERY = 240
"""Origins of the subset: every one in this many."""
CONTEXT = {"AutoETS": 28, "MSTL": 56}
"""Seasons before the origin that a model is fitted on."""
CONTEXT_WITHOUT_SEASON = 672
LONGEST_SEASON = 24
"""Exponential smoothing takes no longer season; beyond it only MSTL is run."""


def available() -> bool:
    """Whether statsforecast is installed."""
    return importlib.util.find_spec("statsforecast") is not None


@dataclass(frozen=True, slots=True)
class StatisticalForecast:
    """AutoETS, or MSTL (season, and week for an hourly season) with ETS for the trend."""

    method: Literal["AutoETS", "MSTL"]

    def blocks(self, data: ForecastSet, origins: Int64, steps: int) -> Iterator[ForecastBlock]:
        """As `ForecastModel` says."""
        context = CONTEXT[self.method] * data.season or CONTEXT_WITHOUT_SEASON
        for first in blocks_of(data, origins, steps):
            median = np.empty((len(first), data.series, steps))
            quantiles = np.empty((4, len(first), data.series, steps))
            for i, row in enumerate(first.tolist()):
                for d in range(data.series):
                    past = data.filled[max(0, row - context) : row, d].copy()
                    median[i, d], quantiles[:, i, d] = self._forecast(past, data.season, steps)
            yield ForecastBlock(first, median, quantiles)

    def _forecast(self, past: Float64, season: int, steps: int) -> tuple[Float64, Float64]:
        if np.ptp(past) == 0.0:
            return np.full(steps, past[-1]), np.full((4, steps), past[-1])
        found = self._model(season).forecast(y=past, h=steps, level=list(INTERVALS))
        quantiles = [found["lo-95"], found["lo-80"], found["hi-80"], found["hi-95"]]
        return np.asarray(found["mean"], dtype=np.float64), np.array(quantiles)

    def _model(self, season: int) -> Any:
        from statsforecast.models import MSTL, AutoETS

        if self.method == "AutoETS":
            return AutoETS(season_length=max(season, 1))
        return MSTL(season_length=season, trend_forecaster=AutoETS(model="ZZN"))


def statistical_models(data: ForecastSet) -> dict[str, ForecastModel]:
    """The methods that suit a set, by their names in tables; none without the library."""
    if not available():
        return {}
    found: dict[str, ForecastModel] = {}
    if data.season <= LONGEST_SEASON:
        found["AutoETS"] = StatisticalForecast("AutoETS")
    if data.season > 1:
        found["MSTL"] = StatisticalForecast("MSTL")
    return found

"""Forecasts to compare with: repeat-last, seasonal naive, ridge regression, published figures.

D is the number of series, B of origins in a block, H of steps ahead, W the lookback.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from titans_stream.evaluation.forecasting_data import ForecastSet, blocks_of
from titans_stream.evaluation.forecasting_metrics import ForecastBlock, ForecastModel
from titans_stream.records import Float64, Int64

LOOKBACK = 96
"""Readings before the origin that lookback-limited models see, as in the published tables."""
RIDGE = 0.01

PUBLISHED: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "neural memory": {
        "ETTh1": (0.420, 0.421), "ETTh2": (0.336, 0.382),
        "ETTm1": (0.358, 0.387), "ETTm2": (0.261, 0.309),
    },
    "Simba": {
        "ETTh1": (0.441, 0.432), "ETTh2": (0.361, 0.391),
        "ETTm1": (0.383, 0.396), "ETTm2": (0.271, 0.327),
    },
    "iTransformer": {
        "ETTh1": (0.454, 0.447), "ETTh2": (0.383, 0.407),
        "ETTm1": (0.407, 0.410), "ETTm2": (0.288, 0.332),
    },
    "RLinear": {
        "ETTh1": (0.446, 0.434), "ETTh2": (0.374, 0.398),
        "ETTm1": (0.414, 0.407), "ETTm2": (0.286, 0.327),
    },
    "PatchTST": {
        "ETTh1": (0.469, 0.454), "ETTh2": (0.387, 0.407),
        "ETTm1": (0.387, 0.400), "ETTm2": (0.281, 0.326),
    },
    "DLinear": {
        "ETTh1": (0.456, 0.452), "ETTh2": (0.559, 0.515),
        "ETTm1": (0.403, 0.407), "ETTm2": (0.350, 0.401),
    },
}  # fmt: skip
"""Model -> set -> MSE and MAE, means over 96, 192, 336 and 720 steps, lookback 96, as published
with Titans (arXiv 2501.00663v1)."""


@dataclass(frozen=True, slots=True)
class RepeatLast:
    """Every step is the last value."""

    def blocks(self, data: ForecastSet, origins: Int64, steps: int) -> Iterator[ForecastBlock]:
        """As `ForecastModel` says."""
        for first in blocks_of(data, origins, steps):
            last = data.filled[first - 1]
            shape = (*last.shape, steps)
            yield ForecastBlock(first, np.broadcast_to(last[:, :, None], shape))


@dataclass(frozen=True, slots=True)
class SeasonalNaive:
    """The last season before the origin, over and over."""

    def blocks(self, data: ForecastSet, origins: Int64, steps: int) -> Iterator[ForecastBlock]:
        """As `ForecastModel` says. The set has a season."""
        assert data.season > 0
        back = np.arange(steps) % data.season - data.season
        for first in blocks_of(data, origins, steps):
            found = data.filled[first[:, None] + back]
            yield ForecastBlock(first, np.ascontiguousarray(np.swapaxes(found, 1, 2)))


@dataclass(frozen=True, slots=True)
class Ridge:
    """Linear regression of the next H values on the last W, both less the window's mean.

    One regression for all series, fitted on the training part in closed form; `penalty` is per
    window.
    """

    lookback: int = LOOKBACK
    penalty: float = RIDGE

    def fit(self, data: ForecastSet, steps: int) -> Float64:
        """[W, H] weights. ValueError where the training part holds no window."""
        width = self.lookback
        firsts = data.origins(width, data.train_end, steps)
        if len(firsts) == 0:
            raise ValueError(
                f"{data.name}: a training part of {data.train_end} rows holds no window of "
                f"{width} + {steps}"
            )
        gram, cross = np.zeros((width, width)), np.zeros((width, steps))
        for first in blocks_of(data, firsts, width + steps):
            x, mean = self._inputs(data, first)
            rows = first[:, None] + np.arange(steps)
            y = np.swapaxes(data.filled[rows], 1, 2).reshape(-1, steps) - mean
            gram += x.T @ x
            cross += x.T @ y
        count = len(firsts) * data.series
        weights = np.linalg.solve(gram + self.penalty * count * np.eye(width), cross)
        return np.asarray(weights, dtype=np.float64)

    def blocks(self, data: ForecastSet, origins: Int64, steps: int) -> Iterator[ForecastBlock]:
        """As `ForecastModel` says."""
        weights = self.fit(data, steps)
        for first in blocks_of(data, origins, steps):
            x, mean = self._inputs(data, first)
            yield ForecastBlock(first, (x @ weights + mean).reshape(len(first), -1, steps))

    def _inputs(self, data: ForecastSet, first: Int64) -> tuple[Float64, Float64]:
        """[B * D, W] values before the rows `first`, less their means [B * D, 1]."""
        rows = first[:, None] + np.arange(-self.lookback, 0)
        x = np.swapaxes(data.filled[rows], 1, 2).reshape(-1, self.lookback)
        mean = x.mean(axis=1, keepdims=True)
        return x - mean, mean


def default_baselines(data: ForecastSet) -> dict[str, ForecastModel]:
    """The baselines of a set, by their names in tables; naive needs a season of the calendar."""
    found: dict[str, ForecastModel] = {f"ridge, lookback {LOOKBACK}": Ridge()}
    if data.season:
        found["seasonal naive"] = SeasonalNaive()
    found["repeat last"] = RepeatLast()
    return found


def published(data: ForecastSet) -> dict[str, tuple[float, float]]:
    """Model -> average MSE and MAE as published for a set; empty for other sets."""
    return {
        model: figures[data.name] for model, figures in PUBLISHED.items() if data.name in figures
    }

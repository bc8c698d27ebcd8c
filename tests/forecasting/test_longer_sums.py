"""What the longer head learns from: the sums over the targets of an origin, against plain ones."""

from __future__ import annotations

import math

import numpy as np
import pytest

from titans_stream.forecasting.multi import layout
from titans_stream.forecasting.multi.heads import ENDS, band_of
from titans_stream.forecasting.multi.layout import COARSE, FINER_BANDS, LONGER_FEATURES, RING
from titans_stream.forecasting.multi.longer import (
    DELAYS,
    learn_longer,
    longer_features,
    read_longer,
)
from titans_stream.forecasting.multi.series import Series, new_view
from titans_stream.jit import njit
from titans_stream.records import Float64


@njit()
def _learn(series: Series, copy: int, origin: int, cells: int, last: float, weight: float) -> None:
    learn_longer(series, new_view(), copy, origin, cells, last, weight)


@njit()
def _plainly(
    series: Series, copy: int, origin: int, cells: int, last: float, weight: float, out: Float64
) -> None:
    """The same target by target, x x', x (y - anchor) and 1 -> out [bands, 8, 10]."""
    view = new_view()
    if not read_longer(series, copy, origin, cells, math.nan, last, origin, 0.0, view):
        return
    x = view.longer_x
    for k in range(DELAYS[copy - 1] * cells + 1, DELAYS[copy] * cells + 1):
        band = band_of(k * COARSE / cells) - FINER_BANDS
        first = max(DELAYS[copy - 1] * cells, int(ENDS[band - 1] * cells / COARSE + 1e-9))
        first = DELAYS[copy - 1] * cells if band == 0 else first
        end = min(DELAYS[copy] * cells, int(ENDS[band] * cells / COARSE + 1e-9))
        value = series.ring[(origin + k) % RING]
        if math.isnan(value) or (series.meta.period > COARSE and k == 1):
            continue
        residual = value - longer_features(series, view, origin + k, 0.0)
        share = weight / (end - first)
        for i in range(LONGER_FEATURES):
            for j in range(LONGER_FEATURES):
                out[band, i, j] += share * x[i] * x[j]
            out[band, i, 8] += share * x[i] * residual
        out[band, 0, 9] += share


@pytest.mark.parametrize(("period", "cells"), [(24.0, 24), (96.0, 24), (13.0, 13)])
@pytest.mark.parametrize("copy", [1, 2, 3])
def test_sums_are_those_of_single_targets(period: float, cells: int, copy: int) -> None:
    rng = np.random.default_rng(copy)
    series = Series(*(spec.rows(1)[0] for spec in layout.state_layout().values()))
    series.meta["period"], series.meta["cycle"] = period, 7.0  # type: ignore[index]
    series.ring[:] = rng.normal(5.0, 1.0, RING)
    series.ring[rng.random(RING) < 0.1] = np.nan
    series.longer[:] = rng.normal(5.0, 1.0, series.longer.shape)
    series.longer[copy, 40:50] = np.nan
    origin = RING * 3 + 17 * copy
    out = np.zeros((len(layout.ENDS), LONGER_FEATURES, 10))
    _learn(series, copy, origin, cells, 5.5, 11.0)
    _plainly(series, copy, origin, cells, 5.5, 11.0, out)
    upper = np.triu_indices(LONGER_FEATURES)
    learned = np.flatnonzero(out[:, 0, 9])
    assert len(learned) == np.count_nonzero(series.longer_sums["mass"]) > 0
    near = {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(series.longer_sums["products"], out[:, upper[0], upper[1]], **near)
    np.testing.assert_allclose(series.longer_sums["cross"], out[:, :, 8], **near)
    np.testing.assert_allclose(series.longer_sums["mass"], out[:, 0, 9], **near)

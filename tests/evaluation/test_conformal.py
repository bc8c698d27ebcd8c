"""The adaptive conformal rival."""

from __future__ import annotations

import numpy as np
import pytest

from titans_stream.evaluation.conformal import LEAST, AdaptiveConformal, adapted, ranked
from titans_stream.evaluation.ours import OurDetector
from titans_stream.evaluation.protocol import LabelledSeries
from titans_stream.lifecycle.loading import load_model


def test_p_values_by_hand():
    rng = np.random.default_rng(0)
    errors = np.abs(rng.standard_normal(400))
    errors[50] = np.nan
    errors[300] = 50.0
    found = ranked(errors, 100)
    assert np.isnan(found[: LEAST + 0, 0]).all() and np.isnan(found[50]).all()
    window = errors[~np.isnan(errors)][199:299]
    assert found[300, 0] == pytest.approx(1 / 101)
    assert found[300, 1] == pytest.approx(50.0 / window.mean())
    assert found[299, 0] == pytest.approx((1 + (errors[199:299] >= errors[299]).sum()) / 101)


def test_the_level_adapts_until_alerts_come_as_often_as_it_says():
    rng = np.random.default_rng(1)
    p = rng.random(40_000) ** 3  # far too many small ones
    share = adapted(p, 0.05, 0.005)
    assert (share <= 1.0).mean() == pytest.approx(0.05, abs=0.005)
    assert (p <= 0.05).mean() > 0.3


def test_a_jump_is_found_and_an_asset_is_one_series():
    model = load_model("base")
    values = np.random.default_rng(2).normal(size=(900, 3))
    values[700] += 30.0
    nothing = np.empty((0, 2), np.int64)
    for one in (values[:, 1], values):
        series = LabelledSeries("a", one, None, nothing, np.ones(900, dtype=bool))
        (found,) = AdaptiveConformal(OurDetector(model, (1.0,)))([series])
        assert len(found.statistic) == 900
        assert np.nanargmax(found.statistic) in (700, 701)
        assert found.onsets[1.0].sum() < 30

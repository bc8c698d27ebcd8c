"""Parts of a set, errors, intervals, and the forecasts that ours are compared with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.forecast_sets import one_block, waves
from titans_stream.evaluation.forecasting_baselines import (
    RepeatLast,
    Ridge,
    SeasonalNaive,
    default_baselines,
    published,
)
from titans_stream.evaluation.forecasting_data import (
    ForecastSet,
    load_forecast_sets,
)
from titans_stream.evaluation.forecasting_metrics import (
    LEVELS,
    ForecastBlock,
    PointErrors,
    block_bootstrap_error,
    pinball,
)
from titans_stream.evaluation.forecasting_scores import DEVIATES, make_task, score_model
from titans_stream.evaluation.forecasting_statistical import StatisticalForecast, available
from titans_stream.records import Int64


class Oracle:
    """The truth plus a constant, with intervals of the levels of a normal distribution."""

    def __init__(self, shift: float = 0.0, spread: float = 1.0) -> None:
        self._shift = shift
        self._spread = spread

    def blocks(self, data: ForecastSet, origins: Int64, steps: int) -> Iterator[ForecastBlock]:
        padded = np.concatenate([data.filled, np.zeros((steps, data.series))])
        for first in np.array_split(origins, 3):
            median = np.swapaxes(padded[first[:, None] + np.arange(steps)], 1, 2) + self._shift
            yield ForecastBlock(
                first, median, median + self._spread * DEVIATES[:, None, None, None]
            )


def test_the_parts_and_scales_of_a_set() -> None:
    data = waves()
    train = data.values[:540]
    np.testing.assert_allclose(data.scored[:540].mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(data.scored * train.std(axis=0) + train.mean(axis=0), data.values)
    assert data.origins(720, 900, 24).tolist() == list(range(720, 877))
    truth = data.truth(np.array([710, 890]), 24)
    np.testing.assert_array_equal(truth[0, 1, :10], data.scored[710:720, 1])
    assert np.isnan(truth[0, :, 10:]).all(), "a validation origin sees no test value"
    assert np.isnan(truth[1, :, 10:]).all() and not np.isnan(truth[1, :, :10]).any()
    with pytest.raises(ValueError, match="waves: 2 rows are too few"):
        replace(data, values=data.values[:2], timestamp=None)
    assert data.timestamp is not None
    with pytest.raises(ValueError, match="must increase"):
        replace(data, timestamp=data.timestamp[::-1])


def test_errors_are_those_of_all_windows_of_each_horizon() -> None:
    data = waves()
    data.values[800, 0] = np.nan
    task = make_task(data, (24, 48))
    score = score_model(task, SeasonalNaive())
    for horizon in (24, 48):
        squares, absolutes = [], []
        for first in range(720, 900 - horizon + 1):
            for d in range(2):
                for step in range(horizon):
                    error = data.scored[first + step, d] - data.filled[first - 24 + step % 24, d]
                    squares.append(error**2)
                    absolutes.append(abs(error))
        assert score.points.mse(horizon) == pytest.approx(np.nanmean(squares), rel=1e-12)
        assert score.points.mae(horizon) == pytest.approx(np.nanmean(absolutes), rel=1e-12)
    few = score_model(task, SeasonalNaive(), origins=task.origins[::40])
    places = np.arange(0, len(task.origins), 40)
    assert few.points.mse(48) == pytest.approx(score.points.mse(48, places), rel=1e-12)
    assert few.points.mse(48) != score.points.mse(48)


def test_errors_by_step_and_a_forecast_without_a_value() -> None:
    data = waves()
    task = make_task(data, (24,))
    by_step = score_model(task, Oracle(shift=0.5)).points.by_step()
    np.testing.assert_allclose(by_step, np.full(24, 0.25), rtol=1e-9)
    points = PointErrors(data, task.origins, (24,))
    block = ForecastBlock(task.origins[:1], np.full((1, 2, 24), np.nan))
    with pytest.raises(ValueError, match="waves: a forecast has no value"):
        points.add(block, data.truth(block.first, 24))


def test_coverage_width_and_pinball_of_known_intervals() -> None:
    data = waves(rows=4_000)
    task = make_task(data, (24,))
    score = score_model(task, Oracle(shift=1.5), intervals=True)
    assert score.intervals is not None
    # 1.5 off with a spread of 1: outside the 80 % interval (1.28), inside the 95 % one (1.96)
    assert [score.intervals.coverage(6, level) for level in (80, 95)] == [0.0, 1.0]
    assert score.intervals.coverage_error(6, 80) == 0.0
    assert score.intervals.width(6, 80) == pytest.approx(2 * 1.2815516, rel=1e-6)
    assert score.intervals.width(6, 95) == pytest.approx(2 * 1.9599640, rel=1e-6)
    losses = [
        max(q * (-1.5 - z), (q - 1) * (-1.5 - z))
        for q, z in [*zip(LEVELS, DEVIATES, strict=True), (0.5, 0.0)]
    ]
    assert score.intervals.pinball(6) == pytest.approx(np.mean(losses), rel=1e-9)
    # the reference has the same medians, and a root mean square error of 1.5 for its spread
    wide = [
        max(q * (-1.5 - 1.5 * z), (q - 1) * (-1.5 - 1.5 * z))
        for q, z in [*zip(LEVELS, DEVIATES, strict=True), (0.5, 0.0)]
    ]
    assert score.gaussian[6] == pytest.approx(np.mean(wide), rel=1e-9)
    assert set(score.kept) == set(task.kept) and len(task.kept) == 2


def test_the_gaussian_reference_covers_errors_that_are_gaussian() -> None:
    """Its loss is the least there is for normal errors, so that spread intervals of ours lose."""
    rng = np.random.default_rng(1)
    data = replace(waves(rows=6_000), values=rng.standard_normal((6_000, 2)), season=0)

    class Mean:
        def blocks(self, data: ForecastSet, origins: Int64, steps: int) -> Iterator[ForecastBlock]:
            for first in np.array_split(origins, 4):
                median = np.zeros((len(first), 2, steps))
                yield ForecastBlock(first, median, median + 3 * DEVIATES[:, None, None, None])

    score = score_model(make_task(data, (24,)), Mean(), intervals=True)
    assert score.intervals is not None
    levels = np.array([*LEVELS[:2], 0.5, *LEVELS[2:]])
    ends = np.insert(DEVIATES, 2, 0.0)
    draws = data.scored[4_800:].reshape(-1)
    best = np.mean([pinball(draws, np.full((1, len(draws)), z), [q]).mean() for q, z in
                    zip(levels, ends, strict=True)])  # fmt: skip
    assert score.gaussian[1] == pytest.approx(best, rel=0.02)
    assert score.intervals.pinball(1) > 1.5 * best
    assert score.intervals.coverage(1, 80) > 0.99


def test_the_bootstrap_error_grows_with_dependence() -> None:
    rng = np.random.default_rng(0)
    independent = (rng.random(9_600) < 0.8).astype(float)
    runs = np.repeat((rng.random(100) < 0.8).astype(float), 96)
    exact = np.sqrt(0.16 / 9_600)
    assert block_bootstrap_error(independent, 96) == pytest.approx(exact, rel=0.35)
    assert block_bootstrap_error(runs, 96) == pytest.approx(np.sqrt(0.16 / 100), rel=0.35)
    assert np.isnan(block_bootstrap_error(runs[:383], 96)), "three blocks say nothing"


def test_pinball() -> None:
    losses = pinball(np.array([2.0, 0.0]), np.array([[1.0, 1.0]]), [0.9])
    np.testing.assert_allclose(losses, [[0.9, 0.1]])


def test_naive_forecasts_repeat_the_past() -> None:
    data = waves()
    data.values[749, 1] = np.nan
    last = one_block(RepeatLast(), data, 750, 30)
    assert (last[0] == data.scored[749, 0]).all()
    assert (last[1] == data.scored[748, 1]).all(), "the last value that is there"
    season = one_block(SeasonalNaive(), data, 740, 30)
    np.testing.assert_array_equal(season[0, :24], data.scored[716:740, 0])
    np.testing.assert_array_equal(season[0, 24:], data.scored[716:722, 0])


def test_ridge_is_the_regression_of_scikit_learn() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model", reason="comes with MLflow")
    data = waves()
    ridge = Ridge(lookback=30, penalty=0.01)
    windows, targets = [], []
    for first in range(30, 540 - 12 + 1):
        for d in range(2):
            window = data.scored[first - 30 : first, d]
            windows.append(window - window.mean())
            targets.append(data.scored[first : first + 12, d] - window.mean())
    fitted = linear_model.Ridge(alpha=0.01 * len(windows), fit_intercept=False)
    fitted.fit(np.array(windows), np.array(targets))
    np.testing.assert_allclose(ridge.fit(data, 12), fitted.coef_.T, atol=1e-9)
    window = data.scored[770:800, 1]
    expected = fitted.predict([window - window.mean()])[0] + window.mean()
    np.testing.assert_allclose(one_block(ridge, data, 800, 12)[1], expected, atol=1e-9)
    with pytest.raises(ValueError, match="waves: a training part of 540 rows holds no window"):
        Ridge().fit(data, 720)


@pytest.mark.skipif(not available(), reason="statsforecast is not installed")
def test_statistical_methods_find_a_clean_cycle() -> None:
    data = waves(rows=1_200, series=1)
    for method in ("AutoETS", "MSTL"):
        (block,) = StatisticalForecast(method).blocks(data, np.array([1_100]), 48)
        error = block.median[0, 0] - data.scored[1_100:1_148, 0]
        assert np.abs(error).mean() < 0.4, "the noise has a mean of 0.22"
        assert block.quantiles is not None
        assert (np.diff(block.quantiles, axis=0) > 0).all()


@pytest.mark.data
def test_public_sets_and_naive_figures(data_root: Path) -> None:
    """The naive figures on the standard split are known from elsewhere, to four digits."""
    sets = load_forecast_sets(data_root)
    assert list(sets) == ["ETTh1", "ETTh2", "exchange_rate"]
    assert [(len(s), s.train_end, s.test_start, s.series, s.season) for s in sets.values()] == [
        (14_400, 8_640, 11_520, 7, 24),
        (14_400, 8_640, 11_520, 7, 24),
        (7_588, 5_311, 6_071, 8, 0),
    ]
    known = {
        "ETTh1": ("seasonal naive", 0.5996, 0.4793),
        "ETTh2": ("seasonal naive", 0.4825, 0.4371),
        "exchange_rate": ("repeat last", 0.3410, 0.3898),
    }
    for name, (baseline, mse, mae) in known.items():
        task = make_task(sets[name], (96, 192, 336, 720))
        points = score_model(task, default_baselines(sets[name])[baseline]).points
        assert np.mean([points.mse(h) for h in task.horizons]) == pytest.approx(mse, abs=5e-5)
        assert np.mean([points.mae(h) for h in task.horizons]) == pytest.approx(mae, abs=5e-5)
    assert published(sets["ETTh1"])["neural memory"] == (0.420, 0.421)
    assert published(sets["exchange_rate"]) == {}

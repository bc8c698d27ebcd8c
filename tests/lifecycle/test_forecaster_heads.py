"""The heads of forecasts of many steps are fitted to long series by the kernels that serve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.lifecycle.conftest import quick_recipe
from titans_stream.commands.train import print_report
from titans_stream.durations import DAY
from titans_stream.forecasting.mal import residual as M
from titans_stream.forecasting.mal import weights as mal
from titans_stream.forecasting.multi import forecaster as multi_step
from titans_stream.forecasting.multi import layout as L
from titans_stream.lifecycle.accuracy import head_error, mean_head_error, naive_ratio
from titans_stream.lifecycle.artifacts import base_model
from titans_stream.lifecycle.data import TrainingData, load_data
from titans_stream.lifecycle.forecaster_training import NAIVE_RATIO, _measured, train
from titans_stream.lifecycle.head_fitting import HeadFit, fit_heads, period_of, regular_values
from titans_stream.lifecycle.residual_examples import examples
from titans_stream.lifecycle.residual_training import (
    ResidualBlock,
    daily_values,
    mixed,
    train_residual,
)
from titans_stream.lifecycle.runs import TrainingReport
from titans_stream.lifecycle.series import Series
from titans_stream.recipe_settings import DataConfig, ResidualConfig, TrainingConfig
from titans_stream.records import Float64, Int64

HOUR = DAY // 24


def hourly(value: Float64, name: str = "made") -> Series:
    count = len(value)
    timestamp = 1_704_067_200 * 10**9 + HOUR * np.arange(count)
    return Series(name, "made", value, timestamp, np.zeros((count, 10)), timestamp / 1e9)


def noisy_day(seed: int, count: int = 24 * 90, memory: float = 0.9) -> Float64:
    """A daily course and noise that remembers."""
    rng = np.random.default_rng(seed)
    noise = np.zeros(count)
    for i in range(1, count):
        noise[i] = memory * noise[i - 1] + np.sqrt(1 - memory**2) * rng.normal()
    return 2.0 * np.sin(2 * np.pi * np.arange(count) / 24) + noise


@pytest.fixture(scope="module")
def days() -> list[Series]:
    return [hourly(noisy_day(seed)) for seed in range(6)]


def test_gaps_become_missing_readings() -> None:
    whole = hourly(np.arange(10.0))
    kept = np.array([0, 1, 2, 5, 6, 7, 8, 9])
    gappy = replace(
        whole,
        value=whole.value[kept],
        timestamp=whole.timestamp[kept],
        calendar=whole.calendar[kept],
        local_seconds=whole.seconds[kept],
    )
    values, place = regular_values(gappy)
    np.testing.assert_array_equal(values, [0, 1, 2, np.nan, np.nan, 5, 6, 7, 8, 9])
    np.testing.assert_array_equal(place, kept)


def test_the_day_is_the_period(days: list[Series]) -> None:
    assert period_of(days[0]) == 24.0


def test_weights_follow_how_long_noise_lasts(days: list[Series]) -> None:
    """One step ahead the last deviation counts as much as the noise remembers."""
    fit = fit_heads(days)
    quick = fit_heads([hourly(noisy_day(seed, memory=0.3)) for seed in range(6)])
    assert set(fit.weights) == set(L.weight_shapes())
    assert fit.series == 6
    assert fit.row_series[L.FINER_BANDS] == 6
    last = fit.weights["forecast.head.w"][L.FINER_BANDS, 2]
    assert last == pytest.approx(0.9, abs=0.12)
    assert quick.weights["forecast.head.w"][L.FINER_BANDS, 2] == pytest.approx(0.3, abs=0.12)
    far = fit.weights["forecast.head.w"][-1]
    assert abs(far[2]) < 0.15
    assert 0.6 < far[1] < 1.1


def test_every_series_counts_alike(days: list[Series]) -> None:
    scaled = [replace(days[0], value=1e4 * days[0].value + 7.0), *days[1:]]
    first, second = fit_heads(days), fit_heads(scaled)
    for name, weight in first.weights.items():
        np.testing.assert_allclose(second.weights[name], weight, rtol=2e-3, atol=2e-4)


def test_fitted_heads_beat_plain_ones(days: list[Series]) -> None:
    """Plain weights trust the last reading more than noise that forgets fast deserves; errors that
    are carried on, and own weights, take most of that back."""
    quick = [hourly(noisy_day(seed, memory=0.3)) for seed in range(6)]
    fit = fit_heads(quick[:4])
    plain = multi_step.plain_weights()
    fitted = mean_head_error(quick[4:], {**plain, **fit.weights})
    assert fitted < 0.995 * mean_head_error(quick[4:], plain)
    # noise of variance 1 that is nearly forgotten, beside the day's course
    assert head_error(days[5], {**plain, **fit.weights}) < 0.35


def test_many_steps_are_compared_with_the_best_naive_forecast(
    days: list[Series], monkeypatch: pytest.MonkeyPatch
) -> None:
    def copied(lag: int | None) -> Callable[..., tuple[None, SimpleNamespace]]:
        def run(
            one: Series, weights: object, origins: Int64, steps: int, options: object = None
        ) -> tuple[None, SimpleNamespace]:
            ahead = np.arange(1, steps + 1)
            back = ahead if lag is None else lag * -(-ahead // lag)
            return None, SimpleNamespace(median=one.value[origins[:, None] + ahead - back])

        return run

    def ratio(one: Series, lag: int | None) -> float:
        monkeypatch.setattr("titans_stream.lifecycle.accuracy.run_forecaster", copied(lag))
        return naive_ratio(one, {})

    assert ratio(days[0], 24) == 1.0 < ratio(days[0], 168) < ratio(days[0], None)
    hours = np.arange(24 * 90)
    noise = 0.1 * np.random.default_rng(0).normal(size=len(hours))
    weekly = hourly(np.sin(2 * np.pi * hours / 168) + noise)
    assert ratio(weekly, 168) == 1.0 < ratio(weekly, 24)
    rising = hourly(np.arange(600.0))
    assert ratio(rising, None) == 1.0 < ratio(rising, 24)
    assert np.isnan(ratio(hourly(np.ones(3_000)), None))
    assert np.isnan(ratio(hourly(noisy_day(0, count=100)), None))


def test_training_tells_what_forecasts_of_series_that_were_read_are_worth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hours = np.datetime64("2026-01-01T00:00") + np.arange(24 * 60) * np.timedelta64(1, "h")
    value = noisy_day(1, count=len(hours), memory=0.3)
    lines = [f"{hour},{each:.6f}" for hour, each in zip(hours, value, strict=True)]
    (tmp_path / "own.csv").write_text("\n".join(["time,level", *lines]) + "\n")
    read = {"files": [str(tmp_path / "own.csv")], "timestamp": "time", "length": 96}
    quick = {"epochs": 1, "batch": 16, "unroll": 96}
    trained = train(quick_recipe(data={"csv": read}, training=quick))
    assert trained.heads is not None
    assert 0.5 < trained.heads.metrics[NAIVE_RATIO] < 1.0, "a day's copy has its noise twice"
    assert trained.model.card["metrics"][NAIVE_RATIO] == trained.heads.metrics[NAIVE_RATIO]
    for metrics in (trained.heads.metrics, {}):
        print_report(TrainingReport("r", "u", "e", "m", "i", metrics, "epoch 1 of 1", 1.0, None))
    told = f"your data, 96 steps ahead: error {trained.heads.metrics[NAIVE_RATIO]:.3f} of that of"
    assert capsys.readouterr().out.count(told) == 1


def test_short_series_leave_plain_weights() -> None:
    fit = fit_heads([hourly(noisy_day(0, count=100))])
    plain = multi_step.plain_weights()
    for name, weight in fit.weights.items():
        np.testing.assert_array_equal(weight, plain[name])
    assert np.isnan(head_error(hourly(np.ones(3_000)), plain))


def test_a_recipe_fits_them(tmp_path: object) -> None:
    synthetic = {
        "series": 26,
        "length": 192,
        "long_series": 26,
        "long_length": 1_500,
        "families": ["daily", "weekly"],
    }
    recipe = quick_recipe(
        data={"synthetic": synthetic, "validation_share": 0.25},
        training={"epochs": 1, "batch": 26, "unroll": 96},
    )
    seen: list[float] = []
    trained = train(recipe, on_step=lambda step: seen.append(step.validation_loss))
    assert trained.heads is not None
    assert not seen
    assert NAIVE_RATIO not in trained.heads.metrics, "no series was read"
    ratio = trained.heads.metrics["long_validation_mse_ratio"]
    assert ratio < 0.6
    assert trained.model.card["metrics"]["long_validation_mse_ratio"] == ratio
    assert set(trained.heads.families) >= {"daily", "weekly", "thermostat"}
    again = train(recipe)
    for name, weight in trained.model.weights.items():
        np.testing.assert_array_equal(again.model.weights[name], weight)
    base = base_model().weights
    for name in mal.weight_shapes():
        np.testing.assert_array_equal(trained.model.weights[name], base[name])


def test_long_series_are_made_only_if_asked_for() -> None:
    config = DataConfig.model_validate(
        {
            "synthetic": {
                "series": 26, "length": 128, "long_series": 28, "long_length": 300,
                "long_intervals": ["1h", "15m"],
            },
            "validation_share": 0.5,
        }
    )  # fmt: skip
    short, long = load_data(config, 0), load_data(config, 0, whole=True)
    assert not short.whole
    assert len(long.whole) == len(long.whole_validation) == 14
    assert {one.interval for one in long.whole} == {HOUR, HOUR / 4}
    assert {one.family for one in long.whole_held_out} & {one.family for one in long.whole} == set()
    assert short.fingerprint != long.fingerprint
    assert short.fingerprint == load_data(config, 0).fingerprint


def test_the_residual_needs_heads() -> None:
    with pytest.raises(ValueError, match="residual: it corrects the heads"):
        TrainingConfig.model_validate({"heads": False, "residual": {}})


def test_moments_give_the_squared_error(days: list[Series]) -> None:
    """The loss from moments is that of corrected forecasts, step by step."""
    plain = multi_step.plain_weights()
    made = examples([days[0].value], plain, seed=0)
    known = np.isfinite(made.errors)
    assert known.mean() > 0.9
    correction = np.array([0.3, -0.2, 0.1, 0.4, -0.1])
    upper = np.triu_indices(M.CORRECTIONS)
    square = np.zeros((*made.errors.shape, M.CORRECTIONS, M.CORRECTIONS))
    square[..., upper[0], upper[1]] = square[..., upper[1], upper[0]] = made.square
    after = (
        made.errors
        - 2 * made.cross @ correction
        + np.einsum("btrij,i,j->btr", square, correction, correction)
    )
    assert (after[known] >= -1e-9).all()
    # a range of one step: (r - c u)^2 with u u' of rank one
    one = square[0, :, 0][known[0, :, 0]]
    np.testing.assert_allclose(
        np.linalg.det(one[:, :2, :2]), np.zeros(len(one)), atol=1e-9 * (1 + np.abs(one).max() ** 2)
    )


def test_mixed_series_are_in_units_of_their_deviation() -> None:
    given = [noisy_day(seed, 600) for seed in range(16)]
    made = mixed(given, seed=3)
    assert [round(float(np.std(one)), 6) for one in made] == [1.0] * 16
    same = [np.allclose(a, (b - b.mean()) / b.std()) for a, b in zip(made, given, strict=True)]
    assert 1 <= sum(same) <= 9
    np.testing.assert_array_equal(made[0], mixed(given, seed=3)[0])


def test_the_residual_learns_what_the_heads_cannot_know() -> None:
    """A pulse every second quarter of each third day: its memory is in the tokens alone."""
    torch.set_num_threads(1)
    count = 24 * 60
    t = np.arange(count)
    values = [
        np.sin(2 * np.pi * t / 24 + s) + 2.0 * ((t // 6) % 3 == s % 3)
        + 0.1 * np.random.default_rng(s).normal(size=count)
        for s in range(12)
    ]  # fmt: skip
    heads = fit_heads([hourly(one) for one in values]).weights
    config = ResidualConfig(steps=40, batch=8, learning_rate=0.02, report_every=20)
    seen: list[float] = []
    weights = train_residual(
        values[:8], values[8:], heads, config, 0, lambda step: seen.append(step.validation_loss)
    )
    assert len(seen) == 2
    assert min(seen) < -0.05
    assert set(weights) == set(mal.weight_shapes())
    assert weights[mal.PREFIX + "output"].any()
    assert {name: array.shape for name, array in ResidualBlock().weights().items()} == (
        mal.weight_shapes()
    )


def test_only_series_of_24_readings_a_day_train_the_residual(days: list[Series]) -> None:
    quarter = replace(days[0], timestamp=days[0].timestamp[0] + HOUR // 4 * np.arange(2_160))
    quarter = replace(quarter, local_seconds=quarter.timestamp / 1e9)
    short = hourly(noisy_day(9, 1_000))
    found = daily_values([days[0], quarter, short])
    assert [len(one) for one in found] == [2_160, 2_160]
    assert np.isnan(found[1][1_000:]).all()


def test_what_no_series_is_long_enough_for_is_not_measured(days: list[Series]) -> None:
    plain = {**base_model().weights, **multi_step.plain_weights()}
    short = hourly(noisy_day(0, count=100), "short")
    assert np.isnan(mean_head_error([short], plain))
    data = TrainingData([], [], whole=days, whole_validation=[short])
    found = _measured(quick_recipe(), data, plain, HeadFit({}, 0, ()))
    assert found.metrics == found.families == {}

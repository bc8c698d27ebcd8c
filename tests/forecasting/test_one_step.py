"""The kernel of the one-step forecaster against a slow reference, and what holds for any stream."""

from __future__ import annotations

import numpy as np
import pytest

from tests.forecasting.one_step_reference import Reference
from titans_stream.calendar_features import calendar_features
from titans_stream.engine.model import untrained_weights
from titans_stream.forecasting.one_step import layout
from titans_stream.forecasting.one_step.forecaster import OneStepForecaster
from titans_stream.memory.rows import plain

STEPS = 2_500
WEIGHTS = {name: untrained_weights(3)[name] for name in layout.weight_shapes()}
FORECASTER = OneStepForecaster(WEIGHTS)


def series(steps: int = STEPS) -> dict[str, np.ndarray]:
    """The first `steps` readings of each."""
    rng = np.random.default_rng(7)
    t = np.arange(STEPS)
    daily = np.sin(2 * np.pi * t / 288)
    regime = np.where(t < STEPS // 2, 1.0, 50.0)
    glitches = rng.normal(size=STEPS)
    glitches[[60, 61, 62, 900]] = [1e12, -1e12, 1e12, 1.7e308]
    flat = np.where((t // 300) % 2 == 0, rng.normal(size=STEPS), 3.0)
    every = {
        "daily": 20.0 + 5.0 * daily + 0.1 * rng.normal(size=STEPS),
        "random walk": 1e6 + np.cumsum(rng.normal(size=STEPS)),
        "heavy tails": rng.standard_t(1.5, size=STEPS),
        "flat runs": flat,
        "constant": np.full(STEPS, -4.25),
        "starts unused": np.where(t < 700, 0.0, rng.normal(size=STEPS)),
        "change of scale": regime * rng.normal(size=STEPS),
        "glitches": glitches,
        "huge": 1e300 * rng.normal(size=STEPS),
        "tiny": 1e-9 * rng.normal(size=STEPS),
        "counter": np.floor(t / 7.0) % 40,
        "binary": (rng.random(STEPS) < 0.1).astype(float),
    }
    return {name: values[:steps] for name, values in every.items()}


def calendar(steps: int = STEPS) -> np.ndarray:
    return calendar_features(1.7e9 + 300.0 * np.arange(steps, dtype=np.float64))


def states(slots: int) -> dict[str, np.ndarray]:
    return {name: spec.rows(slots) for name, spec in layout.state_layout().items()}


def run(state: dict[str, np.ndarray], values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """values [B, T], times [T, 10] -> [B, T, 3]; the state is changed in place."""
    count = values.shape[1]
    return np.stack(
        [FORECASTER.run(state, np.full(count, slot), row, times) for slot, row in enumerate(values)]
    )


def test_the_kernel_is_the_reference_on_varied_series() -> None:
    values, times = np.array(list(series().values())), calendar()
    state = states(len(values))
    out = run(state, values, times)
    assert np.isnan(out[:, :29]).all()
    assert np.isfinite(out[:, 40:]).sum() > 0.99 * out[:, 40:].size
    for one, made in zip(values, out, strict=True):
        reference = Reference(WEIGHTS)
        expected = np.array([reference.step(x, t) for x, t in zip(one, times, strict=True)])
        assert (np.isnan(made) == np.isnan(expected)).all()
        scale = np.abs(expected) + (expected[:, 2:] - expected[:, 1:2]) + 1e-12
        assert np.nanmax(np.abs(made - expected) / scale) < 1e-9
    assert all(np.isfinite(plain(array)).all() for array in state.values())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1.7e308])
def test_a_bad_series_touches_no_other(bad: float) -> None:
    values, times = np.array(list(series(200).values())), calendar(200)
    poisoned = values.copy()
    poisoned[4, 50:60] = bad
    others = [slot for slot in range(len(values)) if slot != 4]
    out = run(states(len(values)), poisoned, times)
    reference = run(states(len(values)), values, times)
    np.testing.assert_array_equal(out[others], reference[others])


def test_an_infinite_glitch_passes() -> None:
    values = series(2_000)["daily"][None]
    values[0, 500] = np.inf
    out = run(states(1), values, calendar(2_000))
    assert np.isfinite(out[0, 1_500:]).all()
    assert np.abs(out[0, 1_500:, 0] - values[0, 1_500:]).max() < 5.0


def test_one_reading_after_another_equals_many_at_once() -> None:
    values, times = series(300)["daily"][None], calendar(300)
    whole = run(states(1), values, times)
    state = states(1)
    parts = [
        run(state, values[:, a:b], times[a:b])
        for a, b in ((0, 1), (1, 2), (2, 31), (31, 290), (290, 300))
    ]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_band_covers_what_it_says() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(8, 4_000))
    out = run(states(8), values, calendar(4_000))
    inside = (values >= out[..., 1]) & (values <= out[..., 2])
    assert 0.93 < inside[:, 30:300].mean() < 0.99
    assert 0.94 < inside[:, 300:].mean() < 0.96


def test_an_unused_sensor_is_expected_to_stay_and_starts_with_its_own_scale() -> None:
    rng = np.random.default_rng(1)
    values = np.where(np.arange(900) < 500, 0.0, 100.0 + rng.normal(size=900))[None]
    out = run(states(1), values, calendar(900))
    assert np.isnan(out[0, :30]).all()
    np.testing.assert_array_equal(out[0, 40, 0], 0.0)
    width = out[0, 800:, 2] - out[0, 800:, 1]
    assert 2.0 < width.mean() < 100.0


def test_first_band_comes_after_minimum_readings() -> None:
    values = np.random.default_rng(2).normal(size=(1, 60))
    out = run(states(1), values, calendar(60))
    first = int(layout.MINIMUM_READINGS)
    assert np.isnan(out[0, :first]).all()
    assert np.isfinite(out[0, first:]).all()


def test_the_memory_is_dropped_where_the_last_value_is_better() -> None:
    rng = np.random.default_rng(3)
    flips = rng.random((4, 3_000)) < 0.05
    values = np.cumsum(flips, axis=1) % 2.0
    out = run(states(4), values, calendar(3_000))
    error = np.abs(values - out[..., 0])[:, 300:].mean()
    naive = np.abs(np.diff(values))[:, 299:].mean()
    assert error < 1.02 * naive
    walk = np.sin(np.arange(3_000) / 4.0)[None] + 0.01 * rng.normal(size=(1, 3_000))
    out = run(states(1), walk, calendar(3_000))
    error = np.abs(walk - out[..., 0])[:, 300:].mean()
    assert error < 0.3 * np.abs(np.diff(walk)).mean()

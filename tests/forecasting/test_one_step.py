"""The torch reference and the numba kernel of the one-step forecaster are one function."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from titans_stream.calendar_features import calendar_features
from titans_stream.engine.model import untrained_weights
from titans_stream.forecasting.one_step import (
    kernels as kernels_cpu,
)
from titans_stream.forecasting.one_step import (
    layout,
)
from titans_stream.forecasting.one_step import (
    reference as one_step,
)

STEPS = 2_500
WEIGHTS = {name: untrained_weights(3)[name] for name in layout.weight_shapes()}
TENSORS = {name: torch.from_numpy(array) for name, array in WEIGHTS.items()}


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


def numba_states(rows: int) -> dict[str, np.ndarray]:
    return {n: np.zeros((rows, *s.shape), s.dtype) for n, s in layout.state_layout().items()}


def run_numba(state: dict[str, np.ndarray], values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """values [B, T], times [T, 10] -> [B, T, 3]; the state is changed in place."""
    out = np.empty((*values.shape, 3))
    for row in range(len(values)):
        kernels_cpu.run(
            np.full(values.shape[1], row), values[row], times, *state.values(), *WEIGHTS.values(),
            out[row],
        )  # fmt: skip
    return out


def run_torch(
    state: dict[str, torch.Tensor], values: np.ndarray, times: np.ndarray
) -> tuple[np.ndarray, dict[str, torch.Tensor]]:
    out = np.empty((*values.shape, 3))
    for t in range(values.shape[1]):
        row_times = torch.from_numpy(times[t]).expand(len(values), -1)
        forecast, state = one_step.forecast_step(
            state, torch.from_numpy(values[:, t].copy()), row_times, TENSORS
        )
        out[:, t] = forecast.numpy()
    return out, state


def assert_close(ours: np.ndarray, reference: np.ndarray, scale: np.ndarray) -> None:
    assert (np.isnan(ours) == np.isnan(reference)).all()
    error = np.abs(ours - reference) / scale
    assert np.nanmax(error) < 1e-9


def test_torch_equals_numba_on_varied_series() -> None:
    values, times = np.array(list(series().values())), calendar()
    expected = run_numba(numba_states(len(values)), values, times)
    out, state = run_torch(one_step.fresh_state(len(values)), values, times)
    assert np.isnan(expected[:, :29]).all()
    assert np.isfinite(expected[:, 40:]).sum() > 0.99 * expected[:, 40:].size
    scale = np.abs(expected) + (expected[..., 2:] - expected[..., 1:2]) + 1e-12
    assert_close(out, expected, scale)
    assert all(torch.isfinite(tensor).all() for tensor in state.values())


@pytest.mark.parametrize("torch_first", [True, False])
def test_a_state_of_one_goes_on_in_the_other(torch_first: bool) -> None:
    values, times = np.array(list(series().values())), calendar()
    rows, cut = len(values), 800
    first, second = values[:, :cut], values[:, cut:]
    whole = run_numba(numba_states(rows), values, times)[:, cut:]
    if torch_first:
        _, state = run_torch(one_step.fresh_state(rows), first, times[:cut])
        out = run_numba({n: t.numpy().copy() for n, t in state.items()}, second, times[cut:])
    else:
        arrays = numba_states(rows)
        run_numba(arrays, first, times[:cut])
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        out, _ = run_torch(tensors, second, times[cut:])
    assert_close(out, whole, np.abs(whole) + (whole[..., 2:] - whole[..., 1:2]) + 1e-12)


def test_step_leaves_the_given_state_alone() -> None:
    _, state = run_torch(
        one_step.fresh_state(12), np.array(list(series(60).values())), calendar(60)
    )
    before = {name: tensor.clone() for name, tensor in state.items()}
    one_step.forecast_step(state, torch.ones(12, dtype=torch.float64), torch.zeros(12, 10), TENSORS)
    assert all(torch.equal(state[name], before[name]) for name in before)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1.7e308])
def test_a_bad_row_touches_no_other(bad: float) -> None:
    values, times = np.array(list(series(200).values())), calendar(200)
    poisoned = values.copy()
    poisoned[4, 50:60] = bad
    others = [row for row in range(len(values)) if row != 4]
    clean, _ = run_torch(one_step.fresh_state(len(values)), values, times)
    out, _ = run_torch(one_step.fresh_state(len(values)), poisoned, times)
    np.testing.assert_array_equal(out[others], clean[others])
    state = one_step.fresh_state(len(values))
    state = {name: tensor.index_fill(0, torch.tensor(4), bad) for name, tensor in state.items()}
    out, _ = run_torch(state, values, times)
    np.testing.assert_array_equal(out[others], clean[others])
    arrays = numba_states(len(values))
    out = run_numba(arrays, poisoned, times)
    reference = run_numba(numba_states(len(values)), values, times)
    np.testing.assert_array_equal(out[others], reference[others])


def test_an_infinite_glitch_passes() -> None:
    values = series(2_000)["daily"][None]
    values[0, 500] = np.inf
    out = run_numba(numba_states(1), values, calendar(2_000))
    assert np.isfinite(out[0, 1_500:]).all()
    assert np.abs(out[0, 1_500:, 0] - values[0, 1_500:]).max() < 5.0


def test_one_reading_after_another_equals_many_at_once() -> None:
    values, times = series(300)["daily"][None], calendar(300)
    whole = run_numba(numba_states(1), values, times)
    state = numba_states(1)
    parts = [
        run_numba(state, values[:, a:b], times[a:b])
        for a, b in ((0, 1), (1, 2), (2, 31), (31, 290), (290, 300))
    ]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_band_covers_what_it_says() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(8, 4_000))
    out = run_numba(numba_states(8), values, calendar(4_000))
    inside = (values >= out[..., 1]) & (values <= out[..., 2])
    assert 0.93 < inside[:, 30:300].mean() < 0.99
    assert 0.94 < inside[:, 300:].mean() < 0.96


def test_an_unused_sensor_is_expected_to_stay_and_starts_with_its_own_scale() -> None:
    rng = np.random.default_rng(1)
    values = np.where(np.arange(900) < 500, 0.0, 100.0 + rng.normal(size=900))[None]
    out = run_numba(numba_states(1), values, calendar(900))
    assert np.isnan(out[0, :30]).all()
    np.testing.assert_array_equal(out[0, 40, 0], 0.0)
    width = out[0, 800:, 2] - out[0, 800:, 1]
    assert 2.0 < width.mean() < 100.0


def test_first_band_comes_after_minimum_readings() -> None:
    values = np.random.default_rng(2).normal(size=(1, 60))
    out = run_numba(numba_states(1), values, calendar(60))
    first = int(layout.MINIMUM_READINGS)
    assert np.isnan(out[0, :first]).all()
    assert np.isfinite(out[0, first:]).all()


def test_the_memory_is_dropped_where_the_last_value_is_better() -> None:
    rng = np.random.default_rng(3)
    flips = rng.random((4, 3_000)) < 0.05
    values = np.cumsum(flips, axis=1) % 2.0
    out = run_numba(numba_states(4), values, calendar(3_000))
    error = np.abs(values - out[..., 0])[:, 300:].mean()
    naive = np.abs(np.diff(values))[:, 299:].mean()
    assert error < 1.02 * naive
    walk = np.sin(np.arange(3_000) / 4.0)[None] + 0.01 * rng.normal(size=(1, 3_000))
    out = run_numba(numba_states(1), walk, calendar(3_000))
    error = np.abs(walk - out[..., 0])[:, 300:].mean()
    assert error < 0.3 * np.abs(np.diff(walk)).mean()

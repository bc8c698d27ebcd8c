"""The multi-step forecaster against a slow reference, and what holds for any stream."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from titans_stream.forecasting.multi import layout
from titans_stream.forecasting.multi.forecaster import (
    ForecastOptions,
    Forecasts,
    MultiStepForecaster,
    plain_weights,
    state_layout,
)
from titans_stream.forecasting.multi.series import write_memory
from titans_stream.memory import rule
from titans_stream.memory.rows import plain

pytestmark = pytest.mark.timeout(1_200)
"""The first test may have to compile the kernels."""
LEVELS = (0.1, 0.5, 0.9)
HOUR = 3600 * 10**9
MIDNIGHT = 19_723 * 86_400
"""Seconds since the epoch: 2024-01-01."""
BARE = ForecastOptions(
    fallback=False, mal=False, longer=False, carry=False, learn_bounds=False, period=24
)
"""The structured head alone, learning."""


WEIGHTS = plain_weights()


def fresh(slots: int) -> dict[str, np.ndarray]:
    return {n: s.rows(slots) for n, s in state_layout().items()}


def feed(
    values: np.ndarray,
    steps: dict[int, int],
    *,
    options: ForecastOptions | None = None,
    arrays: dict[str, np.ndarray] | None = None,
    slot: int = 0,
    seconds: np.ndarray | None = None,
    interval: float = np.nan,
) -> Forecasts:
    """One series; `steps`: how far is forecast after which reading."""
    n = len(values)
    wanted = np.zeros(n, np.int64)
    for at, count in steps.items():
        wanted[at] = count
    known = np.full(n, np.nan) if seconds is None else seconds.astype(np.float64)
    timestamps = np.zeros(n, np.int64) if seconds is None else (seconds * 1e9).astype(np.int64)
    return MultiStepForecaster(WEIGHTS, LEVELS, options=options).run(
        fresh(slot + 1) if arrays is None else arrays,
        np.full(n, slot, np.int64),
        np.ascontiguousarray(values, np.float64),
        known,
        np.full(n, float(interval)),
        timestamps,
        wanted,
    )


def daily(n: int, period: float = 24.0, noise: float = 0.3, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.arange(n)
    drift = np.cumsum(rng.normal(size=n)) * 0.02
    return (
        2.0 * np.sin(2 * np.pi * t / period)
        + np.cos(4 * np.pi * t / period)
        + drift
        + noise * rng.normal(size=n)
    )


def reference(x: np.ndarray, steps: dict[int, int], w0: np.ndarray, gram: np.ndarray) -> list[Any]:
    """The structured head with per-series learning, period 24, as its formulas say."""
    P, bands = 24, len(layout.ENDS)
    ends = np.array(layout.ENDS)
    band_of = np.searchsorted(ends, np.arange(1, 721))
    w0, gram = w0[layout.FINER_BANDS :], gram[layout.FINER_BANDS :]
    w = w0.copy()
    A, v, mass = np.zeros((bands, 4, 4)), np.zeros((bands, 4)), np.zeros(bands)
    e, y, visits = np.full(P, np.nan), np.full(P, np.nan), np.zeros(P)
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    out = []

    def inputs(o: int, step: int) -> tuple[float, np.ndarray]:
        e, y = kept[o]
        p, now = (o + step) % P, o % P
        level = y.mean() - e.mean()
        anchor = e[p] + level
        away = y[now] - e[now] - level
        return anchor, np.array([y[p] - anchor, e[p] - anchor, away, y.mean() - anchor])

    def learn(o: int, begin: int, end: int, weight: float) -> None:
        for r in np.unique(band_of[begin:end]):
            some = [s for s in range(begin + 1, end + 1) if band_of[s - 1] == r]
            for s in some:
                anchor, z = inputs(o, s)
                A[r] += weight / len(some) * np.outer(z, z)
                v[r] += weight / len(some) * z * (x[o + s] - anchor)
            mass[r] += weight

    for t, value in enumerate(x):
        p = t % P
        visits[p] += 1
        rate = 1.0 if visits[p] == 1 else max(layout.MEMORY_RATE, 1.0 / visits[p])
        e[p] = value if visits[p] == 1 else e[p] + rate * (value - e[p])
        y[p] = value
        kept.append((e.copy(), y.copy()))
        if t - 96 >= 48 and (t - 96) % layout.NEAR_EVERY == 0:
            learn(t - 96, 0, 96, layout.NEAR_EVERY)
        if t - 720 >= 48 and (t - 720) % layout.FAR_EVERY == 0:
            learn(t - 720, 96, 720, layout.FAR_EVERY)
        if (t + 1) % layout.REFIT_EVERY == 0:
            variance = x[: t + 1].var()
            for r in range(bands):
                if mass[r] == 0:
                    continue
                ridge = layout.PRIOR_RIDGE * np.trace(gram[r]) / 4 * np.eye(4)
                Q = (layout.PRIOR + layout.PRIOR_PER_STEP * ends[r]) * variance * (gram[r] + ridge)
                w[r] = np.linalg.solve(A[r] + Q, v[r] + Q @ w0[r])
        if t in steps:
            made = []
            for s in range(1, steps[t] + 1):
                anchor, z = inputs(t, s)
                made.append(anchor + w[band_of[s - 1]] @ z)
            out.append(np.array(made))
    return out


def test_the_structured_head_is_the_reference() -> None:
    x = daily(2_600)
    steps = {60: 720, 300: 48, 1_500: 720, 2_599: 720}
    expected = reference(x, steps, WEIGHTS["forecast.head.w"], WEIGHTS["forecast.head.gram"])
    made = feed(x, steps, options=BARE)
    np.testing.assert_allclose(made.median, np.concatenate(expected), atol=2e-5)
    static = feed(x, steps, options=ForecastOptions(
        fallback=False, mal=False, learning=False, longer=False, period=24
    ))  # fmt: skip
    assert np.abs(static.median - made.median).max() > 0.01


def test_the_slot_memory_is_the_titans_memory_with_one_hot_keys() -> None:
    rng = np.random.default_rng(4)
    slots = np.full((2, 6), np.nan, np.float32)
    visits = np.zeros(6, np.uint8)
    memory = torch.zeros(1, 1, 6, dtype=torch.float64)
    momentum = torch.zeros_like(memory)
    for t in range(300):
        p, value = t % 6, rng.normal()
        write_memory(slots, visits, 0, p, value, True)
        key = torch.zeros(1, 6, dtype=torch.float64)
        key[0, p] = 1.0
        theta = 0.5 * max(layout.MEMORY_RATE, 1.0 / (t // 6 + 1))
        wanted = torch.full((1, 1), value, dtype=torch.float64)
        memory, momentum, _, _ = rule.update(memory, momentum, key, wanted, 0.0, 0.0, theta)
    np.testing.assert_allclose(slots[0], memory[0, 0].numpy(), atol=1e-6)


@pytest.mark.parametrize("period", [None, 24])
def test_one_call_equals_many(period: int | None) -> None:
    x = daily(1_700)
    steps = dict.fromkeys(range(100, 1700, 160), 100)
    options = ForecastOptions(period=period)
    whole_state, state = fresh(1), fresh(1)
    whole = feed(x, steps, options=options, arrays=whole_state)
    parts = []
    for a, b in ((0, 1), (1, 50), (50, 51), (51, 900), (900, 1_700)):
        some = {at - a: n for at, n in steps.items() if a <= at < b}
        parts.append(feed(x[a:b], some, options=options, arrays=state))
    np.testing.assert_array_equal(np.concatenate([p.median for p in parts]), whole.median)
    quantiles = np.concatenate([p.quantiles for p in parts], axis=1)
    np.testing.assert_array_equal(quantiles, whole.quantiles)
    for name, array in state.items():
        np.testing.assert_array_equal(plain(array), plain(whole_state[name]))


def test_series_do_not_touch_each_other() -> None:
    n, rows = 900, 4
    every = np.stack([daily(n, seed=s) * 10.0**s for s in range(rows)])
    every[2, 300:] = np.nan
    every[3, 100] = np.inf
    every[3, 200] = -1.7e308
    order = np.tile(np.arange(rows), n)
    wanted = np.zeros(n * rows, np.int64)
    wanted[-rows:] = 60
    nan = np.full(n * rows, np.nan)
    made = MultiStepForecaster(WEIGHTS, LEVELS).run(
        fresh(rows), order, every.T.reshape(-1).copy(), nan, nan, np.zeros(n * rows, np.int64),
        wanted,
    )  # fmt: skip
    for row in range(rows):
        alone = feed(every[row], {n - 1: 60})
        np.testing.assert_array_equal(made.median[60 * row : 60 * row + 60], alone.median)
        np.testing.assert_array_equal(made.quantiles[:, 60 * row : 60 * row + 60], alone.quantiles)
    assert np.isfinite(made.median).all()
    assert np.isfinite(made.quantiles).all()


def test_missing_readings_and_a_gap_are_the_same() -> None:
    x = daily(1_200)
    seconds = MIDNIGHT + 3600.0 * np.arange(len(x))
    gone = np.zeros(len(x), bool)
    gone[500:531] = gone[700] = gone[1_000:1_200:7] = True
    gone[1_199] = False
    with_nan = np.where(gone, np.nan, x)
    told = feed(with_nan, {1_199: 120}, seconds=seconds, interval=HOUR)
    silent = feed(x[~gone], {(~gone).sum() - 1: 120}, seconds=seconds[~gone], interval=HOUR)
    np.testing.assert_array_equal(silent.median, told.median)
    whole = feed(x, {1_199: 120}, seconds=seconds, interval=HOUR)
    assert np.abs(told.median - whole.median).max() < 1.0


def test_with_timestamps_the_day_is_the_period_from_the_third_day_on() -> None:
    x = daily(600)
    # weeks are counted from a Thursday, so that the same origins are learned from
    seconds = MIDNIGHT + 3 * 86_400 + 3600.0 * np.arange(len(x))
    steps = {46: 24, 47: 24, 300: 200, 599: 200}
    told = ForecastOptions(longer=False)
    made = feed(x, steps, seconds=seconds, interval=HOUR, options=told)
    fixed = feed(x, steps, options=ForecastOptions(longer=False, period=24))
    np.testing.assert_array_equal(made.period, [np.nan, 24.0, 24.0, 24.0])
    np.testing.assert_allclose(made.median, fixed.median, atol=1e-6)
    np.testing.assert_array_equal(made.median[:24], x[46])


def test_a_week_that_is_found_goes_beside_the_day() -> None:
    rng = np.random.default_rng(8)
    n = 24 * 7 * 16
    hours = np.arange(n + 168)
    x = 5.0 * rng.normal(size=21)[(hours // 8) % 21] + 0.3 * rng.normal(size=n + 168)
    gone = rng.random(n) < 0.02
    made = feed(
        x[:n][~gone], {(~gone).sum() - 1: 168},
        seconds=(MIDNIGHT + 3600.0 * hours[:n])[~gone], interval=HOUR,
    )  # fmt: skip
    ahead = x[hours[:n][~gone][-1] + 1 :][:168]
    error = np.mean((made.median - ahead) ** 2)
    assert (made.period[0], made.longer[0]) == (24.0, 168.0)
    assert error < 0.15 * ahead.var()


def test_the_phase_follows_the_local_clock() -> None:
    local = MIDNIGHT + 3600.0 * np.arange(1_900)
    shape = np.where((local // 3600) % 24 >= 12, 10.0, 0.0)
    skipped = np.delete(np.arange(1_900), 1_200)
    twice = np.sort(np.append(np.arange(1_900), 1_200))
    for order in (skipped, twice):
        n = len(order)
        timestamps = MIDNIGHT * 10**9 + HOUR * np.arange(n, dtype=np.int64)
        wanted = np.zeros(n, np.int64)
        wanted[-1] = 48
        made = MultiStepForecaster(WEIGHTS, LEVELS).run(
            fresh(1), np.zeros(n, np.int64), shape[order], local[order], np.full(n, float(HOUR)),
            timestamps, wanted,
        )  # fmt: skip
        hours = (local[-1] // 3600 + np.arange(1, 49)) % 24
        np.testing.assert_allclose(made.median, np.where(hours >= 12, 10.0, 0.0), atol=0.7)


def test_forecasts_move_with_level_and_scale() -> None:
    x = daily(1_500)
    steps = {1_499: 300}
    base = feed(x, steps)
    assert base.period[0] == 24.0
    for scale, shift in ((1.0, 1e5), (1024.0, 0.0), (2.0**-30, 0.0), (3e20, -1e22)):
        moved = feed(scale * x + shift, steps)
        np.testing.assert_allclose((moved.median - shift) / scale, base.median, atol=1e-3)
        np.testing.assert_allclose((moved.quantiles - shift) / scale, base.quantiles, atol=0.05)


@pytest.mark.parametrize("period", [7.0, 24.0, 96.0, 100.0, 1_440.0])
def test_a_found_period_beats_the_last_value(period: float) -> None:
    n = int(max(40 * period, 1_200))
    ahead = int(2 * period)
    x = daily(n + ahead, period, noise=0.2, seed=3)
    made = feed(x[:n], {n - 1: ahead})
    assert abs(made.period[0] - period) <= 0.02 * period
    error = np.mean((made.median - x[n:]) ** 2)
    assert error < 0.5 * np.mean((x[n - 1] - x[n:]) ** 2) + 0.2
    assert error < 1.0


def test_without_a_period_the_last_value_repeats() -> None:
    walk = np.cumsum(np.random.default_rng(1).normal(size=900))
    made = feed(walk, {0: 5, 200: 50, 899: 400})
    assert np.isnan(made.period).all()
    np.testing.assert_array_equal(made.median, np.repeat(walk[[0, 200, 899]], [5, 50, 400]))
    nothing = feed(np.full(3, np.nan), {2: 4})
    assert np.isnan(nothing.median).all()
    assert np.isnan(nothing.quantiles).all()


def test_a_new_period_is_taken_over_with_a_memory() -> None:
    x = np.concatenate((daily(1_500, 24.0, seed=5), daily(3_000, 36.0, seed=6)))
    steps = dict.fromkeys(range(1499, len(x) - 36, 48), 36)
    made = feed(x, steps)
    assert made.period[0] == 24.0
    assert made.period[-1] == 36.0
    begin = int(np.flatnonzero(made.period == 36.0)[0])
    target = np.stack([x[at + 1 : at + 37] for at in list(steps)[begin:]])
    error = np.mean((made.median.reshape(-1, 36)[begin:] - target) ** 2, axis=1)
    assert error[:5].mean() < 1.0


def test_a_constant_stretch_passes() -> None:
    x = daily(2_400)
    x[1_000:1_700] = x[999]
    steps = dict.fromkeys(range(980, 2300, 20), 24)
    made = feed(x, steps, options=ForecastOptions(period=24))
    assert np.isfinite(made.median).all()
    assert np.isfinite(made.quantiles).all()
    flat = feed(
        np.full(800, 4.25), {799: 48}, seconds=MIDNIGHT + 3600.0 * np.arange(800), interval=HOUR
    )
    np.testing.assert_array_equal(flat.median, 4.25)
    assert (flat.quantiles[2] > flat.quantiles[0]).all()
    after = np.flatnonzero(made.at > 2_200)
    target = np.stack([x[at + 1 : at + 25] for at in made.at[after]])
    assert np.mean((made.median.reshape(-1, 24)[after] - target) ** 2) < 0.6


def test_a_lone_glitch_leaves_little() -> None:
    x = daily(1_500)
    glitch = x.copy()
    glitch[1_400] = 1e9
    steps = {1_450: 48}
    options = ForecastOptions(period=24)
    clean, made = feed(x, steps, options=options), feed(glitch, steps, options=options)
    assert np.abs(made.median - clean.median).max() < 30.0
    step = x.copy()
    step[1_400:] += 1e9
    moved = feed(step, {1_401: 1, 1_499: 48}, options=options)
    assert np.isfinite(moved.quantiles).all()
    assert np.abs(moved.median[1:] - 1e9).max() < 5e8


def test_a_lone_huge_reading_does_not_widen_what_follows() -> None:
    x = daily(3_000)
    glitch = x.copy()
    glitch[1_400] = 1e30
    steps = dict.fromkeys(range(1_450, 2_950, 7), 1)
    clean, made = feed(x, steps), feed(glitch, steps)
    width, after = (m.quantiles[2] - m.quantiles[0] for m in (clean, made))
    assert after.mean() < 1.1 * width.mean()
    np.testing.assert_allclose(made.median, clean.median, atol=0.5)


def test_state_is_of_constant_size() -> None:
    assert sum(spec.nbytes for spec in state_layout().values()) <= 32 * 1024


def test_levels_are_checked() -> None:
    with pytest.raises(ValueError, match="levels"):
        MultiStepForecaster(WEIGHTS, (0.5, 1.0))

"""Interval kernels on simulated streams whose forecast errors are known."""

from __future__ import annotations

import math
from statistics import NormalDist

import numba
import numpy as np
import pytest

from titans_stream.forecasting.intervals import kernels
from titans_stream.forecasting.intervals.state import ANCHORS, WAITING, Intervals, state_layout
from titans_stream.forecasting.intervals.widths import (
    FACTORS,
    FACTORS_PER_OCTAVE,
    LEAST_WIDTH,
    NU,
    level_table,
    quantiles,
)
from titans_stream.memory.rows import plain

LEVELS = (0.025, 0.1, 0.9, 0.975)
TABLE = level_table(LEVELS)
UPPER80, UPPER95 = 2, 3
Z80, Z95 = NormalDist().inv_cdf(0.9), NormalDist().inv_cdf(0.975)


def fresh() -> Intervals:
    return Intervals(*(spec.rows(1)[0] for spec in state_layout().values()))


def steps_of(period: float) -> np.ndarray:
    out = np.empty(ANCHORS)
    kernels.anchors(period, out)
    return out


@numba.njit
def feed(state, values, sd, period, medians):
    """medians [T, ANCHORS]: the forecasts at the anchor steps."""
    for t in range(values.shape[0]):
        kernels.observe(state, values[t], sd, period)
        for i in range(ANCHORS):
            if kernels.due(state.meta, i) > 0:
                kernels.remember(state, i, medians[t, i])


@numba.njit
def feed_and_read(state, values, sd, period, medians, table, steps):
    """As `feed`; half widths [T, Q, H] after every reading, for the steps 1 to `steps`."""
    out = np.empty((values.shape[0], table.shape[0], steps))
    zero = np.zeros(steps)
    for t in range(values.shape[0]):
        feed(state, values[t : t + 1], sd, period, medians[t : t + 1])
        quantiles(state, sd, table, zero, out[t])
    return out


def half_widths(state: Intervals, steps: int, sd: float = 1.0) -> np.ndarray:
    out = np.empty((len(LEVELS), steps))
    quantiles(state, sd, TABLE, np.zeros(steps), out)
    return out


def autoregressive(rng: np.random.Generator, length: int, phi: float) -> np.ndarray:
    """Deviation 1."""
    noise = rng.normal(size=length) * math.sqrt(1.0 - phi * phi)
    noise[0] = rng.normal()
    values = np.empty(length)
    level = 0.0
    for t in range(length):
        level = phi * level + noise[t]
        values[t] = level
    return values


def decayed(values: np.ndarray, phi: float, period: float = 0.0) -> np.ndarray:
    """The best forecasts of an AR(1) at the anchor steps."""
    return np.asarray(values[:, None] * phi ** steps_of(period))


def error_deviation(phi: float, steps: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt(1.0 - phi ** (2.0 * steps)))


def test_state_fits() -> None:
    assert sum(spec.nbytes for spec in state_layout().values()) <= 5_000


@pytest.mark.parametrize(
    ("coverage", "freedom", "quantile"),
    [(0.95, 2.0, 4.303), (0.95, 3.0, 3.182), (0.8, 5.0, 1.476), (0.99, 4.0, 4.604),
     (0.95, 30.0, 2.042), (0.5, 3.0, 0.765), (0.998, 10.0, 4.144)],
)  # fmt: skip
def test_factor_is_student_over_normal(coverage: float, freedom: float, quantile: float) -> None:
    z = NormalDist().inv_cdf(0.5 + coverage / 2)
    row = level_table([0.5 + coverage / 2])[0]
    place = FACTORS_PER_OCTAVE * math.log2(freedom - NU + 1.0)
    factor = np.interp(place, np.arange(FACTORS), row["factor"])
    assert factor == pytest.approx(quantile / z, rel=5e-3)
    assert row["coverage"] == pytest.approx(coverage)


def test_levels_outside_are_refused() -> None:
    with pytest.raises(ValueError, match="levels: 1 is not between 0 and 1"):
        level_table([0.5, 1.0])


@pytest.mark.parametrize("period", [0.0, 24.0])
def test_anchors_of_a_day_in_hours(period: float) -> None:
    assert steps_of(period).tolist() == [1, 3, 6, 24, 96, 192, 336, 720]


def test_anchors_scale_with_the_period() -> None:
    assert steps_of(96.0).tolist() == [1, 5, 24, 96, 384, 768, 1344, 2880]
    assert steps_of(1440.0).tolist() == [1, 19, 360, 1440, 5760, 11520, 20160, 43200]
    for period in range(2, 300):
        steps = steps_of(float(period))
        assert (np.diff(steps) > 0).all()
        assert steps[kernels.PERIOD_ANCHOR] % period == 0
        assert steps[-1] >= 30 * 16


@pytest.mark.parametrize("period", [0.0, 7.0, 24.0, 25.0, 96.0, 1440.0])
def test_each_forecast_meets_its_own_reading(period: float) -> None:
    """The series counts up and a forecast is its origin: every error of an anchor is its step."""
    state = fresh()
    steps = steps_of(period)
    length = int(2.5 * min(steps[-1], 3_000))
    values = np.arange(float(length))
    missing = np.random.default_rng(1).random(length) < 0.2
    values[missing] = np.nan
    origins = np.repeat(np.arange(float(length))[:, None], ANCHORS, axis=1)
    feed(state, values, 1_000.0, period, origins)
    for i, step in enumerate(steps):
        if step > length:
            assert state.histograms[i].sum() == 0.0
            continue
        # The unit moves while it is learned; its last move was by whole bins.
        used = np.flatnonzero(state.histograms[i] > 0.3 * state.histograms[i].sum())
        unit = np.empty(ANCHORS)
        kernels.log_units(state.meta, 1_000.0, unit)
        centre = 2.0 ** (kernels.BIN_ORIGIN + (used + 0.5) / kernels.BINS_PER_OCTAVE + unit[i])
        assert np.abs(np.log2(centre / step)).min() < 0.3


def test_kept_origins_meet_every_phase() -> None:
    for period in (24, 25, 60, 96, 168, 288, 1440):
        state = fresh()
        kernels.observe(state, 0.0, 1.0, float(period))
        strides = state.meta["stride"].astype(int)
        for step, stride in zip(steps_of(float(period)).astype(int), strides, strict=True):
            assert math.gcd(stride, period) == 1
            assert -(-step // stride) <= WAITING


@pytest.mark.parametrize("phi", [0.0, 0.6, 0.95])
def test_widths_of_an_autoregression(phi: float) -> None:
    """The widths are the known quantiles of the error, at anchors and between them."""
    widths = []
    for seed in range(12):
        values = autoregressive(np.random.default_rng(seed), 8_000, phi)
        state = fresh()
        feed(state, values, 1.0, 0.0, decayed(values, phi))
        widths.append(half_widths(state, 96))
    mean = np.mean(widths, axis=0)
    true = error_deviation(phi, np.arange(1.0, 97.0))
    np.testing.assert_allclose(mean[UPPER80], Z80 * true, rtol=0.08)
    np.testing.assert_allclose(mean[UPPER95], Z95 * true, rtol=0.1)
    np.testing.assert_allclose(mean[0], -mean[UPPER95])


def test_widths_of_a_random_walk() -> None:
    """They grow with the root of the step, also where the period's worth of steps is long past."""
    logs = []
    for seed in range(12):
        values = np.cumsum(np.random.default_rng(seed).normal(size=20_000))
        state = fresh()
        feed(state, values, 30.0, 0.0, np.repeat(values[:, None], ANCHORS, axis=1))
        logs.append(np.log(half_widths(state, 336, 30.0)[[UPPER80, UPPER95]]))
    mean80, mean95 = np.exp(np.mean(logs, axis=0))
    steps = np.arange(1, 337)
    true = np.sqrt(steps)
    np.testing.assert_allclose(mean80[:24], Z80 * true[:24], rtol=0.1)
    np.testing.assert_allclose(mean80, Z80 * true, rtol=0.3)
    np.testing.assert_allclose(mean95, Z95 * true, rtol=0.35)


def seasonal(rng: np.random.Generator, length: int, period: int, noise: float) -> tuple:
    """Values and the best forecasts of a sine with AR(1) noise."""
    t = np.arange(length)
    course = 5.0 + 2.0 * np.sin(2 * np.pi * t / period)
    errors = noise * autoregressive(rng, length, 0.7)
    steps = steps_of(float(period))
    ahead = 5.0 + 2.0 * np.sin(2 * np.pi * (t[:, None] + steps) / period)
    return course + errors, ahead + errors[:, None] * 0.7**steps


def test_coverage_of_a_seasonal_stream_online() -> None:
    """Share of readings inside intervals that were made before them, day and week ahead."""
    inside = {}
    for seed in range(6):
        values, medians = seasonal(np.random.default_rng(seed), 4_000, 24, 0.5)
        widths = feed_and_read(fresh(), values, 1.5, 24.0, medians, TABLE, 96)
        for i, step in enumerate(steps_of(24.0)[:5].astype(int)):
            errors = np.abs(values[step:] - medians[:-step, i])[1_500:]
            for q in (UPPER80, UPPER95):
                within = errors <= widths[:-step, q, step - 1][1_500:]
                inside.setdefault((step, q), []).append(within.mean())
    for (step, q), shares in inside.items():
        wanted = 0.8 if q == UPPER80 else 0.95
        assert abs(np.mean(shares) - wanted) < (0.02 if step <= 24 else 0.04), (step, q)


def test_other_levels_and_heavy_tails() -> None:
    levels = (0.005, 0.25, 0.5, 0.75, 0.995)
    table = level_table(levels)
    rng = np.random.default_rng(3)
    inside = []
    for _ in range(4):
        values = rng.standard_t(3.0, size=6_000)
        state = fresh()
        zeros = np.zeros((6_000, ANCHORS))
        feed(state, values, 1.7, 0.0, zeros)
        out = np.empty((len(levels), 24))
        quantiles(state, 1.7, table, np.full(24, 10.0), out)
        assert (np.diff(out, axis=0) > 0).all()
        assert (out[2] == 10.0).all()
        fresh_values = rng.standard_t(3.0, size=20_000)
        inside.append([(fresh_values[:, None] <= out[q] - 10.0).mean() for q in (1, 3, 4)])
    np.testing.assert_allclose(np.mean(inside, axis=0), [0.25, 0.75, 0.995], atol=0.015)


def test_cold_start_covers_more_rather_than_less() -> None:
    """At reading 50: the true coverage of the intervals, averaged over series."""
    normal = NormalDist()
    steps = np.arange(1.0, 97.0)
    for phi in (0.0, 0.9):
        true = error_deviation(phi, steps)
        cover = []
        for seed in range(60):
            values = autoregressive(np.random.default_rng(seed), 50, phi)
            state = fresh()
            feed(state, values, float(values.std()), 0.0, decayed(values, phi))
            widths = half_widths(state, 96, float(values.std()))
            assert np.isfinite(widths).all()
            z = widths[UPPER80:] / true
            cover.append([[2.0 * normal.cdf(v) - 1.0 for v in row] for row in z])
        mean = np.mean(cover, axis=0)
        assert (mean[0] > 0.79).all()
        assert (mean[1] > 0.93).all()
        assert mean[0][23:].min() > 0.8
        assert mean[1][23:].min() > 0.95


def test_widths_follow_the_spread_of_the_errors() -> None:
    """Three times the noise: the width has followed within ten periods, and comes back."""
    rng = np.random.default_rng(5)
    scale = np.where((np.arange(6_000) // 1_500) % 2 == 1, 3.0, 1.0)
    values = scale * rng.normal(size=6_000)
    widths = feed_and_read(fresh(), values, 2.0, 0.0, np.zeros((6_000, 8)), TABLE, 24)
    calm, wild = widths[1_499, UPPER80], widths[1_740, UPPER80]
    assert (wild / calm > 2.0).all()
    assert (widths[3_400, UPPER80] / wild < 0.6).all()


@pytest.mark.parametrize("period", [0.0, 24.0])
def test_recovers_after_a_constant_stretch(period: float) -> None:
    """3,000 equal readings: afterwards the band is at its old width at once."""
    shares = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        values = rng.normal(size=7_000)
        values[3_000:6_000] = values[2_999]
        medians = np.zeros((7_000, ANCHORS))
        widths = feed_and_read(fresh(), values, 1.0, period, medians, TABLE, 24)
        assert np.isfinite(widths).all()
        assert (widths[:, UPPER80] > 0.0).all()
        after = np.abs(values[6_020:6_120, None]) <= widths[6_019:6_119, UPPER80]
        shares.append(after.mean(axis=0))
        assert (widths[6_100, UPPER80] > 0.7 * widths[2_900, UPPER80]).all()
        assert (widths[6_100, UPPER80] < 2.0 * widths[2_900, UPPER80]).all()
    assert np.mean(shares, axis=0).min() > 0.77


def test_a_constant_series_has_narrow_but_open_intervals() -> None:
    state = fresh()
    feed(state, np.full(500, 7.0), 1e-9, 0.0, np.full((500, ANCHORS), 7.0))
    widths = half_widths(state, 720, 1e-9)
    assert np.isfinite(widths).all()
    assert (widths[UPPER80] >= LEAST_WIDTH * 1e-9).all()
    # Its first change sets off the learning; what was before counts for nothing.
    values = np.random.default_rng(0).normal(size=400)
    feed(state, values, 1.0, 0.0, np.zeros((400, ANCHORS)))
    ratio = half_widths(state, 6)[UPPER80] / Z80
    assert ((ratio > 0.8) & (ratio < 1.3)).all()


def test_a_lone_outlier_does_not_blind() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(size=3_000)
    zeros = np.zeros((3_000, ANCHORS))
    clean = feed_and_read(fresh(), values, 1.0, 0.0, zeros, TABLE, 192)
    values[2_000] = 1e30
    spoilt = feed_and_read(fresh(), values, 1.0, 0.0, zeros, TABLE, 192)
    ratio = spoilt[2_000:, UPPER80] / clean[2_000:, UPPER80]
    assert ratio.max() < 1.6
    assert ratio[100:].max() < 1.15


def test_a_lasting_change_of_scale_is_followed() -> None:
    rng = np.random.default_rng(4)
    values = rng.normal(size=4_000)
    values[2_000:] *= 200.0
    widths = feed_and_read(fresh(), values, 1.0, 0.0, np.zeros((4_000, 8)), TABLE, 24)
    assert (widths[2_400, UPPER80] > 60.0).all()


def test_a_new_period_keeps_the_widths() -> None:
    """They stay when the anchors move, and are learned anew within some periods."""
    values, medians = seasonal(np.random.default_rng(6), 6_000, 96, 0.5)
    state = fresh()
    repeat = np.repeat(values[:, None], ANCHORS, axis=1)
    feed(state, values[:1_500], 1.5, 0.0, repeat)
    before = half_widths(state, 96, 1.5)[UPPER80]
    feed(state, values[1_500:1_501], 1.5, 96.0, medians[1_500:])
    after = half_widths(state, 96, 1.5)[UPPER80]
    assert state.meta["step"].tolist() == steps_of(96.0).tolist()
    np.testing.assert_allclose(after[[0, 4, 23]], before[[0, 4, 23]], rtol=0.35)
    feed(state, values[1_501:], 1.5, 96.0, medians[1_501:])
    true = 0.5 * error_deviation(0.7, np.arange(1.0, 97.0))
    np.testing.assert_allclose(half_widths(state, 96, 1.5)[UPPER80], Z80 * true, rtol=0.2)


def same(a: Intervals, b: Intervals) -> None:
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(plain(np.asarray(one)), plain(np.asarray(other)))


def test_splitting_changes_nothing() -> None:
    values, medians = seasonal(np.random.default_rng(7), 1_000, 24, 0.5)
    whole, parts = fresh(), fresh()
    feed(whole, values, 1.0, 24.0, medians)
    for first in range(0, 1_000, 77):
        part = slice(first, first + 77)
        feed(parts, values[part], 1.0, 24.0, medians[part])
    same(whole, parts)


@pytest.mark.parametrize("gap", [1, 7, 40, 5_000])
def test_skipping_is_missing_readings(gap: int) -> None:
    values, medians = seasonal(np.random.default_rng(8), 2_000, 24, 0.5)
    skipped, missing = fresh(), fresh()
    for state in (skipped, missing):
        feed(state, values[:1_000], 1.0, 24.0, medians[:1_000])
    kernels.skip(skipped, gap)
    nothing = np.full((gap, ANCHORS), np.nan)
    feed(missing, nothing[:, 0].copy(), 1.0, 24.0, nothing)
    assert skipped.meta["clock"] == 1_000 + gap
    for state in (skipped, missing):
        feed(state, values[1_000:], 1.0, 24.0, medians[1_000:])
    same(skipped, missing)


def test_values_that_are_no_numbers_are_missing() -> None:
    values, medians = seasonal(np.random.default_rng(9), 1_500, 24, 0.5)
    odd, missing = values.copy(), values.copy()
    odd[700:703] = (np.inf, -np.inf, np.nan)
    missing[700:703] = np.nan
    a, b = fresh(), fresh()
    feed(a, odd, 1.0, 24.0, medians)
    feed(b, missing, 1.0, 24.0, medians)
    same(a, b)
    assert np.isfinite(half_widths(a, 720)).all()


def test_lines_between_anchors_follow_powers() -> None:
    values, medians = seasonal(np.random.default_rng(10), 5_000, 24, 0.5)
    state = fresh()
    feed(state, values, 1.5, 24.0, medians)
    widths = half_widths(state, 1_000, 1.5)[UPPER95]
    steps = steps_of(24.0)
    at = widths[steps.astype(int) - 1]
    inner = np.arange(1.0, 721.0)
    power = np.exp(np.interp(np.log(inner), np.log(steps), np.log(at)))
    np.testing.assert_allclose(widths[:720], power, rtol=0.01)
    beyond = widths[719] * (np.arange(721.0, 1_001.0) / 720.0) ** kernels.GROWTH
    np.testing.assert_allclose(widths[720:], beyond, rtol=0.01)
    # A shorter forecast is the beginning of a longer one.
    np.testing.assert_allclose(half_widths(state, 30, 1.5)[UPPER95], widths[:30], rtol=1e-12)

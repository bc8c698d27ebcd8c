"""Forecasts of the engine: which are made, what is in them, and the invariants with them on."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engine.streams import MODEL, Stream, engine, make_stream, run, same_scores
from titans_stream.engine.forecasts import forecast_state
from titans_stream.engine.model import make_model
from titans_stream.forecasting.multi.forecaster import MultiStepForecaster, state_layout
from titans_stream.forecasting.settings import ForecastConfig
from titans_stream.records import Forecast, Readings, Results
from titans_stream.times import parse_timestamp

FORECAST: dict[str, Any] = {"steps": 30, "every": 37, "quantiles": [0.1, 0.9]}
HOUR = 3_600_000_000_000
START = parse_timestamp("2026-03-01T00:00:00Z")
relaxed = settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
seeds = st.integers(0, 10_000)


def wave(n: int, seed: int = 0) -> np.ndarray:
    t = np.arange(n)
    noise = np.random.default_rng(seed).standard_normal(n)
    daily: np.ndarray = 20 + 5 * np.sin(2 * np.pi * t / 24) + 0.5 * noise
    return daily


def hourly(values: np.ndarray, times: np.ndarray | None = None, name: str = "a") -> Stream:
    n = len(values)
    return Stream(
        [name] * n,
        START + HOUR * np.arange(n) if times is None else times,
        values,
        np.zeros(n, np.int32),
        np.arange(n) + 1_000,
    )


def of(results: Results, series: str) -> list[Forecast]:
    return [forecast for forecast in results.forecasts if forecast.series_id == series]


def numbers(forecast: Forecast) -> np.ndarray:
    return np.array([forecast.median, *forecast.quantiles.values()])


# ---------------------------------------------------------------- what is in them


def test_times_source_and_levels() -> None:
    stream = hourly(wave(200))
    found = run(engine(forecast=FORECAST), stream, []).forecasts
    assert [forecast.source.offset for forecast in found] == [1049, 1086, 1123, 1160, 1197]
    for forecast in found:
        at = forecast.source.offset - 1_000
        origin = int(stream.timestamp[at])
        assert parse_timestamp(forecast.origin) == origin
        ahead = [parse_timestamp(text) - origin for text in forecast.timestamps]
        assert ahead == [HOUR * (step + 1) for step in range(30)]
        assert list(forecast.quantiles) == ["0.1", "0.9"]
        low, high = forecast.quantiles.values()
        assert np.isfinite(numbers(forecast)).all()
        assert (np.array(low) < forecast.median).all()
        assert (np.array(high) > forecast.median).all()
        assert (forecast.series_id, forecast.model) == ("a", MODEL.ref)
        assert (forecast.source.topic, forecast.source.partition) == ("input", 0)
        assert type(forecast.median[0]) is float


def test_they_are_what_the_forecaster_says_of_the_series_alone() -> None:
    """Local time, interval, missing values and steps reach the forecaster as they should."""
    values = wave(400)
    values[[70, 71, 200, 300]] = np.nan
    values[250] = np.inf
    times = START + HOUR * np.arange(400)
    times[320:] += 5 * HOUR
    config = ForecastConfig.model_validate(FORECAST)
    stream = hourly(values, times)
    one = engine(forecast=FORECAST, settings={"timezone": "Asia/Kolkata"})
    found = run(one, stream, [100, 250, 251, 300]).forecasts
    steps = np.zeros(400, np.int64)
    steps[[forecast.source.offset - 1_000 for forecast in found]] = 30
    arrays = {name: np.zeros((1, *spec.shape), spec.dtype) for name, spec in state_layout().items()}
    interval = np.full(400, float(HOUR))
    interval[0] = np.nan
    expected = MultiStepForecaster(MODEL.weights, config.quantiles).run(
        arrays, np.zeros(400, np.int64), np.where(np.isfinite(values), values, np.nan),
        times / 1e9 + 5.5 * 3600, interval, times, steps,
    )  # fmt: skip
    assert len(found) == len(expected.at) > 8
    for i, (first, last) in enumerate(pairwise(expected.first.tolist())):
        both = np.vstack([expected.median[first:last], expected.quantiles[:, first:last]])
        np.testing.assert_array_equal(numbers(found[i]), both)
        period = expected.period[i]
        assert found[i].period == (None if math.isnan(period) else period)


def test_a_day_of_the_calendar_is_forecast_as_a_sunday() -> None:
    """2026-05-14 is a Thursday; what was forecast on the Wednesday is looked at."""
    times = START + HOUR * np.arange(24 * 75)
    days = (times - START) // (24 * HOUR)  # START is a Sunday
    values = 20.0 + 80.0 * (days % 7 != 0) * (times // HOUR % 24 >= 8) + 0.1 * wave(len(times))
    stream = hourly(values, times)
    special = {"calendar": {"days": {"inventory": ["2026-05-14"]}}}
    day, found = slice(22, 46), {}
    for name, settings_ in (("ordinary", {}), ("special", special)):
        made = run(engine(forecast={"steps": 48, "every": 24}, settings=settings_), stream, [])
        (last,) = [one for one in made.forecasts if one.origin == "2026-05-13T01:00:00Z"]
        found[name] = last.median
    assert max(found["special"][day]) < 40.0 < 90.0 < max(found["ordinary"][day])
    assert found["special"][:22] == found["ordinary"][:22]


def test_a_horizon_has_as_many_steps_as_the_series_needs() -> None:
    fast = hourly(wave(120), START + 900 * 10**9 * np.arange(120), "fast")
    both = Stream.interleave(hourly(wave(120), name="slow"), fast)
    found = run(engine(forecast={"horizon": "1d", "quantiles": []}), both, [])
    assert {len(forecast.timestamps) for forecast in of(found, "slow")} == {24}
    assert {len(forecast.timestamps) for forecast in of(found, "fast")} == {96}
    assert {frozenset(forecast.quantiles) for forecast in found.forecasts} == {frozenset()}
    assert of(found, "fast")[0].timestamps[-1] == "2026-03-02T12:15:00Z"
    expected = engine(forecast={"horizon": "1d"}, settings={"expected_interval": "2h"})
    assert {len(f.timestamps) for f in run(expected, fast, []).forecasts} == {12}


def test_without_forecast_there_are_none_and_no_state_for_them() -> None:
    stream = make_stream(4, series=3, readings=900)
    off, on = engine(), engine(forecast=FORECAST)
    without, with_ = run(off, stream, []), run(on, stream, [])
    assert without.forecasts == []
    assert with_.forecasts != []
    same_scores(without, with_)
    assert without.alerts == with_.alerts
    more = {name: spec.nbytes for name, spec in forecast_state().items()}
    assert on.state_bytes - off.state_bytes == sum(more.values()) <= 32 * 1024
    saved = off.snapshot(0).arrays
    assert set(on.snapshot(0).arrays) == set(saved) | set(more)


def test_duplicates_and_late_readings_are_not_there() -> None:
    clean = hourly(wave(300))
    at = np.arange(300)
    order = np.argsort(np.concatenate([at, at[::3] + 0.1, at[90::7] + 0.2]), kind="stable")
    mixed = clean.where(np.concatenate([at, at[::3], at[90::7] - 40])[order])
    expected = run(engine(forecast=FORECAST), clean, []).forecasts
    assert run(engine(forecast=FORECAST), mixed, []).forecasts == expected


def test_a_series_that_was_silent_for_too_long_starts_anew() -> None:
    times = START + HOUR * np.arange(300)
    times[150:] += 40 * 24 * HOUR
    one = engine(forecast=FORECAST, settings={"expire_after": "30d"})
    found = run(one, hourly(wave(300), times), []).forecasts
    offsets = [forecast.source.offset - 1_000 for forecast in found]
    assert offsets == [49, 86, 123, 199, 236, 273]
    again = engine(forecast=FORECAST)
    anew = run(again, hourly(wave(300), times).slice(150, 300), []).forecasts
    assert [numbers(f).tolist() for f in found[3:]] == [numbers(f).tolist() for f in anew]


def test_channels_of_a_group_are_forecast_one_by_one() -> None:
    stream = make_stream(8, series=3, readings=900)
    readings = stream.readings()
    grouped = engine(forecast=FORECAST).process(
        dataclasses.replace(readings, group=["asset"] * len(stream))
    )
    alone = engine(forecast=FORECAST).process(readings)
    assert grouped.groups is not None
    assert grouped.forecasts == alone.forecasts
    assert {f.series_id for f in grouped.forecasts} == {"s0", "s1", "s2"}


@pytest.mark.parametrize("kind", ["constant", "huge", "tiny", "steps back", "late nineties"])
def test_odd_series_have_finite_forecasts(kind: str) -> None:
    values, times = wave(400), START + HOUR * np.arange(400)
    if kind == "constant":
        values[:] = 3.0
    elif kind in ("huge", "tiny"):
        values *= 1e300 if kind == "huge" else 1e-300
        values[100::50] *= -1.0
    elif kind == "steps back":
        times[200:] -= 150 * HOUR
    else:
        times = times - 30 * 365 * 24 * HOUR
        values[57] = 1e9
    follow = {"clock_reset": "after 20"}
    found = run(engine(forecast=FORECAST, settings=follow), hourly(values, times), []).forecasts
    assert len(found) >= 9
    for forecast in found:
        assert np.isfinite(numbers(forecast)).all(), (kind, forecast.source.offset)


# ---------------------------------------------------------------- invariants


@relaxed
@given(seed=seeds, bound=st.sampled_from([0, 30]))
def test_grouping_into_calls_changes_nothing(seed: int, bound: int) -> None:
    stream = make_stream(seed, series=4, readings=2400, shuffle=bound > 0)
    cuts = np.sort(np.random.default_rng(seed).integers(0, 2401, 25)).tolist()
    whole = run(engine(bound=bound, forecast=FORECAST), stream, [])
    parts = run(engine(bound=bound, forecast=FORECAST), stream, cuts)
    assert whole.forecasts == parts.forecasts
    assert len(whole.forecasts) >= 4 * (500 // 37)
    same_scores(whole, parts)


@relaxed
@given(seed=seeds, at=st.integers(900, 2300))
def test_a_forecast_depends_on_the_past_only(seed: int, at: int) -> None:
    stream = make_stream(seed, series=3, readings=2400)
    changed = stream.with_values(at, stream.value[at:] * -3.0 + 17.0)
    before = run(engine(forecast=FORECAST), stream, []).forecasts
    after = run(engine(forecast=FORECAST), changed, []).forecasts
    early = [forecast for forecast in before if forecast.source.offset < at]
    assert len(early) > 10
    assert after[: len(early)] == early
    assert after != before


@relaxed
@given(seed=seeds)
def test_other_series_and_their_garbage_do_not_matter(seed: int) -> None:
    stream = make_stream(seed, series=4, readings=2400)
    mine = np.array([name == "s0" for name in stream.series])
    noisy = stream.value.copy()
    odd = [np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324, 0.0]
    garbage = np.random.default_rng(seed).choice(odd, len(stream))
    noisy[~mine] = garbage[~mine]
    clean = of(run(engine(forecast=FORECAST), stream, []), "s0")
    dirty = run(engine(forecast=FORECAST), stream.with_values(0, noisy), [])
    alone = run(engine(forecast=FORECAST), stream.where(mine), []).forecasts
    assert clean == of(dirty, "s0") == alone
    assert len(clean) > 10
    assert all(np.isfinite(numbers(forecast)).all() for forecast in dirty.forecasts)


@relaxed
@given(seed=seeds, at=st.integers(50, 2350), bound=st.sampled_from([0, 30]))
def test_snapshot_and_replay_equal_never_stopped(seed: int, at: int, bound: int) -> None:
    stream = make_stream(seed, series=4, readings=2400, shuffle=bound > 0)
    never = engine(bound=bound, forecast=FORECAST)
    run(never, stream.slice(0, at), [])
    saved = never.snapshot(0)
    rest = run(never, stream.slice(at, len(stream)), [])
    restarted = engine(bound=bound, forecast=FORECAST)
    restarted.restore(0, saved)
    again = run(restarted, stream.slice(at, len(stream)), [3, 10, 11])
    assert rest.forecasts == again.forecasts
    final, replayed = never.snapshot(0), restarted.snapshot(0)
    for name, array in final.arrays.items():
        np.testing.assert_array_equal(array, replayed.arrays[name], err_msg=name)


@pytest.mark.parametrize("slots", [2, 5])
def test_spilling_and_freed_rows_change_nothing(slots: int) -> None:
    stream = make_stream(slots, series=7, readings=1400)
    roomy, tight = engine(forecast=FORECAST), engine(slots=slots, forecast=FORECAST)
    expected = run(roomy, stream, []).forecasts
    assert len(expected) >= 7 * 4
    assert run(tight, stream, []).forecasts == expected
    tight.release(0)
    assert run(tight, stream, []).forecasts == expected


# ---------------------------------------------------------------- state and its schema


def test_how_far_and_how_often_do_not_touch_what_is_learned() -> None:
    stream = hourly(wave(900))
    one = engine(forecast=FORECAST)
    other = engine(forecast={"horizon": "3d", "every": 5, "quantiles": [0.25]})
    assert one.state_schema == other.state_schema
    run(one, stream.slice(0, 600), [])
    other.restore(0, one.snapshot(0))
    rest = run(other, stream.slice(600, 900), []).forecasts
    often = engine(forecast={"horizon": "3d", "every": 1, "quantiles": [0.25]})
    expected = {f.source.offset: numbers(f) for f in run(often, stream, []).forecasts}
    assert len(rest) == 60
    for forecast in rest:
        np.testing.assert_array_equal(numbers(forecast), expected[forecast.source.offset])


def test_switching_on_and_off_keeps_the_other_memories() -> None:
    stream = Stream.interleave(hourly(wave(900)), hourly(wave(900, 1), name="b"))
    off, on = engine(), engine(forecast=FORECAST)
    assert on.state_schema.startswith(off.state_schema + "+forecasts/")
    run(off, stream.slice(0, 900), [])
    saved = off.snapshot(0)
    expected = run(off, stream.slice(900, 1800), [])
    on.restore(0, saved)
    switched = run(on, stream.slice(900, 1800), [])
    same_scores(expected, switched)
    fresh = run(engine(forecast=FORECAST), stream.slice(900, 1800), [])
    assert [numbers(f).tolist() for f in switched.forecasts] == [
        numbers(f).tolist() for f in fresh.forecasts
    ]
    back = engine()
    back.restore(0, on.snapshot(0))
    assert set(back.snapshot(0).arrays) == set(saved.arrays)
    twin = back.snapshot(0)
    for name, array in off.snapshot(0).arrays.items():
        np.testing.assert_array_equal(array, twin.arrays[name], err_msg=name)


def test_other_weights_start_anew_only_what_they_weigh() -> None:
    heads = {n: w for n, w in MODEL.weights.items() if n.startswith("forecast.head.")}
    name = min(heads)
    changed = make_model(MODEL.ref, {**MODEL.weights, name: heads[name] + 0.01})
    off, off_changed = engine(), engine(model=changed)
    assert off.state_schema == off_changed.state_schema
    on, on_changed = engine(forecast=FORECAST), engine(forecast=FORECAST, model=changed)
    assert on.state_schema != on_changed.state_schema
    stream = make_stream(6, series=2, readings=1200)
    run(on, stream.slice(0, 600), [])
    on_changed.restore(0, on.snapshot(0))
    left = run(on, stream.slice(600, 1200), [])
    right = run(on_changed, stream.slice(600, 1200), [])
    same_scores(left, right)
    assert next(f.source.offset for f in right.forecasts) >= 700, "begun anew"
    key = "forecast.key_bias"
    detecting = make_model(MODEL.ref, {**MODEL.weights, key: MODEL.weights[key] + 0.01})
    with pytest.raises(ValueError, match="schema"):
        engine(forecast=FORECAST, model=detecting).restore(0, on.snapshot(0))


def test_a_damaged_forecast_state_is_refused() -> None:
    one = engine(forecast=FORECAST)
    run(one, make_stream(1, series=1, readings=300), [])
    saved = one.snapshot(0)
    del saved.arrays["forecast_turn"]
    target = engine(forecast=FORECAST)
    with pytest.raises(ValueError, match="forecast_turn"):
        target.restore(0, saved)
    assert target.series_count() == 0


def test_nothing_is_forecast_of_nothing() -> None:
    one = engine(forecast=FORECAST)
    empty = Readings([], *(np.array([], kind) for kind in (np.int64, float, np.int32, np.int64)))
    assert one.process(empty).forecasts == []
    assert run(one, hourly(np.full(200, np.nan)), []).forecasts == []

"""The period found from the stream: what is found, what is not, and how it is kept."""

from __future__ import annotations

import csv
import gzip
import itertools
from pathlib import Path

import numpy as np
import pytest

from titans_stream.forecasting.period.evidence import fold
from titans_stream.forecasting.period.finder import observe
from titans_stream.forecasting.period.state import Finder, state_layout, workspace
from titans_stream.forecasting.period.structure import accumulate, prepare, refine, structure
from titans_stream.jit import njit

NO_HINTS = (np.nan, np.nan)


@njit()
def _read(
    finders: Finder,
    values: np.ndarray,
    day: float,
    week: float,
    space: np.ndarray,
    out: np.ndarray,
) -> None:
    finder = Finder(finders.fine[0], finders.middle[0], finders.coarse[0], finders.meta[0])
    meta = finder.meta
    for i in range(values.shape[0]):
        changed = observe(finder, values[i], day, week, space[0])
        out[i, 0], out[i, 1], out[i, 2] = meta.period, meta.second, changed


def fresh() -> Finder:
    """The state of one series, as arrays of one slot."""
    return Finder(*(spec.rows(1) for spec in state_layout().values()))


def read(
    values: np.ndarray, hints: tuple[float, float] = NO_HINTS, state: Finder | None = None
) -> np.ndarray:
    """[T] -> [T, 3]: PERIOD, SECOND and whether they changed, after each reading."""
    out = np.zeros((len(values), 3))
    _read(fresh() if state is None else state, values.astype(float), *hints, workspace(), out)
    return out


def daily(length: int, p: float, seed: int = 0, noise: float = 0.5) -> np.ndarray:
    t = np.arange(length)
    course = np.sin(2 * np.pi * t / p) + 0.6 * np.sin(4 * np.pi * t / p + 1.0)
    return course + noise * np.random.default_rng(seed).normal(size=length)


def walk(length: int, seed: int) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).normal(size=length))


def autoregressive(length: int, seed: int, phi: float) -> np.ndarray:
    steps = np.random.default_rng(seed).normal(size=length)
    values = np.empty(length)
    last = steps[0] / np.sqrt(1.0 - phi * phi)
    for i, step in enumerate(steps):
        last = phi * last + step
        values[i] = last
    return values


def test_state_stays_within_its_bytes() -> None:
    assert sum(spec.nbytes for spec in state_layout().values()) == 9_344


@pytest.mark.parametrize("p", [7, 12, 24, 37, 60, 96, 144, 288, 720, 1440])
def test_a_period_is_found_by_its_sixth_cycle_and_kept(p: int) -> None:
    first = max(6 * p, 200)
    found = read(daily(first + 4 * p + 600, p))
    np.testing.assert_array_equal(found[first:, 0], float(p))
    assert set(found[:, 0]) <= {0.0, float(p), p / 2.0}


def test_the_calendar_shortens_the_wait_and_gives_the_exact_length() -> None:
    values = daily(1_000, 24.0, noise=1.5)
    plain, hinted = read(values), read(values, (24.0, 168.0))
    assert np.argmax(hinted[:, 0] == 24.0) < np.argmax(plain[:, 0] == 24.0)
    uneven = 86_400.0 / 420.0
    found = read(daily(3_000, uneven), (uneven, 7 * uneven))
    assert found[-1, 0] == uneven
    assert read(daily(3_000, 24.0), (24.003, 168.02))[-1, 0] == 24.0


def test_a_fractional_period_is_not_rounded_where_that_costs() -> None:
    found = read(daily(6_000, 37.4, noise=0.2))
    assert abs(found[-1, 0] - 37.4) < 0.1
    assert found[-1, 0] != round(found[-1, 0])


@pytest.mark.parametrize("hints", [NO_HINTS, (24.0, 168.0)])
def test_day_and_week(hints: tuple[float, float]) -> None:
    t = np.arange(4_000)
    values = daily(4_000, 24.0, noise=0.3) + (t // 24 % 7 < 5)
    found = read(values, hints)
    np.testing.assert_array_equal(found[2_000:, :2], [[24.0, 168.0]] * 2_000)


def test_a_second_cycle_in_no_step_with_the_first() -> None:
    t = np.arange(6_000)
    found = read(daily(6_000, 96.0, noise=0.3) + 0.7 * np.sin(2 * np.pi * t / 35.0))
    assert found[-1, 0] == 96.0
    assert abs(found[-1, 1] - 35.0) < 0.1


@pytest.mark.parametrize(
    "name", ["walk", "ar .99", "ar .9", "white", "constant", "ramp", "steps", "missing"]
)
def test_none_where_there_is_none(name: str) -> None:
    for seed in range(8):
        noise = np.random.default_rng(seed).normal(size=12_000)
        values = {
            "walk": walk(12_000, seed),
            "ar .99": autoregressive(12_000, seed, 0.99),
            "ar .9": autoregressive(12_000, seed, 0.9),
            "white": noise,
            "constant": np.full(12_000, 3.3 + seed),
            "ramp": 0.1 * (seed + 1) * np.arange(12_000) + noise * (seed % 2),
            "steps": np.repeat(noise[:120], 100),
            "missing": np.full(12_000, np.nan),
        }[name]
        assert not read(values)[:, :2].any(), seed


def test_a_wrong_hint_is_seldom_taken() -> None:
    share = np.mean([read(walk(12_000, s), (24.0, 168.0))[:, 0] > 0 for s in range(12)])
    assert share < 0.03


def test_a_period_that_ends_is_dropped_and_a_new_one_taken() -> None:
    values = np.concatenate([daily(2_000, 24.0), walk(2_500, 1), daily(2_500, 60.0, seed=2)])
    found = read(values)
    assert found[1_999, 0] == 24.0
    assert found[4_499, 0] == 0.0
    assert found[-1, 0] == 60.0


def test_a_stuck_sensor_or_an_outage_keeps_the_period() -> None:
    for gap in (np.full(3_000, 0.5), np.full(3_000, np.nan)):
        found = read(np.concatenate([daily(2_000, 24.0), gap, daily(1_500, 24.0)]))
        np.testing.assert_array_equal(found[1_000:5_000, 0], 24.0)
        assert found[-1, 0] == 24.0


def test_missing_readings_outliers_and_huge_levels_do_not_hide_it() -> None:
    rng = np.random.default_rng(3)
    clean = daily(3_000, 24.0)
    gappy = np.where(rng.random(3_000) < 0.3, np.nan, clean)
    gappy[500:700] = np.nan
    spiky = np.where(rng.random(3_000) < 0.02, 1e6, clean)
    spiky[[100, 900]] = np.inf
    far = np.where(np.arange(3_000) < 50, 0.0, 1e9 + clean)
    for values in (gappy, spiky, far, 1e12 * clean, 1e-12 * clean, 1e300 * clean):
        assert read(values)[-1, 0] == 24.0


def test_changes_are_told() -> None:
    found = read(np.concatenate([daily(1_500, 24.0), walk(3_000, 5)]))
    told = np.flatnonzero(found[:, 2])
    moved = np.flatnonzero(np.abs(np.diff(found[:, :2], axis=0)).sum(1)) + 1
    np.testing.assert_array_equal(told, moved)
    assert len(told) >= 2


def test_the_split_of_calls_changes_no_bit() -> None:
    values = np.concatenate([daily(1_500, 24.0), walk(2_000, 7), daily(1_500, 60.0)])
    whole, parts = fresh(), fresh()
    found = read(values, state=whole)
    cuts = [0, 1, 2, 47, 48, 96, 500, 501, 3_333, len(values)]
    pieces = [read(values[a:b], state=parts) for a, b in itertools.pairwise(cuts)]
    np.testing.assert_array_equal(np.concatenate(pieces), found)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, other)


def test_checks_of_series_that_start_together_fall_on_different_readings() -> None:
    places = set()
    for seed in range(20):
        state = fresh()
        read(walk(700, seed), state=state)
        places.add(int(state.meta["next_check"][0]))
    assert len(places) > 10


def test_checks_become_rarer_once_nothing_changes() -> None:
    state = fresh()
    read(daily(2_000, 24.0), state=state)
    before = state.meta["checks"][0]
    read(daily(3_840, 24.0), state=state)
    assert state.meta["checks"][0] - before <= 11


@pytest.mark.parametrize("length", [616, 617, 618, 1_024])
def test_a_cycle_shows_whatever_the_length_of_the_ring(length: int) -> None:
    """Also where the stride of the sample divides it."""
    assert prepare(np.sin(np.arange(length) * 2 * np.pi / 24).astype(np.float32) + 5, length)


def test_structure_function_equals_its_definition() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=300).astype(np.float32)
    x[[5, 6, 90, 200]] = np.nan
    (space,) = workspace()
    D = space["structure"]
    assert structure(x, 300, False, space) == 150
    for lag in (1, 2, 17, 150):
        expected = np.nanmean((x[lag:] - x[:-lag]).astype(float) ** 2)
        assert D[lag] == pytest.approx(expected, rel=1e-5)
    full = rng.normal(size=300).astype(np.float32)
    structure(full, 300, True, space)
    assert D[40] == pytest.approx(np.mean((full[40:] - full[:-40]).astype(float) ** 2), rel=1e-5)


def test_refinement_ends_near_where_it_began_whatever_the_structure() -> None:
    for seed in range(200):
        D = np.random.default_rng(seed).random(513).astype(np.float32)
        D[0] = -1.0 if seed % 2 else 2.0
        for lag in range(4, 100):
            assert abs(refine(D, 512, lag) - lag) <= 4.0, (seed, lag)
    t = np.arange(1_024)
    x = np.cos(2 * np.pi * t / 37.4).astype(np.float32)
    (space,) = workspace()
    structure(x, len(x), True, space)
    assert refine(space["structure"].copy(), 512, 37) == pytest.approx(37.4, abs=0.01)


def test_skill_and_correlation_equal_leaving_one_cycle_out() -> None:
    p, cycles = 20, 9
    x = daily(p * cycles, float(p), seed=5).astype(np.float32)
    sums, counts = np.zeros(len(x) + 1), np.zeros(len(x) + 1)
    assert prepare(x, len(x))
    accumulate(x, len(x), sums, counts)
    (space,) = workspace()
    found = fold(x, len(x), float(p), sums, counts, space["cycle"])

    padded = np.concatenate([[0.0], np.cumsum(x, dtype=float)])
    d = np.empty(len(x))
    for t in range(len(x)):
        low = min(max(t + 0.5 - p / 2, 0.0), len(x) - p)
        grid = np.arange(len(x) + 1)
        d[t] = x[t] - (np.interp(low + p, grid, padded) - np.interp(low, grid, padded)) / p
    d[: p // 2], d[-p // 2 :] = (
        x[: p // 2] - (x[p // 2] - d[p // 2]),
        x[-p // 2 :] - (x[-p // 2 - 1] - d[-p // 2 - 1]),
    )
    table = d.reshape(cycles, p)
    others = (table.sum(0) - table) / (cycles - 1)
    skill = 1.0 - ((table - others) ** 2).sum() / (table**2).sum()
    r = (table * others).sum(1) / np.sqrt((table**2).sum(1) * (others**2).sum(1))
    assert found.skill == pytest.approx(skill, abs=0.01)
    assert found.correlation == pytest.approx(r.mean(), abs=0.01)
    assert found.error == pytest.approx(r.std() / np.sqrt(cycles - 1), abs=0.01)


@pytest.mark.data
def test_hourly_power_data_has_a_day(data_root: Path) -> None:
    for name, least in (("ETTh1", 1.0), ("ETTh2", 0.90)):
        with (data_root / "ett" / f"{name}.csv").open() as file:
            rows = list(csv.reader(file))[1:]
        values = np.array([[float(cell) for cell in row[1:]] for row in rows])
        share = np.mean([read(column)[5_040:, 0] == 24.0 for column in values.T])
        assert share >= least
        hinted = np.mean([read(c, (24.0, 168.0))[5_040:, 0] == 24.0 for c in values.T])
        assert hinted >= max(least, 0.97)


@pytest.mark.data
def test_exchange_rates_have_none(data_root: Path) -> None:
    with gzip.open(data_root / "exchange_rate.txt.gz", "rt") as file:
        values = np.loadtxt(file, delimiter=",")
    assert not any(read(column)[:, :2].any() for column in values.T)
    assert not any(read(column, (np.nan, 7.0))[:, :2].any() for column in values.T)

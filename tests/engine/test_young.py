"""Young series without a slot: bitwise as if they had had one from the start."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.streams import concatenate, engine, make_stream, run, same_scores
from tests.engine.test_admission import of
from tests.engine.test_invariants import cuts_of, relaxed, seeds
from titans_stream.engine import engine as engine_module
from titans_stream.engine import young_home
from titans_stream.engine.young import Young


@pytest.fixture
def one_resident(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call but for one series' readings loses its slots."""
    for module in (young_home, engine_module):
        monkeypatch.setattr(module, "YOUNG_RESIDENT", 1)


SETTINGS = {
    "rules": [{"series": "*", "valid_range": (-20.0, 20.0)}],
    "budget": 20.0,
    "forecast": {"steps": 5, "every": 3},
}


@relaxed
@given(seed=seeds, at=st.integers(0, 900), bound=st.sampled_from([0, 30]))
def test_slots_or_none_is_the_same(seed: int, at: int, bound: int) -> None:
    stream = make_stream(seed, series=9, readings=900, shuffle=bound > 0)
    settings = {"expire_after": "1h", "duplicates": "keep-order"}
    always = engine(bound=bound, settings=settings, **SETTINGS)
    whole = run(always, stream, [])
    with pytest.MonkeyPatch.context() as patch:
        for module in (young_home, engine_module):
            patch.setattr(module, "YOUNG_RESIDENT", 1)
        never = engine(bound=bound, settings=settings, **SETTINGS)
        first = run(never, stream.slice(0, at), cuts_of(at, seed))
        saved = never.snapshot(0)
        other = engine(bound=bound, settings=settings, **SETTINGS)
        other.restore(0, saved)
        rest = run(other, stream.slice(at, 900), cuts_of(900 - at, seed + 1))
    both = concatenate([first, rest])
    same_scores(whole, both)
    assert whole.alerts == both.alerts
    assert whole.forecasts == both.forecasts
    assert whole.forecasts
    final, replayed = always.snapshot(0), other.snapshot(0)
    assert final.meta == replayed.meta
    for name, array in final.arrays.items():
        np.testing.assert_array_equal(array, replayed.arrays[name], err_msg=name)


@pytest.mark.usefixtures("one_resident")
def test_groups_of_young_series_go_on() -> None:
    stream = make_stream(1, series=3, readings=900)
    readings = dataclasses.replace(stream.readings(), group=["asset"] * 900)
    tight = engine()
    parts = [
        tight.process(readings.take(np.arange(first, first + 100))).groups
        for first in range(0, 900, 100)
    ]
    statistic = np.concatenate([part.statistic for part in parts if part is not None])
    with pytest.MonkeyPatch.context() as patch:
        for module in (young_home, engine_module):
            patch.setattr(module, "YOUNG_RESIDENT", 1000)
        roomy = engine().process(readings).groups
    assert roomy is not None
    np.testing.assert_array_equal(statistic, roomy.statistic)
    assert np.isfinite(statistic).any()


@pytest.mark.usefixtures("one_resident")
def test_a_value_outside_its_range_alerts_at_once() -> None:
    one = engine(rules=[{"series": "*", "valid_range": (None, 50.0)}])
    for k in range(3):
        one.process(of(["a", "b", "c"], 3 * k))
    alerts = one.process(of(["a", "b"], 9, 99.0)).alerts
    assert [(alert.series_id, alert.reason) for alert in alerts] == [
        ("a", "valid_range"),
        ("b", "valid_range"),
    ]


@pytest.mark.usefixtures("one_resident")
def test_a_young_series_takes_less_than_2_kb() -> None:
    assert Young().row_bytes < 2048
    one = engine()
    one.process(of([f"s{i}" for i in range(1000)]))
    assert one.info()["young"] == 1000
    assert one.info()["resident"] <= 1
    size = sum(array.nbytes for array in one.snapshot(0).arrays.values())
    assert size < 1000 * 2048


def test_a_damaged_row_is_refused() -> None:
    one = engine()
    one.process(of(["a", "b"]))
    saved = one.snapshot(0)
    saved.arrays["young_kept_count"] = np.array([1, 50])
    other = engine()
    with pytest.raises(ValueError, match="young_kept_count"):
        other.restore(0, saved)
    assert other.series_count() == 0

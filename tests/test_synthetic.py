"""The generator: equal seeds, equal series; families and anomalies are what they say."""

from __future__ import annotations

import numpy as np
import pytest

from titans_stream.durations import SECOND
from titans_stream.synthetic import (
    FAMILIES,
    HELD_OUT,
    KINDS,
    WARM_UP,
    generate,
    generate_labelled,
    inject,
    inject_pair,
    kinds_for,
)
from titans_stream.synthetic.draws import Draws

ALL = (*FAMILIES, *HELD_OUT)


def test_uniforms_are_the_documented_bits_of_pcg64():
    raw = np.random.PCG64(np.random.SeedSequence((7,))).random_raw(3)
    assert Draws(7).uniforms(3).tolist() == [(int(r) >> 11) / 2**53 for r in raw]


def test_distributions():
    draws = Draws(1)
    normal = draws.normals(200_001)
    assert abs(normal.mean()) < 0.01 and abs(normal.std() - 1) < 0.01
    assert abs((np.abs(normal) > 1.96).mean() - 0.05) < 0.003
    assert abs(draws.exponentials(200_000, 3.0).mean() - 3) < 0.03
    for rate in (0.3, 4.0, 29.0, 200.0):
        counts = draws.poisson(np.full(100_000, rate))
        assert abs(counts.mean() / rate - 1) < 0.02
        assert abs(counts.var() / rate - 1) < 0.03
    walk = draws.autoregressive(200_000, 0.9)
    assert abs(np.corrcoef(walk[1:], walk[:-1])[0, 1] - 0.9) < 0.01
    assert abs(walk.std() - 1) < 0.03


@pytest.mark.parametrize("name", ALL)
def test_families_are_reproducible_and_finite(name):
    first, again = (generate((name,), 3, 800, seed=5) for _ in range(2))
    other = generate((name,), 3, 800, seed=6)
    for one, two, three in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(one.value, two.value)
        assert not np.array_equal(one.value, three.value, equal_nan=True)
        assert not np.isinf(one.value).any()
        assert np.isfinite(one.value[0])
        assert np.isnan(one.value).any() == (name == "gappy")
        assert (np.diff(one.timestamp) == one.interval).all()
        assert np.nanstd(one.value) > 0


def test_a_series_does_not_depend_on_the_others():
    alone = generate(("daily",), 2, 500, seed=3)
    among = generate(("noise", "daily"), 4, 500, seed=3)
    np.testing.assert_array_equal(alone[1].value, among[3].value)
    assert alone[1].name == among[3].name == "daily/0001"


def test_known_values():
    """A change of these means that every seed now gives other series."""
    known = {
        "daily": -0.133242797,
        "weekly": 20.8665502,
        "cycle": 0.063866841,
        "trend": 62.9223667,
        "wandering": 1.18458585,
        "noise": 0.435180615,
        "bursty": 0.0865937415,
        "intermittent": 0,
        "counter": 21.7764416,
        "duty": 0.153473161,
        "quantised": 0.19542029,
        "regimes": 0.16281393,
        "gappy": 0.996993506,
        "heavy_tailed": 0.456853542,
        "traffic": 79,
        "thermostat": 0.704070612,
        "batches": -0.0288736213,
        "saturating": -15.9258937,
        "switching": 0,
        "two_cycles": 0.0923636405,
        "volatile": 15.1358476,
    }
    for name, value in known.items():
        made = generate((name,), 1, 300, seed=11)[0].value[250]
        assert made == pytest.approx(value, rel=1e-7, nan_ok=True), name


def test_daily_series_repeat_every_day():
    one = generate(("daily",), 1, 2016, interval=300 * SECOND, seed=2)[0]
    assert one.period == 288
    assert np.corrcoef(one.value[288:], one.value[:-288])[0, 1] > 0.6
    assert np.corrcoef(one.value[144:], one.value[:-144])[0, 1] < 0.5


def test_character_of_families():
    counter = generate(("counter",), 1, 3000, seed=1)[0].value
    assert (np.diff(counter) > 0).mean() > 0.95 and (np.diff(counter) < 0).any()
    assert len(np.unique(generate(("quantised",), 1, 3000, seed=1)[0].value)) < 60
    assert set(np.unique(generate(("switching",), 1, 3000, seed=1)[0].value)) == {0.0, 1.0}
    assert (generate(("intermittent",), 1, 3000, seed=1)[0].value == 0).mean() > 0.5
    traffic = generate(("traffic",), 1, 3000, seed=1)[0].value
    assert (traffic >= 0).all() and (traffic == np.round(traffic)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_an_anomaly_changes_its_window_alone(kind):
    clean = generate(("cycle",), 1, 1500, seed=4)[0]
    marked = inject(clean, kind, 700, seed=9)
    label = marked.label
    assert marked.windows[0, 0] == 700 and marked.kinds == (kind,)
    np.testing.assert_array_equal(marked.value[~label], clean.value[~label])
    assert np.abs(marked.value - clean.value)[label].max() > 0.05 * clean.value[:700].std()
    assert not clean.windows.size


def test_sizes_of_anomalies():
    clean = generate(("noise",), 1, 1500, seed=4)[0]
    unit = clean.value[200:700].std()
    spike = inject(clean, "spike", 700, seed=1)
    assert 4 <= abs(spike.value[700] - clean.value[700]) / unit <= 10
    shift = inject(clean, "level_shift", 700, seed=1)
    moved = (shift.value - clean.value)[shift.label] / unit
    assert np.ptp(moved) < 1e-9 and 1.5 <= abs(moved[0]) <= 4
    flat = inject(clean, "flatline", 700, seed=1)
    assert (flat.value[flat.label] == clean.value[699]).all()
    quiet = inject(clean, "quieter", 700, seed=1)
    assert np.diff(quiet.value[quiet.label]).std() < 0.3 * np.diff(clean.value).std()


def test_missing_readings_stay_missing():
    clean = generate(("gappy",), 1, 3000, seed=8)[0]
    row = int(np.flatnonzero(np.isnan(clean.value[800:2500]))[0]) + 800
    marked = inject(clean, "level_shift", row - 5, seed=1)
    assert np.isnan(marked.value[row])
    np.testing.assert_array_equal(np.isnan(marked.value), np.isnan(clean.value))


def test_labelled_series():
    made = generate_labelled(ALL, 2 * len(ALL), 3000, seed=1, anomalies=3)
    assert {kind for one in made for kind in one.kinds} == set(KINDS)
    for one in made:
        assert len(one.windows) == len(one.kinds) == 3
        assert one.windows[0, 0] >= WARM_UP
        assert (np.diff(one.windows[:, 0]) > WARM_UP).all()
        assert set(one.kinds) <= set(kinds_for(one))
        assert (one.windows[1:, 0] > one.windows[:-1, 1]).all()


def test_pairs_share_the_second_event():
    clean = generate(("noise",), 1, 2000, seed=4)[0]
    early, late, both = inject_pair(clean, "level_shift", 600, 500, seed=3)
    assert both.windows.tolist() == [early.windows[0].tolist(), late.windows[0].tolist()]
    np.testing.assert_array_equal(both.value[:1000], early.value[:1000])
    np.testing.assert_array_equal(both.value[1000:], late.value[1000:])


def test_wrong_arguments_name_the_field():
    clean = generate(("noise",), 1, 500, seed=4)[0]
    with pytest.raises(ValueError, match="families"):
        generate(("nosuch",), 1)
    with pytest.raises(ValueError, match="kinds"):
        generate_labelled(kinds=("nosuch",))
    with pytest.raises(ValueError, match="kind: faster needs a cycle"):
        inject(clean, "faster", 300, seed=1)
    with pytest.raises(ValueError, match="first"):
        inject(clean, "flatline", 499, seed=1)
    with pytest.raises(ValueError, match="series and length"):
        generate(series=0)

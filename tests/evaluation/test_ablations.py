"""Memory off, one kind of memory alone, changed settings, and the second stage run again."""

from __future__ import annotations

import math

import numpy as np
import pytest

from titans_stream.calendar_features import calendar_features
from titans_stream.detection import layout as L
from titans_stream.detection.arrays import Series
from titans_stream.detection.detector import Detector
from titans_stream.detection.rules import AlertConfig
from titans_stream.engine.engine import StreamEngine
from titans_stream.evaluation.ablations import ABLATIONS, AblatedDetector
from titans_stream.evaluation.memory_off import running_means, value_familiarity
from titans_stream.evaluation.nab_report import run_nab
from titans_stream.evaluation.normal import from_synthetic
from titans_stream.evaluation.ours import INTERVAL, OurDetector
from titans_stream.evaluation.overrides import apply_overrides
from titans_stream.evaluation.protocol import LabelledSeries, Watched
from titans_stream.lifecycle.loading import load_model
from titans_stream.records import Readings
from titans_stream.synthetic import generate_labelled


@pytest.fixture(scope="module")
def model():
    return load_model("base")


@pytest.fixture(scope="module")
def series():
    made = generate_labelled(("daily", "bursty"), 2, 2_500, 300 * 10**9, seed=4, anomalies=3)
    return [from_synthetic(one) for one in made]


def recent_means(y, width):
    return np.array([y[max(t + 1 - width, 0) : t + 1].mean() for t in range(len(y))])


def fresh_arrays():
    arrays = {name: spec.rows(1) for name, spec in L.state_layout().items()}
    arrays["core"][:] = L.fresh_core()
    return arrays


def one_series():
    arrays = {name: spec.rows(1) for name, spec in L.state_layout().items()}
    core = arrays.pop("core").view(np.recarray)[0]
    return Series(core, *(array[0] for array in arrays.values()))


def test_running_means_by_hand():
    rng = np.random.default_rng(0)
    y = rng.normal(2.0, 1.0, 300)
    one, surprise = one_series(), np.empty(L.CHANNELS)
    short = recent_means(y, L.HORIZON_A)
    long = recent_means(y, L.HORIZON_T)
    ema_short = ema_long = 0.0
    for t in range(300):
        one.core.t = t
        running_means(one, y[t], surprise)
        past = [x[:t].mean() if t else 0.0 for x in (short, long, y)]
        error = past[0] - short[t]
        ema_short += L.EMA_SHORT * (error - ema_short)
        ema_long += L.EMA_LONG * (error - ema_long)
        expected = [error, ema_short, ema_long, past[1] - long[t], past[2] - y[t]]
        np.testing.assert_allclose(surprise[:5], np.abs(expected), rtol=1e-9, atol=1e-12)
        assert one.core.error == pytest.approx(y[t] - past[2])
    assert np.abs(expected).min() > 1e-4, "every channel has something to say"


def test_value_familiarity_by_hand():
    rng = np.random.default_rng(1)
    one, surprise = one_series(), np.empty(L.CHANNELS)
    counts: dict[tuple[int, int, int], float] = {}
    mass, smooth = 0.0, [0.0, 0.0]
    decay = L.CELL_DECAY / 2**L.CELL_DECAY_SHIFT
    for y in rng.normal(size=200).round(1):
        value_familiarity(one, y, surprise)
        for w, width in enumerate((0.2, 0.5)):
            p = 0.0
            for k in range(4):
                at = (w, k, math.floor(math.asinh(y) / width + k / 4))
                p += (counts.get(at, 0.0) + 0.02) / (mass + 1.0) / 4
                counts[at] = decay * counts.get(at, 0.0) + 1.0
            smooth[w] += 0.1 * (-math.log(p) - smooth[w])
        mass = L.MASS_DECAY * mass + 1.0
        expected = [smooth[0], smooth[0], smooth[1], smooth[1]]
        np.testing.assert_allclose(surprise[5:9], expected, rtol=2e-3)


@pytest.mark.parametrize("timed", [True, False])
def test_the_two_kinds_of_memory_make_up_the_level_channels(model, timed):
    values = np.random.default_rng(6).normal(size=700).cumsum()
    seconds = np.arange(700) * (900.0 if timed else np.nan)
    whole, dense, sparse = (
        scorer.run(fresh_arrays(), np.zeros(700, int), values, calendar_features(seconds))
        for scorer in (
            Detector(model.weights),
            ABLATIONS["dense"](model.weights),
            ABLATIONS["sparse"](model.weights),
        )
    )
    weights = L.WEIGHTS if timed else L.WEIGHTS_WITHOUT_TIME
    level = whole.channels[L.WARM_UP :, : L.LEVEL_CHANNELS] @ weights
    a, b = dense.statistic[L.WARM_UP :], sparse.statistic[L.WARM_UP :]
    np.testing.assert_allclose(level, (a + b) / 2, atol=1e-9)
    assert np.abs(a - b).max() > 0.2
    assert np.abs(whole.statistic[L.WARM_UP :] - level).max() > 0.05
    np.testing.assert_array_equal(dense.joint[:, 0], dense.statistic)
    np.testing.assert_array_equal(dense.joint[L.WARM_UP :, 1], 0.0)


def test_memory_off_differs_in_the_statistic_alone(model, series):
    whole = OurDetector(model, (0.1,))(series)
    off = AblatedDetector(model, (0.1,), ablation="memory off")(series)
    mean = AblatedDetector(model, (0.1,), ablation="running mean")(series)
    for one, other, plain in zip(whole, off, mean, strict=True):
        assert np.isnan(other.surprise).sum() == np.isnan(one.surprise).sum() == L.WARM_UP
        assert np.nanmean(np.abs(one.surprise - other.surprise)) > 0.02
        assert np.nanmean(np.abs(plain.surprise - other.surprise)) > 0.02
        np.testing.assert_array_equal(one.upper, other.upper)
    again = AblatedDetector(model, (0.1,), ablation="memory off")(series)
    np.testing.assert_array_equal(again[1].surprise, off[1].surprise)


def _without(one, rows):
    """The series with a gap in the place of `rows`, and a jump after it."""
    values = one.values.copy()
    values[rows.stop : rows.stop + 10] += 3.0 * values.std()
    kept = np.delete(np.arange(len(one)), rows)
    return LabelledSeries(
        f"{one.name} with a gap", values[kept], one.timestamp[kept], one.windows[:0],
        one.evaluated[kept],
    )  # fmt: skip


@pytest.mark.parametrize("budget", [0.3, 0.03])
def test_the_second_stage_alone_gives_the_engines_own_alerts(model, series, budget):
    alerts = AlertConfig(false_alarms_per_series_per_day=2.88 * budget, min_duration=2)
    holey = [_without(one, slice(1_400, 1_500)) for one in series]
    found = OurDetector(model, (0.1, budget), alerts)([*series, *holey])
    for one, detection in zip([*series, *holey], found, strict=True):
        detector = OurDetector(model)
        engine = StreamEngine(detector.engine, alerts, model)
        n = len(one)
        scores = engine.process(
            Readings(
                [one.name] * n,
                one.timestamp,
                one.values,
                np.zeros(n, np.int32),
                np.arange(n),
            )
        ).scores
        assert np.flatnonzero(detection.onsets[budget]).tolist() == (
            np.flatnonzero(scores.onset).tolist()
        )
        np.testing.assert_array_equal(detection.surprise, scores.surprise)
    assert sum(detection.onsets[budget].sum() for detection in found) > 0


def test_channels_of_an_asset_open_one_episode(model):
    rng = np.random.default_rng(2)
    values = rng.normal(size=(1_500, 4))
    values[1_200:1_230, :3] += 9.0
    one = LabelledSeries(
        "asset", values, None, np.array([[1_200, 1_229]]), np.ones(1_500, dtype=bool)
    )
    found = OurDetector(model, (0.01,))([one])[0]
    rows = np.flatnonzero(found.onsets[0.01])
    assert len(rows) == 1 and 1_200 <= rows[0] <= 1_205
    rows_of = np.repeat(np.arange(1_500), 4)
    detector = OurDetector(model)
    alerts = AlertConfig(false_alarms_per_series_per_day=2.88 * 0.01)
    groups = (
        StreamEngine(detector.engine, alerts, model, calendar=False)
        .process(
            Readings(
                ["a", "b", "c", "d"] * 1_500,
                rows_of * INTERVAL,
                values.reshape(-1),
                np.zeros(6_000, np.int32),
                rows_of,
                ["asset"] * 6_000,
            )
        )
        .groups
    )
    assert groups.timestamp[groups.onset == 1].tolist() == (rows * INTERVAL).tolist()
    np.testing.assert_allclose(groups.statistic, found.surprise[: len(groups)], atol=1e-12)
    assert found.surprise[1_200:1_230].max() > found.surprise[:1_200][L.WARM_UP :].max() + 0.3


def test_overrides():
    alerts, engine = apply_overrides(
        ["alerts.min_duration=3", "engine.timezone=Europe/Oslo", "alerts.rules=[{series: 'a*'}]"]
    )
    assert alerts == AlertConfig.model_validate({"min_duration": 3, "rules": [{"series": "a*"}]})
    assert engine.timezone == "Europe/Oslo"
    assert engine.device == "cpu"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("min_duration=3", "is not like alerts.min_duration=3"),
        ("alerts.min_duration", "is not like alerts.min_duration=3"),
        ("alerts.min_duraton=3", "alerts has false_alarms_per_series_per_day, onboarding"),
        ("alerts.min_duration=0", "min_duration: Input should be greater than or equal to 1"),
        ("alerts.min_duration=[", "the value is no YAML"),
        ("engine.device=cuda", "engine.device may not be set: the compiled detector"),
    ],
)
def test_overrides_that_cannot_be_made(change, message):
    with pytest.raises(ValueError, match=message):
        apply_overrides([change])


def test_a_watched_detector_tells_how_far_it_is(series):
    seen = []
    calls = []

    def detector(some):
        calls.append([one.name for one in some])
        return [one.name for one in some]

    watched = Watched("x", detector, lambda *told: seen.append(told))
    assert watched(series) == [one.name for one in series]
    assert calls == [[one.name] for one in series]
    assert seen == [("x", 0, 5000), ("x", 2500, 5000), ("x", 5000, 5000)]


@pytest.mark.data
@pytest.mark.slow
def test_the_memories_are_worth_something_on_nab(model, data_root):
    ablated = {name: AblatedDetector(model, ablation=name) for name in ABLATIONS}
    report = run_nab(OurDetector(model), data_root / "nab", "x", 3, lambda *_: ablated)
    standard = {name: report.to_json()["others"][name]["standard"] for name in ABLATIONS}
    assert report.scores()["standard"] > standard["memory off"] + 3
    assert standard["memory off"] == pytest.approx(67.7, abs=2)
    assert standard["running mean"] == pytest.approx(63.1, abs=3)

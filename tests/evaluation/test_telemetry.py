"""Labelled telemetry: the layout, the baselines and the peers' figures."""

from __future__ import annotations

import json

import numpy as np
import pytest

from titans_stream.evaluation.baselines import (
    HalfSpaceTrees,
    Precomputed,
    RollingZ,
    forest_scores,
    strangest_mean,
)
from titans_stream.evaluation.plots import plot_telemetry
from titans_stream.evaluation.protocol import Detection, LabelledSeries
from titans_stream.evaluation.silence import alert_rows
from titans_stream.evaluation.tables import Table
from titans_stream.evaluation.telemetry import load_series, load_sets
from titans_stream.evaluation.telemetry_report import TelemetryReport, run_telemetry, score_set


def make_series(values, name="one"):
    return LabelledSeries(
        name, values, None, np.empty((0, 2), np.int64), np.ones(len(values), dtype=bool)
    )


@pytest.fixture(scope="module")
def sets(data_root):
    return load_sets(data_root / "telemetry")


@pytest.mark.data
def test_sets(sets):
    assert (len(sets["msl"]), len(sets["skab_valve1"])) == (27, 16)
    assert {one.channels for one in sets["msl"]} == {1}
    assert {one.channels for one in sets["skab_valve1"]} == {8}
    assert all(one.timestamp is None for one in sets["msl"])
    assert all(int(one.evaluated.argmax()) == 400 for one in sets["skab_valve1"])
    assert sum(len(one.windows) for one in sets["msl"]) == 36


@pytest.mark.data
@pytest.mark.parametrize(
    ("data_set", "column", "ap", "event_f1"),
    [
        ("msl", 0, 0.425, 0.522),
        ("msl", 1, 0.132, 0.523),
        ("skab_valve1", 0, 0.685, 0.828),
        ("skab_valve1", 1, 0.537, 0.522),
    ],
)
def test_the_forest_has_its_known_figures(sets, data_root, data_set, column, ap, event_f1):
    forest = Precomputed(data_root / "peers" / f"trcf_{data_set}.npz", column)
    assert forest.covers(sets[data_set]) and not forest.covers([make_series(np.zeros(3))])
    score = score_set(sets[data_set], forest(sets[data_set]))
    assert score["ap"] == pytest.approx(ap, abs=0.001)
    assert score["event_f1"] == pytest.approx(event_f1, abs=0.001)


@pytest.mark.data
@pytest.mark.parametrize(
    ("data_set", "window", "ap", "event_f1"),
    [
        ("msl", 1000, 0.344, 0.500),
        ("msl", 6400, 0.382, 0.423),
        ("skab_valve1", 1000, 0.670, 0.727),
        ("skab_valve1", 6400, 0.670, 0.727),
    ],
)
def test_the_z_scores_have_their_known_figures(sets, data_set, window, ap, event_f1):
    score = score_set(sets[data_set], RollingZ(window)(sets[data_set]))
    assert score["ap"] == pytest.approx(ap, abs=0.001)
    assert score["event_f1"] == pytest.approx(event_f1, abs=0.008)


def test_rolling_z_by_hand():
    rng = np.random.default_rng(0)
    values = rng.normal(1e6, 3.0, 300)
    values[150] = np.nan
    found = RollingZ(50)([make_series(values)])[0].statistic
    assert np.isnan(found[:10]).all() and np.isnan(found[150])
    past = values[150:200]
    past = past[~np.isnan(past)]
    assert found[200] == pytest.approx(abs(values[200] - past.mean()) / past.std(), rel=1e-6)
    assert found[10] == pytest.approx(abs(values[10] - values[:10].mean()) / values[:10].std())


def test_a_stuck_sensor_that_moves_is_strange_not_infinite():
    values = np.concatenate((np.full(100, 7.0), [7.5]))
    found = RollingZ(50)([make_series(values)])[0].statistic
    assert (found[10:100] == 0).all()
    assert found[100] == pytest.approx(0.5e9)


def test_the_three_strangest_channels_count():
    scores = np.array([[1.0, 5, 3, 4], [np.nan, 2, np.nan, 1], [np.nan] * 4])
    assert strangest_mean(scores)[:2].tolist() == [4.0, 1.5]
    assert np.isnan(strangest_mean(scores)[2])


def test_layout(tmp_path):
    folder = tmp_path / "plant"
    folder.mkdir()
    rows = "".join(
        f"2026-01-01T00:{i // 60:02d}:{i % 60:02d}Z;{'train' if i < 50 else 'test'};{i};{-i};"
        f"{int(60 <= i < 70 or i == 99)}\n"
        for i in range(100)
    )
    (folder / "pump.csv").write_text("timestamp;split;flow;power;label\n" + rows)
    (folder / "notes.csv").write_text("a,b\n1,2\n")
    one = load_sets(tmp_path)["plant"][0]
    assert one.name == "pump" and one.values.shape == (100, 2)
    assert one.values[7].tolist() == [7.0, -7.0]
    assert one.timestamp[1] - one.timestamp[0] == 1_000_000_000
    assert one.timestamp[0] == np.datetime64("2026-01-01", "ns").astype(np.int64)
    assert one.windows.tolist() == [[60, 69], [99, 99]]
    assert one.evaluated.tolist() == [False] * 50 + [True] * 50
    assert one.train_end == 50
    assert list(load_sets(folder)) == ["plant"]


def test_short_series_are_evaluated_from_the_middle_on(tmp_path):
    path = tmp_path / "short.csv"
    path.write_text("value,is_anomaly\n" + "".join(f"{i},{int(i == 8)}\n" for i in range(10)))
    one = load_series(path)
    assert np.flatnonzero(one.evaluated).tolist() == [5, 6, 7, 8, 9]
    assert one.windows.tolist() == [[8, 8]] and one.train_end == 5


def test_errors_name_file_and_column(tmp_path):
    with pytest.raises(ValueError, match="no CSV file with a label column"):
        load_sets(tmp_path)
    bad = tmp_path / "bad.csv"
    bad.write_text("value,label\nx,0\ny,1\n")
    with pytest.raises(ValueError, match=r"bad\.csv: column 'value' holds no numbers"):
        load_series(bad)
    bad.write_text("timestamp,value,label\nnever,1,0\n")
    with pytest.raises(ValueError, match=r"bad\.csv: row 1, column timestamp"):
        load_series(bad)
    bad.write_text("timestamp,label\n2026-01-01,0\n")
    with pytest.raises(ValueError, match=r"bad\.csv: no value column"):
        load_series(bad)
    bad.write_text("")
    with pytest.raises(ValueError, match=r"bad\.csv"):
        load_series(bad)
    with pytest.raises(ValueError, match="no folder"):
        load_sets(tmp_path / "nosuch")


def test_precomputed_scores(tmp_path):
    path = tmp_path / "trcf_x.npz"
    np.savez(path, **{"one.csv": np.column_stack((np.arange(9.0), np.ones(9)))})
    series = make_series(np.zeros(9))
    assert Precomputed(path, 0)([series])[0].statistic.tolist() == list(range(9))
    assert Precomputed(path, 0)([series.drop_first(4)])[0].statistic.tolist() == [4, 5, 6, 7, 8]
    with pytest.raises(ValueError, match="no scores for two"):
        Precomputed(path, 0)([make_series(np.zeros(9), "two")])
    with pytest.raises(ValueError, match="9 rows for one"):
        Precomputed(path, 0)([make_series(np.zeros(8))])
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"bad\.npz"):
        Precomputed(tmp_path / "bad.npz", 0)
    found = forest_scores(tmp_path, "x", [series])
    assert list(found) == ["random cut forest, score", "random cut forest, grade"]
    assert found["random cut forest, grade"]([series])[0].statistic.tolist() == [1.0] * 9
    assert forest_scores(tmp_path, "y", [series]) == {}
    assert forest_scores(None, "x", [series]) == {}
    longer = make_series(np.zeros(10))
    assert forest_scores(tmp_path, "x", [series, longer]) == {}


@pytest.mark.skipif(not HalfSpaceTrees.available(), reason="River, an extra, is not installed")
def test_half_space_trees_see_a_jump():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(1200, 2))
    values[1000:1010] += 30
    score = HalfSpaceTrees()([make_series(values)])[0].statistic
    assert np.isnan(score[:250]).all()
    assert np.nanmax(score[1000:1010]) > np.nanquantile(score[300:1000], 0.95)


def test_report(tmp_path):
    rng = np.random.default_rng(2)
    for k in range(3):
        label = np.zeros(1500, dtype=int)
        label[900 + 100 * k : 950 + 100 * k] = 1
        value = rng.normal(size=1500) + 8 * label
        rows = "".join(f"{v},{y}\n" for v, y in zip(value, label, strict=True))
        (tmp_path / f"s{k}.csv").write_text("value,label\n" + rows)

    def sharp(series):
        found = []
        for one in series:
            statistic, onsets = np.abs(one.values), np.zeros(len(one), dtype=bool)
            onsets[alert_rows(statistic, 5.0)] = True
            found.append(Detection(statistic, statistic, {0.1: onsets}))
        return found

    report = run_telemetry(
        {"sharp": sharp}, tmp_path, 2, lambda name, series: {"z": RollingZ(1000)}
    )
    numbers = json.loads(json.dumps(report.to_json()))[tmp_path.name]
    assert numbers["sharp"]["ap"] > 0.99
    assert numbers["sharp"]["event_f1"] == 1.0
    assert numbers["sharp"]["median_delay"] == 0.0
    assert numbers["sharp"]["starts"] == 2
    assert numbers["sharp"]["spread"]["ap"] == 0.0
    assert numbers["sharp"]["budgets"]["0.1"]["event_recall"] == 1.0
    assert 0 < numbers["z"]["ap"] < numbers["sharp"]["ap"]
    assert numbers["sharp"]["false_alarms_per_day"] is None
    text = report.table()
    assert "one threshold for the set" in text and "sharp, budget 0.1" in text
    assert "s2" in report.series_table(tmp_path.name, "sharp")
    files = plot_telemetry(report, "sharp", tmp_path / "plots")
    assert [file.name for file in files] == [f"{tmp_path.name}__s{k}.png" for k in range(3)]
    assert all(file.read_bytes()[:4] == b"\x89PNG" for file in files)


def test_the_summary_ranks_over_sets():
    def table(ap, f1):
        return Table(
            (name, {"ap": a, "event_f1": f}) for name, a, f in zip("xyz", ap, f1, strict=True)
        )

    sets = {
        "one": table([0.5, 0.4, 0.3], [0.2, 0.2, 0.1]),
        "two": table([0.1, 0.4, 0.3], [0.9, float("nan"), 0.1]),
    }
    sets["two"]["only here"] = {"ap": 1.0, "event_f1": 1.0}
    found = TelemetryReport(sets, {}, {}).summary()
    assert list(found) == ["x", "y", "z"]
    assert [found[name]["rank_ap"] for name in "xyz"] == [2.0, 1.5, 2.5]
    assert [found[name]["rank_event_f1"] for name in "xyz"] == [1.25, 2.25, 2.5]
    assert [(found[n]["won_ap"], found[n]["lost_ap"]) for n in "xyz"] == [(0, 0), (1, 1), (1, 1)]
    assert [(found[n]["won_event_f1"], found[n]["lost_event_f1"]) for n in "yz"] == [(1, 0), (2, 0)]

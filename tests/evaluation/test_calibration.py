"""The alert budget against the alerts that come, injected pairs, and pictures."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.engine.streams import MODEL
from titans_stream.evaluation.calibration import count_episodes, p_value_shares, run_calibration
from titans_stream.evaluation.nab_report import NabReport
from titans_stream.evaluation.nab_rules import score_corpus
from titans_stream.evaluation.normal import (
    from_synthetic,
    load_normal_sets,
    made_assets,
    made_sets,
    normal_series,
    young_series,
)
from titans_stream.evaluation.ours import OurDetector
from titans_stream.evaluation.pairs import make_pairs, pair_table, run_pairs
from titans_stream.evaluation.plots import plot_calibration, plot_nab, plot_series
from titans_stream.evaluation.protocol import Detection
from titans_stream.evaluation.tables import Table, dump
from titans_stream.synthetic import HELD_OUT, KINDS, generate, inject


def every(rows, budget_gap):
    """A detector that alerts every `gap` readings at each budget, whatever it sees."""

    def detector(series):
        found = []
        for one in series:
            t = np.arange(len(one))
            zeros = np.zeros(len(one))
            onsets = {q: (t % gap == gap - 1) for q, gap in budget_gap.items()}
            found.append(Detection(zeros, zeros, onsets, p_value=(t + 0.5) % rows / rows))
        return found

    return detector


def test_counts_by_hand():
    values = np.zeros(1200)
    values[500:600] = np.nan
    series = normal_series("one", values, None)
    onsets = np.zeros(1200, dtype=bool)
    onsets[[100, 250, 550, 1100]] = True
    detection = Detection(np.zeros(1200), np.zeros(1200), {0.1: onsets})
    row = count_episodes([series], [detection], 0.1)
    assert (row["readings"], row["observed"], row["nominal"]) == (900, 2, pytest.approx(0.9))
    young = count_episodes([series], [detection], 0.1, (200, 300))
    assert (young["readings"], young["observed"], young["ratio"]) == (100, 1, pytest.approx(10.0))


def test_what_is_told_at_any_budget_is_counted_apart():
    noise = np.random.default_rng(3).normal(size=1200)
    moves, spike = noise.copy(), noise.copy()
    moves[:700] = noise[0]
    spike[1000] += 1e3
    series = [normal_series("moves", moves, None), normal_series("spike", spike, None)]
    found = OurDetector(MODEL, budgets=(0.01,))(series)
    for detection, row in zip(found, (700, 1000), strict=True):
        assert np.flatnonzero(detection.anyway[0.01]).tolist() == [row]
        assert detection.onsets[0.01][row]
    cells = count_episodes(series, found, 0.01)
    assert cells["anyway"] == 2
    assert cells["ratio_without"] == pytest.approx(cells["ratio"] - 2 / cells["nominal"])
    detection = found[1]
    padded = detection.pad_front(10)
    assert np.flatnonzero(padded.anyway[0.01]).tolist() == [1010]
    report = run_calibration(lambda _: found, {"both": series})
    assert "Without what is told at any budget" in report.table()


def test_the_first_move_of_a_member_is_told_at_any_budget():
    values = np.random.default_rng(2).normal(size=(900, 3))
    values[:, 1] = 5.0
    values[640:, 1] = 6.0
    asset = normal_series("asset", values, None)
    detection = OurDetector(MODEL, budgets=(0.1,))([asset])[0]
    assert np.flatnonzero(detection.anyway[0.1]).tolist() == [640]


def test_report_of_a_detector_that_keeps_its_budget_and_one_that_does_not():
    sets = made_sets(("noise", "gappy"), series=3, length=5_000)
    young = made_sets(("noise",), series=20, length=1_000)["noise"]
    report = run_calibration(every(1000, {0.1: 1000, 0.01: 1000}), sets, young)
    assert report.sets["noise"][0.1]["ratio"] == pytest.approx(1.0, abs=0.05)
    assert report.sets["noise"][0.01]["ratio"] == pytest.approx(10.0, abs=0.5)
    assert report.young["600-1000"][0.1]["observed"] == 26 - _missing_at(sets["gappy"], 999)
    assert report.young["200-300"][0.1]["observed"] == 0
    whole = report.young["200-1000"][0.1]
    parts = [report.young[age][0.1] for age in ("200-300", "300-600", "600-1000")]
    assert whole["readings"] == sum(part["readings"] for part in parts)
    assert whole["observed"] == parts[2]["observed"]
    assert whole["nominal"] == pytest.approx(whole["readings"] / 1000)
    assert report.p_values["noise"][0.1] == pytest.approx(400 / 4800)
    numbers = json.loads(json.dumps(report.to_json()))
    assert numbers["sets"]["noise"]["0.1"]["observed"] == 15
    assert "noise" in report.table() and "p <= 0.01" in report.table()


def _missing_at(series, row):
    return sum(np.isnan(one.values[row]) for one in series)


def test_a_detector_without_alerts_is_refused():
    def silent(series):
        return [Detection(np.zeros(len(one)), np.zeros(len(one))) for one in series]

    with pytest.raises(ValueError, match="raises no alerts"):
        run_calibration(silent, made_sets(("noise",), 1, 500))
    assert p_value_shares(silent(made_sets(("noise",), 1, 500)["noise"])) == {}


def test_made_sets_are_those_that_decide_nothing():
    assert set(made_sets(series=1, length=300)) == set(HELD_OUT)
    young = young_series(2 * len(HELD_OUT))
    assert {one.name.partition("/")[0] for one in young} == set(HELD_OUT)
    assert {len(one) for one in young} == {1_000}


def test_made_assets_have_several_channels_at_the_same_times():
    assets = made_assets(4, 300)
    assert [one.channels for one in assets] == [2, 4, 8, 2]
    assert {one.timestamp[1] - one.timestamp[0] for one in assets} == {300 * 10**9}
    columns = np.concatenate([one.values for one in assets], axis=1).T
    assert len({column.tobytes() for column in columns}) == 16


def test_assets_have_ages_of_their_own():
    series = made_sets(("noise",), series=2, length=1_000)
    report = run_calibration(every(100, {0.1: 250}), series, made_assets(3, 1_000))
    ages = {age: rows[0.1] for age, rows in report.young.items()}
    assert (ages["200-1000"]["readings"], ages["200-1000"]["observed"]) == (1_600, 8)
    assert ages["assets 200-1000"]["readings"] == 2_400
    assert ages["assets 300-600"]["observed"] == 3
    alone = run_calibration(every(100, {0.1: 250}), series)
    assert not any(age.startswith("assets") for age in alone.young)


def test_normal_sets_from_files(tmp_path):
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "oil.csv").write_text(
        ",date,a,b,note,on\n7,2026-01-01,1,2,x,TRUE\n8,2026-01-02,3,,5,FALSE\n"
    )
    (tmp_path / "known").mkdir()
    rows = "".join(f"{i},{int(i == 7)}\n" for i in range(9))
    (tmp_path / "known" / "pump.csv").write_text("value,label\n" + rows)
    sets = load_normal_sets(tmp_path)
    assert [one.name for one in sets["plain"]] == ["oil/a", "oil/b", "oil/on"]
    np.testing.assert_array_equal(sets["plain"][1].values, [2.0, np.nan])
    assert sets["plain"][2].values.tolist() == [1.0, 0.0]
    assert np.diff(sets["plain"][0].timestamp).tolist() == [86_400 * 10**9]
    assert sets["known"][0].values.tolist() == [0.0, 1, 2, 3]
    above = tmp_path / "above"
    (above / "telemetry").mkdir(parents=True)
    (tmp_path / "known").rename(above / "telemetry" / "known")
    (tmp_path / "plain").rename(above / "plain")
    assert list(load_normal_sets(above)) == ["plain", "known"]
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="no CSV"):
        load_normal_sets(empty)


@pytest.mark.data
def test_normal_part_of_telemetry(data_root):
    sets = load_normal_sets(data_root / "telemetry")
    assert len(sets["msl"]) == 27
    assert sum(map(len, sets["msl"])) == 58_317
    assert not any(len(one.windows) for series in sets.values() for one in series)


def test_pairs():
    pairs = make_pairs(30, 3_000, seed=2)
    assert len(pairs) == 30
    for kind, (first, second, both) in pairs:
        assert kind in KINDS
        distance = both.windows[1, 0] - both.windows[0, 0]
        assert distance >= 260
        assert both.windows[0].tolist() == first.windows[0].tolist()
        assert both.windows[1].tolist() == second.windows[0].tolist()


def test_a_long_first_event_moves_the_second():
    pairs = make_pairs(200, 3_000, seed=1)
    for _, (first, _, both) in pairs:
        assert both.windows[1, 0] > first.windows[0, 1]


def test_a_detector_that_tires_finds_no_second_event():
    def detector(series):
        found = []
        for one in series:
            label = one.label
            onsets = np.zeros(len(one), dtype=bool)
            onsets[one.windows[0, 0] + 3] = True
            zeros = np.zeros(len(one))
            found.append(Detection(zeros, zeros, {0.1: onsets, 0.01: onsets & ~label}))
        return found

    report = run_pairs(detector, make_pairs(12, 3_000, seed=3, kinds=("level_shift", "drift")))
    row = report["all"][0.1]
    assert row == {
        "pairs": 12,
        "first": 1.0,
        "second_alone": 1.0,
        "second_after_first": 0.0,
        "ratio": 0.0,
    }
    assert report["all"][0.01]["first"] == 0.0
    assert dump(report)["all"]["0.01"]["ratio"] is None
    assert "level_shift" in pair_table(report)


def test_pictures(tmp_path):
    made = inject(generate(("daily",), 1, 900, seed=1)[0], "level_shift", 600, seed=1)
    series = replace(from_synthetic(made), name="folder/one")
    statistic = np.abs(made.value - made.value[:600].mean())
    band = np.full(900, float(made.value.mean()))
    detection = Detection(statistic, statistic, expected=band, lower=band - 1, upper=band + 1)
    plot_series(tmp_path / "one.png", series, detection, np.array([10, 650]), 1.0)
    joint = replace(series, values=np.column_stack((made.value, -made.value)), timestamp=None)
    plot_series(tmp_path / "two.png", joint, detection, np.array([], dtype=np.int64))
    result = score_corpus([series], [statistic])
    report = NabReport("x", [result], {}, Table(), Table(), [series], [detection])
    files = plot_nab(report, tmp_path / "nab")
    assert [path.name for path in files] == ["folder__one.png"]
    calibration = run_calibration(every(100, {0.1: 1000}), made_sets(("noise",), 2, 2_000))
    plot_calibration(calibration, tmp_path / "curve.png")
    for path in (*tmp_path.glob("*.png"), *files):
        assert path.read_bytes()[:4] == b"\x89PNG" and path.stat().st_size > 5_000

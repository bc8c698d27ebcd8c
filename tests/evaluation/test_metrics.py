"""AP, VUS-PR, the silence rule and event counts."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from titans_stream.evaluation.metrics import (
    DAY_NS,
    average_precision,
    best_threshold,
    candidate_thresholds,
    count_at_threshold,
    count_events,
    count_onsets,
    vus_pr,
)
from titans_stream.evaluation.protocol import Detection, LabelledSeries, detect, runs
from titans_stream.evaluation.silence import alert_rows


def make_series(rows, windows, first=0, days=None, name="one"):
    return LabelledSeries(
        name=name,
        values=np.arange(rows, dtype=np.float64),
        timestamp=None if days is None else np.linspace(0, days * DAY_NS, rows).astype(np.int64),
        windows=np.array(windows, dtype=np.int64).reshape(-1, 2),
        evaluated=np.arange(rows) >= first,
    )


def test_average_precision_by_hand():
    label = np.array([1, 0, 1, 0, 0], dtype=bool)
    assert average_precision(np.array([5.0, 4, 3, 2, 1]), label) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert average_precision(np.zeros(5), label) == pytest.approx(0.4)
    tied = np.array([2.0, 2, 1, 1, 0])
    assert average_precision(tied, label) == pytest.approx(0.5 * 0.5 + 0.5 * 0.5)
    missing = np.array([np.nan, 4, 3, 2, 1])
    assert average_precision(missing, label) == pytest.approx(0.5 / 2 + 0.5 * 2 / 5)
    assert math.isnan(average_precision(tied, np.zeros(5, dtype=bool)))


def reference_vus(score, label, max_buffer, thresholds):
    """The definition, threshold by threshold and buffer by buffer."""
    ranked = -np.sort(-score)
    events = runs(label)
    areas = []
    for buffer in range(max_buffer + 1):
        half = buffer // 2
        soft = label.astype(float)
        for a, b in events:
            for x in range(b + 1, min(b + half + 1, len(label))):
                soft[x] += math.sqrt(1 - (x - b) / buffer)
            for x in range(max(a - half, 0), a):
                soft[x] += math.sqrt(1 - (a - x) / buffer)
        soft = np.minimum(soft, 1.0)
        wide = [[a - half, b + half] for a, b in events]
        merged = [wide[0]]
        for a, b in wide[1:]:
            if a <= merged[-1][1]:
                merged[-1][1] = b
            else:
                merged.append([a, b])
        area, before = 0.0, 0.0
        for i in np.linspace(0, len(score) - 1, thresholds).astype(int):
            called = score >= ranked[i]
            found = np.mean([called[max(a, 0) : b + 1].any() for a, b in merged])
            hits = label[called].sum() + soft[called & ~label].sum()
            relevant = (label.sum() + label.sum() + soft[called & ~label].sum()) / 2
            recall = min(hits / relevant, 1.0) * found
            area += (recall - before) * hits / called.sum()
            before = recall
        areas.append(area)
    return np.mean(areas)


@pytest.mark.parametrize("decimals", [1, 8])
def test_vus_pr_equals_its_definition(decimals):
    rng = np.random.default_rng(3)
    score = np.round(rng.normal(size=400), decimals)
    label = np.zeros(400, dtype=bool)
    for a, b in ((0, 8), (60, 80), (95, 120), (390, 400)):
        label[a:b] = True
        score[a:b] += 1
    assert vus_pr(score, label, 24, 50) == pytest.approx(reference_vus(score, label, 24, 50))


def test_vus_pr_known_value():
    """Value of the authors' package `vus` 0.0.6, RangeAUC_volume_opt, thre=250."""
    rng = np.random.default_rng(0)
    score = rng.normal(size=1200)
    label = np.zeros(1200, dtype=bool)
    label[200:230] = True
    score[200:230] += rng.random() * 2
    assert vus_pr(score, label, 40) == pytest.approx(0.23412536714190477, rel=1e-9)
    assert math.isnan(vus_pr(score, np.zeros(1200, dtype=bool)))


def test_silence_grows_with_age():
    always = np.ones(10_000)
    rows = alert_rows(always, 1.0)
    gaps = np.diff(rows)
    assert rows[0] == 0 and gaps[0] == 31
    late = gaps[rows[1:] > 4000]
    assert (late == 151).all()
    middle = rows[(rows > 800) & (rows < 3000)]
    for before, after in itertools.pairwise(middle):
        assert after - before > 0.045 * after >= after - before - 1.1
    assert len(alert_rows(always, 1.0, silence=False)) == 10_000


def test_alert_rows():
    statistic = np.array([np.nan, 3.0, 1.0, 3.0] + [0.0] * 40 + [3.0])
    assert alert_rows(statistic, 2.0).tolist() == [1, 44]
    assert alert_rows(statistic, 2.0, silence=False).tolist() == [1, 3, 44]


def test_event_counts():
    series = make_series(1000, [(50, 80), (300, 399), (600, 699)], first=100, days=3.0)
    counts = count_events(series, np.array([150, 320, 350, 800, 900]))
    assert (counts.events, counts.found, counts.false_alarms) == (2, 1, 3)
    assert counts.delays == (20,)
    assert counts.recall == 0.5
    assert counts.precision == 0.25
    assert counts.f1 == pytest.approx(2 / (2 + 3 + 1))
    assert counts.false_alarms_per_1000 == pytest.approx(1000 * 3 / 900)
    assert counts.false_alarms_per_day == pytest.approx(3 / 2.7, rel=2e-3)
    both = counts + count_events(make_series(1000, [(0, 9)]), np.array([4]))
    assert (both.events, both.found, both.false_alarms, both.delays) == (3, 2, 3, (20, 4))
    assert math.isnan(both.false_alarms_per_day)


def test_one_threshold_for_a_set():
    series = [make_series(3000, [(1000, 1100)], first=400), make_series(3000, [], first=400)]
    statistics = [np.zeros(3000), np.zeros(3000)]
    statistics[0][:300] = 9.0  # not evaluated
    statistics[0][1010:1100] = 5.0
    statistics[1][2000:2050] = 4.0
    cuts = candidate_thresholds(series, statistics)
    assert cuts.max() == 5.0 and len(cuts) <= 40
    threshold, counts = best_threshold(series, statistics)
    assert threshold > 4.0 and counts.f1 == 1.0 and counts.delays == (10,)
    low = count_at_threshold(series, statistics, 4.0)
    assert (low.found, low.false_alarms) == (1, 1)
    flags = [np.zeros(3000, dtype=bool), np.zeros(3000, dtype=bool)]
    flags[0][[100, 1050]] = True
    detections = [Detection(s, s, {0.1: f}) for s, f in zip(statistics, flags, strict=True)]
    own = count_onsets(series, detections, 0.1)
    assert (own.found, own.false_alarms) == (1, 0)


def test_one_event_in_many_rows_is_found_without_the_false_alarms_below_it():
    rows = 60_000
    series = [make_series(rows, [(30_000, 30_009)], first=400)]
    statistic = np.zeros(rows)
    statistic[30_000:30_010] = 5.0
    statistic[1000:20_000:250] = 4.0  # more than a thousandth of the rows
    threshold, counts = best_threshold(series, [statistic])
    assert threshold > 4.0 and (counts.found, counts.false_alarms) == (1, 0)


def test_start_shifted_copies():
    series = make_series(500, [(20, 30), (100, 110), (400, 410)], first=150, days=1.0)
    seen = []

    def detector(copies):
        seen.extend(copies)
        return [Detection(one.values, -one.values, {0.1: one.values > 480}) for one in copies]

    found = detect(detector, [series], starts=4)
    assert [one.start for one in seen] == [0, 25, 50, 75]
    assert [one.name for one in seen] == ["one", "one+25", "one+50", "one+75"]
    assert {one.source for one in seen} == {"one"}
    assert seen[1].windows.tolist() == [[0, 5], [75, 85], [375, 385]]
    assert seen[2].windows.tolist() == [[50, 60], [350, 360]]
    assert seen[3].evaluated.sum() == 350
    for start, (detection,) in zip((0, 25, 50, 75), found, strict=True):
        assert np.isnan(detection.surprise[:start]).all()
        np.testing.assert_array_equal(detection.surprise[start:], series.values[start:])
        assert detection.onsets[0.1].sum() == 19
    with pytest.raises(ValueError, match="starts"):
        detect(detector, [series], starts=0)
    with pytest.raises(ValueError, match="rows"):
        detect(lambda copies: [Detection(np.zeros(3), np.zeros(3))], [series])

"""The NAB scorer: the published final scores, and its rules on small cases."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from titans_stream.evaluation.nab_corpus import (
    load_corpus,
    load_profiles,
    load_published_scores,
    load_published_statistics,
)
from titans_stream.evaluation.nab_report import run_nab
from titans_stream.evaluation.nab_rules import (
    PROFILES,
    probation,
    row_weights,
    score_alerts,
    score_at,
    score_corpus,
)
from titans_stream.evaluation.protocol import Detection, LabelledSeries
from titans_stream.evaluation.silence import alert_rows

PUBLISHED = ("numenta", "knncad", "windowedGaussian", "ARTime")


def make_series(rows: int, windows: list[tuple[int, int]], name: str = "folder/one"):
    return LabelledSeries(
        name=name,
        values=np.zeros(rows),
        timestamp=None,
        windows=np.array(windows, dtype=np.int64).reshape(-1, 2),
        evaluated=np.arange(rows) >= probation(rows),
    )


@pytest.fixture(scope="module")
def root(data_root):
    return data_root / "nab"


@pytest.fixture(scope="module")
def corpus(root):
    return load_corpus(root)


@pytest.mark.data
def test_corpus(corpus, root):
    assert len(corpus) == 58
    assert sum(len(one.windows) for one in corpus) == 116
    assert sum(map(len, corpus)) == 365_558
    assert load_profiles(root) == PROFILES


@pytest.mark.data
@pytest.mark.parametrize("detector", PUBLISHED)
def test_published_scores_are_reproduced(corpus, root, detector):
    """At the published thresholds exactly."""
    statistics = load_published_statistics(root, detector, corpus)
    published = load_published_scores(root)[detector]
    text = (root / "config" / "thresholds.json").read_text(encoding="utf-8")
    names = {"reward_low_FP_rate": "reward_low_fp", "reward_low_FN_rate": "reward_low_fn"}
    thresholds = {
        names.get(name, name): float(one["threshold"])
        for name, one in json.loads(text)[detector].items()
    }
    at = score_at(corpus, statistics, thresholds, silence=False)
    for name, score in published.items():
        assert at[name].score == pytest.approx(score, abs=1e-6)


@pytest.mark.data
def test_silence_rule(corpus, root):
    found = score_corpus(corpus, load_published_statistics(root, "ARTime", corpus))
    assert found["standard"].score == pytest.approx(75.3, abs=0.2)


@pytest.mark.data
@pytest.mark.parametrize("detector", ["ARTime", "windowedGaussian"])
def test_the_search_finds_what_an_exhaustive_one_finds(corpus, root, detector):
    part = corpus[10:24]
    statistics = load_published_statistics(root, detector, part)
    values = np.unique(np.concatenate(statistics))[::-1]
    best = max(
        score_at(part, statistics, {"standard": cut}, PROFILES[:1])["standard"].score
        for cut in values[np.unique(np.geomspace(1, len(values), 400).astype(int)) - 1]
    )
    assert score_corpus(part, statistics)["standard"].score >= best - 1e-9


def test_weights_follow_the_sigmoid():
    weight, window = row_weights(make_series(1000, [(400, 499)]))
    scale = 2 / (1 + math.exp(-5)) - 1

    def sigmoid(x):
        return 2 / (1 + math.exp(5 * x)) - 1

    assert weight[400] == pytest.approx(1.0)
    assert weight[449] == pytest.approx(sigmoid(-51 / 100) / scale)
    assert weight[499] == pytest.approx(sigmoid(-1 / 100) / scale)
    assert weight[399] == -1.0
    assert weight[500] == pytest.approx(sigmoid(1 / 99))
    assert weight[499 + 297] == pytest.approx(sigmoid(3.0))
    assert weight[499 + 298] == -1.0
    assert window[[399, 400, 499, 500]].tolist() == [-1, 0, 0, -1]


def test_score_of_given_alerts():
    series = [make_series(2000, [(800, 899), (1500, 1599)]), make_series(600, [], "folder/two")]
    onsets = [np.zeros(2000, dtype=bool), np.zeros(600, dtype=bool)]
    onsets[0][[100, 700, 800, 850]] = True  # probation, false, found at its start, again
    onsets[1][500] = True
    result = score_alerts(series, onsets)
    # weights: 1 + 1 for the window found, -1 for each of two false alarms; 4 is perfect
    assert result["standard"].score == pytest.approx(100 * (2 - 0.11 * 2) / 4)
    assert result["reward_low_fp"].score == pytest.approx(100 * (2 - 0.22 * 2) / 4)
    assert result["reward_low_fn"].score == pytest.approx(100 * (3 - 0.11 * 2) / 6)
    one, two = result["standard"].files.values()
    assert (one.windows, one.found, one.missed, one.false_alarms) == (2, 1, 1, 1)
    assert (two.windows, two.found, two.false_alarms) == (0, 0, 1)
    folder = result["standard"].categories()["folder"]
    assert (folder.windows, folder.found, folder.false_alarms) == (2, 1, 2)


def test_no_alerts_are_zero_and_perfect_is_hundred():
    series = [make_series(2000, [(800, 899), (1500, 1599)])]
    nothing = np.zeros(2000, dtype=bool)
    assert [one.score for one in score_alerts(series, [nothing]).values()] == [0.0] * 3
    statistic = np.zeros(2000)
    statistic[[800, 1500]] = 1.0
    result = score_corpus(series, [statistic])["standard"]
    assert result.score == pytest.approx(100.0)
    assert result.threshold == 1.0


def test_useless_statistics_score_zero_not_less():
    series = [make_series(2000, [(1900, 1999)])]
    statistic = np.full(2000, np.nan)
    assert score_corpus(series, [statistic])["standard"].score == 0.0
    statistic[1000:1500] = np.linspace(0, 1, 500)
    assert score_corpus(series, [statistic])["standard"].score == 0.0


def test_silence_starts_anew_in_every_file():
    series = [make_series(1000, [], "a"), make_series(1000, [(200, 260)], "b")]
    statistics = [np.zeros(1000), np.zeros(1000)]
    statistics[0][999] = 2.0
    statistics[1][200] = 1.0
    assert score_corpus(series, statistics)["standard"].total.found == 1


@pytest.mark.data
def test_report(root):
    def detector(series):
        found = []
        for one in series:
            change = np.abs(np.diff(one.values, prepend=one.values[0]))
            statistic = change / (1e-9 + change.cumsum() / (1 + np.arange(len(one))))
            onsets = np.zeros(len(one), dtype=bool)
            onsets[alert_rows(statistic, 30.0)] = True
            found.append(Detection(statistic, statistic, onsets={0.1: onsets}))
        return found

    report = run_nab(detector, root, "change", 2, lambda name, series: {f"{name} beside": detector})
    again = score_corpus(report.series, [d.statistic for d in report.detections])
    numbers = json.loads(json.dumps(report.to_json()))
    assert numbers["starts"] == 2
    assert report.first["standard"].score == pytest.approx(again["standard"].score)
    mean = sum(run["standard"].score for run in report.results) / 2
    assert numbers["standard"] == pytest.approx(mean, abs=1e-3)
    assert set(numbers["budgets"]["0.1"]) >= {"standard", "reward_low_fp", "reward_low_fn"}
    assert numbers["published"]["ARTime"]["standard"] == pytest.approx(74.854, abs=1e-3)
    assert numbers["found"] + numbers["missed"] == numbers["windows"] == 116
    assert sum(one["false_alarms"] for one in numbers["files"].values()) == numbers["false_alarms"]
    assert sum(one["found"] for one in numbers["categories"].values()) == numbers["found"]
    assert numbers["others"]["nab beside"]["standard"] == numbers["standard"]
    assert set(numbers["others"]["ARTime, with silence"]) == {p.name for p in PROFILES}
    low = report.table("reward_low_fn")
    assert "reward_low_fp" not in low
    assert f"> change                        {report.scores()['reward_low_fn']:.1f}" in low
    text = report.table()
    assert "> change" in text and "ARTime (published)" in text and "Spread over 2" in text
    assert "realTweets" in report.category_table()
    assert "realKnownCause/nyc_taxi" in report.file_table()


def test_a_folder_that_is_no_corpus(tmp_path):
    with pytest.raises(ValueError, match="combined_windows"):
        load_corpus(tmp_path)

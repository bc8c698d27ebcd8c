"""The rules of the Numenta Anomaly Benchmark: what an alert is worth, and the scores of a corpus.

Lavin & Ahmad, "Evaluating Real-time Anomaly Detection Algorithms - the Numenta Anomaly
Benchmark" (ICMLA 2015), scoring as of version 1.1. Of each labelled window the earliest alert
counts, weighted by a sigmoid of its position; every alert outside costs, less so soon after a
window. Rows of the probation period (15 %, at most 750) never count. Scores are scaled so that no
alerts are 0 and a perfect detector is 100.

A threshold is one for the whole corpus, the best one of each profile, as NAB's optimiser finds it.

T is the number of rows of a file, N of all files, K of thresholds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from titans_stream.evaluation.protocol import Bool, LabelledSeries
from titans_stream.evaluation.silence import LONGEST, SHARE, SHORTEST, alert_rows
from titans_stream.jit import njit
from titans_stream.records import Float64, Int64

PROBATION_SHARE = 0.15
PROBATION_LIMIT = 750
COARSE = 1024
"""Thresholds of the first of two rounds of the search for the best one."""
COARSE_SHARE = 0.5
"""Share of rows above the lowest of them."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a user pays: weights of windows found, windows missed and false alarms."""

    name: str
    found: float
    missed: float
    false_alarm: float


PROFILES = (
    Profile("standard", 1.0, 1.0, 0.11),
    Profile("reward_low_fp", 1.0, 1.0, 0.22),
    Profile("reward_low_fn", 1.0, 2.0, 0.11),
)


class WindowScore(NamedTuple):
    """A file, or several added up, under one profile.

    `points` are the raw score, 0 for no alerts; `perfect` those of a perfect detector.
    """

    windows: int
    found: int
    false_alarms: int
    points: float
    perfect: float

    @property
    def missed(self) -> int:
        """Windows without an alert inside."""
        return self.windows - self.found

    @property
    def score(self) -> float:
        """Percent of the points of a perfect detector; NaN without windows."""
        return 100 * self.points / self.perfect if self.perfect else float("nan")

    @staticmethod
    def total(parts: Iterable[WindowScore]) -> WindowScore:
        """All parts, one at least, added up."""
        return WindowScore._make(sum(column) for column in zip(*parts, strict=True))


@dataclass(frozen=True, slots=True)
class ProfileScore:
    """The corpus under one profile; `threshold` is NaN where the detector set its own alerts."""

    threshold: float
    files: Mapping[str, WindowScore]

    @property
    def total(self) -> WindowScore:
        """All files added up."""
        return WindowScore.total(self.files.values())

    @property
    def score(self) -> float:
        """The corpus' final score."""
        return self.total.score

    def categories(self) -> dict[str, WindowScore]:
        """The files added up by folder."""
        folders: dict[str, list[WindowScore]] = {}
        for name, file in self.files.items():
            folders.setdefault(name.rpartition("/")[0], []).append(file)
        return {name: WindowScore.total(files) for name, files in folders.items()}


NabResult = Mapping[str, ProfileScore]
"""The corpus by profile name."""


def probation(rows: int) -> int:
    """Rows at the start of a file that never count."""
    return min(int(PROBATION_SHARE * rows), PROBATION_LIMIT)


def row_weights(series: LabelledSeries) -> tuple[Float64, Int64]:
    """What an alert at each row is worth, before a profile's weights, and the row's window.

    Inside a window 2 sigmoid(-5 p) - 1 with p from -1 to 0, divided by its value at -1: at most
    1. Outside the same with p the distance from the last window's end in windows (its length
    less 1): 0 to -1, and -1 where there is none or p > 3. Windows are numbered from 0; -1 is
    outside.
    """
    rows = len(series)
    weight = np.full(rows, -1.0)
    window = np.full(rows, -1, dtype=np.int64)
    best = _scaled_sigmoid(np.array([-1.0]))[0]
    for number, (first, last) in enumerate(series.windows):
        inside = np.arange(first, last + 1)
        width = last - first + 1
        weight[inside] = _scaled_sigmoid(-(last - inside + 1) / width) / best
        window[inside] = number
        after = np.arange(last + 1, rows)
        weight[after] = _scaled_sigmoid((after - last) / max(width - 1, 1))
    return weight, window


def _scaled_sigmoid(position: Float64) -> Float64:
    return np.where(position > 3.0, -1.0, 2 / (1 + np.exp(5 * np.minimum(position, 3.0))) - 1)


def score_file(series: LabelledSeries, rows: Int64, profile: Profile) -> WindowScore:
    """The score of one file with alerts at `rows`; those in probation do not count."""
    weight, window = row_weights(series)
    rows = rows[series.evaluated[rows]]
    hits = window[rows]
    best = np.zeros(len(series.windows))
    np.maximum.at(best, hits[hits >= 0], weight[rows[hits >= 0]])
    found = int((best > 0).sum())
    windows = len(np.unique(window[series.evaluated & (window >= 0)]))
    outside = rows[hits < 0]
    points = (
        profile.found * best.sum()
        + profile.missed * found
        + profile.false_alarm * weight[outside].sum()
    )
    perfect = windows * (profile.found + profile.missed)
    return WindowScore(windows, found, len(outside), float(points), perfect)


def score_corpus(
    series: Sequence[LabelledSeries],
    statistics: Sequence[Float64],
    profiles: Sequence[Profile] = PROFILES,
) -> NabResult:
    """Score statistics [T] with the best single threshold of each profile.

    Alerts follow the rule of `silence.py`; NaN never alerts.
    """
    found = best_thresholds(series, statistics, profiles)
    thresholds = {p.name: float(t) for p, t in zip(profiles, found, strict=True)}
    return score_at(series, statistics, thresholds, profiles)


def score_at(
    series: Sequence[LabelledSeries],
    statistics: Sequence[Float64],
    thresholds: Mapping[str, float],
    profiles: Sequence[Profile] = PROFILES,
    silence: bool = True,
) -> NabResult:
    """Score statistics [T] at a given threshold of each profile.

    Without `silence` every row at or above it is an alert, as the benchmark defines it.
    """
    results = {}
    for profile in profiles:
        threshold = thresholds[profile.name]
        rows = [alert_rows(one, threshold, silence) for one in statistics]
        results[profile.name] = _score_profile(series, rows, profile, threshold)
    return results


def score_alerts(
    series: Sequence[LabelledSeries],
    onsets: Sequence[Bool],
    profiles: Sequence[Profile] = PROFILES,
) -> NabResult:
    """Score alerts that begin where `onsets` [T] is true; no threshold is searched."""
    rows = [np.flatnonzero(flags) for flags in onsets]
    return {p.name: _score_profile(series, rows, p, float("nan")) for p in profiles}


def _score_profile(
    series: Sequence[LabelledSeries], rows: Sequence[Int64], profile: Profile, threshold: float
) -> ProfileScore:
    files = zip(series, rows, strict=True)
    return ProfileScore(
        threshold, {one.name: score_file(one, alerts, profile) for one, alerts in files}
    )


class _Corpus(NamedTuple):
    """All files laid end to end [N]; `window` numbers those of the whole corpus, -1 outside.

    `row` is the row's number in its file, `windows` the number of windows.
    """

    statistic: Float64
    row: Int64
    weight: Float64
    window: Int64
    evaluated: Bool
    windows: int


def _lay_out(series: Sequence[LabelledSeries], statistics: Sequence[Float64]) -> _Corpus:
    weights, windows = [], []
    count = 0
    for one in series:
        weight, window = row_weights(one)
        scored = np.unique(window[one.evaluated & (window >= 0)])
        renumbered = np.full(len(one.windows) + 1, -1, dtype=np.int64)
        renumbered[scored] = count + np.arange(len(scored))
        count += len(scored)
        weights.append(weight)
        windows.append(renumbered[window])
    return _Corpus(
        statistic=np.concatenate(statistics),
        row=np.concatenate([np.arange(len(one)) for one in series]),
        weight=np.concatenate(weights),
        window=np.concatenate(windows),
        evaluated=np.concatenate([one.evaluated for one in series]),
        windows=count,
    )


@njit()
def _tally(corpus: _Corpus, thresholds: Float64, out: Float64) -> None:
    """Fill `out` [K, 3]: summed weight of windows found, windows found, weight of false alarms.

    `row` falls where a new file begins.
    """
    best = np.empty(corpus.windows)
    for k in range(len(thresholds)):
        best[:] = -1.0
        last = -1_000_000
        before = -1
        for i in range(len(corpus.statistic)):
            t = corpus.row[i]
            if t < before:
                last = -1_000_000
            before = t
            if corpus.statistic[i] < thresholds[k]:
                continue
            if t - last <= min(max(SHARE * t, SHORTEST), LONGEST):
                continue
            last = t
            if not corpus.evaluated[i]:
                continue
            window, weight = corpus.window[i], corpus.weight[i]
            if window < 0:
                out[k, 2] += weight
            elif weight > best[window]:
                best[window] = weight
        for w in range(corpus.windows):
            if best[w] > 0:
                out[k, 0] += best[w]
                out[k, 1] += 1


def best_thresholds(
    series: Sequence[LabelledSeries], statistics: Sequence[Float64], profiles: Sequence[Profile]
) -> Float64:
    """[profiles]: the threshold on `statistics` [T] with the highest score, found in two rounds.

    inf where no alerts are best.
    """
    corpus = _lay_out(series, statistics)
    usable = corpus.statistic[~np.isnan(corpus.statistic) & corpus.evaluated]
    if len(usable) == 0:
        return np.full(len(profiles), np.inf)
    distinct, counts = np.unique(usable, return_counts=True)
    above = np.cumsum(counts[::-1])
    ranks = np.geomspace(1, COARSE_SHARE * above[-1], COARSE)
    picks = np.unique(np.searchsorted(above, ranks))
    coarse = distinct[::-1][np.minimum(picks, len(distinct) - 1)]
    values = _values_at(corpus, coarse, profiles)
    best = []
    for p, profile in enumerate(profiles):
        top = int(np.argmax(values[:, p]))
        low = coarse[min(top + 1, len(coarse) - 1)]
        high = coarse[max(top - 1, 0)]
        fine = distinct[(distinct >= low) & (distinct <= high)]
        fine = np.unique(np.append(fine[:: -(-len(fine) // COARSE)], coarse[top]))[::-1]
        at = _values_at(corpus, fine, [profile])
        winner = int(np.argmax(at[:, 0]))
        best.append(fine[winner] if at[winner, 0] > 0 else np.inf)
    return np.array(best)


def _values_at(corpus: _Corpus, thresholds: Float64, profiles: Sequence[Profile]) -> Float64:
    """[K, profiles]: raw score at each threshold, 0 for no alerts."""
    used = corpus.statistic >= thresholds.min()
    tally = np.zeros((len(thresholds), 3))
    rows = [column[used] for column in corpus[:-1]]
    _tally(_Corpus._make([*rows, corpus.windows]), thresholds, tally)
    costs = np.array([[p.found, p.missed, p.false_alarm] for p in profiles])
    values: Float64 = tally @ costs.T
    return values

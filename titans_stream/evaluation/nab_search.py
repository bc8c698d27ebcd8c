"""The best single threshold for a whole corpus, by profile, as NAB's optimiser finds it.

N is the number of rows of all files, K of thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from titans_stream.evaluation.nab_rules import Profile, row_weights
from titans_stream.evaluation.protocol import Bool, LabelledSeries
from titans_stream.evaluation.silence import LONGEST, SHARE, SHORTEST
from titans_stream.jit import njit
from titans_stream.records import Float64, Int64

COARSE = 1024
"""Thresholds of the first of two rounds of the search with the silence rule."""
COARSE_SHARE = 0.5
"""Share of rows above the lowest of them."""


def best_thresholds(
    series: Sequence[LabelledSeries],
    statistics: Sequence[Float64],
    silence: bool,
    profiles: Sequence[Profile],
) -> Float64:
    """[profiles]: the threshold on `statistics` [T] with the highest score; inf for no alerts."""
    corpus = _lay_out(series)
    search = _search_silenced if silence else _search_plain
    return search(corpus, np.concatenate(statistics), profiles)


@dataclass(frozen=True, slots=True)
class _Corpus:
    """All files laid end to end; `window` numbers those of the whole corpus, -1 outside."""

    weight: Float64
    window: Int64
    row: Int64
    evaluated: Bool
    starts: Int64
    windows: int


def _lay_out(series: Sequence[LabelledSeries]) -> _Corpus:
    weights, windows, rows = [], [], []
    count = 0
    for one in series:
        weight, window = row_weights(one)
        scored = np.unique(window[one.evaluated & (window >= 0)])
        renumbered = np.full(len(one.windows) + 1, -1, dtype=np.int64)
        renumbered[scored] = count + np.arange(len(scored))
        count += len(scored)
        weights.append(weight)
        windows.append(renumbered[window])
        rows.append(np.arange(len(one)))
    return _Corpus(
        weight=np.concatenate(weights),
        window=np.concatenate(windows),
        row=np.concatenate(rows),
        evaluated=np.concatenate([one.evaluated for one in series]),
        starts=np.cumsum([0] + [len(one) for one in series]),
        windows=count,
    )


@njit()
def _tally(
    statistic: Float64,
    thresholds: Float64,
    row: Int64,
    weight: Float64,
    window: Int64,
    evaluated: Bool,
    windows: int,
    out: Float64,
) -> None:
    """Fill `out` [K, 3]: summed weight of windows found, windows found, weight of false alarms.

    `row` falls where a new file begins.
    """
    best = np.empty(windows)
    for k in range(len(thresholds)):
        best[:] = -1.0
        last = -1_000_000
        before = -1
        for i in range(len(statistic)):
            t = row[i]
            if t < before:
                last = -1_000_000
            before = t
            if statistic[i] < thresholds[k]:
                continue
            if t - last <= min(max(SHARE * t, SHORTEST), LONGEST):
                continue
            last = t
            if not evaluated[i]:
                continue
            if window[i] < 0:
                out[k, 2] += weight[i]
            elif weight[i] > best[window[i]]:
                best[window[i]] = weight[i]
        for w in range(windows):
            if best[w] > 0:
                out[k, 0] += best[w]
                out[k, 1] += 1


def _search_silenced(corpus: _Corpus, statistic: Float64, profiles: Sequence[Profile]) -> Float64:
    """The best threshold of each profile under the silence rule, in two rounds."""
    usable = statistic[~np.isnan(statistic) & corpus.evaluated]
    if len(usable) == 0:
        return np.full(len(profiles), np.inf)
    distinct, counts = np.unique(usable, return_counts=True)
    above = np.cumsum(counts[::-1])
    ranks = np.geomspace(1, COARSE_SHARE * above[-1], COARSE)
    picks = np.unique(np.searchsorted(above, ranks))
    coarse = distinct[::-1][np.minimum(picks, len(distinct) - 1)]
    values = _values_at(corpus, statistic, coarse, profiles)
    best = []
    for p, profile in enumerate(profiles):
        top = int(np.argmax(values[:, p]))
        low = coarse[min(top + 1, len(coarse) - 1)]
        high = coarse[max(top - 1, 0)]
        fine = distinct[(distinct >= low) & (distinct <= high)]
        fine = np.unique(np.append(fine[:: -(-len(fine) // COARSE)], coarse[top]))[::-1]
        at = _values_at(corpus, statistic, fine, [profile])
        winner = int(np.argmax(at[:, 0]))
        best.append(fine[winner] if at[winner, 0] > 0 else np.inf)
    return np.array(best)


def _values_at(
    corpus: _Corpus, statistic: Float64, thresholds: Float64, profiles: Sequence[Profile]
) -> Float64:
    """[K, profiles]: raw score at each threshold, 0 for no alerts."""
    used = statistic >= thresholds.min()
    tally = np.zeros((len(thresholds), 3))
    _tally(
        statistic[used],
        thresholds,
        corpus.row[used],
        corpus.weight[used],
        corpus.window[used],
        corpus.evaluated[used],
        corpus.windows,
        tally,
    )
    costs = np.array([[p.found, p.missed, p.false_alarm] for p in profiles])
    values: Float64 = tally @ costs.T
    return values


def _search_plain(corpus: _Corpus, statistic: Float64, profiles: Sequence[Profile]) -> Float64:
    """The best threshold of each profile where every row above it is an alert; exact."""
    keep = corpus.evaluated & ~np.isnan(statistic)
    value, weight, window = statistic[keep], corpus.weight[keep], corpus.window[keep]
    order = np.argsort(-value, kind="stable")
    value, weight, window = value[order], weight[order], window[order]
    outside = np.where(window < 0, weight, 0.0)
    gain = np.zeros(len(value))
    first = np.zeros(len(value))
    for number in range(corpus.windows):
        rows = np.flatnonzero(window == number)
        if len(rows):
            gain[rows] = np.diff(np.maximum.accumulate(weight[rows]), prepend=0.0)
            first[rows[0]] = 1.0
    last = np.append(value[1:] != value[:-1], True)
    totals = [np.cumsum(part)[last] for part in (gain, first, outside)]
    best = []
    for p in profiles:
        raw = p.found * totals[0] + p.missed * totals[1] + p.false_alarm * totals[2]
        top = int(np.argmax(raw))
        best.append(value[last][top] if raw[top] > 0 else np.inf)
    return np.array(best)

"""The Numenta Anomaly Benchmark: scores of statistics and of alerts, and a detector's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from titans_stream.evaluation.nab_corpus import (
    load_corpus,
    load_profiles,
    load_published_scores,
    load_published_statistics,
    load_published_thresholds,
)
from titans_stream.evaluation.nab_rules import (
    PROFILES,
    FileScore,
    NabResult,
    Profile,
    ProfileScore,
    score_file,
)
from titans_stream.evaluation.nab_search import best_thresholds
from titans_stream.evaluation.protocol import Bool, LabelledSeries
from titans_stream.evaluation.silence import alert_rows
from titans_stream.records import Float64, Int64


def score_corpus(
    series: Sequence[LabelledSeries],
    statistics: Sequence[Float64],
    silence: bool = True,
    profiles: Sequence[Profile] = PROFILES,
) -> NabResult:
    """Score statistics [T] with the best single threshold of each profile, as NAB's optimiser.

    With `silence`, alerts follow the rule of `silence.py`; without, every row at or above the
    threshold is an alert, as the benchmark defines it. NaN never alerts.
    """
    found = best_thresholds(series, statistics, silence, profiles)
    thresholds = {p.name: float(t) for p, t in zip(profiles, found, strict=True)}
    return score_at(series, statistics, thresholds, silence, profiles)


def score_at(
    series: Sequence[LabelledSeries],
    statistics: Sequence[Float64],
    thresholds: Mapping[str, float],
    silence: bool = True,
    profiles: Sequence[Profile] = PROFILES,
) -> NabResult:
    """Score statistics [T] at a given threshold of each profile."""
    results = {}
    for profile in profiles:
        threshold = thresholds[profile.name]
        rows = [alert_rows(one, threshold, silence) for one in statistics]
        results[profile.name] = _score_profile(series, rows, profile, threshold)
    return NabResult(results)


def score_alerts(
    series: Sequence[LabelledSeries],
    onsets: Sequence[Bool],
    profiles: Sequence[Profile] = PROFILES,
) -> NabResult:
    """Score alerts that begin where `onsets` [T] is true; no threshold is searched."""
    rows = [np.flatnonzero(flags) for flags in onsets]
    return NabResult({p.name: _score_profile(series, rows, p, float("nan")) for p in profiles})


def _score_profile(
    series: Sequence[LabelledSeries], rows: Sequence[Int64], profile: Profile, threshold: float
) -> ProfileScore:
    files = tuple(
        score_file(one, alerts, profile) for one, alerts in zip(series, rows, strict=True)
    )
    perfect = sum(file.perfect for file in files)
    raw = sum(file.score for file in files)
    return ProfileScore(100 * raw / perfect if perfect else float("nan"), threshold, files)


__all__ = [
    "PROFILES",
    "FileScore",
    "NabResult",
    "Profile",
    "ProfileScore",
    "load_corpus",
    "load_profiles",
    "load_published_scores",
    "load_published_statistics",
    "load_published_thresholds",
    "score_alerts",
    "score_at",
    "score_corpus",
]

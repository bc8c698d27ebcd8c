"""The rules of the Numenta Anomaly Benchmark: what an alert is worth, and the scores of a corpus.

Lavin & Ahmad, "Evaluating Real-time Anomaly Detection Algorithms - the Numenta Anomaly
Benchmark" (ICMLA 2015), scoring as of version 1.1. Of each labelled window the earliest alert
counts, weighted by a sigmoid of its position; every alert outside costs, less so soon after a
window. Rows of the probation period (15 %, at most 750) never count. Scores are scaled so that no
alerts are 0 and a perfect detector is 100.

T is the number of rows of a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from titans_stream.evaluation.protocol import LabelledSeries
from titans_stream.records import Float64, Int64

PROBATION_SHARE = 0.15
PROBATION_LIMIT = 750


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


@dataclass(frozen=True, slots=True)
class FileScore:
    """One file under one profile; `score` is its share of the raw score, 0 for no alerts."""

    name: str
    windows: int
    found: int
    false_alarms: int
    alerts: int
    score: float
    perfect: float


@dataclass(frozen=True, slots=True)
class ProfileScore:
    """The corpus under one profile; `threshold` is NaN where the detector set its own alerts."""

    score: float
    threshold: float
    files: tuple[FileScore, ...]

    @property
    def windows(self) -> int:
        """Labelled windows of the corpus."""
        return sum(file.windows for file in self.files)

    @property
    def found(self) -> int:
        """Windows with an alert inside."""
        return sum(file.found for file in self.files)

    @property
    def false_alarms(self) -> int:
        """Alerts outside all windows, after probation."""
        return sum(file.false_alarms for file in self.files)

    def categories(self) -> dict[str, FileScore]:
        """The files added up by folder."""
        totals: dict[str, FileScore] = {}
        for file in self.files:
            name = file.name.rpartition("/")[0]
            before = totals.get(name, FileScore(name, 0, 0, 0, 0, 0.0, 0.0))
            totals[name] = FileScore(
                name,
                before.windows + file.windows,
                before.found + file.found,
                before.false_alarms + file.false_alarms,
                before.alerts + file.alerts,
                before.score + file.score,
                before.perfect + file.perfect,
            )
        return totals


@dataclass(frozen=True, slots=True)
class NabResult:
    """Final scores of the corpus, by profile name."""

    profiles: Mapping[str, ProfileScore]

    @property
    def standard(self) -> float:
        """Final score of the profile `standard`."""
        return self.profiles["standard"].score

    @property
    def reward_low_fp(self) -> float:
        """Final score of the profile `reward_low_fp`."""
        return self.profiles["reward_low_fp"].score

    @property
    def reward_low_fn(self) -> float:
        """Final score of the profile `reward_low_fn`."""
        return self.profiles["reward_low_fn"].score

    def scores(self) -> dict[str, float]:
        """Profile name -> final score."""
        return {name: profile.score for name, profile in self.profiles.items()}


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


def score_file(series: LabelledSeries, rows: Int64, profile: Profile) -> FileScore:
    """The score of one file with alerts at `rows`; those in probation do not count."""
    weight, window = row_weights(series)
    rows = rows[series.evaluated[rows]]
    hits = window[rows]
    best = np.zeros(len(series.windows))
    np.maximum.at(best, hits[hits >= 0], weight[rows[hits >= 0]])
    found = int((best > 0).sum())
    windows = len(np.unique(window[series.evaluated & (window >= 0)]))
    outside = rows[hits < 0]
    return FileScore(
        name=series.name,
        windows=windows,
        found=found,
        false_alarms=len(outside),
        alerts=len(rows),
        score=float(
            profile.found * best.sum()
            + profile.missed * found
            + profile.false_alarm * weight[outside].sum()
        ),
        perfect=windows * (profile.found + profile.missed),
    )

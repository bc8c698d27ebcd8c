"""Detectors to compare with: rolling z-scores, half-space trees, and scores computed elsewhere.

All are causal and see a series once. Several channels of one asset are scored one by one and the
mean of the three strangest is the asset's score, as in the detector itself.

T is the number of rows of a series, D of its channels.
"""

from __future__ import annotations

import importlib.util
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from titans_stream.evaluation.protocol import Detection, Detector, LabelledSeries
from titans_stream.records import Float64

STRANGEST = 3
"""Channels of an asset whose mean is the asset's score."""
LEAST_SCALE = 1e-9


def strangest_mean(scores: Float64) -> Float64:
    """[T]: mean of the `STRANGEST` highest of `scores` [T, D]; missing ones do not count."""
    if scores.shape[1] == 1:
        return scores[:, 0]
    ranked = np.sort(np.where(np.isnan(scores), -np.inf, scores), axis=1)[:, -STRANGEST:]
    present = np.isfinite(ranked)
    total = np.where(present, ranked, 0.0).sum(axis=1)
    count = present.sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


@dataclass(frozen=True, slots=True)
class RollingZ:
    """|value - mean| / deviation, both over the last `window` readings before this one.

    A window of 6400 is the windowed Gaussian of NAB without its ties: the tail probability of a
    normal distribution is monotone in |z|.
    """

    window: int
    warm_up: int = 10

    def __call__(self, series: Sequence[LabelledSeries]) -> list[Detection]:
        """One detection per series."""
        return [self._detect(one) for one in series]

    def _detect(self, one: LabelledSeries) -> Detection:
        values = pd.DataFrame(one.values.reshape(len(one), -1))
        rolling = values.rolling(self.window, min_periods=self.warm_up)
        mean = rolling.mean().shift(1).to_numpy()
        scale = np.maximum(rolling.std(ddof=0).shift(1).to_numpy(), LEAST_SCALE)
        score = strangest_mean(np.abs(values.to_numpy() - mean) / scale)
        return Detection(
            surprise=score,
            statistic=score,
            expected=mean[:, 0],
            lower=mean[:, 0] - 1.96 * scale[:, 0],
            upper=mean[:, 0] + 1.96 * scale[:, 0],
        )


@dataclass(frozen=True, slots=True)
class Precomputed:
    """Scores that another program computed: an .npz file with an array [T, columns] per series.

    The key of a series is its name, with or without `.csv`. A start-shifted copy takes the tail
    of the whole series' scores, so these have no spread over starts.
    """

    path: Path
    column: int
    arrays: Mapping[str, Float64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            with np.load(self.path, allow_pickle=False) as archive:
                arrays = {key.removesuffix(".csv"): archive[key] for key in archive.files}
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(f"{self.path}: cannot be read as .npz: {error}") from error
        object.__setattr__(self, "arrays", arrays)

    def __call__(self, series: Sequence[LabelledSeries]) -> list[Detection]:
        """One detection per series. ValueError for one that is missing or of another length."""
        found = []
        for one in series:
            if one.source not in self.arrays:
                raise ValueError(f"{self.path.name}: no scores for {one.source}")
            scores = self.arrays[one.source]
            if len(scores) != len(one) + one.start:
                raise ValueError(f"{self.path.name}: {len(scores)} rows for {one.source}")
            score = np.ascontiguousarray(scores[one.start :, self.column], dtype=np.float64)
            found.append(Detection(surprise=score, statistic=score))
        return found

    def covers(self, series: Sequence[LabelledSeries]) -> bool:
        """Whether there are scores for every row of each of `series`."""
        return all(len(self.arrays.get(one.source, ())) == len(one) + one.start for one in series)


@dataclass(frozen=True, slots=True)
class HalfSpaceTrees:
    """Half-space trees of the library River (Tan, Ting & Liu, IJCAI 2011), one forest per series.

    All channels of an asset are one point, scaled to [0, 1] by their running extremes.
    """

    trees: int = 10
    height: int = 6
    window: int = 250
    seed: int = 1

    @staticmethod
    def available() -> bool:
        """Whether River, an optional dependency, is installed."""
        return importlib.util.find_spec("river") is not None

    def __call__(self, series: Sequence[LabelledSeries]) -> list[Detection]:
        """One detection per series."""
        return [self._detect(one) for one in series]

    def _detect(self, one: LabelledSeries) -> Detection:
        from river import anomaly, preprocessing

        scaler = preprocessing.MinMaxScaler()
        forest = anomaly.HalfSpaceTrees(
            n_trees=self.trees, height=self.height, window_size=self.window, seed=self.seed
        )
        score = np.full(len(one), np.nan)
        rows = one.values.reshape(len(one), -1).tolist()
        for t, row in enumerate(rows):
            point = {channel: value for channel, value in enumerate(row) if value == value}
            if not point:
                continue
            scaler.learn_one(point)
            scaled = scaler.transform_one(point)
            if t >= self.window:
                score[t] = forest.score_one(scaled)
            forest.learn_one(scaled)
        return Detection(surprise=score, statistic=score)


def default_baselines() -> dict[str, Detector]:
    """The baselines that can run here, by the name they have in tables.

    Half-space trees are left out where River is missing.
    """
    found: dict[str, Detector] = {
        "rolling z 100": RollingZ(100),
        "rolling z 1000": RollingZ(1000),
        "windowed Gaussian 6400": RollingZ(6400),
    }
    if HalfSpaceTrees.available():
        found["half-space trees"] = HalfSpaceTrees()
    return found


def forest_scores(
    folder: Path | None, data_set: str, series: Sequence[LabelledSeries]
) -> dict[str, Detector]:
    """The thresholded random cut forest, where `folder` holds its scores of all of `series`.

    `trcf_<data_set>.npz` has its score in column 0, its anomaly grade in column 1.
    """
    path = None if folder is None else folder / f"trcf_{data_set}.npz"
    if path is None or not path.is_file():
        return {}
    score, grade = Precomputed(path, 0), Precomputed(path, 1)
    if not score.covers(series):
        return {}
    return {"random cut forest, score": score, "random cut forest, grade": grade}

"""The corpus of the Numenta Anomaly Benchmark, and what was published about it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from titans_stream.evaluation.nab_rules import PROFILES, Profile, probation
from titans_stream.evaluation.protocol import LabelledSeries
from titans_stream.files.csv_file import CsvFile
from titans_stream.records import Float64
from titans_stream.times import parse_timestamp

_PUBLISHED_NAMES = {"reward_low_FP_rate": "reward_low_fp", "reward_low_FN_rate": "reward_low_fn"}


def load_corpus(root: Path) -> list[LabelledSeries]:
    """The files under `root`/data with their windows; names as in the labels, without `.csv`.

    ValueError where `root` is not a copy of the benchmark.
    """
    labels = root / "labels" / "combined_windows.json"
    if not labels.is_file():
        raise ValueError(f"root: no labels/combined_windows.json under {root}")
    windows = json.loads(labels.read_text(encoding="utf-8"))
    return [
        _load_file(root / "data" / name, name.removesuffix(".csv"), limits)
        for name, limits in sorted(windows.items())
    ]


def _load_file(path: Path, name: str, limits: Sequence[tuple[str, str]]) -> LabelledSeries:
    if not path.is_file():
        raise ValueError(f"root: {path} is missing")
    file = CsvFile(path)
    table = file.read()
    times = table.times(file.column("timestamp"))
    windows = np.empty((len(limits), 2), dtype=np.int64)
    for row, limit in enumerate(limits):
        for side, text in enumerate(limit):
            matches = np.flatnonzero(times == parse_timestamp(text))
            if len(matches) == 0:
                raise ValueError(f"{name}: the window's limit {text} is no row of the file")
            windows[row, side] = matches[0]
    return LabelledSeries(
        name=name,
        values=table.numbers(file.column("value")),
        timestamp=times,
        windows=windows,
        evaluated=np.arange(len(table)) >= probation(len(table)),
        train_end=probation(len(table)),
    )


def load_profiles(root: Path) -> tuple[Profile, ...]:
    """The profiles of `root`/config/profiles.json, or the published ones where it is missing."""
    profiles = [
        Profile(
            _PUBLISHED_NAMES.get(name, name),
            *(float(body["CostMatrix"][weight]) for weight in ("tpWeight", "fnWeight", "fpWeight")),
        )
        for name, body in _read(root / "config" / "profiles.json").items()
    ]
    return tuple(profiles) or PROFILES


def load_published_scores(root: Path) -> dict[str, dict[str, float]]:
    """Detector -> profile -> final score, of `root`/results/final_results.json."""
    return {
        detector: {_PUBLISHED_NAMES.get(name, name): float(score) for name, score in row.items()}
        for detector, row in _read(root / "results" / "final_results.json").items()
    }


def _read(path: Path) -> dict[str, Any]:
    """A JSON file, empty where it is missing."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def load_published_statistics(
    root: Path, detector: str, series: Sequence[LabelledSeries]
) -> list[Float64]:
    """The raw scores [T] that a detector of the scoreboard published, for each series."""
    statistics = []
    for one in series:
        folder, _, stem = one.name.rpartition("/")
        path = root / "results" / detector / folder / f"{detector}_{stem}.csv"
        if not path.is_file():
            raise ValueError(f"root: {path} is missing")
        file = CsvFile(path)
        scores = file.read().numbers(file.column("anomaly_score"))
        if len(scores) != len(one):
            raise ValueError(f"{path}: {len(scores)} rows for {len(one)} of the data")
        statistics.append(scores)
    return statistics

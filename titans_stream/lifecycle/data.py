"""The series that a recipe trains on: made ones, ones from CSV files, and those kept aside.

Letters: N series, T readings of the longest.
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from titans_stream.calendar_features import COLUMNS, calendar_features
from titans_stream.engine.clock import LocalTime
from titans_stream.files.csv_file import CsvFile
from titans_stream.files.csv_readings import ReadingsOfCsv, choose_columns
from titans_stream.lifecycle.settings import CsvData, DataConfig, SyntheticData
from titans_stream.records import Float64, Int64
from titans_stream.synthetic import HELD_OUT, SyntheticSeries, generate
from titans_stream.times import load_zone

SHORTEST = 64
"""A series or piece with fewer readings is left out."""
CSV_FAMILY = "csv"


@dataclass(frozen=True, slots=True)
class Series:
    """Readings of one series in order of time, none missing. Times are nanoseconds, UTC."""

    name: str
    family: str
    value: Float64
    timestamp: Int64
    calendar: Float64
    """[T, 10] as `calendar_features` gives it."""


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What is learned from, what decides when to stop, and what is only measured on."""

    training: list[Series]
    validation: list[Series]
    held_out: list[Series] = field(default_factory=list)
    """Families that are neither learned from nor decide anything."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the names, times and values of all series, in order."""
        digest = hashlib.sha256()
        for part in (self.training, self.validation, self.held_out):
            digest.update(f"{len(part)};".encode())
            for series in part:
                digest.update(f"{series.name};{len(series.value)};".encode())
                digest.update(np.ascontiguousarray(series.timestamp, dtype="<i8").tobytes())
                digest.update(np.ascontiguousarray(series.value, dtype="<f8").tobytes())
        return digest.hexdigest()


def load_data(config: DataConfig, seed: int) -> TrainingData:
    """Make and read the series that `config` names. ValueError says which setting is wrong."""
    data = TrainingData([], [])
    if config.synthetic is not None:
        made = _synthetic(config.synthetic, config.validation_share, seed)
        data = TrainingData(made.training, made.validation, made.held_out)
    if config.csv is not None:
        for series in _read_csv(config.csv):
            _split(series, config.csv.length, config.validation_share, data)
    for name, part in (("training", data.training), ("validation", data.validation)):
        if not part:
            raise ValueError(f"data: no series of {SHORTEST} readings is left for {name}")
    return data


def stack(series: Sequence[Series]) -> tuple[Float64, Float64]:
    """Values [N, T], NaN after the end of a series, and calendar [N, T, 10]."""
    longest = max(len(one.value) for one in series)
    values = np.full((len(series), longest), np.nan)
    calendar = np.zeros((len(series), longest, COLUMNS))
    for i, one in enumerate(series):
        values[i, : len(one.value)] = one.value
        calendar[i, : len(one.value)] = one.calendar
    return values, calendar


def _synthetic(config: SyntheticData, validation_share: float, seed: int) -> TrainingData:
    try:
        made = generate(config.families, config.series, config.length, config.interval, seed)
    except ValueError as error:
        raise ValueError(f"data.synthetic.{error}") from error
    kept = max(round(validation_share * len(made)), 1)
    other = tuple(name for name in HELD_OUT if name not in config.families)
    held_out = generate(other, kept, config.length, config.interval, seed) if other else []
    return TrainingData(_known(made[:-kept]), _known(made[-kept:]), _known(held_out))


def _known(made: Iterable[SyntheticSeries]) -> list[Series]:
    return [
        _series(one.name, one.family, one.value, one.timestamp, LocalTime("UTC")) for one in made
    ]


def _series(
    name: str, family: str, value: Float64, timestamp: Int64, clock: LocalTime | None
) -> Series:
    """Readings that are missing are left out; `clock` None: the times are not real ones."""
    known = np.isfinite(value)
    value, timestamp = value[known], timestamp[known]
    order = np.argsort(timestamp, kind="stable")
    value, timestamp = value[order], timestamp[order]
    seconds = np.full(len(value), np.nan) if clock is None else clock.seconds(timestamp)
    return Series(name, family, value, timestamp, calendar_features(seconds))


def _read_csv(config: CsvData) -> Iterable[Series]:
    clock = LocalTime(config.timezone) if config.timestamp is not None else None
    for pattern in config.files:
        paths = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - absolute patterns
        if not paths:
            raise ValueError(f"data.csv.files: nothing is called {pattern}")
        for path in paths:
            yield from _read_file(Path(path), config, clock)


def _read_file(path: Path, config: CsvData, clock: LocalTime | None) -> Iterable[Series]:
    file = CsvFile(path, config.delimiter)
    columns = choose_columns(file, config.timestamp, config.values, config.series)
    parts: dict[str, list[tuple[Int64, Float64]]] = {}
    for chunk in ReadingsOfCsv(file, columns, load_zone(config.timezone)):
        names = np.array(chunk.readings.series)
        for name in dict.fromkeys(chunk.readings.series):
            rows = names == name
            part = (chunk.readings.timestamp[rows], chunk.readings.value[rows])
            parts.setdefault(name, []).append(part)
    for name, pieces in parts.items():
        timestamp, value = (np.concatenate(column) for column in zip(*pieces, strict=True))
        yield _series(f"{path.name}/{name}", CSV_FAMILY, value, timestamp, clock)


def _split(series: Series, length: int, validation_share: float, data: TrainingData) -> None:
    """Cut a series into pieces: its last part for validation, the rest for training."""
    border = round(len(series.value) * (1.0 - validation_share))
    for start, stop, part in (
        (0, border, data.training),
        (border, len(series.value), data.validation),
    ):
        for first in range(start, stop, length):
            rows = slice(first, min(first + length, stop))
            if rows.stop - rows.start >= SHORTEST:
                part.append(
                    Series(
                        f"{series.name}[{rows.start}:{rows.stop}]",
                        series.family,
                        series.value[rows],
                        series.timestamp[rows],
                        series.calendar[rows],
                    )
                )

"""The series that a recipe trains on: made ones, ones that are read, and those kept aside.

Letters: N series, T readings of the longest.
"""

from __future__ import annotations

import glob
import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from titans_stream.calendar_features import COLUMNS
from titans_stream.engine.clock import LocalTime
from titans_stream.files.account import FileAccount
from titans_stream.files.column_choice import choose_columns
from titans_stream.files.csv_file import CsvFile
from titans_stream.files.csv_readings import ReadingsOfCsv
from titans_stream.files.dialect import Dialect
from titans_stream.files.remarks import log_remarks
from titans_stream.lifecycle.series import Series, make_series
from titans_stream.lifecycle.topic_data import TOPIC_FAMILY, topic_series
from titans_stream.recipe_settings import CsvData, DataConfig, SyntheticData
from titans_stream.records import Float64, Int64
from titans_stream.synthetic import HELD_OUT, SyntheticSeries, generate
from titans_stream.times import load_zone

log = logging.getLogger(__name__)

SHORTEST = 64
"""A series or piece with fewer readings is left out."""
CSV_FAMILY = "csv"
READ_FAMILIES = (CSV_FAMILY, TOPIC_FAMILY)
LONG_SEEDS = 1_000_000
"""Between the seeds of the series and those of the long ones."""


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What is learned from, what decides when to stop, and what is only measured on."""

    training: list[Series]
    validation: list[Series]
    held_out: list[Series] = field(default_factory=list)
    """Families that are neither learned from nor decide anything."""
    whole: list[Series] = field(default_factory=list)
    """Long series that the heads of forecasts of many steps learn from."""
    whole_validation: list[Series] = field(default_factory=list)
    """Those of a file begin with what is learned from; only their last part is measured."""
    whole_held_out: list[Series] = field(default_factory=list)
    accounts: list[FileAccount] = field(default_factory=list)
    """What became of the values of each file."""

    @property
    def parts(self) -> tuple[list[Series], ...]:
        """All of them."""
        return (
            self.training, self.validation, self.held_out,
            self.whole, self.whole_validation, self.whole_held_out,
        )  # fmt: skip

    @property
    def own_validation(self) -> list[Series]:
        """Those of `whole_validation` that were read, none made."""
        return [one for one in self.whole_validation if one.family in READ_FAMILIES]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the names, times and values of all series, in order."""
        digest = hashlib.sha256()
        for number, part in enumerate(self.parts):
            if number > 2 and not part:
                continue
            digest.update(f"{len(part)};".encode())
            for series in part:
                digest.update(f"{series.name};{len(series.value)};".encode())
                digest.update(np.ascontiguousarray(series.timestamp, dtype="<i8").tobytes())
                digest.update(np.ascontiguousarray(series.value, dtype="<f8").tobytes())
        return digest.hexdigest()


def load_data(config: DataConfig, seed: int, whole: bool = False) -> TrainingData:
    """Make and read the series that `config` names; the long ones only if `whole` asks for them.

    ValueError says which setting is wrong.
    """
    data = TrainingData([], [])
    if config.synthetic is not None:
        data = _synthetic(config.synthetic, config.validation_share, seed)
        if whole:
            data = _with_long(data, config.synthetic, config.validation_share, seed)
    if config.csv is not None:
        for account, series in _read_csv(config.csv):
            if not any(account is one for one in data.accounts[-1:]):
                data.accounts.append(account)
            first = _part(series, slice(0, config.csv.first_readings))
            account.short += _add(first, "csv", config, data, whole)
    if config.topic is not None:
        for series in topic_series(config.topic):
            _add(series, "topic", config, data, whole)
    for name, part in (("training", data.training), ("validation", data.validation)):
        if not part:
            raise ValueError(f"data: no series of {SHORTEST} readings is left for {name}")
    return data


def _add(
    series: Series,
    part: Literal["csv", "topic"],
    config: DataConfig,
    data: TrainingData,
    whole: bool,
) -> int:
    """Take a series that was read as `data.csv` or `data.topic`.

    Says and returns how many values are left out of it.
    """
    length: int = getattr(config, part).length
    before = _readings_in(data)
    _split(series, length, config.validation_share, data, whole)
    lost = len(series.value) - (_readings_in(data) - before)
    if lost:
        log.warning(
            "%s: %s of %s values are left out: what pieces of data.%s.length "
            "(%s) leave over is shorter than %s",
            series.name, f"{lost:,}", f"{len(series.value):,}", part, length, SHORTEST,
        )  # fmt: skip
    return lost


def backtest_series(config: DataConfig, seed: int) -> list[Series]:
    """What models of `config` are compared on: validation series and held-out families."""
    data = load_data(config, seed)
    return [*data.validation, *data.held_out]


def _readings_in(data: TrainingData) -> int:
    return sum(len(one.value) for part in (data.training, data.validation) for one in part)


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


def _with_long(
    data: TrainingData, config: SyntheticData, validation_share: float, seed: int
) -> TrainingData:
    """`data` with long series, of each interval as many."""
    count = -(-config.long_series // len(config.long_intervals))
    for number, interval in enumerate(config.long_intervals):
        long = config.model_copy(
            update={"series": count, "length": config.long_length, "interval": interval}
        )
        made = _synthetic(long, validation_share, seed + (number + 1) * LONG_SEEDS)
        data.whole.extend(made.training)
        data.whole_validation.extend(made.validation)
        data.whole_held_out.extend(made.held_out)
    return data


def _known(made: Iterable[SyntheticSeries]) -> list[Series]:
    return [
        make_series(one.name, one.family, one.value, one.timestamp, LocalTime("UTC"))
        for one in made
    ]


def csv_series(config: CsvData) -> Iterable[Series]:
    """The series of CSV files, each as a whole; ValueError where a name fits no file."""
    return (series for _, series in _read_csv(config))


def _read_csv(config: CsvData) -> Iterable[tuple[FileAccount, Series]]:
    clock = LocalTime(config.timezone) if config.timestamp is not None else None
    for pattern in config.files:
        paths = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - absolute patterns
        if not paths:
            raise ValueError(f"data.csv.files: nothing is called {pattern}")
        for path in paths:
            account = FileAccount(Path(path).name)
            for series in _read_file(Path(path), config, clock, account):
                yield account, series


def _read_file(
    path: Path, config: CsvData, clock: LocalTime | None, account: FileAccount
) -> Iterable[Series]:
    file = CsvFile(path, _dialect(config))
    columns = choose_columns(file, config.timestamp, config.values, config.series)
    parts: dict[str, list[tuple[Int64, Float64]]] = {}
    for chunk in ReadingsOfCsv(file, columns, load_zone(config.timezone)):
        names = np.array(chunk.readings.series)
        for name in dict.fromkeys(chunk.readings.series):
            rows = names == name
            part = (chunk.readings.timestamp[rows], chunk.readings.value[rows])
            parts.setdefault(name, []).append(part)
    log_remarks(file, columns.left_out)
    for name, pieces in parts.items():
        timestamp, value = (np.concatenate(column) for column in zip(*pieces, strict=True))
        known = np.isfinite(value)
        again = _repeated(timestamp, value) & known
        missing, duplicate = int((~known).sum()), int(again.sum())
        account.values += len(value)
        account.missing += missing
        account.duplicate += duplicate
        for count, what in ((missing, "are missing"), (duplicate, "are there twice")):
            if count:
                log.warning(
                    "%s/%s: %s of %s values %s", path.name, name, f"{count:,}", f"{len(value):,}",
                    what,
                )  # fmt: skip
        yield make_series(
            f"{path.name}/{name}", CSV_FAMILY, value[~again], timestamp[~again], clock
        )


def _dialect(config: CsvData) -> Dialect:
    return Dialect(
        config.delimiter, config.header, config.comment, config.decimal, config.na,
        config.missing_values, config.time_format, config.encoding,
    )  # fmt: skip


def _split(
    series: Series, length: int, validation_share: float, data: TrainingData, whole: bool
) -> None:
    """Cut a series into pieces: its last part for validation, the rest for training."""
    count = len(series.value)
    border = round(count * (1.0 - validation_share))
    if whole:
        data.whole.append(_part(series, slice(0, border)))
        data.whole_validation.append(series)
    for start, stop, part in ((0, border, data.training), (border, count, data.validation)):
        for first in range(start, stop, length):
            rows = slice(first, min(first + length, stop))
            if rows.stop - rows.start >= SHORTEST:
                name = f"{series.name}[{rows.start}:{rows.stop}]"
                part.append(replace(_part(series, rows), name=name))


def _part(series: Series, rows: slice) -> Series:
    local = series.local_seconds
    return replace(
        series,
        value=series.value[rows],
        timestamp=series.timestamp[rows],
        calendar=series.calendar[rows],
        local_seconds=None if local is None else local[rows],
    )


def _repeated(times: Int64, values: Float64) -> npt.NDArray[np.bool_]:
    """Which of N readings have time and value of an earlier one."""
    order = np.lexsort((np.arange(len(times)), values, times))
    same = (np.diff(times[order]) == 0) & (np.diff(values[order]) == 0)
    found = np.zeros(len(times), np.bool_)
    found[order[1:][same]] = True
    return found

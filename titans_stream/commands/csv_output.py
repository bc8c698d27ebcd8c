"""Writes scores and forecasts as CSV, to a file that appears when all is written."""

from __future__ import annotations

import csv
import secrets
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from titans_stream.files.csv_readings import ASSUMED_INTERVAL
from titans_stream.printable import csv_cell
from titans_stream.records import Float64, Forecast, Scores, Status
from titans_stream.times import format_timestamps, parse_timestamp

SCORE_COLUMNS = (
    "timestamp",
    "series_id",
    "value",
    "score",
    "p_value",
    "surprise",
    "expected",
    "lower",
    "upper",
    "alert",
    "onset",
    "status",
    "rarity",
    "severity",
    "cause",
)
FORECAST_COLUMNS = ("series_id", "origin", "timestamp", "step", "median")
_LABELS = {int(status): status.label for status in Status}


class ScoreWriter:
    """Writes scores to an open text file, the header first, then in input order a row per value.

    Values have as many digits as a float64 needs to be read back the same, computed numbers
    `digits` significant ones (None: as many); NaN is empty.
    """

    def __init__(self, out: TextIO, digits: int | None = None) -> None:
        self._digits = digits
        self._writer = csv.writer(out, lineterminator="\n")
        self._writer.writerow(SCORE_COLUMNS)

    def write(
        self,
        scores: Scores,
        row_numbers: Sequence[int] | None,
        severity: Sequence[str],
        cause: Sequence[str],
    ) -> None:
        """Write N rows. `row_numbers` [N] stand for the timestamps of a file without times."""
        times: Iterable[object] = row_numbers or format_timestamps(scores.timestamp)
        numbers = (
            _texts(column, self._digits)
            for column in (
                scores.score,
                scores.p_value,
                scores.surprise,
                scores.expected,
                scores.lower,
                scores.upper,
            )
        )
        self._writer.writerows(
            zip(
                times,
                map(csv_cell, scores.series),
                _texts(scores.value),
                *numbers,
                scores.alert.tolist(),
                scores.onset.tolist(),
                map(_LABELS.__getitem__, scores.status.tolist()),
                _texts(scores.rarity, self._digits),
                severity,
                cause,
                strict=True,
            )
        )


def _texts(column: Float64, digits: int | None = None) -> list[str]:
    if digits is None:
        return ["" if value != value else repr(value) for value in column.tolist()]
    return ["" if value != value else f"{value:.{digits}g}" for value in column.tolist()]


class ForecastWriter:
    """Writes forecasts to an open text file, the header first, then a row per step.

    `timed` False: the file has no times, and origin and timestamp are numbers of the series'
    readings, counted from 1.
    """

    def __init__(self, out: TextIO, levels: Sequence[float], timed: bool) -> None:
        self._writer = csv.writer(out, lineterminator="\n")
        self._levels = [str(level) for level in levels]
        self._timed = timed
        self._writer.writerow([*FORECAST_COLUMNS, *(f"q{level}" for level in self._levels)])

    def write(self, forecast: Forecast) -> None:
        """Write all steps of a forecast."""
        origin, *times = map(self._time, [forecast.origin, *forecast.timestamps])
        series = csv_cell(forecast.series_id)
        columns = [forecast.quantiles[level] for level in self._levels]
        self._writer.writerows(
            [series, origin, time, step, repr(median), *map(repr, quantiles)]
            for step, (time, median, *quantiles) in enumerate(
                zip(times, forecast.median, *columns, strict=True), start=1
            )
        )

    def _time(self, text: str) -> str:
        return text if self._timed else str(parse_timestamp(text) // ASSUMED_INTERVAL + 1)


@contextmanager
def output_file(path: str) -> Iterator[TextIO]:
    """The file to write to, `-` for the standard output; put in place only when all is written.

    ValueError where the folder cannot be written to.
    """
    if path == "-":
        yield sys.stdout
        sys.stdout.flush()
        return
    target = Path(path)
    if target.is_dir():
        raise ValueError(f"--out {path}: is a folder")
    try:
        out, part = _part(target)
    except OSError as error:
        raise ValueError(f"--out {path}: cannot be written: {error.strerror or error}") from error
    try:
        with out:
            yield out
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _part(target: Path) -> tuple[TextIO, Path]:
    """A new file beside the target, with the rights that this process gives its files."""
    part = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    return part.open("x", encoding="utf-8", newline=""), part

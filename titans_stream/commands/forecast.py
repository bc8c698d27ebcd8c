"""Forecast the series of a CSV file with the engine of the service, without Kafka.

Writes one row per step: series_id, origin (time of the last reading that the forecast knows),
timestamp, step, median, and a column per quantile (q0.025, ...). One forecast per series, made
after its last reading; with --every N one after every N readings, as the service publishes them.

Each numeric column is a series; with --series a file holds many series, one reading a row.
Empty cells and NaN are missing values. A series needs 50 values before its first forecast.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from titans_stream.commands.csv_arguments import add_csv_arguments, delimiter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from titans_stream.commands.forecast_plot import ForecastPlot
    from titans_stream.engine.engine import StreamEngine
    from titans_stream.files.csv_file import CsvFile
    from titans_stream.files.csv_readings import CsvColumns, CsvReadings
    from titans_stream.forecasting.settings import ForecastConfig
    from titans_stream.records import Forecast

SHOWN_NAMES = 10


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("data", metavar="DATA.csv", type=Path, help="a CSV file with a header")
    parser.add_argument(
        "--horizon", metavar="H", required=True, help="readings ahead, or a duration such as 1d"
    )
    parser.add_argument(
        "--out", metavar="FORECASTS.csv", required=True, help="file to write; -: standard output"
    )
    parser.add_argument(
        "--every", metavar="N", type=int, help="forecast after every N readings of a series instead"
    )
    parser.add_argument(
        "--quantiles", metavar="Q,Q,...", help="beside the median; default 0.025,0.1,0.9,0.975"
    )
    parser.add_argument(
        "--plot", metavar="FILE.png", type=Path, help="draw history, median and fan"
    )
    add_csv_arguments(parser)
    parser.add_argument(
        "--model", metavar="URI", default="base", help="base, a folder, or models:/NAME@ALIAS"
    )
    parser.add_argument("--quiet", action="store_true", help="print no summary")


def run(args: argparse.Namespace) -> int:
    """Forecast the file."""
    from titans_stream.commands.csv_forecasts import ForecastWriter
    from titans_stream.commands.csv_scores import output_file
    from titans_stream.engine.rhythm import FIRST_FORECAST
    from titans_stream.files.csv_file import CsvFile
    from titans_stream.files.csv_readings import choose_columns, likely_time

    started = time.monotonic()
    file = CsvFile(args.data, delimiter(args.delimiter))
    columns = choose_columns(file, args.timestamp, args.value, args.series)
    timed = columns.timestamp is not None
    config = _forecast_config(args, timed)
    source = _Source(args, file, columns, config)
    plot = _plot(args.plot, timed)
    guess = likely_time(file, columns)
    if guess is not None and not args.quiet:
        _note(f"note: rows are counted; use their times with --timestamp {guess}")
    made: Counter[str] = Counter()
    with output_file(args.out) as out:
        writer = ForecastWriter(out, config.quantiles, timed)
        for forecast in source.forecasts(plot):
            writer.write(forecast)
            made[forecast.series_id] += 1
        if not made:
            raise ValueError(
                f"{args.data.name}: no series has the {FIRST_FORECAST} values that a forecast needs"
            )
    if plot is not None:
        plot.draw(args.plot)
    if not args.quiet:
        _note(
            f"{made.total():,} forecasts of {len(made):,} series, "
            f"{time.monotonic() - started:.1f} s"
        )
        _note_young(source, made, FIRST_FORECAST)
    return 0


class _Source:
    """The forecasts that the arguments ask for."""

    def __init__(
        self, args: argparse.Namespace, file: CsvFile, columns: CsvColumns, config: ForecastConfig
    ) -> None:
        from titans_stream.lifecycle.loading import load_model
        from titans_stream.times import load_zone

        self._file = file
        self._columns = columns
        self._config = config
        self._from_the_end = args.every is None
        self._zone_name: str = args.timezone or "UTC"
        self._zone = load_zone(self._zone_name)
        self._model = load_model(args.model)
        self.series: set[str] = set()

    def forecasts(self, plot: ForecastPlot | None) -> Iterator[Forecast]:
        """In the order in which the service would make them; `plot` watches."""
        from titans_stream.commands.forecasting import LastReadings, forecast_last, forecast_turns

        chunks: Iterable[CsvReadings] = self._readings()
        if plot is not None:
            chunks = plot.readings(chunks)
        if self._from_the_end:
            last = LastReadings.of(self._readings())
            self.series.update(last.offset)
            made = forecast_last(self._engine, self._config, last, chunks)
        else:
            made = forecast_turns(self._engine(self._config), chunks)
        return made if plot is None else plot.forecasts(made)

    def _readings(self) -> Iterable[CsvReadings]:
        from titans_stream.files.csv_readings import ReadingsOfCsv

        return ReadingsOfCsv(self._file, self._columns, self._zone)

    def _engine(self, config: ForecastConfig) -> StreamEngine:
        from titans_stream.detection.rules import AlertConfig
        from titans_stream.engine.engine import StreamEngine
        from titans_stream.engine.settings import EngineConfig

        settings = EngineConfig(timezone=self._zone_name)
        calendar = self._columns.timestamp is not None
        return StreamEngine(
            settings, AlertConfig(), self._model, calendar=calendar, forecast=config
        )


def _forecast_config(args: argparse.Namespace, timed: bool) -> ForecastConfig:
    """The settings of the arguments. ValueError names the argument that is wrong."""
    from pydantic import ValidationError

    from titans_stream.forecasting.settings import ForecastConfig

    text = args.horizon.strip()
    given: dict[str, object] = {"steps": int(text)} if text.isdecimal() else {"horizon": text}
    if "horizon" in given and not timed:
        raise ValueError(
            f"--horizon {args.horizon}: a file without times needs a number of readings, "
            "or name the times with --timestamp"
        )
    if args.every is not None:
        given["every"] = args.every
    if args.quantiles is not None:
        given["quantiles"] = _levels(args.quantiles)
    try:
        return ForecastConfig.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        name = first["loc"][0] if first["loc"] else "horizon"
        name = "horizon" if name == "steps" else name
        problem = first["msg"].removeprefix("Value error, ").removeprefix("steps: ")
        raise ValueError(f"--{name} {getattr(args, str(name))}: {problem}") from error


def _levels(text: str) -> list[float]:
    try:
        return [float(level) for level in text.split(",") if level.strip()]
    except ValueError:
        raise ValueError(f"--quantiles {text}: numbers such as 0.1,0.9 are needed") from None


def _plot(path: Path | None, timed: bool) -> ForecastPlot | None:
    if path is None:
        return None
    if not path.parent.is_dir():
        raise ValueError(f"--plot {path}: there is no folder {path.parent}")
    from titans_stream.commands.forecast_plot import ForecastPlot

    return ForecastPlot(timed)


def _note_young(source: _Source, made: Counter[str], least: int) -> None:
    """Name series that are too short."""
    young = sorted(source.series - set(made))
    if young:
        shown = ", ".join(young[:SHOWN_NAMES]) + (", ..." if len(young) > SHOWN_NAMES else "")
        _note(f"without a forecast, fewer than {least} values: {shown}")


def _note(text: str) -> None:
    sys.stderr.write(text + "\n")

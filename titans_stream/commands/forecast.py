"""Forecast the series of a CSV file with the engine of the service, without Kafka.

Writes one row per step: series_id, origin (time of the last reading that the forecast knows),
timestamp, step, median, and a column per quantile (q0.025, ...). One forecast per series, made
after its last reading; with --every N one after every N readings, as the service publishes them.

Each numeric column is a series; with --series a file holds many series, one reading a row.
Empty cells and NaN are missing values. A series needs 50 values before its first forecast.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from titans_stream.commands.csv_arguments import (
    add_csv_arguments,
    add_duplicates,
    chosen_duplicates,
)
from titans_stream.commands.outputs import note, refuse_overwriting, refuse_place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from titans_stream.commands.file_source import FileSource
    from titans_stream.commands.forecast_plot import ForecastPlot
    from titans_stream.commands.forecasting import FileForecasts
    from titans_stream.files.csv_readings import CsvReadings
    from titans_stream.forecasting.settings import ForecastConfig
    from titans_stream.records import Forecast


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
    parser.add_argument(
        "--backtest", action="store_true",
        help="say what forecasts of the file's last tenth err by, beside naive ones",
    )  # fmt: skip
    add_csv_arguments(parser)
    add_duplicates(parser)
    parser.add_argument(
        "--model", metavar="URI", default="base", help="base, a folder, or models:/NAME@ALIAS"
    )
    parser.add_argument("--quiet", action="store_true", help="print no summary")


def run(args: argparse.Namespace) -> int:
    """Forecast the file."""
    from titans_stream.commands.csv_output import ForecastWriter, output_file
    from titans_stream.commands.file_source import file_source
    from titans_stream.commands.progress import told
    from titans_stream.engine.rhythm import FIRST_FORECAST
    from titans_stream.jit import cache_is_empty

    started = time.monotonic()
    refuse_overwriting({"--out": args.out, "--plot": args.plot}, [args.data])
    timed = args.timestamp is not None
    config = _forecast_config(args, timed)
    plot = _plot(args.plot, timed)
    file = file_source(args, "rows are counted")
    source = _source(args, config, timed)
    if not args.quiet and cache_is_empty("forecasting/multi/kernels.py"):
        note("compiling the kernels, once on this machine: about a minute of a core")
    made: Counter[str] = Counter()
    with output_file(args.out) as out:
        writer = ForecastWriter(out, config.quantiles, timed)
        chunks = told(file.readings, "values", lambda chunk: len(chunk.row), args.quiet, file.count)
        found = _forecasts(source, args.every, chunks, plot)
        for forecast in found:
            writer.write(forecast)
            made[forecast.series_id] += 1
        if not made:
            _note(file.remarks(source.account))
            source.account.end(allowed=True, remedy=file.remedy)
            raise ValueError(
                f"{args.data.name}: no series has the {FIRST_FORECAST} values that a forecast "
                f"needs ({'; '.join(source.reasons(made))})"
            )
    if plot is not None:
        plot.draw(args.plot)
    if not args.quiet:
        _note(file.remarks(source.account))
        note(
            f"{made.total():,} forecasts of {len(made):,} series, "
            f"{source.account.readings:,} values, {source.account.rest('warming_up')}"
            f"{time.monotonic() - started:.1f} s"
        )
        for line in source.reasons(made):
            note(line)
    if args.backtest:
        for line in _backtest(args, config, file):
            note(line)
    return source.account.end(args.allow_dropped, remedy=file.remedy)


def _note(lines: Iterable[str]) -> None:
    for line in lines:
        note(f"note: {line}")


def _source(args: argparse.Namespace, config: ForecastConfig, timed: bool) -> FileForecasts:
    """What makes the forecasts that the arguments ask for."""
    from titans_stream.commands.forecasting import FileForecasts
    from titans_stream.engine.build import EngineSetup, build_engine
    from titans_stream.engine.settings import EngineConfig
    from titans_stream.lifecycle.loading import load_model
    from titans_stream.times import load_zone

    model = load_model(args.model)
    settings = EngineConfig(timezone=args.timezone or "UTC", **chosen_duplicates(args))
    return FileForecasts(
        lambda config: build_engine(model, EngineSetup(settings, forecast=config, calendar=timed)),
        config,
        settings.expire_after,
        load_zone(settings.timezone),
        timed,
        settings.duplicates,
    )


def _backtest(args: argparse.Namespace, config: ForecastConfig, file: FileSource) -> list[str]:
    """Forecast the file again as the service would, a horizon apart; what that is worth."""
    from titans_stream.commands.forecast_backtest import Backtest

    every = config.steps or 24
    source = _source(args, config.model_copy(update={"every": every}), file.timed)
    backtest = Backtest()
    made = list(source.turns(backtest.readings(file.readings)))
    return backtest.lines(made)


def _forecasts(
    source: FileForecasts,
    every: int | None,
    readings: Iterable[CsvReadings],
    plot: ForecastPlot | None,
) -> Iterator[Forecast]:
    """In the order in which the service would make them; `plot` watches."""
    from titans_stream.commands.forecasting import LastReadings

    chunks = readings if plot is None else plot.readings(readings)
    if every is not None:
        made = source.turns(chunks)
    else:
        made = source.last(LastReadings.of(readings, source.duplicates), chunks)
    return made if plot is None else plot.forecasts(made)


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
    refuse_place("--plot", path)
    from titans_stream.commands.forecast_plot import ForecastPlot

    return ForecastPlot(timed)

"""Score a CSV file with the engine of the service, without Kafka.

Writes one row per value, in input order: timestamp, series_id, value, score (0 to 1, higher is
stranger), p_value, surprise, expected, lower, upper, alert (1 while an episode is open), onset
(1 on its first reading) and status (scored, warming_up, duplicate, late, missing).

Each numeric column is a series; with --series a file holds many series, one reading a row.
Empty cells and NaN are missing values. With --group all of them are channels of one asset: judged
jointly and alerted as one; alert and onset are then the asset's.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from titans_stream.commands.csv_arguments import add_csv_arguments, delimiter

if TYPE_CHECKING:
    from titans_stream.commands.scoring import ScoredChunk, Tally
    from titans_stream.config import Connector
    from titans_stream.detection.rules import AlertConfig
    from titans_stream.engine.engine import StreamEngine
    from titans_stream.engine.settings import EngineConfig
    from titans_stream.files.csv_readings import CsvColumns
    from titans_stream.stream.settings import InputConfig

SHOWN_EPISODES = 100


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("data", metavar="DATA.csv", type=Path, help="a CSV file with a header")
    parser.add_argument(
        "--out", metavar="SCORES.csv", required=True, help="file to write; -: standard output"
    )
    add_csv_arguments(parser)
    parser.add_argument(
        "--connector", metavar="YAML", type=Path, help="take alert and engine settings, and the "
        "model, from a connector",
    )  # fmt: skip
    parser.add_argument("--model", metavar="URI", help="base, a folder, or models:/NAME@ALIAS")
    parser.add_argument(
        "--budget", metavar="N", type=float, help="accepted false alarms per series and day"
    )
    parser.add_argument(
        "--group", metavar="NAME", help="all series are channels of one asset of this name"
    )
    parser.add_argument("--quiet", action="store_true", help="print no alerts and no summary")


def run(args: argparse.Namespace) -> int:
    """Score the file."""
    from titans_stream.commands.csv_scores import ScoreWriter, output_file
    from titans_stream.commands.scoring import FileScorer
    from titans_stream.files.csv_file import CsvFile
    from titans_stream.files.csv_readings import ReadingsOfCsv, choose_columns, likely_time
    from titans_stream.times import load_zone

    started = time.monotonic()
    settings = _Settings(args)
    zone = load_zone(settings.input_timezone)
    file = CsvFile(args.data, delimiter(args.delimiter))
    columns = choose_columns(file, args.timestamp, args.value, args.series)
    guess = likely_time(file, columns)
    if guess is not None and not args.quiet:
        _note(f"note: rows are taken as 5 minutes apart; use their times with --timestamp {guess}")
    scorer = FileScorer(settings.engine(columns))
    with output_file(args.out) as out:
        writer = ScoreWriter(out)
        chunks = scorer.run(ReadingsOfCsv(file, columns, zone, settings.group))
        for chunk in chunks if args.quiet else _with_progress(chunks, started):
            writer.write(chunk.scores, None if columns.timestamp else chunk.row.tolist())
    if not args.quiet:
        _report(scorer.tally, columns, time.monotonic() - started)
    return 0


class _Settings:
    """What the arguments and the connector say about engine, alerts and model."""

    def __init__(self, args: argparse.Namespace) -> None:
        from titans_stream.config import BASE_MODEL, load_connector
        from titans_stream.detection.rules import AlertConfig
        from titans_stream.engine.settings import EngineConfig

        connector: Connector | None = load_connector(args.connector) if args.connector else None
        self._alerts: AlertConfig = connector.alerts if connector else AlertConfig()
        self._engine: EngineConfig = connector.engine if connector else EngineConfig()
        self._model: str = args.model or (connector.model if connector else BASE_MODEL)
        self.group: Callable[[str], str] | None = None
        if args.group is not None:
            if not args.group:
                raise ValueError("--group: a name is needed")
            self.group = lambda series: args.group
        elif connector is not None and connector.input.group is not None:
            self.group = partial(_group_by_connector, connector.input)
        self.input_timezone: str = connector.input.timezone if connector else "UTC"
        if args.timezone:
            self.input_timezone = args.timezone
            self._engine = self._engine.model_copy(update={"timezone": args.timezone})
        if args.budget is not None:
            changed = {"false_alarms_per_series_per_day": args.budget}
            self._alerts = AlertConfig.model_validate({**self._alerts.model_dump(), **changed})

    def engine(self, columns: CsvColumns) -> StreamEngine:
        from titans_stream.engine.engine import StreamEngine
        from titans_stream.lifecycle.loading import load_model

        calendar = columns.timestamp is not None
        model = load_model(self._model)
        return StreamEngine(self._engine, self._alerts, model, calendar=calendar)


def _group_by_connector(config: InputConfig, series: str) -> str:
    from titans_stream.stream.publisher import group_of_series

    try:
        return group_of_series(config, series)
    except ValueError as error:
        raise ValueError(
            f"--group is needed: the connector's group {config.group!r} cannot be told from the "
            f"series {series!r} ({error})"
        ) from error


def _with_progress(chunks: Iterable[ScoredChunk], started: float) -> Iterator[ScoredChunk]:
    """Tell a person at a terminal how far it is."""
    shown = sys.stderr.isatty()
    values = 0
    for chunk in chunks:
        yield chunk
        values += len(chunk.scores)
        if shown:
            rate = values / max(time.monotonic() - started, 1e-9)
            sys.stderr.write(f"\r{values:,} values, {rate:,.0f}/s\x1b[K")
            sys.stderr.flush()
    if shown:
        sys.stderr.write("\r\x1b[K")


def _report(tally: Tally, columns: CsvColumns, seconds: float) -> None:
    episodes = sorted(tally.episodes.values(), key=lambda alert: alert.onset)
    for alert in episodes[:SHOWN_EPISODES]:
        row = None if columns.timestamp else tally.opened_at[alert.alert_id]
        when = alert.onset if row is None else f"row {row}"
        _note(f"{alert.severity:8s}  {when}  {alert.series_id}: {alert.explanation}")
    if len(episodes) > SHOWN_EPISODES:
        _note(f"and {len(episodes) - SHOWN_EPISODES:,} more alerts")
    _note(
        f"{tally.values:,} values of {tally.series:,} series, {tally.scored:,} scored, "
        f"{len(episodes):,} alerts, {seconds:.1f} s"
    )


def _note(text: str) -> None:
    sys.stderr.write(text + "\n")

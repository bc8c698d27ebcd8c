"""Score a CSV file with the engine of the service, without Kafka.

Writes one row per value, in input order: timestamp, series_id, value, score (0 to 1, higher is
stranger), p_value, surprise, expected, lower, upper, alert (1 while an episode is open), onset
(1 on its first reading), status (scored, warming_up, duplicate, late, missing), rarity (-log10 of
how often, per 100 readings, an episode this strange is due), and severity and cause of the episode
that is open.

Each numeric column is a series; with --series a file holds many series, one reading a row.
Empty cells and NaN are missing values. With --connector the file is read as `replay` reads it, and
series have the connector's names. With --group all of them are channels of one asset: judged
jointly and alerted as one; alert and onset are then the asset's.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from titans_stream.commands.csv_arguments import (
    add_csv_arguments,
    add_duplicates,
    chosen_duplicates,
)
from titans_stream.commands.outputs import note, refuse_overwriting, refuse_place
from titans_stream.commands.replay import add_constants

if TYPE_CHECKING:
    from titans_stream.commands.file_source import FileSource
    from titans_stream.commands.scoring import Tally
    from titans_stream.config import Connector
    from titans_stream.engine.build import EngineSetup

SHOWN_EPISODES = 100


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("data", metavar="DATA.csv", type=Path, help="a CSV file with a header")
    parser.add_argument(
        "--out", metavar="SCORES.csv", required=True, help="file to write; -: standard output"
    )
    add_csv_arguments(parser)
    parser.add_argument(
        "--connector", metavar="YAML", type=Path, help="take names of series, alert and engine "
        "settings, and the model, from a connector",
    )  # fmt: skip
    add_duplicates(parser)
    add_constants(parser)
    parser.add_argument("--model", metavar="URI", help="base, a folder, or models:/NAME@ALIAS")
    parser.add_argument(
        "--budget", metavar="N", type=float, help="accepted false alarms per series and day"
    )
    parser.add_argument(
        "--digits", metavar="N", type=_digits, default=6, help="significant digits of computed "
        "numbers; all: as many as a float64 has; default 6",
    )  # fmt: skip
    parser.add_argument(
        "--plot", metavar="FILE.png", type=Path, help="draw values, bands, scores and episodes"
    )
    parser.add_argument(
        "--group", metavar="NAME", help="all series are channels of one asset of this name"
    )
    parser.add_argument("--quiet", action="store_true", help="print no alerts and no summary")


def _digits(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal() or not 0 < int(text) <= 17:
        raise argparse.ArgumentTypeError(f"a number from 1 to 17 or all is needed, not {text!r}")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Score the file."""
    from titans_stream.commands.csv_output import ScoreWriter, output_file
    from titans_stream.commands.progress import told
    from titans_stream.commands.scoring import FileScorer
    from titans_stream.config import BASE_MODEL, load_connector
    from titans_stream.engine.build import build_engine
    from titans_stream.lifecycle.loading import load_model

    started = time.monotonic()
    refuse_overwriting({"--out": args.out, "--plot": args.plot}, [args.data, args.connector])
    refuse_place("--plot", args.plot)
    if args.group == "":
        raise ValueError("--group: a name is needed")
    connector = None if args.connector is None else load_connector(args.connector)
    source = _source(args, connector)
    timed = source.timed
    model = load_model(args.model or (BASE_MODEL if connector is None else connector.model))
    scorer = FileScorer(build_engine(model, _setup(args, connector, timed)))
    chunks = scorer.run(source.readings)
    plot = None
    if args.plot is not None:
        from titans_stream.commands.score_plot import ScorePlot

        plot = ScorePlot(timed)
        chunks = plot.watch(chunks)
    with output_file(args.out) as out:
        writer = ScoreWriter(out, args.digits)
        counted = told(chunks, "values", lambda chunk: len(chunk.scores), args.quiet, source.count)
        for chunk in counted:
            numbers = None if timed else chunk.row.tolist()
            writer.write(chunk.scores, numbers, chunk.severity, chunk.cause)
    if plot is not None:
        plot.draw(args.plot)
    if not args.quiet:
        for line in source.remarks(scorer.tally.account):
            note(f"note: {line}")
        for line in scorer.remarks():
            note(f"note: {line}")
        _report(scorer.tally, timed, time.monotonic() - started)
    return scorer.tally.account.end(args.allow_dropped, remedy=source.remedy)


def _source(args: argparse.Namespace, connector: Connector | None) -> FileSource:
    """What the file holds, read as the arguments and the connector say."""
    from titans_stream.commands.file_source import connector_source, file_source

    if connector is None:
        if args.set:
            raise ValueError("--set: fields are those of a --connector")
        return file_source(args, "rows are taken as 5 minutes apart", args.group)
    return connector_source(args, connector.input, args.group)


def _setup(args: argparse.Namespace, connector: Connector | None, timed: bool) -> EngineSetup:
    """What the arguments and the connector say about the engine."""
    from pydantic import ValidationError

    from titans_stream.detection.rules import AlertConfig
    from titans_stream.engine.build import EngineSetup
    from titans_stream.engine.settings import EngineConfig

    told = "learned" if timed else "never"
    alerts = AlertConfig.model_validate({"no_data_after": told})
    if connector is not None:
        alerts = connector.alerts
    engine = EngineConfig() if connector is None else connector.engine
    if args.timezone:
        engine = engine.model_copy(update={"timezone": args.timezone})
    engine = engine.model_copy(update=chosen_duplicates(args))
    if args.budget is not None:
        changed = {"false_alarms_per_series_per_day": args.budget}
        try:
            alerts = AlertConfig.model_validate({**alerts.model_dump(), **changed})
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            raise ValueError(f"--budget {args.budget:g}: {problem}") from error
    return EngineSetup(engine, alerts, calendar=timed)


def _report(tally: Tally, timed: bool, seconds: float) -> None:
    episodes = sorted(tally.episodes.values(), key=lambda alert: alert.onset)
    for alert in episodes[:SHOWN_EPISODES]:
        when = alert.onset if timed else f"row {tally.opened_at[alert.alert_id]}"
        note(f"{alert.severity:8s}  {when}  {alert.series_id}: {alert.explanation}")
    if len(episodes) > SHOWN_EPISODES:
        note(f"and {len(episodes) - SHOWN_EPISODES:,} more alerts")
    note(
        f"{tally.account.readings:,} values of {tally.series:,} series, "
        f"{tally.account.scored:,} scored, {tally.account.rest()}{len(episodes):,} alerts, "
        f"{seconds:.1f} s"
    )

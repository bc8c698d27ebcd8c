"""Check a connector: its settings, its topics, and whether its messages can be read.

Connects, reads the last few messages of the input topic and says what a worker would make of
them. Changes nothing: no offset is committed and nothing is published.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from titans_stream.commands.outputs import note, say

if TYPE_CHECKING:
    from titans_stream.config import Connector
    from titans_stream.stream.inspect import Inspection, MessageReport
    from titans_stream.stream.kafka.client import KafkaClients

PATIENCE = 10.0
"""Seconds to wait for a broker that does not answer."""
LOOKED_AT = 1_000
"""Messages that are decoded to find the series that rules are for."""
_SHOWN_READINGS = 4
_SHOWN_TOPICS = 5


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("connector", metavar="CONNECTOR.yaml", type=Path)
    parser.add_argument(
        "--messages", metavar="N", type=int, default=5, help="messages to decode; default 5"
    )


def run(args: argparse.Namespace) -> int:
    """Check; ValueError (exit code 2) where a worker could not run or nothing can be used."""
    from titans_stream.config import load_connector

    if args.messages < 0:
        raise ValueError("--messages: a number from 0 on is needed")
    connector = load_connector(args.connector)
    say(f"connector  {connector.name}: the settings are valid")

    from titans_stream.stream.inspect import inspect_connector
    from titans_stream.stream.kafka.client import KafkaClients

    clients = KafkaClients(connector.kafka, patience=PATIENCE)
    _topics(clients, connector)
    found = inspect_connector(
        clients, connector.input, connector.output, max(args.messages, LOOKED_AT)
    )
    shown = found.messages[-args.messages :] if args.messages else ()
    _offsets(connector, found)
    _messages(shown)
    from titans_stream.commands import check_budget
    from titans_stream.commands.check_readings import look_at, tell

    tell(look_at(found.messages, connector.engine))
    check_budget.tell(
        check_budget.usual_interval(found.messages),
        connector.alerts.false_alarms_per_series_per_day,
    )
    _rules(connector, found)
    _model(connector)
    _state(connector)
    _forecasts(connector)
    _refuse_unusable(shown)
    return 0


def _topics(clients: KafkaClients, connector: Connector) -> None:
    """Name the topics; ValueError names all that are missing."""
    from titans_stream.stream.worker import named_topics

    named = named_topics(connector.input, connector.output)
    found = clients.topics(named.values())
    say(f"kafka      {clients.servers} answers")
    pattern = connector.input.subscription
    if pattern.pattern is not None:
        matched = list(filter(pattern.has, clients.topic_names()))
        some = f": {', '.join(matched[:_SHOWN_TOPICS])}" + ", ..." * (len(matched) > _SHOWN_TOPICS)
        say(f"topics     {len(matched):,} match input.topic_pattern{some if matched else ''}")
    missing = []
    for setting, topic in named.items():
        known = found[topic] is not None
        say(f"topic      {topic} ({setting}) {'is there' if known else 'is missing'}")
        if not known:
            missing.append(f"{topic} ({setting})")
    if missing:
        raise ValueError(f"create the missing topics first: {', '.join(missing)}")


def _offsets(connector: Connector, found: Inspection) -> None:
    from titans_stream.durations import format_duration

    total = sum(one.end - one.begin for one in found.partitions)
    partitions = len(found.partitions)
    say(f"input      {total:,} messages in {partitions} partition{'s' * (partitions != 1)}")
    lags = [one.lag for one in found.partitions if one.lag is not None]
    if lags:
        say(f"group      {connector.input.group_id} has {sum(lags):,} messages to read")
    else:
        say(f"group      {connector.input.group_id} is new: it starts at {connector.input.start}")
        if connector.input.warm_up:
            say(
                f"warm-up    {sum(one.warm_up for one in found.partitions):,} messages before that "
                f"are learned from ({format_duration(connector.input.warm_up)}, by "
                f"{connector.input.timestamp.field or 'their Kafka timestamps'})"
            )


def _messages(reports: Sequence[MessageReport]) -> None:
    if not reports:
        say("messages   none to look at")
    topics = {report.message.topic for report in reports}
    for report in reports:
        message = report.message
        topic = "" if len(topics) < 2 else f"topic {message.topic} "
        say(f"message    {topic}partition {message.partition} offset {message.offset}")
        for text in _contents(report):
            say(f"             {text}")


def _refuse_unusable(reports: Sequence[MessageReport]) -> None:
    """ValueError where a worker could use nothing of what was decoded."""
    dead = [one.dead for one in reports if one.dead is not None and not len(one.readings)]
    if not dead or len(dead) < len(reports):
        return
    reason, detail = Counter((one.reason, one.detail) for one in dead).most_common(1)[0][0]
    raise ValueError(
        f"none of the last {len(dead)} messages can be used, most often for {reason}: {detail}"
    )


def _rules(connector: Connector, found: Inspection) -> None:
    """Name the rules that are for none of the series that were seen."""
    from fnmatch import fnmatchcase

    series = {name for report in found.messages for name in report.readings.series}
    series |= {name for report in found.messages for name in report.readings.group or ()}
    if not series:
        return
    for i, rule in enumerate(connector.alerts.rules):
        if not any(fnmatchcase(name, rule.series) for name in series):
            example = min(series)
            note(
                f"warning: alerts.rules[{i}].series: {rule.series!r} matches none of the "
                f"{len(series):,} series in the last {len(found.messages):,} messages, such as "
                f"{example!r}"
            )


def _contents(report: MessageReport) -> list[str]:
    from titans_stream.times import format_timestamp

    readings = report.readings
    lines = [
        f"{readings.series[i]} = {readings.value[i]:g} at "
        f"{format_timestamp(int(readings.timestamp[i]))}"
        + ("" if readings.group is None else f", group {readings.group[i]}")
        for i in range(min(len(readings), _SHOWN_READINGS))
    ]
    if len(readings) > _SHOWN_READINGS:
        lines.append(f"and {len(readings) - _SHOWN_READINGS} more")
    if report.dead is not None:
        lines.append(f"cannot be used: {report.dead.reason}: {report.dead.detail}")
    return lines or ["holds no readings"]


def _model(connector: Connector) -> None:
    """Load the model, and say what becomes of saved memories."""
    from titans_stream.commands.memories import (
        connector_engine,
        connector_snapshots,
        lost_memories,
    )
    from titans_stream.engine.build import compile_kernels
    from titans_stream.engine.device.choice import choose
    from titans_stream.lifecycle.loading import load_model

    model = load_model(connector.model)
    chosen = choose(connector.engine, connector.forecast is not None)
    here = connector.engine.model_copy(update={"device": "cpu"})
    engine = connector_engine(connector.model_copy(update={"engine": here}), model)
    name = "cpu" if chosen.device is None else chosen.device.name
    say(
        f"model      {model.ref.name} version {model.ref.version} on {name}, "
        f"{engine.state_bytes:,} bytes of memory per series"
    )
    say(f"device     {chosen.why}")
    if chosen.device is not None:
        say("device     compiling what the GPU runs, or loading it from the cache")
        with _told("titans_stream.engine.device.cuda"):
            compile_kernels(model, "cuda", forecasting=connector.forecast is not None)
    lost = lost_memories(connector, engine, connector_snapshots(connector, model))
    if lost is not None:
        note(f"warning: {lost}")


def _state(connector: Connector) -> None:
    """Warn of folders that whoever checks could not write to; nothing is tried."""
    folders = {"state.path": connector.state.path, "state.snapshots": connector.state.snapshots}
    for setting, folder in folders.items():
        if not folder or "://" in folder:
            continue
        path = Path(folder).absolute()
        there = next(one for one in (path, *path.parents) if one.exists())
        if not there.is_dir():
            note(f"warning: {setting}: {there} is no folder: nothing can be saved in {folder}")
        elif not os.access(there, os.W_OK | os.X_OK):
            note(f"warning: {setting}: {there} cannot be written by this user")


class _Teller(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(f"device     {record.getMessage()}")


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Say what a module logs of its progress, in place of the log."""
    logger, teller = logging.getLogger(name), _Teller()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(teller)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(teller)
        logger.setLevel(level)
        logger.propagate = propagate


def _forecasts(connector: Connector) -> None:
    from titans_stream.durations import format_duration
    from titans_stream.engine.rhythm import FIRST_FORECAST

    forecast = connector.forecast
    if forecast is None:
        return
    if forecast.horizon is not None:
        ahead = f"the next {format_duration(forecast.horizon)}, at most {forecast.most_steps:,}"
    else:
        ahead = f"the next {forecast.steps:,}"
    levels = ", ".join(map(str, forecast.quantiles))
    say(
        f"forecasts  to {connector.output.forecasts}: {ahead} readings of a series, after every "
        f"{forecast.every:,} of them, the first after {max(FIRST_FORECAST, forecast.every):,}; "
        f"median{' and quantiles ' * bool(levels)}{levels}"
    )

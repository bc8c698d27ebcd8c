"""What workers need for so many series at such a rate, from measured costs (docs/scale.md).

Costs are those of one core of the machine in benchmarks/RESULTS.md; another core is so much faster
or slower for all of them alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from titans_stream.config import Connector

DAY = 86_400.0
BUSY = 0.6
"""Share of a core that a worker is planned to use: what is left catches up after a restart."""
RECEIVE = 4e-6
"""Seconds of a core: a message from Kafka, ..."""
DECODE = 1.6e-6
"""... a JSON message of one reading decoded, ..."""
ITEM = 0.6e-6
"""... each reading of an `items:` array, ..."""
SCORE = 6e-6
"""... a reading judged, scored and learned, ..."""
LEARN = 9e-6
"""... one that forecasts of many steps learn, ..."""
STEP = 0.1e-6
"""... a step of a forecast made, ..."""
SCORED_RECORD = 0.6e-6
"""... a record of scores encoded, ..."""
FORECAST_STEP_RECORD = 0.5e-6
"""... and a step of a forecast's record."""
PROCESS = 215 << 20
"""Bytes of a worker's process before it has series, ..."""
TABLES = 3_000
"""... and of ids, tables and times of a series beside its state."""
SCORE_BYTES = 221
ALERT_BYTES = 900
STEP_BYTES = 90
"""Bytes of messages: scores of a reading, an alert, and a step of a forecast."""
ALERTS = 2.0
"""Messages of an episode: opened and resolved."""
SNAPSHOT_SECONDS = 60e-6
"""Seconds of a core to copy the state of a series out and write it, ..."""
RESTORE_SECONDS = 70e-6
"""... and to take it back after a restart."""


class Card(NamedTuple):
    """A GPU: bytes of memory that programs get, the bytes a second that it copies, and the threads
    that it runs at once."""

    name: str
    memory: float
    bandwidth: float
    threads: int


CARDS = (
    Card("H100", 78 * 2**30, 3.0e12, 132 * 2_048),
    Card("H200", 139 * 2**30, 4.3e12, 132 * 2_048),
)
RESERVED = 0.93
"""Share of a card's memory that can be state."""


@dataclass(frozen=True, slots=True)
class Load:
    """What comes: series, readings a second, readings and bytes of a message; what a worker has:
    bytes of memory, and a core so fast beside the measured one."""

    series: int
    rate: float
    per_message: float
    message_bytes: float
    memory: float
    core_speed: float = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What that takes; rates are a second, over all workers."""

    seconds: float
    """Seconds of a core for a reading."""
    workers: int
    partitions: int
    state_bytes: int
    worker_bytes: float
    snapshot_bytes: float
    """All snapshots that are kept."""
    snapshot_rate: float
    restore_seconds: float
    """To restore a worker's share."""
    bytes_in: float
    bytes_out: float
    limit: str
    """Why there are as many workers: `rate` or `memory`."""


def reading_seconds(connector: Connector, load: Load) -> float:
    """Seconds of a core that a reading takes from poll to commit."""
    arrays = connector.input.items is not None
    seconds = (RECEIVE + (0.0 if arrays else DECODE)) / load.per_message + SCORE
    if arrays or load.per_message > 1.0:
        seconds += ITEM
    if connector.output.scores:
        seconds += SCORED_RECORD
    steps = forecast_steps(connector, load)
    if steps:
        seconds += LEARN + steps * (STEP + FORECAST_STEP_RECORD)
    return seconds / load.core_speed


def forecast_steps(connector: Connector, load: Load) -> float:
    """Steps forecast for each reading, on average; 0: there are no forecasts."""
    forecast = connector.forecast
    if forecast is None:
        return 0.0
    steps = float(forecast.steps or 0)
    if forecast.horizon is not None:
        interval = load.series / load.rate
        steps = min(float(forecast.most_steps), max(1.0, forecast.horizon / 1e9 / interval))
    return steps / forecast.every


def plan_of(connector: Connector, load: Load, state_bytes: int) -> Plan:
    """The plan for a connector; `state_bytes` are those of a series' state."""
    seconds = reading_seconds(connector, load)
    by_rate = math.ceil(load.rate * seconds / BUSY)
    per_series = state_bytes + TABLES
    if load.memory <= PROCESS + per_series:
        raise ValueError(f"--memory: a worker's process alone takes {PROCESS / 2**20:.0f} MiB")
    by_memory = math.ceil(load.series * per_series / (load.memory - PROCESS))
    workers = max(1, by_rate, by_memory)
    share = load.series / workers
    messages = load.rate / load.per_message
    alerts = (
        connector.alerts.false_alarms_per_series_per_day * load.series / DAY * ALERTS * ALERT_BYTES
    )
    out = alerts + forecast_steps(connector, load) * load.rate * STEP_BYTES
    if connector.output.scores:
        out += load.rate * SCORE_BYTES
    whole = float(load.series * state_bytes)
    partitions = max(
        workers if workers == 1 else 2 * workers,
        math.ceil(load.series / connector.engine.max_series),
    )
    return Plan(
        seconds, workers, partitions, state_bytes, PROCESS + share * per_series,
        whole * connector.state.keep, whole / (connector.state.snapshot_interval / 1e9),
        share * RESTORE_SECONDS / load.core_speed, messages * load.message_bytes, out,
        "memory" if by_memory > by_rate else "rate",
    )  # fmt: skip

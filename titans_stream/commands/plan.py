"""Say what a connector needs for so many series at such a rate, before anything is bought.

Workers, partitions, memory, disk and bandwidth, from costs measured on one machine (docs/scale.md
names it). Connects to nothing. A core of yours may be twice as fast or half as fast: measure one
with `python -m benchmarks.end_to_end` and give the factor with --core-speed.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from titans_stream.commands.outputs import note, say

if TYPE_CHECKING:
    from titans_stream.commands.plan_figures import Load, Plan
    from titans_stream.config import Connector

GIB = float(1 << 30)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("connector", metavar="CONNECTOR.yaml", type=Path)
    parser.add_argument(
        "--series", metavar="N", type=int, required=True, help="series of all partitions"
    )
    parser.add_argument(
        "--rate", metavar="R", type=float, required=True, help="readings a second of all series"
    )
    parser.add_argument(
        "--per-message", metavar="N", type=float,
        help="readings in a message, where input.items has arrays of them; default 1, or as many "
        "as input.values has fields",
    )  # fmt: skip
    parser.add_argument(
        "--message-bytes", metavar="N", type=float,
        help="bytes of a message; default 95 a reading",
    )  # fmt: skip
    parser.add_argument(
        "--memory", metavar="GIB", type=float, default=8.0,
        help="GiB of memory that a worker may have; default 8",
    )  # fmt: skip
    parser.add_argument(
        "--core-speed", metavar="X", type=float, default=1.0,
        help="how fast a core is beside the one of docs/scale.md; default 1",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Print the plan; ValueError (exit code 2) for numbers that are none."""
    from titans_stream.commands.plan_figures import Load, plan_of
    from titans_stream.config import load_connector
    from titans_stream.engine.forecasts import forecast_state
    from titans_stream.engine.state import series_state

    for name in ("series", "rate", "per_message", "message_bytes", "memory", "core_speed"):
        given = getattr(args, name)
        if given is not None and not 0 < given < math.inf:
            raise ValueError(f"--{name.replace('_', '-')}: a number above 0 is needed")
    connector = load_connector(args.connector)
    readings = _per_message(connector, args.per_message)
    each = args.message_bytes or 95.0 * readings
    load = Load(args.series, args.rate, readings, each, args.memory * GIB, args.core_speed)
    specs = series_state() | ({} if connector.forecast is None else forecast_state())
    plan = plan_of(connector, load, sum(spec.nbytes for spec in specs.values()))
    _tell(connector, load, plan)
    _settings(connector, load, plan)
    _cards(plan, connector.forecast is not None)
    return 0


def _per_message(connector: Connector, given: float | None) -> float:
    """Readings of a message. ValueError where the connector reads fewer than are given."""
    fields = len(connector.input.value_names)
    if given is None:
        return float(fields)
    if given < 1 or (given > 1 and fields == 1 and connector.input.items is None):
        raise ValueError(
            "--per-message: more than one reading needs input.items or input.values, fewer are none"
        )
    if given > fields and connector.input.items is None:
        raise ValueError(f"--per-message: input.values names {fields} fields, no message has more")
    return given


def _tell(connector: Connector, load: Load, plan: Plan) -> None:
    from titans_stream.commands.plan_figures import BUSY
    from titans_stream.durations import format_duration

    say(
        f"load       {load.series:,} series, {load.rate:,.6g} readings/s: one of a series in "
        f"{load.series / load.rate:,.3g} s"
    )
    say(
        f"a core     {1e6 * plan.seconds:.3g} us a reading from Kafka to commit, "
        f"{1.0 / plan.seconds:,.0f} readings/s; planned to be {BUSY:.0%} busy"
    )
    say(
        f"workers    {plan.workers:,}, one core each (bound by {plan.limit}), "
        f"{plan.worker_bytes / GIB:,.2f} GiB of memory each"
    )
    say(
        f"partitions {plan.partitions:,} of {connector.input.subscription.text} at least, "
        "for all workers"
    )
    say(
        f"state      {plan.state_bytes:,} bytes a series, "
        f"{load.series * plan.state_bytes / GIB:,.2f} GiB in all"
    )
    interval = format_duration(connector.state.snapshot_interval)
    say(
        f"snapshots  {plan.snapshot_bytes / GIB:,.2f} GiB on disk ({connector.state.keep} of each "
        f"partition), {plan.snapshot_rate / 1e6:,.3g} MB/s written at one in {interval}; "
        f"{plan.restore_seconds:,.3g} s to restore a worker's share"
    )
    say(
        f"kafka      {plan.bytes_in / 1e6:,.3g} MB/s in, {plan.bytes_out / 1e6:,.3g} MB/s out, "
        "before replication and compression"
    )


def _settings(connector: Connector, load: Load, plan: Plan) -> None:
    """Name the settings that do not fit."""
    engine = connector.engine
    share = -(-load.series // plan.workers)
    if engine.slots < share:
        note(
            f"warning: engine.slots: {engine.slots:,} is fewer than the {share:,} series of a "
            "worker: idle ones would be spilled and brought back, which costs more than they do"
        )
    from titans_stream.commands.plan_figures import SNAPSHOT_SECONDS

    saving = share * SNAPSHOT_SECONDS / (connector.state.snapshot_interval / 1e9)
    if saving > 0.2:
        wanted = share * SNAPSHOT_SECONDS / 0.2
        note(
            f"warning: state.snapshot_interval: saving {share:,} series would take "
            f"{saving:.0%} of a core; {wanted:,.0f} s or more leaves it below a fifth"
        )


def _cards(plan: Plan, forecasts: bool) -> None:
    """How many series a GPU's memory would hold; bounds, for no GPU was measured."""
    from titans_stream.commands.plan_figures import CARDS, RESERVED
    from titans_stream.engine.device.choice import forecast_room

    for card in CARDS:
        beside = forecast_room(card.threads) if forecasts else 0
        fit = (RESERVED * card.memory - beside) / plan.state_bytes
        say(
            f"bound      {card.name}: {fit / 1e6:,.3g} M such series in its memory, "
            f"{card.bandwidth / (2.0 * plan.state_bytes) / 1e6:,.3g} M readings/s if each moved "
            "its whole state; from bytes alone, not measured"
        )

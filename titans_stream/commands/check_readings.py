"""What `check` makes of the readings that it decoded: what would be dropped, and what is odd."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from titans_stream.commands.outputs import note, say
from titans_stream.engine.order_check import OrderCheck
from titans_stream.engine.settings import Duplicates, EngineConfig
from titans_stream.files.account import MANY
from titans_stream.records import Status

if TYPE_CHECKING:
    from titans_stream.stream.inspect import MessageReport

_NAMED = 3


@dataclass
class Looked:
    """Counts over messages, and the values by series.

    `duplicate`, `late`, `missing`: readings that a worker of the connector would take for such.
    `shared`: readings with the time of an earlier one of their series and another value; how many
    of them are duplicates is for `duplicates`, the engine's setting.
    """

    duplicates: Duplicates = "keep-order"
    messages: int = 0
    unusable: Counter[str] = field(default_factory=Counter)
    readings: int = 0
    duplicate: int = 0
    late: int = 0
    missing: int = 0
    shared: int = 0
    values: dict[str, list[float]] = field(default_factory=dict)


def look_at(reports: Iterable[MessageReport], config: EngineConfig) -> Looked:
    """Count, in the order of the partitions, as an engine with these settings would."""
    looked = Looked(config.duplicates)
    order = OrderCheck(config)
    statuses = []
    seen: dict[str, dict[int, set[float]]] = {}
    for report in sorted(reports, key=lambda r: r.message[:3]):
        looked.messages += 1
        if report.dead is not None and not len(report.readings):
            looked.unusable[report.dead.reason] += 1
        readings = report.readings
        columns = (readings.series, readings.timestamp.tolist(), readings.value.tolist())
        for series, time, value in zip(*columns, strict=True):
            looked.readings += 1
            looked.values.setdefault(series, []).append(value)
            key = f"{report.message.topic}\n{report.message.partition}\n{series}"
            statuses.append(order.take(key, time, value))
            values = seen.setdefault(key, {}).setdefault(time, set())
            looked.shared += bool(values) and value not in values and not np.isnan(value)
            values.add(value)
    status = np.concatenate([*statuses, order.flush()])
    looked.duplicate = int((status == Status.DUPLICATE).sum())
    looked.late = int((status == Status.LATE).sum())
    looked.missing = int((status == Status.MISSING).sum())
    return looked


def tell(looked: Looked) -> None:
    """Print the counts, warn where they are many, and name values that may be sentinels."""
    if not looked.messages:
        return
    unusable = sum(looked.unusable.values())
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in looked.unusable.most_common())
    dropped = looked.duplicate + looked.late
    say(
        f"readings   the last {looked.messages:,} messages hold {looked.readings:,} readings of "
        f"{len(looked.values):,} series; {unusable:,} messages cannot be used"
        f"{f' ({reasons})' * bool(unusable)}; {dropped:,} readings would be dropped "
        f"({looked.duplicate:,} duplicate, {looked.late:,} late)"
        f"{f', {looked.missing:,} have no value' * bool(looked.missing)}"
    )
    if MANY * looked.messages < unusable < looked.messages:
        note(f"warning: {unusable:,} of {looked.messages:,} messages cannot be used: {reasons}")
    if looked.late > MANY * looked.readings:
        note(
            f"warning: {looked.late:,} of {looked.readings:,} readings are late: a later one of "
            "their series came before; raise engine.max_out_of_orderness, or tell the sensors "
            "apart in input.series"
        )
    if looked.duplicate > MANY * looked.readings:
        note(
            f"warning: {looked.duplicate:,} of {looked.readings:,} readings are duplicates: their "
            "series had that time already; tell the sensors apart in input.series, send finer "
            "times, or see engine.duplicates"
        )
    if looked.duplicates in ("keep-order", "spread") and looked.shared > MANY * looked.readings:
        note(
            f"warning: {looked.shared:,} of {looked.readings:,} readings have the time of an "
            "earlier one of their series with another value, and are taken one after another "
            f"(engine.duplicates: {looked.duplicates}): if they come from several sensors, tell "
            "these apart in input.series"
        )
    _tell_suspicious(looked)


def _tell_suspicious(looked: Looked) -> None:
    from titans_stream.stream.codec.values import suspicious_value

    found: dict[float, list[str]] = {}
    for series, values in looked.values.items():
        value = suspicious_value(np.array(values))
        if value is not None:
            found.setdefault(value, []).append(series)
    for value, names in found.items():
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        note(
            f"warning: {value:g} lies far outside the rest and recurs in "
            f"{', '.join(names[:_NAMED])}{more}: if it stands for a missing value, set "
            f"input.missing_values: [{value:g}]"
        )

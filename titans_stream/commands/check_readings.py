"""What `check` makes of the readings that it decoded: what would be dropped, and what is odd."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from titans_stream.commands.outputs import MANY, note, say

if TYPE_CHECKING:
    from titans_stream.stream.inspect import MessageReport

_NAMED = 3


@dataclass
class Looked:
    """Counts over messages, and the values by series.

    `same`: readings with time and value of an earlier one of their series; `twice`: with the time
    of an earlier one and another value; `late`: older than the series' newest by more than may be.
    """

    messages: int = 0
    unusable: Counter[str] = field(default_factory=Counter)
    readings: int = 0
    same: int = 0
    twice: int = 0
    late: int = 0
    values: dict[str, list[float]] = field(default_factory=dict)


def look_at(reports: Iterable[MessageReport], out_of_order: int) -> Looked:
    """Count, in the order of the partitions; `out_of_order` as engine.max_out_of_orderness, ns."""
    looked = Looked()
    seen: dict[tuple[str, int, str], dict[int, float]] = {}
    newest: dict[tuple[str, int, str], int] = {}
    for report in sorted(reports, key=lambda r: r.message[:3]):
        looked.messages += 1
        if report.dead is not None and not len(report.readings):
            looked.unusable[report.dead.reason] += 1
        readings = report.readings
        columns = (readings.series, readings.timestamp.tolist(), readings.value.tolist())
        for series, time, value in zip(*columns, strict=True):
            looked.readings += 1
            looked.values.setdefault(series, []).append(value)
            key = (report.message.topic, report.message.partition, series)
            times = seen.setdefault(key, {})
            if time in times:
                unequal = value != times[time] and not np.isnan(value)
                looked.twice += unequal
                looked.same += not unequal
            elif time < newest.get(key, time) - out_of_order:
                looked.late += 1
            times[time] = value
            newest[key] = max(time, newest.get(key, time))
    return looked


def tell(looked: Looked) -> None:
    """Print the counts, warn where they are many, and name values that may be sentinels."""
    if not looked.messages:
        return
    unusable = sum(looked.unusable.values())
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in looked.unusable.most_common())
    dropped = looked.same + looked.late
    say(
        f"readings   the last {looked.messages:,} messages hold {looked.readings:,} readings of "
        f"{len(looked.values):,} series; {unusable:,} messages cannot be used"
        f"{f' ({reasons})' * bool(unusable)}; {dropped:,} readings would be dropped "
        f"({looked.same:,} duplicate, {looked.late:,} late)"
    )
    if MANY * looked.messages < unusable < looked.messages:
        note(f"warning: {unusable:,} of {looked.messages:,} messages cannot be used: {reasons}")
    if looked.late > MANY * looked.readings:
        note(
            f"warning: {looked.late:,} of {looked.readings:,} readings are late: a later one of "
            "their series came before; raise engine.max_out_of_orderness, or tell the sensors "
            "apart in input.series"
        )
    if looked.same + looked.twice > MANY * looked.readings:
        note(
            f"warning: {looked.same + looked.twice:,} of {looked.readings:,} readings have the "
            f"time of an earlier one of their series ({looked.same:,} its value, too): tell the "
            "sensors apart in input.series, or send finer times"
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

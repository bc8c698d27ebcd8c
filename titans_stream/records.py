"""The records that cross layer borders, and the protocol between the stream and the engine.

Times are UTC, int64 nanoseconds since the epoch, inside; RFC 3339 outside. Columns (`Readings`,
`Scores`) are what moves between layers; the message types (`Alert`, ...) are what is published.

N is the number of readings of one call.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from titans_stream.ids import joined, taken
from titans_stream.state_records import Capture, Snapshot, restorable

Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]
Int16 = npt.NDArray[np.int16]
Int8 = npt.NDArray[np.int8]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Records = npt.NDArray[np.void]
"""Rows of state whose columns have names (`memory.rows.Record`)."""

SCHEMA_VERSION = 1
"""Version of the published messages; raised when a field changes its meaning or goes away."""


ALERT_SCHEMA_VERSION = 2
"""Version of the alerts: 2 compares values with what would have been normal."""
What = Literal[
    "value",
    "implausible value",
    "step",
    "level",
    "level at this time of day",
    "rate",
    "dwell",
    "turn",
    "noise",
    "pattern",
    "",
]
"""What stands out in an alert."""


class Status(enum.IntEnum):
    """What became of one reading."""

    SCORED = 0
    WARMING_UP = 1
    DUPLICATE = 2
    LATE = 3
    MISSING = 4

    @property
    def label(self) -> str:
        """The name used in files and messages."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Readings:
    """N readings in arrival order, as columns.

    `value` is NaN where a value is missing. `partition` and `offset` name the message that a
    reading came in; one message may hold several readings. `group` names the asset that each
    reading's series is a channel of, never by an empty text; None: there are no groups.
    """

    series: Sequence[str]
    timestamp: Int64
    value: Float64
    partition: Int32
    offset: Int64
    group: list[str] | None = None

    def __len__(self) -> int:
        return len(self.series)

    def take(self, index: Int64) -> Readings:
        """The readings at `index`, in that order."""
        return Readings(
            taken(self.series, index),
            self.timestamp[index],
            self.value[index],
            self.partition[index],
            self.offset[index],
            None if self.group is None else [self.group[i] for i in index.tolist()],
        )


@dataclass(frozen=True, slots=True)
class Scores:
    """N scored readings, as columns, in the order in which the engine released them.

    `surprise` is the statistic S (docs/method.md); `score` a strictly increasing function of it
    in [0, 1); `p_value` the share of this series' normal readings with at least this surprise;
    `rarity` is -log10 of how often, per 100 readings, an episode this strange is due. NaN where
    the status is not `scored`. `expected`, `lower` and `upper` are in the units of the value.
    `alert` is 1 while an episode is open, `onset` 1 on its first reading, `gap` 1 on the first
    reading after a gap in the series. The alert and onset of a channel of a group are the group's,
    as they were when the reading was taken.
    """

    series: Sequence[str]
    timestamp: Int64
    value: Float64
    status: Int8
    surprise: Float64
    score: Float64
    p_value: Float64
    rarity: Float64
    expected: Float64
    lower: Float64
    upper: Float64
    alert: Int8
    onset: Int8
    gap: Int8
    partition: Int32
    offset: Int64

    def __len__(self) -> int:
        return len(self.series)


@dataclass(frozen=True, slots=True)
class GroupScores:
    """Judged frames of groups, as columns, in the order in which they closed.

    A frame is the readings of a group with one timestamp; `statistic` the mean of the three
    highest S in it (NaN where no member has a score), `p_value`, `rarity`, `alert` and `onset` as
    in `Scores`, of the group. `partition` and `offset` name the message whose reading closed the
    frame.
    """

    group: list[str]
    timestamp: Int64
    statistic: Float64
    p_value: Float64
    rarity: Float64
    alert: Int8
    onset: Int8
    partition: Int32
    offset: Int64

    def __len__(self) -> int:
        return len(self.group)


@dataclass(frozen=True, slots=True)
class ModelRef:
    """The slow weights in use."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Source:
    """The input message that a published message is about."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel of an alerted group at the peak of the episode.

    `share` is its part of the sum of positive surprise over all channels.
    """

    series_id: str
    share: float
    value: float
    expected: float | None
    lower: float | None
    upper: float | None


@dataclass(frozen=True, slots=True)
class Alert:
    """A message about an episode; field names and meanings are those of docs/messages.md.

    The message's `alert_id` is the same for every message of an episode. Times are RFC 3339,
    UTC. `expected`, `lower` and `upper` are what would have been normal at the peak; the band
    holds `band_level` of the normal readings. They are None where the value lies inside: `what`
    then tells what stood out instead, with its `figures`. NaN is published as null. `adjusted_by`
    are the ids of the control messages in force for the series. Of a group,
    `series_id` is the group's id, `channels` its channels that stand out most, the driving one
    first, and the values and what was normal are those of the driving one.
    """

    alert_id: str
    status: Literal["opened", "updated", "resolved"]
    series_id: str
    severity: Literal["warning", "critical"]
    reason: Literal["surprise", "valid_range", "no_data"]
    onset: str
    timestamp: str
    peak_timestamp: str
    value: float | None
    expected: float | None
    lower: float | None
    upper: float | None
    band_level: float
    direction: Literal["above", "below", "pattern"]
    score: float | None
    p_value: float | None
    surprise: float | None
    rate_per_day: float | None
    extrapolated: bool
    explanation: str
    duration_s: float
    readings: int
    model: ModelRef
    source: Source
    channels: list[Channel] = field(default_factory=list)
    onset_value: float | None = None
    latest_value: float | None = None
    limit: float | None = None
    what: What = ""
    figures: dict[str, float] = field(default_factory=dict)
    adjusted_by: list[str] = field(default_factory=list)
    schema_version: int = ALERT_SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class Forecast:
    """Quantiles of a series' next readings, made at `origin`; field names as in docs/messages.md.

    Times are RFC 3339, UTC. `quantiles` has a list as long as `timestamps` for each level.
    `period` counts readings, None where none has been found; `periods` has it and a longer cycle
    beside it, where there is one. `source` is the message of the
    reading at `origin`.
    """

    series_id: str
    origin: str
    timestamps: list[str]
    median: list[float]
    quantiles: dict[str, list[float]]
    period: float | None
    model: ModelRef
    source: Source
    periods: list[float] = field(default_factory=list)
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class Order:
    """A control message (`control.messages`): its id, and its JSON; no text: it undoes that id."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that could not be used, wholly or in part, and why.

    `reason` is a short code in kebab-case; `detail` a sentence naming the field. `key` and
    `value` are the original bytes; `partition` and `offset` where they stood.
    """

    reason: str
    detail: str
    key: bytes | None
    value: bytes | None
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Results:
    """What one call of the engine made of its readings."""

    scores: Scores
    alerts: list[Alert] = field(default_factory=list)
    groups: GroupScores | None = None
    """None where no reading of the call belongs to a group."""
    forecasts: list[Forecast] = field(default_factory=list)
    """In the order of the readings that they follow."""
    refused: Int64 | None = None
    """Which readings of the call, by place, were refused: their partition is full of series."""


Columns = TypeVar("Columns", Readings, Scores, GroupScores)


def concatenate(kind: type[Columns], parts: list[Columns]) -> Columns:
    """One record of columns from several, at least one; a column is None in all or in none."""
    if len(parts) == 1:
        return parts[0]
    whole: dict[str, Any] = {}
    for item in fields(kind):
        columns = [getattr(part, item.name) for part in parts]
        if columns[0] is None:
            whole[item.name] = None
        else:
            arrays = isinstance(columns[0], np.ndarray)
            whole[item.name] = np.concatenate(columns) if arrays else joined(columns)
    return kind(**whole)


class EngineFigures(NamedTuple):
    """What an engine has come to since it was built; `open_episodes` is as it is now.

    `opened` counts episodes, `due` the false ones that the alert budgets allow for the time that
    the readings cover. `expired`: how often a series was silent for too long and began anew.
    """

    open_episodes: int
    opened: int
    due: float
    expired: int


class Engine(Protocol):
    """Scores readings; keeps one state per series and partition. No I/O."""

    @property
    def state_schema(self) -> str:
        """Names the layout of the state, and every setting and weight that gives it meaning."""

    def process(self, readings: Readings) -> Results:
        """Score readings in arrival order and learn from them."""

    def snapshot(self, partition: int) -> Snapshot:
        """Copy out the state of a partition, reorder buffers included."""

    def capture(self, partition: int, since: int | None) -> Capture:
        """Begin to copy out the state of a partition; a release of the partition cancels it.

        `since` is a mark: series that were not touched since need not be in it. None: all are.
        """

    def mark(self, partition: int) -> int:
        """A mark of a partition: what is touched later is touched since."""

    def restore(self, partition: int, snapshot: Snapshot) -> None:
        """Put a partition's state in place. ValueError where it is not `restorable`."""

    def release(self, partition: int) -> None:
        """Forget a partition."""

    def series_count(self) -> int:
        """Series known, resident or spilled."""

    def series_warning(self) -> str:
        """A line for people where the series look like a mistake, else nothing."""

    def figures(self) -> EngineFigures:
        """Figures for people."""

    def tick(self, partition: int, silence: int, patience: int, offset: int) -> list[Alert]:
        """The alerts of a partition of which nothing was heard for `silence` ns by a wall clock.

        Nothing is learned to be silent before `patience` ns; `offset` is that of the next message.
        """

    def silent_since(self, partition: int) -> list[int]:
        """What `tick` has changed, to be told to an engine that replays; zeros: nothing."""

    def set_silent_since(self, partition: int, since: list[int]) -> None:
        """Take over what `silent_since` gave."""

    def control(self, partition: int, order: Order, offset: int) -> list[Alert]:
        """Do as a control message says, for the series of a partition; the alerts that it ends.

        `offset` is that of the next message. What is in force is part of the state.
        """


__all__ = [
    "ALERT_SCHEMA_VERSION",
    "SCHEMA_VERSION",
    "Alert",
    "Capture",
    "Channel",
    "DeadLetter",
    "Engine",
    "EngineFigures",
    "Float32",
    "Float64",
    "Forecast",
    "GroupScores",
    "Int8",
    "Int16",
    "Int32",
    "Int64",
    "ModelRef",
    "Order",
    "Readings",
    "Results",
    "Scores",
    "Snapshot",
    "Source",
    "Status",
    "What",
    "concatenate",
    "restorable",
]

"""What groups keep of their frames, and what the kernels of frames.py are given and write."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from titans_stream.detection.episodes import Episode, EpisodeTimes, Settings, Tables
from titans_stream.engine.order import OrderSettings
from titans_stream.memory.rows import ArraySpec, Record
from titans_stream.records import Float32, Float64, Int8, Int64, Records

JOINT = 3
"""Members whose mean magnitude counts in the statistic of a frame."""
LISTED = 10
"""Channels that an alert names."""
DRIVER = 0
"""Place of the driving channel; the others are the highest S in falling order."""
CHANNELS = LISTED + 1
SILENT_MEMBER, SILENT_GROUP = 1, 2
"""Bits: control messages silence a reading's series, or its group."""


class Sums(Record):
    """A group's sums over the open frame, and over the peak frame of its episode."""

    positive: float
    """Sum of the positive S."""
    even: float
    """Sum of the even parts of the scored members, their number, and the largest magnitudes."""
    scored: float
    magnitudes: Annotated[Float64, JOINT]
    alone: float
    """Rarity of the member that is rarest by itself; -inf: none."""
    filled: float
    """Channels in their places."""
    violated: float
    """1: a member is outside its range, the first such one is the driver."""
    opened: float
    """1: the frame opened an episode at once."""
    peak_positive: float
    peak_filled: float


class FrameStamp(Record):
    """The frames that share the stamp of the newest one."""

    time: int
    """The stamp, NEVER: no frame yet."""
    count: int
    before: int
    """How many shared the stamp before; 0: not known."""


class FrameChannel(Record):
    """A member's reading in a frame."""

    uid: float
    surprise: float
    value: float
    expected: float
    lower: float
    upper: float
    cause: float


class FrameJudgement(Record):
    """What the second stage says of a frame."""

    rarity: float
    p_value: float
    score: float
    statistic: float


class FrameMark(Record):
    """What else is known of a frame; `at` is the reading that closed it."""

    at: int
    group: int
    time: int
    open: int
    onset: int


class EventMark(Record):
    """An event of a group's episode, and the reading at which it came."""

    at: int
    group: int
    time: int
    kind: int


class Counts(Record):
    """What was counted so far."""

    frames: int
    events: int
    outside: int
    """Readings that were in no frame."""


class Batch(NamedTuple):
    """N readings in order. `group` is -1 where there is none; `band` [N, 3], `joint` [N, 2].

    `rank` numbers the readings of a stamp, and `time` is the stamp plus that. `silent` has the bits
    SILENT_MEMBER and SILENT_GROUP.
    """

    uid: Int64
    group: Int64
    time: Int64
    rank: Int64
    value: Float64
    status: Int8
    expired: Int8
    statistic: Float64
    joint: Float64
    rarity: Float64
    band: Float64
    cause: Int8
    silent: Int8


class Kept(NamedTuple):
    """What groups had learned before they started anew; a histogram's bins, mass and unit."""

    tail: Records
    histogram: Float32
    episode: Records
    claims: Records


class State(NamedTuple):
    """State arrays: `member` and `series_rule` by series, the others by group."""

    member: Records
    series_rule: Records
    clock: Records
    jump: Records
    pace: Records
    """Of stamps."""
    stamp: Records
    sums: Records
    channels: Records
    peak: Records
    rule: Records
    judged: Tables
    claims: Records
    kept: Kept


class Limits(NamedTuple):
    """Settings of alerts and of order."""

    alerts: Settings
    order: OrderSettings


class Written(NamedTuple):
    """What a run writes: `alert`, `onset` [N]; judgement and mark by frame; the rest by event."""

    alert: Int8
    onset: Int8
    judgement: Records
    mark: Records
    event_mark: Records
    event_episode: Records
    event_times: Records
    event_sums: Records
    event_channels: Records
    counts: Records
    """[1]"""

    @classmethod
    def empty(cls, alert: Int8, onset: Int8, events: int) -> Written:
        """Room for the frames of N readings, and for `events` events at a time."""
        frames = 2 * len(alert)
        one = ArraySpec.of
        return cls(
            alert, onset, one(FrameJudgement).rows(frames), one(FrameMark).rows(frames),
            one(EventMark).rows(events), one(Episode).rows(events),
            one(EpisodeTimes).rows(events), one(Sums).rows(events),
            ArraySpec((CHANNELS,), one(FrameChannel).dtype).rows(events), one(Counts).rows(1),
        )  # fmt: skip

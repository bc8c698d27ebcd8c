"""Groups: series that are one asset, with one second stage and one episode for all of them.

Holds what the members and the groups of all partitions keep beside the series' own state, and
turns what frames.py writes into records. Until the first grouped reading comes nothing is done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from titans_stream.detection.claims import Claims
from titans_stream.detection.episodes import Episode, Rule
from titans_stream.detection.explain import make_alert
from titans_stream.detection.rules import AlertConfig, ResolvedRule, resolve_rules
from titans_stream.detection.tail import BINS, Tail
from titans_stream.engine import frames
from titans_stream.engine.columns import Columns
from titans_stream.engine.frame_clock import LIVE, FrameClock, FrameJump, Member
from titans_stream.engine.frame_state import (
    CHANNELS,
    DRIVER,
    LISTED,
    SILENT_GROUP,
    SILENT_MEMBER,
    Batch,
    FrameChannel,
    FrameStamp,
    Kept,
    Limits,
    State,
    Sums,
    Written,
)
from titans_stream.engine.order import NEVER, Judgements, OrderSettings, Pace
from titans_stream.engine.orders import Held, Orders
from titans_stream.engine.rows import Rows
from titans_stream.engine.series import SeriesTable
from titans_stream.engine.state import alert_settings, due, judged_state, judged_tables, rule_rows
from titans_stream.engine.store import Array
from titans_stream.memory.rows import ArraySpec, dtype_of
from titans_stream.records import (
    Alert,
    Channel,
    Float64,
    GroupScores,
    Int8,
    Int32,
    Int64,
    ModelRef,
    Records,
    Scores,
    Source,
)

_PREFIX = "group_"
_EVENTS = 256
"""Events that one call of the kernel has room for."""


def group_state() -> dict[str, ArraySpec]:
    """The arrays of a group by name, all of them memory."""
    channels = ArraySpec((CHANNELS,), dtype_of(FrameChannel))
    return {
        "clock": ArraySpec.of(FrameClock),
        "jump": ArraySpec.of(FrameJump),
        "pace": ArraySpec.of(Pace),
        "stamp": ArraySpec.of(FrameStamp),
        "sums": ArraySpec.of(Sums),
        "channels": channels,
        "peak": channels,
        "claims": ArraySpec.of(Claims),
        **judged_state(),
        **kept_state(),
    }


def kept_state() -> dict[str, ArraySpec]:
    """What a group had learned before it started anew, in the order of `frame_state.Kept`."""
    return {
        "kept_tail": ArraySpec.of(Tail),
        "kept_histogram": ArraySpec((BINS + 2,), np.float32),
        "kept_episode": ArraySpec.of(Episode),
        "kept_claims": ArraySpec.of(Claims),
    }


class Groups:
    """The groups of an engine. `series_name` gives the id of a series by its uid."""

    def __init__(
        self,
        order: OrderSettings,
        alerts: AlertConfig,
        orders: Orders,
        series_name: Callable[[int], str],
        model: ModelRef,
        topic: str,
    ) -> None:
        self._orders = orders
        self._series_name = series_name
        self._model = model
        self._topic = topic
        self._limits = Limits(alert_settings(alerts), order)
        clock, jump = ArraySpec.of(FrameClock).rows(1), ArraySpec.of(FrameJump).rows(1)
        clock["frame"] = clock["closed"] = jump["before"] = jump["ahead"] = NEVER
        stamp = ArraySpec.of(FrameStamp).rows(1)
        stamp["time"] = NEVER
        member = ArraySpec.of(Member).rows(1)
        member[0] = (-1, NEVER, -LIVE, 0)
        self._rows = Rows(
            group_state(),
            {"clock": clock, "jump": jump, "stamp": stamp},
        )
        self._rules = Rows({"rule": ArraySpec.of(Rule)}, {})
        self._members = Rows({"member": ArraySpec.of(Member)}, {"member": member})
        self._table = SeriesTable(self._admit)
        self.on_admit: Callable[[Int64, Sequence[ResolvedRule]], None] = lambda uids, rules: None
        """Hears of each group that is admitted."""
        self.due = 0.0
        """False episodes that the budgets allow for the frames that were judged."""
        self._outside = 0
        self._used = False

    def change_settings(self, alerts: AlertConfig) -> None:
        """Go on with other settings that all groups share."""
        self._limits = Limits(alert_settings(alerts), self._limits.order)

    def set_rules(self, uids: Int64, alerts: AlertConfig) -> None:
        """Judge groups by other rules from the next reading on."""
        if len(uids):
            names = self._table.names(uids)
            self._rules.arrays["rule"][uids] = rule_rows(resolve_rules(alerts, names))

    def __len__(self) -> int:
        return len(self._table)

    def info(self) -> dict[str, int]:
        """Figures for people and metrics."""
        return {
            "groups": len(self._table),
            "groups_on_two_partitions": self._table.on_two_partitions,
            "outside_frames": self._outside,
        }

    def open_episodes(self) -> int:
        """How many episodes of groups are open."""
        return int((self._rows.arrays["episode"]["open"][self._table.all()] == 1.0).sum())

    def uids(self, names: list[str], partitions: Int32) -> Int64:
        """The group's row of each reading; new groups are admitted."""
        self._used = True
        return self._table.uids(names, partitions)

    def add(self, partition: int, name: str) -> int:
        """The row of a group, admitted if it is new."""
        self._used = True
        return self._table.add(partition, name)

    def name(self, uid: int) -> str:
        """The group id."""
        return self._table.name(uid)

    def partition(self, uid: int) -> int:
        """The partition that the group comes by."""
        return self._table.partition(uid)

    def _admit(self, partition: int, uids: Int64, names: list[str]) -> None:
        most = int(uids.max()) + 1
        self._rows.reserve(most)
        self._rows.reset(uids)
        self._rules.reserve(most)
        rules = resolve_rules(self._orders.alerts(partition), names)
        self._rules.arrays["rule"][uids] = rule_rows(rules)
        self.on_admit(uids, rules)

    def run(
        self,
        columns: Columns,
        values: Float64,
        scores: Scores,
        judged: Judgements,
        joint: Float64,
        cause: Int8,
        normal: Float64,
        rules: Records,
        held: Held | None = None,
    ) -> tuple[GroupScores, list[tuple[int, Alert]]]:
        """Judge the frames that N readings close, and mark `scores` with their alerts.

        `values` [N] are bounded, NaN where missing; `joint` [N, 2] as `Scored` has it; `normal`
        [N, 3] is what would have been normal, with its band; `rules` [series] of `Rule`; `held`
        is what control messages say of the readings, by their series. Alerts come with the index of
        the reading that closed their frame.
        """
        n = len(columns)
        self._members.reserve(int(columns.uid.max(initial=-1)) + 1)
        batch = Batch(
            columns.uid, columns.group, columns.timestamp + judged.rank, judged.rank, values,
            scores.status, judged.expired, scores.surprise, joint, scores.rarity,
            normal, cause, self._silent(columns, held),
        )  # fmt: skip
        groups = self._rows.arrays
        state = State(
            self._members.arrays["member"], rules,
            groups["clock"], groups["jump"], groups["pace"], groups["stamp"], groups["sums"],
            groups["channels"], groups["peak"],
            self._rules.arrays["rule"], judged_tables(groups), groups["claims"],
            Kept(*(groups[name] for name in kept_state())),
        )  # fmt: skip
        written = Written.empty(scores.alert, scores.onset, _EVENTS)
        counts = written.counts[0]
        alerts: list[tuple[int, Alert]] = []
        first = 0
        while first < n:
            counts["events"] = 0
            first = frames.run(first, batch, state, self._limits, written)
            alerts += [
                self._alert(written, event, columns) for event in range(int(counts["events"]))
            ]
        self._outside += int(counts["outside"])
        return self._frames(written, columns), alerts

    def _silent(self, columns: Columns, held: Held | None) -> Int8:
        """As `Batch.silent` has it."""
        silent = np.zeros(len(columns), np.int8)
        if held is not None:
            silent[held.silent] = SILENT_MEMBER
        mine = self._orders.held(columns.group, columns.partition, columns.timestamp, self.name)
        if mine is not None:
            silent[mine.silent] |= SILENT_GROUP
        return silent

    def _frames(self, written: Written, columns: Columns) -> GroupScores:
        count = int(written.counts["frames"][0])
        judgement, mark = written.judgement[:count], written.mark[:count]
        at, group = mark["at"], mark["group"]
        pace = self._rows.arrays["pace"]["interval"][group]
        judged = ~np.isnan(judgement["statistic"])
        self.due += due(self._rules.arrays["rule"][group[judged]], pace[judged])
        return GroupScores(
            group=self._table.names(group),
            timestamp=mark["time"].copy(),
            statistic=judgement["statistic"].copy(),
            p_value=judgement["p_value"].copy(),
            rarity=judgement["rarity"].copy(),
            alert=mark["open"].astype(np.int8),
            onset=mark["onset"].astype(np.int8),
            partition=columns.partition[at],
            offset=columns.offset[at],
        )

    def _alert(self, written: Written, event: int, columns: Columns) -> tuple[int, Alert]:
        at, group, time, kind = written.event_mark[event].tolist()
        alert = make_alert(
            kind,
            written.event_episode.view(np.recarray)[event],
            written.event_times.view(np.recarray)[event],
            time,
            self._table.name(group),
            self._model,
            Source(self._topic, int(columns.partition[at]), int(columns.offset[at])),
            self._channels(written.event_channels[event], written.event_sums[event]),
        )
        return at, alert

    def _channels(self, peak: Records, sums: np.void) -> list[Channel]:
        """The driving channel, then the others by their share, at most LISTED together."""
        total = float(sums["peak_positive"])
        driver, ranked = peak[DRIVER], peak[1 : 1 + int(sums["peak_filled"])]
        others = [channel for channel in ranked if channel["uid"] != driver["uid"]]
        named = [self._channel(channel, total) for channel in [driver, *others]]
        if total <= 0.0:
            named[0] = replace(named[0], share=1.0)
        return named[:LISTED]

    def _channel(self, channel: np.void, total: float) -> Channel:
        surprise = 0.0 if np.isnan(channel["surprise"]) else max(float(channel["surprise"]), 0.0)
        numbers = [float(channel[name]) for name in ("expected", "lower", "upper")]
        return Channel(
            self._series_name(int(channel["uid"])),
            surprise / total if total > 0.0 else 0.0,
            float(channel["value"]),
            *(x if np.isfinite(x) else None for x in numbers),
        )

    # --- state

    def forget_members(self, uids: Int64) -> None:
        """Uids of series are given out anew."""
        if self._used:
            self._members.reserve(int(uids.max()) + 1)
            self._members.reset(uids)

    def has_member(self, uid: int) -> bool:
        """Whether a series is or was a member of a group."""
        members = self._members.arrays["member"]["group"]
        return self._used and uid < len(members) and bool(members[uid] >= 0)

    def all(self) -> Int64:
        """The rows of all groups."""
        return self._table.all()

    def members(self, partition: int) -> Int64:
        """The rows of a partition's groups."""
        return self._table.members(partition)[1]

    def groups_of(self, series: Int64) -> Int64:
        """The row of each series' group; -1: it has none."""
        if not self._used:
            return np.full(len(series), -1)
        self._members.reserve(int(series.max(initial=-1)) + 1)
        found: Int64 = self._members.arrays["member"]["group"][series]
        return found

    def names(self, partition: int) -> list[str]:
        """The ids of a partition's groups."""
        return self._table.members(partition)[0]

    def export(self, partition: int, series: Int64) -> dict[str, Array]:
        """Copy out the state of a partition: rows of its groups, and `member` of its `series`.

        In it a series or group is its place in the partition's list. Nothing where there is no
        group.
        """
        _, uids = self._table.members(partition)
        if len(uids) == 0:
            return {}
        arrays = self._rows.export(uids)
        known = {"channels": _in_frame(arrays), "peak": _in_peak(arrays)}
        places = _places(series)
        for name, mask in known.items():
            arrays[name][~mask] = np.zeros((), arrays[name].dtype)
            uid = np.where(mask, arrays[name]["uid"], -1).astype(np.int64)
            arrays[name]["uid"] = places[uid]
        self._members.reserve(int(series.max(initial=-1)) + 1)
        member = self._members.export(series)["member"]
        member["group"] = _places(uids)[member["group"]]
        return {_PREFIX + name: array for name, array in arrays.items()} | {"member": member}

    def load(
        self, partition: int, names: list[str], series: Int64, arrays: dict[str, Array]
    ) -> None:
        """Put what `export` gave in place; ValueError for a damaged state."""
        if not names:
            return
        self._used = True
        uids = self._table.add_all(partition, names)
        mine = {
            name.removeprefix(_PREFIX): array
            for name, array in arrays.items()
            if name.startswith(_PREFIX)
        }
        self._rows.load(uids, mine)
        self._members.reserve(int(series.max(initial=-1)) + 1)
        self._members.load(series, arrays)
        for name in ("channels", "peak"):
            channels = self._rows.arrays[name]
            places = channels["uid"][uids].astype(np.int64)
            _check(places, len(series), name)
            channels["uid"][uids] = np.append(series, -1)[places]
        member = self._members.arrays["member"]
        places = member["group"][series]
        _check(places, len(uids), "member")
        member["group"][series] = np.append(uids, -1)[places]

    def release(self, partition: int) -> None:
        """Forget the groups of a partition."""
        names, uids = self._table.members(partition)
        self._remove(partition, names, uids)

    def _remove(self, partition: int, names: list[str], uids: Int64) -> None:
        if len(uids) == 0:
            return
        groups = self._members.arrays["member"]["group"]
        self._members.reset(np.flatnonzero(np.isin(groups, uids)))
        self._table.remove(partition, names)


def _in_frame(arrays: dict[str, Array]) -> npt.NDArray[np.bool_]:
    """[G, CHANNELS]: the channels of open frames."""
    sums, number = arrays["sums"], np.arange(CHANNELS)
    named = (number >= 1) & (number <= sums["filled"][:, None])
    named[:, DRIVER] = sums["violated"] == 1.0
    found: npt.NDArray[np.bool_] = named & (arrays["clock"]["frame"][:, None] != NEVER)
    return found


def _in_peak(arrays: dict[str, Array]) -> npt.NDArray[np.bool_]:
    """[G, CHANNELS]: the channels of the peaks of open episodes."""
    named = np.arange(CHANNELS) <= arrays["sums"]["peak_filled"][:, None]
    found: npt.NDArray[np.bool_] = named & (arrays["episode"]["open"][:, None] == 1.0)
    return found


def _places(uids: Int64) -> Int64:
    """The place in `uids` by uid; -1 for every other, -1 included."""
    places = np.full(int(uids.max(initial=-1)) + 2, -1, np.int64)
    places[uids] = np.arange(len(uids))
    return places


def _check(places: Int64, count: int, name: str) -> None:
    if ((places < -1) | (places >= count)).any():
        raise ValueError(f"state: array {name!r} names what is not there")

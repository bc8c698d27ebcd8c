"""Groups: series that are one asset, with one second stage and one episode for all of them.

Holds what the members and the groups of all partitions keep beside the series' own state, and
turns what frames.py writes into records. Until the first grouped reading comes nothing is done.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from titans_stream.detection import episodes as E
from titans_stream.detection import tail
from titans_stream.detection.explain import make_alert
from titans_stream.detection.rules import AlertConfig
from titans_stream.engine import frame_clock as C
from titans_stream.engine import frames as F
from titans_stream.engine import order as B
from titans_stream.engine.host_state import rule_row, settings_vector
from titans_stream.engine.rows import Array, HostRows
from titans_stream.engine.series import SeriesTable
from titans_stream.engine.settings import EngineConfig
from titans_stream.memory.rows import ArraySpec
from titans_stream.records import (
    Alert,
    Channel,
    Float64,
    GroupScores,
    Int8,
    Int32,
    Int64,
    ModelRef,
    Scores,
    Source,
)

_PREFIX = "group_"
_EVENTS = 256
"""Events that one call of the kernel has room for."""


def group_state() -> dict[str, ArraySpec]:
    """The arrays of a group by name; `rule` comes from the configuration and is no memory."""
    channels = (F.CHANNELS, F.CHANNEL)
    return {
        "clock": ArraySpec((C.CLOCK,), np.int64),
        "pace": ArraySpec((B.PACE,), np.float64),
        "sums": ArraySpec((F.SUMS,), np.float64),
        "channels": ArraySpec(channels, np.float64),
        "peak": ArraySpec(channels, np.float64),
        "tail": ArraySpec((tail.TAIL,), np.float64),
        "histogram": ArraySpec((tail.HISTOGRAM,), np.float64),
        "episode": ArraySpec((E.EPISODE,), np.float64),
        "episode_times": ArraySpec((E.TIMES,), np.int64),
        "rule": ArraySpec((E.RULE,), np.float64),
    }


class Groups:
    """The groups of an engine. `series_name` gives the id of a series by its uid."""

    def __init__(
        self,
        config: EngineConfig,
        alerts: AlertConfig,
        series_name: Callable[[int], str],
        model: ModelRef,
        topic: str,
    ) -> None:
        self._alerts = alerts
        self._series_name = series_name
        self._model = model
        self._topic = topic
        self._settings = F.Settings(
            settings_vector(alerts),
            float(config.expected_interval or 0),
            config.gap_factor,
            config.expire_after,
        )
        clock = np.zeros(C.CLOCK, np.int64)
        clock[[C.FRAME, C.CLOSED]] = C.NEVER
        member = np.array([-1, C.NEVER, -C.LIVE, 0], np.int64)
        self._rows = HostRows(group_state(), {"clock": clock})
        self._members = HostRows({"member": ArraySpec((C.MEMBER,), np.int64)}, {"member": member})
        self._table = SeriesTable(self._admit)
        self._outside = 0
        self._used = False

    def __len__(self) -> int:
        return len(self._table)

    def info(self) -> dict[str, int]:
        """Figures for people and metrics."""
        return {
            "groups": len(self._table),
            "groups_on_two_partitions": self._table.on_two_partitions,
            "outside_frames": self._outside,
        }

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

    def _admit(self, uid: int, group_id: str) -> None:
        self._rows.reserve(uid + 1)
        self._rows.reset(np.array([uid]))
        self._rows.arrays["rule"][uid] = rule_row(self._alerts, group_id)

    def run(
        self,
        columns: B.Columns,
        values: Float64,
        scores: Scores,
        expired: Int8,
        cause: Int8,
        rules: Float64,
    ) -> tuple[GroupScores, list[tuple[int, Alert]]]:
        """Judge the frames that N readings close, and mark `scores` with their alerts.

        `values` [N] are bounded, NaN where missing; `rules` [series, RULE]. Alerts come with the
        index of the reading that closed their frame.
        """
        n = len(columns)
        self._members.reserve(int(columns.row.max(initial=-1)) + 1)
        batch = F.Batch(
            columns.row, columns.group, columns.timestamp, values, scores.status, expired,
            scores.surprise, np.column_stack([scores.expected, scores.lower, scores.upper]), cause,
        )  # fmt: skip
        groups = self._rows.arrays
        state = F.State(
            self._members.arrays["member"], rules, groups["clock"], groups["pace"],
            groups["sums"], groups["channels"], groups["peak"], groups["tail"],
            groups["histogram"], groups["episode"], groups["episode_times"], groups["rule"],
        )  # fmt: skip
        written = F.Written(
            scores.alert, scores.onset,
            np.empty((2 * n, F.OUT)), np.empty((2 * n, F.MARKS), np.int64),
            np.empty((_EVENTS, F.KIND + 1), np.int64), np.empty((_EVENTS, E.EPISODE)),
            np.empty((_EVENTS, E.TIMES), np.int64), np.empty((_EVENTS, F.SUMS)),
            np.empty((_EVENTS, F.CHANNELS, F.CHANNEL)), np.zeros(F.COUNTS, np.int64),
            np.empty((2, 3)),
        )  # fmt: skip
        alerts: list[tuple[int, Alert]] = []
        first = 0
        while first < n:
            written.counts[F.EVENTS] = 0
            first = F.run(first, batch, state, self._settings, written)
            alerts += [
                self._alert(written, event, columns)
                for event in range(int(written.counts[F.EVENTS]))
            ]
        self._outside += int(written.counts[F.OUTSIDE])
        return self._frames(written, columns), alerts

    def _frames(self, written: F.Written, columns: B.Columns) -> GroupScores:
        count = int(written.counts[F.FRAMES])
        out, marks = written.out[:count], written.marks[:count]
        at = marks[:, F.AT]
        return GroupScores(
            group=self._table.names(marks[:, F.WHOSE]),
            timestamp=marks[:, F.WHEN].copy(),
            statistic=out[:, F.STATISTIC].copy(),
            p_value=out[:, E.P_VALUE].copy(),
            rarity=out[:, E.RARITY].copy(),
            alert=marks[:, F.OPEN].astype(np.int8),
            onset=marks[:, F.ONSET].astype(np.int8),
            partition=columns.partition[at],
            offset=columns.offset[at],
        )

    def _alert(self, written: F.Written, event: int, columns: B.Columns) -> tuple[int, Alert]:
        at, group, time, kind = written.event_marks[event].tolist()
        alert = make_alert(
            kind,
            written.event_states[event],
            written.event_times[event],
            time,
            self._table.name(group),
            self._model,
            Source(self._topic, int(columns.partition[at]), int(columns.offset[at])),
            self._channels(written.event_channels[event], written.event_sums[event]),
        )
        return at, alert

    def _channels(self, peak: Float64, sums: Float64) -> list[Channel]:
        """The driving channel, then the others by their share, at most LISTED together."""
        total = float(sums[F.PEAK_POSITIVE])
        driver, ranked = peak[F.DRIVER], peak[1 : 1 + int(sums[F.PEAK_FILLED])]
        others = [row for row in ranked if row[F.UID] != driver[F.UID]]
        return [self._channel(row, total, row is driver) for row in [driver, *others]][: F.LISTED]

    def _channel(self, row: Float64, total: float, driving: bool) -> Channel:
        surprise = 0.0 if np.isnan(row[F.SURPRISE]) else max(float(row[F.SURPRISE]), 0.0)
        numbers = [float(x) if np.isfinite(x) else None for x in row[F.EXPECTED : F.UPPER + 1]]
        return Channel(
            self._series_name(int(row[F.UID])),
            surprise / total if total > 0.0 else float(driving),
            float(row[F.VALUE]),
            *numbers,
        )

    # --- state

    def forget_member(self, uid: int) -> None:
        """A series' uid is given out anew."""
        if self._used:
            self._members.reserve(uid + 1)
            self._members.reset(np.array([uid]))

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
        for name, mask in known.items():
            arrays[name][~mask] = 0.0
            uid = np.where(mask, arrays[name][..., F.UID], -1).astype(np.int64)
            arrays[name][..., F.UID] = _places(series)[uid]
        self._members.reserve(int(series.max(initial=-1)) + 1)
        member = self._members.export(series)["member"]
        member[:, C.GROUP] = _places(uids)[member[:, C.GROUP]]
        del arrays["rule"]
        return {_PREFIX + name: array for name, array in arrays.items()} | {"member": member}

    def load(
        self, partition: int, names: list[str], series: Int64, arrays: dict[str, Array]
    ) -> None:
        """Put what `export` gave in place; ValueError for a damaged state."""
        if not names:
            return
        self._used = True
        uids = np.array([self._table.add(partition, name) for name in names], np.int64)
        mine = {
            name.removeprefix(_PREFIX): array.copy()
            for name, array in arrays.items()
            if name.startswith(_PREFIX)
        }
        member = arrays.get("member", np.empty(0, np.int64)).copy()
        self._rows.load(uids, mine)
        self._members.reserve(int(series.max(initial=-1)) + 1)
        self._members.load(series, {"member": member})
        for name in ("channels", "peak"):
            column = self._rows.arrays[name][uids, :, F.UID].astype(np.int64)
            _check(column, len(series), name)
            self._rows.arrays[name][uids, :, F.UID] = np.append(series, -1)[column]
        _check(member[:, C.GROUP], len(uids), "member")
        self._members.arrays["member"][series, C.GROUP] = np.append(uids, -1)[member[:, C.GROUP]]

    def release(self, partition: int) -> None:
        """Forget the groups of a partition."""
        names, uids = self._table.members(partition)
        self._remove(partition, names, uids)

    def collect(self, partition: int, limit: int) -> None:
        """Free groups whose last frame is older than `limit`: the next one would find them so."""
        names, uids = self._table.members(partition)
        clock = self._rows.arrays["clock"][uids]
        last = np.maximum(clock[:, C.FRAME], clock[:, C.CLOSED])
        old = np.flatnonzero(last < limit)
        self._remove(partition, [names[i] for i in old.tolist()], uids[old])

    def in_use(self, partition: int) -> npt.NDArray[np.int64]:
        """Uids of series that an open episode's alerts still name."""
        _, uids = self._table.members(partition)
        arrays = self._rows.export(uids)
        return np.unique(arrays["peak"][_in_peak(arrays), F.UID].astype(np.int64))

    def _remove(self, partition: int, names: list[str], uids: Int64) -> None:
        if len(uids) == 0:
            return
        member = self._members.arrays["member"]
        self._members.reset(np.flatnonzero(np.isin(member[:, C.GROUP], uids)))
        self._table.remove(partition, names)


def _in_frame(arrays: dict[str, Array]) -> npt.NDArray[np.bool_]:
    """[G, CHANNELS]: the channels of open frames."""
    sums, number = arrays["sums"], np.arange(F.CHANNELS)
    named = (number >= 1) & (number <= sums[:, F.FILLED, None])
    named[:, F.DRIVER] = sums[:, F.VIOLATED] == 1.0
    found: npt.NDArray[np.bool_] = named & (arrays["clock"][:, C.FRAME, None] != C.NEVER)
    return found


def _in_peak(arrays: dict[str, Array]) -> npt.NDArray[np.bool_]:
    """[G, CHANNELS]: the channels of the peaks of open episodes."""
    named = np.arange(F.CHANNELS) <= arrays["sums"][:, F.PEAK_FILLED, None]
    found: npt.NDArray[np.bool_] = named & (arrays["episode"][:, E.OPEN, None] == 1.0)
    return found


def _places(uids: Int64) -> Int64:
    """The place in `uids` by uid; -1 for every other, -1 included."""
    places = np.full(int(uids.max(initial=-1)) + 2, -1, np.int64)
    places[uids] = np.arange(len(uids))
    return places


def _check(places: Int64, count: int, name: str) -> None:
    if ((places < -1) | (places >= count)).any():
        raise ValueError(f"state: array {name!r} names what is not there")

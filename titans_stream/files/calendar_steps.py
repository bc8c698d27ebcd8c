"""When the next readings of a series are due that follows a calendar: months, or the days and hours
that exist.

Times are nanoseconds, UTC; T is the number of past readings, H of steps ahead.
"""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo

import numpy as np

from titans_stream.durations import DAY, SECOND
from titans_stream.records import Int64
from titans_stream.times import EPOCH

WEEK = 7 * DAY
_MOST = 0.9
"""Share of the past readings that must fit a rule of months."""
_COVERED = 0.97
"""Share of them that must be in the usual places of a week or day."""
_LEAST_MONTHS = 5
_SHORTEST_MONTH = 27.5 * DAY
_USUAL = 0.5
"""Share of the weeks, or days, in which a place in them must have had a reading."""
_FULL = 0.9
"""Share of the places of a week that are filled where nothing is left out."""
_FEW_DAYS, _FEW_WEEKS = 4 * DAY, 2 * WEEK
_REACH = 12 * WEEK


def next_times(past: Int64, steps: int, zone: tzinfo = UTC) -> Int64 | None:
    """[H] times after past ones [T], which increase; None: no calendar shows in them.

    Whole months (quarters, years) keep day and time of day; a day that a month lacks is its last.
    Where parts of the week or of the day never have readings, as at weekends and at night, the
    next times are those that usually have. All of that in local time, of `zone`.
    """
    past = past[past > past[-1] - _REACH] if _is_dense(past) else past
    if len(past) <= _LEAST_MONTHS or int(np.ptp(np.diff(past))) == 0:
        return None
    local = _local(past, zone)
    found = _months(local, steps) if float(np.median(np.diff(past))) > _SHORTEST_MONTH else None
    if found is None:
        found = _places(local, steps, zone)
    return None if found is None else _to_utc(found, zone)


def _is_dense(past: Int64) -> bool:
    return len(past) > 1 and float(np.median(np.diff(past))) <= DAY


def _local(times: Int64, zone: tzinfo) -> Int64:
    """[T] local nanoseconds since the epoch."""
    if zone is UTC:
        return times
    hours, inverse = np.unique(times // (3600 * SECOND), return_inverse=True)
    offsets = [(EPOCH + timedelta(hours=int(hour))).astimezone(zone).utcoffset() for hour in hours]
    shift = np.array([round((one or timedelta()).total_seconds()) for one in offsets], np.int64)
    return times + shift[inverse] * SECOND


def _to_utc(local: Sequence[int], zone: tzinfo) -> Int64:
    if zone is UTC:
        return np.array(local, np.int64)
    out = []
    for time in local:
        moment = (EPOCH + timedelta(seconds=time // SECOND)).replace(tzinfo=None)
        offset = zone.utcoffset(moment) or timedelta()
        out.append(time - round(offset.total_seconds()) * SECOND)
    return np.array(out, np.int64)


def _exists(time: int, zone: tzinfo) -> bool:
    """Whether clocks show a local time."""
    if zone is UTC:
        return True
    moment = (EPOCH + timedelta(seconds=time // SECOND)).replace(tzinfo=zone)
    return moment.astimezone(UTC).astimezone(zone).replace(tzinfo=zone) == moment


def _months(local: Int64, steps: int) -> list[int] | None:
    """Local times a whole number of months apart."""
    moments = [EPOCH + timedelta(seconds=int(time) // SECOND) for time in local[-400:]]
    number = np.array([moment.year * 12 + moment.month - 1 for moment in moments])
    day = np.array([moment.day for moment in moments])
    is_last = np.array([calendar.monthrange(one.year, one.month)[1] == one.day for one in moments])
    in_day = local[-400:] % DAY
    month_steps, count = np.unique(np.diff(number), return_counts=True)
    step = int(month_steps[count.argmax()])
    usual = int(np.bincount(day).argmax())
    fits = (day == usual) | (is_last & (day < usual))
    at_end = bool(is_last.mean() >= _MOST)
    if step < 1 or count.max() < _MOST * (len(number) - 1) or not (at_end or fits.mean() >= _MOST):
        return None
    if (in_day == in_day[-1]).mean() < _MOST:
        return None
    out = []
    for month in int(number[-1]) + step * np.arange(1, steps + 1):
        year, index = divmod(int(month), 12)
        longest = calendar.monthrange(year, index + 1)[1]
        date = datetime(year, index + 1, longest if at_end else min(usual, longest), tzinfo=UTC)
        out.append((date - EPOCH).days * DAY + int(in_day[-1]))
    return out


def _places(local: Int64, steps: int, zone: tzinfo) -> list[int] | None:
    """Local times at those places of the week, or of the day, that usually have a reading.

    An hour that clocks leave out in spring has none.
    """
    span = int(local[-1] - local[0])
    gaps, count = np.unique(np.diff(local), return_counts=True)
    interval = int(gaps[count.argmax()])
    if interval > DAY or span < _FEW_DAYS:
        return None
    cycle = WEEK if span >= _FEW_WEEKS else DAY
    since_monday = local + 3 * DAY  # 1970-01-01 was a Thursday
    place, often = np.unique(since_monday % cycle, return_counts=True)
    usual = often >= _USUAL * span / cycle
    if often[usual].sum() < _COVERED * len(local) or usual.sum() > _FULL * cycle / interval:
        return None
    kept = place[usual]
    weekdays = set((since_monday // DAY % 7).tolist()) if span >= WEEK else set(range(7))
    out: list[int] = []
    turn = int(since_monday[-1]) // cycle
    while len(out) < steps:
        for one in kept.tolist():
            time = turn * cycle + one
            due = time > since_monday[-1] and time // DAY % 7 in weekdays and len(out) < steps
            if due and _exists(time - 3 * DAY, zone):
                out.append(time - 3 * DAY)
        turn += 1
    return out

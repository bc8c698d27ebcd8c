"""Holds the open episodes of readings against what is familiar, and keeps their courses."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from titans_stream.detection.episodes import EXPIRED, OPENED, RESOLVED
from titans_stream.detection.judging import Events
from titans_stream.engine.columns import Columns
from titans_stream.engine.familiar import SILENT, Course, Familiar, Known
from titans_stream.engine.rows import Array
from titans_stream.records import Float64, Int64, Records

_OVER = (RESOLVED, EXPIRED)


def recall(
    familiar: Familiar, columns: Columns, slots: Int64, values: Float64, written: Events,
    arrays: Mapping[str, Array],
) -> None:  # fmt: skip
    """Silence the episodes of N readings, of distinct series, that are familiar, and tell those
    that are no longer: events and marks are written anew."""
    episodes = arrays["episode"]
    for i, uid in enumerate(columns.uid.tolist()):
        known, state = familiar.find(uid), episodes[slots[i]]
        if known is None or state["open"] != 1.0:
            continue
        event = int(written.event[i])
        silent = is_silent(state)
        if not silent and event != OPENED:
            continue
        fits = state["violation"] != 1.0 and _fits(
            known, state, int(columns.timestamp[i]), float(values[i] - written.normal[i, 0])
        )
        if fits and not silent:
            episodes["known"][slots[i]] = 1.0
            episodes["known_far"][slots[i]] = SILENT
            written.event[i] = written.alert[i] = 0
            _begin(familiar, uid, state, arrays["episode_times"][slots[i]])
        elif silent and not fits:
            episodes["known"][slots[i]] = 0.0
            written.event[i], written.alert[i] = OPENED, 1


def is_silent(state: np.void) -> bool:
    """Whether an episode is open, and silent for a pattern."""
    return bool(state["open"] == 1.0 and state["known"] == 1.0 and state["known_far"] == SILENT)


def _fits(known: Known, state: np.void, time: int, deviation: float) -> bool:
    number = int(state["readings"]) - 1
    return any(
        not pattern.until or time < pattern.until
        if pattern.course is known.open
        else pattern.has(time, number, deviation, float(state["what"]), float(state["peak_c"]))
        for pattern in known.patterns
    )


def _begin(familiar: Familiar, uid: int, state: np.void, times: np.void) -> Course:
    onset = int(times["onset"])
    known = familiar.of(uid)
    if known.open is None or known.open.onset != onset:
        return familiar.begin(uid, onset, float(state["what"]), float(state["peak_c"]))
    return known.open


def record(
    familiar: Familiar, columns: Columns, values: Float64, written: Events, states: Records,
    times: Records, silent: Array,
) -> None:  # fmt: skip
    """Add N readings to the courses of the episodes that they belong to.

    `states` and `times` are by event; `silent` [N]: the reading is of an episode that is silent.
    """
    number = np.cumsum(written.event != 0) - 1
    for i in np.flatnonzero((written.alert == 1) | (written.event != 0) | silent).tolist():
        uid, event = int(columns.uid[i]), int(written.event[i])
        if event == OPENED:
            _begin(familiar, uid, states[number[i]], times[number[i]])
        known = familiar.find(uid)
        if known is None or known.open is None:
            continue
        course = known.open
        if event:
            state = states[number[i]]
            course.what, course.rarity = float(state["what"]), float(state["peak_c"])
        normal, lower, upper = written.normal[i].tolist()
        course.take(int(columns.timestamp[i]), float(values[i]) - normal, (upper - lower) / 2.0)
        if event in _OVER:
            known.open = None

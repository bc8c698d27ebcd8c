"""Holds the open episodes of readings against what is familiar, and keeps their courses."""

from __future__ import annotations

import numpy as np

from titans_stream.detection.episodes import EXPIRED, OPENED, RESOLVED
from titans_stream.detection.judging import Events
from titans_stream.engine.columns import Columns
from titans_stream.engine.course import Course
from titans_stream.engine.familiar import SILENT, Familiar, Step
from titans_stream.engine.store import Array, Store
from titans_stream.records import Float64, Int64, Records

_OVER = (RESOLVED, EXPIRED)


def recall(
    familiar: Familiar, columns: Columns, slots: Int64, values: Float64, written: Events,
    store: Store,
) -> Records:  # fmt: skip
    """Silence the episodes of N readings, of distinct series, that are familiar, and tell those
    that are no longer: events and marks are written anew. Returns the states of the episodes."""
    episodes, all_times = store.read("episode", slots), store.read("episode_times", slots)
    for i, uid in enumerate(columns.uid.tolist()):
        known, state = familiar.find(uid), episodes[i]
        if known is None:
            continue
        event = int(written.event[i])
        if state["open"] != 1.0:
            if event not in _OVER:
                known.open = None
            continue
        silent = is_silent(state)
        if not silent and event != OPENED:
            continue
        times = all_times[i]
        step = Step(
            int(columns.timestamp[i]), int(state["readings"]) - 1,
            float(values[i] - written.normal[i, 0]), float(state["what"]), float(state["peak_c"]),
            bool(state["quiet"] > 0.0), float(state["side"]),
        )  # fmt: skip
        so_far = known.open
        if so_far is not None and so_far.onset != int(times["onset"]):
            so_far = None
        fits = state["violation"] != 1.0 and any(
            pattern.has(step, so_far) for pattern in known.patterns
        )
        if fits and not silent:
            episodes["known"][i] = 1.0
            episodes["known_far"][i] = SILENT
            written.event[i] = written.alert[i] = 0
            _begin(familiar, uid, state, times)
        elif silent and not fits:
            familiar.part(known)
            episodes["known"][i] = 0.0
            written.event[i], written.alert[i] = OPENED, 1
    store.write("episode", slots, episodes)
    return episodes


def is_silent(state: Records | np.void) -> Array:
    """Whether an episode, or each of N, is open, and silent for a pattern."""
    silent: Array = (
        (state["open"] == 1.0) & (state["known"] == 1.0) & (state["known_far"] == SILENT)
    )
    return silent


def _begin(familiar: Familiar, uid: int, state: np.void, times: np.void) -> Course:
    onset = int(times["onset"])
    known = familiar.of(uid)
    if known.open is None or known.open.onset != onset:
        what, rarity = float(state["what"]), float(state["peak_c"])
        return familiar.begin(uid, onset, what, rarity, float(state["side"]))
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
        course.take(
            int(columns.timestamp[i]),
            float(values[i]) - normal,
            max(upper - normal, normal - lower),
        )
        if event in _OVER:
            known.open = None

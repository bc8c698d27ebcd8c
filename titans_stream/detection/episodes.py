"""From rarity to episodes: open, follow, resolve. Host code, one reading after another.

Per reading: the rarity C and p-value of S from the second stage (tail.py), the threshold from
the alert budget, the rules of the series, then the episode's state machine. An episode opens
when C reaches -log10 q + delta, q being the budget in episodes per 100 readings and delta a slow
correction (each episode raises it, each quiet reading lowers it), or at once when the value
leaves its valid range; it ends after `resolve_after` quiet readings.
"""

from __future__ import annotations

import math

import numpy as np

from titans_stream.detection import tail
from titans_stream.jit import njit
from titans_stream.records import Float64, Int8, Int64

NANOSECONDS_PER_DAY = 86_400e9
DELTA_UP = 0.05
DELTA_MAX = 0.6
DELTA_MIN = -0.3
ONBOARDING_FIRST = 200.0
ONBOARDING_LAST = 20_000.0
Q_MIN = 1e-7
Q_MAX = 0.5

# Columns of the episode state
SCORED = 0
OPEN = 1
PEAK_C = 2
PEAK_VALUE = 3
PEAK_EXPECTED = 4
PEAK_LOWER = 5
PEAK_UPPER = 6
PEAK_S = 7
PEAK_P = 8
READINGS = 9
QUIET = 10
ABOVE = 11
SINCE_ONSET = 12
DELTA = 13
CRITICAL = 14
VIOLATION = 15
SINCE_UPDATE = 16
CAUSE = 17
PER_DAY = 18
EXTRAPOLATED = 19
EPISODE = 20

# Columns of the episode times (int64 nanoseconds)
ONSET_TIME = 0
PEAK_TIME = 1
TIMES = 2

# Columns of a series' rule
DIRECTION = 0
MIN_DEVIATION = 1
MIN_RATIO = 2
LOW = 3
HIGH = 4
BUDGET = 5
ENABLED = 6
RULE = 7

# Columns of the settings vector
MIN_DURATION = 0
HYSTERESIS = 1
RESOLVE_AFTER = 2
MAX_DURATION = 3
COOL_DOWN = 4
LOG_CRITICAL = 5
UPDATE_EVERY = 6
ONBOARDING = 7
SETTINGS = 8

OPENED, UPDATED, RESOLVED = 1, 2, 3
"""Events; 0 is none."""

RARITY, P_VALUE, SCORE = 0, 1, 2
"""Columns of the output."""


@njit()
def deviates(rule: Float64, value: float, expected: float) -> bool:
    """Whether direction and least deviation allow an alert; they need an expected value."""
    plain = rule[DIRECTION] == 0.0 and rule[MIN_DEVIATION] == 0.0 and rule[MIN_RATIO] == 0.0
    if plain:
        return True
    if math.isnan(expected):
        return False
    deviation = value - expected
    if deviation * rule[DIRECTION] < 0.0:
        return False
    size = abs(deviation)
    least: float = max(rule[MIN_DEVIATION], rule[MIN_RATIO] * abs(expected))
    return size >= least


@njit()
def _set_peak(
    episode: Float64,
    times: Int64,
    time: int,
    value: float,
    band: Float64,
    statistic: float,
    c: float,
    p: float,
    cause: int,
) -> None:
    episode[PEAK_C] = c
    episode[PEAK_VALUE] = value
    episode[PEAK_EXPECTED] = band[0]
    episode[PEAK_LOWER] = band[1]
    episode[PEAK_UPPER] = band[2]
    episode[PEAK_S] = statistic
    episode[PEAK_P] = p
    episode[CAUSE] = cause
    times[PEAK_TIME] = time


@njit()
def _open(episode: Float64, times: Int64, time: int, violated: bool) -> None:
    episode[OPEN] = 1.0
    episode[READINGS] = 0.0
    episode[QUIET] = 0.0
    episode[ABOVE] = 0.0
    episode[SINCE_ONSET] = 0.0
    episode[SINCE_UPDATE] = 0.0
    episode[CRITICAL] = 0.0
    episode[VIOLATION] = 1.0 if violated else 0.0
    times[ONSET_TIME] = time
    if not violated:
        episode[DELTA] = min(DELTA_MAX, episode[DELTA] + DELTA_UP)


@njit()
def _budget(rule: Float64, settings: Float64, scored: float, interval: float) -> float:
    """q: episodes per 100 readings that the budget allows, onboarding allowance included."""
    q: float = 100.0 * rule[BUDGET] * interval / NANOSECONDS_PER_DAY
    if ONBOARDING_FIRST <= scored < ONBOARDING_LAST:
        q += 100.0 * settings[ONBOARDING] / (scored * math.log(100.0))
    return min(Q_MAX, max(Q_MIN, q))


@njit()
def _follow(
    episode: Float64,
    times: Int64,
    settings: Float64,
    time: int,
    value: float,
    statistic: float,
    band: Float64,
    c: float,
    p: float,
    threshold: float,
    eligible: bool,
    violated: bool,
    enabled: bool,
    cause: int,
) -> int:
    """One step of the state machine; returns the event."""
    event = 0
    episode[SINCE_ONSET] += 1.0
    if episode[OPEN] == 0.0:
        episode[ABOVE] = episode[ABOVE] + 1.0 if eligible else 0.0
        silence = settings[COOL_DOWN]
        if silence < 0.0:
            silence = min(150.0, max(30.0, 0.045 * episode[SCORED]))
        first = episode[READINGS] == 0.0
        quiet = first or episode[SINCE_ONSET] > silence
        if enabled and (violated or (quiet and episode[ABOVE] >= settings[MIN_DURATION])):
            _open(episode, times, time, violated)
            _set_peak(episode, times, time, value, band, statistic, c, p, cause)
            event = OPENED
    if episode[OPEN] == 0.0:
        return event
    episode[READINGS] += 1.0
    episode[SINCE_UPDATE] += 1.0
    if c > episode[PEAK_C] or math.isnan(episode[PEAK_C]):
        _set_peak(episode, times, time, value, band, statistic, c, p, cause)
    if violated:
        episode[VIOLATION] = 1.0
    if (violated or c >= threshold + settings[LOG_CRITICAL]) and episode[CRITICAL] == 0.0:
        episode[CRITICAL] = 1.0
        event = max(event, UPDATED) if event != OPENED else OPENED
    calm = not violated and not c >= threshold - settings[HYSTERESIS]
    episode[QUIET] = episode[QUIET] + 1.0 if calm else 0.0
    too_long = episode[READINGS] >= settings[MAX_DURATION]
    if event != OPENED and (episode[QUIET] >= settings[RESOLVE_AFTER] or too_long):
        episode[OPEN] = 0.0
        return RESOLVED
    due = settings[UPDATE_EVERY]
    if event == 0 and due > 0.0 and episode[SINCE_UPDATE] >= due:
        event = UPDATED
    if event == UPDATED:
        episode[SINCE_UPDATE] = 0.0
    return event


@njit()
def step(
    episode: Float64,
    times: Int64,
    tail_row: Float64,
    histogram: Float64,
    rule: Float64,
    settings: Float64,
    time: int,
    value: float,
    statistic: float,
    band: Float64,
    cause: int,
    interval: float,
    permitted: bool,
    violated: bool,
    enabled: bool,
    sigma: Float64,
    mass: Float64,
    out: Float64,
) -> int:
    """Judge one reading and learn from it; returns the event.

    `statistic` is NaN while warming up. `permitted`: direction and least deviation allow an
    alert. Writes rarity, p-value and score to out [3]; sigma and mass are scratch [3].
    """
    warm = not math.isnan(statistic)
    episode[SCORED] += 1.0
    q = _budget(rule, settings, episode[SCORED], interval)
    threshold = -math.log10(q) + episode[DELTA]
    c = math.nan
    p = math.nan
    if warm:
        c = tail.rarity(tail_row, statistic, sigma, mass)
        p = tail.p_value(histogram, statistic)
        out[SCORE] = tail.score(statistic)
    else:
        out[SCORE] = 0.0
    out[RARITY] = c
    out[P_VALUE] = p
    eligible = warm and c >= threshold and permitted
    event = _follow(
        episode, times, settings, time, value, statistic, band, c, p, threshold, eligible,
        violated, enabled, cause,
    )  # fmt: skip
    if warm:
        episode[DELTA] = max(DELTA_MIN, episode[DELTA] - DELTA_UP * q / 100.0)
        tail.learn(tail_row, statistic, sigma, mass)
        tail.remember(histogram, statistic)
    if event != 0:
        _note_rate(episode, q, interval)
    return event


@njit()
def _note_rate(episode: Float64, q: float, interval: float) -> None:
    episode[PER_DAY] = NANOSECONDS_PER_DAY / interval
    episode[EXTRAPOLATED] = 1.0 if q * episode[SCORED] / 100.0 < 3.0 else 0.0


@njit()
def open_at_once(
    episode: Float64,
    times: Int64,
    rule: Float64,
    settings: Float64,
    time: int,
    value: float,
    band: Float64,
    cause: int,
    interval: float,
) -> None:
    """Open an episode for a value outside its range before its frame is judged.

    `step` takes the frame in afterwards, as the episode's first.
    """
    _open(episode, times, time, True)
    _set_peak(episode, times, time, value, band, math.nan, math.nan, math.nan, cause)
    episode[CRITICAL] = 1.0
    episode[SINCE_ONSET] = -1.0
    _note_rate(episode, _budget(rule, settings, episode[SCORED], interval), interval)


@njit(nogil=True)
def run(
    rows: Int64,
    times: Int64,
    values: Float64,
    statistics: Float64,
    band: Float64,
    causes: Int8,
    intervals: Float64,
    rules: Float64,
    settings: Float64,
    tails: Float64,
    histograms: Float64,
    episodes: Float64,
    episode_times: Int64,
    out: Float64,
    alert: Int8,
    events: Int8,
    event_states: Float64,
    event_times: Int64,
    grouped: Int8 | None = None,
) -> int:
    """Judge N readings in order; rows [N] names each reading's row of the state arrays.

    `statistics` S [N] (NaN while warming up), `band` [N, 3], `causes` [N] the channel that rose
    most, `intervals` [N] nanoseconds between readings. Writes rarity, p-value and score to
    out [N, 3], `alert` [N], `events` [N] and, in order, the state of every reading with an event.
    `grouped` [N] is 1 where no episode opens because a group's does. Returns the number of
    events.
    """
    sigma = np.empty(3)
    mass = np.empty(3)
    count = 0
    for i in range(rows.shape[0]):
        r = rows[i]
        episode = episodes[r]
        rule = rules[r]
        value = values[i]
        enabled = rule[ENABLED] == 1.0
        if grouped is not None:
            enabled = enabled and grouped[i] == 0
        event = step(
            episode, episode_times[r], tails[r], histograms[r], rule, settings, times[i], value,
            statistics[i], band[i], causes[i], intervals[i], deviates(rule, value, band[i, 0]),
            value < rule[LOW] or value > rule[HIGH], enabled, sigma, mass, out[i],
        )  # fmt: skip
        alert[i] = 1 if episode[OPEN] == 1.0 else 0
        events[i] = event
        if event != 0:
            event_states[count] = episode
            event_times[count] = episode_times[r]
            count += 1
    return count

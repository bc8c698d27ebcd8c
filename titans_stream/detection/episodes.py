"""From rarity to episodes: open, follow, resolve; one reading after another.

Per reading: the rarity C and p-value of S from the second stage (tail.py), the threshold from
the alert budget, the rules of the series, then the episode's state machine. An episode opens
when C reaches -log10 q + delta, q being the budget in episodes per 100 readings and delta a slow
correction (each episode raises it, each quiet reading lowers it), or at once when the value
leaves its valid range; it ends after `resolve_after` quiet readings.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from titans_stream.detection import tail
from titans_stream.jit import njit
from titans_stream.memory.rows import Record
from titans_stream.records import Float64, Int8, Int64, Records

NANOSECONDS_PER_DAY = 86_400e9
DELTA_UP = 0.05
DELTA_MAX = 0.6
DELTA_MIN = -0.3
ONBOARDING_FIRST = 200.0
ONBOARDING_LAST = 20_000.0
Q_MIN = 1e-7
Q_MAX = 0.5

OPENED, UPDATED, RESOLVED, EXPIRED = 1, 2, 3, 4
"""Events; 0 is none. An episode is EXPIRED, and resolved by that, when its series starts anew."""


class Episode(Record):
    """The episode of one series or group, open or last; flags are 0 or 1."""

    scored: float
    """Readings judged so far, of any episode or none."""
    open: float
    peak_c: float
    peak_value: float
    peak_expected: float
    peak_lower: float
    peak_upper: float
    peak_s: float
    peak_p: float
    readings: float
    quiet: float
    """Quiet readings in a row."""
    above: float
    """Readings in a row that reach the threshold while none is open."""
    since_onset: float
    delta: float
    critical: float
    violation: float
    since_update: float
    cause: float
    """The channel that rose most at the peak."""
    per_day: float
    """Readings a day when the last event came."""
    extrapolated: float


class EpisodeTimes(Record):
    """UTC nanoseconds."""

    onset: int
    peak: int


class Rule(Record):
    """What the rules of the configuration come to for one series or group."""

    direction: float
    """1 above, -1 below, 0 both."""
    min_deviation: float
    min_ratio: float
    low: float
    high: float
    budget: float
    """False episodes a day."""
    enabled: float


class Judgement(Record):
    """What the second stage says of one reading."""

    rarity: float
    p_value: float
    score: float


class Settings(NamedTuple):
    """The alert settings that all series share; see `rules.AlertConfig`."""

    min_duration: float
    hysteresis: float
    resolve_after: float
    max_duration: float
    cool_down: float
    """Readings of silence after an onset, -1: grows with the history."""
    log_critical: float
    update_every: float
    onboarding: float


class Tables(NamedTuple):
    """The state of all series or groups, [slots]."""

    tail: Records
    histogram: Records
    episode: Records
    times: Records


class Judged(NamedTuple):
    """The state of one of them, a record of each array of `Tables`, and its rule."""

    tail: tail.Tail
    histogram: tail.Histogram
    episode: Episode
    times: EpisodeTimes
    rule: Rule


class Reading(NamedTuple):
    """A reading, or the driving channel of a frame, with what detector and forecaster say."""

    time: int
    value: float
    statistic: float
    """S, NaN while warming up."""
    expected: float
    lower: float
    upper: float
    cause: int
    interval: float
    """Nanoseconds between readings."""
    alone: float
    """Least rarity of a frame, by one of its members; -inf without."""


class Permission(NamedTuple):
    """What the rules say of a reading."""

    permitted: bool
    """Direction and least deviation allow an alert."""
    violated: bool
    """The value is outside its valid range."""
    enabled: bool


class Readings(NamedTuple):
    """N readings as columns; `band` [N, 3] holds expected, lower and upper; `rule` [N].

    `grouped` is 1 where no episode opens because a group's does.
    """

    time: Int64
    value: Float64
    statistic: Float64
    band: Float64
    cause: Int8
    interval: Float64
    rule: Records
    grouped: Int8
    alone: Float64
    """As in `Reading`."""


class Events(NamedTuple):
    """What a run writes: by reading [N] `judgement`, `alert` and `event`; by event the state."""

    judgement: Records
    alert: Int8
    event: Int8
    episode: Records
    times: Records


@njit()
def deviates(rule: Rule, value: float, expected: float) -> bool:
    """Whether direction and least deviation allow an alert; they need an expected value."""
    plain = rule.direction == 0.0 and rule.min_deviation == 0.0 and rule.min_ratio == 0.0
    if plain:
        return True
    if math.isnan(expected):
        return False
    deviation = value - expected
    if deviation * rule.direction < 0.0:
        return False
    return abs(deviation) >= max(rule.min_deviation, rule.min_ratio * abs(expected))


@njit()
def violates(rule: Rule, value: float) -> bool:
    """Whether a value is outside its valid range."""
    return bool(value < rule.low or value > rule.high)


@njit()
def _set_peak(
    episode: Episode, times: EpisodeTimes, reading: Reading, rarity: float, p_value: float
) -> None:
    episode.peak_c = rarity
    episode.peak_value = reading.value
    episode.peak_expected = reading.expected
    episode.peak_lower = reading.lower
    episode.peak_upper = reading.upper
    episode.peak_s = reading.statistic
    episode.peak_p = p_value
    episode.cause = reading.cause
    times.peak = reading.time


@njit()
def _open(episode: Episode, times: EpisodeTimes, time: int, violated: bool) -> None:
    episode.open = 1.0
    episode.readings = 0.0
    episode.quiet = 0.0
    episode.above = 0.0
    episode.since_onset = 0.0
    episode.since_update = 0.0
    episode.critical = 0.0
    episode.violation = 1.0 if violated else 0.0
    times.onset = time
    if not violated:
        episode.delta = min(DELTA_MAX, episode.delta + DELTA_UP)


@njit()
def _budget(rule: Rule, settings: Settings, scored: float, interval: float) -> float:
    """q: episodes per 100 readings that the budget allows, onboarding allowance included."""
    q = 100.0 * rule.budget * interval / NANOSECONDS_PER_DAY
    if ONBOARDING_FIRST <= scored < ONBOARDING_LAST:
        q += 100.0 * settings.onboarding / (scored * math.log(100.0))
    return min(Q_MAX, max(Q_MIN, q))


@njit()
def _follow(
    judged: Judged,
    settings: Settings,
    reading: Reading,
    judgement: Judgement,
    permission: Permission,
    threshold: float,
    eligible: bool,
) -> int:
    """One step of the state machine; returns the event."""
    episode, times = judged.episode, judged.times
    c, violated = judgement.rarity, permission.violated
    event = 0
    episode.since_onset += 1.0
    if episode.open == 0.0:
        episode.above = episode.above + 1.0 if eligible else 0.0
        silence = settings.cool_down
        if silence < 0.0:
            silence = min(150.0, max(30.0, 0.045 * episode.scored))
        first = episode.readings == 0.0
        quiet = first or episode.since_onset > silence
        if permission.enabled and (violated or (quiet and episode.above >= settings.min_duration)):
            _open(episode, times, reading.time, violated)
            _set_peak(episode, times, reading, c, judgement.p_value)
            event = OPENED
    if episode.open == 0.0:
        return event
    episode.readings += 1.0
    episode.since_update += 1.0
    if c > episode.peak_c or math.isnan(episode.peak_c):
        _set_peak(episode, times, reading, c, judgement.p_value)
    if violated:
        episode.violation = 1.0
    if (violated or c >= threshold + settings.log_critical) and episode.critical == 0.0:
        episode.critical = 1.0
        event = max(event, UPDATED) if event != OPENED else OPENED
    calm = not violated and not c >= threshold - settings.hysteresis
    episode.quiet = episode.quiet + 1.0 if calm else 0.0
    too_long = episode.readings >= settings.max_duration
    if event != OPENED and (episode.quiet >= settings.resolve_after or too_long):
        episode.open = 0.0
        return RESOLVED
    due = settings.update_every
    if event == 0 and due > 0.0 and episode.since_update >= due:
        event = UPDATED
    if event == UPDATED:
        episode.since_update = 0.0
    return event


@njit()
def step(
    judged: Judged,
    settings: Settings,
    reading: Reading,
    permission: Permission,
    space: tail.Space,
    out: Judgement,
) -> int:
    """Judge one reading and learn from it; writes the judgement and returns the event."""
    episode, statistic = judged.episode, reading.statistic
    warm = not math.isnan(statistic)
    episode.scored += 1.0
    q = _budget(judged.rule, settings, episode.scored, reading.interval)
    threshold = -math.log10(q) + episode.delta
    out.rarity = math.nan
    out.p_value = math.nan
    out.score = 0.0
    if warm:
        out.rarity = max(tail.rarity(judged.tail, statistic, space), reading.alone)
        out.p_value = tail.p_value(judged.histogram, statistic)
        out.score = tail.score(statistic)
    eligible = warm and out.rarity >= threshold and permission.permitted
    event = _follow(judged, settings, reading, out, permission, threshold, eligible)
    if warm:
        episode.delta = max(DELTA_MIN, episode.delta - DELTA_UP * q / 100.0)
        tail.learn(judged.tail, statistic, space)
        tail.remember(judged.histogram, statistic)
    if event != 0:
        _note_rate(episode, q, reading.interval)
    return event


@njit()
def _note_rate(episode: Episode, q: float, interval: float) -> None:
    episode.per_day = NANOSECONDS_PER_DAY / interval
    episode.extrapolated = 1.0 if q * episode.scored / 100.0 < 3.0 else 0.0


@njit()
def open_at_once(judged: Judged, settings: Settings, reading: Reading) -> None:
    """Open an episode for a value outside its range before its frame is judged.

    `step` takes the frame in afterwards, as the episode's first.
    """
    episode, times = judged.episode, judged.times
    _open(episode, times, reading.time, True)
    _set_peak(episode, times, reading, math.nan, math.nan)
    episode.critical = 1.0
    episode.since_onset = -1.0
    q = _budget(judged.rule, settings, episode.scored, reading.interval)
    _note_rate(episode, q, reading.interval)


@njit(inline="always")
def judged_of(tables: Tables, slot: int, rule: Rule) -> Judged:
    """The state of the series or group in a slot."""
    return Judged(
        tables.tail[slot], tables.histogram[slot], tables.episode[slot], tables.times[slot], rule
    )


@njit(nogil=True)
def run(
    slots: Int64, readings: Readings, tables: Tables, settings: Settings, written: Events
) -> int:
    """Judge N readings in order; slots [N] names each reading's slot of the tables.

    Returns the number of events.
    """
    space = tail.new_space()
    count = 0
    for i in range(slots.shape[0]):
        judged = judged_of(tables, slots[i], readings.rule[i])
        value, band = readings.value[i], readings.band[i]
        reading = Reading(
            readings.time[i], value, readings.statistic[i], band[0], band[1], band[2],
            readings.cause[i], readings.interval[i], readings.alone[i],
        )  # fmt: skip
        permission = Permission(
            deviates(judged.rule, value, band[0]),
            violates(judged.rule, value),
            judged.rule.enabled == 1.0 and readings.grouped[i] == 0,
        )
        event = step(judged, settings, reading, permission, space, written.judgement[i])
        written.alert[i] = 1 if judged.episode.open == 1.0 else 0
        written.event[i] = event
        if event != 0:
            written.episode[count] = judged.episode
            written.times[count] = judged.times
            count += 1
    return count

"""From rarity to episodes: open, follow, resolve; one reading after another.

Per reading: the rarity C and p-value of S from the second stage (tail.py), the threshold from
the alert budget (budget.py), the rules of the series, then the episode's state machine. An episode
opens when C reaches the threshold, or at once when the value leaves its valid range; it ends after
`resolve_after` quiet readings.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from titans_stream.detection import budget, tail
from titans_stream.detection.evidence import Evidence, no_evidence
from titans_stream.jit import njit
from titans_stream.memory.rows import Record
from titans_stream.records import Records

HISTORY = 300.0
DUE = 3.0
"""Rates are extrapolated until so many readings, or so many due episodes, have been seen."""

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
    accepted: float
    """Episodes a day that the budget accepted then."""
    onset_value: float
    latest_value: float
    peak_far: float
    """How far outside the band the peak is, in its half widths; 0: inside, or of a group."""
    limit: float
    """The limit of the valid range that was left, NaN: none."""
    what: float
    """What stands out at the peak, and its numbers; see `watch`."""
    first: float
    second: float
    third: float
    known: float
    """1: it comes every week, and nobody is told."""
    known_far: float
    """How far outside the band a reading of it may be."""
    side: float
    """How far from normal the series was lately as it opened, in usual deviations."""


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


@njit(inner=True)
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


@njit(inner=True)
def violates(rule: Rule, value: float) -> bool:
    """Whether a value is outside its valid range."""
    return bool(value < rule.low or value > rule.high)


@njit(inner=True)
def crossed(rule: Rule, value: float) -> float:
    """The limit of its valid range that a value is outside of; NaN: none."""
    if value > rule.high:
        return rule.high
    return rule.low if value < rule.low else math.nan


@njit(inner=True)
def _set_peak(episode: Episode, times: EpisodeTimes, reading: Reading, evidence: Evidence) -> None:
    """The reading is the one to quote: the farthest outside its band, else the strangest."""
    episode.peak_far = evidence.far if evidence.far > 1.0 else 0.0
    episode.what = evidence.what
    episode.first = evidence.first
    episode.second = evidence.second
    episode.third = evidence.third
    episode.peak_value = reading.value
    episode.peak_expected = reading.expected
    episode.peak_lower = reading.lower
    episode.peak_upper = reading.upper
    episode.cause = reading.cause
    times.peak = reading.time


@njit(inner=True)
def _set_strangest(episode: Episode, statistic: float, judgement: Judgement) -> None:
    episode.peak_c = judgement.rarity
    episode.peak_s = statistic
    episode.peak_p = judgement.p_value


@njit(inner=True)
def _open(
    episode: Episode,
    times: EpisodeTimes,
    reading: Reading,
    permission: Permission,
    evidence: Evidence,
    q: float,
) -> None:
    violated = permission.violated
    episode.open = 1.0
    episode.readings = 0.0
    episode.quiet = 0.0
    episode.above = 0.0
    episode.since_onset = 0.0
    episode.since_update = 0.0
    episode.critical = 0.0
    episode.violation = 1.0 if violated else 0.0
    episode.limit = evidence.limit
    episode.onset_value = reading.value
    episode.latest_value = reading.value
    episode.known = 1.0 if evidence.known_far >= evidence.far and not violated else 0.0
    episode.known_far = evidence.known_far
    episode.side = evidence.side
    times.onset = reading.time
    if not violated and not evidence.big:
        episode.delta = budget.raised(episode.delta, q)


@njit(inner=True)
def _accepted(rule: Rule, settings: Settings, scored: float, interval: float) -> float:
    """q: episodes per 100 readings that the budget allows, onboarding allowance included."""
    return budget.per_block(rule.budget, interval, settings.onboarding, scored)


@njit(inner=True)
def _begins(
    episode: Episode, settings: Settings, permission: Permission, evidence: Evidence, q: float
) -> bool:
    """Whether an episode opens with a reading; `episode.above` already counts it."""
    if permission.violated:
        return permission.enabled
    silence = settings.cool_down
    if silence < 0.0:
        first = evidence.big and evidence.fresh
        silence = 0.0 if first else budget.silence(episode.scored, q)
    quiet = episode.readings == 0.0 or episode.since_onset > silence
    lasts = episode.above >= settings.min_duration
    return permission.enabled and quiet and lasts


@njit(inner=True)
def _follow(
    judged: Judged,
    settings: Settings,
    reading: Reading,
    judgement: Judgement,
    permission: Permission,
    evidence: Evidence,
    q: float,
) -> int:
    """One step of the state machine; returns the event."""
    episode, times = judged.episode, judged.times
    c, violated = judgement.rarity, permission.violated
    threshold = budget.threshold(q, episode.delta)
    eligible = permission.permitted and (c >= threshold or evidence.big)
    event = 0
    episode.since_onset += 1.0
    if episode.open == 0.0:
        episode.above = episode.above + 1.0 if eligible else 0.0
        if _begins(episode, settings, permission, evidence, q):
            _open(episode, times, reading, permission, evidence, q)
            _set_peak(episode, times, reading, evidence)
            _set_strangest(episode, reading.statistic, judgement)
            event = OPENED
    if episode.open == 0.0:
        return event
    episode.readings += 1.0
    episode.since_update += 1.0
    episode.latest_value = reading.value
    outside = evidence.far if evidence.far > 1.0 else 0.0
    stranger = c > episode.peak_c or math.isnan(episode.peak_c)
    if outside > episode.peak_far or (stranger and outside == episode.peak_far):
        _set_peak(episode, times, reading, evidence)
    if stranger:
        _set_strangest(episode, reading.statistic, judgement)
    if violated:
        episode.violation = 1.0
        episode.limit = evidence.limit
    if episode.known == 1.0 and (violated or evidence.far > episode.known_far):
        episode.known = 0.0
        event = OPENED
    grave = violated or (c >= threshold + settings.log_critical and not evidence.minor)
    if grave and episode.critical == 0.0:
        episode.critical = 1.0
        event = max(event, UPDATED) if event != OPENED else OPENED
    ends = threshold - budget.hysteresis(settings.hysteresis, q)
    calm = not (violated or evidence.big or c >= ends)
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


@njit(inner=True)
def step(
    judged: Judged,
    settings: Settings,
    reading: Reading,
    permission: Permission,
    space: tail.Space,
    out: Judgement,
) -> int:
    """Judge one frame and learn from it; writes the judgement and returns the event."""
    return judge(judged, settings, reading, permission, no_evidence(), space, out)


@njit(inner=True)
def threshold_of(judged: Judged, settings: Settings, interval: float) -> float:
    """The rarity from which the next reading is strange enough."""
    q = _accepted(judged.rule, settings, judged.episode.scored, interval)
    return budget.threshold(q, judged.episode.delta)


@njit(inner=True)
def judge(
    judged: Judged,
    settings: Settings,
    reading: Reading,
    permission: Permission,
    evidence: Evidence,
    space: tail.Space,
    out: Judgement,
) -> int:
    """Judge one reading and learn from it; writes the judgement and returns the event."""
    episode, statistic = judged.episode, reading.statistic
    warm = not math.isnan(statistic)
    episode.scored += 1.0
    q = _accepted(judged.rule, settings, episode.scored, reading.interval)
    out.rarity = math.nan
    out.p_value = math.nan
    out.score = 0.0
    if warm:
        out.rarity = max(tail.rarity(judged.tail, statistic, space), evidence.rarity, reading.alone)
        out.p_value = tail.p_value(judged.histogram, statistic)
        out.score = tail.score(statistic)
    event = _follow(judged, settings, reading, out, permission, evidence, q)
    if warm:
        episode.delta = budget.lowered(episode.delta, q)
        tail.learn(judged.tail, statistic, space)
        tail.remember(judged.histogram, statistic)
    if event != 0:
        _note_rate(episode, q, reading.interval)
    return event


@njit(inner=True)
def _note_rate(episode: Episode, q: float, interval: float) -> None:
    episode.per_day = budget.NANOSECONDS_PER_DAY / interval
    episode.accepted = q * episode.per_day / 100.0
    short = episode.scored < HISTORY and q * episode.scored / 100.0 < DUE
    episode.extrapolated = 1.0 if short else 0.0


@njit(inner=True)
def open_at_once(judged: Judged, settings: Settings, reading: Reading) -> None:
    """Open an episode for a value outside its range before its frame is judged.

    `step` takes the frame in afterwards, as the episode's first.
    """
    episode, times = judged.episode, judged.times
    q = _accepted(judged.rule, settings, episode.scored, reading.interval)
    _open(episode, times, reading, Permission(True, True, True), no_evidence(), q)
    _set_peak(episode, times, reading, no_evidence())
    episode.peak_c = episode.peak_s = episode.peak_p = math.nan
    episode.critical = 1.0
    episode.since_onset = -1.0
    _note_rate(episode, q, reading.interval)


@njit(inline="always")
def judged_of(tables: Tables, slot: int, rule: Rule) -> Judged:
    """The state of the series or group in a slot."""
    return Judged(
        tables.tail[slot], tables.histogram[slot], tables.episode[slot], tables.times[slot], rule
    )

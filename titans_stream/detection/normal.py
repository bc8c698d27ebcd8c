"""What a series would normally show: a value and a band that do not follow an event.

Three guesses, the best of the recent past counts: the profile (what was usual at this time of
day, on working days or weekends, over the last days), the profile plus how far off it the series
was lately, and the level lately. "Lately" ends LAG blocks ago, so that a slow event does not drag
its own reference; while an episode is open nothing is learned at all. The band holds 95 % of the
past readings around the guess, in units of the usual deviation at this time of day.

Everything is relative to the series' own sizes: a unit changes nothing.
"""

from __future__ import annotations

import math
from typing import Annotated, NamedTuple

from titans_stream.jit import njit
from titans_stream.memory.rows import Record
from titans_stream.records import Float32, Float64

DAYS = 2
"""Working days and weekends."""
BINS = 48
"""Half hours of a day."""
LEARNED = 2.0
"""Days after which a half hour is known."""
DAYS_KEPT = 7.0
"""A day counts for at least one part of this many."""
BLOCK = 16
RING = 20
LAG = 4
"""Blocks of readings that are kept, and the newest of them that do not count yet."""
WINDOW = RING - LAG
PROFILE, SHIFTED, LEVEL = 0, 1, 2
"""The guesses."""
ERROR_CAP = 1_000.0
"""Readings that a guess's usual error counts for."""
ERROR_BOUND = 8.0
"""A reading adds at most this many usual errors."""
BAND_LEVEL = 0.95
BAND_STEP = 0.1
_WIDER = math.exp(BAND_STEP * 0.5 * (1.0 + BAND_LEVEL))
_NARROWER = math.exp(-BAND_STEP * 0.5 * (1.0 - BAND_LEVEL))
FIRST_HALF_WIDTH = 2.5
"""In usual deviations; 2.5 mean absolute deviations are two standard ones."""


class Normal(Record):
    """What is known beside the profile."""

    seen: float
    last: float
    before: float
    """The last two readings."""
    lowest: float
    """The least reading so far."""
    sum: float
    offset_sum: float
    offset_count: float
    count: float
    """Of the block that is being filled: sum, sum of the deviations from the profile, numbers."""
    blocks: float
    levels: Annotated[Float64, RING]
    offsets: Annotated[Float64, RING]
    """Block k is at k modulo RING; an offset is NaN where the profile was not known."""
    level: float
    offset: float
    """Means of the blocks that count."""
    error: Annotated[Float64, 3]
    judged: Annotated[Float64, 3]
    """Usual error of each guess, and from how many readings."""
    guess: float
    low: float
    high: float
    """The band's half widths, in FIRST_HALF_WIDTH usual deviations."""
    bin: float
    bin_sum: float
    bin_error: float
    bin_count: float
    """The half hour that is going on, plus 1, and its sums; 0: none."""


class Profile(NamedTuple):
    """By kind of day and half hour: mean [DAYS, BINS], and usual deviation and days [.., 2]."""

    mean: Float64
    known: Float32


class Moment(NamedTuple):
    """A time of day: kind of day and half hour, -1 where there is none, and its part [0, 1)."""

    day: int
    bin: int
    part: float
    local: float
    """Local seconds since the epoch."""


class Reference(NamedTuple):
    """What would be normal now; NaN before the second reading."""

    expected: float
    lower: float
    upper: float
    scale: float
    """Usual |value - expected|."""
    profile: float
    """What the time of day alone says, NaN where it is not known."""
    own: bool
    """That is from days of this kind."""


@njit(inner=True)
def moment_of(local: float) -> Moment:
    """The time of day of local seconds since the epoch; NaN: none."""
    if math.isnan(local):
        return Moment(0, -1, 0.0, local)
    position = (local % 86400.0) / 86400.0 * BINS
    at = min(int(position), BINS - 1)
    weekend = (local / 86400.0 + 3.0) % 7.0 >= 5.0
    return Moment(1 if weekend else 0, at, position - at, local)


@njit(inner=True)
def earlier(moment: Moment, seconds: float) -> Moment:
    """The time of day so many seconds before."""
    return moment_of(moment.local - seconds)


@njit(inner=True)
def near_bin(moment: Moment) -> int:
    """The half hour that is nearer of the two beside a moment's own."""
    return (moment.bin + (1 if moment.part >= 0.5 else -1) + BINS) % BINS


@njit(inner=True)
def between(moment: Moment, here: float, there: float) -> float:
    """At a moment: `here` holds in the middle of its half hour, `there` in that of the near one."""
    return here + abs(moment.part - 0.5) * (there - here)


@njit(inner=True)
def _known_day(profile: Profile, day: int, at: int) -> int:
    """The kind of day whose profile serves, -1 where there is none."""
    if profile.known[day, at, 1] >= LEARNED:
        return day
    return 1 - day if profile.known[1 - day, at, 1] >= LEARNED else -1


@njit(inner=True)
def usual_at(profile: Profile, moment: Moment) -> float:
    """What the profile says, between the middles of half hours; NaN where it is not known."""
    if moment.bin < 0:
        return math.nan
    day = _known_day(profile, moment.day, moment.bin)
    if day < 0:
        return math.nan
    here: float = profile.mean[day, moment.bin]
    near = near_bin(moment)
    if profile.known[day, near, 1] < LEARNED:
        return here
    return between(moment, here, profile.mean[day, near])


@njit(inner=True)
def read(normal: Normal, profile: Profile, moment: Moment) -> Reference:
    """What would be normal at a moment."""
    if normal.seen == 0.0:
        return Reference(math.nan, math.nan, math.nan, math.nan, math.nan, False)
    usual = usual_at(profile, moment)
    guess = int(normal.guess)
    if math.isnan(usual) or (guess == SHIFTED and math.isnan(normal.offset)):
        guess = LEVEL
    scale = normal.error[guess]
    expected = normal.level
    if guess != LEVEL:
        expected = usual if guess == PROFILE else usual + normal.offset
        day = _known_day(profile, moment.day, moment.bin)
        scale = max(0.5 * scale, float(profile.known[day, moment.bin, 0]))
    low = scale * normal.low * FIRST_HALF_WIDTH
    high = scale * normal.high * FIRST_HALF_WIDTH
    own = moment.bin >= 0 and profile.known[moment.day, moment.bin, 1] >= LEARNED
    return Reference(expected, expected - low, expected + high, scale, usual, own)


@njit(inner=True)
def least_normal(normal: Normal, x: float) -> float:
    """The least that can be normal: zero of what never was negative, nor is with x."""
    return 0.0 if normal.seen > 0.0 and normal.lowest >= 0.0 and x >= 0.0 else -math.inf


@njit(inner=True)
def _judge(normal: Normal, guess: int, deviation: float) -> None:
    n = normal.judged[guess]
    size = abs(deviation)
    if n >= 30.0 and normal.error[guess] > 0.0:
        size = min(size, ERROR_BOUND * normal.error[guess])
    normal.judged[guess] = min(n + 1.0, ERROR_CAP)
    normal.error[guess] += (size - normal.error[guess]) / normal.judged[guess]


@njit(inner=True)
def _choose(normal: Normal) -> None:
    """The guess with the smallest usual error, of those that were judged for long enough."""
    best = LEVEL
    for k in range(LEVEL):
        if normal.judged[k] >= 30.0 and normal.error[k] < normal.error[best]:
            best = k
    normal.guess = best


@njit(inner=True)
def _learn_profile(normal: Normal, profile: Profile, moment: Moment, x: float, dev: float) -> None:
    """Take a reading into its half hour; one that is over enters the profile."""
    here = float(moment.day * BINS + moment.bin + 1)
    if normal.bin != here:
        if normal.bin > 0.0:
            day, at = (int(normal.bin) - 1) // BINS, (int(normal.bin) - 1) % BINS
            days = min(float(profile.known[day, at, 1]) + 1.0, DAYS_KEPT)
            mean = normal.bin_sum / normal.bin_count
            profile.mean[day, at] += (mean - profile.mean[day, at]) / days
            spread = float(profile.known[day, at, 0])
            error = normal.bin_error / normal.bin_count
            # before the profile is known, errors are those of another guess
            judged = max(1.0, days - LEARNED)
            profile.known[day, at, 0] = spread + (error - spread) / judged
            profile.known[day, at, 1] = days
        normal.bin = here
        normal.bin_sum = 0.0
        normal.bin_error = 0.0
        normal.bin_count = 0.0
    normal.bin_sum += x
    normal.bin_error += dev
    normal.bin_count += 1.0


@njit(inner=True)
def _empty_block(normal: Normal) -> None:
    normal.sum = 0.0
    normal.offset_sum = 0.0
    normal.offset_count = 0.0
    normal.count = 0.0


@njit(inner=True)
def _close_block(normal: Normal) -> None:
    place = int(normal.blocks) % RING
    normal.levels[place] = normal.sum / normal.count
    known = normal.offset_count > 0.0
    normal.offsets[place] = normal.offset_sum / normal.offset_count if known else math.nan
    normal.blocks += 1.0
    _empty_block(normal)
    first = 0
    last = int(min(normal.blocks, float(RING)))
    if normal.blocks > 2 * LAG:
        first = LAG
    level = 0.0
    offset = 0.0
    offsets = 0.0
    for age in range(first, last):
        at = (int(normal.blocks) - 1 - age) % RING
        level += normal.levels[at]
        if not math.isnan(normal.offsets[at]):
            offset += normal.offsets[at]
            offsets += 1.0
    normal.level = level / (last - first)
    normal.offset = offset / offsets if offsets > 0.0 else math.nan


@njit(inner=True)
def middle(a: float, b: float, c: float) -> float:
    """The one of three between the others."""
    return max(min(a, b), min(max(a, b), c))


@njit(inner=True)
def _widen(width: float, outside: bool) -> float:
    """One step of the quantile of a half width, in its logarithm."""
    return min(3_000.0, max(0.003, width * (_WIDER if outside else _NARROWER)))


@njit(inner=True)
def _learn_level(normal: Normal, x: float, smooth: float, reference: Reference) -> None:
    """The guesses' errors, the band and the level take a reading in."""
    normal.seen += 1.0
    usual = reference.profile
    if normal.seen > 1.0:
        _judge(normal, LEVEL, x - normal.level)
        if not math.isnan(usual):
            _judge(normal, PROFILE, x - usual)
            if not math.isnan(normal.offset):
                _judge(normal, SHIFTED, x - usual - normal.offset)
        _choose(normal)
        if reference.scale > 0.0:
            normal.low = _widen(normal.low, x < reference.lower)
            normal.high = _widen(normal.high, x > reference.upper)
    normal.sum += smooth
    normal.count += 1.0
    if not math.isnan(usual):
        normal.offset_sum += smooth - usual
        normal.offset_count += 1.0
    if normal.blocks == 0.0 and normal.count < BLOCK:
        normal.level = normal.sum / normal.count
    if normal.count >= BLOCK:
        _close_block(normal)


@njit(inner=True)
def learn(
    normal: Normal,
    profile: Profile,
    moment: Moment,
    x: float,
    reference: Reference,
    held: bool,
) -> None:
    """Take a reading in; `reference` is what `read` gave for it. A lone outlier moves nothing.

    `held`: it belongs to an event, from which only half hours learn that are not known yet.
    """
    if normal.seen == 0.0:
        normal.last = x
        normal.before = x
        normal.lowest = x
        normal.level = x
        normal.offset = math.nan
        normal.guess = LEVEL
        normal.low = 1.0
        normal.high = 1.0
    smooth = middle(x, normal.last, normal.before)
    normal.before = normal.last
    normal.last = x
    normal.lowest = min(normal.lowest, x)
    if moment.bin >= 0 and not (held and profile.known[moment.day, moment.bin, 1] >= LEARNED):
        deviation = abs(x - reference.expected) if normal.seen > 0.0 else 0.0
        if reference.scale > 0.0:
            deviation = min(deviation, ERROR_BOUND * reference.scale)
        _learn_profile(normal, profile, moment, smooth, deviation)
    if not held:
        _learn_level(normal, x, smooth, reference)


@njit(inner=True)
def forget(normal: Normal, profile: Profile) -> None:
    """Begin anew: the series turned out to be another kind of series."""
    normal.seen = 0.0
    _empty_block(normal)
    normal.blocks = 0.0
    normal.guess = LEVEL
    normal.bin = 0.0
    for k in range(3):
        normal.error[k] = 0.0
        normal.judged[k] = 0.0
    for day in range(DAYS):
        for at in range(BINS):
            profile.mean[day, at] = 0.0
            profile.known[day, at, 0] = 0.0
            profile.known[day, at, 1] = 0.0


@njit(inner=True)
def settle(normal: Normal, profile: Profile, level: float, off: float) -> None:
    """An event went on for so long that it is the new normal.

    `level` is where the series is now, `off` how far that is from its profile, or NaN.
    """
    for k in range(RING):
        normal.levels[k] = level
        normal.offsets[k] = 0.0
    normal.level = level
    normal.offset = math.nan
    if not math.isnan(off):
        normal.offset = 0.0
        for day in range(DAYS):
            for at in range(BINS):
                profile.mean[day, at] += off
    _empty_block(normal)
    normal.bin = 0.0

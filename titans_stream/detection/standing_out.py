"""What stands out in an episode, in numbers and in words."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from titans_stream.detection import turns, watch
from titans_stream.detection.episodes import Episode
from titans_stream.detection.implausible import ACCUSTOMED
from titans_stream.detection.printed import digits_apart, plain, to_place
from titans_stream.durations import spoken
from titans_stream.records import What

_NAMES: dict[int, What] = {
    watch.PATTERN: "pattern",
    watch.VALUE: "value",
    watch.BIG: "implausible value",
    watch.CHANGE: "step",
    watch.LEVEL: "level",
    watch.SEASON: "level at this time of day",
    watch.RATE: "rate",
    watch.DWELL: "dwell",
    watch.NOISE: "noise",
    watch.LEAP: "step",
    watch.RISEN: "level at this time of day",
    watch.TURN: "turn",
}
_TOLD = (
    watch.BIG, watch.LEAP, watch.LEVEL, watch.SEASON, watch.RISEN, watch.RATE, watch.DWELL,
    watch.TURN,
)  # fmt: skip
"""What says by itself what is unusual."""
NARROW = 1e-4
"""Of the value's distance: a band of less width says nothing."""
LEAST_WIDTH = 1e-300
"""Below it a decimal place is no number any more."""
_PER = (("second", 1.0), ("minute", 60.0), ("hour", 3_600.0), ("day", 86_400.0))


@dataclass(frozen=True, slots=True)
class Standing:
    """`outside`: the peak lies outside the band of normal values, which is then quoted.

    `needs_cause`: the words do not say what is unusual about it.
    """

    what: What
    words: str
    direction: Literal["above", "below", "pattern"]
    outside: bool
    needs_cause: bool
    figures: dict[str, float] = field(default_factory=dict)


def standing_of(state: Episode, group: bool) -> Standing:
    """What stands out at the peak of an episode, of a series or group."""
    value, lower, upper = state.peak_value, state.peak_lower, state.peak_upper
    outside = bool(value < lower or value > upper)
    kind = int(state.what)
    if group or (kind == watch.PATTERN and outside):
        kind = watch.VALUE if outside else watch.PATTERN
    direction: Literal["above", "below", "pattern"] = "pattern"
    if outside:
        direction = "above" if value > upper else "below"
    elif kind in (watch.LEVEL, watch.SEASON, watch.RISEN):
        direction = "above" if state.first > 0.0 else "below"
    elif kind == watch.TURN and state.third < turns.RISE:
        direction = "above" if state.first > state.second else "below"
    words, figures = _say(kind, state)
    return Standing(
        _NAMES[kind], words, direction, outside and kind in (watch.VALUE, watch.BIG, watch.RATE),
        kind not in _TOLD, {name: float(figure) for name, figure in figures.items()},
    )  # fmt: skip


def band_words(value: float, expected: float, lower: float, upper: float) -> tuple[str, str]:
    """A value, and what was expected with its band, to three digits of the band's half width.

    The band is rounded inwards, so that a value outside of it is never quoted inside. One that is
    nothing beside the value's distance is left out.
    """
    width = (upper - lower) / 2.0
    if not (width > LEAST_WIDTH and math.isfinite(width) and math.isfinite(expected)):
        return plain(value), plain(expected)
    if width < NARROW * abs(value - expected):
        return plain(value), plain(expected)
    decimals = 2 - math.floor(math.log10(width))
    unit = 10.0**-decimals
    low = math.ceil(lower / unit - 1e-6) * unit
    high = math.floor(upper / unit + 1e-6) * unit
    numbers = (round(expected, decimals), low, high)
    middle, low_words, high_words = (to_place(x, decimals) for x in numbers)
    exact = plain(value)
    fine = to_place(value, decimals + 1)
    return max(exact, fine, key=_digits), f"{middle} ({low_words} to {high_words})"


def _digits(words: str) -> int:
    return sum(c.isdigit() for c in words.split("e")[0])


def _say(kind: int, state: Episode) -> tuple[str, dict[str, float]]:
    value = plain(state.peak_value)
    first, second, third = float(state.first), float(state.second), float(state.third)
    if kind in (watch.VALUE, watch.BIG):
        return _of_value(kind, state)
    if kind in (watch.CHANGE, watch.LEAP):
        value, band = band_words(state.peak_value, first, second, third)
        words = f"{value} where {band} was expected next"
        if kind == watch.LEAP:
            words += ", a step beyond all that is plausible"
        return words, {"next": first, "next_lower": second, "next_upper": third}
    if kind in (watch.LEVEL, watch.SEASON, watch.RISEN):
        return _of_level(kind, value, state)
    if kind == watch.RATE:
        return _of_rate(value, first, second)
    if kind == watch.DWELL:
        words = f"it has been at {value} for {spoken(first / 1e9)}"
        if second > 0.0:
            words += f", longest so far {spoken(second / 1e9)}"
        return words, {"seconds": first / 1e9, "longest_seconds": second / 1e9}
    if kind == watch.TURN:
        return _of_turn(value, first, second, int(third))
    if kind == watch.NOISE:
        words = f"{value}; its changes are {_times(first)} their usual size"
        return words, {"times_usual": first}
    return value if state.violation == 1.0 else f"{value}, a usual value", {}


def _of_level(kind: int, value: str, state: Episode) -> tuple[str, dict[str, float]]:
    off, lasts, risen = float(state.first), float(state.second) / 1e9, float(state.third)
    side = "above" if off > 0.0 else "below"
    usual = "normal" if kind == watch.LEVEL else "what is usual at this time of day"
    figures = {"off": off, "seconds": lasts}
    has_been = "has been" if lasts > 0.0 else "is"
    words = f"{value}; the level {has_been} {plain(abs(off), 3)} {side} {usual}"
    if lasts > 0.0:
        words += f" for {spoken(lasts)}"
    if kind == watch.RISEN:
        verb = "risen" if risen > 0.0 else "fallen"
        words += f" and has lately {verb} by {plain(abs(risen), 3)}"
        figures["risen"] = risen
    return words, figures


def _of_turn(value: str, was: float, usual: float, kind: int) -> tuple[str, dict[str, float]]:
    if kind in (turns.UPPER, turns.LOWER):
        way = "rising" if kind == turns.UPPER else "falling"
        digits = digits_apart(was, usual, 4)
        words = f"{value}; it turned at {plain(was, digits)} after {way}, where it usually turns at"
        return f"{words} {plain(usual, digits)}", {"turned_at": was, "usual_turn": usual}
    verb = "rose" if kind == turns.RISE else "fell"
    words = f"{value}; it {verb} for {spoken(was / 1e9, 3)}, which usually takes"
    figures = {"seconds": was / 1e9, "usual_seconds": usual / 1e9}
    return f"{words} {spoken(usual / 1e9, 3)}", figures


def _of_value(kind: int, state: Episode) -> tuple[str, dict[str, float]]:
    earlier = state.first if math.isfinite(state.first) else 0.0
    words, band = band_words(
        state.peak_value, state.peak_expected, state.peak_lower, state.peak_upper
    )
    figures = {"earlier": earlier} if earlier >= 1.0 else {}
    if math.isfinite(state.peak_expected):
        words += f" where {band} is normal"
    if kind == watch.BIG:
        words += ", beyond all that is plausible"
        if earlier >= 1.0:
            times = "once" if earlier == 1.0 else f"{earlier:.0f} times"
            words += f" (it came {times} before)"
    elif earlier >= ACCUSTOMED:
        words += f" (values as far off came {earlier:.0f} times: a habit, judged by the budget)"
    elif math.isfinite(state.second):
        step = plain(state.second, digits_apart(state.second, state.peak_value, 4))
        words += f", a step beyond all that is plausible from the {step} expected"
        figures["next"] = state.second
    return words, figures


def _of_rate(value: str, rate: float, usual: float) -> tuple[str, dict[str, float]]:
    unit, size = next(
        (pair for pair in _PER if abs(usual) * pair[1] >= 1.0), _PER[-1]
    )  # fmt: skip
    digits = digits_apart(rate, usual, 4)
    words = f"{value}, a rate of {plain(rate * size, digits)} a {unit}"
    words += f" where {plain(usual * size, digits)} is normal"
    figures = {"per_second": rate, "usual_per_second": usual}
    if usual > 0.0:
        words += f": {_times(rate / usual)} the usual"
        figures["times_usual"] = rate / usual
    return words, figures


def _times(ratio: float) -> str:
    return f"{plain(ratio, 2)} times"

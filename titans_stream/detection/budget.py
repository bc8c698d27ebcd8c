"""What an alert budget comes to: a threshold, its slow correction, and the silence after an onset.

The budget q is a number of false episodes per 100 readings. An episode opens when the rarity C
reaches -log10 q + delta; each episode raises delta, each reading lowers it, so that in the long run
as many come as are accepted. Up to one episode in 1,000 readings the population's constants hold;
a looser budget shortens silence and hysteresis, which would not leave room for so many episodes,
and, as more of them tell more, corrects faster and farther.
"""

from __future__ import annotations

import math

from titans_stream.jit import njit

NANOSECONDS_PER_DAY = 86_400e9
LEAST = 1e-7
MOST = 1.0
"""Of q: more episodes than one in 100 readings would be one long episode."""
LOOSE = 0.1
"""A budget above this is a loose one."""
CORRECTION = 0.05
"""What an episode adds to delta; one that is due takes as much off."""
HIGHEST = 0.6
LOWEST = -0.3
FASTER = 2.0
"""At MOST the correction and its lower bound are greater by so many times theirs."""
RAREST = 1.6
"""No threshold is lower than that of so many episodes per 100 readings."""
LEAST_THRESHOLD = -math.log10(RAREST)
ONBOARDING_FIRST = 200.0
ONBOARDING_LAST = 20_000.0
SILENCE_SHARE = 0.045
SHORTEST_SILENCE = 30.0
LONGEST_SILENCE = 150.0
SILENCE_OF_DISTANCE = 0.25
"""Silence lasts at most this share of the distance between two due episodes."""


@njit(inner=True)
def per_block(budget: float, interval: float, onboarding: float, scored: float) -> float:
    """q of a budget a day at an interval of nanoseconds, onboarding allowance included.

    `scored`: readings judged so far.
    """
    q = 100.0 * budget * interval / NANOSECONDS_PER_DAY
    if ONBOARDING_FIRST <= scored < ONBOARDING_LAST:
        q += 100.0 * onboarding / (scored * math.log(100.0))
    return min(MOST, max(LEAST, q))


@njit(inner=True)
def threshold(q: float, delta: float) -> float:
    """The rarity from which a reading is strange enough."""
    return max(LEAST_THRESHOLD, -math.log10(q) + delta)


@njit(inner=True)
def _speed(q: float) -> float:
    """How much faster and farther delta moves: 1 up to LOOSE."""
    return 1.0 if q <= LOOSE else 1.0 + FASTER * math.log10(q / LOOSE)


@njit(inner=True)
def raised(delta: float, q: float) -> float:
    """Delta after an onset."""
    return min(HIGHEST, delta + CORRECTION * _speed(q))


@njit(inner=True)
def lowered(delta: float, q: float) -> float:
    """Delta after a reading."""
    speed = _speed(q)
    least = max(LOWEST * speed, math.log10(q / RAREST))
    return max(least, delta - CORRECTION * speed * q / 100.0)


@njit(inner=True)
def silence(scored: float, q: float) -> float:
    """Readings after an onset in which no other episode opens; `scored`: readings so far."""
    usual = min(LONGEST_SILENCE, max(SHORTEST_SILENCE, SILENCE_SHARE * scored))
    return min(usual, 100.0 * SILENCE_OF_DISTANCE / q)


@njit(inner=True)
def hysteresis(decades: float, q: float) -> float:
    """How far below the threshold an episode ends: no farther than one in 100 readings."""
    return decades * min(1.0, -math.log10(q))

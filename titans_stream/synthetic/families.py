"""Families of sensor-like series without anomalies.

A family draws its own parameters (levels, amplitudes, periods, noise) for every series. Values
come in arbitrary units: the caller's scale and offset are applied afterwards. T is the number of
readings; `clock` [T] is the time of each in days since a Monday at midnight.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from titans_stream.records import Float64
from titans_stream.synthetic.draws import Draws


@dataclass(frozen=True, slots=True)
class Shape:
    """Values [T] and the period of their cycle in readings, 0 where there is none."""

    value: Float64
    period: int = 0


Family = Callable[[Draws, Float64], Shape]


def _per_day(clock: Float64) -> int:
    return max(round(1.0 / float(clock[1] - clock[0])), 1)


def _waveform(draws: Draws, phase: Float64, harmonics: int = 4) -> Float64:
    """A random smooth wave of period 1 with deviation 1; `phase` [T] counts cycles."""
    wave = np.zeros(len(phase))
    power = 0.0
    for k in range(1, harmonics + 1):
        size = draws.uniform(0.2, 1.0) / k
        wave += size * np.sin(2 * np.pi * (k * phase + draws.uniform(0.0, 1.0)))
        power += size * size / 2
    return wave / math.sqrt(power)


def _noise(draws: Draws, count: int) -> Float64:
    """Noise of deviation 1: white, or with a memory of some readings."""
    return draws.autoregressive(count, draws.choice((0.0, 0.0, 0.5, 0.8, 0.9)))


def _cycle(draws: Draws, clock: Float64) -> tuple[Float64, int]:
    """Phase [T] and period of the day, or of a machine where a day is under 24 or over 600."""
    per_day = _per_day(clock)
    if 24 <= per_day <= 600:
        return clock, per_day
    period = draws.integer(30, 400)
    return np.arange(len(clock)) / period + draws.uniform(0.0, 1.0), period


def daily(draws: Draws, clock: Float64) -> Shape:
    """The same smooth course every day, plus noise."""
    phase, period = _cycle(draws, clock)
    wave = _waveform(draws, phase)
    return Shape(wave + draws.log_uniform(0.05, 0.6) * _noise(draws, len(clock)), period)


def weekly(draws: Draws, clock: Float64) -> Shape:
    """A daily course that is smaller and lower at weekends."""
    phase, period = _cycle(draws, clock)
    weekend = (np.floor(phase) % 7) >= 5
    wave = _waveform(draws, phase) * np.where(weekend, draws.uniform(0.1, 0.7), 1.0)
    wave -= weekend * draws.uniform(0.0, 1.0)
    return Shape(wave + draws.log_uniform(0.05, 0.5) * _noise(draws, len(clock)), period)


def cycle(draws: Draws, clock: Float64) -> Shape:
    """A machine's cycle of 15 to 300 readings whose length varies a little, in no step with a
    clock."""
    count = len(clock)
    period = draws.integer(15, 300)
    wander = draws.log_uniform(0.001, 0.03) * draws.autoregressive(count, 0.99)
    phase = np.cumsum(np.maximum(1.0 + wander, 0.2)) / period
    wave = _waveform(draws, phase, draws.integer(1, 6))
    return Shape(wave + draws.log_uniform(0.02, 0.4) * _noise(draws, count), period)


def trend(draws: Draws, clock: Float64) -> Shape:
    """A slow climb or fall, bent, with a small daily course and noise."""
    count = len(clock)
    position = np.arange(count) / 2000
    slope = draws.sign() * draws.uniform(0.5, 4.0)
    bend = draws.uniform(-0.4, 0.4)
    phase, period = _cycle(draws, clock)
    daily_part = draws.uniform(0.0, 1.0) * _waveform(draws, phase)
    climb = slope * position / (1 + np.abs(bend) * position) + bend * np.sin(position)
    return Shape(climb + daily_part + draws.uniform(0.1, 0.6) * _noise(draws, count), period)


def wandering(draws: Draws, clock: Float64) -> Shape:
    """A random walk with a weak pull to its mean, as temperatures and pressures drift."""
    count = len(clock)
    memory = 1.0 - draws.log_uniform(1 / 3000, 1 / 100)
    walk = draws.autoregressive(count, memory)
    return Shape(walk + draws.log_uniform(0.01, 0.3) * draws.normals(count))


def noise(draws: Draws, clock: Float64) -> Shape:
    """A constant level with autoregressive noise."""
    return Shape(draws.autoregressive(len(clock), draws.uniform(0.0, 0.95)))


def bursty(draws: Draws, clock: Float64) -> Shape:
    """A quiet base with bursts of very different height that die away, as loads have."""
    count = len(clock)
    value = 0.3 * _noise(draws, count)
    fade = draws.log_uniform(1.5, 25.0)
    starts = draws.times(count, draws.log_uniform(25.0, 250.0))
    heights = np.exp(draws.uniform(0.3, 1.0) * draws.normals(len(starts))) * 2.0
    kicks = np.zeros(count)
    np.add.at(kicks, starts, heights)
    keep = math.exp(-1.0 / fade)
    return Shape(value + np.array(list(accumulate(kicks.tolist(), lambda y, e: keep * y + e))))


def intermittent(draws: Draws, clock: Float64) -> Shape:
    """Zero most of the time; single amounts come more often by day than by night."""
    count = len(clock)
    phase, period = _cycle(draws, clock)
    chance = draws.log_uniform(0.02, 0.3) * (
        1.0 + draws.uniform(0.0, 0.9) * np.sin(2 * np.pi * phase)
    )
    amount = np.exp(draws.uniform(0.2, 0.8) * draws.normals(count))
    return Shape(np.where(draws.uniforms(count) < chance, amount, 0.0), period)


def counter(draws: Draws, clock: Float64) -> Shape:
    """A counter that climbs by varying amounts and starts over at its capacity."""
    count = len(clock)
    phase, _ = _cycle(draws, clock)
    pace = 1.0 + draws.uniform(0.0, 0.8) * np.sin(2 * np.pi * phase)
    steps = pace * np.exp(draws.uniform(0.05, 0.5) * draws.normals(count))
    capacity = draws.log_uniform(80.0, 1500.0)
    return Shape(np.cumsum(steps) % capacity / capacity * 4.0, round(capacity))


def duty(draws: Draws, clock: Float64) -> Shape:
    """On and off by turns, for times that vary around their means; almost no noise."""
    count = len(clock)
    means = (draws.log_uniform(8.0, 120.0), draws.log_uniform(8.0, 120.0))
    spread = draws.uniform(0.02, 0.35)
    state = np.zeros(count)
    row, on = 0, False
    while row < count:
        length = max(round(means[on] * math.exp(spread * float(draws.normals(1)[0]))), 2)
        state[row : row + length] = 1.0 if on else -1.0
        row, on = row + length, not on
    hum = draws.log_uniform(0.002, 0.1) * draws.normals(count)
    return Shape(state + hum, round(sum(means)))


def quantised(draws: Draws, clock: Float64) -> Shape:
    """A slow signal read by a coarse sensor: few distinct values, long runs of the same."""
    base = wandering(draws, clock) if draws.uniform(0.0, 1.0) < 0.5 else daily(draws, clock)
    step = draws.uniform(0.15, 0.8)
    return Shape(np.round(base.value / step) * step, base.period)


def regimes(draws: Draws, clock: Float64) -> Shape:
    """A few ways of working, each with its own level and noise, kept for hundreds of readings."""
    count = len(clock)
    kinds = draws.integer(2, 5)
    levels, noises = 1.5 * draws.normals(kinds), np.exp(0.5 * draws.normals(kinds)) * 0.3
    index = np.zeros(count, dtype=np.int64)
    for row in draws.times(count, draws.log_uniform(200.0, 800.0), least=50):
        index[row:] = draws.integer(0, kinds)
    return Shape(levels[index] + noises[index] * _noise(draws, count))


def gappy(draws: Draws, clock: Float64) -> Shape:
    """A daily course of which single readings and whole stretches are missing (NaN)."""
    count = len(clock)
    base = daily(draws, clock)
    value = base.value.copy()
    value[draws.uniforms(count) < draws.log_uniform(0.001, 0.05)] = np.nan
    for row in draws.times(count, draws.log_uniform(300.0, 1500.0)):
        value[row : row + draws.integer(5, 120)] = np.nan
    value[0] = base.value[0]
    return Shape(value, base.period)


def heavy_tailed(draws: Draws, clock: Float64) -> Shape:
    """Noise with fat tails whose strength itself comes and goes."""
    count = len(clock)
    strength = np.exp(draws.uniform(0.1, 0.7) * draws.autoregressive(count, 0.98))
    return Shape(strength * draws.student(count, draws.integer(3, 7)) / 1.5)


def traffic(draws: Draws, clock: Float64) -> Shape:
    """Counts per interval whose rate follows the day; the noise grows with the rate."""
    phase, period = _cycle(draws, clock)
    rate = draws.log_uniform(2.0, 300.0) * np.exp(draws.uniform(0.2, 0.9) * _waveform(draws, phase))
    drift = np.exp(0.15 * draws.autoregressive(len(clock), 0.995))
    return Shape(draws.poisson(np.minimum(rate * drift, 1e6)), period)


def thermostat(draws: Draws, clock: Float64) -> Shape:
    """A controlled temperature: it relaxes to the outside, is heated from one limit to another."""
    count = len(clock)
    loss, power = draws.log_uniform(0.005, 0.05), draws.uniform(3.0, 8.0)
    width = draws.uniform(0.3, 1.0)
    outside = -2.0 - draws.uniform(0.2, 1.0) * np.sin(2 * np.pi * clock)
    shake = draws.log_uniform(0.005, 0.05) * draws.normals(count)
    value, heating, course = 0.0, False, []
    for air, kick in zip(outside.tolist(), shake.tolist(), strict=True):
        value += loss * (air + (power if heating else 0.0) - value) + kick
        heating = value < width / 2 if heating else value < -width / 2
        course.append(value)
    return Shape(np.array(course))


def batches(draws: Draws, clock: Float64) -> Shape:
    """Batches of one programme (ramp up, hold, ramp down, idle) after pauses of varying length."""
    count = len(clock)
    up, hold, down = draws.integer(5, 40), draws.integer(20, 120), draws.integer(5, 60)
    recipe = np.concatenate((np.linspace(0, 1, up), np.ones(hold), np.linspace(1, 0, down)))
    idle = draws.log_uniform(10.0, 80.0)
    value = np.zeros(count)
    row = draws.integer(0, 50)
    while row < count:
        size = 1.0 + 0.03 * float(draws.normals(1)[0])
        part = recipe[: count - row]
        value[row : row + len(part)] = 3.0 * size * part
        row += len(recipe) + round(idle * (0.5 + float(draws.exponentials(1, 0.5)[0])))
    return Shape(
        value + draws.log_uniform(0.01, 0.15) * _noise(draws, count), len(recipe) + round(idle)
    )


def saturating(draws: Draws, clock: Float64) -> Shape:
    """A wandering signal cut off at the limits of its sensor."""
    base = trend(draws, clock) if draws.uniform(0.0, 1.0) < 0.3 else wandering(draws, clock)
    low, high = np.quantile(base.value, (draws.uniform(0.0, 0.2), draws.uniform(0.8, 1.0)))
    return Shape(np.clip(base.value, low, high), base.period)


def switching(draws: Draws, clock: Float64) -> Shape:
    """A binary state: 0 or 1, kept for random times."""
    count = len(clock)
    leave = (draws.log_uniform(0.002, 0.1), draws.log_uniform(0.01, 0.3))
    state, course = 0, []
    for chance in draws.uniforms(count).tolist():
        if chance < leave[state]:
            state = 1 - state
        course.append(float(state))
    return Shape(np.array(course))


def two_cycles(draws: Draws, clock: Float64) -> Shape:
    """Two cycles on top of each other, e.g. of the day and of a machine, and a slow drift."""
    count = len(clock)
    phase, period = _cycle(draws, clock)
    other = np.arange(count) / draws.integer(7, 60)
    slow = draws.uniform(0.2, 1.0) * draws.autoregressive(count, 0.998)
    wave = _waveform(draws, phase) + draws.uniform(0.3, 1.2) * _waveform(draws, other, 2)
    return Shape(wave + slow + draws.uniform(0.05, 0.4) * draws.normals(count), period)


def volatile(draws: Draws, clock: Float64) -> Shape:
    """Calm and wild stretches of the same level, as vibration has under changing load."""
    count = len(clock)
    wild = np.zeros(count)
    for number, row in enumerate(draws.times(count, draws.log_uniform(60.0, 300.0), least=20)):
        wild[row:] = float(number % 2 == 0)
    factor = 1.0 + wild * draws.uniform(1.0, 4.0)
    return Shape(factor * draws.autoregressive(count, draws.uniform(0.0, 0.6)))


FAMILIES: Mapping[str, Family] = {
    family.__name__: family
    for family in (
        daily,
        weekly,
        cycle,
        trend,
        wandering,
        noise,
        bursty,
        intermittent,
        counter,
        duty,
        quantised,
        regimes,
        gappy,
    )
}
"""Families for training and for choosing anything."""

HELD_OUT: Mapping[str, Family] = {
    family.__name__: family
    for family in (
        heavy_tailed,
        traffic,
        thermostat,
        batches,
        saturating,
        switching,
        two_cycles,
        volatile,
    )
}
"""Families that decide nothing: what is claimed is measured on them."""

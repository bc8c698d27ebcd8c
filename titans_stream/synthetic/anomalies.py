"""Labelled anomalies, put into a series.

Every kind takes the values [T], the first row and the length L of the window, and returns the
window's new values [L]. Sizes are in units of the series' deviation before the window. T is the
number of readings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from titans_stream.records import Float64
from titans_stream.synthetic.draws import Draws
from titans_stream.synthetic.series import SyntheticSeries

HISTORY = 500
"""Readings before the window whose deviation is the unit of size."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an anomaly goes and what it may use."""

    value: Float64
    first: int
    length: int
    period: int
    deviation: float
    severity: float

    @property
    def window(self) -> Float64:
        """[L], the values that are there now."""
        return self.value[self.first : self.first + self.length]


Kind = Callable[[Draws, Place], Float64]


def spike(draws: Draws, place: Place) -> Float64:
    """One to three readings far off."""
    return place.window + draws.sign() * place.severity * draws.uniform(4, 10) * place.deviation


def level_shift(draws: Draws, place: Place) -> Float64:
    """The level moves at once and moves back at the end."""
    return place.window + draws.sign() * place.severity * draws.uniform(1.5, 4) * place.deviation


def drift(draws: Draws, place: Place) -> Float64:
    """The level creeps away and is back after the end."""
    climb = np.linspace(0.0, 1.0, place.length)
    return (
        place.window + draws.sign() * place.severity * draws.uniform(2, 5) * place.deviation * climb
    )


def noisier(draws: Draws, place: Place) -> Float64:
    """Noise is added."""
    size = place.severity * draws.uniform(1.0, 2.5) * place.deviation
    return place.window + size * draws.normals(place.length)


def quieter(draws: Draws, place: Place) -> Float64:
    """What varies from reading to reading is smoothed away."""
    width = min(25, place.length)
    padded = np.pad(place.window, (width // 2, width - 1 - width // 2), mode="edge")
    smooth: Float64 = np.convolve(padded, np.full(width, 1.0 / width), mode="valid")
    return smooth


def flatline(draws: Draws, place: Place) -> Float64:
    """The sensor is stuck at its last value."""
    return np.full(place.length, place.value[place.first - 1])


def dropout(draws: Draws, place: Place) -> Float64:
    """The value falls to a floor below all earlier ones."""
    floor = float(np.nanmin(place.value[: place.first]))
    return np.full(place.length, floor - place.severity * draws.uniform(0.5, 2) * place.deviation)


def spike_train(draws: Draws, place: Place) -> Float64:
    """Many spikes of ordinary height, close together."""
    hits = draws.uniforms(place.length) < draws.uniform(0.15, 0.4)
    size = place.severity * draws.uniform(2.0, 4.0) * place.deviation
    train: Float64 = place.window + hits * size * draws.sign()
    return train


def missing_cycle(draws: Draws, place: Place) -> Float64:
    """A cycle does not happen: its mean, with noise as strong as that from reading to reading."""
    bends = np.abs(np.diff(place.value[: place.first], 2))
    size = float(np.median(bends)) / 1.652 if len(bends) else 0.0
    return float(place.window.mean()) + size * draws.normals(place.length)


def faster(draws: Draws, place: Place) -> Float64:
    """The cycle runs at another speed: 1.6 to 3 times as fast."""
    speed = draws.uniform(1.6, 3.0)
    rows = place.first - place.length + np.arange(place.length) * speed
    low = max(place.first - 2 * place.length, 0)
    span = place.first - low
    past = low + (rows - low) % max(span - 1, 1)
    course: Float64 = np.interp(past, np.arange(len(place.value)), place.value)
    return course


def wrong_time(draws: Draws, place: Place) -> Float64:
    """Values that are ordinary at another time of the cycle: those of half a cycle ago."""
    lag = max(round(place.period * draws.uniform(0.35, 0.65)), 1)
    rows = place.first + np.arange(place.length) - lag * math.ceil(place.length / lag)
    return place.value[np.maximum(rows, 0)].copy()


@dataclass(frozen=True, slots=True)
class _Entry:
    make: Kind
    shortest: int
    longest: int
    cyclic: bool = False


_ENTRIES: Mapping[str, _Entry] = {
    "spike": _Entry(spike, 1, 3),
    "level_shift": _Entry(level_shift, 30, 200),
    "drift": _Entry(drift, 60, 250),
    "noisier": _Entry(noisier, 30, 150),
    "quieter": _Entry(quieter, 60, 250),
    "flatline": _Entry(flatline, 30, 200),
    "dropout": _Entry(dropout, 5, 60),
    "spike_train": _Entry(spike_train, 20, 100),
    "missing_cycle": _Entry(missing_cycle, 0, 0, cyclic=True),
    "faster": _Entry(faster, 60, 250, cyclic=True),
    "wrong_time": _Entry(wrong_time, 0, 0, cyclic=True),
}
KINDS = tuple(_ENTRIES)
"""Kinds of anomalies; the last three need a series with a cycle."""


def kinds_for(series: SyntheticSeries) -> tuple[str, ...]:
    """The kinds that make sense for a series: those of cycles need one of 8 to 400 readings."""
    cyclic = 8 <= series.period <= 400
    return tuple(kind for kind, entry in _ENTRIES.items() if cyclic or not entry.cyclic)


def inject(
    series: SyntheticSeries, kind: str, first: int, seed: int, severity: float = 1.0
) -> SyntheticSeries:
    """A copy of `series` with an anomaly of `kind` from row `first` on, and its window.

    Missing readings stay missing. ValueError for an unknown kind, one that the series cannot
    have, or a window that does not lie inside the series or has no history.
    """
    if kind not in _ENTRIES:
        raise ValueError(f"kind: {kind!r} is none of {', '.join(KINDS)}")
    if kind not in kinds_for(series):
        raise ValueError(f"kind: {kind} needs a cycle of 8 to 400 readings; {series.name} has none")
    entry = _ENTRIES[kind]
    draws = Draws(seed, KINDS.index(kind), first)
    length = draws.integer(entry.shortest, entry.longest + 1) if entry.longest else series.period
    if not 1 <= first <= len(series) - length:
        raise ValueError(f"first: {length} readings of {kind} do not fit at row {first}")
    known = _filled(series.value)
    past = known[max(first - HISTORY, 0) : first]
    deviation = float(past.std()) or float(known.std()) or 1.0
    made = entry.make(draws, Place(known, first, length, series.period, deviation, severity))
    value = series.value.copy()
    missing = np.isnan(value[first : first + length])
    value[first : first + length] = np.where(missing, np.nan, made)
    windows = np.concatenate((series.windows, [[first, first + length - 1]]))
    order = np.argsort(windows[:, 0], kind="stable")
    kinds = (*series.kinds, kind)
    return replace(
        series, value=value, windows=windows[order], kinds=tuple(kinds[i] for i in order)
    )


def _filled(value: Float64) -> Float64:
    """The values with missing ones replaced by the last one known."""
    known = np.where(np.isnan(value), 0, np.arange(len(value)))
    return np.nan_to_num(value[np.maximum.accumulate(known)])

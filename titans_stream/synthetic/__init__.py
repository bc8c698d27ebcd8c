"""Sensor-like series and labelled anomalies, made from a seed.

`generate` makes series without anomalies, `generate_labelled` the same with anomalies at known
places, `inject` puts one anomaly into a series. Equal arguments give equal series, one by one:
series i does not depend on how many are made. docs/synthetic.md shows every family and kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from titans_stream.durations import DAY, SECOND
from titans_stream.synthetic.anomalies import KINDS, inject, kinds_for
from titans_stream.synthetic.draws import Draws
from titans_stream.synthetic.families import FAMILIES, HELD_OUT, Family
from titans_stream.synthetic.series import SyntheticSeries

INTERVALS = tuple(seconds * SECOND for seconds in (1, 10, 60, 300, 300, 900, 1800, 3600))
"""Intervals between readings, nanoseconds, of which each series draws one."""
START = 19_723 * DAY
"""2024-01-01 00:00 UTC, a Monday; series begin up to a week later."""
WARM_UP = 400
"""Readings before the first injected anomaly, and from the start of one to that of the next."""


def family(name: str) -> Family:
    """The family called `name`. ValueError for an unknown one."""
    found = FAMILIES.get(name) or HELD_OUT.get(name)
    if found is None:
        raise ValueError(f"families: {name!r} is none of {', '.join((*FAMILIES, *HELD_OUT))}")
    return found


def generate(
    families: Sequence[str] = (),
    series: int = 256,
    length: int = 2_000,
    interval: int | None = None,
    seed: int = 0,
) -> list[SyntheticSeries]:
    """`series` series of `length` readings without anomalies, the families by turns.

    `families` empty means all of `FAMILIES` (not `HELD_OUT`). `interval` is in nanoseconds;
    None draws one of `INTERVALS` for each series. ValueError for unknown families, no series or
    fewer than 2 readings.
    """
    if series < 1 or length < 2:
        raise ValueError("series and length: at least 1 series of 2 readings is needed")
    names = tuple(families) or tuple(FAMILIES)
    return [
        _one(names[i % len(names)], i // len(names), length, interval, seed) for i in range(series)
    ]


def _one(name: str, number: int, length: int, interval: int | None, seed: int) -> SyntheticSeries:
    make = family(name)
    draws = Draws(seed, number, *name.encode())
    step = draws.choice(INTERVALS) if interval is None else interval
    begin = START + draws.integer(0, 7 * DAY // step) * step if step < 7 * DAY else START
    timestamp = begin + step * np.arange(length, dtype=np.int64)
    shape = make(draws, (timestamp - START) / DAY)
    scale, offset = draws.log_uniform(0.01, 1000.0), draws.uniform(-3.0, 8.0)
    if name in ("intermittent", "traffic", "switching"):
        offset, scale = 0.0, 1.0
    return SyntheticSeries(
        name=f"{name}/{number:04d}",
        family=name,
        interval=step,
        timestamp=timestamp,
        value=scale * (shape.value + offset),
        period=shape.period,
        windows=np.empty((0, 2), dtype=np.int64),
        kinds=(),
    )


def generate_labelled(
    families: Sequence[str] = (),
    series: int = 256,
    length: int = 2_000,
    interval: int | None = None,
    seed: int = 0,
    kinds: Sequence[str] = (),
    anomalies: int = 2,
    severity: float = 1.0,
) -> list[SyntheticSeries]:
    """The series of `generate`, each with up to `anomalies` anomalies of random kinds and places.

    The first begins after `WARM_UP` readings and the next ones at least as many later; what does
    not fit is left out. `kinds` empty means every kind that the series can have.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"kinds: {kind!r} is none of {', '.join(KINDS)}")
    clean = generate(families, series, length, interval, seed)
    return [_with_anomalies(one, seed, kinds, anomalies, severity) for one in clean]


def _with_anomalies(
    series: SyntheticSeries,
    seed: int,
    kinds: Sequence[str],
    anomalies: int,
    severity: float,
) -> SyntheticSeries:
    draws = Draws(seed, *series.name.encode())
    usable = [kind for kind in kinds_for(series) if not kinds or kind in kinds]
    slot = (len(series) - WARM_UP) // max(anomalies, 1)
    for k in range(anomalies):
        room = slot - WARM_UP
        if not usable or room < 1:
            break
        first = WARM_UP + k * slot + draws.integer(0, room)
        series = inject(series, draws.choice(usable), first, draws.integer(0, 2**31), severity)
    return series


def inject_pair(
    series: SyntheticSeries, kind: str, first: int, distance: int, seed: int
) -> tuple[SyntheticSeries, SyntheticSeries, SyntheticSeries]:
    """`series` with an event, with the same event `distance` rows later, and with both.

    The second event is the same in the second and the third series, so that what a detector
    makes of it shows the effect of the first one alone.
    """
    second = first + distance
    early = inject(series, kind, first, seed)
    late = inject(series, kind, second, seed + 1)
    if early.windows[0, 1] >= late.windows[0, 0]:
        raise ValueError(f"distance: {distance} is shorter than the first event")
    rows = slice(late.windows[0, 0], late.windows[0, 1] + 1)
    value = early.value.copy()
    value[rows] = late.value[rows]
    both = replace(
        early,
        value=value,
        windows=np.concatenate((early.windows, late.windows)),
        kinds=(kind, kind),
    )
    return early, late, both


__all__ = [
    "FAMILIES",
    "HELD_OUT",
    "INTERVALS",
    "KINDS",
    "START",
    "WARM_UP",
    "SyntheticSeries",
    "family",
    "generate",
    "generate_labelled",
    "inject",
    "inject_pair",
    "kinds_for",
]

"""Pictures of what a model makes of its own validation series: forecasts, scores, p-values.

The service's own engine scores validation series; those from files come before synthetic ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from titans_stream.engine.build import EngineSetup, build_engine
from titans_stream.engine.model import Model
from titans_stream.forecasting.one_step.layout import BAND_LEVEL
from titans_stream.lifecycle.series import Series
from titans_stream.records import Float64, Readings, Scores, Status, concatenate
from titans_stream.synthetic import FAMILIES, HELD_OUT

EXAMPLES = 3
"""Series that are drawn."""
MEASURED = 30
"""Series whose p-values and coverage are counted."""
SHOWN = 300
"""Readings of a forecast that are drawn, the last ones."""
SURPRISE_FROM = 50
"""Readings of a series before its first p-value that counts."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A series and what the engine said of it, in order of time."""

    series: Series
    scores: Scores


@dataclass(frozen=True, slots=True)
class Calibration:
    """How well probabilities hold on series that are taken to be normal."""

    coverage: float
    """Share of readings inside the band, whose level is `BAND_LEVEL`."""
    p_values: Float64
    alerts_per_1000: float
    """Episodes opened per 1,000 readings."""
    readings: int

    def metrics(self) -> dict[str, float]:
        """The numbers by name."""
        found = {"band_coverage": self.coverage, "alerts_per_1000": self.alerts_per_1000}
        for level in (0.05, 0.01):
            if len(self.p_values):
                found[f"p_below_{level}"] = float(np.mean(self.p_values <= level))
        return found


def score_series(model: Model, series: Sequence[Series]) -> list[Scored]:
    """Score each series from an empty memory with the engine of the service."""
    chosen = sorted(series, key=lambda one: one.family in {*FAMILIES, *HELD_OUT})[:MEASURED]
    scored = []
    for one in chosen:
        timed = one.local_seconds is not None
        engine = build_engine(model, EngineSetup(calendar=timed))
        n = len(one.value)
        first = engine.process(
            Readings([one.name] * n, one.timestamp, one.value, np.zeros(n, np.int32), np.arange(n))
        )
        scored.append(Scored(one, concatenate(Scores, [first.scores, engine.flush().scores])))
    return scored


def calibration_of(scored: Sequence[Scored]) -> Calibration:
    """Coverage of the band, p-values and alerts of scored series."""
    inside, p_values, onsets, readings = [], [], 0, 0
    for one in scored:
        s = one.scores
        banded = np.isfinite(s.lower) & np.isfinite(s.upper) & (s.status != Status.MISSING)
        inside.append((s.value[banded] >= s.lower[banded]) & (s.value[banded] <= s.upper[banded]))
        p_values.append(s.p_value[SURPRISE_FROM:][np.isfinite(s.p_value[SURPRISE_FROM:])])
        onsets += int(s.onset.sum())
        readings += len(s)
    within = np.concatenate(inside) if inside else np.empty(0, np.bool_)
    return Calibration(
        float(within.mean()) if len(within) else float("nan"),
        np.concatenate(p_values) if p_values else np.empty(0),
        1000.0 * onsets / max(readings, 1),
        readings,
    )


def forecast_figure(scored: Sequence[Scored]) -> Figure:
    """The end of some series with the forecast of each reading and its band."""
    shown = scored[:EXAMPLES]
    figure = Figure(figsize=(9, 2.6 * len(shown)), layout="constrained")
    for axes, one in zip(np.ravel(figure.subplots(len(shown))), shown, strict=True):
        s = one.scores
        rows = np.arange(max(len(s) - SHOWN, 0), len(s))
        label = f"{BAND_LEVEL:.0%} band"
        axes.fill_between(rows, s.lower[rows], s.upper[rows], alpha=0.3, linewidth=0, label=label)
        axes.plot(rows, s.expected[rows], linewidth=1, label="expected")
        axes.plot(rows, s.value[rows], ".", color="black", markersize=3, label="value")
        axes.set(xlabel="reading", title=one.series.name)
        axes.legend(loc="upper left", fontsize="small")
    return figure


def surprise_figure(scored: Sequence[Scored]) -> Figure:
    """Values above, surprise below, readings in an alert marked."""
    shown = scored[:EXAMPLES]
    figure = Figure(figsize=(9, 3.6 * len(shown)), layout="constrained")
    pairs = figure.subplots(2 * len(shown), 1, sharex=False)
    for i, one in enumerate(shown):
        above, below = pairs[2 * i], pairs[2 * i + 1]
        s, rows = one.scores, np.arange(len(one.scores))
        above.plot(rows, s.value, linewidth=0.7, color="black")
        marked = s.alert == 1
        above.plot(rows[marked], s.value[marked], ".", color="C3", markersize=4, label="in alert")
        if marked.any():
            above.legend(loc="upper left", fontsize="small")
        above.set(ylabel="value", title=one.series.name)
        below.plot(rows, s.surprise, linewidth=0.7, color="C0")
        below.set(ylabel="surprise", xlabel="reading")
    return figure


def calibration_figure(found: Calibration) -> Figure:
    """How often a p-value is at most p, against p; the diagonal is calibrated."""
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots()
    p = np.sort(found.p_values)
    axes.plot(p, np.arange(1, len(p) + 1) / max(len(p), 1), label="observed")
    axes.plot([1e-4, 1], [1e-4, 1], color="grey", linestyle=":", label="calibrated")
    axes.set_title(
        f"{found.readings:,} readings; band covers {found.coverage:.1%} "
        f"(due {BAND_LEVEL:.0%}), {found.alerts_per_1000:.2f} alerts per 1,000",
        fontsize="small",
    )
    axes.set(
        xscale="log",
        yscale="log",
        xlim=(1e-4, 1),
        ylim=(1e-4, 1.05),
        xlabel="p-value",
        ylabel="share of readings with at most this p-value",
    )
    axes.legend()
    return figure

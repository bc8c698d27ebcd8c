"""A rival over our own forecasts: adaptive conformal p-values of the one-step errors.

Gibbs & Candes, "Adaptive conformal inference under distribution shift", NeurIPS 2021. A reading's
error |value - expected| is ranked among the last `window` ones of its series:

    p_t = (1 + #{i: e_i >= e_t}) / (1 + window so far)

and alerts at a budget where p_t <= alpha_t, with alpha_t+1 = alpha_t + gamma (alpha - [p_t <=
alpha_t]): whatever the series does, alerts come as often as alpha says in the long run. It knows
neither time of day nor patterns beyond the forecast, and no magnitude beyond its window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from titans_stream.evaluation.baselines import strangest_mean
from titans_stream.evaluation.ours import OurDetector
from titans_stream.evaluation.protocol import Bool, Detection, LabelledSeries
from titans_stream.evaluation.silence import alert_rows
from titans_stream.jit import njit
from titans_stream.records import Float64

LEAST = 30
"""Errors that a window holds before it ranks."""
TIE = 1e-3
"""Weight of the error's size in the statistic: it orders what is beyond all of the window."""


@njit()
def ranked(errors: Float64, window: int) -> Float64:
    """[T, 2]: conformal p-values, and each error in means of its window.

    NaN for a missing error and while the window has too few.
    """
    found = np.full((errors.shape[0], 2), np.nan)
    kept = np.empty(window)
    filled = 0
    at = 0
    for t in range(errors.shape[0]):
        error = errors[t]
        if np.isnan(error):
            continue
        if filled >= LEAST:
            above = 0
            total = 0.0
            for i in range(filled):
                total += kept[i]
                if kept[i] >= error:
                    above += 1
            found[t, 0] = (1.0 + above) / (1.0 + filled)
            found[t, 1] = error * filled / total if total > 0.0 else min(1.0, error)
        kept[at] = error
        at = (at + 1) % window
        filled = min(filled + 1, window)
    return found


@njit()
def adapted(p_value: Float64, alpha: float, gamma: float) -> Float64:
    """[T]: p_t / alpha_t, at most 1 where the adapted level alerts; NaN without a p-value."""
    found = np.full(p_value.shape[0], np.nan)
    level = alpha
    for t in range(p_value.shape[0]):
        if np.isnan(p_value[t]):
            continue
        alerts = p_value[t] <= level
        found[t] = p_value[t] / max(level, 1e-12) if alerts or level > 0.0 else np.inf
        level += gamma * (alpha - (1.0 if alerts else 0.0))
    return found


@dataclass(frozen=True, slots=True)
class AdaptiveConformal:
    """Conformal p-values over the one-step errors of `ours`; its budgets are those of `ours`.

    Of several channels the mean of the three strangest counts, as with the other baselines.
    """

    ours: OurDetector
    window: int = 1_000
    gamma: float = 0.005

    def __call__(self, series: Sequence[LabelledSeries]) -> list[Detection]:
        """One detection per series."""
        return [self._detect(one) for one in series]

    def _detect(self, one: LabelledSeries) -> Detection:
        scores = self.ours.score_rows(one)[0]
        shape = (len(one), one.channels)
        errors = np.abs(scores.value - scores.expected).reshape(shape)
        found = np.stack([ranked(column, self.window) for column in errors.T], axis=1)
        p_value, size = found[..., 0], np.log10(1.0 + found[..., 1])
        statistic = strangest_mean(-np.log10(p_value) + TIE * size)
        least = np.nanmin(np.where(np.isnan(p_value), np.inf, p_value), axis=1) * one.channels
        least[~np.isfinite(least)] = np.nan
        return Detection(
            surprise=statistic,
            statistic=statistic,
            onsets={q: self._onsets(least, q) for q in self.ours.budgets},
        )

    def _onsets(self, p_value: Float64, budget: float) -> Bool:
        """Rows [T] at which an alert begins, at `budget` per 100 readings."""
        share = adapted(p_value, budget / 100.0, self.gamma)
        found = np.zeros(len(p_value), dtype=np.bool_)
        found[alert_rows(-np.nan_to_num(share, nan=np.inf), -1.0)] = True
        return found

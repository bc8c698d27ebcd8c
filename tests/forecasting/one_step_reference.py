"""The one-step forecaster as its formulas say, one series and one reading at a time, in numpy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from titans_stream.forecasting.one_step import layout


def clip(value: np.ndarray | float, limit: float) -> np.ndarray:
    return np.clip(value, -limit, limit)


def sigmoid(z: np.ndarray) -> np.ndarray:
    return np.asarray(1.0 / (1.0 + np.exp(-z)))


class Reference:
    """One series: `step` forecasts a reading from the past, then learns it."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self.w = weights
        self.count = 0
        self.values_mean, self.values_variance, self.changes_square = 0.0, 0.0, 0.0
        self.last = 0.0
        self.equal, self.constant = 0, 0
        self.changes = np.zeros(layout.LAGS)
        self.M, self.S = np.zeros(layout.KEY), np.zeros(layout.KEY)
        self.errors = np.zeros(layout.BINS)
        self.scale, self.slow_scale = 0.0, 0.0
        self.cross, self.square, self.error_memory, self.error_last = 0.0, 0.0, 0.0, 0.0

    def step(self, value: float, times: np.ndarray) -> tuple[float, float, float]:
        """Expected, lower and upper, NaN while there is too little history; times [10]."""
        nothing = (np.nan, np.nan, np.nan)
        value = float(clip(value, layout.VALUE_LIMIT))
        if self.count == 0:
            self.count, self.values_mean, self.last = 1, value, value
            return nothing
        change = value - self.last
        sd = max(np.sqrt(self.values_variance), 1e-9 * abs(self.values_mean) + 1e-12)
        unit = max(np.sqrt(self.changes_square), 1e-3 * sd)
        if self.count == 1 and change == 0.0:
            self.equal += 1
            self.constant += 1
            if self.equal < layout.MINIMUM_READINGS:
                return nothing
            return self.last, self.last - 1e-3 * sd, self.last + 1e-3 * sd
        out = nothing
        if self.constant + 1 >= layout.MINIMUM_READINGS:
            half = 1e-3 * sd if self.count == 1 else layout.FIRST_BAND * unit
            out = (self.last, self.last - half, self.last + half)
        if self.count > layout.SCALE_READINGS:
            forecast = self._forecast(change, unit, sd, times)
            out = out if np.isnan(forecast[0]) else forecast
        self._take(value, change, unit)
        return out

    def _forecast(
        self, change: float, unit: float, sd: float, times: np.ndarray
    ) -> tuple[float, float, float]:
        level = (self.last - self.values_mean) / sd
        inputs = clip(np.append(self.changes / unit, level), layout.INPUT_CLIP)
        x = np.concatenate((inputs, 0.5 * times[: layout.TIME_FEATURES]))
        z = x @ self.w["forecast.key_weight"] + self.w["forecast.key_bias"]
        key = np.append(z * sigmoid(z), layout.KEY_CONSTANT)
        key /= np.linalg.norm(key)
        gates = sigmoid(self.w["forecast.gate_weight"] @ key + self.w["forecast.gate_bias"])
        alpha, eta, theta = gates * layout.GATE_MAXIMA

        target = float(clip(change / unit, layout.INPUT_CLIP))
        read = float(self.M @ key)
        forecast = float(clip(read, layout.INPUT_CLIP))
        shrunk = self._shrink() * forecast
        blended = self._trust() * shrunk
        scale = max(self.scale, 0.05 * self.slow_scale, 1e-3)
        expected = self.last + blended * unit
        half = self._quantile() * scale**layout.SCALE_POWER * unit
        half = max(half, 1e-3 * sd)
        given = self.count >= layout.MINIMUM_READINGS

        self._remember(change / unit - blended, scale)
        decay = layout.BLEND_DECAY
        self.cross = decay * self.cross + target * forecast
        self.square = decay * self.square + forecast**2
        self.error_memory = decay * self.error_memory + abs(target - shrunk)
        self.error_last = decay * self.error_last + abs(target)
        gradient = 2.0 * (read - target) * key
        gradient *= min(1.0, layout.CLIP / max(np.linalg.norm(gradient), 1e-300))
        self.S = eta * self.S - theta * gradient
        self.M = (1.0 - alpha) * self.M + self.S
        return (expected, expected - half, expected + half) if given else (np.nan,) * 3

    def _shrink(self) -> float:
        """Least-squares factor of the memory's forecast."""
        mass = self.square * (1.0 + layout.BLEND_MASS / min(self.count, 1_000))
        return min(1.0, max(0.0, self.cross / mass)) if mass > layout.BLEND_FLOOR else 0.0

    def _trust(self) -> float:
        """Whether the memory is better than repeating the last value."""
        full, none = layout.FALLBACK
        if self.error_last <= layout.BLEND_FLOOR:
            return 1.0
        worse = self.error_memory / self.error_last
        return min(1.0, max(0.0, (none - worse) / (none - full)))

    def _quantile(self) -> float:
        """The past |error| / scale^g that BAND_LEVEL of them do not exceed, widened."""
        n = self.errors.sum()
        if n < 5.0:
            return np.nan
        above = np.cumsum(self.errors)
        wanted = layout.BAND_LEVEL * n
        j = int((above[:-1] < wanted).sum())
        below = above[j - 1] if j else 0.0
        inside = (wanted - below) / self.errors[j] if self.errors[j] > 0.0 else 1.0
        u = 2.0 ** (layout.BIN_ORIGIN + (j + inside) / layout.BINS_PER_OCTAVE)
        z2 = 3.8416
        wider = 1.0 + (z2 + 1.0) / (4.0 * n) + (5.0 * z2**2 + 16.0 * z2 + 3.0) / (96.0 * n**2)
        return float(u * wider)

    def _remember(self, error: float, scale: float) -> None:
        u = max(abs(error) / scale**layout.SCALE_POWER, 1e-12)
        place = (np.log2(u) - layout.BIN_ORIGIN) * layout.BINS_PER_OCTAVE
        self.errors *= layout.HISTOGRAM_DECAY
        flat = self.equal >= layout.FLAT_RUN
        self.errors[int(np.clip(place, 0, layout.BINS - 1))] += layout.FLAT_WEIGHT if flat else 1.0
        bounded = min(abs(error), 20.0 * max(scale, 1.0))
        first = 1.0 / (self.count - layout.SCALE_READINGS)
        self.scale += max(layout.SCALE_EMA, first) * (bounded - self.scale)
        self.slow_scale += max(layout.SLOW_EMA, first) * (bounded - self.slow_scale)

    def _take(self, value: float, change: float, unit: float) -> None:
        """Scales learn the reading; a lone outlier enters bounded."""
        n = min(self.count + 1.0, layout.COUNT_CAP)
        deviation, bounded = value - self.values_mean, change
        if self.count >= layout.SCALE_READINGS:
            run = np.abs(self.changes[:2]).min() / unit
            bound = np.clip(run, layout.CHANGE_BOUND, layout.ESCAPE_BOUND) * unit
            bounded = float(clip(change, bound))
            limit = layout.DEVIATION_BOUND * max(np.sqrt(self.values_variance), unit)
            deviation = float(clip(deviation, limit))
        self.count += 1
        self.changes_square += (bounded**2 - self.changes_square) / (n - 1.0)
        self.values_mean += deviation / n
        self.values_variance = (1.0 - 1.0 / n) * (self.values_variance + deviation**2 / n)
        self.equal = self.equal + 1 if change == 0.0 else 0
        self.changes = np.append(change, self.changes[:-1])
        self.last = value

"""The detector's step written plainly: one series, one reading, numpy; docs/method.md has the
equations. Slow, and independent of the compiled kernels but for the layout's constants."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from titans_stream.detection import layout as L

WIDE = L.HOUR_BINS + L.MEAN_BINS


@dataclass
class Reference:
    """A series' state; `weights` are the slow weights `detect.*` by name."""

    weights: dict[str, np.ndarray]
    t: int = 0
    count: float = 0.0
    mean: float = 0.0
    var: float = 0.0
    last_deviation: float = 0.0
    history: np.ndarray = field(default_factory=lambda: np.zeros(L.HISTORY))
    M: np.ndarray = field(default_factory=lambda: np.zeros((L.MEMORIES, L.KEY)))
    last_value: float = 0.0
    step: float = 0.0
    deviations: float = 0.0
    P: np.ndarray = field(default_factory=lambda: np.zeros(L.NEXT))
    transitions: np.ndarray = field(default_factory=lambda: np.zeros(L.TRANSITIONS, np.int64))
    next_error: float = 0.0
    transition: float = 0.0
    moved: float = 0.0
    usual_move: float = 0.0
    change: float = 1.0
    gate: np.ndarray = field(default_factory=lambda: np.zeros(2))
    day: float = 0.0
    pace: float = 0.0
    mean_magnitude: np.ndarray = field(default_factory=lambda: np.zeros(L.MAGNITUDES))
    magnitudes: list[np.ndarray] = field(default_factory=list)
    block_magnitudes: list[np.ndarray] = field(default_factory=list)
    S: np.ndarray = field(default_factory=lambda: np.zeros((L.MEMORIES, L.KEY)))
    gradient: np.ndarray = field(default_factory=lambda: np.ones(L.MEMORIES))
    ema: np.ndarray = field(default_factory=lambda: np.zeros(2))
    cells: np.ndarray = field(default_factory=lambda: np.zeros(L.CELLS, np.int64))
    n0: float = 0.0
    p_smooth: np.ndarray = field(default_factory=lambda: np.zeros(L.SPARSE_CHANNELS))
    level: np.ndarray = field(default_factory=lambda: np.zeros(L.CHANNELS))
    partial: np.ndarray = field(default_factory=lambda: np.full(L.CHANNELS, -np.inf))
    maxima: np.ndarray = field(default_factory=lambda: np.zeros((L.CHANNELS, 0)))
    notable: list[bool] = field(default_factory=list)
    peak_s: float = -math.inf

    def reading(self, value: float, calendar: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """S of a reading (NaN while warming up), channels and joint part; then the state learns."""
        y = self._normalize(value)
        timed = bool(calendar[:2].any())
        error = self._next(y)
        surprise = np.concatenate(
            [self._dense(y, calendar), self._sparse(y, calendar), np.zeros(3)]
        )
        self.next_error += L.NEXT_EMA * (abs(error) - self.next_error)
        self.transition += L.V_EMA * (self._transition(y) - self.transition)
        self._quiet()
        surprise[9:] = self.next_error, self.transition, 1.0 / (self.change + L.QUIET_FLOOR)
        pattern = self._pattern(timed, float(calendar[L.TIME_FEATURES]))
        g, known = self._gate(y, error), self.t / (self.t + L.KNOWN)
        weight, relative = self._relative(error)
        s0, channels = self._calibrate(surprise, timed)
        if math.isnan(s0):
            return s0, channels, np.full(2, np.nan)
        ranks = 0.5 * (channels[9] + channels[10])
        even = s0 + (L.PATTERN * g * (ranks - s0) if pattern else 0.0)
        if pattern:
            even = self._mean_of_rates(even, ranks, L.ALONE * known)
        g *= known
        v, p, own, level, quiet = relative
        big = max(0.0, own - L.BIG)
        joint = np.array(
            [
                even + L.JOINT_CENTRE - L.JOINT_AGE * math.log10(0.5 + weight),
                (1.0 - g) * (L.JOINT_V * (v + level) / 2.0 + L.JOINT_Y * own) + L.JOINT_BIG * big,
            ]
        )
        if pattern:
            share = np.clip((quiet - L.QUIET_BEYOND) / L.QUIET_SPAN, 0.0, 1.0)
            even = self._mean_of_rates(even, channels[11], L.QUIET_ALONE * known * share)
        young = L.MAGNITUDE_V_BLOCKS / (L.MAGNITUDE_V_BLOCKS + weight)
        s = even + (1.0 - g) * (L.MAGNITUDE_V * young * v + L.MAGNITUDE_P * p)
        s += L.BIG_WEIGHT * big
        if not pattern:
            s += L.QUIET_SHARE * max(0.0, channels[11] - L.QUIET_FROM)
        return s, channels, joint

    @staticmethod
    def _mean_of_rates(even: float, rank: float, weight: float) -> float:
        return math.log10((1.0 - weight) * 10.0**even + weight * 10.0 ** max(rank, even))

    def _next(self, y: float) -> float:
        """Error of the next value from the last 32, which P then learns."""
        key = np.append(np.clip(self.history, -8.0, 8.0), 1.0)
        error = y - float(self.P @ key)
        self.P += L.NEXT_RATE * error * key / float(key @ key)
        return error

    def _transition(self, y: float) -> float:
        """-ln familiarity of y after the value before it; V's cells then learn."""
        u, before = math.asinh(y), math.asinh(self.history[1]) / L.PREVIOUS_WIDTH
        total, visited = 0.0, []
        for k in range(L.TILINGS):
            v = math.floor(u / L.VALUE_WIDTHS[0] + 0.25 * k) + L.VALUE_ORIGIN[0]
            context = k * L.PREVIOUS_BINS + L.PREVIOUS_ORIGIN
            context += math.floor(before + 0.25 * ((3 * k) % 4))
            at, at_n = context * L.VALUE_BINS[0] + v, L.TRANSITIONS_N + context
            seen, mass = self.transitions[[at, at_n]] / L.CELL_UNIT
            total += (seen + L.PRIOR_FAMILIARITY) / (mass + 1.0)
            visited += [at, at_n]
        for at in visited:
            kept = (int(self.transitions[at]) * L.CELL_DECAY) >> L.CELL_DECAY_SHIFT
            self.transitions[at] = kept + L.CELL_UNIT
        return -math.log(total / L.TILINGS)

    def _pattern(self, timed: bool, day: float) -> bool:
        if self.t > 0:
            self.pace += ((day - self.day) % 1.0 - self.pace) / min(self.t, L.HISTORY)
        self.day = day
        return not timed or self.pace * L.HISTORY * L.HOUR_BINS < 1.0

    def _gate(self, y: float, error: float) -> float:
        before = self.gate.copy()
        n = min(self.t + 1, L.GATE_CAP)
        self.gate += (np.minimum(np.abs([error, y]), L.GATE_BOUND) - self.gate) / n
        ratio = (before[0] + L.GATE_FLOOR) / (before[1] + L.GATE_FLOOR) if n > 1 else 1.0
        return float(np.clip((L.GATE_CLOSED - ratio) / (L.GATE_CLOSED - L.GATE_OPEN), 0.0, 1.0))

    def _relative(self, error: float) -> tuple[float, np.ndarray]:
        """Decayed number of blocks, and the five magnitudes beyond their usual maximum."""
        m = np.array(
            [
                self.transition / math.log(10.0),
                math.log10(1.0 + abs(error)),
                math.log10(1.0 + self.deviations),
                self.p_smooth[L.FINE_BY_LEVEL] / math.log(10.0),
                -math.log10(self.change + L.QUIET_FLOOR),
            ]
        )
        tops = np.array(self.block_magnitudes).reshape(-1, L.MAGNITUDES)
        weights = L.BLOCK_DECAY ** np.arange(len(tops))
        usual = self.mean_magnitude + L.MAGNITUDE_ABOVE
        W = float(weights.sum())
        mu = (L.MAGNITUDE_PRIOR * usual + weights @ tops) / (L.MAGNITUDE_PRIOR + W)
        var = L.MAGNITUDE_PRIOR * (L.MAGNITUDE_VAR + (usual - mu) ** 2) + weights @ (tops - mu) ** 2
        sd = np.sqrt(var / (L.MAGNITUDE_PRIOR + W))
        self.mean_magnitude += (m - self.mean_magnitude) / min(self.t + 1, L.COUNT_CAP)
        if self.t >= L.BLOCK:
            self.magnitudes.append(m)
        if self.t + 1 > L.BLOCK and (self.t + 1) % L.BLOCK == 0:
            self.block_magnitudes.insert(0, np.max(self.magnitudes, axis=0))
            self.magnitudes = []
        return W, (m - mu) * 2.0 * L.MAGNITUDE_FLOOR / (L.MAGNITUDE_FLOOR + sd)

    def _normalize(self, value: float) -> float:
        if self.count == 0.0:
            self.count, self.mean, self.last_value = 1.0, value, value
            return 0.0
        deviation = value - self.mean
        sd = max(math.sqrt(self.var), L.ROUNDING * self.step)
        if sd > 0.0:
            self.deviations = min(L.LARGEST, abs(deviation) / sd)
        else:
            self.deviations = L.LARGEST if deviation != 0.0 else 0.0
        y = min(L.Y_CLIP, self.deviations) * float(np.sign(deviation))
        change = self.moved = abs(value - self.last_value)
        if change > 0.0:
            self.step = min(self.step or change, change)
        self.last_value = value
        bound = max(L.OUTLIER_CLIP * sd, abs(self.last_deviation))
        self.last_deviation = deviation
        if self.count > L.OUTLIER_AFTER:
            deviation = float(np.clip(deviation, -bound, bound))
        n = self.count = min(self.count + 1.0, L.COUNT_CAP)
        self.mean += deviation / n
        self.var = (1.0 - 1.0 / n) * (self.var + deviation**2 / n)
        return y

    def _quiet(self) -> None:
        usual, moved = self.usual_move, self.moved
        if usual > 0.0:
            share = min(L.MOVE_BOUND, moved / usual)
        else:
            share = L.MOVE_BOUND if moved > 0.0 else 0.0
        if self.count > L.MOVES_FREE and usual > 0.0:
            moved = min(moved, L.MOVE_BOUND * usual)
        if self.count > 1.0:
            self.usual_move += (moved - usual) / min(self.count - 1.0, L.MOVES_CAP)
        self.change += L.QUIET_EMA * (share - self.change)

    def _key(self, name: str, x: np.ndarray) -> np.ndarray:
        weight, bias = (self.weights[f"detect.key_{name}_{part}"] for part in ("weight", "bias"))
        z = x @ weight + bias
        key = np.append(z / (1.0 + np.exp(-z)), L.KEY_CONSTANT)
        return key / np.linalg.norm(key)

    def _dense(self, y: float, calendar: np.ndarray) -> np.ndarray:
        """Errors of A, T and N before they learn, A's running means among them: 5 surprises."""
        times = calendar[: L.TIME_FEATURES]
        lags = np.clip(self.history[: L.LAGS], -8.0, 8.0)
        a, t = self._key("a", np.concatenate([lags, 0.5 * times])), self._key("t", times)
        self.history = np.append(y, self.history[:-1])
        n = min(self.t, L.HISTORY) + 1.0
        targets = [
            self.history[: L.HORIZON_A].sum() / min(n, L.HORIZON_A),
            self.history[: L.HORIZON_T].sum() / min(n, L.HORIZON_T),
            y,
        ]
        theta = max(L.THETA_FLOOR, L.THETA * math.sqrt(L.THETA_DECAY / (self.t + L.THETA_DECAY)))
        errors = np.zeros(L.MEMORIES)
        for m, key in enumerate((a, t, a)):
            errors[m] = self.M[m] @ key - targets[m]
            gradient = 2.0 * errors[m] * key
            norm = float(np.linalg.norm(gradient))
            clip = L.CLIP_FACTOR * max(self.gradient[m], L.CLIP_FLOOR)
            if norm > clip:
                gradient *= clip / norm
            self.S[m] = L.ETA * self.S[m] - theta * gradient
            self.M[m] += self.S[m]
            self.gradient[m] += L.CLIP_EMA * (min(norm, clip) - self.gradient[m])
        self.ema += np.array([L.EMA_SHORT, L.EMA_LONG]) * (errors[0] - self.ema)
        return np.abs([errors[0], *self.ema, errors[1], errors[2]])

    def _sparse(self, y: float, calendar: np.ndarray) -> np.ndarray:
        """Smoothed -ln familiarity of the value by hour and by past mean: 4 surprises."""
        u = math.asinh(y)
        hour = L.HOUR_BINS * float(calendar[L.TIME_FEATURES])
        seen = min(max(self.t + 1 - L.MEAN_WINDOW, 1), L.MEAN_WINDOW)
        mean = math.asinh(self.history[L.MEAN_WINDOW : 2 * L.MEAN_WINDOW].sum() / seen)
        raw, visited = [], []
        for w, (first1, first0) in enumerate(
            ((L.CELLS_C1_FINE, L.CELLS_C0_FINE), (L.CELLS_C1_COARSE, L.CELLS_C0_COARSE))
        ):
            p = np.zeros(2)
            for k in range(L.TILINGS):
                shift = 0.25 * ((3 * k) % 4)
                v = math.floor(u / L.VALUE_WIDTHS[w] + 0.25 * k) + L.VALUE_ORIGIN[w]
                at0 = first0 + k * L.VALUE_BINS[w] + v
                p1 = (self._visits(at0) + L.PRIOR_FAMILIARITY) / (self.n0 + 1.0)
                contexts = (
                    math.floor(hour + shift) % L.HOUR_BINS,
                    math.floor(mean + shift) + L.MEAN_ORIGIN + L.HOUR_BINS,
                )
                visited.append(at0)
                for c, context in enumerate(contexts):
                    at1 = first1 + (k * WIDE + context) * L.VALUE_BINS[w] + v
                    at_n = L.CELLS_N1 + k * WIDE + context
                    p[c] += (self._visits(at1) + p1) / (self._visits(at_n) + 1.0)
                    visited += [at1, at_n] if w == 1 else [at1]
            raw += (-np.log(p / L.TILINGS)).tolist()
        for at in visited:
            kept = (int(self.cells[at]) * L.CELL_DECAY) >> L.CELL_DECAY_SHIFT
            self.cells[at] = kept + L.CELL_UNIT
        self.n0 = L.MASS_DECAY * self.n0 + 1.0
        self.p_smooth += L.P_EMA * (np.array(raw) - self.p_smooth)
        return self.p_smooth.copy()

    def _visits(self, at: int) -> float:
        return float(self.cells[at]) / L.CELL_UNIT

    def _weights(self) -> np.ndarray:
        """Weights of the blocks that count, newest first."""
        age = np.arange(self.maxima.shape[1])
        recent = self.notable[: L.RECENT]
        weights = L.BLOCK_DECAY**age
        if sum(recent) <= L.FEW:
            for i, notable in enumerate(recent):
                if notable and i >= L.WITHHELD_FROM:
                    weights[i] = 0.0
        return weights

    def _calibrate(self, surprise: np.ndarray, timed: bool) -> tuple[float, np.ndarray]:
        x = np.log(np.maximum(surprise, L.LOG_FLOOR))
        statistic, channels = math.nan, surprise
        if self.t >= L.WARM_UP:
            weights = self._weights()
            W = weights.sum()
            level = np.log(np.maximum(self.level, L.LOG_FLOOR)) + 1.0
            wb = self.maxima @ weights
            mu = (2.0 * level + wb) / (2.0 + W)
            spread = ((self.maxima - mu[:, None]) ** 2) @ weights
            sd = np.sqrt((2.0 * (0.35**2 + (level - mu) ** 2) + spread) / (2.0 + W))
            prior = 1.0 / (1.0 + np.exp(np.minimum(69.0, 1.8138 * (x - mu) / sd)))
            z = np.clip((x[:, None] - self.maxima) / L.SOFTNESS, -20.0, 600.0)
            above = (1.0 / (1.0 + np.exp(z))) @ weights
            current = np.clip((x - self.partial) / L.SOFTNESS, -40.0, 40.0)
            above += np.where(np.isfinite(self.partial), 1.0 / (1.0 + np.exp(current)), 0.0)
            channels = -np.log10(above + 0.5 * prior) + math.log10(0.5 + W)
            weight = L.WEIGHTS if timed else L.WEIGHTS_WITHOUT_TIME
            statistic = float(channels[: L.LEVEL_CHANNELS] @ weight)
            self.peak_s = max(self.peak_s, statistic)
        self.level += (surprise - self.level) / min(self.t + 1.0, L.COUNT_CAP)
        if self.t >= L.BLOCK:
            self.partial = np.maximum(self.partial, x)
        self.t += 1
        if self.t > L.BLOCK and self.t % L.BLOCK == 0:
            self.notable.insert(0, self.peak_s >= L.NOTABLE)
            newest = np.round(self.partial * L.BLOCK_UNIT) / L.BLOCK_UNIT
            self.maxima = np.c_[newest, self.maxima][:, : L.RING]
            self.peak_s = -math.inf
            self.partial = np.full(L.CHANNELS, -np.inf)
        return statistic, channels

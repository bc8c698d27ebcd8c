"""The detector with its memories switched off: what the memories themselves are worth.

Each dense memory is replaced by the running mean of what it predicts, P by that of the value, the
sparse memories by the familiarity of the value without its context. Normaliser, smoothing,
calibration, weights of the channels and everything after them are the detector's own code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from titans_stream.detection import dense, kernels, layout, sparse
from titans_stream.detection.arrays import Series, State, new_space, series_of
from titans_stream.detection.detector import Scored, state_of
from titans_stream.jit import njit
from titans_stream.records import Float32, Float64, Int64


@njit()
def running_means(series: Series, y: float, surprise: Float64) -> None:
    """In place of `dense_heads` and `next_value`: errors of running means.

    memory[m, 0, 0] holds the mean of target m (A, T, N). `history` is shifted here.
    """
    core, history, memory = series.core, series.history, series.memory
    n = min(core.t + 1.0, layout.COUNT_CAP)
    for i in range(layout.HISTORY - 1, 0, -1):
        history[i] = history[i - 1]
    history[0] = y
    error_a = _error(memory[0, 0], _recent_mean(history, layout.HORIZON_A, n), n)
    error_t = _error(memory[1, 0], _recent_mean(history, layout.HORIZON_T, n), n)
    error_n = _error(memory[2, 0], y, n)
    dense.dense_surprises(core, error_a, error_t, error_n, surprise)
    dense.next_surprise(core, -error_n, surprise)


@njit()
def _recent_mean(history: Float64, horizon: int, n: float) -> float:
    total = 0.0
    for i in range(horizon):
        total += history[i]
    return total / min(n, float(horizon))


@njit()
def _error(row: Float64, target: float, n: float) -> float:
    """Mean of the past targets minus this one, which then enters the mean."""
    error: float = row[0] - target
    row[0] -= error / n
    return error


@njit()
def value_familiarity(series: Series, y: float, surprise: Float64) -> None:
    """In place of `sparse_heads` and `transitions`: P1, familiarity without context."""
    core, cells = series.core, series.cells
    u = math.asinh(y)
    n0 = core.n0
    for w in range(2):
        width, bins, origin = layout.VALUE_WIDTHS[w], layout.VALUE_BINS[w], layout.VALUE_ORIGIN[w]
        first = layout.CELLS_C0_FINE if w == 0 else layout.CELLS_C0_COARSE
        p = 0.0
        for k in range(layout.TILINGS):
            i = first + k * bins + int(math.floor(u / width + 0.25 * k)) + origin
            p += (cells[i] / layout.CELL_UNIT + layout.PRIOR_FAMILIARITY) / (n0 + 1.0)
            sparse.visit(cells, i)
        unfamiliar = -math.log(p / layout.TILINGS)
        if w == 0:
            sparse.transition_surprise(core, unfamiliar, surprise)
        for j in range(2 * w, 2 * w + 2):
            core.p_smooth[j] += layout.P_EMA * (unfamiliar - core.p_smooth[j])
            surprise[layout.DENSE_CHANNELS + j] = core.p_smooth[j]
    core.n0 = layout.MASS_DECAY * n0 + 1.0


@njit(nogil=True)
def _run(
    slots: Int64, values: Float64, calendar: Float64, state: State, block_weights: Float32,
    statistic: Float64, channels: Float64, joint: Float64,
) -> None:  # fmt: skip
    space = new_space()
    for i in range(slots.shape[0]):
        series = series_of(state, slots[i])
        y = kernels.normalize(series.core, values[i])
        running_means(series, y, channels[i])
        value_familiarity(series, y, channels[i])
        sparse.quiet(series.core, channels[i])
        timed, day = kernels.has_time(calendar[i]), calendar[i, layout.TIME_FEATURES]
        statistic[i] = kernels.judge(
            series, block_weights, space.counted, y, timed, day, channels[i], joint[i]
        )


class MemoryOff:
    """The detector without memories, a `Scorer`; same state arrays, same outputs."""

    def run(
        self, arrays: Mapping[str, Any], slots: Int64, values: Float64, calendar: Float64
    ) -> Scored:
        """Score N readings; then learn."""
        found = Scored.empty(len(slots))
        _run(slots, values, calendar, state_of(arrays), layout.block_weights(), *found)
        return found

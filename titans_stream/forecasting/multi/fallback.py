"""The gated fallback of the multi-step forecaster for one row, compiled by numba.

Per row of the heads the decaying sums of matured errors say which naive forecast n (the same
phase a period ago, or the last reading) has been the better one, and how to blend it with the
model's f: w = [S(y-n)(f-n) + w_before m] / [S(f-n)^2 + m] within 0 and 1, m = 6 x end origins'
mean (f-n)^2 and w_before the row's before; the gate g opens as the model's squared error comes
near the naive one's, and the forecast is n + (1 - (1 - w) g)(f - n).

The model f itself is s + v (a - s), s the structured head and a the shared one, with v the same
blend of what matured errors say and a start of 1/4, at most 1/2.
"""

from __future__ import annotations

from titans_stream.forecasting.multi import layout as L
from titans_stream.forecasting.multi import rows as R
from titans_stream.jit import ASSOCIATIVE, njit
from titans_stream.records import Float64


@njit(inline="always")
def add_errors(sums: Float64, value: float, model: float, seasonal: float, last: float) -> None:
    """One matured forecast into sums [GATE], all but the shared head's part."""
    sums[L.MODEL] += (value - model) ** 2
    sums[L.SEASONAL] += (value - seasonal) ** 2
    sums[L.REPEAT] += (value - last) ** 2
    sums[L.SEASONAL_CROSS] += (value - seasonal) * (model - seasonal)
    sums[L.SEASONAL_SQUARE] += (model - seasonal) ** 2
    sums[L.REPEAT_CROSS] += (value - last) * (model - last)
    sums[L.REPEAT_SQUARE] += (model - last) ** 2
    sums[L.GATE_MASS] += 1.0


@njit(inner=True, fastmath=ASSOCIATIVE)
def add_matured(pairs: Float64, n: int, share: float, last: float, sums: Float64) -> None:
    """The matured forecasts pairs[:, :n] of one row, from zero -> sums [GATE].

    share: of the shared head in the model; last: the last reading at the origin.
    """
    model_, seasonal_, repeat_, cross, square = 0.0, 0.0, 0.0, 0.0, 0.0
    repeat_cross, repeat_square, other_cross, other_square = 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        value, latest = pairs[L.VALUE, i], pairs[L.LATEST_OF, i]
        head, change = pairs[L.HEAD_OF, i], pairs[L.OTHER_OF, i] - pairs[L.HEAD_OF, i]
        model = head + share * change
        other_cross += (value - head) * change
        other_square += change * change
        model_ += (value - model) * (value - model)
        seasonal_ += (value - latest) * (value - latest)
        repeat_ += (value - last) * (value - last)
        cross += (value - latest) * (model - latest)
        square += (model - latest) * (model - latest)
        repeat_cross += (value - last) * (model - last)
        repeat_square += (model - last) * (model - last)
    sums[L.MODEL], sums[L.SEASONAL], sums[L.REPEAT] = model_, seasonal_, repeat_
    sums[L.SEASONAL_CROSS], sums[L.SEASONAL_SQUARE] = cross, square
    sums[L.REPEAT_CROSS], sums[L.REPEAT_SQUARE] = repeat_cross, repeat_square
    sums[L.OTHER_CROSS], sums[L.OTHER_SQUARE] = other_cross, other_square
    sums[L.GATE_MASS] = n


@njit(inner=True)
def merge(gate: Float64, sums: Float64, weight: float, decay: float) -> None:
    """Decay a row's sums [GATE] and add new ones, `weight` in all."""
    for k in range(L.GATE_MASS + 1):
        gate[k] = decay * gate[k] + weight * sums[k]


@njit(inner=True)
def settle(row: R.Row, period: float) -> None:
    """Shares of the naive forecast and of the shared head of every row, from the row's sums."""
    before = 1.0
    for r in range(L.ROWS):
        gate = row.gate[r]
        mass = gate[L.GATE_MASS]
        if mass <= 0.0:
            continue
        end = row_end(r, period)
        prior = L.FALLBACK_MASS * max(end, R.coarse_cells(period)) * gate[L.OTHER_SQUARE] / mass
        if prior > 0.0:
            v = gate[L.OTHER_CROSS] + L.OTHER_START * prior
            v /= gate[L.OTHER_SQUARE] + prior
            gate[L.OTHER] = min(L.OTHER_MOST, max(0.0, v))
        repeat = gate[L.REPEAT] < gate[L.SEASONAL]
        naive = gate[L.REPEAT] if repeat else gate[L.SEASONAL]
        cross = gate[L.REPEAT_CROSS] if repeat else gate[L.SEASONAL_CROSS]
        square = gate[L.REPEAT_SQUARE] if repeat else gate[L.SEASONAL_SQUARE]
        prior = L.FALLBACK_MASS * end * square / mass
        below = square + prior
        w = before
        if below > 0.0:
            w = min(1.0, max(0.0, (cross + before * prior) / below))
        before = w
        low, high = L.FALLBACK_GATE
        opened = 0.0
        if naive > 0.0:
            opened = min(1.0, max(0.0, (gate[L.MODEL] / naive - low) / (high - low)))
        elif gate[L.MODEL] > 0.0:
            opened = 1.0
        gate[L.SHARE] = (1.0 - w) * opened
        gate[L.NAIVE] = 1.0 if repeat else 0.0


@njit(inner=True)
def row_end(r: int, period: float) -> float:
    """Origins that the steps of a row reach over: coarse cells, or samples of a finer row."""
    if r < L.FINER_ROWS:
        return 1.0
    cells = R.coarse_cells(period)
    return max(1.0, L.ENDS[r - L.FINER_ROWS] * cells / L.COARSE)

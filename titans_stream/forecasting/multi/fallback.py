"""The gated fallback of the multi-step forecaster for one series, compiled by numba.

Per band the decaying sums of matured errors say which naive forecast n (the same phase a period
ago, the last reading, or the same place a cycle ago) has been the best, and how to blend it with
the model's f: w = [S(y-n)(f-n) + w_before m] / [S(f-n)^2 + m] within 0 and 1, m = 6 x end origins'
mean (f-n)^2 and w_before that of the band before; the gate g opens as the model's squared error
comes near the naive one's, and the forecast is n + (1 - (1 - w) g)(f - n).

The model f is the structured head. Where the series has a longer cycle, that head's forecast is
blended in by the same rule, from 0 on.
"""

from __future__ import annotations

from typing import NamedTuple

from titans_stream.forecasting.multi import layout
from titans_stream.forecasting.multi.layout import Gate
from titans_stream.forecasting.multi.series import Pairs, Series, coarse_cells
from titans_stream.jit import ASSOCIATIVE, njit


class Errors(NamedTuple):
    """Sums over matured forecasts, in the order of `layout.Gate`."""

    model: float
    seasonal: float
    repeat: float
    seasonal_cross: float
    seasonal_square: float
    repeat_cross: float
    repeat_square: float
    longer_cross: float
    longer_square: float
    longer_mass: float
    cycle: float
    cycle_cross: float
    cycle_square: float
    mass: float


@njit(inline="always")
def errors_of(value: float, model: float, seasonal: float, last: float) -> Errors:
    """One matured forecast, of the structured head alone."""
    return Errors(
        (value - model) ** 2,
        (value - seasonal) ** 2,
        (value - last) ** 2,
        (value - seasonal) * (model - seasonal),
        (model - seasonal) ** 2,
        (value - last) * (model - last),
        (model - last) ** 2,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        1.0,
    )


@njit(inner=True, fastmath=ASSOCIATIVE)
def sum_errors(pairs: Pairs, n: int, longer: float, has_longer: bool, last: float) -> Errors:
    """The first n matured forecasts of a band.

    longer: share of the longer head in the model, where `has_longer` says there is one; last: the
    last reading at the origin.
    """
    model_, seasonal_, repeat_, cross, square = 0.0, 0.0, 0.0, 0.0, 0.0
    repeat_cross, repeat_square = 0.0, 0.0
    longer_cross, longer_square = 0.0, 0.0
    cycle, cycle_cross, cycle_square = 0.0, 0.0, 0.0
    for i in range(n):
        value, latest = pairs.value[i], pairs.latest[i]
        model = pairs.head[i]
        if has_longer:
            change = pairs.longer[i] - model
            longer_cross += (value - model) * change
            longer_square += change * change
            model += longer * change
            ago = pairs.cycle[i]
            cycle += (value - ago) * (value - ago)
            cycle_cross += (value - ago) * (model - ago)
            cycle_square += (model - ago) * (model - ago)
        model_ += (value - model) * (value - model)
        seasonal_ += (value - latest) * (value - latest)
        repeat_ += (value - last) * (value - last)
        cross += (value - latest) * (model - latest)
        square += (model - latest) * (model - latest)
        repeat_cross += (value - last) * (model - last)
        repeat_square += (model - last) * (model - last)
    return Errors(
        model_, seasonal_, repeat_, cross, square, repeat_cross, repeat_square,
        longer_cross, longer_square, float(n) if has_longer else 0.0,
        cycle, cycle_cross, cycle_square,
        float(n),
    )  # fmt: skip


@njit(inline="always")
def scale_errors(gate: Gate, factor: float) -> None:
    """Multiply a band's sums, all but their mass."""
    gate.model *= factor
    gate.seasonal *= factor
    gate.repeat *= factor
    gate.seasonal_cross *= factor
    gate.seasonal_square *= factor
    gate.repeat_cross *= factor
    gate.repeat_square *= factor
    gate.longer_cross *= factor
    gate.longer_square *= factor
    gate.cycle *= factor
    gate.cycle_cross *= factor
    gate.cycle_square *= factor
    gate.cycle_model *= factor


@njit(inner=True)
def merge(gate: Gate, errors: Errors, weight: float, decay: float) -> None:
    """Decay a band's sums and add new ones, `weight` in all."""
    gate.model = decay * gate.model + weight * errors.model
    gate.seasonal = decay * gate.seasonal + weight * errors.seasonal
    gate.repeat = decay * gate.repeat + weight * errors.repeat
    gate.seasonal_cross = decay * gate.seasonal_cross + weight * errors.seasonal_cross
    gate.seasonal_square = decay * gate.seasonal_square + weight * errors.seasonal_square
    gate.repeat_cross = decay * gate.repeat_cross + weight * errors.repeat_cross
    gate.repeat_square = decay * gate.repeat_square + weight * errors.repeat_square
    gate.longer_cross = decay * gate.longer_cross + weight * errors.longer_cross
    gate.longer_square = decay * gate.longer_square + weight * errors.longer_square
    gate.longer_mass = decay * gate.longer_mass + weight * errors.longer_mass
    gate.mass = decay * gate.mass + weight * errors.mass


@njit(inner=True)
def merge_cycle(gate: Gate, errors: Errors, weight: float, decay: float) -> None:
    """The same of the sums beside a longer cycle that is repeated."""
    gate.cycle = decay * gate.cycle + weight * errors.cycle
    gate.cycle_cross = decay * gate.cycle_cross + weight * errors.cycle_cross
    gate.cycle_square = decay * gate.cycle_square + weight * errors.cycle_square
    gate.cycle_model = decay * gate.cycle_model + weight * errors.model
    gate.cycle_mass = decay * gate.cycle_mass + weight * errors.mass


@njit(inner=True)
def settle(series: Series, period: float) -> None:
    """Shares of the naive forecast and of the longer head of every band, from its sums."""
    before, longer = 1.0, 0.0
    for band in range(layout.BANDS):
        gate = series.gate[band]
        mass = gate.mass
        if mass <= 0.0:
            continue
        end = band_end(band, period)
        if gate.longer_mass > 0.0:
            prior = layout.LONGER_MASS * max(end, coarse_cells(period))
            prior *= gate.longer_square / gate.longer_mass
            if prior > 0.0:
                v = gate.longer_cross + longer * prior
                longer = min(1.0, max(0.0, v / (gate.longer_square + prior)))
            gate.longer = longer
        repeat = gate.repeat < gate.seasonal
        naive = gate.repeat if repeat else gate.seasonal
        cross = gate.repeat_cross if repeat else gate.seasonal_cross
        square = gate.repeat_square if repeat else gate.seasonal_square
        model, which = gate.model, 1.0 if repeat else 0.0
        seen = gate.cycle_mass
        if seen > layout.CYCLE_SEEN * coarse_cells(period) and gate.cycle * mass < naive * seen:
            naive, model, mass, which = gate.cycle, gate.cycle_model, seen, 2.0
            cross, square = gate.cycle_cross, gate.cycle_square
        prior = layout.FALLBACK_MASS * end * square / mass
        below = square + prior
        w = before
        if below > 0.0:
            w = min(1.0, max(0.0, (cross + before * prior) / below))
        before = w
        low, high = layout.FALLBACK_GATE
        opened = 0.0
        if naive > 0.0:
            opened = min(1.0, max(0.0, (model / naive - low) / (high - low)))
        elif model > 0.0:
            opened = 1.0
        gate.share = (1.0 - w) * opened
        gate.naive = which


@njit(inner=True)
def band_end(band: int, period: float) -> float:
    """Origins that the steps of a band reach over: coarse cells, or samples of a finer band."""
    if band < layout.FINER_BANDS:
        return 1.0
    cells = coarse_cells(period)
    return max(1.0, layout.ENDS[band - layout.FINER_BANDS] * cells / layout.COARSE)

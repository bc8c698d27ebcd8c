"""How much beside how rare: magnitudes against the usual block maximum, and S from all of it."""

from __future__ import annotations

import math
from typing import NamedTuple

from titans_stream.detection import layout
from titans_stream.detection.layout import Core
from titans_stream.jit import njit
from titans_stream.records import Float64

_DECADES = 1.0 / math.log(10.0)


class Relative(NamedTuple):
    """Magnitudes beyond the usual block maximum, 0 there: of V, of P's error, of the value, of
    the value's unfamiliarity at the delayed level, and of how small the changes are."""

    transition: float
    error: float
    value: float
    level: float
    quiet: float
    history: float
    """Decayed number of past blocks."""


@njit(inner=True)
def gate(core: Core, y: float) -> float:
    """How predictable the series was from its last values before this one, 0 to 1."""
    n = min(core.t + 1.0, layout.GATE_CAP)
    ratio = (core.gate_error + layout.GATE_FLOOR) / (core.gate_size + layout.GATE_FLOOR)
    core.gate_error += (min(abs(core.error), layout.GATE_BOUND) - core.gate_error) / n
    core.gate_size += (min(abs(y), layout.GATE_BOUND) - core.gate_size) / n
    if n == 1.0:
        return 0.0
    span = layout.GATE_CLOSED - layout.GATE_OPEN
    return min(1.0, max(0.0, (layout.GATE_CLOSED - ratio) / span))


@njit(inner=True)
def magnitudes(core: Core) -> Relative:
    """The newest reading's magnitudes; then it enters the block. Before `calibrate`."""
    return Relative(
        _relative(core, 0, core.transition * _DECADES),
        _relative(core, 1, math.log(1.0 + abs(core.error)) * _DECADES),
        _relative(core, 2, math.log(1.0 + core.deviations) * _DECADES),
        _relative(core, 3, core.p_smooth[layout.FINE_BY_LEVEL] * _DECADES),
        _relative(core, 4, -math.log(core.change + layout.QUIET_FLOOR) * _DECADES),
        core.magnitude_weight,
    )


@njit(inner=True)
def _relative(core: Core, j: int, magnitude: float) -> float:
    usual = core.magnitude[j] + layout.MAGNITUDE_ABOVE
    prior, weight = layout.MAGNITUDE_PRIOR, core.magnitude_weight
    total = core.magnitude_sum[j]
    mu = (prior * usual + total) / (prior + weight)
    spread = core.magnitude_squares[j] - 2.0 * mu * total + mu * mu * weight
    var = prior * (layout.MAGNITUDE_VAR + (usual - mu) ** 2) + max(spread, 0.0)
    scale = layout.MAGNITUDE_FLOOR + math.sqrt(var / (prior + weight))
    core.magnitude[j] += (magnitude - core.magnitude[j]) / min(core.t + 1.0, layout.COUNT_CAP)
    if core.t >= layout.BLOCK:
        core.magnitude_partial[j] = max(core.magnitude_partial[j], magnitude)
    beyond: float = (magnitude - mu) * 2.0 * layout.MAGNITUDE_FLOOR / scale
    return beyond


@njit(inner=True)
def close_magnitudes(core: Core) -> None:
    """The block's largest magnitudes enter the sums."""
    core.magnitude_weight = layout.BLOCK_DECAY * core.magnitude_weight + 1.0
    for j in range(layout.MAGNITUDES):
        top = core.magnitude_partial[j]
        core.magnitude_sum[j] = layout.BLOCK_DECAY * core.magnitude_sum[j] + top
        core.magnitude_squares[j] = layout.BLOCK_DECAY * core.magnitude_squares[j] + top * top
        core.magnitude_partial[j] = -math.inf


@njit(inner=True)
def patterned(core: Core, timed: bool, day: float) -> bool:
    """Whether patterns of HISTORY readings are shorter than the bins of the time of day.

    Longer ones are the time of day's own business. `day`: its fraction at this reading.
    """
    if core.t > 0.0:
        step = day - core.day
        if step < 0.0:
            step += 1.0
        core.pace += (step - core.pace) / min(core.t, float(layout.HISTORY))
    core.day = day
    return not timed or core.pace * layout.HISTORY * layout.HOUR_BINS < 1.0


@njit(inner=True)
def fuse(
    s0: float, relative: Relative, predictable: float, known: float, pattern: bool,
    channels: Float64, joint: Float64,
) -> float:  # fmt: skip
    """S of a reading from the channels' scores [12] and the magnitudes; NaN while warming up.

    `known`: how far P's, V's and Q's word is taken, 0 to 1, by the readings so far. Writes what a
    frame of an asset takes of the reading, `joint` [2]: the even part without Q, as members are
    quiet together, and the magnitude.
    """
    if math.isnan(s0):
        joint[0] = math.nan
        joint[1] = math.nan
        return math.nan
    even = s0
    if pattern:
        ranks = 0.5 * (channels[layout.NEXT_CHANNEL] + channels[layout.TRANSITION_CHANNEL])
        even += layout.PATTERN * predictable * (ranks - s0)
        even += _beside(even, ranks, layout.ALONE * known)
    open_ = 1.0 - predictable * known
    age = math.log(0.5 + relative.history) * _DECADES
    joint[0] = even + layout.JOINT_CENTRE - layout.JOINT_AGE * age
    big = max(0.0, relative.value - layout.BIG)
    unfamiliar = 0.5 * (relative.transition + relative.level)
    usual = layout.JOINT_V * unfamiliar + layout.JOINT_Y * relative.value
    joint[1] = open_ * usual + layout.JOINT_BIG * big
    young = layout.MAGNITUDE_V_BLOCKS / (layout.MAGNITUDE_V_BLOCKS + relative.history)
    by_v = layout.MAGNITUDE_V * young * relative.transition
    magnitude = open_ * (by_v + layout.MAGNITUDE_P * relative.error)
    magnitude += layout.BIG_WEIGHT * big
    quiet = channels[layout.QUIET_CHANNEL]
    if pattern:
        # a quarter of the usual changes comes by chance, a hundredth does not
        much = (relative.quiet - layout.QUIET_BEYOND) / layout.QUIET_SPAN
        share = min(1.0, max(0.0, much))
        even += _beside(even, quiet, layout.QUIET_ALONE * known * share)
    else:
        magnitude += layout.QUIET_SHARE * max(0.0, quiet - layout.QUIET_FROM)
    statistic: float = even + magnitude
    return statistic


@njit(inner=True)
def _beside(even: float, rank: float, weight: float) -> float:
    """What evidence of its own adds to `even` where it ranks higher, in a mean of rates."""
    if rank <= even:
        return 0.0
    more = math.exp((rank - even) / _DECADES) - 1.0
    return math.log(1.0 + weight * more) * _DECADES

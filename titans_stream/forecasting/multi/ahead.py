"""The state of the next readings' series brought nearer while one is learned; on the CPU only.

With a thousand series a fifth of the forecaster's time was waiting for it.
"""

from __future__ import annotations

from titans_stream.forecasting.intervals import state as intervals
from titans_stream.forecasting.multi import layout
from titans_stream.forecasting.multi.layout import COARSE, FINE
from titans_stream.forecasting.multi.series import coarse_cells, fine_cells
from titans_stream.forecasting.multi.state import State
from titans_stream.forecasting.period import state as period
from titans_stream.jit import njit
from titans_stream.memory.ahead import prefetch
from titans_stream.records import Int64

_BYTES = {
    name: spec.nbytes
    for room in (layout, intervals, period)
    for name, spec in room.state_layout().items()
}
_META, _VALUES, _COUNTER = (_BYTES[f"forecast_{name}"] for name in ("meta", "values", "counter"))
_GATE, _OWN, _CARRY = (_BYTES[f"forecast_{name}"] for name in ("gate", "own", "carry"))
_FINDER, _INTERVALS = _BYTES["period_meta"], _BYTES["interval_state"]


@njit(inner=True)
def bring(states: State, slots: Int64, i: int) -> None:
    """Before reading i of a run; slots [N] names those of all.

    Of the series of the reading after next where it is, of the next one's what every reading
    reads.
    """
    s = states.series
    if i + 2 < slots.shape[0]:
        prefetch(s.meta, slots[i + 2], 0, _META)
    if i + 1 == slots.shape[0]:
        return
    slot = slots[i + 1]
    prefetch(states.finder.meta, slot, 0, _FINDER)
    prefetch(states.intervals.meta, slot, 0, _INTERVALS)
    prefetch(s.values, slot, 0, _VALUES)
    prefetch(s.counter, slot, 0, _COUNTER)
    cycle = s.meta[slot].period  # type: ignore[index]
    if cycle <= 0.0:
        return
    fine, coarse = 4 * fine_cells(cycle), 4 * coarse_cells(cycle)
    for k in range(2):
        prefetch(s.memory, slot, 4 * FINE * k, fine)
        for twin in range(2):
            prefetch(s.twins, slot, 4 * COARSE * (2 * twin + k), coarse)
    prefetch(s.spreads, slot, 0, coarse)
    prefetch(s.floors, slot, 0, coarse)
    prefetch(s.gate, slot, 0, _GATE)
    prefetch(s.own, slot, 0, _OWN)
    prefetch(s.carry, slot, 0, _CARRY)

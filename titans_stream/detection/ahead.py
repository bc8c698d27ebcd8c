"""The state of series brought nearer before their readings' turn; on the CPU only.

With thousands of series a third of the detector's time was waiting for it.
"""

from __future__ import annotations

from titans_stream.detection import layout
from titans_stream.detection.arrays import State
from titans_stream.detection.layout import Core
from titans_stream.jit import njit
from titans_stream.memory.ahead import prefetch
from titans_stream.memory.rows import ArraySpec
from titans_stream.records import Int64

_CORE = ArraySpec.of(Core).nbytes


@njit(inner=True)
def bring(state: State, slots: Int64, i: int) -> None:
    """Before reading i of a run; slots [N] names those of all.

    Of the series of the reading after next its numbers, of the next one's the memories, and the
    block maxima as far as its numbers say that there are any.
    """
    if i + 2 < slots.shape[0]:
        prefetch(state.core, slots[i + 2], 0, _CORE)
    if i + 1 == slots.shape[0]:
        return
    slot = slots[i + 1]
    prefetch(state.memory, slot, 0, 8 * 2 * layout.MEMORIES * layout.KEY)
    prefetch(state.history, slot, 0, 8 * layout.HISTORY)
    prefetch(state.next_value, slot, 0, 8 * layout.NEXT)
    blocks = min(int(state.core[slot].n_blocks), layout.RING)
    for c in range(layout.CHANNELS):
        prefetch(state.blocks, slot, 2 * c * layout.RING, 2 * blocks)

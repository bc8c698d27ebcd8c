"""The state of series brought nearer before their readings' turn; on the CPU only.

With thousands of series a state lies beyond the caches, and its rows are too short for the CPU to
see what comes: a third of the detector's time was waiting. Nothing depends on it.
"""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types

from titans_stream.detection import layout
from titans_stream.detection.arrays import State
from titans_stream.detection.layout import Core
from titans_stream.jit import njit
from titans_stream.memory.rows import ArraySpec
from titans_stream.records import Int64

CACHE_LINE = 64
"""Bytes."""
_CORE = ArraySpec.of(Core).nbytes


@numba.extending.intrinsic  # type: ignore[untyped-decorator]
def prefetch(_context: Any, array: Any, _row: Any, _first: Any, _count: Any) -> Any:
    """Ask for `_count` bytes of row `_row` of an array from byte `_first` on."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows = context.make_array(signature.args[0])(context, builder, arguments[0])
        stride = builder.extract_value(rows.strides, 0)
        start = builder.ptrtoint(rows.data, stride.type)
        start = builder.add(start, builder.mul(stride, arguments[1]))
        start = builder.add(start, arguments[2])
        byte = ir.IntType(8).as_pointer()
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        fetch = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        line = stride.type(CACHE_LINE)
        with cgutils.for_range_slice(builder, stride.type(0), arguments[3], line) as (at, _):
            address = builder.inttoptr(builder.add(start, at), byte)
            builder.call(fetch, [address, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, types.int64), code


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

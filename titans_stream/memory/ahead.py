"""Rows of state brought nearer before they are read; on the CPU only.

With thousands of series a state lies beyond the caches, and its rows are too short for the CPU to
see what comes. Nothing depends on it.
"""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types

CACHE_LINE = 64
"""Bytes."""


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

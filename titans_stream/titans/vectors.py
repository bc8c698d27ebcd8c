"""Vectors of 16 floats for `njit` kernels: loads, stores, products, sums, prefetching, sigmoid.

LLVM's own vectoriser leaves sums over rows in memory and checks for overlap before every short
loop, which costs more than the arithmetic. Here such sums stay in registers. On processors with
shorter vectors LLVM splits each operation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model
from numba.np import arrayobj

from titans_stream.jit import njit

LANES = 16
TINY = np.float32(2.0**-99)
"""What is far below this becomes zero: denormal arithmetic is some twenty times slower."""

_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)
_INTEGERS = ir.VectorType(ir.IntType(32), LANES)
_FUSED = ("contract",)


class VectorType(types.Type):  # type: ignore[misc, unused-ignore]
    """numba's type of 16 floats; for local variables only."""

    def __init__(self) -> None:
        super().__init__(name="float32x16")


vector = VectorType()


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc, unused-ignore]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def prefetch(typing_context: Any, array: Any, index: Any) -> Any:
    """Load the cache line of `array.flat[index]` (C order) to L2 without waiting for it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature, arguments)
        place = builder.bitcast(place, ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [place.type, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        to_read, to_l2, data_cache = number(0), number(2), number(1)
        builder.call(function, [place, to_read, to_l2, data_cache])
        return context.get_dummy_value()

    return types.void(array, index), generate


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def load(typing_context: Any, array: Any, index: Any) -> Any:
    """`array.flat[index : index + 16]` (C order)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature, arguments)
        return builder.load(builder.bitcast(place, _VECTOR.as_pointer()), align=4)

    return vector(array, index), generate


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def store(typing_context: Any, array: Any, index: Any, x: Any) -> Any:
    """`array.flat[index : index + 16] = x` (C order)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature, arguments)
        builder.store(arguments[2], builder.bitcast(place, _VECTOR.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(array, index, x), generate


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def spread(typing_context: Any, array: Any, index: Any) -> Any:
    """`array.flat[index]` (C order) in every lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = builder.load(_place(context, builder, signature, arguments), align=4)
        one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), number, ir.IntType(32)(0))
        return _pick(builder, one, one, [0] * LANES)

    return vector(array, index), generate


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def fill(typing_context: Any, x: Any) -> Any:
    """The float `x` in every lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        one = builder.insert_element(
            ir.Constant(_VECTOR, ir.Undefined), arguments[0], ir.IntType(32)(0)
        )
        return _pick(builder, one, one, [0] * LANES)

    return vector(types.float32), generate


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def multiply(typing_context: Any, a: Any, b: Any) -> Any:
    """a b."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fmul(*arguments, flags=_FUSED)

    return vector(vector, vector), generate


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def add_product(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c, fused where the processor can."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b, c = arguments
        return builder.fadd(builder.fmul(a, b, flags=_FUSED), c, flags=_FUSED)

    return vector(vector, vector, vector), generate


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def add(typing_context: Any, a: Any, b: Any) -> Any:
    """a + b, rounded as it stands."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fadd(*arguments)

    return vector(vector, vector), generate


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def subtract(typing_context: Any, a: Any, b: Any) -> Any:
    """a - b, rounded as it stands."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fsub(*arguments)

    return vector(vector, vector), generate


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def divide(typing_context: Any, a: Any, b: Any) -> Any:
    """a / b."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fdiv(*arguments)

    return vector(vector, vector), generate


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def limit(typing_context: Any, x: Any, bound: Any) -> Any:
    """`x` between -bound and bound; NaN stays."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, bound = arguments
        low = builder.fneg(bound)
        x = builder.select(builder.fcmp_ordered(">", x, bound), bound, x)
        return builder.select(builder.fcmp_ordered("<", x, low), low, x)

    return vector(vector, vector), generate


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def power_of_two(typing_context: Any, shifted: Any) -> Any:
    """2^n for `shifted` = n + 1.5 * 2^23, whose low bits are those of the integer n."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = builder.bitcast(arguments[0], _INTEGERS)
        exponent = builder.add(bits, ir.Constant(_INTEGERS, [127] * LANES))
        shifted = builder.shl(exponent, ir.Constant(_INTEGERS, [23] * LANES))
        return builder.bitcast(shifted, _VECTOR)

    return vector(vector), generate


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def total(typing_context: Any, x: Any) -> Any:
    """The sum of the lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_FLOAT, [_FLOAT, _VECTOR])
        name = f"llvm.vector.reduce.fadd.v{LANES}f32"
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.call(function, [_FLOAT(0.0), arguments[0]], fastmath=("reassoc",))

    return types.float32(vector), generate


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def store_totals(
    typing_context: Any, array: Any, index: Any, a: Any, b: Any, c: Any, d: Any
) -> Any:
    """`array.flat[index : index + 4]` = sums of the lanes of a, b, c and d."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b, c, d = arguments[2:]
        sums = _halved(builder, _halved(builder, a, b, 1), _halved(builder, c, d, 1), 2)
        for lanes in (8, 4):
            low, high = list(range(lanes)), list(range(lanes, 2 * lanes))
            sums = builder.fadd(_pick(builder, sums, sums, low), _pick(builder, sums, sums, high))
        place = _place(context, builder, signature, arguments)
        builder.store(sums, builder.bitcast(place, sums.type.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(array, index, a, b, c, d), generate


def _halved(builder: Any, a: Any, b: Any, width: int) -> Any:
    """Neighbouring groups of `width` lanes added up, those of a and b in turn."""
    first = [
        lane + i
        for group in range(0, LANES, 2 * width)
        for lane in (group, LANES + group)
        for i in range(width)
    ]
    second = [lane + width for lane in first]
    return builder.fadd(_pick(builder, a, b, first), _pick(builder, a, b, second))


def _pick(builder: Any, a: Any, b: Any, lanes: list[int]) -> Any:
    kind = ir.VectorType(ir.IntType(32), len(lanes))
    return builder.shuffle_vector(a, b, ir.Constant(kind, lanes))


def _place(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Address of `array.flat[index]`."""
    data = arrayobj.make_array(signature.args[0])(context, builder, arguments[0]).data
    return builder.gep(data, [arguments[1]])


@njit(nogil=True, error_model="numpy", fastmath=False, forceinline=True)
def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x) of a vector to 2e-7: e^-x = 2^n e^r with |r| <= ln 2 / 2."""
    one, shift = fill(np.float32(1)), fill(np.float32(12582912))  # 1.5 * 2^23
    x = limit(x, fill(np.float32(87)))
    shifted = add(multiply(x, fill(np.float32(-1.44269504))), shift)
    n = subtract(shifted, shift)
    r = subtract(multiply(n, fill(np.float32(-0.693359375))), x)
    r = add_product(n, fill(np.float32(2.12194440e-4)), r)
    p = fill(np.float32(1.98756915e-4))
    p = add_product(p, r, fill(np.float32(1.39819995e-3)))
    p = add_product(p, r, fill(np.float32(8.33345191e-3)))
    p = add_product(p, r, fill(np.float32(4.16657960e-2)))
    p = add_product(p, r, fill(np.float32(1.66666655e-1)))
    p = add_product(p, r, fill(np.float32(0.5)))
    e = add(add_product(p, multiply(r, r), r), one)
    return divide(one, add_product(e, power_of_two(shifted), one))

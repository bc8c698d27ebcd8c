"""Records of state: their layout, their plain form, and kernels that read them on either device."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pytest

from titans_stream.jit import njit, scratch
from titans_stream.memory.growing import GrowingRows
from titans_stream.memory.rows import ArraySpec, Record, Single, dtype_of, plain
from titans_stream.records import Float32, Float64, Records


class _State(Record):
    count: float
    last: Annotated[Float64, 3]
    peak: float


_space = scratch(5)


@njit(inner=True)
def _take(state: _State, value: float) -> float:
    past = _space()
    for i in range(5):
        past[i] = i * value
    state.count += 1.0
    state.last[1] = past[2]
    state.peak = max(state.peak, value)
    return state.last[1] + state.peak


@njit()
def _run(states: Records, slots: np.ndarray, values: Float64, out: Float64) -> None:
    for i in range(slots.shape[0]):
        out[i] = _take(states[slots[i]], values[i])


def test_a_kernel_reads_and_writes_the_columns_by_name() -> None:
    states = ArraySpec.of(_State).rows(3)
    out = np.empty(3)
    _run(states, np.array([2, 0, 2]), np.array([1.0, 5.0, 2.0]), out)
    assert out.tolist() == [3.0, 15.0, 6.0]
    columns = plain(states)
    assert columns.tolist() == [[1, 0, 10, 0, 5], [0, 0, 0, 0, 0], [2, 0, 4, 0, 2]]


def test_the_plain_form_is_the_same_bytes_and_comes_back() -> None:
    spec = ArraySpec.of(_State)
    states = spec.rows(2)
    states["last"][1] = [1.0, 2.0, 3.0]
    columns = plain(states)
    assert columns.dtype == np.float64 and columns.tobytes() == states.tobytes()
    assert (spec.from_plain("state", columns, 2) == states).all()
    assert plain(spec.rows(0)).shape == (0, 5)
    assert spec.nbytes == 40
    with pytest.raises(ValueError, match="'state' has shape"):
        spec.from_plain("state", columns[:, 1:], 2)


class _Inner(Record):
    sums: Annotated[Float32, 2, 3]
    mass: Single


class _Outer(Record):
    first: _Inner
    second: _Inner


def test_records_nest_and_hold_float32_and_several_to_a_row() -> None:
    spec = ArraySpec.of(_Outer, 5)
    states = spec.rows(2)
    states[1, 4]["second"]["mass"] = 7.0
    columns = plain(states)
    assert columns.shape == (2, 5, 14) and columns.dtype == np.float32
    assert columns[1, 4, 13] == 7.0 and columns.sum() == 7.0
    assert (spec.from_plain("state", columns, 2) == states).all()


class _Padded(Record):
    mass: Single
    sum: float


def test_a_record_with_padding_is_refused() -> None:
    with pytest.raises(AssertionError, match="_Padded has padding"):
        dtype_of(_Padded)


def test_the_device_compiler_takes_the_same_kernel_with_its_scratch_space() -> None:
    pytest.importorskip("numba_cuda", reason="numba-cuda is for Linux")
    from titans_stream import jit_cuda

    jit_cuda.compile_without_device((9, 0))

    def kernel(states: Records, values: Float64, out: Float64) -> None:
        out[0] = _take(states[0], values[0])

    numbers = jit_cuda.array_of(np.float64)
    code = jit_cuda.ptx(kernel, (jit_cuda.array_of(dtype_of(_State)), numbers, numbers), (9, 0))
    assert jit_cuda.local_bytes(code) in (0, 40)
    assert ".b8" not in code.replace(".local .align 8 .b8", "") and ".u8" not in code


def test_rows_grow_without_a_copy_and_what_somebody_holds_stays() -> None:
    growing = GrowingRows(ArraySpec((64,), np.float64))
    for count in (10, 20_000, 50_000):
        first = len(growing.rows)
        growing.reserve(count)
        assert growing.rows.shape == (count, 64)
        assert (growing.rows[first:] == 0.0).all()
        growing.rows[first:] = count
    held = growing.rows
    growing.reserve(90_000)
    growing.rows[:] += 1.0
    assert np.unique(held[:, 0]).tolist() == [10.0, 20_000.0, 50_000.0]
    assert np.unique(growing.rows[:, 0]).tolist() == [1.0, 11.0, 20_001.0, 50_001.0]
    assert growing.rows.flags.writeable
    assert growing.rows.flags.aligned

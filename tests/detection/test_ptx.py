"""The device engine's kernels compile for a GPU, and with how much a thread needs of one.

PTX and the assembler need no GPU. A kernel that spills registers, or whose stack grows, is slow on
a GPU or does not fit one, which nothing else would show here.
"""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is for Linux")

from tests.engine.streams import engine, make_stream, run
from titans_stream import jit_cuda
from titans_stream.engine import rhythm
from titans_stream.engine.device.cuda_kernels import ENTRIES
from titans_stream.engine.device.prebuilt import Recorder

CAPABILITY = (9, 0)
INDEX = np.zeros(1, np.int64)
NUMBERS = np.zeros(1)
jit_cuda.compile_without_device(CAPABILITY)


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    device = Recorder()
    stream = make_stream(1, series=4, readings=80)
    few = engine(slots=2, device=device)  # series leave their slots and are learned again
    for first in range(0, 80, 2):
        run(few, stream.slice(first, first + 2), [])
    few.snapshot(0)
    return device


@pytest.mark.parametrize(
    ("name", "registers", "stack"),
    [
        ("judge", 64, 0),
        ("detect", 255, 2_000),
        ("forecast", 168, 320),
        ("second_stage", 168, 64),
        ("learn_again", 168, 64),
        ("gather", 32, 0),
        ("scatter", 32, 0),
        ("fill", 32, 0),
    ],
)
def test_a_kernel_fits_a_gpu(recorder: Recorder, name: str, registers: int, stack: int) -> None:
    thread, arguments = recorder.seen[name]
    code = jit_cuda.ptx(ENTRIES[thread], tuple(map(jit_cuda.type_of, arguments)), CAPABILITY)
    assert ".entry" in code
    found = jit_cuda.resources(code, CAPABILITY)
    assert found.registers <= registers
    assert found.stack <= stack
    assert found.spills == 0


def test_each_entry_is_launched_here(recorder: Recorder) -> None:
    assert {thread for thread, _ in recorder.seen.values()} == set(ENTRIES)


def _turns(slots, times, values, paces, turns, schedule, interval, steps):
    rhythm.take_turns(slots, times, values, paces, turns, schedule, interval, steps)


def test_the_rhythm_of_forecasts_compiles_for_a_gpu() -> None:
    rows = [spec.rows(1) for spec in rhythm.state_layout().values()]
    arguments = (
        INDEX, INDEX, NUMBERS, NUMBERS, rhythm.Turns(*rows),
        rhythm.Schedule(0.0, 1, 1, 0.0, 100), NUMBERS, INDEX,
    )  # fmt: skip
    code = jit_cuda.ptx(_turns, tuple(map(jit_cuda.type_of, arguments)), CAPABILITY)
    assert jit_cuda.local_bytes(code) <= 64

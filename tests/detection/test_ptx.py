"""The device engine's kernels compile for a GPU, and with how much a thread needs of one.

PTX and the assembler need no GPU. A kernel that spills registers, or whose stack grows, is slow on
a GPU or does not fit one, which nothing else would show here.
"""

from __future__ import annotations

import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is for Linux")

from tests.engine.streams import engine, make_stream, run
from titans_stream import jit_cuda
from titans_stream.engine.device.choice import FORECAST_STACK
from titans_stream.engine.device.cuda_kernels import ENTRIES
from titans_stream.engine.device.prebuilt import Recorder

CAPABILITY = (9, 0)
jit_cuda.compile_without_device(CAPABILITY)


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    device = Recorder()
    stream = make_stream(1, series=4, readings=80)
    ahead = {"steps": 1, "every": 10}
    # series leave their slots and are learned again
    few = engine(slots=2, device=device, forecast=ahead)
    for first in range(0, 80, 2):
        run(few, stream.slice(first, first + 2), [])
    few.snapshot(0)
    return device


@pytest.mark.parametrize(
    ("name", "registers", "stack", "spills"),
    [
        ("judge", 64, 0, 0),
        ("detect", 255, 2_000, 0),
        ("forecast", 168, 320, 0),
        ("second_stage", 184, 64, 0),
        ("learn_again", 168, 64, 0),
        ("take_turns", 64, 0, 0),
        # two minutes and more: what forecasts learn is one large kernel
        pytest.param("learn", 255, FORECAST_STACK, 2_500, marks=pytest.mark.slow),
        ("gather", 32, 0, 0),
        ("scatter", 32, 0, 0),
        ("fill", 32, 0, 0),
    ],
)
def test_a_kernel_fits_a_gpu(
    recorder: Recorder, name: str, registers: int, stack: int, spills: int
) -> None:
    thread, arguments = recorder.seen[name]
    code = jit_cuda.ptx(ENTRIES[thread], tuple(map(jit_cuda.type_of, arguments)), CAPABILITY)
    assert ".entry" in code
    found = jit_cuda.resources(code, CAPABILITY)
    assert found.registers <= registers
    assert found.stack <= stack
    assert found.spills <= spills


def test_each_entry_is_launched_here(recorder: Recorder) -> None:
    assert {thread for thread, _ in recorder.seen.values()} == set(ENTRIES)


def test_a_kernel_for_a_gpu_that_is_not_here_lies_in_the_cache(recorder: Recorder) -> None:
    thread, arguments = recorder.seen["gather"]
    signature = tuple(map(jit_cuda.type_of, arguments))
    for capability in (CAPABILITY, (8, 0)):
        with jit_cuda.capability_without_device(capability):
            assert jit_cuda.store(ENTRIES[thread], arguments, capability) > 1_000
            again = jit_cuda.jit(ENTRIES[thread])
            found = again._cache.load_overload(signature, again.targetctx)
            assert found._codelibrary._cubin_cache.keys() == {capability}
    with jit_cuda.capability_without_device((1, 2)):
        assert again._cache.load_overload(signature, again.targetctx) is None

"""The device engine gives what the CPU gives, bit for bit, and keeps every invariant.

The device is the CPU as if it were one, or numba's simulator of a GPU: both run the functions that
a GPU runs, compiled for the CPU, through the same stores, copies and launches.
"""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from benchmarks import device as check_of_a_gpu
from tests.engine import (
    streams,
    test_forecasts,
    test_invariants,
    test_marked_others,
    test_marks,
    test_young,
)
from tests.engine.streams import concatenate, engine, make_stream, run, same_scores
from titans_stream.commands import check
from titans_stream.engine.device import choice, threads
from titans_stream.engine.device.api import DeviceError
from titans_stream.engine.device.choice import choose
from titans_stream.engine.device.emulated import EmulatedDevice
from titans_stream.engine.device.store import DeviceStore
from titans_stream.engine.settings import EngineConfig
from titans_stream.engine.state import series_state
from titans_stream.records import Snapshot

SIMULATED = """
import numpy as np
from tests.engine.streams import engine, make_stream, run, same_scores
from tests.engine.test_device import same_state
from titans_stream.engine.device.cuda import open_cuda

stream = make_stream(3, series=3, readings=260)
ahead = {"steps": 3, "every": 60}
cpu, gpu = engine(slots=8, forecast=ahead), engine(slots=8, forecast=ahead, device=open_cuda())
expected, found = run(cpu, stream, [100]), run(gpu, stream, [100])
same_scores(expected, found)
assert expected.forecasts == found.forecasts and found.forecasts
same_state(cpu.snapshot(0), gpu.snapshot(0))
print("the same on", gpu.info()["device"])
"""


SLOW = ("test_spilling_changes_nothing", "test_slots_or_none_is_the_same")
"""They move thousands of rows one by one."""


def same_state(left: Snapshot, right: Snapshot) -> None:
    assert left.meta == right.meta
    assert left.arrays.keys() == right.arrays.keys()
    for name, array in left.arrays.items():
        np.testing.assert_array_equal(array, right.arrays[name], err_msg=name)


@pytest.mark.parametrize("forecast", [None, {"steps": 3, "every": 60}])
@pytest.mark.parametrize("bound", [0, 30])
def test_a_device_gives_what_the_cpu_gives(bound: int, forecast: dict[str, object] | None) -> None:
    stream = make_stream(5, series=4, readings=2400, shuffle=bound > 0)
    cpu = engine(bound=bound, forecast=forecast)
    device = EmulatedDevice()
    one = engine(bound=bound, forecast=forecast, device=device)
    expected, found = run(cpu, stream, [40, 900]), run(one, stream, [700, 701, 2000])
    same_scores(expected, found)
    assert expected.alerts == found.alerts
    assert expected.forecasts == found.forecasts
    assert len(found.alerts) > 4
    same_state(cpu.snapshot(0), one.snapshot(0))
    assert device.launches > 20
    assert one.info()["device"] == "emulated"


def test_snapshots_move_between_a_cpu_and_a_device() -> None:
    stream = make_stream(6, series=4, readings=2400)
    whole = run(engine(), stream, [])
    parts, one = [], engine()
    for k, device in enumerate((EmulatedDevice(), None, EmulatedDevice())):
        after = engine(device=device)
        after.restore(0, one.snapshot(0))
        parts.append(run(after, stream.slice(800 * k, 800 * k + 800), []))
        one = after
    same_scores(whole, concatenate(parts))


def cases_of(*modules: ModuleType) -> list[Any]:
    """The tests of modules that take no arguments, or only those that hypothesis gives."""
    found = []
    for module in modules:
        for name, test in vars(module).items():
            plain = not getattr(test, "pytestmark", None)
            given = hasattr(test, "hypothesis")
            if name.startswith("test_") and plain and (given or not test.__code__.co_argcount):
                marks = [pytest.mark.slow] if name in SLOW else []
                found.append(pytest.param(test, id=name.removeprefix("test_"), marks=marks))
    return found


@pytest.mark.parametrize(
    "test", cases_of(test_invariants, test_marks, test_marked_others, test_young)
)
def test_on_a_device(test: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "DEVICE", EmulatedDevice)
    test()


@pytest.mark.parametrize("test", cases_of(test_forecasts))
def test_forecasts_on_a_device(test: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "DEVICE", EmulatedDevice)
    test()


def test_the_cuda_wrapper_gives_what_the_cpu_gives_in_numbas_simulator() -> None:
    pytest.importorskip("numba_cuda", reason="numba-cuda is for Linux")
    done = subprocess.run(
        [sys.executable, "-c", SIMULATED], capture_output=True, text=True, check=False,
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "the same on cuda:0 simulator" in done.stdout


def test_check_tells_which_kernel_is_compiled(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("titans_stream.engine.device.cuda")
    with check._told(log.name):
        log.info("%s: compiling it", "detect")
    log.info("%s: compiling it", "forecast")
    assert capsys.readouterr().out == "device     detect: compiling it\n"


def test_rows_are_moved_filled_and_looked_at_by_their_slots() -> None:
    specs = series_state()
    store = DeviceStore(EmulatedDevice(), specs)
    store.reserve(20)
    rng = np.random.default_rng(0)
    for name, spec in specs.items():
        some = np.array([7, 3, 19])
        rows = rng.integers(0, 255, spec.nbytes * 3, np.uint8).view(spec.dtype)
        rows = rows.reshape(3, *spec.shape)
        store.write(name, some, rows)
        assert store.read(name, np.array([19, 7])).tobytes() == rows[[2, 0]].tobytes()
        first = rows[1:2]
        store.fill(name, np.array([7, 0]), first)
        assert store.read(name, np.array([0, 7, 19])).tobytes() == rows[[1, 1, 2]].tobytes()
    store.fill("core", np.arange(20), specs["core"].rows(1))
    core = specs["core"].rows(2)
    core["t"] = [3.0, 4.0]
    store.write("core", np.array([5, 2]), core)
    assert store.field("core", "t", np.array([2, 3, 5])).tolist() == [4.0, 0.0, 3.0]


def test_a_chain_keeps_the_order_of_each_series() -> None:
    slots = np.array([4, 1, 4, 4, 0, 1])
    last = threads.new_last(5)
    heads, following = np.empty(6, np.int64), np.empty(6, np.int64)
    count = threads.chain(slots, last, heads, following)
    assert heads[:count].tolist() == [0, 1, 4]
    assert following.tolist() == [2, 5, 3, -1, -1, -1]
    assert (last == -1).all()


def test_auto_is_the_cpu_for_few_series_and_says_why() -> None:
    found = choose(EngineConfig(slots=5_000))
    assert found.device is None
    assert "100,000 engine.slots" in found.why


def test_without_a_gpu_cuda_is_an_error_of_one_line_and_auto_falls_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none(_slots: int, _forecasts: bool) -> choice.Choice:
        raise DeviceError("no GPU can be used: no driver")

    monkeypatch.setattr(choice, "_cuda", none)
    with pytest.raises(ValueError, match=r"^engine.device: cuda: no GPU can be used: no driver$"):
        choose(EngineConfig(device="cuda"))
    found = choose(EngineConfig(slots=200_000))
    assert found.device is None
    assert found.why == "engine.device: auto takes the CPU: no GPU can be used: no driver"


def test_this_machine_without_a_gpu_says_so() -> None:
    numba_cuda = pytest.importorskip("numba.cuda")
    if numba_cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(
        DeviceError, match=r"^engine\.device: cuda: no GPU can be used: \w"
    ) as error:
        choose(EngineConfig(device="cuda"))
    assert "\n" not in str(error.value)


def test_a_card_that_is_too_small_names_the_room_that_it_has() -> None:
    with pytest.raises(DeviceError, match=r"100,000 series .* room for \d\d,\d\d\d$"):
        choice._room(EmulatedDevice(3 << 30), 100_000)
    why, fits = choice._room(EmulatedDevice(3 << 30), 10_000)
    assert fits > 40_000
    assert f"room for {fits:,} series" in why
    also, fewer = choice._room(EmulatedDevice(3 << 30), 10_000, forecasts=True)
    assert 10_000 < fewer < fits // 2
    assert f"room for {fewer:,} series with forecasts" in also


def test_memory_that_another_process_has_taken_is_an_error_of_one_line() -> None:
    with pytest.raises(DeviceError, match="bytes of"):
        engine(device=EmulatedDevice(1 << 20))


def test_the_check_of_a_gpu_works_on_an_emulated_device(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sections = ("copy", "equal", "resident", "process", "small", "anchors", "forecasts")
    monkeypatch.setattr(sys, "argv", ["device", "--device", "emulated", "--only", *sections])
    check_of_a_gpu.main()
    out = capsys.readouterr().out
    assert "failed" not in out
    assert re.search(r"against the CPU +off 0  share_beyond_1e-5 0  causes_apart 0", out)
    assert re.search(r"bit for bit +copies True  divided True  shuffled True", out)
    assert re.search(r"snapshot and restore +yes True", out)
    assert re.search(r"forecasts: against the CPU +off 0", out)
    assert re.search(r"forecasts: bit for bit +copies True  divided True", out)

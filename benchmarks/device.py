"""The check of a GPU: what it gives, and whether it is right. One run, at most --minutes long.

    python -m benchmarks.device [--minutes 10] [--device cuda|emulated] [--json FILE]
        [--series 2000 100000 1000000] [--only SECTION ...]

Without a GPU `--device emulated` runs the same sections in a small form on the CPU, so that the
script is known to work before a machine with a GPU is taken; its rates mean nothing. Kernels that
`make kernels GPUS="9.0"` compiled elsewhere, for the same version of Python and of the sources, are
taken where `$TITANS_STREAM_KERNELS` names them; without, those of forecasts take minutes.

Sections, each of which reports alone: `compile` (seconds, the first time and from the cache),
`copy` (how fast rows are filled, and the bus), `equal` (against the CPU within 1e-5, and bit for
bit: calls divided, calls in another order, several readings of a series in a call, snapshot and
restore), `resident` (readings/s of detector, forecast and second stage, columns on the device;
`of_fill_rate`: the state read and written once a reading, over the rate at which rows are filled),
`process` (readings/s and CPU from host columns through the engine), `small` (one reading, one
series), `forecasts` (those of many steps: equality and rates), `anchors` (flash-linear-attention
and titans-pytorch, where they are installed). A section for which no time is left is named and
left out.
"""

from __future__ import annotations

import argparse
import json
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.device_anchors import section_anchors
from benchmarks.device_forecasts import fill, section_forecasts
from titans_stream.detection.detector import Detector
from titans_stream.detection.rules import AlertConfig
from titans_stream.durations import SECOND
from titans_stream.engine.compute import HostCompute, Stepped, Taken
from titans_stream.engine.device.api import Device
from titans_stream.engine.device.compute import DeviceCompute
from titans_stream.engine.device.emulated import EmulatedDevice
from titans_stream.engine.engine import StreamEngine
from titans_stream.engine.model import Model
from titans_stream.engine.settings import EngineConfig
from titans_stream.engine.state import alert_settings, fresh_series, rule_of, series_state
from titans_stream.engine.store import HostStore
from titans_stream.forecasting.one_step.forecaster import OneStepForecaster
from titans_stream.lifecycle.loading import load_model
from titans_stream.records import Readings
from titans_stream.shipped_kernels import take as take_shipped

START = 1_700_000_000.0
STEP = 60.0
WARM_UP = 230
"""Readings before anything is measured: past the detector's warm-up."""
BASE = 500
"""Distinct series; more of them are copies of these, which shows what depends on the batch."""
STATE_BYTES = sum(spec.nbytes for spec in series_state().values())
SETTINGS = alert_settings(AlertConfig())


class Check:
    """What all sections share."""

    def __init__(self, device: Device, minutes: float, small: bool) -> None:
        self.device = device
        self.small = small
        self.model: Model = load_model("base")
        self.end = time.perf_counter() + 60.0 * minutes
        self.found: dict[str, dict[str, Any]] = {}
        self.base = 20 if small else BASE
        self.copy_rate = 0.0

    def row(self, name: str, **cells: Any) -> None:
        """Print and keep a line."""
        self.found[name] = cells
        text = "  ".join(
            f"{key} {value:,.4g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in cells.items()
        )
        print(f"{name:44}{text}", flush=True)

    def wait(self) -> None:
        """Until the device has done all that was asked."""
        wait = getattr(self.device, "wait", None)
        if wait is not None:
            wait()

    def timed(self, call: Callable[[], Any], runs: int = 5) -> float:
        """Median seconds of a call, the device's work included."""
        call()
        self.wait()
        seconds = []
        for _ in range(2 if self.small else runs):
            begun = time.perf_counter()
            call()
            self.wait()
            seconds.append(time.perf_counter() - begun)
        return float(np.median(seconds))

    def left(self) -> float:
        """Seconds."""
        return self.end - time.perf_counter()


def taken(count: int, base: int, number: int, slots: np.ndarray) -> Taken:
    """Reading `number` of the series in `slots`; series k and k + base are alike."""
    rng = np.random.default_rng(number)
    noise, large = rng.standard_normal(base), rng.random(base) < 0.01
    value = 20.0 + 3.0 * np.sin(number / 45 + np.arange(base)) + np.where(large, 12.0, 1.0) * noise
    seconds = np.full(count, START + STEP * number)
    rule = np.repeat(rule_of(AlertConfig(), "series"), count)
    return Taken(
        (seconds * 1e9).astype(np.int64), seconds, value[slots % base], np.full(count, STEP * 1e9),
        np.zeros(count, np.int8), rule, np.zeros(count, np.int8),
    )  # fmt: skip


def computes(check: Check, series: int) -> DeviceCompute:
    """The device's `Compute` with warm series: copies of `base` ones that a CPU has scored."""
    return copied(check, warm(check), series)


def warm(check: Check) -> HostCompute:
    """The base series on the CPU, past their warm-up."""
    store = HostStore(series_state())
    store.reserve(check.base)
    for name, first in fresh_series().items():
        store.fill(name, np.arange(check.base), first)
    host = HostCompute(store, Detector(check.model.weights), OneStepForecaster(check.model.weights))
    slots = np.arange(check.base)
    for number in range(WARM_UP):
        host.step(slots, taken(check.base, check.base, number, slots), SETTINGS)
    return host


def copied(check: Check, host: HostCompute, series: int) -> DeviceCompute:
    """The state of base series over and over in a device's rows."""
    made = DeviceCompute(check.device, check.model.weights)
    fill(made.store, host.store, check.base, series)
    return made


def off(found: Stepped, wanted: Stepped) -> dict[str, Any]:
    """How far two results are apart: the largest difference, the share beyond 1e-5, and flips."""
    worst, beyond, total = 0.0, 0, 0
    for name in ("statistic", "joint", "band"):
        a, b = getattr(found, name), getattr(wanted, name)
        same = np.isfinite(a) == np.isfinite(b)
        apart = np.where(np.isfinite(a) & np.isfinite(b), np.abs(a - b) / (1.0 + np.abs(b)), 0.0)
        worst = max(worst, float(apart.max(initial=0.0)))
        beyond += int((apart > 1e-5).sum() + (~same).sum())
        total += apart.size
    return {
        "off": worst, "share_beyond_1e-5": beyond / total,
        "causes_apart": int((found.cause != wanted.cause).sum()),
        "events_apart": int((found.written.event != wanted.written.event).sum()),
    }  # fmt: skip


def alike(left: Stepped, right: Stepped) -> bool:
    """Whether two results are the same bit for bit."""
    pairs = zip((*left[:4], *left.written), (*right[:4], *right.written), strict=True)
    return all(a.tobytes() == b.tobytes() for a, b in pairs)


def same_rows(one: DeviceCompute, other: DeviceCompute, slots: np.ndarray) -> bool:
    """Whether two states are the same bit for bit."""
    return all(
        one.store.read(name, slots).tobytes() == other.store.read(name, slots).tobytes()
        for name in series_state()
    )


def section_compile(check: Check) -> None:
    """The first call compiles, or loads what the cache has."""
    begun = time.perf_counter()
    small = computes(check, check.base)
    slots = np.arange(check.base)
    small.step(slots, taken(check.base, check.base, WARM_UP, slots), SETTINGS)
    small.replay(
        slots, np.arange(check.base), np.full(check.base, START), np.ones(check.base),
        np.full(check.base, 6e10),
    )  # fmt: skip
    check.wait()
    check.row("compile", seconds=time.perf_counter() - begun, device=check.device.name)


def section_copy(check: Check) -> None:
    """Bandwidth of the memory, by the gather kernel over whole rows, and of the bus."""
    rows = 4_000 if check.small else 400_000
    made = DeviceCompute(check.device, check.model.weights)
    made.store.reserve(rows)
    slots, block = np.arange(rows), 2_000
    name = "blocks"
    size = series_state()[name].nbytes
    row = np.zeros((block, *series_state()[name].shape), series_state()[name].dtype)
    up = check.timed(lambda: made.store.write(name, slots[:block], row))
    down = check.timed(lambda: made.store.read(name, slots[:block]))
    first = row[:1]
    inside = check.timed(lambda: made.store.fill(name, slots, first))
    check.copy_rate = rows * size / inside
    check.row(
        "copy", fill_GB_s=check.copy_rate / 1e9, host_to_device_GB_s=block * size / up / 1e9,
        device_to_host_GB_s=block * size / down / 1e9, free_GB=check.device.free_bytes / 1e9,
    )  # fmt: skip


def section_equal(check: Check) -> None:
    """Against the CPU, and bit for bit against itself."""
    host = warm(check)
    n = 4 * check.base
    everyone = np.arange(n)
    whole, parts, mixed, several = (copied(check, host, n) for _ in range(4))
    rng = np.random.default_rng(0)
    worst: dict[str, Any] = {}
    divided = shuffled = copies = True
    kept: list[Stepped] = []
    for number in range(WARM_UP, WARM_UP + (4 if check.small else 60)):
        wanted = host.step(
            np.arange(check.base), taken(check.base, check.base, number, everyone[: check.base]),
            SETTINGS,
        )  # fmt: skip
        given = taken(n, check.base, number, everyone)
        found = whole.step(everyone, given, SETTINGS)
        kept.append(found)
        for key, value in off(_take(found, everyone[: check.base]), wanted).items():
            worst[key] = max(worst.get(key, 0), value)
        first = found.statistic[: check.base].tobytes()
        copies &= all(
            found.statistic[i : i + check.base].tobytes() == first for i in range(0, n, check.base)
        )
        for part in np.array_split(everyone, 7):
            got = parts.step(part, Taken(*(c[part] for c in given)), SETTINGS)
            divided &= alike(got, _take(found, part))
        order = rng.permutation(n)
        got = mixed.step(order, Taken(*(c[order] for c in given)), SETTINGS)
        shuffled &= alike(got, _take(found, order))
    check.row("equal: against the CPU", **worst)
    check.row(
        "equal: bit for bit", copies=copies, divided=divided and same_rows(whole, parts, everyone),
        shuffled=shuffled and same_rows(whole, mixed, everyone),
    )  # fmt: skip
    calls = [taken(n, check.base, WARM_UP + k, everyone) for k in range(3)]
    together = Taken(*(np.concatenate(columns) for columns in zip(*calls, strict=True)))
    got = several.step(np.tile(everyone, 3), together, SETTINGS)
    want = np.concatenate([one.statistic for one in kept[:3]])
    check.row("equal: three readings a call", yes=got.statistic.tobytes() == want.tobytes())
    check.row("equal: snapshot and restore", yes=_restores(check))


def _take(found: Stepped, at: np.ndarray) -> Stepped:
    """A result for some of its readings; states of events in their order."""
    number = np.cumsum(found.written.event != 0) - 1
    events = number[at][found.written.event[at] != 0]
    written = found.written._replace(
        judgement=found.written.judgement[at], normal=found.written.normal[at],
        alert=found.written.alert[at], event=found.written.event[at],
        episode=found.written.episode[events], times=found.written.times[events],
    )  # fmt: skip
    return Stepped(
        found.statistic[at], found.joint[at], found.band[at], found.cause[at], written, len(events)
    )


def stream(series: int, readings: int, first: int) -> Readings:
    """Readings in lock step, for a whole engine."""
    names = [f"plant/machine-{i}" for i in range(series)]
    number = np.repeat(np.arange(first, first + readings), series)
    value = np.sin(number / 45 + np.tile(np.arange(series), readings))
    noise = np.random.default_rng(first).standard_normal(len(number))
    n = len(number)
    return Readings(
        names * readings, (int(START) + number * int(STEP)) * SECOND, 20 + 3 * value + noise,
        np.zeros(n, np.int32), np.arange(n),
    )  # fmt: skip


def engine(check: Check, slots: int, device: Device | None) -> StreamEngine:
    """An engine on a device, or on the CPU."""
    config = EngineConfig(slots=slots, max_series=slots, device="cpu")
    return StreamEngine(config, AlertConfig(), check.model, device=device)


def _restores(check: Check) -> bool:
    """Whether an engine goes on from its snapshot as one that was never stopped."""
    series, slots = 8, 64
    one = engine(check, slots, check.device)
    one.process(stream(series, 240, 0))
    again = engine(check, slots, check.device)
    again.restore(0, one.snapshot(0))
    left, right = one.process(stream(series, 30, 240)), again.process(stream(series, 30, 240))
    return left.scores.surprise.tobytes() == right.scores.surprise.tobytes()


def section_resident(check: Check, sizes: list[int]) -> None:
    """Kernels alone, columns already on the device: one reading of each series a call."""
    host = warm(check)
    for n in sizes:
        if STATE_BYTES * n > 0.9 * check.device.free_bytes:
            check.row(f"resident, {n:,} series", left_out="no room for that many")
            continue
        made = copied(check, host, n)
        slots = np.arange(n)
        given = taken(n, check.base, WARM_UP, slots)
        made.step(slots, given, SETTINGS)
        launches: list[tuple[Any, ...]] = []
        run = check.device.launch

        def keep(thread: Any, count: int, *rest: Any, into: Any = launches, go: Any = run) -> None:
            into.append((thread, count, *rest))
            go(thread, count, *rest)

        check.device.launch = keep  # type: ignore[method-assign]
        try:
            made.step(slots, given, SETTINGS)
        finally:
            check.device.launch = run  # type: ignore[method-assign]
        kernels = {one[0].__name__: one for one in launches if one[0].__name__ != "gather"}
        seconds = {name: check.timed(partial(run, *one)) for name, one in kernels.items()}
        total = sum(seconds.values())
        check.row(
            f"resident, {n:,} series", M_readings_s=n / total / 1e6,
            of_fill_rate=2.0 * STATE_BYTES * n / total / check.copy_rate
            if check.copy_rate else float("nan"),
            **{f"{name}_ms": 1e3 * one for name, one in seconds.items()},
        )  # fmt: skip
        del made, launches, kernels


def section_process(check: Check, sizes: list[int]) -> None:
    """A whole engine from host columns; its CPU time says what is left for the host."""
    for n in sizes:
        if (STATE_BYTES * n + (1 << 29)) > 0.9 * check.device.free_bytes:
            check.row(f"process, {n:,} series", left_out="no room for that many")
            continue
        if n > 200_000 and check.left() < 200:
            check.row(f"process, {n:,} series", left_out="no time to fill them")
            continue
        calls = 2 if check.small else 3
        one = engine(check, n, check.device)
        for first in range(0, n, 4_000):  # past their first 50 readings, which are kept apart
            names = [f"plant/machine-{i}" for i in range(first, min(n, first + 4_000))]
            part = stream(len(names), 52, 0)
            one.process(
                Readings(
                    names * 52, part.timestamp, part.value, part.partition, part.offset
                )
            )  # fmt: skip
            if check.left() < 60:
                check.row(f"process, {n:,} series", left_out="no time to fill them")
                return
        per_call = min(n, 50_000)
        readings = [stream(per_call, 1, 52 + k) for k in range(calls)]
        wall, cpu = time.perf_counter(), time.process_time()
        for each in readings:
            one.process(each)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        total = per_call * calls
        check.row(
            f"process, {n:,} series, {per_call:,} a call", M_readings_s=total / wall / 1e6,
            us_of_a_core_each=1e6 * cpu / total, free_GB=check.device.free_bytes / 1e9,
        )  # fmt: skip
        del one


def section_small(check: Check) -> None:
    """What a card is not made for: one reading a call, and one series with many readings."""
    made = computes(check, 2_000 if not check.small else 40)
    one = np.array([3])
    given = taken(1, check.base, WARM_UP, one)
    check.row(
        "small: one reading a call",
        us=1e6 * check.timed(lambda: made.step(one, given, SETTINGS), 20),
    )
    many = np.full(50 if check.small else 1_000, 3)
    columns = [taken(1, check.base, WARM_UP + k, one) for k in range(len(many))]
    together = Taken(*(np.concatenate(part) for part in zip(*columns, strict=True)))
    seconds = check.timed(lambda: made.step(many, together, SETTINGS), 3)
    check.row("small: one series", readings_s=len(many) / seconds)


def open_device(name: str) -> Device:
    """The device by its name; ValueError where it is not there."""
    if name == "emulated":
        return EmulatedDevice()
    from titans_stream.engine.device.cuda import open_cuda

    return open_cuda()


def main() -> None:
    """Run the sections."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--device", choices=["cuda", "emulated"], default="cuda")
    parser.add_argument("--series", type=int, nargs="+")
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    take_shipped()
    small = args.device == "emulated"
    sizes = args.series or ([40, 200] if small else [2_000, 100_000, 1_000_000])
    check = Check(open_device(args.device), args.minutes, small)
    sections: dict[str, Callable[[], None]] = {
        "compile": lambda: section_compile(check),
        "copy": lambda: section_copy(check),
        "equal": lambda: section_equal(check),
        "resident": lambda: section_resident(check, sizes),
        "small": lambda: section_small(check),
        "anchors": lambda: section_anchors(check),
        "forecasts": lambda: section_forecasts(check, sizes),
        "process": lambda: section_process(check, sizes),
    }
    for name, section in sections.items():
        if args.only and name not in args.only:
            continue
        if check.left() < 30:
            check.row(name, left_out="no time is left")
            continue
        begun = time.perf_counter()
        try:
            section()
        except Exception as error:  # noqa: BLE001 - the next section may still tell something
            traceback.print_exc()
            check.row(f"{name}: failed", why=str(error)[:200])
        check.row(f"{name}: section", seconds=time.perf_counter() - begun)
        if args.json:
            args.json.write_text(json.dumps(check.found, indent=1, default=str), encoding="utf-8")


if __name__ == "__main__":
    main()

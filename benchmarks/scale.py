"""Many series in one worker's engine: rate, memory, admission, snapshot, restore and spilling.

    python -m benchmarks.scale [--series 300000] [--forecasts] [--json FILE]

Every series is past its first 50 readings, so that it has a slot and its whole state. `host_*` is
what a reading costs in the engine outside of the kernels that judge and score, which is what stays
on the host where those run on a device; ids come as numbers, as decoders give them. One partition
is saved as a worker does, in slices that are gone when the next one is made, and restored twice:
the second time the memory for its rows is there. Writing files is not in it. Times are CPU time of
this process, on one core; `new_memory_us` is what the system takes to give it the memory of one
series: on some virtual machines most of what is done for the first time.
"""

from __future__ import annotations

import argparse
import gc
import json
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.many_series import resident
from titans_stream.detection.rules import AlertConfig
from titans_stream.durations import SECOND
from titans_stream.engine.build import compile_kernels
from titans_stream.engine.compute import Compute
from titans_stream.engine.engine import StreamEngine
from titans_stream.engine.settings import EngineConfig
from titans_stream.forecasting.settings import ForecastConfig
from titans_stream.ids import Ids
from titans_stream.lifecycle.loading import load_model
from titans_stream.records import Readings

PARTITIONS = 16
TURN = 0.003
"""Seconds that are copied between two turns of the loop."""
FIRST = 55
"""Readings of each series before anything is measured."""
BLOCK = 2_000
START = 1_700_000_000 * SECOND
STEP = 60 * SECOND


class Load:
    """Readings of named series; a series keeps its partition."""

    def __init__(self, series: int) -> None:
        self.names = [f"plant-{i % 50}/machine-{i:07d}" for i in range(series)]
        self.partition = (np.arange(series) % PARTITIONS).astype(np.int32)
        self.seen = np.zeros(series, np.int64)
        self._rng = np.random.default_rng(0)

    def readings(self, series: np.ndarray, each: int = 1) -> Readings:
        """The next readings of distinct series, so many of each, one series after another."""
        at = np.repeat(series, each)
        number = self.seen[at] + np.tile(np.arange(each), len(series))
        self.seen[series] += each
        value = 20 + 3 * np.sin(number / 45 + at) + self._rng.standard_normal(len(at))
        return Readings(
            Ids(at, self.names), START + number * STEP, value, self.partition[at],
            np.arange(len(at)),
        )  # fmt: skip


class Watched:
    """An engine's `Compute` that counts the CPU time spent in it."""

    def __init__(self, compute: Compute) -> None:
        self._compute = compute
        self.store, self.device = compute.store, compute.device
        self.seconds = 0.0

    def _call(self, do: Callable[..., Any], *arguments: Any) -> Any:
        begun = time.process_time()
        done = do(*arguments)
        self.seconds += time.process_time() - begun
        return done

    def judge(self, *arguments: Any) -> Any:
        """As `Compute.judge`."""
        return self._call(self._compute.judge, *arguments)

    def step(self, *arguments: Any) -> Any:
        """As `Compute.step`."""
        return self._call(self._compute.step, *arguments)

    def replay(self, *arguments: Any) -> None:
        """As `Compute.replay`."""
        self._call(self._compute.replay, *arguments)


def host_time(engine: StreamEngine, readings: Readings) -> float:
    """Seconds of CPU for a call outside of the kernels."""
    scoring = engine._scoring
    compute = scoring.compute
    scoring.compute = watched = Watched(compute)
    spent = timed(engine, readings)
    scoring.compute = compute
    return spent - watched.seconds


def timed(engine: StreamEngine, readings: Readings) -> float:
    """Seconds of CPU for a call."""
    begun = time.process_time()
    engine.process(readings)
    return time.process_time() - begun


def build(series: int, forecast: bool, slots: int) -> StreamEngine:
    """An engine for so many series, of which `slots` are resident."""
    return StreamEngine(
        EngineConfig(slots=slots, max_series=series),
        AlertConfig(),
        load_model("base"),
        forecast=ForecastConfig(steps=24, every=1_000_000) if forecast else None,
    )


def new_memory(size: int) -> float:
    """CPU seconds for so many bytes that this process did not have."""
    begun = time.process_time()
    fresh = np.full(2**25, 1.0)
    return (time.process_time() - begun) * size / fresh.nbytes


def saving(engine: StreamEngine) -> tuple[float, float]:
    """CPU seconds to copy a partition out in slices, and the longest of the loop's turns, ms."""
    capture = engine.capture(0, None)
    parts = capture.snapshot.parts
    assert parts is not None
    reader = threading.Thread(target=deque, args=(parts, 0))
    reader.start()
    taken = longest = 0.0
    done = False
    while not done:
        begun = time.thread_time()
        done = capture.step(TURN)
        took = time.thread_time() - begun
        taken, longest = taken + took, max(longest, took)
    reader.join()
    return taken, 1e3 * longest


def measure(series: int, forecast: bool) -> dict[str, float]:
    """The figures by name."""
    compile_kernels(load_model("base"), forecasting=forecast)
    load = Load(series)
    gc.collect()
    before = resident()
    engine = build(series, forecast, series)
    found: dict[str, float] = {"series": series, "state_bytes": engine.state_bytes}
    everyone = np.arange(series)
    begun = time.process_time()
    for first in range(0, series, BLOCK):
        engine.process(load.readings(everyone[first : first + BLOCK], FIRST))
    found["first_readings_us"] = 1e6 * (time.process_time() - begun) / series / FIRST
    found["resident_bytes"] = (resident() - before) / series
    rng = np.random.default_rng(1)
    for name, count in (("call_2000_us", 2_000), ("call_10000_us", 10_000)):
        calls = [load.readings(rng.permutation(series)[:count]) for _ in range(20)]
        found[name] = 1e6 * float(np.median([timed(engine, one) for one in calls])) / count
    for name, count in (("host_1000_us", 1_000), ("host_10000_us", 10_000)):
        calls = [load.readings(rng.permutation(series)[:count]) for _ in range(20)]
        spent = [host_time(engine, one) for one in calls]
        found[name] = 1e6 * float(np.median(spent)) / len(calls[0])
    new = Load(series + 10_000)
    late = new.readings(np.arange(series, series + 2_000))
    bigger = build(series + 10_000, forecast, series + 10_000)
    begun = time.process_time()
    bigger._series.uids(late.series, late.partition)
    found["admission_us"] = 1e6 * (time.process_time() - begun) / len(late)
    del bigger
    again = build(series, forecast, series)
    found["new_memory_us"] = 1e6 * new_memory(engine.state_bytes)
    saved = len(engine._series.members(0)[1])
    taken, found["snapshot_longest_ms"] = saving(engine)
    found["snapshot_us"] = 1e6 * taken / saved
    snapshot = engine.snapshot(0)
    engine.release(0)
    for name in ("restore_us", "restore_again_us"):
        begun = time.process_time()
        again.restore(0, snapshot)
        found[name] = 1e6 * (time.process_time() - begun) / saved
    some = np.flatnonzero(load.partition == 0)[:2_000]
    found["first_call_after_restore_us"] = 1e6 * timed(again, load.readings(some)) / len(some)
    return found


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--series", type=int, default=20_000)
    parser.add_argument("--forecasts", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = measure(args.series, args.forecasts)
    for name, value in found.items():
        print(f"{name:30}{value:14,.2f}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

"""What snapshots cost: size, how long the loop stands still, and how long a recovery takes.

    python -m benchmarks.snapshots [--series 1000 10000 100000] [--folder DIR]

One partition, the base model, no Kafka: a loop as the worker's feeds batches of 500 readings to the
engine and gives the snapshotter its turns. The state is that of 200 series of 120 readings each,
many times over. *Stall* is what a turn of the loop takes longer for a snapshot: the copying between
two batches, and what batches take longer than without one, at their median and at most (`cpu`: the
processor time of it, where others want the same cores). *Recovery* is load, check and
restore; *move* a last snapshot of a partition, of which a tenth of the series was touched since the
one before, and the recovery of it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from kafka import TopicPartition

from titans_stream.engine.build import EngineSetup, build_engine
from titans_stream.engine.engine import StreamEngine
from titans_stream.lifecycle.artifacts import base_model
from titans_stream.ops.storage import Snapshots
from titans_stream.records import Readings, Snapshot
from titans_stream.stream.kafka.deadline import Deadline
from titans_stream.stream.metrics import Metrics
from titans_stream.stream.recovery import Chain, Origin, Progress, StoredSnapshot
from titans_stream.stream.snapshot_wishes import SnapshotWishes
from titans_stream.stream.snapshots import Snapshotter

REAL, READINGS, STEP = 200, 120, 10 * 10**9
BATCH = 500


def build() -> StreamEngine:
    """An engine as a connector without further settings has it."""
    return build_engine(base_model(), EngineSetup(topic="input"))


def readings(names: list[str], row: int) -> Readings:
    """A reading of each series."""
    n = len(names)
    value = np.sin(row / 20 + np.arange(n)) + 0.1 * np.random.default_rng(row).normal(size=n)
    times = np.full(n, 10**18 + row * STEP)
    return Readings(names, times, value, np.zeros(n, np.int32), np.arange(n) + row * n)


def many(count: int) -> Snapshot:
    """The state of `count` series."""
    engine, names = build(), [f"s{i}" for i in range(REAL)]
    for row in range(READINGS):
        engine.process(readings(names, row))
    one = engine.snapshot(0)
    of = [f"plant-1/line-{i // 100}/sensor-{i}" for i in range(count)]
    arrivals = np.resize(one.arrays["arrivals"], (count, *one.arrays["arrivals"].shape[1:]))
    parts = (
        Snapshot(one.schema, {"series": of[i : i + REAL], "waiting": {}}, one.arrays)
        for i in range(0, count, REAL)
    )
    return Snapshot(one.schema, one.meta | {"series": of}, {"arrivals": arrivals}, parts)


class World:
    """A worker's loop around one partition."""

    def __init__(self, count: int, folder: Path) -> None:
        self.engine, self.store = build(), Snapshots(folder, "benchmark")
        state = many(count)
        self.names: list[str] = state.meta["series"]
        self.engine.restore(0, state)
        partition = TopicPartition("input", 0)
        self.progress = Progress(partition, 1, 0, 0, 0, Origin(life="l"))
        self.snapshots = Snapshotter(
            self.engine, self.store, 1e9, Metrics(), lambda _: 0, SnapshotWishes()
        )
        self.row = READINGS
        self.rng = np.random.default_rng(0)

    def batch(self) -> float:
        """Seconds that a batch of readings of any series takes."""
        self.row += 1
        mine = self.rng.choice(len(self.names), min(BATCH, len(self.names)), replace=False)
        told = readings([self.names[i] for i in mine.tolist()], self.row)
        begun = time.perf_counter()
        self.engine.process(told)
        return time.perf_counter() - begun

    def snapshot(self) -> dict[str, float]:
        """Take a snapshot beside the stream."""
        plain = [self.batch() for _ in range(12)]
        self.progress.position += 1
        self.progress.committed = self.progress.position
        self.progress.snapshot_due = 0.0
        begun, turns, cpu, beside = time.perf_counter(), [], [], []
        before = self.progress.snapshot_offset
        while self.progress.snapshot_offset == before:
            at, used = time.perf_counter(), time.thread_time()
            self.snapshots.turn([self.progress])
            turns.append(time.perf_counter() - at)
            cpu.append(time.thread_time() - used)
            beside.append(self.batch())
        chain = self.progress.chain
        assert chain is not None
        return {
            "size_mb": chain.saved.size / 1e6,
            "seconds": time.perf_counter() - begun,
            "turns": len(turns),
            "stall_ms": 1e3 * float(np.median(turns)),
            "stall_ms_max": 1e3 * max(turns),
            "stall_cpu_ms_max": 1e3 * max(cpu),
            "batch_ms": 1e3 * float(np.median(plain)),
            "batch_beside_ms": 1e3 * float(np.median(beside)),
            "batch_beside_ms_max": 1e3 * max(beside),
        }

    def touch(self, share: float) -> None:
        """Readings of a share of the series."""
        some = self.names[: max(1, int(share * len(self.names)))]
        self.row += 1
        for i in range(0, len(some), BATCH):
            self.engine.process(readings(some[i : i + BATCH], self.row))

    def quietly(self, share: float) -> dict[str, float]:
        """A snapshot while nothing else is read, of which a share of the series was touched."""
        self.touch(share)
        self.progress.position += 1
        self.progress.committed = self.progress.position
        begun, used = time.perf_counter(), time.process_time()
        self.snapshots.take_all([self.progress], Deadline(600))
        assert self.progress.chain is not None
        return {
            "size_mb": self.progress.chain.saved.size / 1e6,
            "seconds": time.perf_counter() - begun,
            "cpu_s": time.process_time() - used,
        }


def recovery(folder: Path, schema: str) -> dict[str, float]:
    """Load and restore the newest snapshot in a new engine."""
    engine, store = build(), Snapshots(folder, "benchmark")
    begun, used = time.perf_counter(), time.process_time()
    stored = store.load("input", 0, 10**9, schema)
    assert stored is not None
    checked = time.perf_counter()
    engine.restore(0, stored.snapshot)
    done = time.perf_counter()
    assert stored.saved is not None
    Chain(stored.saved, engine.mark(0))
    return {
        "load_s": checked - begun,
        "restore_s": done - checked,
        "seconds": done - begun,
        "cpu_s": time.process_time() - used,
    }


def as_before(world: World, folder: Path) -> dict[str, float]:
    """Seconds that the loop stood still where it copied and wrote everything itself."""
    begun, used = time.perf_counter(), time.process_time()
    Snapshots(folder, "before").save("input", 0, StoredSnapshot(1, world.engine.snapshot(0), {}))
    return {"seconds": time.perf_counter() - begun, "cpu_s": time.process_time() - used}


def rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in figures.items()}


def main() -> None:
    """Measure each number of series, a line of JSON each figure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--series", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    for count in args.series:
        folder = Path(tempfile.mkdtemp(prefix="titans-snapshots-", dir=args.folder))
        try:
            world = World(count, folder)
            for _ in range(4 * max(1, count // BATCH)):
                world.batch()  # brings most series into their slots

            def tell(what: str, figures: dict[str, float], count: int = count) -> None:
                print(json.dumps({"series": count, "what": what, **rounded(figures)}), flush=True)

            tell("all series, beside the stream", world.snapshot())
            tell("delta after 12 batches, beside the stream", world.snapshot())
            tell("delta of what these touched", world.quietly(0.001))
            tell("delta of 1 %", world.quietly(0.01))
            last = world.quietly(0.1)
            tell("delta of 10 %", last)
            schema = world.engine.state_schema
            found = recovery(folder, schema)
            tell("recovery", found)
            tell("move", {name: last[name] + found[name] for name in ("seconds", "cpu_s")})
            tell("all at once, in the loop", as_before(world, folder))
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()

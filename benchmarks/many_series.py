"""What a series costs while it has few readings: resident memory, snapshot and time.

    python -m benchmarks.many_series [--json FILE]

Each row is a process of its own that feeds an engine round by round, 2,000 readings a call, and
then takes a snapshot as a worker does. `kept` series have their readings kept in a row and a slot
only while they are at work; `slots` is the same engine with a slot for each from the first reading
on (it keeps rows only for the model's own detector, so it is given that detector by hand).
The floor is what the readings themselves take: 16 bytes each, a time and a value.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from titans_stream.detection.detector import Detector
from titans_stream.detection.rules import AlertConfig
from titans_stream.engine.build import compile_kernels
from titans_stream.engine.engine import StreamEngine
from titans_stream.engine.settings import EngineConfig
from titans_stream.forecasting.settings import ForecastConfig
from titans_stream.lifecycle.loading import load_model
from titans_stream.ops.storage import Snapshots
from titans_stream.records import Readings
from titans_stream.stream.recovery import StoredSnapshot

CASES = ((40_000, 1), (40_000, 20), (5_000, 60))
"""Series, and readings of each."""
CALL = 2_000
READING_BYTES = 16


def resident() -> int:
    """Bytes of this process in memory now; where the system does not tell, at most so far."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * resource.getpagesize()


def measure(series: int, readings: int, kept: bool, forecast: bool) -> dict[str, float]:
    """One row: bytes a series in memory and in the snapshot, microseconds a reading."""
    model = load_model("base")
    compile_kernels(model, forecasting=forecast)
    names = [f"host-{i % 50}/{i:08x}" for i in range(series)]
    gc.collect()
    before = resident()
    engine = StreamEngine(
        EngineConfig(slots=max(series, 1)),
        AlertConfig(),
        model,
        forecast=ForecastConfig(steps=24, every=24) if forecast else None,
        detector=None if kept else Detector(model.weights),
    )
    rng = np.random.default_rng(0)
    begun = time.process_time()
    offset = 0
    for turn in range(readings):
        for first in range(0, series, CALL):
            part = names[first : first + CALL]
            n = len(part)
            engine.process(
                Readings(
                    part,
                    np.full(n, (1_700_000_000 + 60 * turn) * 10**9),
                    rng.normal(20.0, 1.0, n),
                    np.zeros(n, np.int32),
                    np.arange(offset, offset + n),
                )
            )
            offset += n
    seconds = time.process_time() - begun
    gc.collect()
    used = resident() - before
    with tempfile.TemporaryDirectory() as folder:
        store = Snapshots(Path(folder), "benchmark")
        store.save("input", 0, StoredSnapshot(offset, engine.snapshot(0), {}))
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return {
        "resident_bytes": used / series,
        "snapshot_bytes": size / series,
        "us_per_reading": seconds / offset * 1e6,
        "floor_bytes": READING_BYTES * readings,
    }


def main() -> int:
    """Parse arguments, run each case in a process of its own, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--case", metavar="SERIES,READINGS,KEPT,FORECAST", help="one row, as JSON")
    args = parser.parse_args()
    if args.case:
        series, readings, kept, forecast = map(int, args.case.split(","))
        print(json.dumps(measure(series, readings, bool(kept), bool(forecast))))
        return 0
    rows = []
    print(f"{'series':>8}{'readings':>9}{'':>7}{'forecasts':>10}"
          f"{'resident B':>12}{'snapshot B':>12}{'us/reading':>12}{'readings B':>12}")  # fmt: skip
    for forecast in (0, 1):
        for series, readings in CASES:
            for kept in (1, 0):
                case = f"{series},{readings},{kept},{forecast}"
                done = subprocess.run(
                    [sys.executable, "-m", "benchmarks.many_series", "--case", case],
                    capture_output=True, text=True, check=True,
                )  # fmt: skip
                row = json.loads(done.stdout)
                way = "kept" if kept else "slots"
                named = {"series": series, "readings": readings, "state": way}
                rows.append({**named, "forecasts": bool(forecast), **row})
                print(
                    f"{series:8,}{readings:9}{way:>7}{'yes' if forecast else 'no':>10}"
                    f"{row['resident_bytes']:12,.0f}{row['snapshot_bytes']:12,.0f}"
                    f"{row['us_per_reading']:12.1f}{row['floor_bytes']:12,}",
                    flush=True,
                )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

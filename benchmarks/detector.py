"""Readings per second of the whole detector on one core, and its state per series.

    python -m benchmarks.detector [--series 1 1000 10000] [--seconds 10] [--json FILE]
        [--peer-python .venv-bench/bin/python]

Ours: the engine of the service as the worker calls it, in process: order, dense and sparse
memories, one-step forecast with band, calibration, second stage, episodes. A call holds one
reading of each series (for one series: 1,000 readings). Readings are noise on daily waves, past
the warm-up, so that every reading takes the whole way. Peer: River's half-space trees (10 trees,
height 6, window 250), one forest per series, learning and scoring each reading; it runs in an
environment of its own (`make .venv-bench`). The thresholded random cut forest (OpenSearch's
engine, Java, 50 trees) is not run here; its figure was measured on one shared core in November
2026.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from titans_stream.durations import SECOND
from titans_stream.engine.build import EngineSetup, build_engine
from titans_stream.engine.settings import EngineConfig
from titans_stream.lifecycle.loading import load_model
from titans_stream.records import Readings

STEP = 300 * SECOND
START = 1_700_000_000 * SECOND
WARM_UP = 220
"""Readings of each series before the clock starts; the detector warms up for 200."""
ONE_SERIES = 1_000
"""Readings in a call where there is a single series."""
RANDOM_CUT_FOREST = (1_100, 1_300)
"""Readings/s of OpenSearch's forest on one shared core."""

PEER = """
import math, random, sys, time
from river import anomaly, preprocessing
series, seconds = int(sys.argv[1]), float(sys.argv[2])
forests = [
    (
        preprocessing.MinMaxScaler(),
        anomaly.HalfSpaceTrees(n_trees=10, height=6, window_size=250, seed=1),
    )
    for _ in range(series)
]
noise = random.Random(1)
def reading(t):
    for scaler, forest in forests:
        point = {"value": math.sin(t / 45) + noise.gauss(0, 1)}
        scaler.learn_one(point)
        scaled = scaler.transform_one(point)
        forest.score_one(scaled)
        forest.learn_one(scaled)
t = 0
while t * series < 2_000:
    reading(t)
    t += 1
begun, first = time.process_time(), t
while time.process_time() - begun < seconds:
    reading(t)
    t += 1
print((t - first) * series / (time.process_time() - begun))
"""


def batches(series: int, calls: int, first: int) -> list[Readings]:
    """Calls of one reading per series, or of ONE_SERIES readings of a single one."""
    rng = np.random.default_rng(first)
    per_call = ONE_SERIES if series == 1 else 1
    names = [f"plant/machine-{i}" for i in range(series)] * per_call
    made = []
    for call in range(calls):
        t = np.repeat(first + call * per_call + np.arange(per_call), series)
        phase = np.tile(np.arange(series), per_call)
        value = 20 + 3 * np.sin(t / 45 + phase) + rng.standard_normal(len(t))
        made.append(
            Readings(names, START + STEP * t, value, np.zeros(len(t), np.int32), t.astype(np.int64))
        )
    return made


def measure(series: int, seconds: float) -> dict[str, float]:
    """Readings/s of processor time, the median of three stretches; state bytes per series."""
    engine = build_engine(load_model("base"), EngineSetup(EngineConfig(device="cpu")))
    per_call = ONE_SERIES if series == 1 else 1
    t = -(-WARM_UP // per_call) * per_call
    for readings in batches(series, t // per_call, 0):
        engine.process(readings)
    rates = []
    for _ in range(3):
        spent, done = 0.0, 0
        while spent < seconds / 3:
            some = batches(series, max(1, 50_000 // (series * per_call)), t)
            t += len(some) * per_call
            begun = time.process_time()
            for readings in some:
                engine.process(readings)
            spent += time.process_time() - begun
            done += sum(len(readings.value) for readings in some)
        rates.append(done / spent)
    rate = float(np.median(rates))
    return {
        "readings_per_s": rate,
        "us_per_reading": 1e6 / rate,
        "state_bytes_per_series": float(engine.info()["state_bytes_per_series"]),
    }


def measure_peer(python: str, series: int, seconds: float) -> dict[str, float]:
    """The same of half-space trees, in their own interpreter."""
    done = subprocess.run(
        [python, "-c", PEER, str(series), str(seconds)],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    rate = float(done.stdout)
    return {"readings_per_s": rate, "us_per_reading": 1e6 / rate}


def main() -> int:
    """Parse arguments, run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, nargs="+", default=[1, 1_000, 10_000])
    parser.add_argument("--seconds", type=float, default=10.0, help="processor time per figure")
    parser.add_argument("--peer-python", help="Python with river installed")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = {f"titans-stream, {n} series": measure(n, args.seconds) for n in args.series}
    if args.peer_python:
        name = "river half-space trees, 100 series"
        results[name] = measure_peer(args.peer_python, 100, args.seconds)
    print(f"{'one core':40}{'readings/s':>12}{'us/reading':>12}{'state, KB':>12}")
    for name, row in results.items():
        state = row.get("state_bytes_per_series")
        shown = "" if state is None else f"{state / 1024:.1f}"
        print(f"{name:40}{row['readings_per_s']:12,.0f}{row['us_per_reading']:12.2f}{shown:>12}")
    low, high = RANDOM_CUT_FOREST
    print(f"{'random cut forest (measured before)':40}{f'{low:,}-{high:,}':>12}")
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

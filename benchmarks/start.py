"""What a worker needs before its first reading: processor time, wall time and resident memory.

    python -m benchmarks.start [--runs 5] [--json FILE]

Each row is a process of its own, with kernels from the cache (run it once before, or they are
compiled first). The rows `numba` and `torch` import the library alone: the floor of a worker, and
what one that trains needs on top.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

WORKER = """
import titans_stream.commands.run, titans_stream.config, titans_stream.stream.worker
from titans_stream.engine.build import compile_kernels
from titans_stream.lifecycle.loading import load_model
compile_kernels(load_model("base"), forecasting={forecasting})
"""
CASES = {
    "worker": WORKER.format(forecasting=False),
    "worker with forecasts": WORKER.format(forecasting=True),
    "settings alone": "import titans_stream.config",
    "numba": "import numba",
    "torch": "import torch",
}
REPORT = """
import resource, sys, time
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, time.monotonic() - begun)
"""


def measure(script: str, runs: int) -> dict[str, float]:
    """Medians of processor seconds, wall seconds and MiB resident at most."""
    found = []
    for _ in range(runs):
        code = f"import time\nbegun = time.monotonic()\n{script}{REPORT}"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        found.append([float(x) for x in done.stdout.split()[-3:]])
    cpu, resident, wall = (statistics.median(column) for column in zip(*found, strict=True))
    return {"cpu_s": cpu, "wall_s": wall, "resident_mib": resident}


def main() -> int:
    """Parse arguments, run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    results = {name: measure(script, args.runs) for name, script in CASES.items()}
    print(f"{'':24}{'cpu s':>8}{'wall s':>8}{'MiB':>8}")
    for name, row in results.items():
        print(f"{name:24}{row['cpu_s']:8.2f}{row['wall_s']:8.2f}{row['resident_mib']:8.0f}")
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

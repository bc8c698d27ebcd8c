"""Metrics of this machine, as means over the last half second."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import NamedTuple

import psutil

WINDOW = 5
"""Samples that a mean covers: 500 ms at 100 ms each."""
_LOADAVG = Path("/proc/loadavg")


class _Sample(NamedTuple):
    """Counters of the kernel at one moment; `runnable` is a number of tasks."""

    time: float
    idle_seconds: float
    total_seconds: float
    disk_bytes: int
    network_bytes: int
    runnable: float


class MachineMetrics:
    """Reads the machine's counters. Call `read` at a steady pace."""

    def __init__(self, clock_sample: float) -> None:
        self._cores = psutil.cpu_count() or 1
        self._samples = deque([self._sample(clock_sample)], maxlen=WINDOW + 1)
        self._cpu = 0.0

    def read(self, now: float) -> dict[str, float]:
        """The metrics at `now` (seconds); rates are per second, shares in percent.

        `cpu_runnable` is the number of tasks per core that run or wait for a core.
        """
        self._samples.append(self._sample(now))
        first, last = self._samples[0], self._samples[-1]
        seconds = max(last.time - first.time, 1e-3)
        total = last.total_seconds - first.total_seconds
        if total > 0:
            idle = (last.idle_seconds - first.idle_seconds) / total
            self._cpu = 100.0 * min(max(1.0 - idle, 0.0), 1.0)
        recent = list(self._samples)[1:]
        return {
            "cpu_percent": self._cpu,
            "cpu_runnable": sum(one.runnable for one in recent) / len(recent) / self._cores,
            "memory_percent": psutil.virtual_memory().percent,
            "disk_mb_s": (last.disk_bytes - first.disk_bytes) / seconds / 1e6,
            "network_mb_s": (last.network_bytes - first.network_bytes) / seconds / 1e6,
        }

    def _sample(self, now: float) -> _Sample:
        cpu = psutil.cpu_times()
        disk, network = psutil.disk_io_counters(), psutil.net_io_counters()
        return _Sample(
            time=now,
            idle_seconds=cpu.idle + getattr(cpu, "iowait", 0.0),
            total_seconds=sum(cpu[:8]),  # the fields after it are part of the first two
            disk_bytes=disk.read_bytes + disk.write_bytes if disk else 0,
            network_bytes=network.bytes_sent + network.bytes_recv if network else 0,
            runnable=_runnable(),
        )


def _runnable() -> float:
    """Tasks that run or wait for a core, this one left out; where it is not told, the load."""
    if _LOADAVG.exists():
        return max(0.0, float(_LOADAVG.read_text().split()[3].split("/")[0]) - 1.0)
    return psutil.getloadavg()[0]

"""The demo's child processes: the workers, and the busy loops of the disturbance."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

_STOP_SECONDS = 8.0
_BUSY_LOOP = """
import os, sys, time
os.nice(5) if hasattr(os, "nice") else None
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    sum(range(10_000))
"""


class WorkerProcess:
    """`titans-stream run` of a connector, with its log in a file."""

    def __init__(self, connector: Path, log: Path, environment: Mapping[str, str]) -> None:
        self._log = log
        self.name = connector.stem
        with log.open("wb") as out:
            self._process = subprocess.Popen(  # noqa: S603 - our own program and file
                [sys.executable, "-m", "titans_stream.cli", "run", str(connector)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={"OMP_NUM_THREADS": "1", **os.environ, **environment},
                start_new_session=True,  # Ctrl-C is the demo's; it ends its children in order
            )

    def problem(self) -> str | None:
        """The last line of the log where the worker has ended by itself, else None."""
        code = self._process.poll()
        if code is None:
            return None
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"the worker ended with code {code}"

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        if self._process.poll() is None:
            self._process.terminate()

    def wait(self) -> None:
        """Wait for the end, and enforce it in the end."""
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Disturbance:
    """Burns all cores for some seconds. The loops end by themselves, whatever happens here."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.cores = psutil.cpu_count() or 1
        self.began: float | None = None
        """Time of the start, seconds since 1970."""
        self._loops: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Begin: two busy loops per core, for a machine that has other work to do as well."""
        self.began = time.time()
        self._loops = [
            subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-c", _BUSY_LOOP, str(self.seconds)],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
            for _ in range(2 * self.cores)
        ]

    @property
    def running(self) -> bool:
        """Whether the cores are burnt right now."""
        return any(loop.poll() is None for loop in self._loops)

    def stop(self) -> None:
        """End the busy loops."""
        for loop in self._loops:
            if loop.poll() is None:
                loop.kill()
            loop.wait()

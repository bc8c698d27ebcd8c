"""`titans-stream run` in processes of its own, as an operator has it: connector, input, outputs."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Service:
    """A connector in a folder, and the workers that run it."""

    folder: Path
    bootstrap: str
    prefix: str = field(default_factory=lambda: "c" + uuid.uuid4().hex[:8])
    more: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Settings beside those of `connector`, by section."""

    @property
    def topics(self) -> dict[str, str]:
        """The topics, by what they are for."""
        return {
            "input": f"{self.prefix}.in",
            "alerts": f"{self.prefix}.alerts",
            "scores": f"{self.prefix}.scores",
            "forecasts": f"{self.prefix}.forecasts",
            "dead": f"{self.prefix}.dead",
        }

    @property
    def group(self) -> str:
        """The consumer group."""
        return f"{self.prefix}.group"

    def connector(self) -> dict[str, Any]:
        """The settings."""
        topics = self.topics
        settings: dict[str, dict[str, Any]] = {
            "kafka": {"bootstrap_servers": self.bootstrap},
            "input": {
                "topic": topics["input"],
                "group_id": self.group,
                "start": "earliest",
                "series": "{s}",
                "value": "v",
                "timestamp": "t",
            },
            "output": {
                "alerts": topics["alerts"],
                "scores": topics["scores"],
                "dead_letter": topics["dead"],
            },
            "delivery": {"report_every": "5s"},
            "state": {"path": str(self.folder / "state"), "snapshot_interval": "5s"},
        }
        for section, values in self.more.items():
            settings[section] = settings.get(section, {}) | values
        return {"name": self.prefix, **settings}

    def start(self, name: str, **state: Any) -> WorkerProcess:
        """Start a worker; `state` changes that section for it alone."""
        settings = self.connector()
        settings["state"] = settings["state"] | state
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(settings))
        return WorkerProcess(path, self.folder / f"{name}.log")


class WorkerProcess:
    """One `titans-stream run`; its log is added to a file."""

    def __init__(self, connector: Path, log: Path) -> None:
        self.log = log
        self.frozen = False
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "titans_stream.cli", "run", str(connector)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal; SIGSTOP and SIGCONT are minded."""
        self.frozen = number is signal.SIGSTOP
        self.process.send_signal(number)

    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def end(self, number: signal.Signals = signal.SIGTERM, seconds: float = 60.0) -> int:
        """End it with a signal; the exit code. Killed where it does not end in time."""
        if self.running():
            if self.frozen:
                self.send(signal.SIGCONT)
            self.process.send_signal(number)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def wait_for(self, text: str, seconds: float = 120.0) -> None:
        """Wait until the log says something."""
        deadline = time.monotonic() + seconds
        while text not in self.log.read_text(errors="replace"):
            assert self.running(), self.log.read_text(errors="replace")[-2000:]
            assert time.monotonic() < deadline, f"no {text!r} in {self.log}"
            time.sleep(0.1)

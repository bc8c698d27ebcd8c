"""What became of jobs: a JSON file per job under the connector's state folder."""

from __future__ import annotations

import json
import logging
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from titans_stream.times import format_timestamp
from titans_stream.whole_files import write_whole

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job's last run; times are RFC 3339, nothing where there was none."""

    started: str = ""
    ended: str = ""
    outcome: str = ""
    """done, failed, stopped, missed or skipped (the run before was not over, or another replica
    had the lease)."""
    detail: str = ""
    runs: int = 0
    failures: int = 0
    missed: int = 0
    skipped: int = 0


class JobRecords:
    """The records of a connector's jobs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "jobs"
        self._lock = threading.Lock()

    def get(self, name: str) -> JobRecord:
        """A job's record; an empty one where there is none that can be read."""
        try:
            found = json.loads(self._path(name).read_text(encoding="utf-8"))
            return JobRecord(**found)
        except (OSError, TypeError, ValueError):
            return JobRecord()

    def started(self, name: str) -> None:
        """A run begins."""
        with self._lock:
            record = self.get(name)
            self._put(name, replace(record, started=_now(), ended="", outcome="running", detail="",
                                    runs=record.runs + 1))  # fmt: skip

    def ended(self, name: str, outcome: str, detail: str) -> None:
        """A run is over."""
        with self._lock:
            record = self.get(name)
            self._put(name, replace(record, ended=_now(), outcome=outcome, detail=detail,
                                    failures=record.failures + (outcome == "failed")))  # fmt: skip

    def not_run(self, name: str, outcome: str, detail: str) -> None:
        """A run was due and did not begin; one that is under way stays as it is."""
        with self._lock:
            record = self.get(name)
            counted = replace(
                record,
                missed=record.missed + (outcome == "missed"),
                skipped=record.skipped + (outcome == "skipped"),
            )
            if record.outcome != "running":
                counted = replace(counted, ended=_now(), outcome=outcome, detail=detail)
            self._put(name, counted)

    def request(self, name: str) -> Path:
        """The file by which a run of a worker's own job is asked for."""
        return self._folder / f"{name}.run"

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _put(self, name: str, record: JobRecord) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_whole(self._path(name), (json.dumps(asdict(record), indent=2) + "\n").encode())
        except OSError as error:  # a full disk keeps no job from running
            log.warning("job %s: no record: %s", name, error)


def _now() -> str:
    return format_timestamp(time.time_ns() // 10**9 * 10**9)

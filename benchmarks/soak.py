"""Whether a worker stays as large as it is: memory, file descriptors, threads over a long run.

    python -m benchmarks.soak --minutes 45 [--rate 500] [--series 2000] [--json FILE]

Needs Kafka (`make kafka`, or KAFKA_BOOTSTRAP_SERVERS). One worker (`titans-stream run`, scores,
alerts, forecasts and snapshots on) watches hourly readings of daily waves; a message in a thousand
cannot be decoded, one in a thousand is older than its series, one in ten thousand is a spike. Every
`--visit` minutes a second worker joins the group for half a minute and leaves it again, so that
partitions go and come back. A series' memories grow to their size in its first readings, and so
does a worker: the trend is that of the second half, by the median of all slopes (Theil-Sen).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import tempfile
import threading
import time
from contextlib import closing
from itertools import combinations
from pathlib import Path
from statistics import median

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError

from tests.chaos.service import Service, WorkerProcess

PARTITIONS = 4
HOUR_MS = 3_600_000
SAMPLE_SECONDS = 15.0
VISIT_SECONDS = 30.0


class Load(threading.Thread):
    """Writes readings at an even rate until `stop`; the series take turns."""

    def __init__(self, bootstrap: str, topic: str, rate: float, series: int) -> None:
        super().__init__(daemon=True)
        self._producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=20)
        self._topic, self._rate, self._series = topic, rate, series
        self._random = random.Random(1)
        self._begin = int(time.time() * 1000) - 400 * 24 * HOUR_MS
        self.stop = threading.Event()
        self.sent = 0

    def run(self) -> None:
        begun = time.monotonic()
        while not self.stop.wait(0.05):
            due = int((time.monotonic() - begun) * self._rate)
            while self.sent < due:
                self._send(self.sent)
                self.sent += 1
        with closing(self._producer):
            self._producer.flush(10)

    def _send(self, count: int) -> None:
        number, hour = count % self._series, count // self._series
        draw = self._random.random()
        value = 10 + 3 * math.sin(math.tau * hour / 24) + self._random.gauss(0, 0.3)
        value += 40.0 if draw < 1e-4 else 0.0
        hour -= 30 if 1e-3 <= draw < 2e-3 else 0
        reading = {"s": f"s{number}", "v": value, "t": self._begin + hour * HOUR_MS}
        text = b"{" if 2e-3 <= draw < 3e-3 else json.dumps(reading).encode()
        try:
            self._producer.send(self._topic, text, partition=number % PARTITIONS)
        except KafkaError:
            return


class Progress:
    """How far the group has committed."""

    def __init__(self, bootstrap: str, group: str, topic: str) -> None:
        self._consumer = KafkaConsumer(
            bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False
        )
        self._names = [TopicPartition(topic, number) for number in range(PARTITIONS)]

    def committed(self) -> int:
        return sum(self._consumer.committed(name) or 0 for name in self._names)


def sample(process: WorkerProcess) -> dict[str, float]:
    """Resident MB, open files and threads of a process."""
    folder = Path("/proc") / str(process.process.pid)
    pages = int((folder / "statm").read_text().split()[1])
    return {
        "mb": pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
        "files": len(list((folder / "fd").iterdir())),
        "threads": len(list((folder / "task").iterdir())),
    }


def trend(rows: list[dict[str, float]], name: str) -> float:
    """Median slope of the second half, in units an hour."""
    half = rows[len(rows) // 2 :]
    slopes = [(b[name] - a[name]) / (b["s"] - a["s"]) for a, b in combinations(half, 2)]
    return 3600.0 * median(slopes) if slopes else math.nan


def soak(args: argparse.Namespace) -> dict[str, object]:
    """Run, print a row a minute, and give all samples."""
    folder = Path(args.folder or tempfile.mkdtemp(prefix="titans-soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    service = Service(folder, args.bootstrap)
    topics = service.topics
    service.more = {
        "forecast": {"horizon": 24},
        "output": {"forecasts": topics["forecasts"]},
        "state": {"snapshot_interval": "30s"},
    }
    with closing(KafkaAdminClient(bootstrap_servers=args.bootstrap)) as admin:
        admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in topics.values()])
    load = Load(args.bootstrap, topics["input"], args.rate, args.series)
    worker = service.start("worker")
    visitor: WorkerProcess | None = None
    progress = Progress(args.bootstrap, service.group, topics["input"])
    rows: list[dict[str, float]] = []
    begun = time.monotonic()
    next_visit = begun + 60 * args.visit
    print("minute   MB  files  threads  committed  behind", flush=True)
    try:
        load.start()
        while (now := time.monotonic()) < begun + 60 * args.minutes:
            assert worker.running(), f"the worker ended: {worker.log}"
            if visitor is None and now >= next_visit:
                visitor = service.start("visitor")
            elif visitor is not None and now >= next_visit + VISIT_SECONDS:
                visitor.end()
                visitor, next_visit = None, now + 60 * args.visit
            committed = progress.committed()
            row = sample(worker) | {"s": now - begun, "committed": committed, "sent": load.sent}
            rows.append(row)
            if len(rows) % 4 == 1:
                print(
                    f"{row['s'] / 60:6.1f} {row['mb']:5.0f} {row['files']:5.0f} "
                    f"{row['threads']:7.0f} {committed:11,} {load.sent - committed:7,}",
                    flush=True,
                )
            time.sleep(SAMPLE_SECONDS)
    finally:
        load.stop.set()
        for each in (visitor, worker):
            if each is not None:
                print(each.log.name, "exit code", each.end(seconds=60), flush=True)
    trends = {name: trend(rows, name) for name in ("mb", "files", "threads")}
    print("trend of the second half, an hour:", {k: round(v, 2) for k, v in trends.items()})
    return {"arguments": vars(args), "rows": rows, "trend": trends}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("--series", type=int, default=2_000)
    parser.add_argument("--visit", type=float, default=5.0, help="minutes between two visits")
    parser.add_argument(
        "--bootstrap", default=os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
    )
    parser.add_argument("--folder")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = soak(args)
    if args.json is not None:
        args.json.write_text(json.dumps(found, default=str, indent=1))


if __name__ == "__main__":
    main()

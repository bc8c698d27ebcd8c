"""How long output waits when a part fails, on a real Kafka of three nodes.

    python -m benchmarks.recovery failover [--folder DIR] [--rate 200] [--faults kill:group,...]

Three workers (`titans-stream run`, defaults but for `--set`) share 12 partitions of a topic that
gets `--rate` readings a second; scores are read back as a consumer of committed messages does.
Every fault is one row: seconds until the cluster could serve again (every partition has a leader
that is up), and until every partition's output had caught up with readings of after the fault.
"""

from __future__ import annotations

import argparse
import json
import signal
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from tests.chaos.cluster import Cluster
from tests.chaos.service import Service, WorkerProcess
from titans_stream.times import parse_timestamp

PARTITIONS = 12
SERIES = 4
"""Of each partition."""
WORKERS = 3


class Load(threading.Thread):
    """Writes readings at an even rate until `stop`; the event time is that of making them."""

    def __init__(self, cluster: Cluster, topic: str, rate: float) -> None:
        super().__init__(daemon=True)
        self._producer = KafkaProducer(
            bootstrap_servers=cluster.bootstrap, acks="all", request_timeout_ms=5_000
        )
        self._topic, self._pause = topic, 1.0 / rate
        self.stop = threading.Event()

    def run(self) -> None:
        count, due = 0, time.monotonic()
        while not self.stop.wait(max(0.0, due - time.monotonic())):
            partition = count % PARTITIONS
            series = f"p{partition}s{count // PARTITIONS % SERIES}"
            reading = {"s": series, "v": float(count % 97), "t": time.time_ns() // 1_000_000}
            try:
                self._producer.send(self._topic, json.dumps(reading).encode(), partition=partition)
            except KafkaError:
                continue
            count += 1
            due += self._pause
        self._producer.close(5)


class Watcher(threading.Thread):
    """Reads scores; `seen` is the newest event time, in milliseconds, of each input partition."""

    def __init__(self, cluster: Cluster, topic: str) -> None:
        super().__init__(daemon=True)
        self._servers, self._topic = cluster.bootstrap, topic
        self.stop = threading.Event()
        self.seen: dict[str, int] = {}

    def run(self) -> None:
        consumer = KafkaConsumer(
            bootstrap_servers=self._servers,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            request_timeout_ms=3_000,
            fetch_max_wait_ms=100,
            retry_backoff_ms=50,
            reconnect_backoff_max_ms=500,
        )
        with closing(consumer):
            consumer.assign([TopicPartition(self._topic, p) for p in range(3)])
            while not self.stop.is_set():
                for records in consumer.poll(100).values():
                    for record in records:
                        self._take(json.loads(record.value))

    def _take(self, frame: dict) -> None:
        for series, stamp in zip(frame["series"], frame["timestamp"], strict=True):
            partition = series.split("s")[0]
            made = parse_timestamp(stamp) // 1_000_000
            if made > self.seen.get(partition, 0):
                self.seen[partition] = made

    def caught_up(self, since_ms: int) -> bool:
        """Whether every partition has output of readings made since then."""
        return len(self.seen) == PARTITIONS and min(self.seen.values()) >= since_ms


def wait(condition, seconds: float) -> float:
    """Wait; when it was so."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return float("inf")
        time.sleep(0.02)
    return time.monotonic()


def failover(args: argparse.Namespace) -> None:
    """Measure each fault, and print a table."""
    folder = Path(args.folder or tempfile.mkdtemp(prefix="titans-recovery-"))
    folder.mkdir(parents=True, exist_ok=True)
    cluster = Cluster(folder / "kafka")
    more = {name: json.loads(value) for name, value in (pair.split("=", 1) for pair in args.set)}
    service = Service(folder, cluster.bootstrap, more=more)
    topics = service.topics
    cluster.create({topics[name]: (PARTITIONS if name == "input" else 3, {}) for name in topics})
    workers = {f"w{i}": service.start(f"w{i}") for i in range(WORKERS)}
    load = Load(cluster, topics["input"], args.rate)
    watcher = Watcher(cluster, topics["scores"])
    rows = []
    try:
        watcher.start()
        load.start()
        assert wait(lambda: watcher.caught_up(1), 240) < float("inf"), "no output"
        time.sleep(8)
        for fault in args.faults.split(","):
            rows.append(one(fault, cluster, service, workers, watcher))
            print(json.dumps(rows[-1]), flush=True)
    finally:
        load.stop.set()
        watcher.stop.set()
        for worker in workers.values():
            print(worker.log.name, worker.end(seconds=40), flush=True)
        cluster.stop()


def one(
    fault: str,
    cluster: Cluster,
    service: Service,
    workers: dict[str, WorkerProcess],
    watcher: Watcher,
) -> dict:
    """One fault, and the way back to a whole cluster and all workers."""
    names = list(service.topics.values())
    cluster.wait_whole(names)
    assert wait(lambda: watcher.caught_up(int(time.time() * 1000) - 2000), 120) < float("inf")
    kind, _, what = fault.partition(":")
    node = 0
    if kind in ("kill", "freeze"):
        node = {
            "group": lambda: cluster.coordinator(service.group),
        }.get(what, lambda: int(what))()
    since, begun = int(time.time() * 1000), time.monotonic()
    if kind == "kill":
        cluster.kill(node)
    elif kind == "freeze":
        cluster.freeze(node)
    else:
        workers[what].send(signal.SIGKILL if kind == "worker" else signal.SIGTERM)
    able = begun
    if node:
        able = cluster.wait_able(names)
    # readings made once the cluster is able, or at once
    since = int(time.time() * 1000)
    back = wait(lambda: watcher.caught_up(since), 200)
    row = {"fault": fault, "node": node, "able": round(able - begun, 1)}
    row["output"] = round(back - begun, 1)
    row["after_able"] = round(back - able, 1)
    row["ended"] = {n: w.process.poll() for n, w in workers.items() if not w.running()}
    if kind == "kill":
        cluster.revive(node)
    elif kind == "freeze":
        cluster.thaw(node)
    for name, worker in list(workers.items()):
        if not worker.running():
            workers[name] = service.start(name)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("failover")
    command.add_argument("--folder")
    command.add_argument("--rate", type=float, default=200.0)
    command.add_argument(
        "--faults", default="kill:group,kill:1,kill:2,kill:3,freeze:group,worker:w0"
    )
    command.add_argument("--set", action="append", default=[], help="section={json}")
    command.set_defaults(run=failover)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()

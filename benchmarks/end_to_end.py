"""Readings per second from topic to alerts on a real Kafka, by stage, beside a peer.

    python -m benchmarks.end_to_end --bootstrap 127.0.0.1:9092 [--readings 300000] [--json FILE]
        [--peer-python .venv-bench/bin/python] [--per-message 1000]

Ours: the worker (exactly-once, alerts only) over 1,000 series in 4 partitions. Peer, on the same
topic: Quix Streams with River half-space trees per series (10 trees, height 6), exactly-once,
alerts only. The peer runs in an environment of its own (`make .venv-bench`), because its client
library pins other versions. Both start with all readings in the topic and end when the last
offset is committed; start-up is not counted. Every figure is the median of `--runs`.
`--per-message`: arrays of so many readings, of as many series, in a message; ours alone.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

import numpy as np
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

PARTITIONS = 4
PATIENCE = 240.0
"""Seconds after which a run has failed, and the one that failed is named."""
STAGES = ("receive", "decode", "engine", "encode", "commit", "snapshot")


def new_topic(tag: str) -> NewTopic:
    """A topic that keeps readings of whatever time."""
    return NewTopic(f"bench-{tag}", PARTITIONS, 1, topic_configs={"retention.ms": "-1"})


def make_topic(servers: str, readings: int, series: int) -> str:
    """A topic of JSON readings: noise on daily waves, a spike now and then."""
    tag = uuid.uuid4().hex[:8]
    admin = KafkaAdminClient(bootstrap_servers=servers)
    admin.create_topics([new_topic(tag)])
    admin.close()
    rng = np.random.default_rng(0)
    producer = KafkaProducer(bootstrap_servers=servers, linger_ms=50, batch_size=200_000, acks=1)
    phase = rng.random(series) * 6.28
    start = 1_700_000_000_000
    sent = 0
    while sent < readings:
        k = sent // series
        values = 20 + 3 * np.sin(k / 45 + phase) + rng.standard_normal(series)
        values[rng.random(series) < 2e-4] += 30
        stamp = start + k * 60_000
        for s, value in enumerate(values[: readings - sent].tolist()):
            name = f"machine-{s}"
            text = f'{{"site":"plant-1","machine":"{name}","ts":{stamp},"value":{value:.5f}}}'
            producer.send(f"bench-{tag}", text.encode(), key=name.encode(), timestamp_ms=stamp)
        sent += min(series, readings - sent)
    producer.flush()
    producer.close()
    return f"bench-{tag}"


def make_array_topic(servers: str, readings: int, series: int, per_message: int) -> str:
    """A topic of arrays: a gateway's message has the next reading of each of its series."""
    tag = uuid.uuid4().hex[:8]
    admin = KafkaAdminClient(bootstrap_servers=servers)
    admin.create_topics([new_topic(tag)])
    admin.close()
    rng = np.random.default_rng(0)
    producer = KafkaProducer(
        bootstrap_servers=servers, linger_ms=50, batch_size=900_000, acks=1,
        max_request_size=4_000_000,
    )  # fmt: skip
    phase = rng.random(series) * 6.28
    gateways = -(-series // per_message)
    for k in range(readings // series):
        values = 20 + 3 * np.sin(k / 45 + phase) + rng.standard_normal(series)
        stamp = 1_700_000_000_000 + k * 60_000
        for gateway in range(gateways):
            first = gateway * per_message
            items = ",".join(
                f'{{"sensor":"s{i}","t":{stamp},"v":{value:.5f}}}'
                for i, value in enumerate(values[first : first + per_message].tolist())
            )
            text = f'{{"gateway":"gw-{gateway}","readings":[{items}]}}'
            producer.send(
                f"bench-{tag}", text.encode(), partition=gateway % PARTITIONS, timestamp_ms=stamp
            )
    producer.flush()
    producer.close()
    return f"bench-{tag}"


def make_outputs(servers: str, tag: str) -> None:
    """Topics for alerts and dead letters."""
    admin = KafkaAdminClient(bootstrap_servers=servers)
    admin.create_topics([NewTopic(f"{tag}-alerts", 1, 1), NewTopic(f"{tag}-dead", 1, 1)])
    admin.close()


def count(servers: str, topic: str) -> int:
    """Messages in a topic, transaction markers included."""
    consumer = KafkaConsumer(bootstrap_servers=servers)
    parts = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic) or ()]
    total = sum(consumer.end_offsets(parts).values())
    consumer.close()
    return total


def run_ours(servers: str, topic: str, readings: int, per_message: int = 1) -> dict[str, float]:
    """The worker in this process; seconds by stage as it counts them itself."""
    from titans_stream.commands.memories import connector_engine, connector_snapshots
    from titans_stream.config import load_connector
    from titans_stream.engine.build import compile_kernels
    from titans_stream.lifecycle.loading import load_model
    from titans_stream.stream.kafka.client import KafkaClients
    from titans_stream.stream.settings import WorkerSettings
    from titans_stream.stream.worker import Worker

    tag = f"ours-{uuid.uuid4().hex[:8]}"
    fields = "value: value, timestamp: ts, series: '{site}/{machine}'"
    if per_message > 1:
        fields = "items: readings, value: v, timestamp: t, series: '{gateway}/{sensor}'"
    make_outputs(servers, tag)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "connector.yaml"
        path.write_text(
            f"name: {tag}\nkafka: {{bootstrap_servers: '{servers}'}}\n"
            f"input: {{topic: {topic}, start: earliest, {fields}}}\n"
            f"output: {{alerts: {tag}-alerts, dead_letter: {tag}-dead}}\n"
            f"state: {{path: {folder}/state}}\n",
            encoding="utf-8",
        )
        connector = load_connector(path)
        model = load_model(connector.model)
        engine = connector_engine(connector, model)
        compile_kernels(model)
        stop = threading.Event()
        worker = Worker(
            KafkaClients(connector.kafka, stop=stop),
            engine,
            connector_snapshots(connector, model),
            WorkerSettings(connector.input, connector.output, connector.delivery, connector.state),
            model.ref,
            stop=stop,
        )
        thread = threading.Thread(target=worker.run, daemon=True)
        thread.start()
        patience = time.perf_counter() + PATIENCE
        while worker.metrics.counts["readings"] == 0 and thread.is_alive():
            time.sleep(0.005)
            if time.perf_counter() > patience:
                raise TimeoutError(f"the worker took nothing in: {worker.metrics.stats()}")
        begun, cpu = time.perf_counter(), time.process_time()
        first = worker.metrics.counts["readings"]
        # the end is the last commit: none follows within a second of idling
        commits, last, busy = 0, begun, 0.0
        while thread.is_alive():
            time.sleep(0.005)
            if worker.metrics.counts["commits"] != commits:
                commits = worker.metrics.counts["commits"]
                last, busy = time.perf_counter(), time.process_time() - cpu
            done = worker.metrics.counts["readings"] >= readings
            if done and time.perf_counter() - last > 1.0:
                break
            if time.perf_counter() - begun > PATIENCE:
                stop.set()
                raise TimeoutError(f"the worker did not finish: {worker.metrics.stats()}")
        seconds = last - begun
        stages = dict(worker.metrics.seconds)
        stop.set()
        thread.join()
    done = readings - first
    figures = {
        "readings_per_s": done / seconds,
        "cpu_us_per_reading": busy / done * 1e6,
        "readings_per_cpu_s": done / busy,
        "alert_messages": float(worker.metrics.counts["alerts"]),
    }
    return figures | {f"{name}_us": stages[name] / readings * 1e6 for name in STAGES}


def run_peer(python: str, servers: str, topic: str, readings: int) -> dict[str, float]:
    """The peer in its own environment; it prints its figures as JSON."""
    tag = f"peer-{uuid.uuid4().hex[:8]}"
    make_outputs(servers, tag)
    script = Path(__file__).with_name("peer_quix.py")
    done = subprocess.run(
        [python, str(script), servers, topic, f"{tag}-alerts", str(readings)],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def table(results: dict[str, dict[str, float]]) -> str:
    """One column a system."""
    names = list(results)
    rows = list(dict.fromkeys(key for figures in results.values() for key in figures))
    lines = [f"{'':22}" + "".join(f"{name:>16}" for name in names)]
    for row in rows:
        cells = [results[name].get(row) for name in names]
        lines.append(
            f"{row:22}" + "".join(f"{'' if c is None else f'{c:,.1f}':>16}" for c in cells)
        )
    return "\n".join(lines)


def main() -> int:
    """Parse arguments, run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", default=os.environ.get("KAFKA_BOOTSTRAP_SERVERS"))
    parser.add_argument("--readings", type=int, default=300_000)
    parser.add_argument("--series", type=int, default=1_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--per-message", type=int, default=1)
    parser.add_argument("--peer-python", help="Python with quixstreams and river installed")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if not args.bootstrap:
        parser.error("--bootstrap or KAFKA_BOOTSTRAP_SERVERS is needed (make kafka)")
    if args.per_message > 1:
        args.readings -= args.readings % args.series
        topic = make_array_topic(args.bootstrap, args.readings, args.series, args.per_message)
    else:
        topic = make_topic(args.bootstrap, args.readings, args.series)
    runs: dict[str, list[dict[str, float]]] = {"titans-stream": []}
    for _ in range(args.runs):
        runs["titans-stream"].append(
            run_ours(args.bootstrap, topic, args.readings, args.per_message)
        )
        if args.peer_python:
            runs.setdefault("quix+river", []).append(
                run_peer(args.peer_python, args.bootstrap, topic, args.readings)
            )
    results = {
        name: {key: statistics.median(run[key] for run in each) for key in each[0]}
        for name, each in runs.items()
    }
    print(f"{args.readings:,} readings, {args.series:,} series, medians of {args.runs} runs")
    print(table(results))
    if "quix+river" in results:
        ratio = results["titans-stream"]["readings_per_s"] / results["quix+river"]["readings_per_s"]
        print(f"titans-stream / quix+river: {ratio:.2f}")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

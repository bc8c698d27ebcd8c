"""A drill: the same readings once through a service that faults strike, and once undisturbed.

Readings come in phases. Between two, all is read and committed, the workers end, and settings of
the connector change: both services change at the same offsets. While a phase's readings are
written, seeded faults strike the one service. Outputs must be the same in the end.

    python -m tests.chaos.drill [--seed N] [--faults 40] [--series 500] [--readings 500]
        [--folder DIR] [--mode exactly_once]
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from tests.chaos.cluster import Cluster
from tests.chaos.faults import BROKER_FAULTS, SESSION_SECONDS, WORKER_FAULTS, Fault, Scene
from tests.chaos.outputs import collect, compare
from tests.chaos.service import Service

FAST: dict[str, Any] = {
    "consumer": {
        "session_timeout_ms": int(SESSION_SECONDS * 1000),
        "heartbeat_interval_ms": 1_000,
    }
}
CALM_SECONDS = 5.0
_START = 1_772_323_200_000  # 2026-03-01


@dataclass
class Plan:
    """What is read, and what is done to who reads it."""

    seed: int = 1
    series: int = 500
    readings: int = 500
    partitions: int = 12
    workers: int = 3
    faults: int = 40
    pause: tuple[float, float] = (5.0, 12.0)
    """Seconds between two faults."""
    step_seconds: float = 0.8
    """Between two readings of a series."""
    kinds: Sequence[Fault] = (*WORKER_FAULTS, *BROKER_FAULTS)
    changes: Sequence[dict[str, dict[str, Any]]] = (
        {},
        {"alerts": {"false_alarms_per_series_per_day": 5.0}},
        {"input": {"timezone": "Europe/Vienna"}},
    )
    """By phase, the sections that change with it."""
    mode: str = "exactly_once"
    forecasts: bool = True


@dataclass
class Report:
    """What came of a drill."""

    seed: int
    faults: list[tuple[str, float]] = field(default_factory=list)
    """Name, and seconds until all partitions went on."""
    seconds: float = 0.0
    ended: dict[str, list[int]] = field(default_factory=dict)
    """Exit codes of workers that ended by themselves, none of which is expected."""
    counts: dict[str, int] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Numbers for people."""
        times = [seconds for _, seconds in self.faults] or [0.0]
        names = [name for name, _ in self.faults]
        return {
            "seed": self.seed,
            "faults": {name: names.count(name) for name in sorted(set(names))},
            "count": len(names),
            "recovery_median_s": round(statistics.median(times), 1),
            "recovery_max_s": round(max(times), 1),
            "seconds": round(self.seconds),
            "ended": self.ended,
            **self.counts,
        }


class Writer(threading.Thread):
    """Appends the readings of a phase at an even pace, whatever happens meanwhile."""

    def __init__(self, drill: Drill, steps: Sequence[int]) -> None:
        super().__init__(daemon=True)
        self._drill, self._steps = drill, steps
        self.stop, self.hurry = threading.Event(), threading.Event()
        self.error: Exception | None = None

    def run(self) -> None:
        at = 0
        while at < len(self._steps) and not self.stop.is_set():
            count = 25 if self.hurry.is_set() else 2
            try:
                self._drill.write(self._steps[at : at + count])
            except (AssertionError, KafkaError, OSError) as error:
                self.error = error
                return
            at += count
            self.hurry.wait(self._drill.plan.step_seconds * count)


class Drill:
    """Runs a plan on a cluster; the topics are made anew."""

    def __init__(self, plan: Plan, bootstrap: str, folder: Path, cluster: Cluster | None) -> None:
        self.plan = plan
        self.cluster = cluster
        self.bootstrap = bootstrap
        self.report = Report(plan.seed)
        self._random = random.Random(plan.seed)
        self._numbers = np.random.default_rng(plan.seed)
        more: dict[str, dict[str, Any]] = {
            "kafka": FAST,
            "delivery": {"mode": plan.mode, "commit_interval": "200ms"},
            "state": {"snapshot_interval": "3s"},
            # silence is told by the wall clock where a topic is quiet, as it is between phases
            "alerts": {"false_alarms_per_series_per_day": 20.0, "no_data_after": "never"},
        }
        if plan.forecasts:
            more["forecast"] = {"steps": 4, "every": 50}
        self.struck = self._service(folder / "struck", more)
        quiet = more | {"delivery": more["delivery"] | {"mode": "exactly_once"}}
        self.calm = self._service(folder / "calm", quiet)
        self.topic = self.struck.topics["input"]
        self._written = np.zeros(plan.partitions, np.int64)
        self._phases = np.linspace(0, plan.readings, len(plan.changes) + 1).astype(int)
        self._values = [self._course(i) for i in range(plan.series)]

    def _service(self, folder: Path, more: dict[str, dict[str, Any]]) -> Service:
        folder.mkdir(parents=True)
        service = Service(folder, self.bootstrap, more=dict(more))
        if "forecast" in more:
            service.more["output"] = {"forecasts": service.topics["forecasts"]}
        return service

    def _course(self, series: int) -> np.ndarray:
        """Values of a series: a wave, noise, and some hours of another level."""
        n = self.plan.readings
        values = 20 + 3 * np.sin(np.arange(n) / (5 + series % 17)) + self._numbers.normal(size=n)
        for _ in range(3):
            at = int(self._numbers.integers(n // 8, n))
            values[at : at + 6] += 25
        return values.round(4)

    def run(self) -> Report:
        """Strike, compare, report."""
        begun = time.monotonic()
        create = self.cluster.create if self.cluster else _create(self.bootstrap)
        inputs = {self.topic: (self.plan.partitions, {"retention.ms": "-1"})}
        outputs = {
            topic: (3, {})
            for service in (self.struck, self.calm)
            for name, topic in service.topics.items()
            if name != "input"
        }
        create(inputs | outputs)
        for phase, changed in enumerate(self.plan.changes):
            for service in (self.struck, self.calm):
                service.more = {
                    **service.more,
                    **{s: service.more.get(s, {}) | values for s, values in changed.items()},
                }
                service.more["input"] = service.more.get("input", {}) | {"topic": self.topic}
            self._struck_phase(phase)
            self._calm_phase(phase)
        wanted = collect(self.bootstrap, self.calm.topics)
        found = collect(self.bootstrap, self.struck.topics)
        difference = compare(wanted, found)
        self.report.counts = difference.counts
        self.report.seconds = time.monotonic() - begun
        return self.report

    # --- the disturbed service

    def _struck_phase(self, phase: int) -> None:
        plan = self.plan
        scene = Scene(self.struck, self.cluster, self._random)
        for i in range(plan.workers):
            scene.workers[f"w{i}"] = self.struck.start(f"w{i}")
        parts = len(plan.changes)
        faults = plan.faults * (phase + 1) // parts - plan.faults * phase // parts
        steps = list(range(self._phases[phase], self._phases[phase + 1]))
        writer = Writer(self, steps)
        writer.start()
        try:
            self._wait(self.struck, np.ones(plan.partitions), 240, scene)
            for _ in range(faults):
                self._strike(scene)
                self._watch(scene, self._random.uniform(*plan.pause))
            scene.undo_due(everything=True)
            writer.hurry.set()
            while writer.is_alive():
                self._watch(scene, 0.5)
        except BaseException:
            for worker in scene.workers.values():
                worker.send(signal.SIGKILL)
            raise
        finally:
            writer.stop.set()
        if writer.error is not None:
            raise writer.error
        self._wait(self.struck, self._written.copy(), 300, scene)
        for worker in scene.workers.values():
            worker.end()

    def _strike(self, scene: Scene) -> None:
        kinds = [k for k in self.plan.kinds if self.cluster or k not in BROKER_FAULTS]
        kind = self._random.choice(kinds)
        begun = time.monotonic()
        kind(scene)
        scene.undo_due()
        self._restart(scene)
        # recovered: readings that were written after the fault are committed
        before, patience = self._written.sum(), time.monotonic() + 60
        while self._written.sum() == before and time.monotonic() < patience:
            self._watch(scene, 0.1)
        self._wait(self.struck, self._written.copy(), 300, scene)
        self.report.faults.append((kind.__name__, time.monotonic() - begun))
        print(f"{len(self.report.faults):3d} {kind.__name__:30s} {time.monotonic() - begun:6.1f} s",
              flush=True)  # fmt: skip

    def _watch(self, scene: Scene, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            scene.undo_due()
            self._restart(scene)
            time.sleep(0.2)

    def _restart(self, scene: Scene) -> None:
        """What an operator's supervisor does; ends that no fault explains are noted."""
        for name, worker in list(scene.workers.items()):
            if not worker.running():
                code = worker.process.returncode
                assert code != 2, worker.log.read_text()[-500:]
                if code not in (0, -9, -15):  # -15: SIGTERM before the worker had begun
                    self.report.ended.setdefault(name, []).append(code)
                if name.startswith("w"):
                    scene.workers[name] = self.struck.start(name)

    # --- the undisturbed one

    def _calm_phase(self, phase: int) -> None:
        worker = self.calm.start(f"calm{phase}")
        try:
            self._wait(self.calm, self._written.copy(), 600, None)
        finally:
            code = worker.end()
        assert code == 0, worker.log.read_text()[-2000:]

    # --- Kafka

    def write(self, steps: Sequence[int]) -> None:
        """Append readings; where a send is not answered, what the log lacks is sent again."""
        plan = self.plan
        waiting: list[list[bytes]] = [[] for _ in range(plan.partitions)]
        for k in steps:
            for s in range(plan.series):
                reading = {
                    "s": f"s{s}",
                    "v": float(self._values[s][k]),
                    "t": _START + int(k) * 60_000,
                }
                waiting[s % plan.partitions].append(json.dumps(reading).encode())
        first = self._written.copy()
        self._written += np.array([len(each) for each in waiting])
        deadline = time.monotonic() + 300
        while True:
            try:
                ends = self._ends()
                if (ends == self._written).all():
                    return
                assert (ends <= self._written).all(), "written twice"
                self._send(
                    [each[end - at :] for each, end, at in zip(waiting, ends, first, strict=True)]
                )
            except (KafkaError, OSError) as error:
                assert time.monotonic() < deadline, error
                time.sleep(1.0)

    def _send(self, waiting: Sequence[Sequence[bytes]]) -> None:
        producer = KafkaProducer(
            bootstrap_servers=self.bootstrap, acks="all", linger_ms=20, max_block_ms=10_000,
            request_timeout_ms=10_000, delivery_timeout_ms=20_000,
        )  # fmt: skip
        try:
            sent = [
                producer.send(self.topic, value, partition=partition)
                for partition, values in enumerate(waiting)
                for value in values
            ]
            producer.flush(30)
            for each in sent:
                each.get(1)
        finally:
            producer._sender.force_close()  # what is not sent by now is not to come later

    def _ends(self) -> np.ndarray:
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, request_timeout_ms=5_000)
        with closing(consumer):
            names = [TopicPartition(self.topic, p) for p in range(self.plan.partitions)]
            found = consumer.end_offsets(names, timeout_ms=5_000)
        return np.array([found[name] for name in names], np.int64)

    def _wait(
        self, service: Service, wanted: np.ndarray, seconds: float, scene: Scene | None
    ) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                committed = self._committed(service.group)
            except (KafkaError, OSError):
                committed = np.zeros_like(wanted)
            if (committed >= wanted).all():
                return
            assert time.monotonic() < deadline, f"{committed.tolist()} of {wanted.tolist()}"
            if scene is not None:
                scene.undo_due()
                self._restart(scene)
            time.sleep(0.2)

    def _committed(self, group: str) -> np.ndarray:
        consumer = KafkaConsumer(
            bootstrap_servers=self.bootstrap, group_id=group, enable_auto_commit=False,
            isolation_level="read_committed", request_timeout_ms=5_000,
        )  # fmt: skip
        with closing(consumer):
            found = [
                consumer.committed(TopicPartition(self.topic, p), timeout_ms=5_000)
                for p in range(self.plan.partitions)
            ]
        return np.array([offset or 0 for offset in found], np.int64)


def _create(bootstrap: str) -> Any:
    from kafka import KafkaAdminClient
    from kafka.admin import NewTopic

    def create(topics: dict[str, tuple[int, dict[str, str]]]) -> None:
        with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
            made = [NewTopic(n, count, 1, topic_configs=c) for n, (count, c) in topics.items()]
            admin.create_topics(made)
            admin.wait_for_topics(list(topics))

    return create


def main() -> None:
    """Run the long drill and print its report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=40)
    parser.add_argument("--series", type=int, default=500)
    parser.add_argument("--readings", type=int, default=500)
    parser.add_argument("--mode", default="exactly_once")
    parser.add_argument("--pause", type=float, nargs=2, default=(5.0, 12.0))
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="titans-chaos-"))
    plan = Plan(
        seed=args.seed, faults=args.faults, series=args.series, readings=args.readings,
        mode=args.mode, pause=tuple(args.pause),
    )  # fmt: skip
    cluster = Cluster(folder / "kafka")
    try:
        report = Drill(plan, cluster.bootstrap, folder / f"run-{args.seed}", cluster).run()
        print(json.dumps(report.summary()))
    finally:
        cluster.stop()


if __name__ == "__main__":
    main()

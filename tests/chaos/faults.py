"""The faults of a drill: each strikes, and is over some seconds later."""

from __future__ import annotations

import random
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.cluster import TRANSACTIONS, Cluster
from tests.chaos.service import Service, WorkerProcess

SESSION_SECONDS = 6.0


@dataclass
class Scene:
    """What faults strike. Workers that end are started again by whoever runs the drill."""

    service: Service
    cluster: Cluster | None
    random: random.Random
    workers: dict[str, WorkerProcess] = field(default_factory=dict)
    later: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    """What is to be undone, and when (`time.monotonic`)."""

    def any_worker(self) -> tuple[str, WorkerProcess] | None:
        """One that runs and is not frozen."""
        names = [n for n, w in sorted(self.workers.items()) if w.running() and not w.frozen]
        return None if not names else (name := self.random.choice(names), self.workers[name])

    def after(self, seconds: float, undo: Callable[[], None]) -> None:
        """Undo something later."""
        self.later.append((time.monotonic() + seconds, undo))

    def undo_due(self, everything: bool = False) -> None:
        """Undo what is due."""
        now = time.monotonic()
        due = [each for each in self.later if everything or each[0] <= now]
        self.later = [each for each in self.later if each not in due]
        for _, undo in due:
            undo()

    def snapshots(self) -> list[Path]:
        """All files of the state's folder."""
        folder = Path(self.service.connector()["state"]["path"])
        return sorted(each for each in folder.rglob("*") if each.is_file())


Fault = Callable[[Scene], Any]


def kill_worker(scene: Scene) -> None:
    """kill -9 of a worker."""
    found = scene.any_worker()
    if found:
        found[1].send(signal.SIGKILL)


def end_worker(scene: Scene) -> None:
    """SIGTERM to a worker."""
    found = scene.any_worker()
    if found:
        found[1].send(signal.SIGTERM)


def kill_two(scene: Scene) -> None:
    """kill -9 of two workers at once, which leaves one with a replay of their partitions."""
    kill_worker(scene)
    kill_worker(scene)


def freeze_worker(scene: Scene) -> None:
    """SIGSTOP beyond the session: a zombie that wakes up and wants to commit."""
    found = scene.any_worker()
    if found:
        worker = found[1]
        worker.send(signal.SIGSTOP)
        scene.after(SESSION_SECONDS + 3.0, lambda: worker.running() and worker.send(signal.SIGCONT))


def hiccup(scene: Scene) -> None:
    """SIGSTOP shorter than the session, in the midst of whatever it is."""
    found = scene.any_worker()
    if found:
        worker = found[1]
        worker.send(signal.SIGSTOP)
        scene.after(2.0, lambda: worker.running() and worker.send(signal.SIGCONT))


def join_and_leave(scene: Scene) -> None:
    """One more worker joins, and leaves again while replays may run."""
    name = f"guest{len(scene.workers)}"
    guest = scene.service.start(name)
    scene.workers[name] = guest

    def leave() -> None:
        scene.workers.pop(name)
        guest.end(scene.random.choice([signal.SIGTERM, signal.SIGKILL]))

    scene.after(scene.random.uniform(4.0, 9.0), leave)


def full_disk(scene: Scene) -> None:
    """Files of a worker may not grow beyond some bytes for a while: snapshots fail."""
    found = scene.any_worker()
    if not found:
        return
    worker = found[1]
    limits = resource.prlimit(worker.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(worker.process.pid, resource.RLIMIT_FSIZE, (2_000, limits[1]))

    def empty() -> None:
        if worker.running():
            resource.prlimit(worker.process.pid, resource.RLIMIT_FSIZE, limits)

    scene.after(5.0, empty)


def damage_snapshots(scene: Scene) -> None:
    """Some files of the state are cut or flipped, and a worker dies that will need them."""
    files = scene.snapshots()
    for path in scene.random.sample(files, min(len(files), 1 + len(files) // 8)):
        try:
            content = bytearray(path.read_bytes())
        except OSError:
            continue
        if scene.random.random() < 0.5 or not content:
            content = content[: len(content) // 2]
        else:
            content[scene.random.randrange(len(content))] ^= 0x40
        beside = path.with_name(path.name + ".damaged")
        beside.write_bytes(bytes(content))
        beside.replace(path)
    kill_worker(scene)


def kill_broker(scene: Scene) -> None:
    """kill -9 of a broker, which comes back."""
    _broker(scene, lambda cluster: scene.random.choice(sorted(cluster.ports)))


def kill_coordinator(scene: Scene) -> None:
    """The same of the group's coordinator, in the midst of transactions."""
    _broker(scene, lambda cluster: cluster.coordinator(scene.service.group))


def kill_transaction_coordinator(scene: Scene) -> None:
    """The same of the leader of some transactions."""
    name = str(scene.random.random())
    _broker(scene, lambda cluster: cluster.coordinator(name, TRANSACTIONS))


def _broker(scene: Scene, choose: Callable[[Cluster], int]) -> None:
    cluster = scene.cluster
    if cluster is None or not cluster.whole(scene.service.topics.values()):
        # with min ISR 2 of 3, one more node away would be an outage, not a fail-over
        kill_worker(scene)
        return
    node = choose(cluster)
    cluster.kill(node)
    scene.after(scene.random.uniform(4.0, 14.0), lambda: cluster.revive(node))


WORKER_FAULTS: tuple[Fault, ...] = (
    kill_worker, end_worker, kill_two, freeze_worker, hiccup, join_and_leave, full_disk,
    damage_snapshots,
)  # fmt: skip
BROKER_FAULTS: tuple[Fault, ...] = (kill_broker, kill_coordinator, kill_transaction_coordinator)

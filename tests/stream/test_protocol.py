"""The worker's protocol, from assigned over replaying and live to revoked or lost.

Hypothesis drives up to three real workers (loop, assignment, output, snapshots) over a model of
Kafka, one turn at a time: workers come, go, are killed, or stand still until the group leaves them
out; commits are lost on the way there or on the way back; snapshots fail, are damaged or lost.
What is committed must be at each moment a beginning of what one engine that is never stopped
writes, and all of it in the end.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, patch

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.stream.kafka_model import Clock, Cluster, ModelClients
from tests.stream_harness import ExactEngine, Kafka, Message, Setup, brief, one_reading
from titans_stream.ops.snapshot_manifest import NAME, Manifest
from titans_stream.stream import loop as loop_module
from titans_stream.stream import snapshots as snapshots_module
from titans_stream.stream import worker as worker_module
from titans_stream.stream.recovery import Saved

PARTITIONS = 3
PICK = st.integers(0, 2)
THEN = st.integers(0, 6)
THEN_NOTHING = 0


class AtOnce(threading.Event):
    """Waits for nothing."""

    def wait(self, timeout: float | None = None) -> bool:
        return self.is_set()


class NoThread:
    """Writes snapshots while the loop waits."""

    def submit(self, write: Callable[[], Saved]) -> Future[Saved]:
        done: Future[Saved] = Future()
        try:
            done.set_result(write())
        except OSError as error:
            done.set_exception(error)
        return done


class Member:
    """A worker that does one turn when it is told to."""

    def __init__(self, cluster: Cluster, number: int, setup: Setup) -> None:
        self.number = number
        self.clients = ModelClients(cluster, number)
        self.engine = ExactEngine(setup.kafka.input)
        self.worker = setup.worker(self.engine, self.clients)
        self.worker._signals = loop_module.Signals(AtOnce())
        self.stack = ExitStack()
        self.loop = self.worker._connect(self.stack)
        self.loop._topics = self.worker._settings.input.subscription

    def turn(self) -> None:
        self.loop._turn()

    def end(self) -> None:
        self.worker.stop()
        self.loop.run(self.worker._settings.input.subscription)
        self.stack.close()


class Protocol(RuleBasedStateMachine):
    """Workers of one group over one model of Kafka."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="titans-protocol-"))
        self.kafka = Kafka("model:0", prefix="t")
        self.setup = Setup(self.kafka, self.folder, state={"snapshot_interval": "2s"})
        self.cluster = Cluster(self.kafka.input, PARTITIONS)
        self.exact = ExactEngine(self.kafka.input)
        self.due: dict[str, list[Any]] = {}
        self.members: dict[int, Member] = {}
        self.started = 0
        self.damaged: set[Path] = set()
        self.clock = Clock()
        self.patches = ExitStack()
        self.patches.enter_context(patch.object(loop_module, "time", self.clock))
        self.patches.enter_context(patch.object(snapshots_module, "time", self.clock))
        self.patches.enter_context(patch.object(snapshots_module, "_Writer", NoThread))
        self.patches.enter_context(patch.object(worker_module, "SilenceThread", MagicMock()))

    def member(self, pick: int) -> Member:
        return self.members[sorted(self.members)[pick % len(self.members)]]

    @initialize()
    def begin(self) -> None:
        self.start(THEN_NOTHING)

    # --- what the world does

    def go_on(self, turns: int) -> None:
        """Readings come, and every worker does a turn, so many times."""
        for _ in range(turns):
            for partition in range(PARTITIONS):
                self.write(partition)
            self.all_turn()

    def all_turn(self, but: int = 0) -> None:
        for member in self.members.values():
            if member.number != but:
                member.turn()
        self.clock.now += 0.08

    def write(self, partition: int) -> None:
        at = len(self.cluster.logs[partition])
        value = 200.0 + at if at % 10 >= 7 else 1.0 + at / 8
        message = Message(f"p{partition}s{at % 3}", value, partition, 1_000 + at)
        for alert in one_reading(self.exact, message, at):
            self.due.setdefault(alert.series_id, []).append(brief(alert))
        self.cluster.write(partition, json.dumps({"s": message.series, "v": value}).encode())

    @rule(turns=st.integers(1, 8))
    def time_goes_on(self, turns: int) -> None:
        self.go_on(turns)

    @rule(then=THEN)
    def a_pause(self, then: int) -> None:
        self.clock.now += 3.0
        self.go_on(then)

    @precondition(lambda self: self.members)
    @rule(pick=PICK, turns=st.integers(1, 4), then=THEN)
    def one_goes_on_alone(self, pick: int, turns: int, then: int) -> None:
        for _ in range(turns):
            self.member(pick).turn()
        self.go_on(then)

    # --- what happens to workers

    @precondition(lambda self: len(self.members) < 3)
    @rule(then=THEN)
    def start(self, then: int) -> None:
        self.started += 1
        self.members[self.started] = Member(self.cluster, self.started, self.setup)
        self.go_on(then)

    @precondition(lambda self: self.members)
    @rule(pick=PICK, then=THEN)
    def stop(self, pick: int, then: int) -> None:
        member = self.member(pick)
        del self.members[member.number]
        member.end()
        self.go_on(then)

    @precondition(lambda self: self.members)
    @rule(pick=PICK, until=THEN, then=THEN)
    def kill(self, pick: int, until: int, then: int) -> None:
        """It is gone; the group learns of it when its session ends."""
        member = self.member(pick)
        del self.members[member.number]
        member.stack.pop_all()
        self.go_on(until)
        self.cluster.expire(member.number)
        self.go_on(then)

    @precondition(lambda self: self.members)
    @rule(pick=PICK, turns=THEN, then=THEN)
    def stand_still(self, pick: int, turns: int, then: int) -> None:
        """A worker is left out by the group, which goes on, and comes back later."""
        number = self.member(pick).number
        self.cluster.expire(number)
        for _ in range(turns):
            self.all_turn(but=number)
        self.go_on(then)

    @precondition(lambda self: len(self.members) > 1)
    @rule(turns=THEN, then=THEN)
    def stand_still_in_a_commit(self, turns: int, then: int) -> None:
        """The same to whoever commits next, just before the broker looks at it."""

        def meanwhile(number: int) -> None:
            self.cluster.expire(number)
            for _ in range(turns):
                self.all_turn(but=number)

        self.cluster.meanwhile = meanwhile
        self.go_on(3)
        self.cluster.meanwhile = None
        self.go_on(then)

    # --- what fails

    @rule(count=st.integers(1, 2), then=THEN)
    def commits_do_not_arrive(self, count: int, then: int) -> None:
        self.cluster.lost_requests = count
        self.go_on(then)

    @rule(count=st.integers(1, 2), then=THEN)
    def answers_of_commits_are_lost(self, count: int, then: int) -> None:
        self.cluster.lost_answers = count
        self.go_on(then)

    @rule(partition=PICK, keep=st.none() | st.integers(0, 200), then=THEN)
    def the_newest_snapshot_is_damaged_or_lost(
        self, partition: int, keep: int | None, then: int
    ) -> None:
        """Where an older one is left: without any, open episodes end without a word."""
        path = self.one_of_several(partition)
        if path is not None:
            if keep is None:
                path.unlink()
            else:
                path.write_bytes(path.read_bytes()[:keep])
        self.go_on(then)

    def one_of_several(self, partition: int) -> Path | None:
        """The newest snapshot of a partition, where a sound one is left that does not need it."""
        folder = self.folder / self.setup.group_id / self.kafka.input / str(partition)
        if not (folder / NAME).is_file():
            return None
        manifest = Manifest.decode((folder / NAME).read_bytes())
        sound = [
            [folder / each.name for each in manifest.chain(entry)] for entry in manifest.entries
        ]
        sound = [chain for chain in sound if self.damaged.isdisjoint(chain)]
        if not any(sound[-1][0] not in chain for chain in sound):
            return None
        self.damaged.add(sound[-1][0])
        return sound[-1][0]

    # --- what must be so

    def alerts(self) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for topic, _, value in self.cluster.outputs:
            if topic == self.kafka.alerts:
                alert = json.loads(value or b"null")
                found.setdefault(alert["series_id"], []).append(brief(alert))
        return found

    @invariant()
    def what_is_committed_is_a_beginning_of_what_is_due(self) -> None:
        for series, alerts in self.alerts().items():
            due = self.due.get(series, [])[: len(alerts)]
            assert alerts == due, f"{series}: {alerts[-4:]} where {due[-4:]} is due"

    @invariant()
    def a_state_is_that_of_its_position(self) -> None:
        for member in self.members.values():
            for progress in member.loop._assignment.recovered:
                states = member.engine.states.get(progress.partition.partition, {})
                assert sum(state.count for state in states.values()) == progress.position
                assert progress.committed <= progress.position or progress.replaying

    @invariant()
    def each_generation_has_one_writer_a_partition(self) -> None:
        writers: dict[tuple[int, Any], int] = {}
        for member, generation, partitions in self.cluster.commits:
            for partition in partitions:
                assert writers.setdefault((generation, partition), member) == member

    def teardown(self) -> None:
        try:
            self.cluster.lost_answers = self.cluster.lost_requests = 0
            for number in self.cluster.members.keys() - self.members.keys():
                self.cluster.expire(number)
            if not self.members:
                self.start(THEN_NOTHING)
            ends = {p: self.cluster.end(p) for p in self.cluster.names()}
            for _ in range(400):
                self.all_turn()
                at = {p: found.offset for p, found in self.cluster.committed.items()}
                if all(at.get(p, 0) == end for p, end in ends.items()):
                    break
            else:
                pytest.fail(f"they do not come to the end: {at} of {ends}")
            assert self.alerts() == self.due
            for member in list(self.members.values()):
                member.end()
        finally:
            self.patches.close()
            shutil.rmtree(self.folder)


QUICK = settings(
    max_examples=30,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestProtocol = Protocol.TestCase
TestProtocol.settings = QUICK


@pytest.mark.slow
class TestProtocolForLong(Protocol.TestCase):
    settings = settings(QUICK, max_examples=1_500)


def test_the_checker_can_fail() -> None:
    """Output that is committed twice, or not at all, is found."""
    machine = Protocol()
    try:
        machine.begin()
        machine.go_on(30)
        machine.what_is_committed_is_a_beginning_of_what_is_due()
        sound = list(machine.cluster.outputs)
        for wrong in (sound + sound[-1:], sound[:1] + sound[2:]):
            machine.cluster.outputs = wrong
            with pytest.raises(AssertionError):
                machine.what_is_committed_is_a_beginning_of_what_is_due()
    finally:
        machine.patches.close()
        shutil.rmtree(machine.folder)

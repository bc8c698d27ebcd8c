"""Which state a partition gets: never that of an earlier life of its topic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.errors import KafkaTimeoutError
from kafka.structs import OffsetAndMetadata

from tests.stream_harness import ExactEngine, SeriesState
from titans_stream.ops.storage import Snapshots
from titans_stream.stream.assignment import Assignment, Offsets
from titans_stream.stream.kafka.deadline import Deadline
from titans_stream.stream.kafka.errors import UnansweredError
from titans_stream.stream.messages import RawMessage
from titans_stream.stream.metrics import Metrics
from titans_stream.stream.recovery import Origin, Saved, StoredSnapshot, UnreachableError
from titans_stream.stream.settings import InputConfig

NAME = TopicPartition("in", 0)


class OnePartition:
    """A consumer of one partition with a log of 1,000 messages."""

    def __init__(self) -> None:
        self.found: OffsetAndMetadata | None = None
        self.position = -1
        self.heard = 1_000
        self.answers = True

    def pause(self, *names: Any) -> None: ...

    def resume(self, *names: Any) -> None: ...

    def seek(self, name: Any, offset: int) -> None:
        self.position = offset

    def highwater(self, name: Any) -> int:
        return self.heard

    def beginning_offsets(self, names: list[Any], timeout_ms: float) -> dict[Any, int]:
        return dict.fromkeys(names, 0)

    def end_offsets(self, names: list[Any], timeout_ms: float) -> dict[Any, int]:
        if not self.answers:
            raise KafkaTimeoutError("no answer")
        return dict.fromkeys(names, 1_000)

    def committed(self, name: Any, metadata: bool, timeout_ms: float) -> Any:
        return self.found

    def partitions_for_topic(self, topic: str) -> set[int]:
        return {0}

    def commit(self, offsets: Offsets) -> None:
        self.found = offsets[NAME]


def stored(offset: int, count: int, **notes: Any) -> StoredSnapshot:
    """A snapshot of one series that has had `count` readings."""
    engine = ExactEngine("in")
    engine.states = {0: {"a": SeriesState(count, float(count))}}
    return StoredSnapshot(offset, engine.snapshot(0), {"start": 0, "muted": [], **notes})


class World:
    """One group's folder, and workers that come and go."""

    def __init__(self, folder: Path) -> None:
        self.store = Snapshots(folder, "g")
        self.consumer = OnePartition()

    def recover(self) -> tuple[Assignment, ExactEngine]:
        engine = ExactEngine("in")
        config = InputConfig(
            topic="in", series="{s}", value="v", timestamp="kafka", start="earliest", group_id="g"
        )
        assignment = Assignment(self.consumer, engine, self.store, config, 0.0, Metrics())  # type: ignore[arg-type]
        assignment.assign([NAME])
        assignment.recover(self.consumer.commit)
        return assignment, engine

    def commit(self, assignment: Assignment, offset: int) -> None:
        """Move the one partition on, as the loop does after a commit."""
        (progress,) = assignment.progress.values()
        progress.position = offset
        self.consumer.commit(assignment.offsets())
        assignment.note_committed()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_pin_discards_the_snapshots_of_an_earlier_life(world: World) -> None:
    world.store.save("in", 0, stored(500, 9_999))
    assignment, _ = world.recover()
    assert world.store.offsets("in", 0) == []
    world.commit(assignment, 800)
    _, engine = world.recover()
    assert engine.states == {}
    assert world.consumer.position == 0


def test_a_snapshot_of_another_life_is_passed_over(world: World) -> None:
    """A folder that was out of sight when the partition was pinned, on another machine."""
    assignment, _ = world.recover()
    world.commit(assignment, 800)
    life = Origin.decode(world.consumer.found.metadata).life  # type: ignore[union-attr]
    world.store.save("in", 0, stored(300, 33, life=life))
    world.store.save("in", 0, stored(500, 9_999, life="another"))
    world.store.save("in", 0, stored(600, 9_999))
    _, engine = world.recover()
    assert engine.states[0]["a"].count == 33
    assert world.consumer.position == 300


def test_a_life_goes_on_over_commits_snapshots_and_recoveries(world: World) -> None:
    first, engine = world.recover()
    pinned = Origin.decode(world.consumer.found.metadata)  # type: ignore[union-attr]
    assert (pinned.built_from, pinned.start, len(pinned.life)) == (0, 0, 16)
    engine.states[0] = {"a": SeriesState(7, 7.0)}
    world.commit(first, 400)
    first.snapshot_all(Deadline(9))
    world.commit(first, 450)
    second, engine = world.recover()
    assert engine.states[0]["a"].count == 7
    assert world.consumer.position == 400
    world.commit(second, 500)
    assert Origin.decode(world.consumer.found.metadata) == Origin(  # type: ignore[union-attr]
        snapshot=400, life=pinned.life, partitions=1, born=pinned.born
    )


def test_offsets_of_another_tool_take_any_snapshot_and_its_life(world: World) -> None:
    world.store.save("in", 0, stored(300, 33, life="mine"))
    world.consumer.found = OffsetAndMetadata(350, "", -1)
    assignment, engine = world.recover()
    assert engine.states[0]["a"].count == 33
    world.commit(assignment, 360)
    assert Origin.decode(world.consumer.found.metadata) == Origin(snapshot=300, life="mine")


@pytest.mark.parametrize("error", [ValueError("shape"), IndexError("7"), KeyError("mean")])
def test_a_snapshot_that_does_not_fit_gives_way_to_an_older_one(
    world: World,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assignment, _ = world.recover()
    world.commit(assignment, 800)
    life = Origin.decode(world.consumer.found.metadata).life  # type: ignore[union-attr]
    for offset, count in ((300, 33), (500, 55), (700, 77)):
        world.store.save("in", 0, stored(offset, count, life=life))
    restore = ExactEngine.restore

    def picky(engine: ExactEngine, partition: int, snapshot: Any) -> None:
        restore(engine, partition, snapshot)
        if engine.states[partition]["a"].count > 33:
            raise error

    refused: list[Saved] = []
    monkeypatch.setattr(world.store, "refuse", lambda *named: refused.append(named[-1]))
    monkeypatch.setattr(ExactEngine, "restore", picky)
    assignment, engine = world.recover()
    assert engine.states[0]["a"].count == 33
    assert world.consumer.position == assignment.progress[NAME].position == 300
    assert [saved.name.partition(".")[0] for saved in refused] == ["700", "500"]
    assert [text.partition(" does not fit")[0] for text in caplog.messages if "fit" in text] == [
        "in partition 0: the snapshot at 700",
        "in partition 0: the snapshot at 500",
    ]


def test_offsets_that_cannot_be_are_refused(world: World, caplog: pytest.LogCaptureFixture) -> None:
    assignment, _ = world.recover()
    offsets = [0, 1, 1, 0, 5, 4, 999, 1_000, 2_000]
    messages = [RawMessage("in", 0, offset, 0, None, b"") for offset in offsets]
    kept = assignment.credible(NAME, messages)
    assert [message.offset for message in kept] == [0, 1, 5, 999]
    assert assignment._metrics.counts["refused_messages"] == 5
    assert "in partition 0: 5 message(s) refused" in caplog.text


def test_messages_beyond_the_end_that_was_heard_are_taken(world: World) -> None:
    """A fetch from a log that grows holds more than the end that it names."""
    assignment, _ = world.recover()
    world.consumer.heard = 700
    messages = [RawMessage("in", 0, offset, 0, None, b"") for offset in range(690, 720)]
    assert assignment.credible(NAME, messages) == messages
    assert assignment._metrics.counts["refused_messages"] == 0


def test_messages_whose_end_nobody_tells_are_read_again(world: World) -> None:
    assignment, _ = world.recover()
    world.consumer.heard, world.consumer.answers = 700, False
    messages = [RawMessage("in", 0, offset, 0, None, b"") for offset in range(690, 720)]
    assert assignment.credible(NAME, messages) == []
    assert world.consumer.position == assignment.progress[NAME].position
    assert assignment._metrics.counts["refused_messages"] == 0


def test_snapshots_that_cannot_be_reached_are_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not to be reached is not to be empty: nothing begins anew, and nothing is lost."""
    assignment, _ = world.recover()
    world.store.save("in", 0, stored(300, 33, life=life_of(world)))
    world.commit(assignment, 800)

    def away(*_: object) -> None:
        raise UnreachableError("s3://b: no answer")

    engine = ExactEngine("in")
    config = InputConfig(
        topic="in", series="{s}", value="v", timestamp="kafka", start="earliest", group_id="g"
    )
    other = Assignment(world.consumer, engine, world.store, config, 1.0, Metrics())  # type: ignore[arg-type]
    other.assign([NAME])
    with monkeypatch.context() as patch:
        patch.setattr(world.store, "load", away)
        for _ in range(2):
            with pytest.raises(UnansweredError, match="snapshots: s3://b: no answer"):
                other.recover(world.consumer.commit)
        assert (other.new, other.progress) == ({NAME}, {})
    other.recover(world.consumer.commit)
    assert engine.states[0]["a"].count == 33
    assert (world.consumer.position, other.new) == (300, set())


def test_nothing_is_read_before_all_partitions_are_recovered(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has to wait half way, for another snapshot than the one that did not fit, has the
    others wait, too: the loop reads nothing while a partition is new."""
    assignment, _ = world.recover()
    world.commit(assignment, 800)
    second = TopicPartition("in", 1)
    world.store.save("in", 1, stored(300, 33, life=life_of(world)))
    restore, resumed = ExactEngine.restore, []

    def picky(engine: ExactEngine, partition: int, snapshot: Any) -> None:
        monkeypatch.setattr(world.store, "load", away)
        raise ValueError("shape")

    def away(*_: object) -> None:
        monkeypatch.undo()
        raise UnreachableError("s3://b: no answer")

    monkeypatch.setattr(ExactEngine, "restore", picky)
    world.consumer.resume = lambda *names: resumed.extend(names)  # type: ignore[method-assign]
    assignment.release([NAME])
    assignment.assign([NAME, second])
    with pytest.raises(UnansweredError, match="no answer"):
        assignment.recover(world.consumer.commit)
    assert (resumed, assignment.new) == ([], {NAME, second})
    assert ExactEngine.restore is restore
    assignment.recover(world.consumer.commit)
    assert (resumed, assignment.new) == ([NAME, second], set())
    assert assignment.progress.keys() == {NAME, second}


def test_a_folder_that_cannot_be_written_stops_no_recovery(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(world.store, "claim", full)
    monkeypatch.setattr(world.store, "discard", full)
    assignment, _ = world.recover()
    assert assignment.new == set()
    assert "in partition 0: snapshots cannot be claimed: [Errno 28]" in caplog.text
    assert "in partition 0: old snapshots stay: [Errno 28]" in caplog.text


def life_of(world: World) -> str:
    assert world.consumer.found is not None
    return Origin.decode(world.consumer.found.metadata).life


@pytest.mark.parametrize(
    ("wanted", "begin", "position", "lost"),
    [(-7, 0, 800, 0), (800, 850, 850, 50), (805, 850, 850, 45), (3, 850, 850, 50)],
)
def test_a_range_that_is_not_there_moves_nothing_back(
    world: World, monkeypatch: pytest.MonkeyPatch, wanted: int, begin: int, position: int, lost: int
) -> None:
    assignment, _ = world.recover()
    world.commit(assignment, 800)
    monkeypatch.setattr(world.consumer, "beginning_offsets", lambda names, _: {NAME: begin})
    assignment.lost_range(NAME, wanted)
    assert assignment.progress[NAME].position == world.consumer.position == position
    assert assignment._metrics.counts["lost_messages"] == lost


def test_a_log_that_ends_before_the_position_is_told_once(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assignment, _ = world.recover()
    world.commit(assignment, 800)
    monkeypatch.setattr(world.consumer, "beginning_offsets", lambda names, _: {NAME: 100})
    for _ in range(3):
        assignment.lost_range(NAME, 800)
    said = "in partition 0: the log ends before offset 800, where this worker goes on"
    assert [said in text for text in caplog.messages].count(True) == 1
    assert assignment.progress[NAME].position == 800
    assert assignment._metrics.counts["lost_messages"] == 0

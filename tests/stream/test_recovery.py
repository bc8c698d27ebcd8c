"""Plans of recovery, the metadata of committed offsets, and snapshots as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from titans_stream.ops.storage import Snapshots
from titans_stream.records import Snapshot
from titans_stream.stream.recovery import (
    Committed,
    LogRange,
    Origin,
    Plan,
    StoredSnapshot,
    plan_first,
    plan_recovery,
)


def snapshot(offset: int, schema: str = "s1", **notes: object) -> StoredSnapshot:
    arrays = {
        "count": np.arange(offset, dtype=np.int64),
        "weights": np.full((2, 3), 0.1, np.float32),
        "flags": np.array([True, False]),
        "none": np.zeros((0, 4)),
    }
    return StoredSnapshot(offset, Snapshot(schema, {"series": ["ä/b", "c"]}, arrays), notes)


def no_call() -> int:
    raise AssertionError("not needed")


class TestPlans:
    def test_first_start_pins_start_and_warm_up(self) -> None:
        plan = plan_first(LogRange(10, 100), start=90, warm_up_from=40)
        assert plan == Plan(40, 90, 90, Origin(built_from=40, start=90), pin=True)

    @pytest.mark.parametrize(
        ("start", "warm", "seek", "resume"),
        [(5, 2, 10, 10), (500, 400, 100, 100), (50, 60, 50, 50), (100, 0, 10, 100)],
    )
    def test_first_start_stays_within_the_log(
        self, start: int, warm: int, seek: int, resume: int
    ) -> None:
        plan = plan_first(LogRange(10, 100), start, warm)
        assert (plan.seek, plan.resume, plan.lost) == (seek, resume, 0)

    def test_a_snapshot_and_a_replay_up_to_the_committed_offset(self) -> None:
        stored = snapshot(70, start=20)
        committed = Committed(90, Origin(snapshot=60))
        plan = plan_recovery(committed, LogRange(0, 100), {90: stored}.get, no_call)
        assert plan == Plan(70, 90, 20, Origin(snapshot=70), stored)

    def test_without_snapshot_from_where_the_state_began(self) -> None:
        committed = Committed(90, Origin(built_from=10, start=30))
        plan = plan_recovery(committed, LogRange(0, 100), lambda _: None, no_call)
        assert plan == Plan(10, 90, 30, Origin(built_from=10, start=30))

    @pytest.mark.parametrize("origin", [Origin(), Origin(snapshot=80)])
    def test_without_snapshot_and_origin_a_new_warm_up(self, origin: Origin) -> None:
        plan = plan_recovery(Committed(90, origin), LogRange(0, 100), lambda _: None, lambda: 55)
        assert (plan.seek, plan.resume, plan.warm_until, plan.lost) == (55, 90, 90, 0)
        assert "no snapshot fits" in plan.warning
        assert plan.origin == Origin(built_from=55, start=90)

    def test_a_log_that_lost_what_was_not_read(self) -> None:
        stored = snapshot(50)
        plan = plan_recovery(Committed(60, Origin()), LogRange(75, 100), lambda _: stored, no_call)
        assert (plan.seek, plan.resume, plan.lost) == (75, 75, 25)
        assert plan.warning == (
            "15 messages were deleted before they were read; "
            "10 messages needed to rebuild the state were deleted"
        )

    def test_a_log_that_lost_the_replay_range_only(self) -> None:
        stored = snapshot(50)
        plan = plan_recovery(Committed(90, Origin()), LogRange(75, 100), lambda _: stored, no_call)
        assert (plan.seek, plan.resume, plan.lost) == (75, 90, 25)
        assert plan.stored is stored

    def test_a_topic_created_anew(self) -> None:
        plan = plan_recovery(Committed(90, Origin()), LogRange(0, 7), lambda _: None, no_call)
        assert (plan.seek, plan.resume, plan.pin, plan.stored) == (0, 0, True, None)
        assert "created anew" in plan.warning


class TestMetadata:
    @pytest.mark.parametrize(
        "origin",
        [
            Origin(built_from=5, start=9),
            Origin(built_from=0, life="f00"),
            Origin(snapshot=12),
            Origin(snapshot=12, life="f00"),
            Origin(snapshot=12, life="f00", partitions=4, born=1_772_366_400_000),
            Origin(built_from=5, start=9, partitions=1),
        ],
    )
    def test_round_trip(self, origin: Origin) -> None:
        assert Origin.decode(origin.encode()) == origin

    @pytest.mark.parametrize(
        "text",
        ["", None, "{", "[]", "null", '{"from": "x"}', '{"snapshot": 1.5}', "note of a user"],
    )
    def test_foreign_metadata_tells_nothing(self, text: str | None) -> None:
        assert Origin.decode(text) == Origin()


class TestSnapshots:
    @pytest.fixture
    def store(self, tmp_path: Path) -> Snapshots:
        return Snapshots(tmp_path, "g", keep=3, about={"model": "base 1"})

    def test_round_trip_is_exact(self, store: Snapshots) -> None:
        saved = snapshot(40, start=7, muted=["a"])
        store.save("t", 2, saved)
        found = store.load("t", 2, 40, "s1")
        assert found is not None
        assert (found.offset, found.notes) == (40, {"start": 7, "muted": ["a"]})
        assert found.snapshot.meta == saved.snapshot.meta
        assert found.snapshot.arrays.keys() == saved.snapshot.arrays.keys()
        for name, array in saved.snapshot.arrays.items():
            other = found.snapshot.arrays[name]
            assert (other.dtype, other.shape) == (array.dtype, array.shape), name
            assert other.tobytes() == array.tobytes(), name
            assert other.flags.writeable, name

    def test_the_newest_up_to_an_offset_of_the_schema(self, store: Snapshots) -> None:
        for offset, schema in ((10, "s1"), (20, "s2"), (30, "s1")):
            store.save("t", 0, snapshot(offset, schema))
        assert [
            s.offset if (s := store.load("t", 0, at, "s1")) else None for at in (9, 29, 99)
        ] == [
            None,
            10,
            30,
        ]
        assert store.load("t", 1, 99, "s1") is None
        assert store.load("u", 0, 99, "s1") is None

    def test_what_stands_behind_a_plus_need_not_fit(self, store: Snapshots) -> None:
        for offset, schema in ((10, "s1+f/1"), (20, "s1"), (30, "s1+f/2"), (40, "s2+f/1")):
            store.save("t", 0, snapshot(offset, schema))
        for wanted in ("s1", "s1+f/1", "s1+g"):
            found = store.load("t", 0, 99, wanted)
            assert found is not None
            assert (found.offset, found.snapshot.schema) == (30, "s1+f/2")
        assert store.load("t", 0, 99, "s") is None

    def test_only_the_newest_are_kept(self, store: Snapshots) -> None:
        for offset in (10, 20, 30, 40, 9_000, 10_000):
            store.save("t", 0, snapshot(offset))
        assert store.offsets("t", 0) == [40, 9_000, 10_000]

    def test_discard(self, store: Snapshots) -> None:
        for offset in (10, 20, 30):
            store.save("t", 0, snapshot(offset))
        store.discard("t", 0, after=10)
        assert store.offsets("t", 0) == [10]

    @pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "renamed", "text"])
    def test_a_damaged_file_is_passed_over_and_named(
        self, store: Snapshots, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        store.save("t", 0, snapshot(10))
        store.save("t", 0, snapshot(20))
        path = store.path("t", 0, 20)
        content = bytearray(path.read_bytes())
        if damage == "truncated":
            path.write_bytes(content[:-5])
        elif damage == "flipped":
            content[-9] ^= 1
            path.write_bytes(content)
        elif damage == "renamed":
            path.rename(path.with_name("25.snapshot"))
        else:
            path.write_bytes(b"" if damage == "empty" else b"no snapshot, a note" * 9)
        found = store.load("t", 0, 99, "s1")
        assert found is not None
        assert found.offset == 10
        assert f"{path} is passed over" in caplog.text

    def test_what_a_crash_left_aside_is_removed(self, store: Snapshots, tmp_path: Path) -> None:
        store.save("t", 0, snapshot(10))
        folder = tmp_path / "g" / "t" / "0"
        for half in (".20.abc.snapshot.aside", "20.abc.snapshot", ".manifest.json.1-2"):
            (folder / half).write_bytes(b"half")
        assert store.offsets("t", 0) == [10]
        again = Snapshots(tmp_path, "g")
        again.save("t", 0, snapshot(30))
        assert again.offsets("t", 0) == [10, 30]
        names = [path.name.partition(".")[2] or path.name for path in folder.iterdir()]
        assert sorted(name.rpartition(".")[2] for name in names) == [
            "json", "lock", "snapshot", "snapshot"
        ]  # fmt: skip

    @pytest.mark.parametrize("group", ["..", ".", "a/b", "../../x", "ü ", ".hidden"])
    def test_no_group_leaves_the_folder(self, tmp_path: Path, group: str) -> None:
        root = tmp_path / "state"
        Snapshots(root, group).save("t", 0, snapshot(10))
        Snapshots(root, "other").save("t", 0, snapshot(10))
        files = [path.relative_to(root) for path in root.rglob("*.snapshot")]
        assert [len(path.parts) for path in files] == [4, 4]
        assert list(tmp_path.iterdir()) == [root]
        assert Snapshots(root, group).load("t", 0, 10, "s1") is not None

"""Snapshots as files: whose they are, who may read them, and what is not one."""

from __future__ import annotations

import json
import logging
import os
import stat
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from titans_stream.ops.storage import Snapshots
from titans_stream.records import Snapshot
from titans_stream.stream.recovery import StoredSnapshot


def stored(offset: int, meta: Any = None) -> StoredSnapshot:
    arrays = {"x": np.arange(3.0)}
    return StoredSnapshot(offset, Snapshot("s/1", {} if meta is None else meta, arrays), {"a": 1})


def loaded(store: Snapshots, topic: str = "in", partition: int = 0) -> int | None:
    found = store.load(topic, partition, 1_000, "s/1")
    return None if found is None else found.offset


def file(folder: Path, offset: int, partition: int = 0) -> Path:
    (found,) = folder.glob(f"*/in/{partition}/{offset}.*snapshot")
    return found


def first_format(
    store: Snapshots, root: Path, told: StoredSnapshot, document: bytes | None = None
) -> Path:
    """Write a snapshot as the first releases did: one safetensors file of each, no manifest."""
    kept = {"meta": told.snapshot.meta, "notes": told.notes}
    document = json.dumps(kept).encode() if document is None else document
    arrays = {f"array/{name}": array for name, array in told.snapshot.arrays.items()}
    arrays["json"] = np.frombuffer(document, np.uint8)
    checksum = 0
    for name in sorted(arrays):
        shape = f"{name}:{arrays[name].dtype.str}:{arrays[name].shape}"
        checksum = zlib.crc32(arrays[name].tobytes(), zlib.crc32(shape.encode(), checksum))
    header = {
        "model": "base", "group": "g", "topic": "in", "partition": "0", "format": "1",
        "schema": told.snapshot.schema, "offset": str(told.offset),
        "written": "2026-11-01T00:00:00Z", "crc32": str(checksum),
    }  # fmt: skip
    path = root / "g" / "in" / "0" / f"{told.offset}.snapshot"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(arrays, path, header)
    return path


def test_files_and_folders_are_their_owners_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        Snapshots(tmp_path / "made" / "state", "g").save("in", 0, stored(5))
    finally:
        os.umask(old)
    found = list(tmp_path.rglob("*"))
    assert {p.name for p in found if p.is_dir()} == {"made", "state", "g", "in", "0"}
    assert len(found) == 8, "a lock, a manifest and a snapshot"
    modes = {stat.S_IMODE(p.stat().st_mode) - 0o700 * p.is_dir() for p in found}
    assert modes == {0, 0o600}


def test_a_snapshot_is_bound_to_group_topic_and_partition(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mine, other = Snapshots(tmp_path, "g"), Snapshots(tmp_path / "b", "other")
    for store, partition in ((mine, 0), (mine, 1), (other, 0)):
        store.save("in", partition, stored(5))
    (tmp_path / "g" / "in" / "0" / "manifest.json").unlink()
    assert loaded(mine) == 5
    target = mine.path("in", 0, 5)
    target.write_bytes(mine.path("in", 1, 5).read_bytes())
    assert loaded(mine) is None
    assert "it is of partition '1', not '0'" in caplog.text
    target.write_bytes(other.path("in", 0, 5).read_bytes())
    assert loaded(mine) is None
    assert "it is of group 'other', not 'g'" in caplog.text


@pytest.mark.parametrize("document", [b"[]", b"{}", b'{"meta": 1, "notes": {}}', b"[" * 100_000])
def test_json_that_is_no_snapshot_is_passed_over_for_an_older_one(
    tmp_path: Path, document: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store = Snapshots(tmp_path, "g")
    store.save("in", 0, stored(5))
    path = first_format(store, tmp_path, stored(6), document)
    with caplog.at_level(logging.WARNING):
        assert loaded(store) == 5
    assert f"{path.name} is passed over" in caplog.text


def test_what_is_no_file_is_no_snapshot(tmp_path: Path) -> None:
    store = Snapshots(tmp_path, "g", keep=1)
    store.save("in", 0, stored(5))
    folder = file(tmp_path, 5).parent
    os.mkfifo(folder / "8.snapshot")
    (folder / "3.snapshot").mkdir()
    assert loaded(store) == 5, "opening a FIFO would wait for ever"
    assert store.newest("in")[0]["offset"] == "5"
    store.save("in", 0, stored(7))
    store.discard("in", 0, after=-1)
    assert store.offsets("in", 0) == []


def test_a_file_planted_aside_is_not_written_through(tmp_path: Path) -> None:
    store = Snapshots(tmp_path / "state", "g")
    store.save("in", 0, stored(5))
    victim = tmp_path / "victim"
    victim.write_text("mine")
    folder = file(tmp_path / "state", 5).parent
    (folder / f".6.snapshot.{os.getpid()}").symlink_to(victim)
    store.save("in", 0, stored(6))
    assert (victim.read_text(), loaded(store)) == ("mine", 6)


def test_long_groups_have_folders_of_their_own(tmp_path: Path) -> None:
    for group in ("größe" * 50, "größe" * 49 + "anders"):
        store = Snapshots(tmp_path, group)
        assert loaded(store) is None
        store.save("in", 0, stored(5))
        assert loaded(store) == 5

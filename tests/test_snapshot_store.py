"""The store of snapshots: deltas, damage, two writers, on a folder and on an S3 server (moto's)."""

from __future__ import annotations

import dataclasses
import errno
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.test_storage import first_format
from titans_stream.ops import snapshot_files
from titans_stream.ops.places import Place, place_of
from titans_stream.ops.storage import Snapshots
from titans_stream.records import Snapshot
from titans_stream.stream.recovery import (
    FencedError,
    NoBaseError,
    Saved,
    StoredSnapshot,
    UnreachableError,
)

SCHEMA = "s/1"
OpenStore = Callable[..., Snapshots]


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of an S3 server, with a bucket; credentials are in the environment."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    told = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in told.items():
            patch.setenv(name, value)
        boto3.client("s3", endpoint_url=told["AWS_ENDPOINT_URL"]).create_bucket(Bucket="memories")
        yield told["AWS_ENDPOINT_URL"]
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
    """Opens the same store; `host` names the machine, each of which has a cache of its own."""

    def open_(host: str = "one", **more: Any) -> Snapshots:
        if request.param == "folder":
            return Snapshots(place_of(str(tmp_path / "state"), ""), "g", **more)
        request.getfixturevalue("s3")
        url = f"s3://memories/{tmp_path.parent.name}/{tmp_path.name}"
        return Snapshots(place_of(str(tmp_path / host), url), "g", **more)

    return open_


def told(offset: int, series: dict[str, float], onto: Saved | None = None, **notes: Any) -> Any:
    """A snapshot of these series in parts of two, on another one."""
    names = list(series)
    parts = [
        Snapshot(SCHEMA, {"series": names[i : i + 2], "waiting": {}},
                 {"x": np.array([series[name] for name in names[i : i + 2]])})
        for i in range(0, len(names), 2)
    ]  # fmt: skip
    head = Snapshot(SCHEMA, {"series": sorted(series)}, {"n": np.arange(3)}, parts)
    return StoredSnapshot(offset, head, notes, "" if onto is None else onto.name)


def rows(found: StoredSnapshot | None) -> dict[str, float]:
    assert found is not None
    values: dict[str, float] = {}
    for part in found.snapshot.parts or ():
        for name, value in zip(part.meta["series"], part.arrays["x"].tolist(), strict=True):
            values.setdefault(name, value)
    return values


def write(store: Snapshots, offset: int, onto: Saved | None = None, **series: float) -> Saved:
    return store.save("in", 0, told(offset, series, onto, at=offset))


def load(store: Snapshots, at_most: int = 99) -> StoredSnapshot | None:
    return store.load("in", 0, at_most, SCHEMA)


def test_a_snapshot_is_its_base_and_the_deltas_on_it(open_store: OpenStore) -> None:
    store = open_store()
    base = write(store, 1, a=1, b=1, c=1)
    first = write(store, 5, base, b=2)
    second = write(store, 9, first, c=3, d=3)
    other = open_store("two")
    assert rows(load(other)) == {"a": 1, "b": 2, "c": 3, "d": 3}
    assert rows(load(other, 8)) == {"a": 1, "b": 2, "c": 1}
    found = load(other)
    assert found is not None
    assert (found.offset, found.notes, found.saved) == (9, {"at": 9}, second)
    assert (second.deltas, second.base_size) == (2, base.size)
    assert second.delta_size == first.size + second.size
    assert other.newest("in")[0]["offset"] == "9"
    assert (other.topics(), other.offsets("in", 0)) == (["in"], [1, 5, 9])


def test_what_is_kept_are_the_newest_and_one_with_another_base(open_store: OpenStore) -> None:
    store, saved = open_store(keep=2), None
    for offset in range(1, 5):
        saved = write(store, offset, saved, a=offset)
    assert store.offsets("in", 0) == [1, 2, 3, 4], "the newest stand on the others"
    saved = None
    for offset in range(5, 9):
        saved = write(store, offset, saved, a=offset)
    assert store.offsets("in", 0) == [1, 2, 3, 4, 5, 6, 7, 8], "another base, for a damaged one"
    for offset in (11, 12):
        write(store, offset, a=offset)
    assert store.offsets("in", 0) == [11, 12]
    assert rows(load(open_store("two"))) == {"a": 12}


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "missing", "half", "another"])
@pytest.mark.parametrize("which", ["delta", "base"])
def test_a_damaged_object_leaves_the_one_before(
    tmp_path: Path, damage: str, which: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Snapshots(tmp_path, "g", keep=2)
    old = write(store, 1, a=1, b=1)
    base = write(store, 5, a=5, b=5)
    delta = write(store, 9, base, a=9)
    name = delta.name if which == "delta" else base.name
    path = next(tmp_path.rglob(name))
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "another":
        path.write_bytes(next(tmp_path.rglob(old.name)).read_bytes())
    else:
        content[len(content) // 2] ^= 1
        whole = {"truncated": content[:-7], "empty": b"", "half": content[: len(content) // 2]}
        path.write_bytes(whole.get(damage, content))
    with caplog.at_level(logging.WARNING):
        found = load(store)
    assert rows(found) == ({"a": 5, "b": 5} if which == "delta" else {"a": 1, "b": 1})
    assert f"{delta.name} is passed over" in caplog.text


def test_one_damage_after_the_other_leaves_a_sound_one(tmp_path: Path) -> None:
    store = Snapshots(tmp_path, "g", keep=2)
    for offset in (1, 2):
        write(store, offset, a=offset)
    for offset in range(3, 8):
        newest = write(store, offset, a=offset)
        next(tmp_path.rglob(newest.name)).write_bytes(b"")
        assert rows(load(store)) == {"a": 2}, "the newest that was never damaged"
    write(store, 8, a=8)
    write(store, 9, a=9)
    assert store.offsets("in", 0) == [8, 9], "damaged ones go when enough sound ones are there"


def test_a_read_that_fails_for_now_costs_no_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Snapshots(tmp_path, "g", keep=3)
    for offset in (1, 2, 3):
        write(store, offset, a=offset)

    def fetch(name: str) -> Path:
        raise OSError(errno.EMFILE, "too many open files", name)

    with monkeypatch.context() as patch:
        patch.setattr(store._place, "fetch", fetch)
        assert load(store) is None
    write(store, 4, a=4)
    assert store.offsets("in", 0) == [2, 3, 4]


@pytest.mark.parametrize("fails", ["fetch", "open"])
def test_a_read_that_fails_for_now_costs_no_snapshot_of_a_damaged_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    store = Snapshots(tmp_path, "g")
    write(store, 1, a=1)
    write(store, 2, a=2)
    next(tmp_path.rglob("manifest.json")).write_bytes(b"{")

    def failing(name: object) -> Path:
        raise OSError(errno.EMFILE, "too many open files", str(name))

    later = Snapshots(tmp_path, "g")
    with monkeypatch.context() as patch:
        if fails == "fetch":
            patch.setattr(later._place, "fetch", failing)
        else:
            patch.setattr(snapshot_files, "read_header", failing)
        with pytest.raises(UnreachableError, match="too many open files"):
            later.claim("in", 0)
        with pytest.raises(UnreachableError, match="too many open files"):
            load(later)
    assert len(list(tmp_path.rglob("*.snapshot"))) == 2
    later.claim("in", 0)
    assert later.offsets("in", 0) == [1, 2]
    assert rows(load(later)) == {"a": 2}


@pytest.mark.parametrize("size", [8, 20, -1])
def test_a_file_that_is_cut_off_is_passed_over_with_a_damaged_manifest(
    tmp_path: Path, size: int
) -> None:
    store = Snapshots(tmp_path, "g")
    write(store, 1, a=1)
    write(store, 2, a=2)
    next(tmp_path.rglob("manifest.json")).write_bytes(b"{")
    path = next(tmp_path.rglob("2.*.snapshot"))
    path.write_bytes(path.read_bytes()[:size])
    later = Snapshots(tmp_path, "g")
    later.claim("in", 0)
    assert rows(load(later)) == {"a": 1}


def test_what_the_engine_refuses_counts_as_damaged(tmp_path: Path) -> None:
    store = Snapshots(tmp_path, "g", keep=2)
    for offset in (1, 2):
        write(store, offset, a=offset)
    for offset in (3, 4):
        store.refuse("in", 0, write(store, offset, a=offset))
    delta = write(store, 5, a=5)
    store.refuse("in", 0, delta)
    assert store.offsets("in", 0) == [2, 5], "the last one that fits stays"
    with pytest.raises(NoBaseError, match="on which it stands, is damaged"):
        write(store, 6, delta, a=6)
    assert rows(load(store, 2)) == {"a": 2}, "the newest that fits is there"
    write(store, 6, a=6)
    write(store, 7, a=7)
    assert store.offsets("in", 0) == [6, 7]


def test_a_delta_on_what_a_load_found_damaged_is_refused(tmp_path: Path) -> None:
    store = Snapshots(tmp_path, "g")
    write(store, 1, a=1)
    base = write(store, 2, a=2)
    delta = write(store, 3, base, a=3)
    next(tmp_path.rglob(base.name)).write_bytes(b"")
    assert rows(load(store)) == {"a": 1}
    with pytest.raises(NoBaseError, match="on which it stands, is damaged"):
        write(store, 4, delta, a=4)
    assert store.offsets("in", 0) == [1, 2, 3]
    assert len(list(tmp_path.rglob("*.snapshot"))) == 3, "what was refused is removed"
    write(store, 5, a=5)
    assert rows(load(store)) == {"a": 5}


def test_damage_that_was_found_is_known_until_it_is_gone(tmp_path: Path) -> None:
    """Whatever later loads ask for; one that was read after all is sound."""
    store = Snapshots(tmp_path, "g", keep=2)
    saved = [write(store, offset, a=offset) for offset in (1, 2, 3)]
    next(tmp_path.rglob(saved[2].name)).write_bytes(b"")
    assert rows(load(store)) == {"a": 2}
    assert load(store, at_most=1) is None, "what is kept are two"
    assert store.load("in", 0, 99, "other/1") is None
    newest = write(store, 4, a=4)
    assert store.offsets("in", 0) == [2, 4]
    path = next(tmp_path.rglob(newest.name))
    content = path.read_bytes()
    path.write_bytes(b"")
    assert rows(load(store)) == {"a": 2}
    path.write_bytes(content)
    assert rows(load(store)) == {"a": 4}
    write(store, 5, a=5)
    assert store.offsets("in", 0) == [4, 5]


@pytest.mark.parametrize("manifest", [b"", b"{", b'{"epoch": 1, "entries": [', None])
def test_without_a_manifest_it_is_made_anew_from_what_is_there(
    open_store: OpenStore, manifest: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store()
    base = write(store, 1, a=1, b=1)
    write(store, 5, base, b=5)
    place: Place = store._place
    found = place.read("g/in/0/manifest.json")
    assert found is not None
    if manifest is None:
        place.delete("g/in/0/manifest.json")
    else:
        assert place.swap("g/in/0/manifest.json", manifest, found[1]) is not None
    later = open_store("two")
    assert rows(load(later)) == {"a": 1, "b": 5}
    assert ("manifest.json is damaged" in caplog.text) == (manifest is not None)
    later.claim("in", 0)
    assert rows(load(open_store("three"))) == {"a": 1, "b": 5}


def test_a_writer_that_was_taken_over_loses(open_store: OpenStore) -> None:
    """Whenever it comes back: its object is removed, and nobody restores it."""
    zombie, owner = open_store(), open_store("two")
    base = write(zombie, 1, a=1)
    owner.claim("in", 0)
    with pytest.raises(FencedError, match="another worker has taken over"):
        write(zombie, 5, base, a=666)
    assert rows(load(zombie)) == {"a": 1}
    assert len(owner._place.names("g/in/0")) == 2, "a base and the manifest"
    write(owner, 4, base, a=4)
    with pytest.raises(FencedError):
        _stale(zombie, lambda: write(zombie, 6, a=666))
    assert rows(load(open_store("three"))) == {"a": 4}


def _stale(store: Snapshots, write_: Callable[[], Saved]) -> None:
    """Write with a claim that another takes over in the middle."""
    store.claim("in", 0)
    claim = store._claims["in", 0]
    store._claims["in", 0] = dataclasses.replace(claim, tag="old\n")
    write_()


def test_of_many_that_claim_and_write_at_once_one_wins_at_a_time(open_store: OpenStore) -> None:
    stores, kept = [open_store(f"host{i}", keep=100) for i in range(4)], list[int]()
    lock = threading.Lock()

    def work(number: int) -> None:
        for turn in range(5):
            offset = 10 * turn + number
            try:
                write(stores[number], offset, a=offset)
            except OSError:  # fenced, or its half of an object was tidied away
                continue
            with lock:
                kept.append(offset)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kept
    assert open_store("last").offsets("in", 0) == sorted(kept)


def test_a_write_that_is_given_up_leaves_nothing(open_store: OpenStore) -> None:
    store = open_store()
    write(store, 1, a=1)

    def parts() -> Iterator[Snapshot]:
        yield from told(5, {"a": 5}).snapshot.parts
        raise CancelledError

    given_up = told(5, {"a": 5})
    snapshot = dataclasses.replace(given_up.snapshot, parts=parts())
    with pytest.raises(CancelledError):
        store.save("in", 0, dataclasses.replace(given_up, snapshot=snapshot))
    assert store.offsets("in", 0) == [1]
    assert len(store._place.names("g/in/0")) == 2


def test_a_delta_on_one_that_is_gone_is_refused(open_store: OpenStore) -> None:
    store = open_store()
    base = write(store, 5, a=1)
    store.discard("in", 0, after=-1)
    with pytest.raises(NoBaseError, match="on which it stands, is gone"):
        write(store, 9, base, a=2)
    assert len(store._place.names("g/in/0")) == 1, "what was refused is removed"
    assert load(open_store("two")) is None


def test_what_the_last_release_wrote_is_restored_and_built_on(tmp_path: Path) -> None:
    """A file of format 1, of which no manifest knows; it goes as any other does."""
    store = Snapshots(tmp_path, "g", keep=1)
    whole = Snapshot(SCHEMA, {"series": ["a", "b"], "waiting": {}}, {"x": np.array([1.0, 2.0])})
    path = first_format(store, tmp_path, StoredSnapshot(7, whole, {"life": "l"}))
    found = load(store)
    assert found is not None
    assert (found.offset, found.life, found.snapshot.parts) == (7, "l", None)
    assert found.snapshot.arrays["x"].tolist() == [1.0, 2.0]
    assert found.saved is not None
    assert store.newest("in")[0]["written"] == "2026-11-01T00:00:00Z"
    write(store, 9, found.saved, b=9)
    assert rows(load(Snapshots(tmp_path, "g"))) == {"b": 9, "a": 1}
    path.write_bytes(path.read_bytes()[:-1])
    assert load(store) is None
    write(store, 11, a=11)
    assert not path.exists()


def test_a_state_that_was_left_stays_beside_later_snapshots(open_store: OpenStore) -> None:
    store = open_store(keep=1)
    store.keep("in", 0, told(5, {"a": 5}))
    for offset in (5, 7, 9):
        write(store, offset, a=offset)
    found = load(open_store("two"), 6)
    assert rows(found) == {"a": 5}
    assert found is not None
    assert found.saved is None, "nothing is built on it"
    store.keep("in", 0, told(8, {"a": 8}))
    write(store, 10, a=10)
    assert load(store, 7) is None


def test_the_cache_spares_the_download_and_is_mended(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import obstore

    downloads: list[str] = []
    plain = obstore.get

    def get(store: Any, name: str, **more: Any) -> Any:
        if name.endswith(".snapshot"):
            downloads.append(name)
        return plain(store, name, **more)

    monkeypatch.setattr(obstore, "get", get)
    url = f"s3://memories/{tmp_path.name}"
    store = Snapshots(place_of(str(tmp_path / "one"), url), "g", keep=1)
    saved = write(store, 1, a=1)
    again = Snapshots(place_of(str(tmp_path / "one"), url), "g")
    assert rows(load(again)) == {"a": 1}
    assert downloads == []
    (copy,) = (tmp_path / "one").rglob(saved.name)
    copy.write_bytes(copy.read_bytes()[:-9])
    assert rows(load(again)) == {"a": 1}
    assert len(downloads) == 1, "the copy is damaged, the object is not"
    other = Snapshots(place_of(str(tmp_path / "two"), url), "g")
    for _ in range(2):
        assert rows(load(other)) == {"a": 1}
    assert len(downloads) == 2
    write(store, 5, a=5)
    other.claim("in", 0)
    copies = [path.name for path in (tmp_path / "two").rglob("*.snapshot")]
    assert copies == [], "of one that is gone"


def test_a_storage_that_does_not_answer_is_no_empty_one(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del s3
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("titans_stream.ops.object_place._RETRIES", 0)
    store = Snapshots(place_of(str(tmp_path), "s3://memories/x"), "g")
    with pytest.raises(UnreachableError):
        load(store)
    with pytest.raises(OSError, match=r"127\.0\.0\.1:9"):
        store.claim("in", 0)
    with pytest.raises(OSError, match=r"127\.0\.0\.1:9"):
        write(store, 1, a=1)


@pytest.mark.parametrize(
    "url",
    ["s3://", "s3:///x", "s3://key:secret@memories/x", "s3://memories/x?region=y", "ftp://b/x"],
)
def test_a_url_that_names_no_bucket_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError, match="bucket"):
        place_of(str(tmp_path), url)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_on_a_full_disk_the_old_ones_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Snapshots(tmp_path, "g")
    write(store, 1, a=1)
    plain = os.open

    def full(path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        aside = str(path).endswith(".snapshot.aside")
        return plain("/dev/full", os.O_WRONLY) if aside else plain(path, flags, mode, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        with pytest.raises(OSError, match="No space left"):
            write(store, 5, a=5)
    assert rows(load(store)) == {"a": 1}
    write(store, 6, a=6)
    assert rows(load(Snapshots(tmp_path, "g"))) == {"a": 6}

"""Snapshots on a folder or on object storage: one immutable object per partition and snapshot.

Layout: `<root>/<group>/<topic>/<partition>/<offset>.<id>.snapshot`, `<offset>.<life>.left` for the
state of a model that was left for another one, to which a way back leads, and `manifest.json`,
which names those that count. The manifest is replaced last, and only in the place of the one that
its writer has seen; who takes over a partition claims it so, and what an earlier holder of the
partition still writes is refused. A snapshot holds all series, or those that were touched since
another one, on which it stands then.

An object that is damaged or another's is passed over with a warning, and so is what stands on it.
Files (0600) and folders (0700) are their owner's alone.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

from titans_stream.ops import snapshot_files
from titans_stream.ops.places import FolderPlace, Place, folder_name
from titans_stream.ops.snapshot_files import DAMAGE
from titans_stream.ops.snapshot_manifest import (
    LEFT,
    NAME,
    SUFFIX,
    Entry,
    Manifest,
    age_of,
    is_of_first_format,
)
from titans_stream.records import Snapshot, restorable
from titans_stream.stream.recovery import (
    FencedError,
    NoBaseError,
    Saved,
    StoredSnapshot,
    UnreachableError,
)

log = logging.getLogger(__name__)

_CLAIMS = 5
"""How often a claim is tried where others claim at the same time."""

_Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class _Claim:
    """A manifest that this process wrote, and its tag."""

    manifest: Manifest
    tag: str


class Snapshots:
    """The snapshots of a consumer group in a place; a `SnapshotStore`.

    `place` is a folder, or an object storage. The newest `keep` sound ones of a partition stay.
    `about` (the model's name and version, for instance) is written into each for people to read.
    """

    def __init__(
        self,
        place: Place | str | Path,
        group_id: str,
        keep: int = 3,
        about: dict[str, str] | None = None,
    ) -> None:
        if keep < 1:
            raise ValueError(f"keep: at least 1 is needed, not {keep}")
        self._place = FolderPlace(Path(place)) if isinstance(place, str | Path) else place
        self._group = group_id
        self._keep = keep
        self._about = dict(about or {})
        self._claims: dict[_Key, _Claim] = {}
        self._lock = threading.RLock()
        self._writing: set[str] = set()
        """Objects that no manifest names yet."""
        self._damaged: dict[_Key, set[str]] = {}
        """Snapshots whose content a load found damaged."""

    def __str__(self) -> str:
        return str(self._place)

    # --- writing

    def claim(self, topic: str, partition: int) -> None:
        """As `SnapshotStore.claim`; what an interrupted write left is removed."""
        folder = self._folder(topic, partition)
        with self._lock:
            for _ in range(_CLAIMS):
                found = self._place.read(f"{folder}/{NAME}")
                manifest = self._decoded(topic, partition, found)
                mine = replace(manifest, epoch=manifest.epoch + 1, writer=uuid.uuid4().hex)
                tag = self._swap(folder, mine, None if found is None else found[1])
                if tag is not None:
                    self._claims[topic, partition] = _Claim(mine, tag)
                    self._tidy(folder, mine)
                    return
        raise FencedError(f"{folder}: others claim it over and over")

    def save(self, topic: str, partition: int, stored: StoredSnapshot) -> Saved:
        """As `SnapshotStore.save`."""
        name = f"{stored.offset}.{uuid.uuid4().hex[:12]}{SUFFIX}"

        def change(manifest: Manifest) -> Manifest:
            damaged = set(self._damaged.get((topic, partition), ()))
            try:
                chain = {entry.name for entry in manifest.chain(manifest.entries[-1])}
            except ValueError:
                raise NoBaseError(f"{stored.onto}, on which it stands, is gone") from None
            if chain & damaged:
                raise NoBaseError(f"{stored.onto}, on which it stands, is damaged")
            return manifest.without(manifest.superfluous(self._keep, stored.offset, damaged))

        manifest = self._write(topic, partition, stored, name, change)
        entry = manifest.find(name)
        assert entry is not None
        return manifest.saved(entry)

    def keep(self, topic: str, partition: int, stored: StoredSnapshot) -> None:
        """As `SnapshotStore.keep`; the one before goes with the next snapshot."""
        life = hashlib.sha256(stored.life.encode()).hexdigest()[:16]
        name = f"{stored.offset}.{life}-{uuid.uuid4().hex[:12]}{LEFT}"
        self._write(topic, partition, stored, name, lambda manifest: manifest)

    def refuse(self, topic: str, partition: int, saved: Saved) -> None:
        """As `SnapshotStore.refuse`."""
        with self._lock:
            self._damaged.setdefault((topic, partition), set()).add(saved.name)

    def discard(self, topic: str, partition: int, after: int) -> None:
        """As `SnapshotStore.discard`."""

        def change(manifest: Manifest) -> Manifest:
            return manifest.without(e.name for e in manifest.entries if e.offset > after)

        if any(entry.offset > after for entry in self._manifest(topic, partition).entries):
            self._update(topic, partition, change)

    def _write(
        self,
        topic: str,
        partition: int,
        stored: StoredSnapshot,
        name: str,
        change: Callable[[Manifest], Manifest],
    ) -> Manifest:
        """Write an object, and a manifest that names it beside what `change` leaves."""
        folder, header = self._folder(topic, partition), self._header(topic, partition)
        path = f"{folder}/{name}"
        with self._lock:
            self._claimed(topic, partition)
            self._writing.add(path)
        try:
            aside = self._place.aside(path)
            try:
                size, checksum = snapshot_files.write_snapshot(aside, stored, header)
                about = snapshot_files.read_header(aside)
                self._place.put(path, aside)
            except BaseException:
                aside.unlink(missing_ok=True)
                raise
            entry = Entry(
                name, stored.offset, stored.snapshot.schema, size, checksum, stored.onto,
                name.endswith(LEFT), about,
            )  # fmt: skip

            def add(manifest: Manifest) -> Manifest:
                return change(replace(manifest, entries=(*manifest.entries, entry)))

            try:
                return self._update(topic, partition, add)
            except (FencedError, NoBaseError):
                self._remove(folder, {name})
                raise
        finally:
            self._writing.discard(path)

    def _claimed(self, topic: str, partition: int) -> _Claim:
        """The claim of a partition, made where there is none; under the lock."""
        if (topic, partition) not in self._claims:
            self.claim(topic, partition)
        return self._claims[topic, partition]

    def _update(
        self, topic: str, partition: int, change: Callable[[Manifest], Manifest]
    ) -> Manifest:
        """Change a manifest that is claimed; what it names no longer is removed."""
        folder, key = self._folder(topic, partition), (topic, partition)
        with self._lock:
            claim = self._claimed(topic, partition)
            manifest = change(claim.manifest)
            del self._claims[key]  # where it fails, whether it is there is not known
            tag = self._swap(folder, manifest, claim.tag)
            if tag is None:
                raise FencedError(
                    "another worker has taken over the partition, and writes its snapshots"
                )
            self._claims[key] = _Claim(manifest, tag)
        kept = {entry.name for entry in manifest.entries}
        self._remove(folder, {e.name for e in claim.manifest.entries} - kept)
        return manifest

    def _swap(self, folder: str, manifest: Manifest, tag: str | None) -> str | None:
        """Replace a manifest; its tag, or None where another's is there."""
        name, document = f"{folder}/{NAME}", manifest.encode()
        new = self._place.swap(name, document, tag)
        if new is None:
            found = self._place.read(name)
            # a write that was repeated after its answer was lost finds its own
            if found is not None and found[0] == document:
                return found[1]
        return new

    def _remove(self, folder: str, names: set[str]) -> None:
        for name in sorted(names):
            try:
                self._place.delete(f"{folder}/{name}")
            except OSError as error:
                log.warning("snapshot %s/%s is not removed: %s", folder, name, error)

    def _tidy(self, folder: str, manifest: Manifest) -> None:
        """Remove objects that no manifest will name any more."""
        wanted = {entry.name for entry in manifest.entries}
        wanted |= {name.rpartition("/")[2] for name in self._writing}
        try:
            found = {n for n in self._place.names(folder) if n.endswith((SUFFIX, LEFT))}
            self._place.tidy(folder, wanted)
        except OSError as error:
            log.warning("%s is not tidied: %s", folder, error)
        else:
            self._remove(folder, found - wanted)

    # --- reading

    def load(self, topic: str, partition: int, at_most: int, schema: str) -> StoredSnapshot | None:
        """As `SnapshotStore.load`."""
        manifest = self._manifest(topic, partition)
        order = sorted(enumerate(manifest.entries), key=lambda each: (each[1].offset, each[0]))
        damaged = self._damaged.setdefault((topic, partition), set())
        damaged &= {entry.name for entry in manifest.entries}
        for _, entry in reversed(order):
            if entry.offset > at_most or not restorable(entry.schema, schema):
                continue
            name = f"{self._folder(topic, partition)}/{entry.name}"
            try:
                stored = self._read(topic, partition, manifest, entry)
            except UnreachableError:
                raise
            except DAMAGE as error:
                why = error or type(error).__name__
                log.warning("snapshot %s is passed over: %s", self._told(name), why)
                if not isinstance(error, OSError):  # that may pass
                    damaged.add(entry.name)
            else:
                damaged.difference_update(each.name for each in manifest.chain(entry))
                return stored
        return None

    def _read(self, topic: str, partition: int, manifest: Manifest, entry: Entry) -> StoredSnapshot:
        """A snapshot, every object of it checked. ValueError and others where one is damaged."""
        folder, owner = self._folder(topic, partition), self._owner(topic, partition)
        chain, paths = manifest.chain(entry), []
        for each in chain:
            path = self._fetched(f"{folder}/{each.name}")
            try:
                _check(path, each)
            except DAMAGE:
                if not self._place.forget(f"{folder}/{each.name}"):
                    raise
                path = self._fetched(f"{folder}/{each.name}")  # the copy was damaged
                _check(path, each)
            paths.append(path)
        stored = snapshot_files.read_snapshot(paths[0], entry.offset, owner)
        if any(each.schema != stored.snapshot.schema for each in chain):
            raise ValueError("it stands on one of another schema")
        if len(chain) > 1:
            bases = [
                snapshot_files.read_snapshot(path, each.offset, owner)
                for path, each in zip(paths[1:], chain[1:], strict=True)
            ]
            parts = _joined([stored, *bases])
            snapshot = replace(stored.snapshot, parts=parts)
            stored = replace(stored, snapshot=snapshot)
        return replace(stored, saved=None if entry.left else manifest.saved(entry))

    def _fetched(self, name: str) -> Path:
        try:
            path = self._place.fetch(name)
        except OSError as error:
            if self._place.remote:
                raise UnreachableError(f"{self._told(name)}: {error}") from error
            raise
        if path is None:
            raise ValueError(f"object {name} is missing, or no file")
        return path

    def _manifest(self, topic: str, partition: int) -> Manifest:
        """The manifest as it is now."""
        return self._decoded(topic, partition, self._document(topic, partition))

    def _document(self, topic: str, partition: int) -> tuple[bytes, str] | None:
        name = f"{self._folder(topic, partition)}/{NAME}"
        try:
            return self._place.read(name)
        except OSError as error:
            raise UnreachableError(f"{self._told(name)}: {error}") from error

    def _decoded(self, topic: str, partition: int, found: tuple[bytes, str] | None) -> Manifest:
        """A manifest, and objects of earlier releases; made anew where it is gone or damaged."""
        folder = self._folder(topic, partition)
        manifest, gone = Manifest(), found is None
        try:
            if found is not None:
                manifest = Manifest.decode(found[0])
        except ValueError as error:
            gone = True
            log.warning(
                "%s is damaged and made anew from the snapshots that are there: %s",
                self._told(f"{folder}/{NAME}"), error,
            )  # fmt: skip
        if self._place.remote and not gone:
            return manifest
        more: list[Entry] = []
        for name in sorted(self._names(folder), key=age_of):
            known = manifest.find(name) is not None
            if not known and (gone or is_of_first_format(name)):
                more += self._described(folder, name)
        return replace(manifest, entries=(*more, *manifest.entries))

    def _names(self, folder: str) -> list[str]:
        try:
            return self._place.names(folder)
        except OSError as error:
            raise UnreachableError(f"{self._told(folder)}: {error}") from error

    def _described(self, folder: str, name: str) -> Iterator[Entry]:
        """The entry of an object that no manifest names."""
        number = name.partition(".")[0]
        if not name.endswith((SUFFIX, LEFT)) or not number.isdecimal():
            return
        try:
            path = self._fetched(f"{folder}/{name}")
            header = snapshot_files.read_header(path)
            schema, onto = header.get("schema", ""), header.get("onto", "")
            size = path.stat().st_size
        except UnreachableError:
            raise
        except OSError as error:
            # without it the manifest would be made anew, and the object removed
            raise UnreachableError(f"{self._told(f'{folder}/{name}')}: {error}") from error
        except DAMAGE as error:
            why = error or type(error).__name__
            log.warning("snapshot %s is passed over: %s", self._told(f"{folder}/{name}"), why)
            return
        yield Entry(name, int(number), schema, size, 0, onto, name.endswith(LEFT), header)

    def offsets(self, topic: str, partition: int) -> list[int]:
        """The offsets at which there are snapshots, in order."""
        entries = self._manifest(topic, partition).entries
        return sorted(entry.offset for entry in entries if not entry.left)

    def path(self, topic: str, partition: int, offset: int) -> Path:
        """A local copy of the newest snapshot at an offset. FileNotFoundError: there is none."""
        for entry in reversed(self._manifest(topic, partition).entries):
            if entry.offset == offset and not entry.left:
                return self._fetched(f"{self._folder(topic, partition)}/{entry.name}")
        raise FileNotFoundError(f"no snapshot at offset {offset}")

    def topics(self) -> list[str]:
        """The topics of which there are snapshots."""
        return sorted(map(unquote, self._place.folders(folder_name(self._group))))

    def newest(self, topic: str) -> dict[int, dict[str, str]]:
        """What is told of each partition's newest snapshot: `schema`, `bytes` and `about` in it."""
        found: dict[int, dict[str, str]] = {}
        for name in self._place.folders(f"{folder_name(self._group)}/{folder_name(topic)}"):
            if name.isdecimal():
                entries = [e for e in self._manifest(topic, int(name)).entries if not e.left]
                if entries:
                    entry = max(entries, key=lambda each: each.offset)
                    found[int(name)] = entry.about | {"bytes": str(entry.size)}
        return found

    def _owner(self, topic: str, partition: int) -> dict[str, str]:
        """Whose a snapshot is, as its header says it."""
        return {"group": self._group, "topic": topic, "partition": str(partition)}

    def _header(self, topic: str, partition: int) -> dict[str, str]:
        return self._about | self._owner(topic, partition)

    def _folder(self, topic: str, partition: int) -> str:
        return f"{folder_name(self._group)}/{folder_name(topic)}/{partition}"

    def _told(self, name: str) -> str:
        return f"{self._place}/{name}"


def _check(path: Path, entry: Entry) -> None:
    """ValueError where an object is not as it was written."""
    if not snapshot_files.is_first_format(path):
        snapshot_files.check(path, entry.size, entry.checksum)
    elif entry.checksum:
        raise ValueError(f"{entry.name} is no snapshot, or its beginning is damaged")


def _joined(stack: list[StoredSnapshot]) -> Iterator[Snapshot]:
    """The parts of snapshots, each of which stands on the next one."""
    for stored in stack:
        parts = stored.snapshot.parts
        yield from [stored.snapshot] if parts is None else parts

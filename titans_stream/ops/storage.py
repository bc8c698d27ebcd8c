"""Snapshots as files: one per partition and offset, in safetensors.

Layout: `<root>/<group>/<topic>/<partition>/<offset>.snapshot`, and `<offset>.<life>.left` for the
state of a model that was left for another one, to which a way back leads. A file holds the engine's
numeric columns, its JSON (as bytes, a tensor of its own), and in the header the schema, whose it is
(group, topic, partition) and a checksum of all arrays. A file with its final name is whole; one
that is damaged or another's all the same is passed over with a warning. Files (0600) and folders
(0700) are their owner's alone.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from titans_stream.records import Snapshot, restorable
from titans_stream.stream.recovery import StoredSnapshot
from titans_stream.whole_files import make_private, write_whole

log = logging.getLogger(__name__)

FORMAT = "1"
"""Version of the file's own layout."""

_SUFFIX = ".snapshot"
_LEFT = ".left"
_LONGEST_NAME = 150
"""Bytes of a folder's name; file systems take 255, and some encrypted ones fewer."""
_DAMAGE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RecursionError,
    SafetensorError,
    TypeError,
    ValueError,
)
"""What reading a file raises that is not as this module writes it."""
_ARRAY = "array/"
_JSON = "json"

Arrays = dict[str, npt.NDArray[Any]]


class LocalSnapshots:
    """Snapshots in a local (or mounted) folder; a `SnapshotStore`.

    `about` (the model's name and version, for instance) is written into each file for people to
    read.
    """

    def __init__(
        self,
        root: str | Path,
        group_id: str,
        keep: int = 3,
        about: dict[str, str] | None = None,
    ) -> None:
        if keep < 1:
            raise ValueError(f"keep: at least 1 is needed, not {keep}")
        self._group = group_id
        self._root = Path(root) / _folder_name(group_id)
        self._keep = keep
        self._about = dict(about or {})

    def save(self, topic: str, partition: int, stored: StoredSnapshot) -> None:
        """Write a snapshot and remove those beyond the newest `keep`."""
        self._write(topic, partition, stored, _SUFFIX)
        older = [each for each in self._files(topic, partition) if each[0] <= stored.offset]
        for _, path in older[: -self._keep]:
            path.unlink(missing_ok=True)
        # one that was taken up again is needed until a snapshot is saved after it
        for _, path in self._files(topic, partition, _LEFT)[:-1]:
            path.unlink(missing_ok=True)

    def keep(self, topic: str, partition: int, stored: StoredSnapshot) -> None:
        """Write the state of a model that is left; the one before goes with the next snapshot."""
        life = hashlib.sha256(stored.life.encode()).hexdigest()[:16]
        self._write(topic, partition, stored, f".{life}{_LEFT}")

    def _write(self, topic: str, partition: int, stored: StoredSnapshot, suffix: str) -> None:
        folder = self._folder(topic, partition)
        make_private(folder)
        for leftover in folder.glob(f".*{suffix}.*"):
            leftover.unlink(missing_ok=True)
        path = folder / f"{stored.offset}{suffix}"
        write_whole(path, _encode(stored, self._header(topic, partition)))

    def load(self, topic: str, partition: int, at_most: int, schema: str) -> StoredSnapshot | None:
        """The newest sound snapshot that `schema` can restore, at an offset up to `at_most`."""
        found = self._files(topic, partition) + self._files(topic, partition, _LEFT)
        for offset, path in sorted(found, reverse=True):
            if offset > at_most:
                continue
            try:
                stored = _decode(path, offset, schema, self._owner(topic, partition))
            except _DAMAGE as error:
                log.warning("snapshot %s is passed over: %s", path, error or type(error).__name__)
                continue
            if stored is not None:
                return stored
        return None

    def discard(self, topic: str, partition: int, after: int) -> None:
        """Remove the snapshots at offsets beyond `after`."""
        for offset, path in self._files(topic, partition) + self._files(topic, partition, _LEFT):
            if offset > after:
                path.unlink(missing_ok=True)

    def offsets(self, topic: str, partition: int) -> list[int]:
        """The offsets at which there are snapshots, in order."""
        return self._offsets(topic, partition)

    def path(self, topic: str, partition: int, offset: int) -> Path:
        """Where the snapshot at an offset is."""
        return self._folder(topic, partition) / f"{offset}{_SUFFIX}"

    def topics(self) -> list[str]:
        """The topics of which there are snapshots."""
        return sorted(unquote(folder.name) for folder in self._root.glob("*"))

    def newest(self, topic: str) -> dict[int, dict[str, str]]:
        """The header of each partition's newest snapshot, `schema` and `about` in it.

        A file that cannot be read is passed over.
        """
        found: dict[int, dict[str, str]] = {}
        for folder in (self._root / _folder_name(topic)).glob("*"):
            for offset in (
                self._offsets(topic, int(folder.name))[-1:] if folder.name.isdecimal() else ()
            ):
                try:
                    file_path = self.path(topic, int(folder.name), offset)
                    with safe_open(file_path, framework="numpy") as file:
                        found[int(folder.name)] = file.metadata() or {}
                except (OSError, SafetensorError):
                    continue
        return found

    def _owner(self, topic: str, partition: int) -> dict[str, str]:
        """Whose a snapshot is, as its header says it."""
        return {"group": self._group, "topic": topic, "partition": str(partition)}

    def _header(self, topic: str, partition: int) -> dict[str, str]:
        return self._about | self._owner(topic, partition)

    def _folder(self, topic: str, partition: int) -> Path:
        return self._root / _folder_name(topic) / str(partition)

    def _files(self, topic: str, partition: int, suffix: str = _SUFFIX) -> list[tuple[int, Path]]:
        """Offsets and files of a kind, in order; of one offset those that were written last."""
        found = []
        for path in self._folder(topic, partition).glob("*" + suffix):
            number = path.name.partition(".")[0]
            try:
                written = path.stat().st_mtime_ns
            except FileNotFoundError:  # removed by another thread
                continue
            if number.isdecimal() and path.is_file():
                found.append((int(number), written, path))
        return [(offset, path) for offset, _, path in sorted(found)]

    def _offsets(self, topic: str, partition: int) -> list[int]:
        return [offset for offset, _ in self._files(topic, partition)]


def _folder_name(name: str) -> str:
    """A name as one path component, whatever it holds; a long one ends with its digest."""
    safe = quote(name, safe="")
    if len(safe) > _LONGEST_NAME:
        digest = hashlib.sha256(name.encode()).hexdigest()[:32]
        safe = f"{safe[: _LONGEST_NAME - 33]}-{digest}"
    return "%2E" + safe[1:] if safe.startswith(".") else safe


def _encode(stored: StoredSnapshot, about: dict[str, str]) -> bytes:
    snapshot = stored.snapshot
    document = json.dumps({"meta": snapshot.meta, "notes": stored.notes}).encode()
    arrays: Arrays = {
        _ARRAY + name: np.ascontiguousarray(array) for name, array in snapshot.arrays.items()
    }
    arrays[_JSON] = np.frombuffer(document, dtype=np.uint8)
    header = {
        **about,
        "format": FORMAT,
        "schema": snapshot.schema,
        "offset": str(stored.offset),
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "crc32": str(_checksum(arrays)),
    }
    return save(arrays, header)


def _decode(path: Path, offset: int, schema: str, owner: dict[str, str]) -> StoredSnapshot | None:
    """The snapshot in a file, None where `schema` cannot restore it.

    ValueError and others (`_DAMAGE`) where the file is damaged or not its `owner`'s.
    """
    with safe_open(path, framework="numpy") as file:
        header = file.metadata() or {}
        if header.get("format") != FORMAT or header.get("offset") != str(offset):
            raise ValueError("not a snapshot of this offset")
        for name, wanted in owner.items():
            if header.get(name, wanted) != wanted:
                raise ValueError(f"it is of {name} {header[name]!r}, not {wanted!r}")
        found = header.get("schema", "")
        if not restorable(found, schema):
            return None
        arrays: Arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if header.get("crc32") != str(_checksum(arrays)):
        raise ValueError("its checksum is wrong")
    document = json.loads(arrays.pop(_JSON).tobytes())
    meta, notes = document["meta"], document["notes"]
    if not isinstance(meta, dict) or not isinstance(notes, dict):
        raise ValueError("its JSON is not that of a snapshot")
    columns = {name.removeprefix(_ARRAY): array for name, array in arrays.items()}
    return StoredSnapshot(offset, Snapshot(found, meta, columns), notes)


def _checksum(arrays: Arrays) -> int:
    total = 0
    for name in sorted(arrays):
        array = arrays[name]
        shape = f"{name}:{array.dtype.str}:{array.shape}"
        total = zlib.crc32(array.tobytes(), zlib.crc32(shape.encode(), total))
    return total

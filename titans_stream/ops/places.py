"""Where snapshots are kept: a folder, or what offers the same (object_place.py).

A place has immutable objects, each put there as a whole, and small documents that are replaced only
by who has seen the last one. Names are relative paths with `/`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from titans_stream.whole_files import make_private, sync_folder, write_whole

_LONGEST_NAME = 150
"""Bytes of a folder's name; file systems take 255, and some encrypted ones fewer."""


class Place(Protocol):
    """A store of objects; OSError for what fails."""

    remote: bool
    """Whether others, on other machines, see the same."""

    def read(self, name: str) -> tuple[bytes, str] | None:
        """A document and its tag; None where there is none."""

    def swap(self, name: str, content: bytes, tag: str | None) -> str | None:
        """Put a document in the place of the one with `tag`, or of none; its own tag.

        None where another one is there.
        """

    def aside(self, name: str) -> Path:
        """A path for a new file that is to become an object; nothing is there yet."""

    def put(self, name: str, path: Path) -> None:
        """Make a synced file an object; the file is gone then."""

    def fetch(self, name: str) -> Path | None:
        """A local file that is an object, or a copy of it; None where there is no such object."""

    def forget(self, name: str) -> bool:
        """Drop the local copy of an object, for `fetch` to get it anew; whether it is a copy."""

    def delete(self, name: str) -> None:
        """Remove an object, if it is there."""

    def names(self, folder: str) -> list[str]:
        """The objects in a folder, by their last name."""

    def folders(self, folder: str) -> list[str]:
        """The folders in a folder, by their last name."""

    def tidy(self, folder: str, wanted: set[str]) -> None:
        """Remove what an interrupted write left in a folder, and copies of what is not `wanted`."""


class FolderPlace:
    """A local or mounted folder; all in it is its owner's alone."""

    remote = False

    def __init__(self, root: Path) -> None:
        self._root = root

    def __str__(self) -> str:
        return str(self._root)

    def path(self, name: str) -> Path:
        """Where an object is."""
        return self._root / name

    def read(self, name: str) -> tuple[bytes, str] | None:
        """As `Place.read`."""
        try:
            content = self.path(name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return content, _tag(content)

    def swap(self, name: str, content: bytes, tag: str | None) -> str | None:
        """As `Place.swap`."""
        path = self.path(name)
        make_private(path.parent)
        with _locked(path.parent / ".lock"):
            found = self.read(name)
            if (None if found is None else found[1]) != tag:
                return None
            write_whole(path, content)
        return _tag(content)

    def aside(self, name: str) -> Path:
        """As `Place.aside`."""
        path = self.path(name)
        make_private(path.parent)
        aside = path.with_name(_aside(path.name))
        aside.unlink(missing_ok=True)
        return aside

    def put(self, name: str, path: Path) -> None:
        """As `Place.put`."""
        path.replace(self.path(name))
        sync_folder(self.path(name).parent)

    def fetch(self, name: str) -> Path | None:
        """As `Place.fetch`."""
        path = self.path(name)
        return path if path.is_file() else None

    def forget(self, name: str) -> bool:
        """As `Place.forget`."""
        del name
        return False

    def delete(self, name: str) -> None:
        """As `Place.delete`."""
        if self.path(name).is_file():
            self.path(name).unlink(missing_ok=True)

    def names(self, folder: str) -> list[str]:
        """As `Place.names`."""
        found = self.path(folder).glob("*")
        return [each.name for each in found if not each.name.startswith(".") and each.is_file()]

    def folders(self, folder: str) -> list[str]:
        """As `Place.folders`."""
        return [each.name for each in self.path(folder).glob("*") if each.is_dir()]

    def tidy(self, folder: str, wanted: set[str]) -> None:
        """As `Place.tidy`."""
        spared = {".lock", *(_aside(name) for name in wanted)}
        with _locked(self.path(folder) / ".lock"):
            for left in self.path(folder).glob(".*"):
                if left.name not in spared and not left.is_dir():
                    left.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock file; it is let go where its holder dies."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _aside(name: str) -> str:
    return f".{name}.aside"


def _tag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def place_of(path: str, snapshots: str) -> Place:
    """The place that the settings `state.path` and `state.snapshots` name.

    ValueError for a URL that names no bucket, and where the library for it is not installed.
    """
    if "://" not in snapshots:
        return FolderPlace(Path(snapshots or path))
    from titans_stream.ops.object_place import ObjectPlace

    return ObjectPlace(snapshots, Path(path) / "cache")


def folder_name(name: str) -> str:
    """A name as one path component, whatever it holds; a long one ends with its digest."""
    safe = quote(name, safe="")
    if len(safe) > _LONGEST_NAME:
        digest = hashlib.sha256(name.encode()).hexdigest()[:32]
        safe = f"{safe[: _LONGEST_NAME - 33]}-{digest}"
    return "%2E" + safe[1:] if safe.startswith(".") else safe

"""The journal of the development broker: all that it remembers beside the records themselves."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from io import FileIO
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


class Journal:
    """JSON lines in a file, appended; without a path, nothing is kept.

    Read it, take the entries in, then `replace` it by entries that say the same in short: from
    then on `append` writes.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: FileIO | None = None
        self.size = 0

    def read(self) -> list[dict[str, Any]]:
        """The entries of an earlier run, but for those from a torn or unreadable line on."""
        content = self._path.read_bytes() if self._path and self._path.exists() else b""
        entries: list[dict[str, Any]] = []
        for line in content.splitlines(keepends=True):
            try:
                entry = json.loads(line)
            except ValueError:
                entry = None
            if not isinstance(entry, dict) or not line.endswith(b"\n"):
                log.warning("%s: torn after %d entries", self._path, len(entries))
                break
            entries.append(entry)
        return entries

    def replace(self, entries: Iterable[dict[str, Any]]) -> None:
        """Write the file anew, as a whole, and go on from there."""
        if not self._path:
            return
        self.close()
        part = self._path.with_suffix(".part")
        part.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        part.replace(self._path)
        self.size = self._path.stat().st_size
        self._file = FileIO(self._path, "ab")

    def append(self, kind: str, **values: Any) -> None:
        """Remember an entry."""
        if self._file:
            line = json.dumps({"kind": kind, **values}).encode() + b"\n"
            self._file.write(line)
            self.size += len(line)

    def close(self) -> None:
        """Close the file; what is appended from now on is lost."""
        if self._file:
            self._file.close()
            self._file = None

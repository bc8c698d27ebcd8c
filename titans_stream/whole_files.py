"""Files that are there as a whole or not at all, and their owner's alone."""

from __future__ import annotations

import os
import threading
from pathlib import Path


def make_private(folder: Path) -> None:
    """Make a folder and those around it, for their owner alone; those that are there stay."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file (0600) so that it is there as a whole or not at all, even after a power cut.

    It is written aside, as `.<name>.<process>-<thread>`, synced and renamed. OSError where that
    fails.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    aside.unlink(missing_ok=True)  # of a process of that number that was killed
    try:
        with open(aside, "xb", opener=_private) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Have what was renamed in a folder last, even after a power cut."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)

"""Kernels that were compiled elsewhere: for an image, or for GPUs on a machine without one.

`$TITANS_STREAM_KERNELS` names a folder that `engine/device/prebuilt.py` filled. What this user's
own cache lacks of it is copied there at the start, each file against its checksum; from then on the
cache (jit.py) treats it as its own: a kernel of other sources, of another release of the compiler
or for another processor is not looked at, and compiled as ever.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import logging
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

from titans_stream.kernel_cache import is_ours, own_cache

log = logging.getLogger(__name__)

VARIABLE = "TITANS_STREAM_KERNELS"
SUMS = "SHA256SUMS"
_LONGEST_COPY = 3600.0
"""Seconds after which a copy of one folder that is not whole has no writer any more."""


def seal(root: Path) -> int:
    """Write the checksums of all files in a cache; returns their number."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.name != SUMS)
    lines = [f"{_sum(path.read_bytes())}  {path.relative_to(root)}\n" for path in files]
    (root / SUMS).write_text("".join(lines), encoding="utf-8")
    return len(files)


def take() -> int:
    """Copy what the own cache lacks; returns the number of files.

    A warning, and nothing else, where the folder cannot be trusted or read.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        return 0
    try:
        return _take(Path(named), own_cache())
    except (OSError, ValueError) as error:
        log.warning("%s: %s; kernels are compiled where they are missing", VARIABLE, error)
        return 0


def _take(shipped: Path, own: Path) -> int:
    _check_closed(shipped, shipped.stat())
    folders: dict[Path, dict[str, str]] = {}
    for line in _read(shipped, Path(SUMS)).decode().splitlines():
        wanted, _, name = line.partition("  ")
        inside = Path(name)
        if inside.is_absolute() or ".." in inside.parts:
            raise ValueError(f"{SUMS} names {name!r}, which is not inside")
        folders.setdefault(inside.parent, {})[inside.name] = wanted
    return sum(_take_folder(shipped, own, at, sums) for at, sums in folders.items())


def _take_folder(shipped: Path, own: Path, at: Path, sums: dict[str, str]) -> int:
    """Copy one source's kernels, all at once, where the own cache has none of them."""
    folder = own / at
    if folder.exists() and any(folder.iterdir()):
        return 0
    contents = {}
    for name, wanted in sums.items():
        contents[name] = _read(shipped, at / name)
        if _sum(contents[name]) != wanted:
            raise ValueError(f"{shipped / at / name}: its checksum is wrong")
    if not is_ours(own.parent, folder):
        return 0
    _remove_left(folder)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name, content in contents.items():
            (part / name).write_bytes(content)
        part.replace(folder)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        return 0  # another process was first
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return len(contents)


def _remove_left(folder: Path) -> None:
    """Remove parts of a folder whose writers are gone."""
    for part in folder.parent.glob(f".{glob.escape(folder.name)}.*"):
        with contextlib.suppress(OSError):  # another process removes it, too
            if part.lstat().st_mtime < time.time() - _LONGEST_COPY:
                shutil.rmtree(part, ignore_errors=True)


def _read(shipped: Path, name: Path) -> bytes:
    """A file's content. ValueError where others could have put it there, OSError for a link."""
    for inside in name.parents[:-1]:
        folder = shipped / inside
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise ValueError(f"{folder}: it is no folder, or a link")
        _check_closed(folder, found)
    path = shipped / name
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        _check_closed(path, os.fstat(file.fileno()))
        return file.read()


def _check_closed(path: Path, found: os.stat_result) -> None:
    """ValueError where others than its owner could have written there: kernels are code."""
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ValueError(f"{path}: others than its owner may write there")
    if found.st_uid not in (0, os.geteuid()):
        raise ValueError(f"{path}: it belongs to another user")


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

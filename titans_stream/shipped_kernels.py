"""Kernels that were compiled elsewhere: for an image, or for GPUs on a machine without one.

`$TITANS_STREAM_KERNELS` names a folder that `engine/device/prebuilt.py` filled. What this user's
own cache lacks of it is copied there at the start, each file against its checksum; from then on the
cache (jit.py) treats it as its own: a kernel of other sources, of another release of the compiler
or for another processor is not looked at, and compiled as ever.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import stat
from pathlib import Path

log = logging.getLogger(__name__)

VARIABLE = "TITANS_STREAM_KERNELS"
SUMS = "SHA256SUMS"
_NAME = "titans-stream"


def own_cache() -> Path:
    """The folder of this user's compiled kernels, as jit.py has it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / _NAME


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
    _check_closed(shipped)
    folders: dict[Path, dict[str, str]] = {}
    for line in (shipped / SUMS).read_text(encoding="utf-8").splitlines():
        wanted, _, name = line.partition("  ")
        inside = Path(name)
        if inside.is_absolute() or ".." in inside.parts:
            raise ValueError(f"{SUMS} names {name!r}, which is not inside")
        folders.setdefault(inside.parent, {})[inside.name] = wanted
    return sum(_take_folder(shipped / at, own / at, sums) for at, sums in folders.items())


def _take_folder(shipped: Path, own: Path, sums: dict[str, str]) -> int:
    """Copy one source's kernels, all at once, where the own cache has none of them."""
    if own.exists() and any(own.iterdir()):
        return 0
    contents = {}
    for name, wanted in sums.items():
        _check_closed(shipped / name)
        contents[name] = (shipped / name).read_bytes()
        if _sum(contents[name]) != wanted:
            raise ValueError(f"{shipped / name}: its checksum is wrong")
    own.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = own.with_name(f".{own.name}.{os.getpid()}")
    part.mkdir(mode=0o700)
    try:
        for name, content in contents.items():
            (part / name).write_bytes(content)
        part.replace(own)
    except OSError:  # another process was first
        shutil.rmtree(part, ignore_errors=True)
        return 0
    return len(contents)


def _check_closed(path: Path) -> None:
    """ValueError where others than its owner could have written there: kernels are code."""
    found = path.stat()
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ValueError(f"{path}: others than its owner may write there")
    if found.st_uid not in (0, os.geteuid()):
        raise ValueError(f"{path}: it belongs to another user")


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

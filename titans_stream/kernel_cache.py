"""Where compiled kernels are kept, and whether that place can be trusted; imports no numba."""

from __future__ import annotations

import functools
import logging
import os
import stat
from pathlib import Path

log = logging.getLogger(__name__)

_NAME = "titans-stream"


def own_cache() -> Path:
    """The folder of this user's compiled kernels."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / _NAME


def is_ours(root: Path, folder: Path) -> bool:
    """Make `folder` inside `root`; whether nobody else can have put anything there.

    What is in a cache is run: its folders and files must be this user's own, its folders not for
    others to write, and `root` not for all to rename things in.
    """
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    mode = root.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        return _refused(root, "all users may write there")
    path = root
    for part in folder.relative_to(root).parts:
        path = path / part
        path.mkdir(exist_ok=True, mode=0o700)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            return _refused(path, "it is not this user's own folder")
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            path.chmod(0o700)  # what is in it is looked at after that
    if any(each.lstat().st_uid != os.geteuid() for each in folder.iterdir()):
        return _refused(folder, "it holds files of other users")
    return True


@functools.cache
def _refused(path: Path, why: str) -> bool:
    """False, with a warning once a place."""
    log.warning("compiled kernels are not kept in %s: %s", path, why)
    return False

"""`njit` with a compile cache that knows this package's sources.

numba's own cache looks at a kernel's file alone, so it would keep a kernel whose constants or
callees changed in another file, also across an upgrade of the package. Here the cache folder is
named by a digest of all sources that hold kernels, and of every layout.py, where kernels find the
constants that are not in their own file. Where no folder can be written, kernels are compiled
anew in each process.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])
ASSOCIATIVE = {"reassoc", "contract", "nsz"}
"""Float liberties that let sums run in vectors; NaN and infinity keep their meaning."""


@functools.cache
def cache_folder() -> Path | None:
    """Where compiled kernels are kept; None where no folder can be written."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    digest = hashlib.sha256(numba.__version__.encode())
    package = Path(__file__).parent
    for source in sorted(package.rglob("*.py")):
        text = source.read_bytes()
        if b"njit" in text or source.name == "layout.py":
            digest.update(str(source.relative_to(package)).encode())
            digest.update(text)
    folder = Path(root) / "titans-stream" / digest.hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def cache_is_empty() -> bool:
    """Whether kernels will have to be compiled."""
    folder = cache_folder()
    return folder is None or not any(folder.iterdir())


def njit(**options: Any) -> Callable[[F], F]:
    """`numba.njit` in nopython mode, cached in `cache_folder()`; options as numba's."""

    def decorate(function: F) -> F:
        folder = cache_folder()
        if folder is None:
            return numba.njit(**options)(function)  # type: ignore[no-any-return]
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = str(folder)
        try:
            return numba.njit(cache=True, **options)(function)  # type: ignore[no-any-return]
        finally:
            numba.config.CACHE_DIR = before

    return decorate

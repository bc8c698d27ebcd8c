"""A file whose age says whether a worker gets on, for health checks of containers."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

VARIABLE = "TITANS_HEALTH_FILE"
"""Environment variable that names the file; unset: none is kept."""
MOST_AGE = 60.0
"""Seconds without a sign of life after which a worker is not healthy."""
_TOUCH_SECONDS = 5.0


class Pulse:
    """Takes a worker's signs of life, and hands them on; `clock` counts seconds."""

    def __init__(
        self,
        also: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._also = also
        self._clock = clock
        self._last = clock()

    def __call__(self) -> None:
        """The worker gets on."""
        self._last = self._clock()
        if self._also is not None:
            self._also()

    @property
    def age(self) -> float:
        """Seconds since the last sign of life, or since the beginning."""
        return self._clock() - self._last


class HealthFile:
    """Touches a file at most every few seconds; call it as often as you like.

    Where it cannot, it warns once.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = 0.0
        self._warned = False

    def __call__(self) -> None:
        """The worker gets on."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _TOUCH_SECONDS
            try:
                self._path.touch()
            except OSError as error:
                if not self._warned:
                    log.warning(
                        "health file %s (%s): cannot be written: %s; working on without it",
                        self._path,
                        VARIABLE,
                        error.strerror or error,
                    )
                self._warned = True


def health_file() -> HealthFile | None:
    """The file named in the environment; None where none is."""
    path = os.environ.get(VARIABLE)
    return HealthFile(Path(path)) if path else None


def age(path: Path) -> float | None:
    """Seconds since the worker last got on, negative after a clock was set back; None: no file."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return None

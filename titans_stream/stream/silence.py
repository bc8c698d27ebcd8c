"""Says when Kafka does not answer, and when it does again, whatever the worker waits for."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

FIRST_SECONDS = 5.0
"""Longer than an idle member of a group goes without an answer to its heartbeat."""
_LONGEST_SECONDS = 600.0
_LOOK_SECONDS = 0.5


class Silence:
    """Warns of a silence after `first` seconds, and then each time that it is twice as long.

    `answered` tells when Kafka answered last, on the clock `time.monotonic`, and `joining` whether
    the group is being joined, which is answered once all of its members have joined.
    """

    def __init__(
        self,
        servers: str,
        answered: Callable[[], float],
        joining: Callable[[], bool] = lambda: False,
        first: float = FIRST_SECONDS,
    ) -> None:
        self._servers = servers
        self._answered = answered
        self._joining = joining
        self._first = first
        self._next = first
        self._since: float | None = None

    def look(self, now: float) -> None:
        """See whether there was an answer."""
        last = self._answered()
        silent = now - last
        if silent >= self._next:
            self._since = last if self._since is None else self._since
            self._next = silent + min(max(silent, self._first), _LONGEST_SECONDS)
            if self._joining():
                log.warning(
                    "no answer to joining the group for %.0f s: Kafka at %s waits for members that "
                    "are gone until their sessions end (kafka.consumer.session_timeout_ms), or "
                    "does not answer; nothing is lost",
                    silent,
                    self._servers,
                )
            else:
                log.warning(
                    "Kafka at %s has not answered for %.0f s; waiting for it, nothing is lost",
                    self._servers,
                    silent,
                )
        elif self._since is not None and silent < self._first:
            log.warning("Kafka answers again, after %.0f s", last - self._since)
            self._since, self._next = None, self._first


class SilenceThread:
    """Looks at the clock beside the worker's thread, which may be waiting in a call of Kafka."""

    def __init__(self, silence: Silence, stop: threading.Event) -> None:
        self._silence = silence
        self._stop = stop
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="titans-silence", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._done.wait(_LOOK_SECONDS) and not self._stop.is_set():
            self._silence.look(time.monotonic())

    def close(self) -> None:
        """Look no more."""
        self._done.set()
        self._thread.join()

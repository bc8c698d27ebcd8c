"""Rules and budgets of a running worker: read again at SIGHUP, or when the file changes."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from titans_stream.config import ConfigError, load_connector

if TYPE_CHECKING:
    from titans_stream.config import Connector
    from titans_stream.stream.metrics import Metrics

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0


class Reloading:
    """Reads the connector's file in a thread of its own; `apply` gets one whose rules differ.

    A file that is not right changes nothing: it is logged and counted. Settings other than `alerts`
    wait for a restart, which is logged, too.
    """

    def __init__(
        self,
        path: Path,
        connector: Connector,
        apply: Callable[[Connector], None],
        metrics: Metrics,
    ) -> None:
        self._path = path
        self._connector = connector
        self._apply = apply
        self._metrics = metrics
        self._asked = threading.Event()
        self._stop = threading.Event()
        self._watch = False
        self._seen = self._stamp()
        self._thread = threading.Thread(target=self._run, name="reloading", daemon=True)

    def start(self, watch: bool) -> None:
        """Begin, in the main thread; `watch`: look at the file every second, too."""
        self._watch = watch
        signal.signal(signal.SIGHUP, self._handle)
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._asked.set()

    def read(self) -> None:
        """Read the file now."""
        try:
            found = load_connector(self._path)
        except (ConfigError, OSError, ValueError) as error:
            self._metrics.reload_ended(taken=False)
            for line in str(error).splitlines():
                log.error("the old rules go on: %s", line)
            return
        others = [
            name
            for name in type(found).model_fields
            if name != "alerts" and getattr(found, name) != getattr(self._connector, name)
        ]
        if others:
            log.warning("changed, but taken by a restart only: %s", ", ".join(others))
        if found.alerts == self._connector.alerts:
            log.info("%s: the rules are as they were", self._path)
            return
        self._connector = self._connector.model_copy(update={"alerts": found.alerts})
        self._apply(found)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._asked.set()

    def _stamp(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size

    def _run(self) -> None:
        while not self._stop.is_set():
            asked = self._asked.wait(_LOOK_SECONDS if self._watch else None)
            self._asked.clear()
            if self._stop.is_set():
                return
            now = self._stamp()
            if asked or (self._watch and now is not None and now != self._seen):
                self._seen = now
                self.read()

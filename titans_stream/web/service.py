"""The page's parts put together, behind HTTP and MCP alike."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psutil

from titans_stream.config import Connector
from titans_stream.engine.model import Model
from titans_stream.ops.places import place_of
from titans_stream.ops.storage import Snapshots
from titans_stream.printable import redacted
from titans_stream.stream.kafka.client import KafkaClients
from titans_stream.stream.kafka.errors import ConnectError, FatalError, StoppedError
from titans_stream.web.control import Control, NoControl
from titans_stream.web.health import LagWatch, snapshots
from titans_stream.web.models import VerdictRequest
from titans_stream.web.reader import Reach, Reader
from titans_stream.web.store import Limits, Store
from titans_stream.web.trials import Trials
from titans_stream.web.views import Views

log = logging.getLogger(__name__)

_PAUSE = 10.0
"""Seconds before Kafka is asked again."""


@dataclass(frozen=True, slots=True)
class Options:
    """How much is read and kept."""

    limits: Limits = field(default_factory=Limits)
    reach: Reach = field(default_factory=Reach)


class Service:
    """Reads a connector's output and answers questions about it, between `start` and `stop`.

    `clients` end their waiting for Kafka with `stopping`.
    """

    def __init__(
        self,
        connector: Connector,
        clients: KafkaClients,
        load_model: Callable[[], Model],
        options: Options | None = None,
        control: Control | None = None,
        stopping: threading.Event | None = None,
    ) -> None:
        options = options or Options()
        self._stopping = stop = stopping or threading.Event()
        self._connector = connector
        self._control = control or NoControl()
        self.store = Store(connector, options.limits)
        self.reader = Reader(clients, connector.output, self.store, options.reach, stop)
        self.views = Views(self.store, self.reader.progress, self._control.topic)
        self.trials = Trials(self.store, self.views, load_model)
        self._lag = LagWatch(clients, connector, stop)
        self._snapshots = Snapshots(
            place_of(connector.state.path, connector.state.snapshots), connector.input.group_id
        )
        self._process = psutil.Process()

    def start(self) -> None:
        """Begin to read."""
        self.reader.start()
        self._lag.start()
        threading.Thread(target=self._recall, name="page-recall", daemon=True).start()

    def stop(self) -> None:
        """End the threads."""
        self._stopping.set()
        self.reader.join()
        self._lag.join()

    def _recall(self) -> None:
        """Learn what was said of alerts before, as soon as Kafka answers."""
        while not self._stopping.is_set():
            try:
                self.store.judge(self._control.said())
            except StoppedError:
                return
            except (ConnectError, FatalError) as error:
                log.warning("what was said of alerts cannot be read yet: %s", redacted(str(error)))
                self._stopping.wait(_PAUSE)
            else:
                return

    def health(self) -> dict[str, Any]:
        """How the worker does, as far as can be seen from outside."""
        problem = ""
        try:
            found = snapshots(self._snapshots, self._connector)
            if not found:
                problem = f"no snapshots of this connector in {self._snapshots}"
        except OSError as error:
            found, problem = [], f"{self._snapshots}: {error.strerror or error}"
        return {
            "status": self.views.status(),
            "lag": self._lag.view(),
            "lag_problem": self._lag.problem,
            "group": self._lag.group.view(),
            "snapshots": found,
            "snapshots_problem": problem,
            **self.views.budget(),
            "page_bytes": self._process.memory_info().rss,
        }

    def say(self, alert_id: str, request: VerdictRequest, author: str) -> dict[str, Any]:
        """Send what a person says of an alert to the worker.

        NotFoundError for an unknown alert, NoControlTopicError where nothing can be said,
        ValueError for a verdict that lacks something.
        """
        with self.store.reading():
            alert = self.views.episode(alert_id).alert
        self._control.send(alert, request, author)
        self.store.judge({alert_id: request.verdict})
        return {
            "alert_id": alert_id,
            "verdict": request.verdict,
            "topic": self._control.topic or "",
        }

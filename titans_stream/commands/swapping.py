"""A connector's engine where the model can change while the worker runs."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from titans_stream.commands.memories import connector_engine
from titans_stream.control.messages import model_version
from titans_stream.durations import SECOND
from titans_stream.engine.engine import StreamEngine
from titans_stream.lifecycle.loading import parse_registered
from titans_stream.lifecycle.model_pin import ModelPin
from titans_stream.lifecycle.model_watch import ModelWatch, load_version
from titans_stream.records import Engine, Order
from titans_stream.stream.switch import Candidate, SwitchEngine

if TYPE_CHECKING:
    from titans_stream.config import Connector
    from titans_stream.engine.model import Model
    from titans_stream.lifecycle.model_cache import ModelCache


class Swapping:
    """A switch, and what feeds it: looks at the registry, and control messages."""

    def __init__(self, connector: Connector, first: Candidate, cache: ModelCache) -> None:
        self._connector = connector
        self._cache = cache
        self._lock = threading.Lock()
        """Held while an engine is built and offered: a change of the rules is for it, too."""
        self.engine = SwitchEngine(first, self._resolve, self._steer)
        self._pin = ModelPin(
            connector.model, cache, self._insist, self.engine.stay, connector.swap.poll / SECOND
        )
        self._watch: ModelWatch | None = None
        if connector.model.startswith("models:") and parse_registered(connector.model)[1]:
            self._watch = ModelWatch(connector.model, first.ref.version, cache, self._offer)

    def reload(self, connector: Connector) -> None:
        """Go on with a connector's rules and budgets, from the next turn of the loop on."""

        def change(engine: Engine) -> None:
            assert isinstance(engine, StreamEngine)
            engine.change_alerts(connector.alerts)

        with self._lock:
            self._connector = self._connector.model_copy(update={"alerts": connector.alerts})
            self.engine.offer_change(change)

    def look(self) -> str:
        """Look at the registry now, as `ModelWatch.look`; the connector names an alias.

        A version that a control message names stays, whatever the alias does.
        """
        assert self._watch is not None
        if self._pin.version is not None:
            return f"version {self._pin.version} stays, as a control message says"
        return self._watch.look()

    def stop(self) -> None:
        """Look no more."""
        self._pin.stop()
        if self._watch is not None:
            self._watch.stop()

    def _candidate(self, model: Model) -> Candidate:
        return Candidate(model.ref, connector_engine(self._connector, model))

    def _offer(self, model: Model) -> None:
        if self._pin.version is None:
            with self._lock:
                self.engine.offer(self._candidate(model))

    def _insist(self, model: Model) -> None:
        with self._lock:
            self.engine.offer(self._candidate(model), insist=True)

    def _steer(self, order: Order) -> None:
        self._pin.wish(model_version(order))

    def _resolve(self, key: str) -> Candidate | None:
        """The model that a committed offset names; only the connector's own is looked for."""
        name, _, version = key.rpartition("/")
        uri = self._connector.model
        if not uri.startswith("models:") or name != parse_registered(uri)[0]:
            return None
        model = load_version(name, version, self._cache)
        return None if model is None else self._candidate(model)


def swapping_engine(
    connector: Connector, model: Model, engine: StreamEngine, cache: ModelCache
) -> Swapping:
    """A connector's engine, whose model and rules can change."""
    return Swapping(connector, Candidate(model.ref, engine), cache)

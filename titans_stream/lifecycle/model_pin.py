"""Loads the model that a control message names, and offers it to a worker."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from titans_stream.engine.model import Model
from titans_stream.lifecycle.loading import load_model, parse_registered
from titans_stream.lifecycle.model_cache import ModelCache
from titans_stream.lifecycle.model_watch import check_served, load_served

log = logging.getLogger(__name__)


class ModelPin:
    """A thread that loads what was wished for last; it begins with the first wish.

    `uri` is the connector's own model, which is loaded where a wish is taken back. `offer` takes
    what was loaded; `stay` is called where that is no use. A registry that does not answer is
    asked again after `pause` seconds.
    """

    def __init__(
        self,
        uri: str,
        cache: ModelCache,
        offer: Callable[[Model], None],
        stay: Callable[[], None],
        pause: float,
    ) -> None:
        self._uri = uri
        self._cache = cache
        self._offer = offer
        self._stay = stay
        self._pause = pause
        self._changed = threading.Condition()
        self._wishes = 0
        self._ended = False
        self._thread: threading.Thread | None = None
        self.version: str | None = None
        """The version that is wished for; None: what the connector names."""

    def wish(self, version: str | None) -> None:
        """Have a version loaded, or with None the connector's own model; from any thread."""
        with self._changed:
            self.version = version
            self._wishes += 1
            self._changed.notify()
            if self._thread is None and not self._ended:
                self._thread = threading.Thread(target=self._run, name="model-pin", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """End; a download that is under way is not waited for."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def _run(self) -> None:
        done, pause = 0, None
        while True:
            with self._changed:
                self._wait_beyond(done, pause)
                if self._ended:
                    return
                wishes, version = self._wishes, self.version
            loaded = self._load(version)
            done, pause = wishes, None if loaded else self._pause

    def _wait_beyond(self, wishes: int, pause: float | None) -> None:
        """Until there was another wish, or the end, or for `pause` seconds."""
        self._changed.wait_for(lambda: self._ended or self._wishes > wishes, timeout=pause)

    def _load(self, version: str | None) -> bool:
        """Load and offer; False: to be tried again."""
        try:
            if not self._uri.startswith("models:"):
                if version is None:
                    self._stay()
                    return True
                raise ValueError(f"the connector's model, {self._uri}, has no versions")
            if version is None:
                model = load_served(self._uri, self._cache)
            else:
                name = parse_registered(self._uri)[0]
                kept = self._cache.get(name, version)
                model = kept or load_model(f"models:/{name}/{version}")
                check_served(model)
                self._cache.keep(model)
        except OSError as error:
            log.warning("the model of a control message: %s; trying again", error)
            return False
        except ValueError as error:
            log.error("a control message names a model that is refused: %s", error)
            self._stay()
            return True
        with self._changed:
            if self.version == version and not self._ended:
                self._offer(model)
        return True

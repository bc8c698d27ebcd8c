"""Looks at the registry, and offers a worker what an alias names next."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from titans_stream.engine.build import build_engine
from titans_stream.engine.model import Model
from titans_stream.lifecycle.loading import load_model, parse_registered
from titans_stream.lifecycle.model_cache import ModelCache
from titans_stream.records import Readings

log = logging.getLogger(__name__)

_CHECKED = 400
_LEAST_COVERED = 0.6


def load_served(uri: str, cache: ModelCache, tracking_uri: str | None = None) -> Model:
    """The model of a registered URI; the last one that was had where no registry answers.

    Raises what `load_model` raises where there is none either.
    """
    name, alias, version = parse_registered(uri)
    try:
        model = load_model(uri, tracking_uri)
    except OSError as error:
        kept = cache.get(name, version) if alias is None else cache.latest(name, alias)
        if kept is None:
            raise
        log.warning(
            "%s; going on with the last model that was had, %s version %s",
            error, name, kept.ref.version,
        )  # fmt: skip
        return kept
    cache.keep(model, alias)
    return model


def load_version(name: str, version: str, cache: ModelCache) -> Model | None:
    """A version from the cache or the registry; None where neither has it."""
    kept = cache.get(name, version)
    if kept is not None:
        return kept
    try:
        model = load_model(f"models:/{name}/{version}")
    except (OSError, ValueError) as error:
        log.warning("%s", error)
        return None
    cache.keep(model)
    return model


def check_served(model: Model) -> None:
    """Run a model on a made series; ValueError where what it says is no use."""
    rng = np.random.default_rng(0)
    n = _CHECKED
    value = 10.0 + np.sin(np.arange(n) * 2 * np.pi / 48) + 0.1 * rng.normal(size=n)
    readings = Readings(
        ["check"] * n, np.arange(n) * 300 * 10**9, value, np.zeros(n, np.int32), np.arange(n)
    )
    scores = build_engine(model).process(readings).scores
    last = slice(n // 2, None)
    bounds = np.array([scores.expected[last], scores.lower[last], scores.upper[last]])
    if not np.isfinite(bounds).all() or not np.isfinite(scores.surprise[last]).all():
        raise ValueError("its forecasts or scores of a made series are not finite")
    covered = np.mean((value[last] >= bounds[1]) & (value[last] <= bounds[2]))
    if covered < _LEAST_COVERED:
        raise ValueError(f"its 95 % band covers {covered:.0%} of a made series")


class ModelWatch:
    """Calls `offer` with each model that is new behind an alias, when it is told to look.

    `version` is the one in use. A model that cannot be loaded or is no use is told once and not
    tried again; a registry that does not answer is told when it begins and when it ends.
    """

    def __init__(
        self,
        uri: str,
        version: str,
        cache: ModelCache,
        offer: Callable[[Model], None],
    ) -> None:
        self._name, alias, _ = parse_registered(uri)
        if alias is None:
            raise ValueError(f"model {uri}: only what an alias names can change")
        self._alias = alias
        self._version = version
        self._cache = cache
        self._offer = offer
        self._stopped = False
        self._refused = ""
        self.down = False
        """Whether the registry did not answer when it was last asked."""

    def stop(self) -> None:
        """End; an answer that is waited for is not taken any more."""
        self._stopped = True

    def look(self) -> str:
        """Ask the registry once, offer what is new; what came of it, in a line.

        OSError where the registry does not answer, ValueError for a model that is refused.
        """
        from titans_stream.lifecycle.registry import alias_version

        try:
            version = alias_version(self._name, self._alias)
        except (OSError, ValueError) as error:
            if not self.down:
                log.warning("%s; the model in use goes on", error)
            self.down = True
            raise
        if self.down:
            log.info("the registry answers again")
            self.down = False
        shown = f"{self._name} version {version}"
        if version == self._version:
            refused = ", refused here" if version == self._refused else ""
            return f"{shown} is {self._alias}{refused}"
        try:
            model = load_model(f"models:/{self._name}/{version}")
            check_served(model)
        except OSError as error:
            log.warning("%s; trying again", error)
            raise
        except ValueError as error:
            log.error("model %s/%s is refused, the old one goes on: %s", self._name, version, error)
            self._version = self._refused = version
            raise ValueError(f"{shown} is refused: {error}") from error
        self._cache.keep(model, self._alias)
        self._version = version
        if not self._stopped:
            self._offer(model)
        return f"{shown} is {self._alias} now"

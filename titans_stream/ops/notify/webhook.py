"""A webhook: each message is posted as JSON, in the words of a template, signed.

The signature is that of Stripe's scheme: the header `Titans-Signature: t=SECONDS,v1=HEX` holds the
HMAC-SHA256, under the shared secret, of `SECONDS.BODY`. `Titans-Id` is the same for a message
however often it is sent.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import Any

import orjson

from titans_stream.durations import SECOND
from titans_stream.notify_settings import PLACEHOLDER, WebhookConfig
from titans_stream.ops.notify.post import DeliveryError, Poster
from titans_stream.ops.notify.receiver import Entry, message_id
from titans_stream.records import Alert


class Webhook:
    """Implements `Receiver`; `clock` counts seconds since 1970."""

    def __init__(
        self,
        config: WebhookConfig,
        connector: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._connector = connector
        self._clock = clock
        self._poster = Poster(config.timeout / SECOND, config.ssl_cafile)

    @property
    def open_count(self) -> int:
        """Nothing is kept."""
        return 0

    def recall(self, entries: Iterable[Entry]) -> None:
        """What was told before this process began is not told again."""

    def forget(self) -> None:
        """Nothing is kept."""

    def deliver(self, entries: list[Entry]) -> int:
        """Post the first message that is for this receiver; how many are done with."""
        for count, entry in enumerate(entries, start=1):
            if self._wants(entry):
                try:
                    self._post(entry.alert)
                except DeliveryError as error:
                    error.done = count
                    raise
                return count
        return len(entries)

    def due(self) -> float | None:
        """Nothing is sent of its own accord."""
        return None

    def refresh(self) -> None:
        """Nothing is sent of its own accord."""

    def _wants(self, entry: Entry) -> bool:
        config = self._config
        return (
            entry.alert.status in config.statuses
            and (config.min_severity == "warning" or entry.critical)
            and fnmatchcase(entry.alert.series_id, config.series)
        )

    def _post(self, alert: Alert) -> None:
        document = {**asdict(alert), "connector": self._connector, "id": message_id(alert)}
        template = self._config.template
        body = orjson.dumps(document if template is None else rendered(template, document))
        headers = {"Titans-Id": message_id(alert)}
        if self._config.authorization is not None:
            headers["Authorization"] = self._config.authorization.get_secret_value()
        if self._config.secret is not None:
            secret = self._config.secret.get_secret_value().encode()
            headers["Titans-Signature"] = signature(secret, int(self._clock()), body)
        self._poster.post(self._config.url.get_secret_value(), body, headers)


def signature(secret: bytes, seconds: int, body: bytes) -> str:
    """The value of the header for a body that is sent at a time."""
    signed = hmac.new(secret, b"%d.%s" % (seconds, body), hashlib.sha256).hexdigest()
    return f"t={seconds},v1={signed}"


def rendered(template: Any, values: dict[str, Any]) -> Any:
    """A template with the values of its fields; nothing in a value counts as a template.

    A text that is one field alone becomes the field's own value, a number for instance.
    """
    if isinstance(template, str):
        alone = PLACEHOLDER.fullmatch(template)
        if alone:
            return values[alone[1]]
        return PLACEHOLDER.sub(lambda match: _text(values[match[1]]), template)
    if isinstance(template, dict):
        return {name: rendered(value, values) for name, value in template.items()}
    if isinstance(template, list):
        return [rendered(value, values) for value in template]
    return template


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else orjson.dumps(value).decode()

"""What a person says of an alert, on its way to the worker."""

from __future__ import annotations

from typing import Protocol

from titans_stream.records import Alert
from titans_stream.web.models import VerdictRequest


class NoControlTopicError(RuntimeError):
    """The connector has no topic for control messages."""


class Control(Protocol):
    """Sends control messages."""

    @property
    def topic(self) -> str | None:
        """The topic; None: there is none, and nothing can be said."""

    def send(self, alert: Alert, verdict: VerdictRequest, author: str) -> None:
        """Publish a verdict and wait until it is there. NoControlTopicError without a topic."""


class NoControl:
    """The control of a connector without a control topic."""

    topic = None

    def send(self, alert: Alert, verdict: VerdictRequest, author: str) -> None:
        """Refuse."""
        raise NoControlTopicError(
            "the connector has no control topic: alerts can be looked at, but nothing can be said "
            "of them here"
        )

"""What a person says of an alert, on its way to the worker."""

from __future__ import annotations

from typing import Protocol

from titans_stream.control.messages import Mark, names_model, parse
from titans_stream.records import Alert
from titans_stream.stream.control_client import mark_of, send, standing
from titans_stream.stream.kafka.client import KafkaClients
from titans_stream.stream.settings import ControlConfig
from titans_stream.times import format_timestamp
from titans_stream.web.episodes import Verdict
from titans_stream.web.models import VerdictRequest


class NoControlTopicError(RuntimeError):
    """The connector has no topic for control messages."""


class Control(Protocol):
    """Sends control messages."""

    @property
    def topic(self) -> str | None:
        """The topic; None: there is none, and nothing can be said."""

    def send(self, alert: Alert, verdict: VerdictRequest, author: str) -> None:
        """Publish a verdict and wait until it is there. NoControlTopicError without a topic.

        ValueError where that cannot be said of the alert, or not be sent.
        """

    def said(self) -> dict[str, Verdict]:
        """What was said before, by alert id. ConnectError where it cannot be read."""


class NoControl:
    """The control of a connector without a control topic."""

    topic = None

    def send(self, alert: Alert, verdict: VerdictRequest, author: str) -> None:
        """Refuse."""
        raise NoControlTopicError(
            "the connector has no control topic: alerts can be looked at, but nothing can be said "
            "of them here"
        )

    def said(self) -> dict[str, Verdict]:
        """Nothing."""
        return {}


class KafkaControl:
    """The control of a connector that has a control topic (docs/control.md)."""

    def __init__(self, clients: KafkaClients, config: ControlConfig) -> None:
        self._clients = clients
        self._config = config

    @property
    def topic(self) -> str:
        """The topic."""
        return self._config.topic

    def send(self, alert: Alert, verdict: VerdictRequest, author: str) -> None:
        """Publish a mark about the alert's episode."""
        until = None if verdict.until is None else format_timestamp(verdict.until)
        mark = mark_of(alert, verdict.verdict, until=until, by=author[:200], note=verdict.note)
        send(self._clients, self._config, mark)

    def said(self) -> dict[str, Verdict]:
        """The marks in force, whoever sent them."""
        found: dict[str, Verdict] = {}
        for one in standing(self._clients, self._config):
            if one.in_force and one.order is not None and not names_model(one.order):
                message = parse(one.order.text)
                if isinstance(message, Mark) and message.alert_id is not None:
                    found[message.alert_id] = message.action
        return found

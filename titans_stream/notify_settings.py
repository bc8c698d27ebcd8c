"""What a connector says about notifications: who is told of alerts, and in which words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)

from titans_stream.durations import DAY, SECOND, Duration
from titans_stream.records import Alert

PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
"""A field of the alert in a text of a template."""
TEMPLATE_FIELDS = frozenset(f.name for f in fields(Alert)) | {"connector", "id"}
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_OWN_LABELS = frozenset({"alertname", "connector", "series", "reason", "severity"})


def _url(value: SecretStr) -> SecretStr:
    parts = urlsplit(value.get_secret_value())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a URL is needed, such as https://host/path")
    try:
        parts.port  # noqa: B018 - read for its ValueError
    except ValueError as error:
        raise ValueError(f"a URL's port is a number up to 65535 ({error})") from error
    if parts.username or parts.password:
        raise ValueError("user and password do not belong in a URL; use authorization")
    return value


def _label(value: str) -> str:
    if _LABEL.fullmatch(value) is None or value.startswith("__"):
        raise ValueError(f"{value!r}: letters, digits and _ are allowed, no digit first")
    if value in _OWN_LABELS:
        raise ValueError(f"{value!r} is set from the alert")
    return value


def _texts(template: Any) -> Iterator[str]:
    if isinstance(template, str):
        yield template
    elif isinstance(template, dict):
        for key, value in template.items():
            if not isinstance(key, str):
                raise ValueError(f"template: a key is text, not {key!r}")
            yield from _texts(value)
    elif isinstance(template, list):
        for value in template:
            yield from _texts(value)


def _template(value: dict[str, Any] | None) -> dict[str, Any] | None:
    for text in _texts(value):
        for name in PLACEHOLDER.findall(text):
            if name not in TEMPLATE_FIELDS:
                raise ValueError(f"{{{name}}} is no field of an alert")
    return value


def _one_or_several(value: object) -> object:
    return [value] if isinstance(value, str) else value


Url = Annotated[SecretStr, AfterValidator(_url)]
Label = Annotated[str, Field(max_length=100), AfterValidator(_label)]
Severity = Literal["warning", "critical"]


class ReceiverConfig(BaseModel):
    """What all receivers have."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    authorization: SecretStr | None = Field(
        default=None,
        description="the Authorization header, e.g. Bearer ...; must be a reference such as "
        "${TOKEN}",
    )
    timeout: Annotated[Duration, Field(gt=0, le=60 * SECOND)] = Field(
        default=10 * SECOND, description="of one attempt"
    )
    give_up_after: Duration = Field(
        default=DAY, ge=SECOND, description="a message is dropped that cannot be delivered so long"
    )
    min_severity: Severity = Field(
        default="warning", description="an episode that never was that severe is not told"
    )
    ssl_cafile: str | None = Field(default=None, description="PEM file of trusted authorities")


class AlertmanagerConfig(ReceiverConfig):
    """Alertmanager's v2 API."""

    urls: Annotated[
        list[Url],
        Field(min_length=1),
        BeforeValidator(_one_or_several, json_schema_input_type=str | list[str]),
    ] = Field(description="of each member of a cluster, e.g. http://alertmanager:9093")
    labels: dict[Label, str] = Field(default={}, description="beside those of the alert")
    resend_every: Annotated[Duration, Field(ge=SECOND)] = Field(
        default=60 * SECOND, description="time between two times that what is open is sent"
    )
    lasts: Annotated[Duration, Field(ge=SECOND)] = Field(
        default=15 * 60 * SECOND,
        description="Alertmanager takes an alert for ended that is not sent again so long",
    )

    @model_validator(mode="after")
    def _lasts_longer(self) -> AlertmanagerConfig:
        if self.lasts < 2 * self.resend_every:
            raise ValueError("lasts: at least twice resend_every is needed")
        return self


class WebhookConfig(ReceiverConfig):
    """One URL that each message is posted to as JSON."""

    url: Url
    secret: SecretStr | None = Field(
        default=None,
        description="signs each message (HMAC-SHA256); must be a reference such as ${SECRET}",
    )
    template: Annotated[dict[str, Any] | None, AfterValidator(_template)] = Field(
        default=None,
        description="the body; {field} in its texts is a field of the alert; none: the alert",
    )
    statuses: list[Literal["opened", "updated", "resolved"]] = Field(
        default=["opened", "resolved"], min_length=1, description="which messages are told"
    )
    series: str = Field(default="*", description="glob of the ids that are told")


class NotifyConfig(BaseModel):
    """Who is told of alerts by `titans-stream notify`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    group_id: str = Field(
        default="",
        max_length=200,
        description="consumer groups begin like this; default titans-stream.<name>.notify",
    )
    history: Duration = Field(
        default=7 * DAY,
        ge=0,
        description="alerts so old, by Kafka's timestamps, are read at the start for what is open",
    )
    alertmanager: AlertmanagerConfig | None = Field(default=None)
    webhooks: dict[Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,40}$")], WebhookConfig] = Field(
        default={}, description="by name"
    )

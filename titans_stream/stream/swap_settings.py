"""The part of a connector about changes of the model while the worker runs."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from titans_stream.durations import DAY, SECOND, Duration


class RegistryWebhookConfig(BaseModel):
    """Where MLflow's registry tells of changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    host: str = Field(default="127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(ge=1, le=65_535)
    secret: SecretStr = Field(
        min_length=16, description="that of the webhook in MLflow: a reference such as ${SECRET}"
    )


class SwapConfig(BaseModel):
    """How a running worker changes to a new version of a model that it names by an alias."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    poll: Annotated[Duration, Field(ge=SECOND, le=60 * SECOND)] = Field(
        default=30 * SECOND, description="time between two looks at the registry, at most 1m"
    )
    warm_up: Duration = Field(
        default=7 * DAY, description="history that the new model learns from beside the running one"
    )
    most_messages: int = Field(
        default=200_000, ge=0, description="most messages of it, by partition"
    )
    most_alerts_per_1000: float = Field(
        default=20.0,
        gt=0,
        description="a model that opens more alerts per 1000 messages of its warm-up is refused",
    )
    webhook: RegistryWebhookConfig | None = Field(
        default=None, description="has the registry looked at as soon as it tells of a change"
    )

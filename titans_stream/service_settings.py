"""What a connector says about the service around the stream: what is served, what is traced."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class HttpConfig(BaseModel):
    """Where `run` and `jobs --serve` serve /metrics, /healthz and /readyz."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    port: int | None = Field(
        default=None, ge=0, le=65_535, description="0: any that is free; none: nothing is served"
    )
    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="address to listen on; 0.0.0.0: all, for scrapes from other machines. There is "
        "no authentication: keep it inside",
    )


class TracesConfig(BaseModel):
    """Where the worker sends OpenTelemetry traces of its work."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    endpoint: str = Field(
        default="http://127.0.0.1:4318/v1/traces",
        pattern=r"^https?://[^\s/]+",
        description="a collector's OTLP address over HTTP; headers by OTEL_EXPORTER_OTLP_HEADERS",
    )
    share: float = Field(
        default=1.0, gt=0, le=1, description="of the batches, drawn by chance, that are traced"
    )

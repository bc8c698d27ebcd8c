"""What a connector says about the service around the stream: what is served over HTTP."""

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

"""The engine's settings."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from titans_stream.durations import DAY, Duration
from titans_stream.special_days import CalendarConfig
from titans_stream.times import ClockReset

Duplicates = Literal["keep-order", "drop", "keep-last", "spread"]
WhenFull = Literal["refuse", "replace-idle"]


class EngineConfig(BaseModel):
    """Where and how series are kept and in which order their readings are taken.

    `max_out_of_orderness` is a bound per series: a reading waits until the same series has been
    seen that much later. With 0 nothing waits, unless `duplicates` needs a series' next timestamp,
    and whatever is older than the series' last reading is late.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="where series are scored: cuda is the first NVIDIA GPU, which holds the state "
        "of all slots; auto takes it for more than 100,000 slots where it has room, else the CPU",
    )
    slots: int = Field(
        default=100_000, ge=1, description="series kept in slots; idle ones beyond are spilled"
    )
    max_series: int = Field(
        default=100_000, ge=1, description="most series of one partition; see when_full"
    )
    when_full: WhenFull = Field(
        default="refuse",
        description="what becomes of a new series of a full partition: refuse makes its readings "
        "dead letters, unless a series with fewer than 50 readings has been idle for long; "
        "replace-idle forgets the one of those that is idle longest",
    )
    max_out_of_orderness: Duration = Field(default=0)
    duplicates: Duplicates = Field(
        default="keep-order",
        description="several readings with one timestamp: keep-order scores each different value, "
        "in order; drop the first only; keep-last the last only; spread puts them between this "
        "timestamp and the next. keep-last and spread wait for the series' next timestamp",
    )
    clock_reset: ClockReset = 0
    expected_interval: Duration | None = Field(
        default=None, description="time between readings; learned per series when not given"
    )
    gap_factor: float = Field(
        default=5.0, gt=1, description="a gap is this many intervals without a reading"
    )
    expire_after: Duration = Field(
        default=30 * DAY,
        description="a series silent for longer, and for more than ten of its own intervals, "
        "starts anew (event time)",
    )
    timezone: str = Field(default="UTC", description="IANA name; sets the time of day")
    calendar: SkipJsonSchema[CalendarConfig | None] = Field(
        default=None, description="special days; a connector's stand beside its engine"
    )

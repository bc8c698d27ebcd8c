"""The settings of published forecasts: how far, how often, and which quantiles."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from titans_stream.durations import Duration

MOST_STEPS = 10_000
"""Readings ahead, at most."""
MOST_NUMBERS = 25_000
"""Numbers in a forecast, medians included: its message stays below 1 MiB, a broker's limit."""
_MOST_QUANTILES = 20


def _levels(levels: tuple[float, ...]) -> tuple[float, ...]:
    for level in levels:
        if not 0.0 < level < 1.0:
            raise ValueError(f"{level:g} is not between 0 and 1")
        if level == 0.5:
            raise ValueError("0.5 is the median, which is always published")
    if len(set(levels)) != len(levels):
        raise ValueError("a quantile is named twice")
    return tuple(sorted(levels))


def _ordered(bounds: tuple[float | None, float | None]) -> tuple[float | None, float | None]:
    low, high = bounds
    if low is not None and high is not None and not low < high:
        raise ValueError(f"{low:g} is not below {high:g}")
    return bounds


class ForecastConfig(BaseModel):
    """What is forecast of each series, and how often.

    A series' forecast follows one of its readings and covers the next ones, at the series' own
    interval. `horizon` is turned into readings by that interval; a series so fast that this gives
    more than `most_steps` gets that many.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    horizon: Duration | None = Field(
        default=None, gt=0, description="how far ahead; either this or steps is needed"
    )
    steps: int | None = Field(
        default=None, ge=1, le=MOST_STEPS, description="how many readings ahead"
    )
    every: int = Field(
        default=24,
        ge=1,
        le=1_000_000,
        description="readings of a series between two forecasts of it",
    )
    quantiles: Annotated[
        tuple[float, ...], Field(max_length=_MOST_QUANTILES), AfterValidator(_levels)
    ] = Field(
        default=(0.025, 0.1, 0.9, 0.975),
        description="levels published beside the median, each above 0 and below 1",
    )

    bounds: Annotated[tuple[float | None, float | None], AfterValidator(_ordered)] = Field(
        default=(None, None),
        description="what no forecast is below, and above; null: unbounded",
    )
    learn_bounds: bool = Field(
        default=True,
        description="forecast a series that never was negative not below zero, one of whole "
        "numbers in these, and as its least value what mostly is that",
    )
    counters: bool = Field(
        default=True,
        description="forecast a series that only rises, but for resets, by its changes",
    )
    mal: bool = Field(
        default=False,
        description="let the neural residual correct the steps of the next period",
    )

    @model_validator(mode="after")
    def _one_length(self) -> ForecastConfig:
        if (self.horizon is None) == (self.steps is None):
            raise ValueError("exactly one of horizon and steps is needed")
        if self.steps is not None and self.steps > self.most_steps:
            raise ValueError(
                f"steps: with {len(self.quantiles)} quantiles at most {self.most_steps:,} "
                f"readings ahead fit a message, not {self.steps:,}"
            )
        return self

    @property
    def most_steps(self) -> int:
        """Readings ahead that fit a message."""
        return min(MOST_STEPS, MOST_NUMBERS // (1 + len(self.quantiles)))

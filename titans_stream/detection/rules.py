"""What counts as an alert: the alert budget, the episode's shape and rules per series pattern."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from titans_stream.durations import DAY, NoDataAfter

Direction = Literal["above", "below", "both"]


class SeriesRule(BaseModel):
    """Settings for the series whose id matches the glob `series`; unset fields inherit.

    Rules are read from top to bottom and a later one overrides an earlier one field by field.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    series: str = Field(min_length=1, description="glob over series ids, e.g. 'plant1/*/pressure'")
    direction: Direction | None = Field(
        default=None, description="alert only on values above, or below, what is normal"
    )
    min_deviation: float | None = Field(
        default=None, ge=0, description="least |value - normal| of an alert, in the value's units"
    )
    min_deviation_ratio: float | None = Field(
        default=None, ge=0, description="least |value - normal| / |normal| of an alert"
    )
    valid_range: tuple[float | None, float | None] | None = Field(
        default=None, description="[low, high]; a value outside is an alert at once"
    )
    false_alarms_per_series_per_day: float | None = Field(default=None, gt=0)
    enabled: bool | None = Field(default=None, description="false: score, but never alert")
    no_data_after: NoDataAfter | None = None

    @model_validator(mode="after")
    def _ordered(self) -> SeriesRule:
        if self.valid_range is not None:
            low, high = self.valid_range
            if low != low or high != high:
                raise ValueError("valid_range: numbers are needed, or null for no limit")
            if low is None and high is None:
                raise ValueError("valid_range: at least one of [low, high] must be a number")
            if low is not None and high is not None and low >= high:
                raise ValueError(f"valid_range: low {low} must be below high {high}")
        return self


class AlertConfig(BaseModel):
    """When an episode opens, how it ends and what is published about it.

    The budget is the number of false episodes per series and day that is acceptable; it sets
    the threshold through the calibrated rate of docs/method.md. Counts are readings.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    false_alarms_per_series_per_day: float = Field(
        default=0.1, gt=0, description="the alert budget: false episodes per series and day"
    )
    onboarding_allowance: float = Field(
        default=0.0,
        ge=0,
        le=5,
        description="extra false episodes accepted from a new series while its history is short",
    )
    min_duration: int = Field(
        default=1, ge=1, le=100, description="readings above the threshold before an alert opens"
    )
    hysteresis: float = Field(
        default=0.5,
        ge=0,
        le=5,
        description="an episode ends below threshold minus this, in decades of rarity; less at a "
        "budget above one in 1,000 readings",
    )
    resolve_after: int = Field(
        default=10, ge=1, le=10_000, description="quiet readings in a row that end an episode"
    )
    max_duration: int = Field(
        default=2_000, ge=10, description="readings after which an episode is ended in any case"
    )
    cool_down: int | None = Field(
        default=None,
        ge=0,
        description="readings of silence after an onset; default clip(.045 t, 30, 150), at most a "
        "quarter of the mean distance that the budget allows",
    )
    critical_factor: float = Field(
        default=10.0, ge=1, description="this many times rarer than the budget is critical"
    )
    update_every: int = Field(
        default=0,
        ge=0,
        description="readings between `updated` messages; 0: only when severity rises",
    )
    no_data_after: NoDataAfter = 0
    rules: tuple[SeriesRule, ...] = Field(default=(), description="per series pattern")


class ResolvedRule(BaseModel):
    """What the rules of an `AlertConfig` come to for one series."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    direction: Direction = "both"
    min_deviation: float = 0.0
    min_deviation_ratio: float = 0.0
    low: float = float("-inf")
    high: float = float("inf")
    false_alarms_per_day: float
    enabled: bool = True
    no_data_after: int = 0


def resolve_rule(config: AlertConfig, series_id: str) -> ResolvedRule:
    """Fold the rules that match `series_id`, later ones over earlier ones."""
    merged: dict[str, object] = {
        "false_alarms_per_day": config.false_alarms_per_series_per_day,
        "no_data_after": config.no_data_after,
    }
    for rule in _matching(config.rules, series_id):
        for name in (
            "direction",
            "min_deviation",
            "min_deviation_ratio",
            "enabled",
            "no_data_after",
        ):
            value = getattr(rule, name)
            if value is not None:
                merged[name] = value
        if rule.false_alarms_per_series_per_day is not None:
            merged["false_alarms_per_day"] = rule.false_alarms_per_series_per_day
        if rule.valid_range is not None:
            low, high = rule.valid_range
            merged["low"] = float("-inf") if low is None else low
            merged["high"] = float("inf") if high is None else high
    return ResolvedRule.model_validate(merged)


def resolve_rules(config: AlertConfig, names: Sequence[str]) -> list[ResolvedRule]:
    """As `resolve_rule`, for many series; those that match the same rules share one."""
    if not config.rules:
        return [resolve_rule(config, "")] * len(names)
    known: dict[tuple[bool, ...], ResolvedRule] = {}
    found = []
    for name in names:
        key = tuple(fnmatchcase(name, rule.series) for rule in config.rules)
        rule = known.get(key)
        if rule is None:
            rule = known[key] = resolve_rule(config, name)
        found.append(rule)
    return found


def alarms_accepted(config: AlertConfig, spans: Mapping[str, int]) -> float:
    """False alarms that the budgets accept, by name, for so many nanoseconds each."""
    rules = resolve_rules(config, list(spans))
    return sum(
        rule.false_alarms_per_day * span / DAY
        for rule, span in zip(rules, spans.values(), strict=True)
        if rule.enabled
    )


def _matching(rules: Sequence[SeriesRule], series_id: str) -> list[SeriesRule]:
    return [rule for rule in rules if fnmatchcase(series_id, rule.series)]

"""What the API takes and gives, for validation and the OpenAPI document.

Single times are RFC 3339 text; times of columns are seconds since 1970. A value that is missing is
null.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from titans_stream.detection.rules import Direction
from titans_stream.times import Timestamp

MOST_ID = 512
MOST_SCORED = 50_000


class _Taken(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Message(BaseModel):
    """One message about an episode."""

    status: str
    severity: str
    timestamp: str
    value: float | None
    explanation: str


class ChannelView(BaseModel):
    """A channel of an alerted group, the driving one first."""

    series_id: str
    share: float
    value: float | None
    expected: float | None
    lower: float | None
    upper: float | None


class EpisodeView(BaseModel):
    """An episode as its newest message tells it; fields as in docs/messages.md where not said."""

    alert_id: str
    series_id: str
    asset: str = Field(description="the group, or the series id up to its last /")
    open: bool
    status: str
    severity: str
    reason: str
    onset: str
    timestamp: str
    peak_timestamp: str
    duration_s: float
    value: float | None
    onset_value: float | None
    latest_value: float | None
    expected: float | None
    lower: float | None
    upper: float | None
    direction: str
    what: str
    limit: float | None
    score: float | None
    rate_per_day: float | None
    budget_per_day: float = Field(description="false episodes a day that are accepted")
    over: float | None = Field(
        description="how many times rarer than the budget accepts; null: no rate is known"
    )
    extrapolated: bool
    explanation: str
    channels: list[ChannelView]
    verdict: str | None = Field(description="what a person said of it")
    spark: list[float | None] = Field(description="newest values of the series, oldest first")


class IncidentView(BaseModel):
    """Episodes of one asset that come together, the gravest first."""

    asset: str
    open: bool
    severity: str
    onset: str
    end: str
    episodes: list[EpisodeView]
    more: int = Field(description="episodes beyond those that are listed")


class Inbox(BaseModel):
    """Incidents, the gravest first."""

    total: int
    open: int
    offset: int
    incidents: list[IncidentView]


class Explanation(BaseModel):
    """Everything that is known of one alert."""

    alert: EpisodeView
    figures: dict[str, float]
    messages: list[Message]
    earlier: list[EpisodeView] = Field(description="earlier episodes of the same series")
    together: list[EpisodeView] = Field(description="others of the same incident")
    source: dict[str, Any]
    model: dict[str, str]


class SeriesRow(BaseModel):
    """A series in the table."""

    series_id: str
    state: str
    time: str | None
    value: float | None
    expected: float | None
    lower: float | None
    upper: float | None
    score: float | None
    over: float | None
    readings: int
    group: str | None
    spark: list[float | None]


class SeriesPage(BaseModel):
    """A page of the table of series."""

    total: int
    offset: int
    states: dict[str, int]
    series: list[SeriesRow]


class ForecastView(BaseModel):
    """A forecast: values by time, seconds since 1970."""

    origin: str
    time: list[float]
    median: list[float | None]
    quantiles: dict[str, list[float | None]]
    period: float | None


class Readings(BaseModel):
    """The kept readings of a series as columns of equal length, oldest first."""

    series_id: str
    state: str
    group: str | None
    members: list[str] = Field(description="the channels, where the id is a group's")
    budget_per_day: float
    readings_per_day: float | None
    kept: int
    shown: int
    time: list[float]
    value: list[float | None]
    expected: list[float | None]
    lower: list[float | None]
    upper: list[float | None]
    surprise: list[float | None]
    over: list[float | None] = Field(
        description="how many times rarer than the budget accepts an episode this strange is"
    )
    alert: list[int]
    gap: list[int]
    forecast: ForecastView | None
    episodes: list[EpisodeView]


class SurpriseChannel(BaseModel):
    """A channel of the detector."""

    name: str
    meaning: str


class SurpriseChannels(BaseModel):
    """What a series' surprise is made of, by the engine over the kept history.

    Of several readings in a column the highest. A channel's score says how far it is above its own
    usual; the highest one is the cause that an explanation names.
    """

    series_id: str
    channels: list[SurpriseChannel]
    readings: int = Field(description="those that the engine took")
    time: list[float]
    surprise: list[float | None]
    scores: list[list[float | None]] = Field(description="by channel, each as long as time")


class RuleChange(_Taken):
    """Settings of one series to try; what is left out stays as it is."""

    false_alarms_per_series_per_day: float | None = Field(default=None, gt=0, le=1e6)
    direction: Direction | None = None
    min_deviation: float | None = Field(default=None, ge=0)
    min_deviation_ratio: float | None = Field(default=None, ge=0)


class WhatIfRequest(_Taken):
    """Which series (or group), and the rule to try."""

    series_id: str = Field(min_length=1, max_length=MOST_ID)
    rule: RuleChange


class TrialEpisode(BaseModel):
    """An episode of a run beside the stream.

    `change` sets one run beside the other: stays (the other has one that overlaps), gone or new.
    """

    series_id: str
    onset: str
    end: str
    reason: str
    severity: str
    status: str
    over: float | None
    explanation: str
    change: Literal["stays", "gone", "new"]


class Trial(BaseModel):
    """Episodes of the kept history under some rules."""

    budget_per_day: float
    direction: str
    min_deviation: float
    min_deviation_ratio: float
    episodes: list[TrialEpisode]


class WhatIf(BaseModel):
    """The present rules and the changed ones over the same readings, both from empty memories."""

    series_id: str
    members: list[str]
    begin: str
    end: str
    readings: int
    before: Trial
    after: Trial
    yaml: str


class ReadingIn(_Taken):
    """One reading to score."""

    series: str = Field(min_length=1, max_length=MOST_ID)
    timestamp: Timestamp
    value: float | None = Field(allow_inf_nan=False)
    group: str | None = Field(default=None, min_length=1, max_length=MOST_ID)


class ScoreRequest(_Taken):
    """Readings in the order in which they came."""

    readings: list[ReadingIn] = Field(min_length=1, max_length=MOST_SCORED)


class ScoreAnswer(BaseModel):
    """Columns of equal length, in the order in which the engine released the readings."""

    series: list[str]
    timestamp: list[str]
    status: list[str]
    value: list[float | None]
    score: list[float | None]
    surprise: list[float | None]
    p_value: list[float | None]
    rarity: list[float | None]
    expected: list[float | None]
    lower: list[float | None]
    upper: list[float | None]
    alert: list[int]
    alerts: list[dict[str, Any]] = Field(description="alert messages, as in docs/messages.md")


class VerdictRequest(_Taken):
    """What a person says of an alert."""

    verdict: Literal["true_alarm", "false_alarm", "expected"]
    until: Timestamp | None = Field(
        default=None, description="for expected: until when the same is expected"
    )
    note: str = Field(default="", max_length=1000)


class VerdictAnswer(BaseModel):
    """The verdict, and the topic that it was sent to."""

    alert_id: str
    verdict: str
    topic: str


class Status(BaseModel):
    """What is served, and how far it has been read."""

    connector: str
    version: str
    topics: dict[str, str | None]
    control_topic: str | None
    model: dict[str, str] | None
    problem: str
    behind: dict[str, int]
    caught_up: bool
    unreadable: int
    series: int
    states: dict[str, int]
    open_alerts: int
    episodes: int
    readings_kept: int
    readings_of_series: int
    readings_per_second: float
    newest: str | None
    versions: dict[str, int]


class PartitionLag(BaseModel):
    """A partition of the input, as the worker's consumer group has read it."""

    topic: str
    partition: int
    end: int
    committed: int | None
    lag: int | None


class Worker(BaseModel):
    """A member of the connector's consumer group."""

    client: str
    host: str
    partitions: dict[str, list[int]] = Field(description="those that it has, by topic")


class Group(BaseModel):
    """The workers, and how their partitions moved while this page watched."""

    state: str = Field(description="Kafka's word: Stable, Empty, ...; empty where it is not told")
    members: list[Worker]
    rebalances: int = Field(description="changes of who has which partitions, as far as seen")
    last_rebalance: str | None
    watched_since: str


class SnapshotView(BaseModel):
    """The newest snapshot of a partition."""

    topic: str
    partition: int
    offset: int
    written: str
    age_s: float
    bytes: int
    model: str


class Health(BaseModel):
    """How the worker does, as far as can be seen from outside."""

    status: Status
    lag: list[PartitionLag]
    lag_problem: str
    group: Group
    snapshots: list[SnapshotView]
    snapshots_problem: str
    period_days: float = Field(description="days that the kept episodes and readings cover")
    alerts_due: float | None = Field(description="false alerts that the budgets accept for them")
    alerts_opened: int = Field(description="episodes that the engine's rarity opened in that time")
    page_bytes: int = Field(description="resident memory of the page's own process")


class Problem(BaseModel):
    """Why a request was refused."""

    error: str

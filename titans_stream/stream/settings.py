"""What a connector says about its input, its outputs, delivery and state."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    field_validator,
    model_validator,
)

from titans_stream.durations import DAY, MILLISECOND, SECOND, Duration, format_duration
from titans_stream.stream.codec.fields import parse_path
from titans_stream.stream.codec.series_template import SeriesTemplate
from titans_stream.stream.swap_settings import SwapConfig
from titans_stream.times import ClockReset, Timestamp, ZoneName, parse_timestamp

ValueType = Literal["number", "boolean", "state"]
TimeUnit = Literal["auto", "s", "ms", "us", "ns", "rfc3339", "calendar", "days"]
_NAME = re.compile(r"[a-zA-Z0-9._-]+")


def checked_name(value: str) -> str:
    """`value` if it can be the name of a topic, else ValueError."""
    if _NAME.fullmatch(value) is None or value in (".", ".."):
        raise ValueError(f"{value!r}: letters, digits, '.', '_' and '-' are allowed")
    return value


Topic = Annotated[str, Field(max_length=249), AfterValidator(checked_name)]


def _path(value: str) -> str:
    parse_path(value)
    return value


def checked_format(value: str) -> str:
    """`value` if it is a format of strptime that holds a date, else ValueError."""
    example = datetime(2031, 12, 30, 23, 58, 57)
    try:
        read = datetime.strptime(example.strftime(value), value)
    except (ValueError, re.error) as error:
        raise ValueError(f"{value!r}: {error}") from error
    if read.year != example.year:
        raise ValueError(f"{value!r}: names no year; a format such as '%d.%m.%Y %H:%M' is needed")
    return value


TimeFormat = Annotated[str, AfterValidator(checked_format)]

FieldPath = Annotated[
    str,
    Field(min_length=1, description="a field of the message; a.b is field b of object a"),
    AfterValidator(_path),
]


class TimestampConfig(BaseModel):
    """Where a reading's time stands and in which unit; no field: the Kafka timestamp."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: FieldPath | None = Field(default=None)
    unit: TimeUnit = Field(
        default="auto",
        description="auto: text is RFC 3339; numbers are s, ms, us or ns since 1970 by their size, "
        "or the digits of a date; calendar: digits, YYYY to YYYYMMDDhhmmss; days: of a spreadsheet",
    )
    format: TimeFormat | None = Field(
        default=None,
        description="of text, as in Python's strptime, e.g. '%d.%m.%Y %H:%M'; none: RFC 3339",
    )

    @model_validator(mode="after")
    def _format_of_text(self) -> TimestampConfig:
        if self.format is not None and (self.field is None or self.unit != "auto"):
            raise ValueError("format: needs a field, and no unit beside it")
        return self


class ValueConfig(BaseModel):
    """What a value's field holds beside numbers and null."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: ValueType = Field(
        description="number: in text, too; boolean: truth values as 1 and 0; state: text by name"
    )
    states: dict[str, FiniteFloat] = Field(
        default={}, description="for type state: the number of each, e.g. {open: 1, closed: 0}"
    )

    @model_validator(mode="after")
    def _states_of_state(self) -> ValueConfig:
        if (self.type == "state") != bool(self.states):
            raise ValueError("states: needed for type state, and only there")
        return self


def _value_config(value: object) -> object:
    return {"type": value} if isinstance(value, str) else value


def _timestamp_config(value: object) -> object:
    if value == "kafka":
        return {}
    return {"field": value} if isinstance(value, str) else value


def _start(value: str) -> str:
    if value not in ("earliest", "latest"):
        try:
            parse_timestamp(value)
        except ValueError as error:
            raise ValueError(f"earliest, latest or a time is needed, not {value!r}") from error
    return value


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{value!r} is no regular expression: {error}") from error
    if not value:
        raise ValueError("a regular expression is needed")
    return value


def _template(value: str) -> str:
    SeriesTemplate(value)
    return value


def _group_template(value: str) -> str:
    SeriesTemplate(value, "group")
    return value


@dataclass(frozen=True, slots=True)
class Subscription:
    """The topics of an input: by name, or all whose whole name a regular expression matches."""

    names: tuple[str, ...] = ()
    pattern: str | None = None

    @property
    def regex(self) -> str | None:
        """The expression that matches names from their beginning to their end."""
        return None if self.pattern is None else rf"(?:{self.pattern})\Z"

    def has(self, topic: str) -> bool:
        """Whether a topic is one of them."""
        if self.regex is None:
            return topic in self.names
        return re.match(self.regex, topic) is not None

    @property
    def text(self) -> str:
        """The topics in words."""
        return ", ".join(self.names) if self.pattern is None else f"all like {self.pattern}"


class InputConfig(BaseModel):
    """Which topic is read, and what a reading is in its messages."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    topic: Topic | Literal[""] = Field(default="", description="the topic")
    topics: tuple[Topic, ...] = Field(default=(), description="several topics")
    topic_pattern: Annotated[str, AfterValidator(_pattern)] | None = Field(
        default=None,
        description="a regular expression: all topics whose whole name it matches, later ones too",
    )
    group_id: str = Field(
        default="",
        max_length=249,
        description="consumer group; default titans-stream.<name of the connector>",
    )
    start: Annotated[str, AfterValidator(_start)] = Field(
        default="latest",
        description="where a new group starts: earliest, latest or an RFC 3339 time",
    )
    warm_up: Duration = Field(
        default=0, description="history read before the start, to learn from without alerting"
    )
    series: Annotated[str, AfterValidator(_template)] = Field(
        description="template of the series id: {field}, {key}, {topic}, {partition}, {value_name}"
    )
    group: Annotated[str, AfterValidator(_group_template)] | None = Field(
        default=None,
        description="template of the asset that a series is a channel of: its series are judged "
        "jointly and alerted as one; none: each series alone",
    )
    value: FieldPath | None = Field(default=None, description="the field that holds the value")
    values: tuple[FieldPath, ...] = Field(
        default=(), description="several fields, each a series of its own"
    )
    items: FieldPath | None = Field(
        default=None,
        description="a field that holds an array of readings; '.': the message is the array",
    )
    lenient: bool = Field(
        default=False,
        description="read numbers and truth values in text, times as numbers in text, and JSON "
        "after a byte-order mark or a schema registry's header",
    )
    types: dict[
        FieldPath,
        Annotated[
            ValueConfig, BeforeValidator(_value_config, json_schema_input_type=str | ValueConfig)
        ],
    ] = Field(
        default={},
        description="by value field: number, boolean, or {type: state, states: {open: 1}}",
    )
    missing_values: tuple[FiniteFloat | str, ...] = Field(
        default=(), description="numbers or texts that stand for a missing value, e.g. -999"
    )
    timestamp: Annotated[
        TimestampConfig,
        BeforeValidator(_timestamp_config, json_schema_input_type=str | TimestampConfig),
    ] = Field(
        default=TimestampConfig(),
        description="a field, {field, unit}, or kafka: the Kafka timestamp",
    )
    timezone: ZoneName = Field(
        default="UTC", description="IANA name; for times without offset and for the time of day"
    )
    clock_reset: ClockReset = 0
    max_future: Duration = Field(
        default=DAY, description="a time further ahead of its message is refused"
    )
    min_timestamp: Timestamp = Field(
        default=parse_timestamp("1990-01-01"), description="an earlier time is refused"
    )

    @model_validator(mode="after")
    def _one_or_several(self) -> InputConfig:
        if bool(self.topic) + bool(self.topics) + (self.topic_pattern is not None) != 1:
            raise ValueError("exactly one of topic, topics and topic_pattern is needed")
        if len(set(self.topics)) != len(self.topics):
            raise ValueError("topics: a topic is named twice")
        if (self.value is None) == (not self.values):
            raise ValueError("exactly one of value and values is needed")
        if len(set(self.values)) != len(self.values):
            raise ValueError("values: a field is named twice")
        unknown = sorted(self.types.keys() - set(self.value_names))
        if unknown:
            raise ValueError(f"types: {unknown[0]!r} is no field of value or values")
        return self

    @property
    def subscription(self) -> Subscription:
        """The topics that are read."""
        return Subscription(
            self.topics or ((self.topic,) if self.topic else ()), self.topic_pattern
        )

    @property
    def value_names(self) -> tuple[str, ...]:
        """The value fields, in order."""
        return (self.value,) if self.value is not None else self.values

    @property
    def series_template(self) -> SeriesTemplate:
        """The parsed `series`, which tells several values apart."""
        template = SeriesTemplate(self.series)
        if self.values and not template.uses("value_name"):
            return SeriesTemplate(self.series + "/{value_name}")
        return template

    @property
    def group_template(self) -> SeriesTemplate | None:
        """The parsed `group`."""
        return None if self.group is None else SeriesTemplate(self.group, "group")

    @property
    def start_timestamp(self) -> int | None:
        """`start` in nanoseconds, None for earliest and latest."""
        return None if self.start in ("earliest", "latest") else parse_timestamp(self.start)


class OutputConfig(BaseModel):
    """The topics that are written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alerts: Topic = Field(description="topic for alerts")
    scores: Topic | None = Field(default=None, description="topic for frames of scores; none: off")
    forecasts: Topic | None = Field(default=None, description="topic for forecasts; needs forecast")
    dead_letter: Topic | Literal[""] = Field(
        default="",
        description="topic for messages that cannot be used; default <input topic>.dead-letter",
    )

    @property
    def topics(self) -> dict[str, str]:
        """The topics in use, by the name of their setting."""
        named = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: topic for name, topic in named.items() if topic}


def _commit_interval(value: int) -> int:
    if not 10 * MILLISECOND <= value <= 60 * SECOND:
        raise ValueError(f"between 10ms and 1m is needed, not {format_duration(value)}")
    return value


class DeliveryConfig(BaseModel):
    """How output and progress are committed.

    exactly_once: output and input offsets commit in one Kafka transaction. at_least_once:
    output first, then offsets; after a crash some output comes twice.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["exactly_once", "at_least_once"] = Field(default="exactly_once")
    commit_interval: Annotated[Duration, AfterValidator(_commit_interval)] = Field(
        default=500 * MILLISECOND,
        description="longest time between commits, which is how long an alert may wait",
    )
    max_poll_records: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        default=None,
        description="most messages taken at once; default: 500 to 20000, by how long they take",
    )
    transactional_id: str = Field(
        default="",
        max_length=249,
        description="unique per worker; default derived from group_id and the worker's instance",
    )
    shutdown_timeout: Duration = Field(
        default=30 * SECOND, description="time to finish, commit and snapshot after SIGTERM"
    )
    give_up_after: Duration = Field(
        default=600 * SECOND,
        gt=0,
        description="time of trying again in vain after which the worker ends with exit code 1",
    )
    report_every: Duration = Field(
        default=60 * SECOND, description="time between lines in the log about the work; 0: none"
    )


class StateConfig(BaseModel):
    """Where and how often the memories are saved."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field(
        default="./state", min_length=1, description="folder, relative to the working directory"
    )
    snapshots: str = Field(
        default="",
        description="where the memories go: another folder, or a bucket as s3://NAME/PREFIX, "
        "gs://NAME/PREFIX or az://NAME/PREFIX, of which path has copies then; default path",
    )
    snapshot_interval: Duration = Field(
        default=60 * SECOND, gt=0, description="time between snapshots of a partition"
    )
    keep: int = Field(
        default=3,
        ge=1,
        le=100,
        description="snapshots kept per partition, and those on which they stand",
    )

    @field_validator("snapshots")
    @classmethod
    def _is_a_place(cls, text: str) -> str:
        scheme, found, _ = text.partition("://")
        if found and scheme not in ("s3", "gs", "az"):
            raise ValueError(
                f"{scheme}:// is no place for snapshots; s3, gs and az are, or a folder"
            )
        if found and "@" in text.partition("://")[2].partition("/")[0]:
            raise ValueError("credentials come from the environment, not from the URL")
        return text


class ControlConfig(BaseModel):
    """Where operators tell a running worker what to do, and where it keeps what became of that.

    Both topics are compacted, and made by the worker where they are missing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    topic: Topic = Field(description="topic of control messages, keyed by their id")
    journal: Topic | Literal[""] = Field(
        default="",
        description="topic of the places at which they took effect; default <connector>.journal",
    )


def control_config(value: object) -> object:
    """`control: TOPIC` is short for its topic alone."""
    return {"topic": value} if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """The parts of a connector that a worker reads."""

    input: InputConfig
    output: OutputConfig
    delivery: DeliveryConfig
    state: StateConfig
    swap: SwapConfig = field(default_factory=SwapConfig)
    control: ControlConfig | None = None

"""Connectors and recipes: the YAML files that tell the service what to do.

This module composes the settings that live beside their components, and loads and checks files.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from titans_stream.detection.rules import AlertConfig
from titans_stream.durations import SECOND, format_duration
from titans_stream.engine.settings import EngineConfig
from titans_stream.forecasting.settings import ForecastConfig
from titans_stream.job_settings import POLL_JOB, JobConfig, poll_job
from titans_stream.notify_settings import NotifyConfig
from titans_stream.printable import redacted
from titans_stream.recipe_settings import DataConfig, TrackingConfig, TrainingConfig
from titans_stream.service_settings import HttpConfig, TracesConfig
from titans_stream.special_days import CalendarConfig
from titans_stream.stream.kafka.settings import KafkaConfig
from titans_stream.stream.settings import (
    ControlConfig,
    DeliveryConfig,
    InputConfig,
    OutputConfig,
    StateConfig,
    checked_name,
    control_config,
)
from titans_stream.stream.swap_settings import SwapConfig
from titans_stream.times import load_zone
from titans_stream.yaml_loading import (
    ConfigError,
    Location,
    YamlDocument,
    format_location,
    load_yaml,
)

Model = TypeVar("Model", bound=BaseModel)

BASE_MODEL = "base"
"""The name of the model that ships with the package."""

_REGISTERED = re.compile(r"models:/[^/@\s]+(?:@[^/@\s]+|/[^/@\s]+)")
_NAMED = re.compile(r"([a-z_]+(?:\.[a-z_]+)*): ")
"""A setting that an error of the settings around it names."""
_MOST_PROBLEMS = 50
"""So many problems of a file are told."""
_TRANSACTION_TIMEOUT_MS = 60_000


def _model_uri(value: str) -> str:
    known = value == BASE_MODEL or _REGISTERED.fullmatch(value)
    if known or (("/" in value or value.startswith(".")) and not value.startswith("models:")):
        return value
    raise ValueError(
        f"{value!r} is neither base, nor a path with a /, nor models:/NAME@ALIAS or "
        "models:/NAME/VERSION"
    )


ModelUri = Annotated[str, AfterValidator(_model_uri)]
Name = Annotated[str, Field(max_length=100), AfterValidator(checked_name)]


class Connector(BaseModel):
    """Binds an input topic to output topics and a model.

    Settings that default to something derived from others (`input.group_id`, `notify.group_id`,
    `output.dead_letter`, `engine.timezone`, `engine.clock_reset`) are filled in here and always
    set afterwards.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Name = Field(description="names the consumer group and the state")
    kafka: KafkaConfig
    input: InputConfig
    output: OutputConfig
    model: ModelUri = Field(
        default=BASE_MODEL,
        description="base, a folder, models:/NAME@ALIAS or models:/NAME/VERSION",
    )
    alerts: AlertConfig = Field(default=AlertConfig())
    forecast: ForecastConfig | None = Field(
        default=None, description="what is published to output.forecasts; none: no forecasts"
    )
    calendar: CalendarConfig | None = Field(
        default=None, description="holidays and other special days: taken for Sundays"
    )
    engine: EngineConfig = Field(default=EngineConfig())
    delivery: DeliveryConfig = Field(default=DeliveryConfig())
    state: StateConfig = Field(default=StateConfig())
    jobs: dict[Name, JobConfig] = Field(
        default={}, description="what `titans-stream jobs` does beside the stream, by name"
    )
    control: (
        Annotated[
            ControlConfig,
            BeforeValidator(control_config, json_schema_input_type=str | ControlConfig),
        ]
        | None
    ) = Field(default=None, description="topic of control messages; none: nothing is listened to")
    swap: SwapConfig = Field(
        default=SwapConfig(),
        description="how a running worker changes to what models:/NAME@ALIAS names next",
    )

    http: HttpConfig = Field(
        default=HttpConfig(), description="what a worker serves of its own work over HTTP"
    )

    traces: TracesConfig | None = Field(
        default=None, description="OpenTelemetry traces of a worker's work; none: none are made"
    )

    notify: NotifyConfig = Field(
        default=NotifyConfig(), description="who is told of alerts by `titans-stream notify`"
    )

    @model_validator(mode="after")
    def _complete(self) -> Connector:
        group = self.input.group_id or f"titans-stream.{self.name}"
        self._fill("input", group_id=group)
        notify = self.notify.group_id or f"titans-stream.{self.name}.notify"
        self._fill("notify", group_id=notify)
        self._fill(
            "output",
            dead_letter=self.output.dead_letter or f"{self.input.topic or self.name}.dead-letter",
        )
        if self.control is not None and not self.control.journal:
            self._fill("control", journal=f"{self.name}.journal")
        for name in ("timezone", "clock_reset"):
            if name not in self.engine.model_fields_set:
                self._fill("engine", **{name: getattr(self.input, name)})
        if "no_data_after" not in self.alerts.model_fields_set:
            self._fill("alerts", no_data_after=-1)
        if self.engine.calendar not in (None, self.calendar):
            raise ValueError("engine.calendar: calendar stands beside engine, not in it")
        self._fill("engine", calendar=self.calendar)
        try:
            load_zone(self.engine.timezone)
        except ValueError as error:
            raise ValueError(f"engine.timezone: {error}") from error
        self._check_topics()
        self._check_forecast()
        self._check_commit_interval()
        self._check_jobs()
        return self

    @property
    def names_alias(self) -> bool:
        """Whether `model` is what an alias names, which can change."""
        return self.model.startswith("models:") and "@" in self.model

    @property
    def all_jobs(self) -> dict[str, JobConfig]:
        """`jobs`, and the worker's own look at the registry where it has one."""
        own = {POLL_JOB: poll_job(self.swap.poll)} if self.names_alias else {}
        return {**self.jobs, **own}

    def _check_jobs(self) -> None:
        if self.swap.webhook is not None and not self.names_alias:
            raise ValueError("swap.webhook: it needs model: models:/NAME@ALIAS")
        for name, job in self.jobs.items():
            if name == POLL_JOB:
                raise ValueError(f"jobs.{name}: this name is the worker's own")
            if job.kind == "poll" and not self.names_alias:
                raise ValueError(f"jobs.{name}: poll needs model: models:/NAME@ALIAS")

    def _fill(self, part: str, **values: object) -> None:
        # validation still owns the instance: nobody else has seen it
        object.__setattr__(self, part, getattr(self, part).model_copy(update=values))

    def _check_topics(self) -> None:
        topics = self.input.subscription
        seen = dict.fromkeys(topics.names, "input.topic" if self.input.topic else "input.topics")
        named = {f"output.{name}": topic for name, topic in self.output.topics.items()}
        if self.control is not None:
            named |= {"control.topic": self.control.topic, "control.journal": self.control.journal}
        for setting, topic in named.items():
            if topic in seen:
                raise ValueError(f"{setting}: {topic!r} is {seen[topic]} already")
            if topics.has(topic):
                raise ValueError(f"{setting}: {topic!r} matches input.topic_pattern")
            seen[topic] = setting

    def _check_forecast(self) -> None:
        if self.forecast is not None and self.output.forecasts is None:
            raise ValueError("output.forecasts: forecast needs a topic here")
        if self.forecast is None and self.output.forecasts is not None:
            raise ValueError("forecast: output.forecasts needs it, with horizon or steps")

    def _check_commit_interval(self) -> None:
        timeout_ms = self.kafka.producer.transaction_timeout_ms or _TRANSACTION_TIMEOUT_MS
        limit = timeout_ms * SECOND // 2_000
        if self.delivery.mode == "exactly_once" and self.delivery.commit_interval > limit:
            raise ValueError(
                "delivery.commit_interval: more than half of kafka.producer."
                f"transaction_timeout_ms, which is {format_duration(2 * limit)}"
            )


class Recipe(BaseModel):
    """How a model's slow weights are trained."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Name = Field(description="names the run")
    kind: Literal["forecaster", "detector"] = Field(description="what is trained")
    seed: int = Field(default=0, ge=0, lt=2**32, description="the same seed, the same weights")
    data: DataConfig
    training: TrainingConfig = Field(default=TrainingConfig())
    tracking: TrackingConfig = Field(default=TrackingConfig())
    register_as: Name | None = Field(
        default=None, alias="register", description="registered model that gets the new version"
    )


def load_connector(path: str | Path, environment: Mapping[str, str] | None = None) -> Connector:
    """Read and check a connector. ConfigError, one line a problem, where it is not right."""
    return _load(Connector, path, environment)


def load_recipe(path: str | Path, environment: Mapping[str, str] | None = None) -> Recipe:
    """Read and check a recipe. ConfigError, one line a problem, where it is not right."""
    return _load(Recipe, path, environment)


def load_settings(kind: type[Model], path: str | Path) -> Model:
    """Read and check a file of another kind of settings. ConfigError as for a connector."""
    return _load(kind, path, None)


def _load(kind: type[Model], path: str | Path, environment: Mapping[str, str] | None) -> Model:
    document = load_yaml(path, os.environ if environment is None else environment)
    if not isinstance(document.data, dict):
        raise ConfigError([f"{path}:1: settings are needed, one `key: value` a line"])
    given = {name: value for name, value in document.data.items() if value is not None}
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        details = [one for one in error.errors() if not _is_of_the_default(one)]
    # outside the handler: the cause would show the values, secrets among them
    problems = {_problem(kind, document, detail) for detail in details[:_MOST_PROBLEMS]}
    told = [
        f"{document.file}:{line}: {redacted(text, dict(document.variables))}"
        for line, text in sorted(problems)
    ]
    more = len(details) - _MOST_PROBLEMS
    raise ConfigError([*told, f"{document.file}: and {more:,} more"] if more > 0 else told)


def _problem(kind: type[BaseModel], document: YamlDocument, error: Any) -> tuple[int, str]:
    """The line and the words for one of pydantic's errors."""
    location = _location(document.data, error["loc"])
    if error["type"] == "missing":
        location = (*_location(document.data, error["loc"][:-1]), error["loc"][-1])
        text = "is needed"
    elif error["type"] == "extra_forbidden":
        text = _unknown(kind, location)
    elif error["type"] == "value_error":
        text = str(error["ctx"]["error"])
    else:
        text = _words(error)
    field = format_location(location)
    named = _NAMED.match(text)
    place = (*location, *named[1].split(".")) if named is not None else location
    return document.line(place), f"{field}: {text}" if field else text


def _words(error: Any) -> str:
    """pydantic's words for an error, without those of Python."""
    kind, limits = error["type"], error.get("ctx", {})
    if kind in ("list_type", "tuple_type"):
        return "a list is needed, such as [first, second]"
    if kind in ("dict_type", "model_type", "model_attributes_type"):
        return "settings are needed, `key: value` each"
    text = str(error["msg"]).split(" after validation")[0]
    for limit in limits.values():
        # so large a limit is that of a duration, in nanoseconds
        if type(limit) is int and limit >= SECOND and limit % SECOND == 0:
            text = text.replace(str(limit), format_duration(limit))
    return re.sub(r"^(Input|String|List|Tuple) ", "", text)


def _is_of_the_default(error: Any) -> bool:
    """Whether what is missed is the empty text that stands for a default."""
    return bool(error["type"] == "literal_error" and error["ctx"]["expected"] == "''")


def _location(data: Any, parts: tuple[str | int, ...]) -> Location:
    """The parts of pydantic's location that exist in the file; it adds names of its own."""
    location: list[str | int] = []
    for part in parts:
        inside = (isinstance(data, dict) and part in data) or (
            isinstance(data, list) and isinstance(part, int) and part < len(data)
        )
        if inside:
            location.append(part)
            data = data[part]
    return tuple(location)


def _unknown(kind: type[BaseModel], location: Location) -> str:
    """Why a key is not taken, and which one may be meant."""
    name = str(location[-1])
    owner = _owner(kind, location[:-1])
    refused: dict[str, str] = getattr(owner, "refused_keys", {})
    if name in refused:
        return f"may not be set: {refused[name]}"
    names = [key for key, _ in _keys(owner)] if owner else []
    elsewhere = [path for path in _all_keys(kind, ()) if path[-1] == name]
    if elsewhere:
        return f"unknown key here; did you mean {format_location(elsewhere[0])!r}?"
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"unknown key; did you mean {close[0]!r}?"
    return f"unknown key; known here: {', '.join(names)}"


def _owner(kind: type[BaseModel], location: Location) -> type[BaseModel] | None:
    owner: type[BaseModel] | None = kind
    for part in location:
        if isinstance(part, str) and owner is not None:
            owner = dict(_keys(owner)).get(part)
    return owner


def _keys(kind: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel] | None]]:
    """The keys of a model and the models of their values."""
    for name, field in kind.model_fields.items():
        yield field.alias or name, next(models_in(field.annotation), None)


def _all_keys(kind: type[BaseModel], prefix: Location) -> Iterator[Location]:
    for name, inner in _keys(kind):
        yield (*prefix, name)
        if inner is not None:
            yield from _all_keys(inner, (*prefix, name))


def models_in(annotation: object) -> Iterator[type[BaseModel]]:
    """The pydantic models that a type is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_in(argument)


__all__ = [
    "BASE_MODEL",
    "ConfigError",
    "Connector",
    "Recipe",
    "load_connector",
    "load_recipe",
    "load_settings",
    "models_in",
]

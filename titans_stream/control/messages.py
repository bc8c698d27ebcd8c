"""The messages of a control topic (docs/control.md): what they may say, and how they are read.

A message is JSON, keyed by its *id*: a later one of the same id takes the place of the earlier one,
and `undo`, or a message without value, takes it back.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from titans_stream.detection.rules import SeriesRule
from titans_stream.records import Order
from titans_stream.times import Timestamp, format_timestamp

MOST_BYTES = 16_384
"""Of a message's value, and MOST_ID of its id."""
MOST_ID = 512

Glob = Annotated[
    str,
    Field(min_length=1, max_length=400, description="glob over series ids, e.g. 'plant1/*/flow'"),
]
SeriesId = Annotated[
    str, Field(min_length=1, max_length=400, description="the id of one series, or of one group")
]


class _Message(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, populate_by_name=True
    )

    by: str = Field(default="", max_length=200, description="who says so")
    note: str = Field(default="", max_length=1000, description="why")


class Reset(_Message):
    """The memory of series begins anew."""

    action: Literal["reset"]
    series: Glob


class Freeze(_Message):
    """Series are scored and alerted, but learn nothing until this is undone."""

    action: Literal["freeze"]
    series: Glob


class Silence(_Message):
    """No episode of the series opens for readings of a time range: a maintenance window."""

    action: Literal["silence"]
    series: Glob
    begin: Timestamp | None = Field(
        default=None, alias="from", description="time of the first reading; none: from now on"
    )
    until: Timestamp | None = Field(
        default=None, description="time of the first reading after it; none: until undone"
    )
    learn: bool = Field(default=True, description="false: nothing is learned of its readings")

    @model_validator(mode="after")
    def _ordered(self) -> Silence:
        _check_range(self.begin, self.until, "until")
        return self


class SetRule(_Message):
    """A rule, as under `alerts.rules`, after those of the connector."""

    action: Literal["rule"]
    rule: SeriesRule

    @property
    def series(self) -> str:
        """The glob."""
        return self.rule.series


class SetBudget(_Message):
    """The alert budget of series."""

    action: Literal["budget"]
    series: Glob
    false_alarms_per_series_per_day: float = Field(gt=0, le=1e6)

    @property
    def rule(self) -> SeriesRule:
        """The same as a rule."""
        return SeriesRule(
            series=self.series,
            false_alarms_per_series_per_day=self.false_alarms_per_series_per_day,
        )


class Mark(_Message):
    """What the episodes of a series were: one (`alert_id`), or all that touch a time range.

    With both, the range counts where no episode of that id is known (of another model, say).
    """

    action: Literal["false_alarm", "true_alarm", "expected"]
    series: SeriesId
    alert_id: str | None = Field(default=None, min_length=1, max_length=100)
    begin: Timestamp | None = Field(
        default=None, alias="from", description="of a time range: the first time that belongs to it"
    )
    end: Timestamp | None = Field(
        default=None, alias="to", description="of a time range: the first time after it"
    )
    until: Timestamp | None = Field(
        default=None, description="for expected: until when the same is expected"
    )

    @model_validator(mode="after")
    def _placed(self) -> Mark:
        if (self.begin is None) != (self.end is None):
            raise ValueError("to: from and to go together")
        if self.alert_id is None and self.begin is None:
            raise ValueError("alert_id: either it or a range (from, to) is needed")
        _check_range(self.begin, self.end, "to")
        if (self.action == "expected") != (self.until is not None):
            raise ValueError("until: needed for expected, and only there")
        return self

    @field_validator("series")
    @classmethod
    def _no_glob(cls, value: str) -> str:
        if any(character in value for character in "*?"):
            raise ValueError(f"{value!r}: the id of one series is needed, not a glob")
        return value


class SetModel(_Message):
    """Workers change to this version of their registered model, and stay with it until undone.

    Its id is always `model`: one holds at a time.
    """

    action: Literal["model"]
    version: str = Field(
        pattern=r"^[1-9][0-9]{0,18}$", description="of the model that the connector names"
    )


Message = Reset | Freeze | Silence | SetRule | SetBudget | Mark
"""What an engine is told."""
AnyMessage = Message | SetModel
ControlMessage = Annotated[AnyMessage, Field(discriminator="action")]

_ADAPTER: TypeAdapter[AnyMessage] = TypeAdapter(ControlMessage)
ACTIONS = (
    "reset", "freeze", "silence", "rule", "budget", "false_alarm", "true_alarm", "expected",
    "model",
)  # fmt: skip
UNDO = "undo"
MODEL_ID = "model"
"""The id of what names the model; no other message may have it."""


def _check_range(begin: int | None, end: int | None, name: str) -> None:
    if begin is not None and end is not None and end <= begin:
        raise ValueError(f"{name}: {format_timestamp(end)} is not after from")


def schema() -> dict[str, Any]:
    """JSON schema of a message's value, `undo` included."""
    found = _ADAPTER.json_schema(mode="validation")
    undo = {
        "description": "Takes back the message of the same key.",
        "type": "object",
        "properties": {
            "action": {"const": UNDO, "type": "string"},
            "by": {"type": "string"},
            "note": {"type": "string"},
        },
        "required": ["action"],
        "additionalProperties": False,
    }
    choices = [*found.pop("oneOf"), undo]
    found.pop("discriminator", None)
    return {"title": "ControlMessage", "oneOf": choices, **found}


def message_of(fields: dict[str, Any]) -> AnyMessage:
    """A message from its fields. ValueError, one line a problem, that names the field."""
    try:
        return _ADAPTER.validate_python(fields)
    except ValidationError as error:
        raise ValueError("\n".join(_problem(each) for each in error.errors())) from None


def _problem(error: Any) -> str:
    names = [str(part) for part in error["loc"]][1:]  # the first one is the action
    text = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    if error["type"] == "extra_forbidden":
        text = "unknown field"
    elif error["type"] == "missing":
        text = "is needed"
    elif error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        names, text = ["action"], f"one of {', '.join(ACTIONS)}, {UNDO} is needed"
    return f"{'.'.join(names)}: {text}" if names else text


def default_id(message: AnyMessage) -> str:
    """The id that a message has unless it is given another: what it is about."""
    if isinstance(message, SetModel):
        return MODEL_ID
    if not isinstance(message, Mark):
        return f"{message.action}:{message.series}"
    if message.alert_id is not None:
        return f"mark:{message.alert_id}"
    assert message.begin is not None and message.end is not None
    return f"mark:{message.series}@{format_timestamp(message.begin)}"


def text_of(message: AnyMessage) -> str:
    """The JSON of a message, what is not said left out."""
    return message.model_dump_json(by_alias=True, exclude_defaults=True, exclude_none=True)


@lru_cache(4096)
def parse(text: str) -> Message:
    """The message in the text of an order that is for engines."""
    message = message_of(json.loads(text))
    assert not isinstance(message, SetModel)
    return message


def names_model(order: Order) -> bool:
    """Whether an order is about the model, which is the worker's matter and no engine's."""
    return order.id == MODEL_ID


def model_version(order: Order) -> str | None:
    """The version that an order about the model names; None where it undoes that."""
    if not order.text:
        return None
    message = message_of(json.loads(order.text))
    assert isinstance(message, SetModel)
    return message.version


def read(key: bytes | None, value: bytes | None) -> Order:
    """A record of the control topic as an order. ValueError says what is wrong with it."""
    if not key:
        raise ValueError("key: the message's id is needed")
    if len(key) > MOST_ID:
        raise ValueError(f"key: longer than {MOST_ID} bytes")
    try:
        name = key.decode()
    except UnicodeDecodeError:
        raise ValueError("key: not UTF-8") from None
    if value is None:
        return Order(name, "")
    if len(value) > MOST_BYTES:
        raise ValueError(f"longer than {MOST_BYTES:,} bytes")
    try:
        fields = json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    if not isinstance(fields, dict):
        raise ValueError("a JSON object is needed")
    if fields.get("action") == UNDO:
        unknown = sorted(fields.keys() - {"action", "by", "note"})
        if unknown:
            raise ValueError(f"{unknown[0]}: unknown field of {UNDO}; its key names what to undo")
        return Order(name, "")
    message = message_of(fields)
    if isinstance(message, SetModel) != (name == MODEL_ID):
        raise ValueError(f"key: {MODEL_ID!r} is the id of {MODEL_ID} messages, and theirs alone")
    return Order(name, text_of(message))


def understood(key: bytes | None, value: bytes | None) -> tuple[Order | None, str]:
    """A record as an order, or None and in one line why it cannot be used."""
    try:
        return read(key, value), ""
    except ValueError as error:
        return None, str(error).replace("\n", "; ")

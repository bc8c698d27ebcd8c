"""JSON schemas of the files that people write and of the messages that are published.

`python -m titans_stream.schemas FOLDER` writes them. Editors complete and check a connector or
a recipe by them; readers of the topics can check messages.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from titans_stream.config import Connector, Recipe, models_in
from titans_stream.control.messages import schema as control_schema
from titans_stream.message_fields import (
    ALERT_FIELDS,
    CHANNEL_FIELDS,
    DEAD_LETTER_FIELDS,
    FORECAST_FIELDS,
    SCORE_FRAME_FIELDS,
)
from titans_stream.records import Alert, Forecast, ModelRef
from titans_stream.stream.codec.fields import Reason

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ENVIRONMENT = {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}"}
_OUTER = ("default", "description", "title")

Numbers = list[float | None]
Marks = list[int]


@dataclass(frozen=True, slots=True)
class FrameSource:
    """The part of the input that a frame of scores is about."""

    topic: str
    partition: int
    first_offset: int
    last_offset: int


@dataclass(frozen=True, slots=True)
class ScoreFrameMessage:
    """Scored readings of one partition of the input, as columns of equal length."""

    schema_version: int
    model: ModelRef
    source: FrameSource
    series: list[str]
    timestamp: list[str]
    offset: list[int]
    status: list[str]
    value: Numbers
    score: Numbers
    p_value: Numbers
    surprise: Numbers
    rarity: Numbers
    expected: Numbers
    lower: Numbers
    upper: Numbers
    alert: Marks
    onset: Marks
    gap: Marks


def schemas() -> dict[str, dict[str, Any]]:
    """The schemas by the name of their file."""
    return {
        "connector.json": _config_schema(Connector, "connector"),
        "recipe.json": _config_schema(Recipe, "recipe"),
        "alert.json": _alert_schema(),
        "score-frame.json": _message_schema(ScoreFrameMessage, "score-frame", SCORE_FRAME_FIELDS),
        "forecast.json": _message_schema(Forecast, "forecast", FORECAST_FIELDS),
        "dead-letter.json": _dead_letter_schema(),
        "control.json": _named(control_schema(), "control"),
    }


def write_schemas(folder: str | Path) -> list[Path]:
    """Write the schemas; the paths that were written."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    paths = []
    for name, schema in schemas().items():
        path = Path(folder) / name
        path.write_text(schema_text(schema))
        paths.append(path)
    return paths


def schema_text(schema: dict[str, Any]) -> str:
    """The text of a schema's file."""
    return json.dumps(schema, indent=2) + "\n"


def _message_schema(kind: Any, name: str, fields: dict[str, str]) -> dict[str, Any]:
    schema = TypeAdapter(kind).json_schema(mode="serialization")
    properties = schema["properties"]
    schema["required"] = list(properties)
    for field, text in fields.items():
        properties[field]["description"] = text
    return _named(schema, name)


def _alert_schema() -> dict[str, Any]:
    schema = _message_schema(Alert, "alert", ALERT_FIELDS)
    for name, text in CHANNEL_FIELDS.items():
        schema["$defs"]["Channel"]["properties"][name]["description"] = text
    return schema


def _dead_letter_schema() -> dict[str, Any]:
    properties: dict[str, dict[str, Any]] = {
        name: {"type": "string", "description": text} for name, text in DEAD_LETTER_FIELDS.items()
    }
    properties["titans.reason"]["enum"] = [str(reason) for reason in Reason]
    schema = {
        "title": "DeadLetter",
        "description": "Headers of a dead letter, as text; its key and value are the original's.",
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name != "titans.truncated"],
    }
    return _named(schema, "dead-letter")


def _config_schema(kind: type[BaseModel], name: str) -> dict[str, Any]:
    """The schema of a file, with defaults as they are written and room for `${NAME}`."""
    schema = kind.model_json_schema()
    for model in _models(kind):
        properties = (schema if model is kind else schema["$defs"][model.__name__])["properties"]
        for field_name, field in model.model_fields.items():
            key = field.alias or field_name
            if key not in properties:  # a field that files do not have
                continue
            if "default" in properties[key]:
                properties[key]["default"] = _written_default(field)
            properties[key] = _with_reference(properties[key])
    return _named(schema, name)


def _written_default(field: FieldInfo) -> Any:
    kind: Any = (
        Annotated[(field.annotation, *field.metadata)] if field.metadata else (field.annotation)
    )
    default = field.get_default(call_default_factory=True)
    return TypeAdapter(kind).dump_python(default, mode="json", exclude_defaults=True)


def _with_reference(schema: dict[str, Any]) -> dict[str, Any]:
    """Let a number, a truth value or a word of a list be a reference to the environment too."""
    scalar = schema.get("type") in ("integer", "number", "boolean")
    choices = schema.get("anyOf", [])
    numeric = any(
        choice.get("type") in ("integer", "number", "boolean") or "enum" in choice
        for choice in choices
    ) and not any(choice == {"type": "string"} for choice in choices)
    if not (scalar or "enum" in schema or numeric):
        return schema
    outer = {key: schema[key] for key in _OUTER if key in schema}
    inner = {key: value for key, value in schema.items() if key not in _OUTER}
    return {**outer, "anyOf": [*inner.get("anyOf", [inner]), _ENVIRONMENT]}


def _models(kind: type[BaseModel]) -> list[type[BaseModel]]:
    """A model and those in its fields, each once."""
    found = [kind]
    for model in found:
        for field in model.model_fields.values():
            found += [inner for inner in models_in(field.annotation) if inner not in found]
    return found


def _named(schema: dict[str, Any], name: str) -> dict[str, Any]:
    return {"$schema": _DIALECT, "$id": f"titans-stream/{name}", **schema}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m titans_stream.schemas FOLDER")
    write_schemas(sys.argv[1])

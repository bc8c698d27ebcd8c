"""The schemas of files and messages agree with the code, the documentation and the examples."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from titans_stream import message_fields
from titans_stream.config import Connector
from titans_stream.detection.rules import SeriesRule
from titans_stream.forecasting.settings import ForecastConfig
from titans_stream.records import Alert, Forecast
from titans_stream.schemas import ScoreFrameMessage, schema_text, schemas, write_schemas
from titans_stream.stream.codec.fields import Reason

REPO = Path(__file__).resolve().parents[1]
DOCS = REPO / "docs"
SCHEMAS = schemas()
SMALL: dict[str, Any] = {
    "name": "small",
    "kafka": {"bootstrap_servers": "localhost:9092"},
    "input": {"topic": "sensors", "series": "{machine}", "value": "value"},
    "output": {"alerts": "alerts"},
}


def errors(name: str, document: object) -> list[str]:
    found = Draft202012Validator(SCHEMAS[name]).iter_errors(document)
    return [f"{error.json_path} {error.message}" for error in found]


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_the_written_schemas_are_up_to_date(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])
    written = (DOCS / "schemas" / name).read_text()
    assert written == schema_text(SCHEMAS[name]), (
        "run: python -m titans_stream.schemas docs/schemas"
    )


def test_no_other_schemas_are_written(tmp_path: Path) -> None:
    assert {path.name for path in (DOCS / "schemas").iterdir()} == set(SCHEMAS)
    assert {path.name for path in write_schemas(tmp_path / "new")} == set(SCHEMAS)


def test_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "titans_stream.schemas"]
    subprocess.run([*command, str(tmp_path)], check=True, cwd=REPO)
    assert (tmp_path / "alert.json").read_text() == schema_text(SCHEMAS["alert.json"])
    failed = subprocess.run(command, capture_output=True, text=True, cwd=REPO)
    assert failed.returncode == 1
    assert failed.stderr == "usage: python -m titans_stream.schemas FOLDER\n"


@pytest.mark.parametrize("path", sorted((REPO / "connectors").glob("*.yaml")), ids=lambda p: p.name)
def test_the_examples_fit_the_schema(path: Path) -> None:
    assert errors("connector.json", plain_yaml(path)) == []


def plain_yaml(path: Path) -> Any:
    """The file as an editor reads it: YAML 1.2, so dates are text."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith("timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return yaml.load(path.read_text(), Loader=Loader)


@pytest.mark.parametrize(
    ("section", "content"),
    [
        ("delivery", {"mode": "${MODE:-at_least_once}", "max_poll_records": "${N}"}),
        ("delivery", {"commit_interval": "500ms", "shutdown_timeout": 3.5}),
        ("engine", {"slots": "${SLOTS}", "gap_factor": 2, "expected_interval": None}),
        ("alerts", {"rules": [{"series": "a*", "valid_range": [None, 3], "direction": "above"}]}),
        ("forecast", {"horizon": "1d", "every": "${EVERY}", "quantiles": [0.1, 0.9]}),
    ],
)
def test_the_connector_schema_takes(section: str, content: dict[str, Any]) -> None:
    assert errors("connector.json", {**SMALL, section: content}) == []


@pytest.mark.parametrize(
    ("section", "content"),
    [
        ("delivery", {"mode": "sometimes"}),
        ("delivery", {"mod": "exactly_once"}),
        ("engine", {"slots": "many"}),
        ("engine", {"slots": 0}),
        ("alerts", {"rules": [{"direction": "above"}]}),
        ("input", {"topic": "a"}),
        ("forecast", {"steps": 0}),
        ("forecast", {"steps": 3, "quantile": [0.1]}),
    ],
)
def test_the_connector_schema_refuses(section: str, content: dict[str, Any]) -> None:
    assert errors("connector.json", {**SMALL, section: content}) != []


def test_defaults_are_spelt_as_they_are_written() -> None:
    definitions = SCHEMAS["connector.json"]["$defs"]
    assert definitions["DeliveryConfig"]["properties"]["commit_interval"]["default"] == "500ms"
    assert definitions["InputConfig"]["properties"]["max_future"]["default"] == "1d"
    assert (
        definitions["InputConfig"]["properties"]["min_timestamp"]["default"]
        == "1990-01-01T00:00:00Z"
    )


@pytest.mark.parametrize(
    ("words", "record"),
    [
        (message_fields.ALERT_FIELDS, Alert),
        (message_fields.SCORE_FRAME_FIELDS, ScoreFrameMessage),
        (message_fields.FORECAST_FIELDS, Forecast),
    ],
)
def test_every_field_of_a_message_is_described(words: dict[str, str], record: Any) -> None:
    assert set(words) == {field.name for field in dataclasses.fields(record)}


def test_the_documentation_of_messages_is_complete() -> None:
    text = (DOCS / "messages.md").read_text()
    for words in (
        message_fields.ALERT_FIELDS,
        message_fields.SCORE_FRAME_FIELDS,
        message_fields.FORECAST_FIELDS,
        message_fields.DEAD_LETTER_FIELDS,
    ):
        for name, meaning in words.items():
            assert f"| `{name}` | {meaning} |" in text
    described = set(re.findall(r"^\| `([a-z-]+)` \| ", text, re.MULTILINE))
    assert {str(reason) for reason in Reason} <= described
    example = re.search(r"```json\n(\{\"alert_id\".*?)```", text, re.DOTALL)
    assert example is not None
    assert errors("alert.json", json.loads(example[1])) == []
    example = re.search(r"```json\n(\{\"series_id\".*?)```", text, re.DOTALL)
    assert example is not None
    assert errors("forecast.json", json.loads(example[1])) == []


def test_the_documentation_of_connectors_is_complete() -> None:
    text = (DOCS / "connectors.md").read_text()
    sections = [name for name in Connector.model_fields if name != "kafka"]
    for section in sections:
        assert f"## `{section}`" in text
        kind = Connector.model_fields[section].annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            for setting in kind.model_json_schema(by_alias=False)["properties"]:
                assert f"| `{setting}` |" in text, f"{section}.{setting}"
    for setting in ForecastConfig.model_fields:
        assert f"| `{setting}` |" in text, f"forecast.{setting}"
    for setting in SeriesRule.model_fields:
        assert f"`{setting}" in text, setting

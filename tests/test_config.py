"""Connectors and recipes: what is taken, and what is said about what is not."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

from titans_stream.config import (
    ConfigError,
    Connector,
    Recipe,
    load_connector,
    load_recipe,
)
from titans_stream.durations import DAY, SECOND
from titans_stream.stream.kafka.settings import (
    REFUSED_SETTINGS,
    ClientSettings,
    ConsumerSettings,
    KafkaConfig,
    ProducerSettings,
)
from titans_stream.times import parse_timestamp

REPO = Path(__file__).resolve().parents[1]
SMALL = """\
name: small
kafka:
  bootstrap_servers: localhost:9092
input:
  topic: sensors
  series: "{machine}"
  value: value
output:
  alerts: alerts
"""
RECIPE = """\
name: small
kind: forecaster
data:
  synthetic: {series: 8, length: 100}
register: small-model
"""


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write_file(text: str) -> Path:
        path = tmp_path / "c.yaml"
        path.write_text(text)
        return path

    return write_file


def problems(path: Path, **environment: str) -> list[str]:
    """What is said about a file, without its path."""
    with pytest.raises(ConfigError) as caught:
        load_connector(path, environment)
    assert str(caught.value).splitlines() == list(caught.value.problems)
    return [problem.removeprefix(str(path) + ":") for problem in caught.value.problems]


# ---------------------------------------------------------------- what is taken


def test_defaults(write: Any) -> None:
    c = load_connector(write(SMALL), {})
    assert c.input.group_id == "titans-stream.small"
    assert c.output.dead_letter == "sensors.dead-letter"
    assert c.output.topics == {"alerts": "alerts", "dead_letter": "sensors.dead-letter"}
    assert (c.model, c.input.start, c.input.start_timestamp) == ("base", "latest", None)
    assert (c.input.warm_up, c.input.max_future) == (0, DAY)
    assert c.input.min_timestamp == parse_timestamp("1990-01-01T00:00:00Z")
    assert (c.input.timestamp.field, c.input.timestamp.unit) == (None, "auto")
    assert (c.delivery.mode, c.delivery.commit_interval) == ("exactly_once", SECOND // 2)
    assert c.delivery.max_poll_records is None
    assert (c.delivery.shutdown_timeout, c.state.snapshot_interval) == (30 * SECOND, 60 * SECOND)
    assert (c.state.path, c.state.keep) == ("./state", 3)
    assert c.kafka.client_settings("consumer") == {"bootstrap_servers": ["localhost:9092"]}


def test_a_clock_reset_of_the_input_is_the_engines(write: Any) -> None:
    assert load_connector(write(SMALL), {}).engine.clock_reset == 0
    text = SMALL.replace("topic: sensors", "topic: sensors\n  clock_reset: after 30")
    connector = load_connector(write(text), {})
    assert (connector.input.clock_reset, connector.engine.clock_reset) == (30, 30)
    assert connector.input.model_dump(mode="json")["clock_reset"] == "after 30"
    for wrong in ("always", "after 1", "30 readings", "true"):
        with pytest.raises(ConfigError, match=r"input.clock_reset: never, or after N readings"):
            load_connector(write(text.replace("after 30", wrong)), {})


def test_given_settings(write: Any) -> None:
    text = SMALL.replace("  value: value", "  value: value\n  timezone: Europe/Vienna")
    text = text.replace("topic: sensors", "topic: sensors\n  group_id: g\n  start: 2026-01-01")
    text = text.replace("topic: sensors", "topic: sensors\n  warm_up: 7d")
    text += "  dead_letter: dead\nmodel: models:/m@champion\nengine:\nalerts: {min_duration: 2}\n"
    c = load_connector(write(text), {})
    assert (c.input.group_id, c.output.dead_letter) == ("g", "dead")
    assert c.input.start_timestamp == parse_timestamp("2026-01-01")
    assert (c.input.warm_up, c.alerts.min_duration) == (7 * DAY, 2)
    assert c.engine.timezone == "Europe/Vienna"
    assert load_connector(write(text.replace("engine:", "engine: {timezone: UTC}")), {}).engine
    c = load_connector(write(text.replace("engine:", "engine: {timezone: UTC}")), {})
    assert c.engine.timezone == "UTC"


def test_a_timestamp_may_be_a_field_called_kafka(write: Any) -> None:
    def timestamp(yaml: str) -> tuple[str | None, str]:
        text = SMALL.replace("  value: value", f"  value: value\n  timestamp: {yaml}")
        setting = load_connector(write(text), {}).input.timestamp
        return setting.field, setting.unit

    assert timestamp("kafka") == (None, "auto")
    assert timestamp("a.ts") == ("a.ts", "auto")
    assert timestamp("{field: kafka, unit: ms}") == ("kafka", "ms")


def test_forecasts(write: Any) -> None:
    text = SMALL + "  forecasts: f\nforecast:\n"
    assert load_connector(write(SMALL), {}).forecast is None
    forecast = load_connector(write(text + "  horizon: 1d\n"), {}).forecast
    assert forecast is not None
    assert (forecast.horizon, forecast.steps, forecast.every) == (DAY, None, 24)
    assert forecast.quantiles == (0.025, 0.1, 0.9, 0.975)
    assert forecast.most_steps == 5_000
    given = text + "  steps: 8333\n  every: 1\n  quantiles: [0.9, 0.1]\n"
    forecast = load_connector(write(given), {}).forecast
    assert forecast is not None
    assert (forecast.horizon, forecast.steps, forecast.every) == (None, 8333, 1)
    assert (forecast.quantiles, forecast.most_steps) == ((0.1, 0.9), 8333)
    medians = load_connector(write(text + "  {steps: 10000, quantiles: []}\n"), {}).forecast
    assert medians is not None
    assert medians.most_steps == 10_000


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("{}", "11: forecast: exactly one of horizon and steps is needed"),
        ("{steps: 3, horizon: 1h}", "11: forecast: exactly one of horizon and steps is needed"),
        ("{steps: 0}", "11: forecast.steps: should be greater than or equal to 1"),
        ("{steps: 10001}", "11: forecast.steps: should be less than or equal to 10000"),
        ("{steps: 1.5}", "11: forecast.steps: should be a valid integer"),
        ("{steps: 5001}", "forecast: steps: with 4 quantiles at most 5,000 readings ahead fit a"),
        ("{horizon: 0}", "11: forecast.horizon: should be greater than 0"),
        ("{horizon: soon}", "11: forecast.horizon: a duration such as 500ms"),
        ("{steps: 3, every: 0}", "11: forecast.every: should be greater than or equal to 1"),
        ("{steps: 3, quantiles: [0.1, 1]}", "11: forecast.quantiles: 1 is not between 0 and 1"),
        ("{steps: 3, quantiles: [0.1, .nan]}", "forecast.quantiles: nan is not between 0 and 1"),
        ("{steps: 3, quantiles: [0.5]}", "forecast.quantiles: 0.5 is the median, which is always"),
        ("{steps: 3, quantiles: [.1, 0.1]}", "forecast.quantiles: a quantile is named twice"),
        ("{steps: 3, quantile: [.1]}", "forecast.quantile: unknown key; did you mean 'quantiles'?"),
    ],
)
def test_forecasts_that_cannot_be(write: Any, settings: str, expected: str) -> None:
    text = SMALL + "  forecasts: f\nforecast: " + settings + "\n"
    (problem,) = problems(write(text))
    assert expected in problem


def test_forecasts_need_a_topic_and_a_topic_needs_forecasts(write: Any) -> None:
    assert problems(write(SMALL + "forecast: {steps: 3}\n")) == [
        "8: output.forecasts: forecast needs a topic here"
    ]
    assert problems(write(SMALL + "  forecasts: f\n")) == [
        "1: forecast: output.forecasts needs it, with horizon or steps"
    ]
    assert "10: output.forecasts: 'alerts' is output.alerts already" in problems(
        write(SMALL + "  forecasts: alerts\nforecast: {steps: 3}\n")
    )[0].replace("1: ", "10: ")


@pytest.mark.parametrize(
    "uri", ["base", "./model", "models/m", "/m", "models:/a@b", "models:/a-1/12", "..", "s3://b/k"]
)
def test_models(write: Any, uri: str) -> None:
    assert load_connector(write(SMALL + f"model: {uri}\n"), {}).model == uri


@pytest.mark.parametrize("uri", ["bsae", "models:/", "models:/a", "models:a", "models:/a/b/c"])
def test_bad_models(write: Any, uri: str) -> None:
    [problem] = problems(write(SMALL + f"model: {uri}\n"))
    assert problem.startswith(f"10: model: '{uri}' is neither base, nor a path with a /")


def test_recipe(write: Any) -> None:
    r = load_recipe(write(RECIPE), {})
    assert (r.name, r.kind, r.seed, r.register_as) == ("small", "forecaster", 0, "small-model")
    assert r.data.synthetic is not None
    assert (r.data.synthetic.series, r.data.csv) == (8, None)
    assert r.tracking.experiment == "titans-stream"
    with pytest.raises(ConfigError, match=r":2: kind: should be 'forecaster' or 'detector'"):
        load_recipe(write(RECIPE.replace("kind: f", "kind: F")), {})
    with pytest.raises(ConfigError, match=r":3: data: one of synthetic, csv and topic is needed"):
        load_recipe(write("name: a\nkind: detector\ndata: {}\n"), {})
    with pytest.raises(ConfigError, match=r"unknown key; did you mean 'register'\?"):
        load_recipe(write(RECIPE.replace("register:", "registr:")), {})


@pytest.mark.parametrize("path", sorted((REPO / "connectors").glob("*.yaml")), ids=lambda p: p.name)
def test_the_examples_load(path: Path) -> None:
    connector = load_connector(path, {})
    assert path.read_text().startswith(
        "# yaml-language-server: $schema=../docs/schemas/connector.json\n"
    )
    again = Connector.model_validate(connector.model_dump(exclude_none=True, mode="json"))
    assert again == connector


# ---------------------------------------------------------------- what is not


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("  topic", "  topik", "5: input.topik: unknown key; did you mean 'topic'?"),
        ("kafka:\n", "kafka:\n  sasl_mechanisms: PLAIN\n", "did you mean 'sasl_mechanism'?"),
        (
            "name: small",
            "name: small\ntopic: x",
            "2: topic: unknown key here; did you mean 'in",
        ),
        ("name: small", "name: small\nzzzzz: x", "2: zzzzz: unknown key; known here: name, kafka"),
        ("output:\n  alerts: alerts", "output: {}", "8: output.alerts: is needed"),
        ("output:\n  alerts: alerts", "output:", "output: is needed"),
        ("name: small", "name: small\nname: x", "2: name: is there twice, first in line 1"),
        ("name: small", "name: a b", "1: name: 'a b': letters, digits"),
        ("topic: sensors", "topic: ..", "5: input.topic: '..': letters, digits"),
        ("alerts: alerts", "alerts: sensors", "output.alerts: 'sensors' is input.topic already"),
        ("alerts: alerts", "alerts: a\n  scores: a", "output.scores: 'a' is output.alerts already"),
        ("localhost:9092", "localhost", "3: kafka.bootstrap_servers: a list of host:port"),
        ("localhost:9092", "a:1,b:70000", "a list of host:port is needed, not 'b:70000'"),
        ("localhost:9092", "[a:1, 3]", "kafka.bootstrap_servers: should be a valid string"),
        ('"{machine}"', '"{machine"', "6: input.series: '{machine': a lone brace"),
        ("value: value", "value: a..b", "7: input.value: 'a..b' is not a field path"),
        ("value: value", "value: v\n  values: [a]", "4: input: exactly one of value and values"),
        ("value: value", "value: v\n  start: soon", "8: input.start: earliest, latest or a time"),
        ("value: value", "value: v\n  warm_up: 7 days", "8: input.warm_up: a duration such as"),
        ("value: value", "value: v\n  timezone: Mars", "8: input.timezone: no such time zone"),
        (
            "value: value",
            "value: v\n  timestamp: {field: t, unit: min}",
            "8: input.timestamp.unit: should be 'auto', 's', 'ms', 'us', 'ns', 'rfc3339', "
            "'calendar' or 'days'",
        ),
        (
            "name: small",
            "name: small\nalerts:\n  rules:\n    - {series: a}\n    - {direction: up}",
            "5: alerts.rules[1].direction: should be 'above', 'below' or 'both'",
        ),
        (
            "name: small",
            "name: small\nalerts:\n  rules:\n    - series: a\n      valid_range: [3, 1]",
            "5: alerts.rules[0]: valid_range: low 3.0 must be below high 1.0",
        ),
        ("name: small", "name: small\nengine: {slots: many}", "2: engine.slots: should be a valid"),
        ("name: small", "name: small\nengine: {timezone: Mars}", "no such time zone: 'Mars'"),
        (
            "name: small",
            "name: small\ndelivery: {commit_interval: 1ms}",
            "2: delivery.commit_interval: between 10ms and 1m is needed, not 1ms",
        ),
        (
            "name: small",
            "name: small\ndelivery: {commit_interval: 40s}",
            "delivery.commit_interval: more than half of kafka.producer.transaction_timeout_ms, "
            "which is 1m",
        ),
        (
            "kafka:\n",
            "kafka:\n  consumer: {enable_auto_commit: true}\n",
            "3: kafka.consumer.enable_auto_commit: may not be set: the worker commits offsets",
        ),
        ("kafka:\n", "kafka:\n  acks: 1\n", "3: kafka.acks: may not be set: the worker decides"),
        (
            "kafka:\n",
            "kafka:\n  fetch_max_bytes: 1\n",
            "unknown key here; did you mean 'kafka.consumer.fetch_max_bytes'?",
        ),
        ("kafka:\n", "kafka:\n  producer: {linger: 1}\n", "did you mean 'linger_ms'?"),
    ],
)
def test_problems(write: Any, old: str, new: str, expected: str) -> None:
    text = SMALL.replace(old, new, 1)
    assert text != SMALL
    assert [problem for problem in problems(write(text)) if expected in problem]


def test_every_problem_is_named_at_once_in_order(write: Any) -> None:
    text = SMALL.replace("series:", "seriez:").replace("value: value", "value: a..b") + "x: 1\n"
    found = problems(write(text))
    assert [problem.split(":")[1].strip() for problem in found] == [
        "input.series",
        "input.seriez",
        "input.value",
        "x",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1: settings are needed"),
        ("- a", "1: settings are needed"),
        ("a: [", "1: not valid YAML: "),
        ("a: b\n c: d", "2: not valid YAML: mapping values are not allowed here"),
        ("a: 1\n---\nb: 2", "2: not valid YAML: but found another document"),
        ("a: !!python/object/apply:os.system [echo]", "1: a: the tag tag:yaml.org,2002:python/"),
        ("a: !!timestamp 2026-01-01", "1: a: the tag tag:yaml.org,2002:timestamp is not allowed"),
        ("a: &x [*x]", "1: a[0]: nested or repeated too much"),
        ("? [a]\n: b", "1: a key must be text"),
        ("a: " + "[" * 60 + "]" * 60, "nested or repeated too much"),
        ("a: " + "[" * 20_000, "nested too deeply"),
        ("\x00", "not YAML text in UTF-8"),
    ],
)
def test_broken_files(write: Any, text: str, expected: str) -> None:
    assert expected in problems(write(text))[0]


def test_repeated_aliases_do_not_explode(write: Any) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "nested or repeated too much" in problems(write("\n".join(lines)))[0]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert problems(tmp_path / "none.yaml") == [" cannot be read: No such file or directory"]
    assert problems(tmp_path) == [" cannot be read: Is a directory"]
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe4")
    assert problems(tmp_path / "latin.yaml") == [" not YAML text in UTF-8"]
    (tmp_path / "big.yaml").write_bytes(b"#" * 1_000_001)
    assert problems(tmp_path / "big.yaml") == [" longer than 1,000,000 bytes"]


# ---------------------------------------------------------------- the environment


def test_references(write: Any) -> None:
    text = (
        SMALL.replace("localhost:9092", "${HOST}:${PORT:-9092}")
        .replace("alerts: alerts", 'alerts: "${PREFIX:-}alerts"')
        .replace('"{machine}"', '"$${x}$$"')
    )
    text = text.replace("$${x}", "$$") + "engine: {slots: '${SLOTS:-7}'}\n"
    c = load_connector(write(text), {"HOST": "k", "SLOTS": ""})
    assert c.kafka.bootstrap_servers == "k:9092"
    assert c.output.alerts == "alerts"
    assert c.input.series == "$$"
    assert c.engine.slots == 7
    c = load_connector(write(text), {"HOST": "k", "SLOTS": "12", "PREFIX": "p."})
    assert (c.engine.slots, c.output.alerts) == (12, "p.alerts")


def test_unset_variables_are_named(write: Any) -> None:
    text = SMALL.replace("localhost:9092", "${HOST}").replace("alerts: alerts", "alerts: ${A B}")
    assert problems(write(text)) == [
        "3: kafka.bootstrap_servers: the environment variable HOST is not set",
        "9: output.alerts: '${' needs a name and '}'; '$${' is a literal '${'",
    ]


def test_a_value_from_the_environment_is_never_more_than_text(write: Any) -> None:
    text = SMALL.replace("alerts: alerts", "alerts: ${TOPIC}")
    c = load_connector(write(text), {"TOPIC": "123"})
    assert c.output.alerts == "123"
    [problem] = problems(write(text), TOPIC="a\nstate: {path: /}")
    assert "letters, digits" in problem


def test_scalars_follow_yaml_1_2(write: Any) -> None:
    text = SMALL.replace("topic: sensors", "topic: no").replace("alerts: alerts", "alerts: 0b1")
    text += "alerts: {hysteresis: 1e-3, min_duration: 0x2, cool_down: ~}\n"
    c = load_connector(write(text), {})
    assert (c.input.topic, c.output.alerts) == ("no", "0b1")
    assert (c.alerts.hysteresis, c.alerts.min_duration, c.alerts.cool_down) == (1e-3, 2, None)


# ---------------------------------------------------------------- secrets

SECRET = "s3cr3t-pa55"


@pytest.mark.parametrize(
    "line",
    [
        f"sasl_plain_password: {SECRET}",
        f"sasl_plain_password: '{SECRET}'",
        f"ssl_password: ${{PASSWORD:-{SECRET}}}",
        f"ssl_password: x{SECRET}${{PASSWORD}}",
        "ssl_password: 12345",
        f"proxy_url: socks5://user:{SECRET}@proxy:1080",
        f"consumer: {{sasl_plain_password: {SECRET}}}",
        f"api_token: {SECRET}",
    ],
)
def test_secrets_are_not_written_out(write: Any, line: str) -> None:
    path = write(SMALL.replace("kafka:\n", f"kafka:\n  {line}\n"))
    [problem] = problems(path, PASSWORD="x")
    assert problem.startswith("3: kafka.")
    assert "a secret may not be written here; use a reference such as ${PASSWORD}" in problem
    assert SECRET not in problem


def test_secrets_reach_the_client_and_nothing_else(write: Any) -> None:
    text = SMALL.replace(
        "kafka:\n",
        "kafka:\n  sasl_plain_password: ${PASSWORD}\n  proxy_url: socks5://u:${PASSWORD}@p:1080\n"
        "  consumer: {ssl_password: '${PASSWORD}'}\n",
    )
    c = load_connector(write(text), {"PASSWORD": SECRET})
    settings = c.kafka.client_settings("consumer")
    assert settings["sasl_plain_password"] == settings["ssl_password"] == SECRET
    assert settings["proxy_url"] == f"socks5://u:{SECRET}@p:1080"
    assert "ssl_password" not in c.kafka.client_settings("producer")
    for shown in (repr(c), str(c), c.model_dump_json(), str(c.model_dump()), repr(c.kafka)):
        assert SECRET not in shown


def test_secrets_do_not_show_in_errors(write: Any) -> None:
    text = SMALL.replace(
        "kafka:\n", "kafka:\n  sasl_plain_password: ${PASSWORD}\n  pasword: ${PASSWORD}\n"
    ).replace("bootstrap_servers: localhost:9092", "ssl_check_hostname: ${PASSWORD}")
    with pytest.raises(ConfigError) as caught:
        load_connector(write(text), {"PASSWORD": SECRET})
    assert len(caught.value.problems) == 3
    assert SECRET not in "".join(traceback.format_exception(caught.value))


# ---------------------------------------------------------------- kafka-python's settings


def test_every_setting_of_kafka_python_is_known() -> None:
    consumer, producer = set(KafkaConsumer.DEFAULT_CONFIG), set(KafkaProducer.DEFAULT_CONFIG)
    refused = {*REFUSED_SETTINGS, "bootstrap_servers"}
    assert set(ClientSettings.model_fields) == (consumer & producer) - refused
    assert set(ConsumerSettings.model_fields) == consumer - refused
    assert set(ProducerSettings.model_fields) == producer - refused
    assert set(REFUSED_SETTINGS) <= consumer | producer


def test_client_settings_are_those_of_the_client() -> None:
    config = KafkaConfig.model_validate(
        {
            "bootstrap_servers": ["a:1", "b:2"],
            "client_id": "me",
            "request_timeout_ms": "100",
            "ssl_ciphers": "x",
            "allow_auto_create_topics": False,
            "metrics_enabled": True,
            "api_version": "2.5",
            "consumer": {"fetch_max_bytes": 5, "client_id": "reader"},
            "producer": {"linger_ms": 0},
        }
    )
    common = {"bootstrap_servers": ["a:1", "b:2"], "request_timeout_ms": 100}
    common["api_version"] = (2, 5)
    more = {"ssl_ciphers": "x", "allow_auto_create_topics": False, "metrics_enabled": True}
    assert config.client_settings("consumer") == {
        **common,
        **more,
        "client_id": "reader",
        "fetch_max_bytes": 5,
    }
    assert config.client_settings("producer") == {
        **common,
        **more,
        "client_id": "me",
        "linger_ms": 0,
    }
    assert config.client_settings("admin") == {**common, "client_id": "me"}
    full = {name: object() for name in ClientSettings.model_fields}
    admin = KafkaConfig.model_construct(bootstrap_servers="a:1", **full).client_settings("admin")
    assert set(admin) <= set(KafkaAdminClient.DEFAULT_CONFIG)


def test_recipes_and_connectors_are_frozen(write: Any) -> None:
    connector = load_connector(write(SMALL), {})
    with pytest.raises(ValueError, match="frozen"):
        connector.name = "x"  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        Recipe.model_validate({"name": "r", "kind": "detector", "data": {"synthetic": {}}}).seed = 1  # type: ignore[misc]

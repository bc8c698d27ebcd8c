"""Text from outside on a terminal, in a log and in a spreadsheet; secrets in messages."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import time
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from kafka.errors import IncompatibleBrokerVersion
from rich.console import Console

from titans_stream import cli
from titans_stream.commands import csv_output, health
from titans_stream.commands.demo_view import DemoState, Progress, SeriesState, draw
from titans_stream.commands.outputs import note, say
from titans_stream.config import ConfigError, load_connector
from titans_stream.lifecycle.tracking import TrackingServer
from titans_stream.log_output import set_up_logging
from titans_stream.ops.health import HealthFile
from titans_stream.printable import csv_cell, csv_text, printable, redacted
from titans_stream.records import Scores, Status
from titans_stream.stream.kafka.client import KafkaClients
from titans_stream.stream.kafka.errors import ConnectError
from titans_stream.stream.kafka.settings import KafkaConfig

HOSTILE = "\x1b[2J\x9b31m\x07\x00\r\nCRITICAL fake\u2028\x85\u202egnp\ud800"
PW = "hunter2SECRET"


def acts(text: str) -> bool:
    """Whether a terminal or a reader of lines would do anything but show it."""
    return any(not c.isprintable() for c in text.removesuffix("\n"))


def test_what_acts_is_escaped_and_what_does_not_stays() -> None:
    assert printable(HOSTILE) == (
        "\\u001b[2J\\u009b31m\\u0007\\u0000\\u000d\\u000aCRITICAL fake"
        "\\u2028\\u0085\\u202egnp\\ud800"
    )
    for plain in ("a/b", "größe 20\u00a0°C", "温度", "c:\\x", "🌡"):
        assert printable(plain) == plain
    assert printable("\U000e0001") == "\\udb40\\udc01"


def test_json_keeps_its_meaning() -> None:
    text = json.dumps({"s": HOSTILE + "\U000e0001"}, ensure_ascii=False)
    assert not acts(printable(text))
    assert json.loads(printable(text)) == json.loads(text)


def test_lines_for_people_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"message {HOSTILE}")
    note(f"warning {HOSTILE}")
    cli._print_error("check", f"one\n{HOSTILE[:-1]}\x85")
    out, err = capsys.readouterr()
    assert not acts(out)
    assert [line.partition("\\")[0] for line in err.split("\n")] == [
        "warning ", "titans-stream check: one", "titans-stream check: ",
        "titans-stream check: CRITICAL fake", "",
    ]  # fmt: skip
    assert not any(acts(line) for line in err.split("\n"))


def test_log_lines_are_escaped_and_tell_no_secrets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    args = Namespace(log_format="text", log_level=[], debug=False)
    set_up_logging(args, logging.INFO)
    try:
        raise OSError(f"no answer of http://u:{PW}@host/\x1b[2J")
    except OSError:
        logging.getLogger("x").exception("series %s", HOSTILE)
    err = capsys.readouterr().err
    assert PW not in err
    assert "http://***@host/" in err
    assert err.split("\n")[0].count("CRITICAL fake") == 1
    assert not any(acts(line) for line in err.split("\n"))


@pytest.mark.parametrize("name", ["pressure [bar]", "[/red]", HOSTILE[:-1]])
def test_the_demo_shows_names_as_they_are(name: str) -> None:
    state = DemoState(("t",))
    state.streams["t"].series[name] = SeriesState(value=1.0)
    out = io.StringIO()
    console = Console(file=out, width=150, force_terminal=True, color_system=None)
    console.print(draw(state, Progress(1.0, "live", {"t": 0})))
    assert printable(name) in out.getvalue()
    assert "\x1b[2J" not in out.getvalue()


# ---------------------------------------------------------------- spreadsheets

CELLS = {
    "=HYPERLINK(1)": "'=HYPERLINK(1)", "@SUM(1)": "'@SUM(1)", "+1+cmd": "'+1+cmd",
    "-x": "'-x", "\tx": "'\tx", "\rx": "'\rx", "'=1": "''=1", "''-a": "'''-a",
    "a=1": "a=1", "'a": "'a", "": "", "-2": "-2", "+1.5e-3": "+1.5e-3", "7": "7", "-": "'-",
}  # fmt: skip


@pytest.mark.parametrize("text", CELLS)
def test_a_cell_is_no_formula_and_can_be_read_back(text: str) -> None:
    assert csv_cell(text) == CELLS[text]
    assert csv_text(CELLS[text]) == text


def test_scores_and_forecasts_hold_no_formulas_and_their_numbers_stay() -> None:
    one = np.array([-1.5])
    fields: dict[str, Any] = dict.fromkeys(
        ("value", "score", "p_value", "surprise", "expected", "lower", "upper", "rarity", "gap"),
        one,
    )
    scores = Scores(
        series=["=1+1"],
        timestamp=np.array([10**18]),
        partition=np.zeros(1, np.int32),
        offset=np.zeros(1, np.int64),
        alert=np.zeros(1, bool),
        onset=np.zeros(1, bool),
        status=np.array([int(Status.SCORED)]),
        **fields,
    )
    out = io.StringIO()
    csv_output.ScoreWriter(out).write(scores, None, [""], [""])
    (row,) = csv.DictReader(io.StringIO(out.getvalue()))
    assert (row["series_id"], row["value"], row["lower"]) == ("'=1+1", "-1.5", "-1.5")
    assert csv_text(row["series_id"]) == "=1+1"
    out = io.StringIO()
    forecast: Any = SimpleNamespace(
        series_id="@SUM(1)",
        origin="2026-01-01T00:00:00Z",
        timestamps=["2026-01-01T00:05:00Z"],
        median=[-1.5],
        quantiles={"0.1": [-2.0]},
    )
    csv_output.ForecastWriter(out, [0.1], timed=True).write(forecast)
    (row,) = csv.DictReader(io.StringIO(out.getvalue()))
    assert (row["series_id"], row["median"], row["q0.1"]) == ("'@SUM(1)", "-1.5", "-2.0")


# ---------------------------------------------------------------- health


def test_a_health_file_that_cannot_be_written_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat = HealthFile(tmp_path / "absent" / "h")
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for _ in range(3):
        beat()
        now += 60.0
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    (tmp_path / "absent").mkdir()
    beat()
    assert (tmp_path / "absent" / "h").exists()


def test_a_worker_that_got_on_tomorrow_is_not_healthy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "h"
    path.touch()
    os.utime(path, (time.time() + 86_400,) * 2)
    arguments: Any = type("A", (), {"file": path, "max_age": 60.0})
    assert health.run(arguments) == 1
    assert "not healthy" in capsys.readouterr().out


# ---------------------------------------------------------------- secrets


def test_urls_are_shown_without_user_and_query() -> None:
    assert redacted(f"at foo://u:{PW}@h/x and http://h/?token={PW}') no") == (
        "at foo://***@h/x and http://h/?***') no"
    )
    assert redacted("see sqlite:////home/me@work/x.db?") == "see sqlite:////home/me@work/x.db?***"


CONNECTOR = """
name: c
kafka: {bootstrap_servers: "b:9092"}
input: {topic: t, series: "{id}", value: v}
output: {alerts: a}
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"b:9092"', '"${SECRET}"'),
        ('"b:9092"', '"u:${SECRET}@b:9092"'),
        ('"b:9092"', '"${HOSTS}/x"'),
        ('"b:9092"', '"b:9092", proxy_url: "${SECRET}"'),
        ("name: c", "name: '${SECRET}/x'"),
        ("topic: t", "topic: '${URL}'"),
        ("value: v", "value: v, start: '${SECRET}'"),
        ("value: v", "value: v, timezone: '${SECRET}'"),
        ("{id}", "{${SECRET}"),
        ("name: c", "model: '${SECRET}'\nname: c"),
        ("name: c", "state: {snapshot_interval: '${SECRET}'}\nname: c"),
        ("name: c", "engine: {timezone: '${SECRET}'}\nname: c"),
    ],
)
def test_a_value_of_the_environment_is_named_not_shown(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(CONNECTOR.replace(old, new))
    environment = {
        "SECRET": f"{PW} {PW}",
        "HOSTS": f"user:{PW}@b:9092",
        "URL": f"http://u:{PW}@mlflow:5000",
    }
    with pytest.raises(ConfigError) as found:
        load_connector(path, environment)
    assert PW not in str(found.value)
    assert str(path) in str(found.value)


def test_secrets_of_the_client_are_in_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    config = KafkaConfig.model_validate(
        {"bootstrap_servers": "127.0.0.1:9", "proxy_url": f"socks5://u:{PW}@h:1"}
    )
    clients = KafkaClients(config, patience=0.1)

    def fail(more: Any) -> Any:
        raise ValueError(f"proxy {PW} of socks5://u:{PW}@h:1")

    with pytest.raises(ConnectError) as found:
        clients._open("admin", fail)
    assert PW not in str(found.value)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        (f"foo://u:{PW}@h/x", "foo://h/x"),
        (f"http://u:{PW}@bad host/", "http://bad host/"),
        (f"https://h/x?token={PW}", "https://h/x"),
    ],
)
def test_a_tracking_uri_is_told_without_its_secrets(uri: str, shown: str) -> None:
    server = TrackingServer(uri, None)
    assert server.shown == shown
    path = "sqlite:////home/me@work/x.db"
    assert TrackingServer(path, None).shown == path
    for text in (f"cannot use {uri}", f"bad password {PW}", f"got '{uri}' ({PW})"):
        with pytest.raises(ConnectionError) as found, server.errors("load"):
            raise OSError(text)
        assert PW not in str(found.value)


def test_a_broker_that_does_not_fit_is_told_in_a_line() -> None:
    clients = KafkaClients(KafkaConfig(bootstrap_servers="127.0.0.1:9"), patience=0.1)

    def fail(more: Any) -> Any:
        raise IncompatibleBrokerVersion("SaslHandshake")

    with pytest.raises(ConnectError, match=r"security_protocol right\?"):
        clients._open("admin", fail)


def test_tags_that_lie_name_their_line(tmp_path: Path) -> None:
    for tag, text in (("int", "abc"), ("float", "abc"), ("int", "0o9")):
        path = tmp_path / "c.yaml"
        path.write_text(CONNECTOR.replace("name: c", f"name: !!{tag} {text}"))
        with pytest.raises(ConfigError, match=rf"c\.yaml:2: name: not what its tag !!{tag} says"):
            load_connector(path, {})


def test_very_many_unknown_keys_take_little_time(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(CONNECTOR + "".join(f"k{i}: 1\n" for i in range(40_000)))
    begun = time.process_time()
    with pytest.raises(ConfigError) as found:
        load_connector(path, {})
    assert time.process_time() - begun < 15
    assert len(found.value.problems) == 51
    assert found.value.problems[-1].endswith("and 39,950 more")

"""Logs for machines, choices that are nearly right, completion, and alerts narrowed down."""

from __future__ import annotations

import io
import json
import logging
import shutil
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from kafka import KafkaProducer

from tests.ops.test_notify import ALERT
from tests.test_cli import connector
from titans_stream import cli
from titans_stream.commands import progress
from titans_stream.commands.progress import told
from titans_stream.devbroker.broker import DevBroker
from titans_stream.log_output import set_up_logging


@pytest.fixture
def levels() -> Iterator[None]:
    """Every level is as it was at the end."""
    names = ("", "kafka", "numba", "matplotlib", "titans_stream.stream", "titans_stream")
    before = {name: logging.getLogger(name).level for name in names}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def options(*arguments: str) -> Namespace:
    return cli.build_parser().parse_args(["health", *arguments])


@pytest.mark.usefixtures("levels")
def test_logs_as_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    set_up_logging(options("--log-format", "json"), logging.INFO)
    log = logging.getLogger("titans_stream.stream.loop")
    log.info("at %s\nCRITICAL fake", "http://u:geheim@host/")
    log.debug("too much")
    try:
        raise OSError("no answer of http://u:geheim@host/")
    except OSError:
        log.exception("it failed")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert first["message"] == "at http://***@host/\nCRITICAL fake"
    assert (first["level"], first["logger"]) == ("info", "titans_stream.stream.loop")
    assert first["time"].endswith("Z")
    assert "OSError: no answer of http://***@host/" in second["exception"]


@pytest.mark.usefixtures("levels")
def test_levels_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    arguments = ("--log-level", "stream=debug", "--log-level", "kafka=info", "--log-level", "error")
    set_up_logging(options(*arguments), logging.INFO)
    enabled = {
        name: logging.getLogger(name).getEffectiveLevel()
        for name in ("titans_stream.stream.loop", "titans_stream.ops.http", "kafka.net")
    }
    assert list(enabled.values()) == [logging.DEBUG, logging.ERROR, logging.INFO]


@pytest.mark.parametrize("level", ["loud", "=debug", "stream=", "stream=loud"])
def test_a_wrong_level_is_named(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        cli.main(["health", "--log-level", level])
    assert done.value.code == 2
    assert "LEVEL or PART=LEVEL is needed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [(["scor"], "score"), (["chekc", "x"], "check"), (["health", "--log-format", "jsn"], "json")],
)
def test_did_you_mean(arguments: list[str], meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(arguments)
    assert f"; did you mean '{meant}'? (see titans-stream" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["xyzzy"])
    assert "did you mean" not in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_is_a_script_that_the_shell_takes(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["complete", shell]) == 0
    script = capsys.readouterr().out
    for name in cli.COMMANDS:
        assert name in script
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"no {shell} here")
    done = subprocess.run([found, "-n"], input=script, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_bash_completes_commands_and_choices(capsys: pytest.CaptureFixture[str]) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    assert cli.main(["complete", "bash"]) == 0
    script = capsys.readouterr().out + (
        "\nCOMP_WORDS=(titans-stream ale); COMP_CWORD=1; _shtab_titans_stream; "
        'echo "${COMPREPLY[@]}"'
        "\nCOMP_WORDS=(titans-stream alerts --seve); COMP_CWORD=2; _shtab_titans_stream; "
        'echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run([bash], input=script, text=True, capture_output=True, check=False)
    assert done.stdout.splitlines()[-2:] == ["alerts", "--severity"], done.stderr


# --- alerts

STORED = [
    replace(ALERT, alert_id="1", series_id="vienna/a", onset="2026-03-01T10:00:00Z",
            timestamp="2026-03-01T10:00:00Z"),
    replace(ALERT, alert_id="2", series_id="graz/b", severity="critical",
            onset="2026-03-01T09:00:00Z", timestamp="2026-03-01T11:00:00Z"),
    replace(ALERT, alert_id="1", series_id="vienna/a", status="resolved",
            onset="2026-03-01T10:00:00Z", timestamp="2026-03-01T12:00:00Z"),
]  # fmt: skip


@pytest.fixture(scope="module")
def alerts_at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("alerts")
    with DevBroker(auto_create=False, topics={"sensors": 1, "alerts": 1}) as broker:
        producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
        for alert in STORED:
            producer.send("alerts", orjson.dumps(alert))
        producer.close()
        yield connector(folder, broker.bootstrap)


@pytest.mark.parametrize(
    ("arguments", "places"),
    [
        ([], [0, 1, 2]),
        (["--series", "vienna/*"], [0, 2]),
        (["--severity", "critical"], [1]),
        (["--status", "opened"], [0, 1]),
        (["--since", "2026-03-01T11:00:00Z"], [1, 2]),
        (["--until", "2026-03-01T11:00:00Z"], [0]),
        (["--since", "2026-03-01T10:30:00Z", "--until", "2026-03-01T11:30:00Z"], [1]),
        (["--episodes"], [1, 2]),
        (["--episodes", "--status", "open"], [1]),
        (["--episodes", "--status", "resolved", "--series", "graz/*"], []),
    ],
)
def test_alerts_are_narrowed_down(
    alerts_at: Path, arguments: list[str], places: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["alerts", str(alerts_at), "--json", *arguments]) == 0
    found: list[dict[str, Any]] = [json.loads(x) for x in capsys.readouterr().out.splitlines()]
    assert found == [json.loads(orjson.dumps(STORED[place])) for place in places]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--status", "open"], "--status open: needs --episodes"),
        (["--until", "noon"], "--until: a time or a duration such as 2h is needed, not 'noon'"),
        (["--episodes", "--follow"], "--episodes: what will become of an episode is not known"),
    ],
)
def test_what_cannot_be_asked_for(
    tmp_path: Path, arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["alerts", str(connector(tmp_path, "localhost:1")), *arguments]) == 2
    assert line in capsys.readouterr().err


# --- progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_told_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    assert list(told(["ab", "cde"], "letters", len)) == ["ab", "cde"]
    assert "5 letters" in terminal.getvalue()
    quiet = Terminal()
    monkeypatch.setattr(sys, "stderr", quiet)
    assert list(told(["ab"], "letters", len, quiet=True)) == ["ab"]
    monkeypatch.setattr(sys, "stderr", file := io.StringIO())
    assert list(told(["ab"], "letters", len)) == ["ab"]
    assert quiet.getvalue() == file.getvalue() == ""

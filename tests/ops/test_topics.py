"""`titans-stream topics` shows what there is and makes what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_cli import connector, unused_port
from titans_stream import cli
from titans_stream.config import load_connector
from titans_stream.devbroker.broker import DevBroker
from titans_stream.stream.kafka.client import KafkaClients


def rows(out: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in out.splitlines()[1:]}


def test_what_is_missing_is_shown_then_made_then_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change = (
        "{alerts: alerts}",
        "{alerts: alerts, scores: scores, forecasts: ahead}\nforecast: {steps: 3}\ncontrol: orders",
    )
    warm_up = ("start: earliest", "start: earliest, warm_up: 30d")
    with DevBroker(auto_create=False) as broker:
        path = connector(tmp_path, broker.bootstrap, change, warm_up)
        clients = KafkaClients(load_connector(path).kafka)
        clients.create_topic("sensors", 4, {"retention.ms": "86400000"})
        assert cli.main(["topics", str(path)]) == 2
        out, err = capsys.readouterr()
        wanted = {
            "output.alerts": ["alerts", "3", "90d", "delete", "missing"],
            "output.scores": ["scores", "4", "1w", "delete", "missing"],
            "output.forecasts": ["ahead", "4", "1w", "compact,delete", "missing"],
            "output.dead_letter": ["sensors.dead-letter", "1", "2w", "delete", "missing"],
            "control.topic": ["orders", "1", "ever", "compact", "missing"],
            "control.journal": ["press.journal", "1", "ever", "compact", "missing"],
        }
        found = rows(out)
        assert {name: found[name] for name in wanted} == wanted
        assert found["input.topic"][:2] == ["sensors", "4"]
        assert "retention.ms is shorter than input.warm_up" in out
        assert err == (
            "titans-stream topics: missing: alerts, scores, ahead, sensors.dead-letter, orders, "
            "press.journal; --create makes them as shown\n"
        )
        assert clients.topics(["alerts"]) == {"alerts": None}, "nothing was made"

        assert cli.main(["topics", str(path), "--create"]) == 0
        assert capsys.readouterr().out.count("  made\n") == 6
        assert cli.main(["topics", str(path)]) == 0
        out = capsys.readouterr().out
        assert {name: found[:-1] for name, found in rows(out).items() if name in wanted} == {
            name: row[:-1] for name, row in wanted.items()
        }
        clients.create_topic("alerts", 9, {})
        info = clients.topics(["alerts"])["alerts"]
        assert info is not None
        assert len(info.partitions) == 3, "one that exists stays as it is"


def test_a_new_input_topic_has_room_for_workers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with DevBroker(auto_create=False) as broker:
        path = connector(tmp_path, broker.bootstrap)
        assert cli.main(["topics", str(path), "--create", "--partitions", "8"]) == 0
        assert rows(capsys.readouterr().out)["input.topic"] == [
            "sensors",
            "8",
            "2w",
            "delete",
            "made",
        ]
        assert cli.main(["check", str(path)]) == 0


def test_wrong_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["topics", "x", "--partitions", "0"])
    assert "a number from 1 to 10000 is needed, not '0'" in capsys.readouterr().err


def test_a_broker_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("titans_stream.commands.topics.PATIENCE", 0.5)
    servers = unused_port()
    assert cli.main(["topics", str(connector(tmp_path, servers))]) == 2
    assert f"cannot reach Kafka at {servers}" in capsys.readouterr().err

"""Groups through the worker and through `score`: the same alerts, whatever the way."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.stream_harness import Kafka, Running, Setup
from titans_stream import cli
from titans_stream.detection.rules import AlertConfig
from titans_stream.devbroker.broker import DevBroker
from titans_stream.engine.engine import StreamEngine
from titans_stream.engine.settings import EngineConfig
from titans_stream.lifecycle.loading import load_model
from titans_stream.records import Float64
from titans_stream.stream.encoding import decode_scores
from titans_stream.times import format_timestamp, parse_timestamp

CHANNELS = ("flow", "pressure", "speed", "current", "oil.temperature")
ROWS = 1000
BEGIN = parse_timestamp("2026-03-01T00:00:00Z")
MINUTE = 60 * 10**9
BUDGET = 0.5


def values() -> Float64:
    """[ROWS, CHANNELS]; pressure leaves its past at 700, pressure and speed at 850."""
    found: Float64 = 50.0 + np.random.default_rng(2).standard_normal((ROWS, len(CHANNELS)))
    found[700:705, 1] += 10.0
    found[850:855, 1:3] -= 10.0
    return found


def messages() -> list[tuple[bytes | None, bytes | None]]:
    found = []
    for i, row in enumerate(values().tolist()):
        flat = dict(zip(CHANNELS, row, strict=True))
        oil = {"temperature": flat.pop("oil.temperature")}
        document = {"site": "vienna", "machine": 7, "ts": time_of(i), **flat, "oil": oil}
        found.append((b"vienna", json.dumps(document).encode()))
    return found


def time_of(row: int) -> str:
    return format_timestamp(BEGIN + row * MINUTE)


@pytest.fixture(
    scope="module", params=["dev-broker", pytest.param("kafka", marks=pytest.mark.kafka)]
)
def bootstrap(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "kafka":
        yield str(request.getfixturevalue("kafka_bootstrap"))
        return
    running = DevBroker(auto_create=False).start()
    yield running.bootstrap
    running.stop()


def through_worker(bootstrap: str, folder: Path) -> tuple[list[dict[str, Any]], list[Any]]:
    """Alerts and scores of two workers, one after the other."""
    setup = Setup(Kafka(bootstrap).create(), folder)
    setup.input = {
        "series": "{site}/{machine}",
        "group": "{site}/{machine}",
        "value": None,
        "values": list(CHANNELS),
        "timestamp": "ts",
    }
    setup.output = {"scores": setup.kafka.scores}
    for part in (messages()[:702], messages()[702:]):
        setup.kafka.produce(part)
        engine = StreamEngine(
            EngineConfig(device="cpu"),
            AlertConfig(false_alarms_per_series_per_day=BUDGET),
            load_model("base"),
            setup.kafka.input,
        )
        running = Running(setup.worker(engine))
        running.wait_for("messages", len(part), 60)
        running.stop()
        assert running.worker.metrics.counts["replayed_messages"] == 0
    alerts = [json.loads(record.value) for record in setup.kafka.read(setup.kafka.alerts)]
    frames = [decode_scores(record.value) for record in setup.kafka.read(setup.kafka.scores)]
    return alerts, frames


def run_score(
    folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str, prefix: str = ""
) -> tuple[list[dict[str, str]], list[str]]:
    """The rows that `score` writes, and its lines about alerts."""
    data, out = folder / "d.csv", folder / "o.csv"
    with data.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["ts", *(prefix + name for name in CHANNELS)])
        writer.writerows([time_of(i), *row] for i, row in enumerate(values().tolist()))
    given = ["--timestamp", "ts", "--digits", "all", *arguments]
    command = ["score", str(data), "--out", str(out), *given]
    assert cli.main(command) == 0
    with out.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file)), capsys.readouterr().err.splitlines()[:-1]


def connector(folder: Path, series: str = "{site}/{machine}") -> Path:
    path = folder / "c.yaml"
    path.write_text(
        "name: c\nkafka: {bootstrap_servers: 'localhost:1'}\n"
        f"input: {{topic: i, series: '{series}', group: '{{site}}/{{machine}}', "
        f"values: [{', '.join(CHANNELS)}], timestamp: ts}}\noutput: {{alerts: a}}\n"
        f"alerts: {{false_alarms_per_series_per_day: {BUDGET}}}\n",
        encoding="utf-8",
    )
    return path


def test_worker_and_score_give_the_same_alerts_of_the_asset(
    bootstrap: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alerts, frames = through_worker(bootstrap, tmp_path)
    assert {alert["series_id"] for alert in alerts} == {"vienna/7"}
    first, second = [a for a in alerts if a["status"] == "opened" and a["onset"] >= time_of(700)][
        :2
    ]
    assert time_of(700) <= first["onset"] < time_of(705)
    assert time_of(850) <= second["onset"] < time_of(855)
    assert first["channels"][0]["series_id"] == "vienna/7/pressure"
    assert {c["series_id"] for c in second["channels"][:2]} == {
        "vienna/7/pressure",
        "vienna/7/speed",
    }
    for alert in alerts:
        assert sum(c["share"] for c in alert["channels"]) == pytest.approx(1.0)
        assert alert["value"] == alert["channels"][0]["value"]
    assert first["explanation"].startswith("driven by pressure ")

    ended = [a for a in alerts if a["status"] == "resolved"]
    lines = [f"{a['severity']:8s}  {a['onset']}  vienna/7: {a['explanation']}" for a in ended]
    by_name = run_score(tmp_path, capsys, "--connector", str(connector(tmp_path)),
                        prefix="vienna/7/")  # fmt: skip
    by_group = run_score(tmp_path, capsys, "--group", "vienna/7", "--budget", str(BUDGET),
                         prefix="vienna/7/")  # fmt: skip
    assert by_name == by_group
    assert by_name[1] == lines
    for column in ("alert", "onset"):
        online = [mark for frame in frames for mark in getattr(frame.scores, column).tolist()]
        assert online == [int(row[column]) for row in by_name[0]]
    surprise = np.concatenate([frame.scores.surprise for frame in frames])
    np.testing.assert_array_equal(surprise, [float(row["surprise"] or "nan") for row in by_name[0]])


def test_score_says_when_the_connectors_group_cannot_be_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "d.csv"
    data.write_text("a,b\n1,2\n", encoding="utf-8")
    path = connector(tmp_path)
    command = ["score", str(data), "--out", "-", "--connector", str(path)]
    assert cli.main(command) == 2
    text = capsys.readouterr().err
    assert text == "titans-stream score: d.csv: there is no column 'flow'; there are: a, b\n"
    path = connector(tmp_path, "{site}")
    data.write_text("vienna/flow\n1\n", encoding="utf-8")
    assert cli.main(command) == 2
    assert capsys.readouterr().err == (
        "titans-stream score: d.csv: the group id '{site}/{machine}' needs machine: a column of "
        "that name, or --set machine=...\n"
    )
    assert cli.main([*command, "--set", "machine=7", "--quiet"]) == 2
    assert cli.main([*command, "--group", "x", "--quiet"]) == 0
    assert cli.main([*command, "--group", ""]) == 2
    assert "--group: a name is needed" in capsys.readouterr().err


def test_a_file_in_long_format_is_one_asset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide, lines = run_score(tmp_path, capsys, "--group", "asset", "--budget", str(BUDGET))
    data, out = tmp_path / "long.csv", tmp_path / "long.out"
    with data.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["at", "channel", "v"])
        for i, row in enumerate(values().tolist()):
            writer.writerows([time_of(i), *cell] for cell in zip(CHANNELS, row, strict=True))
    arguments = ["--timestamp", "at", "--series", "channel", "--group", "asset"]
    given = [*arguments, "--digits", "all", "--budget", str(BUDGET)]
    command = ["score", str(data), "--out", str(out), *given]
    assert cli.main(command) == 0
    assert capsys.readouterr().err.splitlines()[:-1] == lines
    assert lines
    with out.open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == wide

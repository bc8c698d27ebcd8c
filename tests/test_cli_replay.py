"""`replay` speaks each connector's own language, and what comes out of the worker is `score`'s."""

from __future__ import annotations

import csv
import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka import KafkaConsumer, TopicPartition

from titans_stream import cli
from titans_stream.commands.connector_rows import ConnectorRows, FileColumns
from titans_stream.commands.memories import connector_engine
from titans_stream.config import load_connector
from titans_stream.devbroker.broker import DevBroker
from titans_stream.files.csv_file import CsvFile
from titans_stream.lifecycle.loading import load_model
from titans_stream.ops.storage import Snapshots
from titans_stream.records import Status
from titans_stream.stream.codec.json_codec import JsonCodec
from titans_stream.stream.encoding import decode_scores
from titans_stream.stream.kafka.client import KafkaClients
from titans_stream.stream.messages import RawMessage
from titans_stream.stream.publisher import MessageBuilder
from titans_stream.stream.settings import InputConfig, WorkerSettings
from titans_stream.stream.worker import Worker
from titans_stream.synthetic import generate_labelled
from titans_stream.times import format_timestamp

Decoded = tuple[list[tuple[str, str, float]], list[Any]]


def published(
    folder: Path, text: str, columns: FileColumns | None = None, **settings: object
) -> Decoded:
    """The readings that a connector decodes from a replayed file, and its messages' documents."""
    path = folder / "data.csv"
    path.write_text(text, encoding="utf-8")
    config = InputConfig.model_validate({"topic": "in", **settings})
    rows = ConnectorRows(CsvFile(path), config, columns)
    builder = MessageBuilder(config)
    built = [(row.timestamp, *builder.build(row)) for row in rows]
    messages = [
        RawMessage("in", 0, i, time // 1_000_000, key, value)
        for i, (time, key, value) in enumerate(built)
    ]
    decoded = JsonCodec(config).decode(messages)
    assert decoded.dead == []
    readings = decoded.readings
    found = [
        (series, format_timestamp(int(time)), float(value))
        for series, time, value in zip(
            readings.series, readings.timestamp, readings.value, strict=True
        )
    ]
    return found, [json.loads(value) for _, _, value in built]


AT = "2026-03-01T00:00:00Z"


def test_wide_file_one_value_per_message(tmp_path: Path) -> None:
    found, documents = published(
        tmp_path,
        "time,oil,air,note\n2026-03-01,1.5,,x\n2026-03-02,2.5,3.5,y\n",
        series="{sensor}",
        value="v",
        timestamp="at",
    )
    assert documents[0] == {"sensor": "oil", "v": 1.5, "at": AT}
    assert documents[1] == {"sensor": "air", "v": None, "at": AT}
    assert found[2:] == [
        ("oil", "2026-03-02T00:00:00Z", 2.5),
        ("air", "2026-03-02T00:00:00Z", 3.5),
    ]


def test_long_file_in_the_connectors_own_columns(tmp_path: Path) -> None:
    found, documents = published(
        tmp_path,
        "site,machine.name,ts,value,other\nvienna,p7,2026-03-01,1.5,9\n",
        series="{site}/{machine.name}",
        value="value",
        timestamp={"field": "ts", "unit": "ms"},
    )
    assert found == [("vienna/p7", AT, 1.5)]
    assert documents == [
        {"site": "vienna", "machine": {"name": "p7"}, "value": 1.5, "ts": 1772323200000}
    ]


def test_constants_fill_what_the_file_lacks(tmp_path: Path) -> None:
    columns = FileColumns(constants={"site": "vienna", "machine": "p7"})
    found, _ = published(
        tmp_path,
        "ts,oil,air\n2026-03-01,1.5,2.5\n",
        columns,
        series="{site}/{machine}/{channel}",
        value="value",
        timestamp="ts",
    )
    assert [name for name, _, _ in found] == ["vienna/p7/oil", "vienna/p7/air"]


def test_names_are_taken_apart(tmp_path: Path) -> None:
    found, documents = published(
        tmp_path,
        "ts,id,value\n2026-03-01,vienna/p7,1.5\n",
        FileColumns(series="id"),
        series="{site}/{machine}",
        value="value",
        timestamp="ts",
    )
    assert found == [("vienna/p7", AT, 1.5)]
    assert documents == [{"site": "vienna", "machine": "p7", "value": 1.5, "ts": AT}]


def test_key_and_kafka_timestamp(tmp_path: Path) -> None:
    found, documents = published(
        tmp_path,
        "time,web-1\n2026-03-01T00:00:00.25,1.5\n",
        series="{key}",
        value="v",
        timezone="Europe/Vienna",
    )
    assert found == [("web-1", "2026-02-28T23:00:00.25Z", 1.5)]
    assert documents == [{"v": 1.5}]


def test_several_values_per_message(tmp_path: Path) -> None:
    found, documents = published(
        tmp_path,
        "at,turbine,power,wind.speed\n1772323200,12,800,9\n",
        series="t/{turbine}/{value_name}",
        values=["power", "wind.speed"],
        timestamp={"field": "at", "unit": "s"},
    )
    assert found == [("t/12/power", AT, 800.0), ("t/12/wind.speed", AT, 9.0)]
    assert documents == [
        {"turbine": "12", "power": 800.0, "wind": {"speed": 9.0}, "at": 1772323200}
    ]


def test_array_of_readings(tmp_path: Path) -> None:
    found, documents = published(
        tmp_path,
        "t,x\n2026-03-01,1.5\n",
        items="data.readings",
        series="{s}",
        value="v",
        timestamp="t",
    )
    assert found == [("x", AT, 1.5)]
    assert documents == [{"data": {"readings": [{"s": "x", "v": 1.5, "t": AT}]}}]


@pytest.mark.parametrize(
    ("text", "columns", "settings", "message"),
    [
        (
            "ts,oil\n2026-03-01,1\n",
            {},
            {"series": "{site}/{channel}", "value": "v"},
            "data.csv: the series id '{site}/{channel}' needs site: a column of that name, or "
            "--set site=...",
        ),
        (
            "ts,site,oil,air\n2026-03-01,x,1,2\n",
            {},
            {"series": "{site}", "value": "v"},
            "input.series: '{site}' does not take the name of a column; give one --value and no "
            "--series",
        ),
        (
            "ts,a\n2026-03-01,1\n",
            {},
            {"series": "{s}", "values": ["a", "b"]},
            "data.csv: there is no column 'b'; there are: ts, a",
        ),
        (
            "ts,a,b\n2026-03-01,1,2\n",
            {},
            {"series": "{site}", "values": ["a", "b"]},
            "data.csv: the series id '{site}' needs site: a column of that name, or --set site=...",
        ),
        (
            "ts,a,b\n2026-03-01,1,2\n",
            {"values": ("a",)},
            {"series": "x", "values": ["a", "b"]},
            "--value: 2 are needed, for a, b",
        ),
    ],
)
def test_files_that_do_not_fit(
    text: str,
    columns: dict[str, Any],
    settings: dict[str, object],
    message: str,
    tmp_path: Path,
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        published(tmp_path, text, FileColumns(**columns), timestamp="ts", **settings)


def test_columns_that_are_called_like_the_series_of_one_message(tmp_path: Path) -> None:
    found, documents = published(
        tmp_path,
        "ts,a/p1/oil,a/p1/air,b/p2/oil\n2026-03-01,1.5,2.5,3.5\n",
        series="{site}/{machine}",
        values=["oil", "air"],
        timestamp="ts",
    )
    assert documents == [
        {"site": "a", "machine": "p1", "oil": 1.5, "air": 2.5, "ts": AT},
        {"site": "b", "machine": "p2", "oil": 3.5, "air": None, "ts": AT},
    ]
    assert [name for name, _, _ in found] == ["a/p1/oil", "a/p1/air", "b/p2/oil", "b/p2/air"]


@pytest.mark.parametrize("bound", ["0s", "5m"])
def test_what_a_worker_will_drop_is_the_last_line(
    bound: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, path = tmp_path / "data.csv", tmp_path / "c.yaml"
    ahead = [*range(60), 30, 57, 59, *range(40, 50), 500, *range(60, 100)]
    rows = [f"{format_timestamp(i * 60 * 10**9)},{name},1.5" for i in ahead for name in "ab"]
    data.write_text("ts,sensor,value\n" + "\n".join(rows) + "\n", encoding="utf-8")
    with DevBroker(auto_create=False, topics={"in": 1}) as broker:
        text = CONNECTOR.format(servers=broker.bootstrap, folder=tmp_path / "state")
        text = text.replace("ts, start", "ts, min_timestamp: 1970-01-01, start")
        path.write_text(text + f"engine: {{max_out_of_orderness: {bound}}}\n", encoding="utf-8")
        assert cli.main(["replay", str(data), str(path)]) == 2
        err = capsys.readouterr().err
        assert cli.main(["replay", str(data), str(path), "--allow-dropped", "--sort"]) == 0
        assert " (0 late) " in capsys.readouterr().err or bound == "5m"
    last = err.splitlines()[-1]
    connector = load_connector(path)
    engine = connector_engine(connector, load_model("base"))
    chunks = ConnectorRows(CsvFile(data), connector.input).readings()
    results = [*(engine.process(chunk.readings) for chunk in chunks), engine.flush()]
    status = np.concatenate([one.scores.status for one in results])
    duplicate, late = (int((status == one).sum()) for one in (Status.DUPLICATE, Status.LATE))
    assert late >= 20
    assert duplicate >= 2
    assert last == (
        f"warning: {duplicate + late:,} of {2 * len(ahead):,} readings come out of order, and a "
        f"worker drops them: their series had the same time ({duplicate:,} duplicate) or a later "
        f"one ({late:,} late) already; is each series told apart? --sort publishes them in order "
        "of time, and a worker waits for order with engine.max_out_of_orderness; exit code 2, "
        "though all is written (--allow-dropped: 0)"
    )


# --- the round trip

ROWS = 1_500
CONNECTOR = """\
name: trip
kafka: {{bootstrap_servers: "{servers}"}}
input: {{topic: in, series: "{{sensor}}", value: value, timestamp: ts, start: earliest}}
output: {{alerts: out, scores: scores}}
alerts: {{false_alarms_per_series_per_day: 20, rules: [{{series: "duty/*", direction: above}}]}}
delivery: {{commit_interval: 100ms}}
state: {{path: "{folder}"}}
"""


def write_data(path: Path) -> None:
    made = generate_labelled(("daily", "cycle", "duty"), 3, ROWS, 60 * 10**9, seed=5)
    with path.open("w", encoding="utf-8") as file:
        file.write("ts,sensor,value\n")
        for i in range(ROWS):
            for one in made:
                time = format_timestamp(int(one.timestamp[i]))
                value = "" if np.isnan(one.value[i]) else repr(float(one.value[i]))
                file.write(f"{time},{one.name},{value}\n")


def run_until(connector_path: Path, done: Callable[[], bool]) -> None:
    """The real worker in a thread, until `done`."""
    connector = load_connector(connector_path)
    model = load_model(connector.model)
    worker = Worker(
        KafkaClients(connector.kafka),
        connector_engine(connector, model),
        Snapshots(connector.state.path, connector.input.group_id),
        WorkerSettings(connector.input, connector.output, connector.delivery, connector.state),
        model.ref,
    )
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        limit = time.monotonic() + 60
        while not done():
            assert time.monotonic() < limit, "the worker did not score everything in a minute"
            assert thread.is_alive()
    finally:
        worker.stop()
        thread.join(30)


def test_replay_run_alerts_equals_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = tmp_path / "data.csv", tmp_path / "scores.csv"
    write_data(data)
    topics = {"in": 2, "out": 1, "scores": 1, "in.dead-letter": 1}
    with DevBroker(auto_create=False, topics=topics) as broker:
        path = tmp_path / "trip.yaml"
        path.write_text(
            CONNECTOR.format(servers=broker.bootstrap, folder=tmp_path / "state"), "utf-8"
        )
        assert cli.main(["replay", str(data), str(path)]) == 0
        assert "4,500 readings in 4,500 messages to topic in" in capsys.readouterr().err
        frames: list[Any] = []
        consumer = KafkaConsumer(
            bootstrap_servers=broker.bootstrap, isolation_level="read_committed"
        )
        consumer.assign([TopicPartition("scores", 0)])
        consumer.seek_to_beginning()

        def all_scored() -> bool:
            for records in consumer.poll(200).values():
                frames.extend(decode_scores(record.value).scores for record in records)
            return sum(map(len, frames)) >= 3 * ROWS

        run_until(path, all_scored)
        consumer.close()
        capsys.readouterr()
        assert cli.main(["alerts", str(path), "--json"]) == 0
        alerts = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert cli.main(["alerts", str(path)]) == 0
        assert len(capsys.readouterr().out.splitlines()) == len(alerts) + 1

    arguments = ["--timestamp", "ts", "--series", "sensor", "--connector", str(path), "--quiet"]
    assert cli.main(["score", str(data), "--out", str(out), "--digits", "all", *arguments]) == 0
    with out.open(encoding="utf-8", newline="") as file:
        rows = {(row["series_id"], row["timestamp"]): row for row in csv.DictReader(file)}
    assert len(rows) == sum(map(len, frames)) == 3 * ROWS
    for frame in frames:
        for i, series in enumerate(frame.series):
            row = rows[series, format_timestamp(int(frame.timestamp[i]))]
            for name in ("score", "p_value", "surprise", "expected", "lower", "upper"):
                expected = float(row[name] or "nan")
                assert float(getattr(frame, name)[i]) == pytest.approx(
                    expected, rel=1e-9, abs=1e-12, nan_ok=True
                ), name
            assert (frame.alert[i], frame.onset[i]) == (int(row["alert"]), int(row["onset"]))
    onsets = sorted(key for key, row in rows.items() if row["onset"] == "1")
    opened = sorted((a["series_id"], a["timestamp"]) for a in alerts if a["status"] == "opened")
    assert opened == onsets
    assert len(onsets) >= 3, "there must be alerts to compare"

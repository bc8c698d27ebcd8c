"""The whole path on a real Kafka: files replayed into a topic, the worker, an independent reader.

The worker, the replay and the scores of `titans-stream score` are separate processes, as a user
runs them; the alerts are read by another client library, read_committed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from kafka import KafkaAdminClient
from kafka.admin import NewTopic

from titans_stream.stream.encoding import decode_scores

MACHINE = "realKnownCause/machine_temperature_system_failure"
OTHERS = 20
PARTITIONS = 4
CLI = [sys.executable, "-m", "titans_stream.cli"]

pytestmark = [pytest.mark.kafka, pytest.mark.data]


@dataclass(frozen=True)
class Run:
    folder: Path
    files: dict[str, pd.DataFrame]
    alerts: list[dict[str, object]]
    scores: pd.DataFrame
    offline: pd.DataFrame
    committed: int


def nab_files(root: Path) -> dict[str, pd.DataFrame]:
    """The machine temperature and twenty other files, taken evenly over the corpus."""
    paths = sorted((root / "nab" / "data").glob("*/*.csv"))
    named = {f"{p.parent.name}/{p.stem}": p for p in paths}
    others = [name for name in named if name != MACHINE]
    chosen = [MACHINE, *others[:: len(others) // OTHERS][:OTHERS]]
    return {name: pd.read_csv(named[name]) for name in chosen}


def make_topics(servers: str, tag: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=servers)
    admin.create_topics(
        [
            NewTopic(f"in-{tag}", PARTITIONS, 1),
            NewTopic(f"alerts-{tag}", 1, 1),
            NewTopic(f"scores-{tag}", 2, 1),
            NewTopic(f"in-{tag}.dead-letter", 1, 1),
        ]
    )
    admin.close()


def write_connector(folder: Path, tag: str) -> Path:
    path = folder / "connector.yaml"
    path.write_text(
        f"""
name: end-to-end-{tag}
kafka: {{bootstrap_servers: "${{KAFKA_BOOTSTRAP_SERVERS}}"}}
input:
  topic: in-{tag}
  start: earliest
  series: "{{series}}"
  value: value
  timestamp: timestamp
output: {{alerts: alerts-{tag}, scores: scores-{tag}}}
alerts: {{no_data_after: never}} # files of different years share a partition
state: {{path: {folder / "state"}}}
""",
        encoding="utf-8",
    )
    return path


def read_topic(servers: str, topic: str) -> list[bytes]:
    """All committed messages of a topic, by librdkafka."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": f"reader-{uuid.uuid4()}",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
    values: list[bytes] = []
    ended: set[int] = set()
    deadline = time.monotonic() + 60
    while len(ended) < len(partitions) and time.monotonic() < deadline:
        message = consumer.poll(1.0)
        if message is None:
            continue
        if message.error():
            ended.add(message.partition())
        else:
            values.append(message.value())
    consumer.close()
    assert len(ended) == len(partitions)
    return values


def committed(servers: str, group: str, topic: str) -> int:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": group})
    offsets = consumer.committed([TopicPartition(topic, p) for p in range(PARTITIONS)], timeout=10)
    consumer.close()
    return sum(max(o.offset, 0) for o in offsets)


@pytest.fixture(scope="module")
def result(kafka_bootstrap: str, data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("end-to-end")
    tag = uuid.uuid4().hex[:8]
    files = nab_files(data_root)
    long = pd.concat(
        [frame.assign(series=name, row=range(len(frame))) for name, frame in files.items()]
    )
    long = long.sort_values("row", kind="stable")[["timestamp", "series", "value"]]
    long.to_csv(folder / "data.csv", index=False)
    make_topics(kafka_bootstrap, tag)
    connector = write_connector(folder, tag)
    environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap}
    worker = subprocess.Popen([*CLI, "run", str(connector)], env=environment)
    columns = ["--timestamp", "timestamp", "--value", "value"]
    try:
        subprocess.run(
            [*CLI, "replay", str(folder / "data.csv"), str(connector), *columns],
            env=environment,
            check=True,
            timeout=200,
        )
        group = f"titans-stream.end-to-end-{tag}"
        deadline = time.monotonic() + 200
        done = 0
        while done < len(long) and time.monotonic() < deadline and worker.poll() is None:
            time.sleep(1)
            done = committed(kafka_bootstrap, group, f"in-{tag}")
    finally:
        worker.send_signal(signal.SIGTERM)
        ended = worker.wait(60)
    assert ended == 0
    scored = [*CLI, "score", str(folder / "data.csv"), "--out", str(folder / "scores.csv")]
    subprocess.run(
        [*scored, *columns, "--series", "series", "--connector", str(connector), "--quiet"],
        check=True,
        env=environment,
        timeout=200,
    )
    frames = [decode_scores(value).scores for value in read_topic(kafka_bootstrap, f"scores-{tag}")]
    online = pd.concat(
        pd.DataFrame({name: getattr(f, name) for name in f.__dataclass_fields__}) for f in frames
    )
    return Run(
        folder,
        files,
        [json.loads(value) for value in read_topic(kafka_bootstrap, f"alerts-{tag}")],
        online,
        pd.read_csv(folder / "scores.csv"),
        done,
    )


def test_every_reading_is_committed(result: Run) -> None:
    assert result.committed == sum(len(frame) for frame in result.files.values())
    assert len(result.scores) == result.committed


def test_scores_from_kafka_equal_scores_from_the_file(result: Run) -> None:
    online = result.scores.sort_values(["series", "timestamp", "offset"], kind="stable")
    offline = result.offline.assign(
        timestamp=pd.to_datetime(result.offline.timestamp, utc=True, format="ISO8601")
        .astype("datetime64[ns, UTC]")
        .astype("int64")
    ).sort_values(["series_id", "timestamp"], kind="stable")
    assert len(online) == len(offline)
    assert np.array_equal(online.series, offline.series_id)
    np.testing.assert_array_equal(online.value, offline.value)
    for name in ("score", "surprise", "expected", "lower", "upper"):
        np.testing.assert_allclose(online[name], offline[name], rtol=1e-5, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(np.log(online.p_value), np.log(offline.p_value), atol=1e-5)
    for name in ("alert", "onset"):
        np.testing.assert_array_equal(online[name], offline[name], err_msg=name)


def test_alerts_equal_the_onsets_of_the_file(result: Run) -> None:
    opened = defaultdict(list)
    for alert in result.alerts:
        if alert["status"] == "opened":
            opened[alert["series_id"]].append(pd.Timestamp(str(alert["onset"])))
    onsets = result.offline[result.offline.onset == 1]
    for name in result.files:
        times = pd.to_datetime(onsets[onsets.series_id == name].timestamp, utc=True)
        assert sorted(opened[name]) == sorted(times.tolist()), name


def test_the_failures_of_the_machine_are_alerted(result: Run, data_root: Path) -> None:
    windows = json.loads((data_root / "nab" / "labels" / "combined_windows.json").read_text())
    opened = [
        pd.Timestamp(str(alert["onset"])).tz_localize(None)
        for alert in result.alerts
        if alert["status"] == "opened" and alert["series_id"] == MACHINE
    ]
    found = []
    for first, last in windows[f"{MACHINE}.csv"]:
        inside = [t for t in opened if pd.Timestamp(first) <= t <= pd.Timestamp(last)]
        found.append(bool(inside))
        print(f"window {first} .. {last}: {'alerted ' + str(inside[0]) if inside else 'missed'}")
    assert found[-1], "the catastrophic failure"
    assert sum(found) >= 2
    assert len(opened) <= 12


def test_the_other_series_are_quiet(result: Run) -> None:
    counts = dict.fromkeys((name for name in result.files if name != MACHINE), 0)
    for alert in result.alerts:
        if alert["status"] == "opened" and alert["series_id"] in counts:
            counts[str(alert["series_id"])] += 1
    print("episodes opened:", dict(sorted(counts.items(), key=lambda item: -item[1])))
    assert len(counts) == OTHERS
    assert sum(counts.values()) / OTHERS <= 6


def test_an_episode_is_one_story(result: Run) -> None:
    episodes = defaultdict(list)
    for alert in result.alerts:
        episodes[alert["alert_id"]].append(alert)
    for messages in episodes.values():
        states = [m["status"] for m in messages]
        assert states[0] == "opened"
        assert "opened" not in states[1:]
        assert states.count("resolved") <= 1
        assert len({m["onset"] for m in messages}) == 1
        assert [m["readings"] for m in messages] == sorted(m["readings"] for m in messages)

"""Fuzzed messages through the whole service on a real Kafka: nothing crashes, nothing is lost.

Good messages end as rows of the scores topic, bad ones in the dead-letter topic with their own
bytes: each exactly once, by offset.
"""

from __future__ import annotations

import json
import random
import threading
import time
from pathlib import Path

import pytest
from kafka import KafkaProducer

from tests.engine.streams import MODEL
from tests.stream.test_codecs_fuzz import BAD, NOON_MS, good
from tests.stream_harness import Kafka, Running, eventually
from titans_stream.detection.rules import AlertConfig
from titans_stream.engine.engine import StreamEngine
from titans_stream.engine.settings import EngineConfig
from titans_stream.ops.storage import Snapshots
from titans_stream.stream.encoding import decode_scores
from titans_stream.stream.kafka.client import KafkaClients
from titans_stream.stream.kafka.settings import KafkaConfig
from titans_stream.stream.settings import (
    DeliveryConfig,
    InputConfig,
    OutputConfig,
    StateConfig,
    WorkerSettings,
)
from titans_stream.stream.worker import Worker

pytestmark = pytest.mark.kafka

LARGE = b'{"site":"a","machine":"m","value":"' + b"x" * 990_000 + b'","ts":1772366400}'


def make_worker(kafka: Kafka, folder: Path) -> Worker:
    stop = threading.Event()
    model = MODEL
    return Worker(
        KafkaClients(KafkaConfig(bootstrap_servers=kafka.bootstrap), stop=stop),
        StreamEngine(EngineConfig(device="cpu"), AlertConfig(), model, kafka.input),
        Snapshots(folder, kafka.prefix, keep=1),
        WorkerSettings(
            input=InputConfig.model_validate(
                {
                    "topic": kafka.input,
                    "group_id": kafka.prefix,
                    "start": "earliest",
                    "series": "{site}/{machine}",
                    "value": "value",
                    "timestamp": "ts",
                }
            ),
            output=OutputConfig(alerts=kafka.alerts, scores=kafka.scores, dead_letter=kafka.dead),
            delivery=DeliveryConfig(),
            state=StateConfig(path=str(folder)),
        ),
        model.ref,
        stop=stop,
    )


def produce(kafka: Kafka, count: int, seed: int) -> tuple[set[int], dict[int, bytes | None]]:
    """Fill partition 0; the offsets of good messages and the bytes of bad ones."""
    rng = random.Random(seed)
    producer = KafkaProducer(
        bootstrap_servers=kafka.bootstrap, linger_ms=20, max_request_size=1_048_576
    )
    usable: set[int] = set()
    bad: dict[int, bytes | None] = {}
    kinds = list(BAD)
    for offset in range(count):
        content: bytes | None
        if rng.random() < 0.6:
            usable.add(offset)
            content = json.dumps(good(rng)[0]).encode()
        elif rng.random() < 20 / count:
            content = bad[offset] = LARGE
        else:
            content = bad[offset] = BAD[rng.choice(kinds)](rng)
        key = b"k" if content is None else rng.choice([None, b"k", b"\xff"])
        producer.send(kafka.input, content, key, partition=0, timestamp_ms=NOON_MS)
    producer.flush(120)
    producer.close()
    return usable, bad


def account(kafka_bootstrap: str, folder: Path, count: int, seconds: float) -> None:
    kafka = Kafka(kafka_bootstrap).create(partitions=1)
    usable, bad = produce(kafka, count, seed=3)
    running = Running(make_worker(kafka, folder))
    try:
        running.wait_for("messages", count, seconds=seconds)
        eventually(lambda: kafka.committed(kafka.prefix, partitions=1)[0] == count)
    finally:
        running.stop()
    seen: list[int] = []
    for record in kafka.read(kafka.scores):
        seen += decode_scores(record.value).scores.offset.tolist()
    assert len(seen) == len(set(seen))
    assert set(seen) == usable
    letters = {}
    for record in kafka.read(kafka.dead):
        headers = dict(record.headers)
        assert headers["titans.reason"]
        assert headers["titans.topic"] == kafka.input.encode()
        letters[int(headers["titans.offset"])] = record.value
    assert len(kafka.read(kafka.dead)) == len(bad)
    assert letters.keys() == bad.keys()
    for offset, content in bad.items():
        assert letters[offset] == content or content == LARGE, offset
        if content == LARGE:
            cut = letters[offset]
            assert cut is not None
            assert LARGE.startswith(cut)


def test_20_000_fuzzed_messages(kafka_bootstrap: str, tmp_path: Path) -> None:
    account(kafka_bootstrap, tmp_path, 20_000, seconds=100)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_1_000_000_fuzzed_messages(kafka_bootstrap: str, tmp_path: Path) -> None:
    began = time.monotonic()
    account(kafka_bootstrap, tmp_path, 1_000_000, seconds=1200)
    print(f"{time.monotonic() - began:.0f} s")

"""The output topics of a broker, as the page reads them."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka import KafkaProducer

from tests.web.samples import MODEL, alert, connector, later, scores
from titans_stream.commands.ui import arguments, build_service
from titans_stream.devbroker.broker import DevBroker
from titans_stream.records import Forecast, Source
from titans_stream.stream.encoding import encode_alert, encode_forecast, encode_scores
from titans_stream.stream.inspect import input_partitions
from titans_stream.stream.kafka.client import KafkaClients
from titans_stream.web.service import Service


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def made(tmp_path: Path, broker: DevBroker) -> Service:
    one = connector(
        tmp_path,
        kafka={"bootstrap_servers": broker.bootstrap},
        output={"alerts": "alerts", "scores": "scores", "forecasts": "forecasts"},
        forecast={"steps": 2, "every": 10},
    )
    parser = argparse.ArgumentParser()
    arguments(parser)
    return build_service(parser.parse_args([str(tmp_path / "c.yaml"), "--keep", "64"]), one)


def publish(broker: DevBroker, *messages: tuple[str, bytes, bytes]) -> None:
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    for topic, key, value in messages:
        producer.send(topic, value, key).get(30)
    producer.close()


def test_what_workers_publish_is_read_whenever_it_comes(tmp_path: Path) -> None:
    topics = {"in": 2, "alerts": 1, "scores": 2, "forecasts": 1}
    with DevBroker(topics=topics, auto_create=False) as broker:
        first = alert("1", "a", 1)
        frame = encode_scores(scores(["a", "b"], [0, 0], [1.0, 2.0]), MODEL, "in")[0]
        publish(
            broker,
            ("alerts", b"a", encode_alert(first).value),
            ("alerts", b"a", b"{no alert"),
            ("scores", b"0", frame.value.replace(b'"alert":[0,0]', b'"alert":[0,300]')),
            ("scores", b"0", frame.value.replace(b'"series":["a","b"]', b'"series":["x",7]')),
            ("scores", b"0", frame.value),
        )
        one = made(tmp_path, broker)
        one.start()
        try:
            until(lambda: one.reader.progress.caught_up)
            assert one.views.status()["unreadable"] == 3
            assert [e["alert_id"] for e in one.views.open_alerts()] == ["1"]
            assert one.views.readings("b")["value"] == [2.0]
            made_forecast = Forecast(
                "a", "2026-03-01T00:00:00Z", ["2026-03-01T00:01:00Z"], [1.5], {}, None, MODEL,
                Source("in", 0, 0),
            )  # fmt: skip
            publish(
                broker,
                ("alerts", b"a", encode_alert(later(first, 5, status="resolved")).value),
                ("scores", b"0", encode_scores(scores(["a"], [1], [3.0]), MODEL, "in")[0].value),
                ("forecasts", b"a", encode_forecast(made_forecast).value),
            )
            until(lambda: not one.views.open_alerts())
            until(lambda: one.views.readings("a")["value"] == [1.0, 3.0])
            until(lambda: one.views.readings("a")["forecast"] is not None)
            assert one.views.readings("a")["forecast"]["median"] == [1.5]
            until(lambda: not one.health()["lag_problem"])
            lag = one.health()["lag"]
            assert [(p["partition"], p["end"], p["lag"]) for p in lag] == [
                (0, 0, None),
                (1, 0, None),
            ]
        finally:
            one.stop()


def test_topics_that_are_not_there_yet_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("titans_stream.web.reader._PAUSE", 0.2)
    with DevBroker(auto_create=False) as broker:
        one = made(tmp_path, broker)
        one.start()
        try:
            until(lambda: "topic alerts does not exist yet" in one.reader.progress.problem)
            assert not one.views.status()["caught_up"]
            for name in ("alerts", "scores", "forecasts"):
                broker.create_topic(name, 1)
            publish(broker, ("alerts", b"a", encode_alert(alert("1", "a", 1)).value))
            until(lambda: len(one.views.open_alerts()) == 1)
            assert one.reader.progress.problem == ""
        finally:
            one.stop()


def test_a_broker_that_does_not_answer_is_named(tmp_path: Path) -> None:
    one = connector(tmp_path)
    clients = KafkaClients(one.kafka, patience=0.2)
    with pytest.raises(ValueError, match=r"cannot reach Kafka at 127\.0\.0\.1:1"):
        input_partitions(clients, one.input)

"""Publishing, reading alerts, looking at a connector, and a worker's process and its signals."""

from __future__ import annotations

import json
import math
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.stream_harness import (
    ExactEngine,
    Kafka,
    Message,
    Running,
    Setup,
    WorkerProcess,
    eventually,
    expected_alerts,
    stream,
)
from titans_stream.devbroker.broker import DevBroker
from titans_stream.ops.exposition import WorkerCollector, registry_of
from titans_stream.stream.alert_reader import read_alerts
from titans_stream.stream.codec.json_codec import JsonCodec
from titans_stream.stream.inspect import inspect_connector
from titans_stream.stream.kafka.deadline import Patience, call_within
from titans_stream.stream.kafka.errors import ConnectError, FatalError
from titans_stream.stream.messages import RawMessage
from titans_stream.stream.publisher import MessageBuilder, Pace, Row, publish, series_fields
from titans_stream.stream.settings import InputConfig, OutputConfig

T = 1_700_000_000_123_456_789


@pytest.fixture
def setup(broker: DevBroker, tmp_path: Path) -> Setup:
    return Setup(Kafka(broker.bootstrap).create(), tmp_path)


SHAPES: list[tuple[dict[str, Any], dict[str, str], dict[str, float | None], list[Any]]] = [
    (
        {"series": "{s}", "value": "v", "timestamp": "t"},
        {"s": "a"},
        {"v": 1.5},
        [("a", T, 1.5)],
    ),
    (
        {
            "series": "{site.name}/{key}",
            "value": "data.v",
            "timestamp": {"field": "t", "unit": "ns"},
        },
        {"site.name": "x", "key": "k9"},
        {"data.v": None},
        [("x/k9", T, math.nan)],
    ),
    (
        {"series": "{m}", "values": ["p", "q"], "timestamp": {"field": "t", "unit": "ms"}},
        {"m": "pump"},
        {"p": 1.0},
        [("pump/p", T // 10**6 * 10**6, 1.0), ("pump/q", T // 10**6 * 10**6, math.nan)],
    ),
    (
        {"series": "{topic}/{value_name}", "values": ["p"], "items": "rows", "timestamp": "t"},
        {},
        {"p": 7.0},
        [("in/p", T, 7.0)],
    ),
    (
        {"series": "{s}", "value": "v", "items": ".", "timestamp": "kafka"},
        {"s": "a"},
        {"v": 2.0},
        [("a", T // 10**6 * 10**6, 2.0)],
    ),
]


@pytest.mark.parametrize(("settings", "fields", "values", "expected"), SHAPES)
def test_a_built_message_decodes_to_the_same_readings(
    settings: dict[str, Any],
    fields: dict[str, str],
    values: dict[str, float | None],
    expected: list[Any],
) -> None:
    config = InputConfig(topic="in", **settings)
    timestamp = T // 10**6 * 10**6 if config.timestamp.unit == "ms" else T
    key, value = MessageBuilder(config).build(Row(timestamp, values, fields))
    decoded = JsonCodec(config).decode([RawMessage("in", 0, 0, T // 10**6, key, value)])
    assert decoded.dead == []
    readings = decoded.readings
    found = list(zip(readings.series, readings.timestamp.tolist(), readings.value, strict=True))
    assert repr(found) == repr([(s, t, readings.value.dtype.type(v)) for s, t, v in expected])


def test_the_key_is_the_series_id() -> None:
    one = InputConfig(topic="in", series="{a}/{b}", value="v")
    assert MessageBuilder(one).build(Row(T, {"v": 1.0}, {"a": "x", "b": "y"}))[0] == b"x/y"
    several = InputConfig(topic="in", series="{a}", values=("p", "q"))
    assert MessageBuilder(several).build(Row(T, {"p": 1.0}, {"a": "x"}))[0] == b"x"
    with pytest.raises(ValueError, match=r"^b: the series template needs it"):
        MessageBuilder(one).build(Row(T, {"v": 1.0}, {"a": "x"}))


@pytest.mark.parametrize(
    ("template", "series", "fields"),
    [
        ("{s}", "a/b", {"s": "a/b"}),
        ("{a}/{b}", "x/y/z", {"a": "x", "b": "y/z"}),
        ("p{{{a}}}-{a}", "p{1}-1", {"a": "1"}),
        ("{a.b}.{key}", "u.v", {"a.b": "u", "key": "v"}),
    ],
)
def test_series_ids_are_taken_apart(template: str, series: str, fields: dict[str, str]) -> None:
    assert series_fields(InputConfig(topic="t", series=template, value="v"), series) == fields


def test_a_series_id_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot give the series id 'x'"):
        series_fields(InputConfig(topic="t", series="{a}/{b}", value="v"), "x")


def test_publish_sends_in_order_with_event_time_and_keys(setup: Setup) -> None:
    config = InputConfig(topic=setup.kafka.input, series="{s}", value="v")
    rows = [Row(T + i * 10**9, {"v": float(i)}, {"s": f"s{i % 5}"}) for i in range(100)]
    published = publish(setup.clients(), config, rows)
    assert (published.messages, published.readings) == (100, 100)
    records = setup.kafka.read(setup.kafka.input)
    assert len({record.partition for record in records}) == 2
    for name in range(5):
        mine = [record for record in records if record.key == b"s%d" % name]
        assert [json.loads(record.value)["v"] for record in mine] == [*range(name, 100, 5)]
        assert len({record.partition for record in mine}) == 1
        assert mine[0].timestamp == T // 10**6 + name * 1000


@pytest.mark.parametrize("pace", [Pace(rate=100.0), Pace(speedup=10.0)])
def test_publish_keeps_its_pace(setup: Setup, pace: Pace) -> None:
    config = InputConfig(topic=setup.kafka.input, series="{s}", value="v")
    rows = [Row(T + i * 10**8, {"v": 1.0}, {"s": "a"}) for i in range(51)]  # 5 s of event time
    published = publish(setup.clients(), config, rows, pace)
    assert 0.5 <= published.seconds < 1.5
    stop = threading.Event()
    stop.set()
    assert publish(setup.clients(), config, rows, pace, stop).messages == 0


def test_publish_names_a_missing_topic(setup: Setup) -> None:
    config = InputConfig(topic="nowhere", series="{s}", value="v")
    with pytest.raises(ConnectError, match=r"^input\.topic: topic nowhere does not exist on "):
        publish(setup.clients(), config, [])


@pytest.mark.parametrize("settings", [{"rate": 0}, {"speedup": -1}, {"rate": 1, "speedup": 1}])
def test_a_pace_that_is_none_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"rate|speedup"):
        Pace(**settings)


def test_alerts_are_read_back(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    messages = stream(200)
    setup.kafka.produce(messages)
    running = Running(setup.worker())
    running.wait_for("messages", 200)
    running.stop()
    expected = expected_alerts(messages, setup.kafka.input)
    found = list(read_alerts(setup.clients(), setup.kafka.alerts))
    assert len(found) == sum(map(len, expected.values()))
    assert {alert.series_id for alert in found} == expected.keys()
    assert found[0].model.name == "exact"
    assert list(read_alerts(setup.clients(), setup.kafka.alerts, from_beginning=False)) == []
    # The input topic holds no alerts: each message is passed over and named.
    assert list(read_alerts(setup.clients(), setup.kafka.input)) == []
    assert f"{setup.kafka.input} partition 0 offset 3 is no alert" in caplog.text


def test_alerts_are_followed_from_now_on(setup: Setup) -> None:
    setup.kafka.produce(stream(100))
    running = Running(setup.worker())
    running.wait_for("messages", 100)
    stop = threading.Event()
    found: list[Any] = []

    def follow() -> None:
        reader = read_alerts(
            setup.clients(), setup.kafka.alerts, from_beginning=False, follow=True, stop=stop
        )
        found.extend(reader)

    thread = threading.Thread(target=follow)
    thread.start()
    time.sleep(0.7)
    setup.kafka.produce([Message("new", 500.0, 0, 99_000)])
    eventually(lambda: len(found) == 1, 10)
    stop.set()
    thread.join(5)
    running.stop()
    assert (found[0].series_id, found[0].status) == ("new", "opened")


def test_inspect_tells_what_a_worker_would_make_of_the_last_messages(setup: Setup) -> None:
    setup.kafka.produce(stream(40))
    running = Running(setup.worker())
    running.wait_for("messages", 40)
    running.stop()
    setup.kafka.produce([Message("x", 5.0, 1, int(time.time() * 1000) + 60_000), (b"k", b"junk")])
    config = InputConfig(
        topic=setup.kafka.input,
        group_id=setup.group_id,
        series="{s}",
        value="v",
        min_timestamp="1970-01-01",
    )
    found = inspect_connector(setup.clients(), config, OutputConfig(alerts=setup.kafka.alerts), 3)
    assert found.topics["output.dead_letter"] == setup.kafka.dead
    assert [(p.begin, p.end, p.committed, p.lag) for p in found.partitions] == [
        (0, 21, 20, 1),
        (0, 21, 20, 1),
    ]
    assert len(found.messages) == 3
    last, junk = found.messages[-1], found.messages[-2]
    assert (last.readings.series, last.readings.value.tolist(), last.dead) == (["x"], [5.0], None)
    assert junk.dead is not None
    assert (junk.dead.reason, len(junk.readings)) == ("invalid-json", 0)
    nobody = config.model_copy(update={"group_id": "nobody"})
    found = inspect_connector(setup.clients(), nobody, OutputConfig(alerts=setup.kafka.alerts), 0)
    assert [p.committed for p in found.partitions] == [None, None]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_a_worker_in_good_order(setup: Setup, number: signal.Signals) -> None:
    messages = stream(1_000)
    setup.kafka.produce(messages)
    setup.delivery = {"commit_interval": "30s", "max_poll_records": 10, "report_every": "50ms"}
    process = WorkerProcess(setup, delay=True, pause=0.02)
    eventually(lambda: ", 6 series," in process.log.read_text())
    process.signal(number)
    code, text = process.end()
    assert (code, text.count("Traceback")) == (0, 0), text
    committed = setup.kafka.committed(setup.group_id)
    done = sum(each or 0 for each in committed.values())
    assert 0 < done < 1_000
    setup.delivery = {}
    running = Running(setup.worker(ExactEngine(setup.kafka.input, delay=True)))
    running.wait_for("messages", 1_000 - done, 60)
    running.stop()
    assert running.worker.metrics.counts["replayed_messages"] == 0
    assert setup.kafka.alerts_by_series() == expected_alerts(
        messages, setup.kafka.input, delay=True
    )


def test_a_process_without_its_topic_ends_with_code_2_and_one_line(setup: Setup) -> None:
    setup.output = {"alerts": "nowhere"}
    code, text = WorkerProcess(setup).end()
    assert code == 2
    assert text == (
        f"output.alerts: topic nowhere does not exist on {setup.kafka.bootstrap}; create it first\n"
    )


@pytest.mark.parametrize("busy", [False, True])
def test_a_process_whose_broker_dies_can_be_ended(tmp_path: Path, busy: bool) -> None:
    broker = DevBroker(auto_create=False).start()
    setup = Setup(Kafka(broker.bootstrap).create(), tmp_path)
    setup.delivery = {"shutdown_timeout": "2s", "commit_interval": "30s"}
    process = WorkerProcess(setup)
    eventually(lambda: "output from offset" in process.log.read_text())
    if busy:
        setup.kafka.produce(stream(200))
        time.sleep(1.0)
    broker.kill()
    time.sleep(0.5)
    process.signal(signal.SIGTERM)
    code, text = process.end()
    assert (code, text.count("Traceback")) == (0, 0), text
    if busy:
        last = text.splitlines()[-1]
        assert re.search(r"did not end within (2|1\.\d+) s; is Kafka reachable\?", last), last


def test_call_within() -> None:
    assert call_within(1, "sum", lambda: 1 + 1) == 2
    with pytest.raises(ValueError, match=r"^given$"):
        call_within(1, "fail", lambda: (_ for _ in ()).throw(ValueError("given")))
    with pytest.raises(FatalError, match=r"^sleep did not end within 0\.05 s"):
        call_within(0.05, "sleep", lambda: time.sleep(1))


def test_patience_ends_with_failures_that_follow_one_another_only() -> None:
    now = [0.0]
    patience = Patience(100.0, clock=lambda: now[0])
    error = ValueError("no answer")
    for now[0] in (0.0, 50.0, 99.0):
        patience.failed(error)
    patience.succeeded()
    for now[0] in (101.0, 160.0, 250.0, 310.0, 340.0):  # the pause before 250 is a long one
        patience.failed(error)
    now[0] = 351.0
    with pytest.raises(FatalError, match=r"^nothing worked for 101 s: no answer$"):
        patience.failed(error)


def test_metrics_are_served_as_prometheus_counters(setup: Setup) -> None:
    setup.kafka.produce([*stream(50), (None, b"junk")])
    running = Running(setup.worker())
    running.wait(lambda: setup.kafka.committed(setup.group_id) == {0: 26, 1: 25})
    running.stop()
    worker = running.worker
    value = registry_of([WorkerCollector(worker.metrics, worker.model)]).get_sample_value
    assert value("titans_messages_total") == 51
    assert value("titans_readings_total", {"status": "scored"}) == 50
    assert value("titans_readings_total", {"status": "late"}) == 0
    assert value("titans_dead_letters_total", {"reason": "invalid-json"}) == 1
    assert value("titans_stage_seconds_total", {"stage": "engine"}) > 0
    calls = value("titans_engine_duration_seconds_count")
    assert calls >= 1
    assert value("titans_engine_duration_seconds_bucket", {"le": "+Inf"}) == calls
    assert value("titans_commit_duration_seconds_count") == worker.metrics.counts["commits"]
    assert value("titans_recovery_duration_seconds_count") == 2, "of two partitions"
    assert value("titans_recovering_partitions") == 0
    assert value("titans_event_time_lag_seconds") > 0
    for partition in ("0", "1"):
        place = {"topic": "in", "partition": partition}
        assert value("titans_snapshot_bytes", place) is None, "released at the end"

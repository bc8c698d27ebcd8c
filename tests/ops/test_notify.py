"""Alerts reach people: templates, signatures, Alertmanager's life of an alert, and the courier."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest
from kafka import KafkaProducer

from titans_stream.config import ConfigError, Connector, load_connector
from titans_stream.devbroker.broker import DevBroker
from titans_stream.ops.exposition import registry_of
from titans_stream.ops.notify import courier as courier_module
from titans_stream.ops.notify.alertmanager import Alertmanager
from titans_stream.ops.notify.post import DeliveryError, Poster
from titans_stream.ops.notify.receiver import Entry, message_id
from titans_stream.ops.notify.service import NotifyCollector, couriers
from titans_stream.ops.notify.webhook import Webhook, rendered
from titans_stream.records import Alert, ModelRef, Source
from titans_stream.stream.kafka.client import KafkaClients
from titans_stream.times import parse_timestamp

ALERT = Alert(
    "a-1", "opened", "vienna/press", "warning", "surprise", "2026-03-01T12:00:00Z",
    "2026-03-01T12:01:00Z", "2026-03-01T12:00:00Z", 81.5, 70.0, 65.0, 75.0, 0.95, "above", 0.9,
    0.001, 4.0, 0.1, False, "81.5 where 70 is normal", 60.0, 3, ModelRef("base", "1"),
    Source("in", 0, 7), what="value",
)  # fmt: skip


def alert(identity: str = "a-1", status: str = "opened", **more: Any) -> Alert:
    return replace(ALERT, alert_id=identity, status=status, **more)


@dataclass
class Stub:
    """A receiver over HTTP: keeps what it is sent, answers as it is told."""

    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Status and headers of the next answers; then 200."""
    seen: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture
def stub() -> Iterator[Stub]:
    state = Stub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            code, headers = state.answers.pop(0) if state.answers else (200, {})
            if code == 200:
                state.bodies.append(body)
                state.seen.append((self.path, dict(self.headers), json.loads(body)))
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield state
    server.shutdown()
    server.server_close()


def connector(notify: dict[str, Any], servers: str = "localhost:1") -> Connector:
    return Connector.model_validate(
        {
            "name": "plant",
            "kafka": {"bootstrap_servers": servers},
            "input": {"topic": "in", "series": "{s}", "value": "v"},
            "output": {"alerts": "alerts"},
            "notify": notify,
        }
    )


def webhook(stub: Stub, **more: Any) -> Webhook:
    config = connector({"webhooks": {"hook": {"url": stub.url + "/x?key=1", **more}}})
    return Webhook(config.notify.webhooks["hook"], "plant", lambda: 1_700_000_000.7)


# --- webhooks


def test_a_webhook_gets_the_alert_signed_and_named(stub: Stub) -> None:
    hook = webhook(stub, secret="hush", authorization="Bearer t")
    assert hook.deliver([Entry(ALERT, False)]) == 1
    path, headers, body = stub.seen[0]
    assert path == "/x?key=1"
    assert headers["Authorization"] == "Bearer t"
    assert body["explanation"] == ALERT.explanation
    assert (body["connector"], body["id"]) == ("plant", message_id(ALERT))
    assert headers["Titans-Id"] == message_id(ALERT)
    stamp, told = headers["Titans-Signature"].split(",")
    assert stamp == "t=1700000000"
    signed = b"1700000000." + stub.bodies[0]
    assert told == "v1=" + hmac.new(b"hush", signed, hashlib.sha256).hexdigest()


def test_a_template_takes_values_as_they_are(stub: Stub) -> None:
    template = {
        "text": "{severity}: {series_id} is {value}",
        "value": "{value}",
        "list": [{"expected": "{expected}"}, "{{", 3, None, True],
    }
    evil = 'a"}, {alert_id} {0.__class__}'
    assert webhook(stub, template=template).deliver([Entry(alert(series_id=evil), False)]) == 1
    assert stub.seen[0][2] == {
        "text": f"warning: {evil} is 81.5",
        "value": 81.5,
        "list": [{"expected": 70.0}, "{{", 3, None, True],
    }
    assert rendered("{a} {a}", {"a": None}) == " "


def test_a_webhook_is_told_what_it_wants(stub: Stub) -> None:
    hook = webhook(
        stub, statuses=["opened", "resolved"], series="vienna/*", min_severity="critical"
    )
    entries = [
        Entry(alert("a"), False),
        Entry(alert("b", "updated"), True),
        Entry(alert("c", series_id="graz/press"), True),
        Entry(alert("d"), True),
        Entry(alert("e", "resolved"), True),
    ]
    assert hook.deliver(entries) == 4, "up to and with the first that it wants"
    assert hook.deliver(entries[4:]) == 1
    assert [body["alert_id"] for _, _, body in stub.seen] == ["d", "e"]
    assert hook.deliver(entries[:3]) == 3, "passed over"


@pytest.mark.parametrize(
    ("code", "headers", "hopeless", "pause"),
    [
        (500, {}, False, 0.0),
        (429, {"Retry-After": "7"}, False, 7.0),
        (503, {"Retry-After": "999999"}, False, 300.0),
        (503, {"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, False, 0.0),
        (503, {"Retry-After": "soon"}, False, 0.0),
        (401, {}, False, 0.0),
        (302, {"Location": "http://127.0.0.1:1/"}, False, 0.0),
        (413, {}, True, 0.0),
        (400, {}, True, 0.0),
    ],
)
def test_failures_are_told_apart(
    stub: Stub, code: int, headers: dict[str, str], hopeless: bool, pause: float
) -> None:
    stub.answers.append((code, headers))
    with pytest.raises(DeliveryError, match=f"^HTTP {code} ") as failed:
        Poster(5.0).post(stub.url, b"{}", {})
    assert (failed.value.hopeless, failed.value.pause) == (hopeless, pause)
    assert not stub.seen, "a redirect is not followed"


def test_a_receiver_that_is_not_there() -> None:
    with pytest.raises(DeliveryError, match="refused") as failed:
        Poster(5.0).post("http://127.0.0.1:1/hook?key=hush", b"{}", {})
    assert "hush" not in str(failed.value)
    assert not failed.value.hopeless


# --- Alertmanager


class Clock:
    now = parse_timestamp("2026-03-01T13:00:00Z") / 1e9


def manager(stub: Stub, clock: Clock, **more: Any) -> Alertmanager:
    config = connector({"alertmanager": {"urls": stub.url + "/", "labels": {"site": "v"}, **more}})
    assert config.notify.alertmanager is not None
    return Alertmanager(config.notify.alertmanager, "plant", lambda: clock.now, lambda: clock.now)


def sent(stub: Stub) -> list[tuple[str, str, str]]:
    """Series, severity and end of everything that the last request held."""
    return [
        (one["labels"]["series"], one["labels"]["severity"], one["endsAt"])
        for one in stub.seen[-1][2]
    ]


def test_labels_hold_nothing_that_was_measured(stub: Stub) -> None:
    clock = Clock()
    receiver = manager(stub, clock)
    assert receiver.deliver([Entry(ALERT, False)]) == 1
    path, _, (one,) = stub.seen[0]
    assert path == "/api/v2/alerts"
    assert one["labels"] == {
        "alertname": "TitansAnomaly",
        "connector": "plant",
        "series": "vienna/press",
        "reason": "surprise",
        "severity": "warning",
        "site": "v",
    }
    assert one["startsAt"] == "2026-03-01T12:00:00Z"
    assert one["endsAt"] == "2026-03-01T13:15:00Z", "unless it is sent again"
    assert one["annotations"]["summary"] == "vienna/press: 81.5 where 70 is normal"
    receiver.deliver([Entry(alert(status="updated", value=99.0), False)])
    assert stub.seen[1][2][0]["labels"] == one["labels"]


def test_open_alerts_are_sent_again_and_resolved_ones_ended(stub: Stub) -> None:
    clock = Clock()
    receiver = manager(stub, clock)
    receiver.deliver(
        [Entry(alert("a", series_id="a"), False), Entry(alert("b", series_id="b"), False)]
    )
    clock.now += 60
    due = receiver.due()
    assert due is not None
    assert due <= clock.now
    receiver.refresh()
    assert sent(stub) == [(s, "warning", "2026-03-01T13:16:00Z") for s in "ab"]
    assert receiver.due() == clock.now + 60
    receiver.deliver([Entry(alert("a", "resolved", series_id="a"), False)])
    assert sent(stub) == [("a", "warning", "2026-03-01T13:01:00Z")]
    clock.now += 60
    receiver.refresh()
    assert sent(stub)[0] == ("a", "warning", "2026-03-01T13:01:00Z"), "who was away hears of it"
    assert receiver.open_count == 1
    clock.now += 16 * 60
    receiver.refresh()
    assert [series for series, *_ in sent(stub)] == ["b"]


def test_an_episode_that_gets_worse_is_one_alert_at_a_time(stub: Stub) -> None:
    clock = Clock()
    receiver = manager(stub, clock)
    receiver.deliver([Entry(ALERT, False)])
    receiver.deliver([Entry(alert(status="updated", severity="critical"), True)])
    assert sorted(sent(stub)) == [
        ("vienna/press", "critical", "2026-03-01T13:15:00Z"),
        ("vienna/press", "warning", "2026-03-01T13:00:00Z"),
    ]
    receiver.deliver([Entry(alert(status="resolved", severity="warning"), True)])
    assert sent(stub) == [("vienna/press", "critical", "2026-03-01T13:00:00Z")]
    assert receiver.open_count == 0


def test_what_was_open_before_is_sent_and_what_was_over_is_not(stub: Stub) -> None:
    clock = Clock()
    receiver = manager(stub, clock)
    receiver.recall(
        [
            Entry(alert("a", series_id="a"), False),
            Entry(alert("b", series_id="b"), False),
            Entry(alert("b", "resolved", series_id="b"), False),
            Entry(alert("z", "resolved", series_id="z"), False),
        ]
    )
    assert not stub.seen
    receiver.refresh()
    assert sent(stub) == [("a", "warning", "2026-03-01T13:15:00Z")]
    receiver.forget()
    receiver.refresh()
    assert len(stub.seen) == 1


def test_one_member_of_a_cluster_that_takes_it_is_enough(stub: Stub) -> None:
    clock = Clock()
    receiver = manager(stub, clock, urls=["http://127.0.0.1:1", stub.url])
    assert receiver.deliver([Entry(ALERT, False)]) == 1
    assert len(stub.seen) == 1
    stub.answers.append((500, {}))
    with pytest.raises(DeliveryError):
        receiver.deliver([Entry(alert("b"), False)])


def test_an_onset_from_the_future_begins_now(stub: Stub) -> None:
    receiver = manager(stub, Clock())
    receiver.deliver([Entry(alert(onset="2026-03-02T00:00:00Z", status="resolved"), False)])
    assert not stub.seen, "never told that it was open"
    receiver.deliver([Entry(alert(onset="2026-03-02T00:00:00Z"), False)])
    receiver.deliver([Entry(alert(onset="2026-03-02T00:00:00Z", status="resolved"), False)])
    (one,) = stub.seen[-1][2]
    assert one["startsAt"] < one["endsAt"] == "2026-03-01T13:00:00Z"


# --- the courier


def eventually(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


class Running:
    def __init__(self, settings: Connector) -> None:
        self.stop = threading.Event()
        clients = KafkaClients(settings.kafka, stop=self.stop)
        self.couriers = {one.name: one for one in couriers(settings, clients, self.stop)}
        self.threads = [
            threading.Thread(target=one.run, daemon=True) for one in self.couriers.values()
        ]
        for thread in self.threads:
            thread.start()

    def joined(self) -> Running:
        eventually(lambda: all(one.numbers.joined for one in self.couriers.values()))
        return self

    def end(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive()


def publish(broker: DevBroker, *alerts: Alert | bytes) -> None:
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    for one in alerts:
        value = one if isinstance(one, bytes) else orjson.dumps(one)
        producer.send("alerts", value, key=b"k")
    producer.close()


def ids(stub: Stub) -> list[str]:
    return [body["alert_id"] for path, _, body in stub.seen if path == "/hook"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier_module, "_FIRST_PAUSE", 0.05)
    monkeypatch.setattr(courier_module, "_LONGEST_PAUSE", 0.1)


def test_each_receiver_at_its_own_pace_at_least_once(stub: Stub, quick: None) -> None:
    """One is not there, one fails at first; the second process goes on where the first ended."""
    notify = {
        "webhooks": {
            "sound": {"url": stub.url + "/hook"},
            "gone": {"url": "http://127.0.0.1:1/gone"},
        }
    }
    with DevBroker(auto_create=False, topics={"alerts": 2}) as broker:
        publish(broker, alert("before"))
        settings = connector(notify, broker.bootstrap)
        running = Running(settings).joined()
        stub.answers += [(500, {}), (503, {})]
        publish(
            broker, alert("a"), b"junk", alert("a", "updated"), alert("b"), alert("a", "resolved")
        )
        eventually(lambda: len(ids(stub)) == 3)
        assert ids(stub) == ["a", "b", "a"], "in order, nothing from before the group began"
        sound, gone = running.couriers["webhook-sound"], running.couriers["webhook-gone"]
        assert sound.numbers.failures == 2
        eventually(lambda: sound.numbers.lag == 0)
        eventually(lambda: gone.numbers.failures >= 3)
        assert gone.numbers.delivered == 0
        registry = registry_of([NotifyCollector(list(running.couriers.values()))])
        label = {"receiver": "webhook-gone"}
        # the message that is no alert counts until it is read
        eventually(
            lambda: registry.get_sample_value("titans_notify_lag_messages", label) in (4, 5), 20
        )
        running.end()

        publish(broker, alert("c"))
        again = Running(settings).joined()
        eventually(lambda: ids(stub)[3:] == ["c"])
        again.end()


def test_what_is_refused_or_too_old_is_dropped(stub: Stub, quick: None) -> None:
    notify = {
        "webhooks": {
            "picky": {"url": stub.url + "/hook"},
            "gone": {"url": "http://127.0.0.1:1/gone", "give_up_after": "1s"},
        }
    }
    with DevBroker(auto_create=False, topics={"alerts": 1}) as broker:
        running = Running(connector(notify, broker.bootstrap)).joined()
        stub.answers.append((422, {}))
        publish(broker, alert("bad"), alert("good"))
        eventually(lambda: ids(stub) == ["good"])
        assert running.couriers["webhook-picky"].numbers.dropped == 1
        eventually(lambda: running.couriers["webhook-gone"].numbers.dropped == 2)
        eventually(lambda: running.couriers["webhook-gone"].numbers.lag == 0)
        running.end()


def test_a_new_process_knows_what_is_open(stub: Stub, quick: None) -> None:
    notify = {"alertmanager": {"urls": stub.url, "resend_every": "1s", "lasts": "1m"}}
    with DevBroker(auto_create=False, topics={"alerts": 1}) as broker:
        publish(broker, alert("over"), alert("over", "resolved"), alert("open", series_id="open"))
        running = Running(connector(notify, broker.bootstrap)).joined()
        eventually(lambda: len(stub.seen) >= 2)
        assert {one["labels"]["series"] for _, _, body in stub.seen for one in body} == {"open"}
        publish(broker, alert("open", "resolved", series_id="open"))
        eventually(lambda: running.couriers["alertmanager"].receiver.open_count == 0)
        eventually(lambda: parse_timestamp(stub.seen[-1][2][0]["endsAt"]) <= time.time_ns())
        running.end()


# --- settings


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("webhooks: {h: {url: 'ftp://x/y'}}", "a URL is needed"),
        ("webhooks: {h: {url: 'https://x', secret: plain}}", "a secret may not be written here"),
        ("webhooks: {h: {url: 'https://x', template: {a: '{vlaue}'}}}", "{vlaue} is no field"),
        ("alertmanager: {urls: 'http://x', labels: {severity: a}}", "'severity' is set from"),
        ("alertmanager: {urls: 'http://x', resend_every: 10m}", "lasts: at least twice"),
        ("alertmanager: {url: 'http://x'}", "urls: is needed"),
    ],
)
def test_settings_that_cannot_work(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "name: c\nkafka: {bootstrap_servers: 'h:1'}\noutput: {alerts: a}\n"
        "input: {topic: i, series: '{s}', value: v}\nnotify:\n  " + text + "\n"
    )
    with pytest.raises(ConfigError) as failed:
        load_connector(path)
    assert problem in str(failed.value)
    assert f"{path}:6" in str(failed.value)


def test_what_an_absent_receiver_has_not_read_counts_as_its_lag(quick: None) -> None:
    notify = {"webhooks": {"gone": {"url": "http://127.0.0.1:1/gone"}}}
    with DevBroker(auto_create=False, topics={"alerts": 2}) as broker:
        running = Running(connector(notify, broker.bootstrap)).joined()
        numbers = running.couriers["webhook-gone"].numbers
        publish(broker, alert("a"))
        eventually(lambda: numbers.failures >= 1)
        publish(broker, *(alert(name) for name in "bcdefgh"))
        eventually(lambda: numbers.lag == 8)
        running.end()

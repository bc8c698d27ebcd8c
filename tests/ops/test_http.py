"""What a worker serves over HTTP: metrics, a sign of life, readiness."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tests.stream_harness import Kafka, Running, Setup, stream
from titans_stream.commands.serving import serve_worker
from titans_stream.config import Connector
from titans_stream.devbroker.broker import DevBroker
from titans_stream.jobs.exposition import JobCollector
from titans_stream.jobs.records import JobRecords
from titans_stream.ops import listening
from titans_stream.ops.exposition import WorkerCollector, registry_of
from titans_stream.ops.health import MOST_AGE, Pulse
from titans_stream.ops.http import Answer, HttpServer, Probes
from titans_stream.records import ModelRef
from titans_stream.stream.metrics import Metrics

WELL = Answer(True, "well")
MODEL = ModelRef("base", "1")


def get(port: int, path: str, accept: str = "*/*") -> tuple[int, str, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Accept": accept})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read().decode()


@pytest.fixture(scope="module")
def broker() -> Iterator[DevBroker]:
    with DevBroker(auto_create=False) as running:
        yield running


def connector(**http: object) -> Connector:
    return Connector.model_validate(
        {
            "name": "c",
            "kafka": {"bootstrap_servers": "localhost:1"},
            "input": {"topic": "in", "series": "{s}", "value": "v"},
            "output": {"alerts": "out"},
            "http": http,
        }
    )


def test_paths_methods_and_formats() -> None:
    ill = Answer(False, "not yet")
    registry = registry_of([WorkerCollector(Metrics(), MODEL)])
    with HttpServer("127.0.0.1", 0, registry, Probes(lambda: WELL, lambda: ill)) as server:
        assert get(server.port, "/healthz") == (200, "text/plain; charset=utf-8", "well\n")
        assert get(server.port, "/readyz?verbose=1")[::2] == (503, "not yet\n")
        assert get(server.port, "/")[0] == get(server.port, "/metrics/x")[0] == 404
        code, kind, text = get(server.port, "/metrics")
        assert (code, kind.split(";")[0]) == (200, "text/plain")
        names = {family.name for family in text_string_to_metric_families(text)}
        assert {"titans_messages", "titans_episodes_due", "process_cpu_seconds"} <= names
        code, kind, text = get(server.port, "/metrics", "application/openmetrics-text")
        assert kind.startswith("application/openmetrics-text")
        assert {"titans_build", "titans_commit_duration_seconds"} <= {
            family.name for family in openmetrics(text)
        }
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
            raw.sendall(b"POST /metrics HTTP/1.1\r\n\r\n")
            assert b" 501 " in raw.recv(100)
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
            raw.sendall(b"HEAD /healthz HTTP/1.0\r\n\r\n")
            said = b"".join(iter(lambda: raw.recv(1_000), b""))
        assert said.endswith(b"\r\n\r\n")
        assert b"Content-Length: 5" in said


def test_a_client_that_says_nothing_does_not_keep_others_waiting() -> None:
    with ExitStack() as stack:
        probes = Probes(lambda: WELL, lambda: WELL)
        server = stack.enter_context(HttpServer("127.0.0.1", 0, CollectorRegistry(), probes))
        for _ in range(8):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        assert get(server.port, "/healthz")[0] == 200


def test_samples_do_not_grow_with_series() -> None:
    metrics = Metrics()
    collector = WorkerCollector(metrics, MODEL)
    few = sum(len(family.samples) for family in collector.collect())
    metrics.series = 100_000
    assert sum(len(family.samples) for family in collector.collect()) == few


def test_names_keep_to_the_conventions() -> None:
    """Base units, `_total` for counters alone, a help text each."""
    jobs = JobCollector(["nightly"], JobRecords(Path("/nonexistent")))
    for family in (*WorkerCollector(Metrics(), MODEL).collect(), *jobs.collect()):
        assert family.name.startswith("titans_"), family.name
        assert family.documentation, family.name
        assert not family.name.endswith(("_ms", "_minutes", "_kb", "_mb", "_count", "_total"))
        totals = [s.name for s in family.samples if s.name.endswith("_total")]
        assert not totals or family.type == "counter", family.name


def test_a_worker_is_ready_once_its_partitions_are(broker: DevBroker, tmp_path: Path) -> None:
    kafka = Kafka(broker.bootstrap)
    kafka.create()
    setup = Setup(kafka, tmp_path)
    worker = setup.worker()
    pulse = Pulse()
    with ExitStack() as stack:
        port = serve_worker(stack, connector(port=0), None, worker, pulse)
        assert port
        assert get(port, "/readyz")[::2] == (503, "created, no partitions assigned yet\n")
        kafka.produce(stream(40))
        running = Running(worker)
        running.wait(lambda: get(port, "/readyz")[0] == 200)
        assert get(port, "/readyz")[2] == "2 partitions\n"
        standby = Running(setup.worker())
        standby.wait(lambda: standby.worker.metrics.joined)
        running.wait(lambda: worker.metrics.counts["readings"] == 40)
        standby.stop()
        running.stop()
        assert get(port, "/readyz")[0] == 503


def test_health_is_a_recent_sign_of_life() -> None:
    now = 100.0
    told: list[str] = []
    pulse = Pulse(lambda: told.append("file"), lambda: now)
    now += MOST_AGE
    assert pulse.age == MOST_AGE
    pulse()
    assert (pulse.age, told) == (0.0, ["file"])


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, ExitStack() as stack:
        port = taken.getsockname()[1]
        worker = Setup(Kafka("localhost:1"), Path("none")).worker()
        for settings, given, name in (
            (connector(port=port), None, "http"),
            (connector(), port, "--http-port"),
        ):
            with pytest.raises(
                ValueError, match=f"^{name}: 127.0.0.1 port {port}: cannot listen: "
            ):
                serve_worker(stack, settings, given, worker, Pulse())
        serve_worker(stack, connector(), None, worker, Pulse())


def test_jobs_are_shown(tmp_path: Path) -> None:
    records = JobRecords(tmp_path)
    records.started("nightly")
    registry = registry_of([JobCollector(["nightly", "daily"], records)])
    value = registry.get_sample_value
    assert value("titans_job_running", {"job_name": "nightly"}) == 1
    assert value("titans_job_last_run_successful", {"job_name": "nightly"}) is None
    records.ended("nightly", "failed", "no data")
    records.not_run("daily", "missed", "late")
    assert value("titans_job_failures_total", {"job_name": "nightly"}) == 1
    assert value("titans_job_last_run_successful", {"job_name": "nightly"}) == 0
    assert value("titans_job_not_run_total", {"job_name": "daily", "outcome": "missed"}) == 1
    assert value("titans_job_last_start_timestamp_seconds", {"job_name": "nightly"}) > 1.7e9


def test_a_request_that_no_thread_takes_gives_its_place_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a machine that was out of threads for a moment would never be answered again."""

    def no_thread(*arguments: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(ThreadingHTTPServer, "process_request", no_thread)
    server = listening._Server(("127.0.0.1", 0), listening.Handler)
    try:
        for _ in range(2 * listening._MOST_REQUESTS):
            with socket.socket() as request, pytest.raises(RuntimeError, match="new thread"):
                server.process_request(request, ("127.0.0.1", 1))
    finally:
        server.server_close()

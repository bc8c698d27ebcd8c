"""Traces of a worker's work: what is in them, where they go, and that there are none by default."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.connectors import SETTINGS
from tests.stream_harness import ExactEngine, Kafka, Running, Setup, stream
from titans_stream.commands.serving import worker_metrics
from titans_stream.config import Connector, load_connector
from titans_stream.devbroker.broker import DevBroker
from titans_stream.ops.tracing import TracedMetrics, traced_metrics, tracer_provider
from titans_stream.service_settings import TracesConfig
from titans_stream.stream.kafka.errors import AbortedError
from titans_stream.stream.metrics import Metrics


@pytest.fixture
def broker() -> Iterator[DevBroker]:
    with DevBroker() as running:
        yield running


def traced(share: float = 1.0) -> tuple[TracedMetrics, InMemorySpanExporter]:
    spans = InMemorySpanExporter()
    provider = tracer_provider("plant", TracesConfig(share=share), InMemorySpanExporter())
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return TracedMetrics(provider.get_tracer("test")), spans


def connector(folder: Path, more: str = "") -> Connector:
    path = folder / "plant.yaml"
    path.write_text(SETTINGS + more, encoding="utf-8")
    return load_connector(path)


def test_a_workers_batches_are_traces_of_their_stages(broker: DevBroker, tmp_path: Path) -> None:
    metrics, spans = traced()
    setup = Setup(Kafka(broker.bootstrap).create(), tmp_path)
    messages = stream(300)
    setup.kafka.produce(messages)
    setup.input = {"start": "earliest"}
    worker = setup.worker(ExactEngine(setup.kafka.input))
    worker.metrics = metrics
    running = Running(worker)
    running.wait_for("readings", len(messages))
    running.stop()
    metrics.end_batch()
    found = spans.get_finished_spans()
    batches = {one.context.span_id: one for one in found if one.name == "titans.batch"}
    counts = [one.attributes["messaging.batch.message_count"] for one in batches.values()]
    assert sum(counts) == len(messages)
    for stage in ("receive", "decode", "engine", "encode"):
        of = [one for one in found if one.name == f"titans.{stage}"]
        assert {one.parent.span_id for one in of} == set(batches), stage
        for one in of:
            batch = batches[one.parent.span_id]
            assert batch.start_time <= one.start_time <= one.end_time <= batch.end_time
            assert one.context.trace_id == batch.context.trace_id
    commits = [one for one in found if one.name == "titans.commit"]
    assert {link.context.span_id for one in commits for link in one.links} == set(batches)
    assert any(one.name == "titans.snapshot" for one in found)
    assert not any("p0s0" in one.to_json() for one in found), "no series is named"


def test_what_fails_is_named_by_its_kind_alone() -> None:
    metrics, spans = traced()
    with pytest.raises(AbortedError), metrics.timed("commit"):
        raise AbortedError("secret")
    (commit,) = spans.get_finished_spans()
    assert (commit.status.is_ok, commit.status.description) == (False, "AbortedError")
    assert not commit.events and "secret" not in commit.to_json()
    assert metrics.durations["commit"].counts != [0] * len(metrics.durations["commit"].counts)


def test_a_share_of_the_batches_is_traced_as_a_whole() -> None:
    metrics, spans = traced(0.25)
    for _ in range(400):
        metrics.polled(0.0, 1)
        with metrics.timed("engine"):
            pass
    metrics.end_batch()
    found: dict[str, list[ReadableSpan]] = {}
    for one in spans.get_finished_spans():
        found.setdefault(one.name, []).append(one)
    assert 40 < len(found["titans.batch"]) < 160
    assert len(found["titans.engine"]) == len(found["titans.batch"])


def test_a_collector_gets_them_by_otlp() -> None:
    got: list[ExportTraceServiceRequest] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            got.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}/v1/traces"
        with traced_metrics("plant", TracesConfig(endpoint=endpoint)) as metrics:
            metrics.polled(0.0, 3)
        server.shutdown()
    resource = got[0].resource_spans[0]
    assert {one.name for scope in resource.scope_spans for one in scope.spans} == {
        "titans.batch", "titans.receive",
    }  # fmt: skip
    named = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert (named["service.name"], named["titans.connector"]) == ("titans-stream", "plant")


def test_without_the_setting_nothing_is_traced(tmp_path: Path) -> None:
    with ExitStack() as stack:
        assert type(worker_metrics(stack, connector(tmp_path))) is Metrics
        assert type(worker_metrics(stack, connector(tmp_path, "traces: {}\n"))) is TracedMetrics

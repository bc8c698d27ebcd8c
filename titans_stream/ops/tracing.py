"""A worker's stages as OpenTelemetry spans, where the connector has `traces`.

A trace is a batch: what one poll gave, until the next poll. Its spans are the stages of the
metrics (`titans.decode`, `titans.engine`, `titans.encode`, `titans.commit`, `titans.snapshot`,
`titans.recover`). A commit holds several batches, most often: it links those since the last one,
and is a trace of its own where no batch is open. No value, series or key of a message is in a span.

The worker without `traces` has plain `Metrics`: nothing here is imported or asked.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    set_span_in_context,
)

import titans_stream
from titans_stream.service_settings import TracesConfig
from titans_stream.stream.metrics import Metrics

_SECONDS = 5.0
"""How long an exporter waits for the collector; what is not sent by then is dropped."""
_MOST_LINKS = 128
"""Of a commit to its batches; also OpenTelemetry's own limit."""
_NO_PARENT = Context()


def tracer_provider(
    connector: str, config: TracesConfig, exporter: SpanExporter | None = None
) -> TracerProvider:
    """What makes and sends the spans of a connector's worker, in a thread of its own.

    Without an `exporter` they go to the collector of `config`, by OTLP over HTTP. Whoever ends the
    worker calls `shutdown`.
    """
    resource = Resource.create(
        {SERVICE_NAME: "titans-stream", SERVICE_VERSION: titans_stream.__version__}
    ).merge(Resource({"titans.connector": connector}))
    provider = TracerProvider(
        resource=resource, sampler=ParentBased(TraceIdRatioBased(config.share))
    )
    exporter = exporter or OTLPSpanExporter(endpoint=config.endpoint, timeout=_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


class TracedMetrics(Metrics):
    """Metrics whose stages are spans, too."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self._tracer = tracer
        self._batch: Span | None = None
        self._context = _NO_PARENT
        self._uncommitted: list[SpanContext] = []

    def polled(self, begun: float, messages: int) -> None:
        """End the span of the last batch, and begin that of this one, if it holds anything."""
        super().polled(begun, messages)
        now = time.time_ns()
        start = now - int((time.perf_counter() - begun) * 1e9)
        self.end_batch(start)
        if not messages:
            return
        self._batch = self._tracer.start_span(
            "titans.batch",
            _NO_PARENT,
            SpanKind.CONSUMER,
            {
                "messaging.system": "kafka",
                "messaging.operation.name": "poll",
                "messaging.batch.message_count": messages,
            },
            start_time=start,
        )
        self._context = set_span_in_context(self._batch, _NO_PARENT)
        self._tracer.start_span("titans.receive", self._context, start_time=start).end(now)
        context = self._batch.get_span_context()
        if context.trace_flags.sampled and len(self._uncommitted) < _MOST_LINKS:
            self._uncommitted.append(context)

    def end_batch(self, end: int | None = None) -> None:
        """End the open batch's span, at a time in ns or now."""
        batch, self._batch, self._context = self._batch, None, _NO_PARENT
        if batch is not None:
            batch.end(end)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Time a stage, and make a span of it; what it raises is named by its kind alone."""
        links = None
        if stage == "commit":
            links, self._uncommitted = [Link(each) for each in self._uncommitted], []
        span = self._tracer.start_span(f"titans.{stage}", self._context, links=links)
        try:
            with super().timed(stage):
                yield
        except BaseException as error:
            span.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise
        finally:
            span.end()


@contextmanager
def traced_metrics(connector: str, config: TracesConfig) -> Iterator[TracedMetrics]:
    """Metrics whose spans are sent until the end of the block, what waits then included."""
    provider = tracer_provider(connector, config)
    metrics = TracedMetrics(provider.get_tracer("titans_stream", titans_stream.__version__))
    try:
        yield metrics
    finally:
        metrics.end_batch()
        provider.shutdown()

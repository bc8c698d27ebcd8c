"""What `run` and `jobs --serve` tell of their work: over HTTP, and as traces."""

from __future__ import annotations

import argparse
import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING

from titans_stream.commands.broker import port_number

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

    from titans_stream.config import Connector
    from titans_stream.ops.health import Pulse
    from titans_stream.ops.http import Answer, Probes
    from titans_stream.stream.metrics import Metrics
    from titans_stream.stream.worker import Worker

log = logging.getLogger(__name__)


def add_http_port(parser: argparse.ArgumentParser) -> None:
    """Add --http-port."""
    parser.add_argument(
        "--http-port",
        metavar="PORT",
        type=port_number,
        help="serve /metrics, /healthz and /readyz there (0: any free one), in place of http.port",
    )


def serve(
    stack: ExitStack, connector: Connector, given: int | None, collector: Collector, probes: Probes
) -> int | None:
    """Serve until `stack` is left, if there is a port, which is returned.

    ValueError where it cannot be had.
    """
    from titans_stream.ops.exposition import registry_of
    from titans_stream.ops.http import HttpServer

    number = connector.http.port if given is None else given
    if number is None:
        return None
    host = connector.http.host
    try:
        server = HttpServer(host, number, registry_of([collector]), probes)
    except OSError as error:
        setting = "http" if given is None else "--http-port"
        raise ValueError(
            f"{setting}: {host} port {number}: cannot listen: {error.strerror or error}"
        ) from error
    stack.enter_context(server)
    shown = f"[{host}]" if ":" in host else host
    log.info("serving http://%s:%d/metrics", shown, server.port)
    return server.port


def worker_metrics(stack: ExitStack, connector: Connector) -> Metrics:
    """A worker's metrics; traced until `stack` is left, where the connector has `traces`.

    ValueError where packages for that are missing.
    """
    from titans_stream.stream.metrics import Metrics

    if connector.traces is None:
        return Metrics()
    try:
        from titans_stream.ops.tracing import traced_metrics
    except ModuleNotFoundError as error:
        raise ValueError(
            "traces: more packages are needed: pip install 'titans-stream[otel]' "
            f"(there is no {error.name})"
        ) from error
    log.info("traces go to %s", connector.traces.endpoint)
    return stack.enter_context(traced_metrics(connector.name, connector.traces))


def serve_worker(
    stack: ExitStack, connector: Connector, given: int | None, worker: Worker, pulse: Pulse
) -> int | None:
    """Serve a worker's metrics and probes; as `serve`."""
    from titans_stream.ops.exposition import WorkerCollector
    from titans_stream.ops.health import MOST_AGE
    from titans_stream.ops.http import Answer, Probes
    from titans_stream.stream.worker import WorkerState

    def health() -> Answer:
        return Answer(pulse.age <= MOST_AGE, f"got on {pulse.age:.0f} s ago")

    def ready() -> Answer:
        metrics = worker.metrics
        if worker.state is not WorkerState.RUNNING or not metrics.joined:
            return Answer(False, f"{worker.state.value}, no partitions assigned yet")
        if metrics.recovering:
            return Answer(False, f"{metrics.recovering} partitions are being recovered")
        return Answer(True, f"{metrics.partitions} partitions")

    collector = WorkerCollector(worker.metrics, worker.model)
    return serve(stack, connector, given, collector, Probes(health, ready))

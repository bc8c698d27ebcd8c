"""Serves /metrics, /healthz and /readyz over HTTP, from threads of their own.

`/metrics` is Prometheus's text format (or OpenMetrics, where it is asked for). `/healthz` is 200
while the process gets on with its work, else 503: what a liveness probe asks. `/readyz` is 200 once
it has its partitions and their state: what a rolling update waits for. Each answers with one line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from titans_stream.ops.listening import Handler, Listener


class Answer(NamedTuple):
    """What a probe says: whether all is well, and a line about it."""

    well: bool
    line: str


class Probes(NamedTuple):
    """What is asked at /healthz and /readyz, from any thread."""

    health: Callable[[], Answer]
    ready: Callable[[], Answer]


class HttpServer(Listener):
    """Serves the metrics of a registry, and the probes."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry, probes: Probes) -> None:
        super().__init__(host, port, _handler(registry, probes))


def _handler(registry: CollectorRegistry, probes: Probes) -> type[Handler]:
    class Serving(Handler):
        def do_GET(self) -> None:  # noqa: N802
            path = self.path.partition("?")[0]
            if path == "/metrics":
                encoder, kind = choose_encoder(self.headers.get("Accept", ""))
                self._answer(200, kind, encoder(registry))
            elif path in ("/healthz", "/readyz"):
                answer = (probes.health if path == "/healthz" else probes.ready)()
                text = f"{answer.line}\n".encode()
                self._answer(200 if answer.well else 503, "text/plain; charset=utf-8", text)
            else:
                self._answer(404, "text/plain; charset=utf-8", b"/metrics /healthz /readyz\n")

        do_HEAD = do_GET  # noqa: N815

        def _answer(self, code: int, kind: str, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    return Serving

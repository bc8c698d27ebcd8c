"""Serves /metrics, /healthz and /readyz over HTTP, from threads of their own.

`/metrics` is Prometheus's text format (or OpenMetrics, where it is asked for). `/healthz` is 200
while the process gets on with its work, else 503: what a liveness probe asks. `/readyz` is 200 once
it has its partitions and their state: what a rolling update waits for. Each answers with one line.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

log = logging.getLogger(__name__)

_PATIENCE = 10.0
"""Seconds that a client may take over its request, or over the answer."""
_MOST_REQUESTS = 16
"""At the same time; more are turned away."""


class Answer(NamedTuple):
    """What a probe says: whether all is well, and a line about it."""

    well: bool
    line: str


class Probes(NamedTuple):
    """What is asked at /healthz and /readyz, from any thread."""

    health: Callable[[], Answer]
    ready: Callable[[], Answer]


class HttpServer:
    """The server; as a context manager it ends with the block.

    `port` 0 takes any that is free. OSError where the address cannot be used.
    """

    def __init__(self, host: str, port: int, registry: CollectorRegistry, probes: Probes) -> None:
        family = socket.AF_INET6 if _is_ipv6(host) else socket.AF_INET

        class Server(_Server):
            address_family = family

        self._server = Server((host, port), _handler(registry, probes))
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)

    def _serve(self) -> None:
        self._server.serve_forever(poll_interval=0.2)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def __enter__(self) -> HttpServer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _is_ipv6(host: str) -> bool:
    try:
        return ip_address(host).version == 6
    except ValueError:
        return False


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._slots = threading.BoundedSemaphore(_MOST_REQUESTS)
        super().__init__(address, handler)

    def server_bind(self) -> None:
        # as that of HTTPServer, without its look-up of this machine's name
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("request of %s", client_address[0], exc_info=True)


def _handler(registry: CollectorRegistry, probes: Probes) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _PATIENCE
        server_version = "titans-stream"
        sys_version = ""

        def do_GET(self) -> None:
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

        def log_message(self, format: str, *args: Any) -> None:
            log.debug("%s: " + format, self.client_address[0], *args)

    return Handler

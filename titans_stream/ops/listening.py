"""Listens for HTTP requests in threads of its own, until a block ends."""

from __future__ import annotations

import logging
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any, Self

log = logging.getLogger(__name__)

_MOST_REQUESTS = 16
"""At the same time; more are turned away."""


class Handler(BaseHTTPRequestHandler):
    """Answers a request, says nothing of what it runs on, and logs only where that is asked for."""

    timeout = 10.0
    """Seconds that a client may take over its request, or over the answer."""
    server_version = "titans-stream"
    sys_version = ""

    def log_message(self, format: str, *args: Any) -> None:
        """Log a request."""
        log.debug("%s: " + format, self.client_address[0], *args)


class Listener:
    """A server; as a context manager it ends with the block.

    `port` 0 takes any that is free. OSError where the address cannot be used.
    """

    def __init__(self, host: str, port: int, handler: type[Handler]) -> None:
        family = socket.AF_INET6 if _is_ipv6(host) else socket.AF_INET

        class Server(_Server):
            address_family = family

        self._server = Server((host, port), handler)
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)

    def _serve(self) -> None:
        self._server.serve_forever(poll_interval=0.2)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
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
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread: nobody else gives the place back
            self._slots.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("request of %s", client_address[0], exc_info=True)

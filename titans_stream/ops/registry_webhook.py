"""Takes notifications of MLflow's registry, and has the worker look there at once.

MLflow signs each with the webhook's secret: `X-MLflow-Signature` is `v1,` and the base64 of the
HMAC-SHA256 of `<delivery id>.<timestamp>.<body>` (mlflow/webhooks/delivery.py). What a notification
says is not read: whoever sends one can wake the look at the registry, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import time
from collections.abc import Callable
from email.message import Message
from typing import Self

from titans_stream.ops.listening import Handler, Listener

log = logging.getLogger(__name__)

PATH = "/mlflow"
_MOST_BYTES = 2**16
_MOST_AGE = 300.0
"""Seconds; an older notification may have been recorded and sent again."""
_PATIENCE = 5.0
"""Seconds that a client may take over its request."""


def signed(secret: str, headers: Message[str, str], body: bytes, now: float) -> bool:
    """Whether a notification is of one who knows the secret, and is not old."""
    told = headers.get("X-MLflow-Timestamp", "")
    if not told.isdecimal() or len(told) > 12 or abs(now - int(told)) > _MOST_AGE:
        return False
    content = f"{headers.get('X-MLflow-Delivery-Id', '')}.{told}.".encode() + body
    digest = hmac.new(secret.encode(), content, hashlib.sha256).digest()
    expected = b"v1," + base64.b64encode(digest)
    return hmac.compare_digest(expected, headers.get("X-MLflow-Signature", "").encode())


class RegistryWebhook(Listener):
    """Listens until the block ends; `wake` is called for each notification that is signed.

    `port` 0 takes any that is free. ValueError where the address cannot be used.
    """

    def __init__(self, host: str, port: int, secret: str, wake: Callable[[], None]) -> None:
        try:
            super().__init__(host, port, _handler(secret, wake))
        except OSError as error:
            raise ValueError(
                f"swap.webhook: {host} port {port}: cannot listen: {error.strerror or error}"
            ) from error
        self._host = host

    @property
    def address(self) -> str:
        """Where notifications are to be sent."""
        return f"http://{f'[{self._host}]' if ':' in self._host else self._host}:{self.port}{PATH}"

    def __enter__(self) -> Self:
        super().__enter__()
        log.info("notifications of the registry are taken at %s", self.address)
        return self


def _handler(secret: str, wake: Callable[[], None]) -> type[Handler]:
    class Taking(Handler):
        timeout = _PATIENCE

        def do_POST(self) -> None:  # noqa: N802
            length = self.headers.get("Content-Length", "")
            if self.path != PATH:
                self.send_error(404)
            elif not length.isdecimal():
                self.send_error(411)
            elif len(length) > 9 or int(length) > _MOST_BYTES:
                self.send_error(413)
            elif not signed(secret, self.headers, self.rfile.read(int(length)), time.time()):
                log.warning(
                    "webhook: a notification of %s is refused: its signature or time is wrong",
                    self.client_address[0],
                )
                self.send_error(401)
            else:
                wake()
                self.send_response(204)
                self.end_headers()

    return Taking

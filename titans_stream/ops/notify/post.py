"""Posts JSON over HTTP, and says of a failure whether another attempt can help.

Redirects are not followed: a body, its signature and an Authorization header are for the one
address that was configured.
"""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

_MOST_ANSWER = 2_000
"""Bytes of an answer that are read."""
_HOPELESS = frozenset({400, 413, 414, 415, 422, 431})
"""The receiver has understood who asks, and does not take this message."""
_LONGEST_PAUSE = 300.0


class DeliveryError(Exception):
    """A message that was not taken.

    `hopeless`: it never will be. `pause`: seconds that the receiver wants to be left alone, or 0.
    `done`: of the messages that were to be delivered, those up to and with the one that failed.
    """

    def __init__(self, what: str, hopeless: bool = False, pause: float = 0.0) -> None:
        super().__init__(what)
        self.hopeless = hopeless
        self.pause = pause
        self.done = 1


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any) -> None:
        return None


class Poster:
    """Posts to one receiver. `timeout` in seconds; `cafile`: PEM of trusted authorities."""

    def __init__(self, timeout: float, cafile: str | None = None) -> None:
        self._timeout = timeout
        context = ssl.create_default_context(cafile=cafile)
        https = urllib.request.HTTPSHandler(context=context)
        # no ProxyHandler of its own: the environment's proxies count, as for other tools
        self._opener = urllib.request.build_opener(https, _NoRedirects())

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Post a JSON body; DeliveryError where the answer is not 2xx. It never names the URL."""
        request = urllib.request.Request(url, body, {**headers}, method="POST")  # noqa: S310
        request.add_header("Content-Type", "application/json")
        request.add_header("User-Agent", "titans-stream")
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                answer.read(_MOST_ANSWER)
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(_MOST_ANSWER).decode(errors="replace").strip()[:200]
            what = f"HTTP {error.code} {error.reason}: {said}".rstrip(": ")
            wait = _retry_after(error.headers.get("Retry-After"))
            raise DeliveryError(what, error.code in _HOPELESS, wait) from error
        except urllib.error.URLError as error:
            raise DeliveryError(str(error.reason)) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise DeliveryError(f"{type(error).__name__}: {error}") from error


def _retry_after(header: str | None) -> float:
    """Seconds of a Retry-After header, which are a number or a date."""
    if not header:
        return 0.0
    try:
        seconds = float(header) if header.strip().isdecimal() else _until(header)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return min(max(0.0, seconds), _LONGEST_PAUSE)


def _until(date: str) -> float:
    return parsedate_to_datetime(date).timestamp() - time()

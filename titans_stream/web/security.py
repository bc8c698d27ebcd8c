"""Who may ask, and what a browser may do with the answer.

- Host: only names that this server goes by, so that no other site's name can be pointed at it.
- Who: everybody on this machine (loopback, no token), who has the token, or whom a reverse proxy
  names in a header.
- Writing: only JSON, only from pages of this very server.
- What comes back: a content security policy under which nothing but the page's own files runs, and
  no text becomes HTML (trusted types).
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "titans_stream_page"
MOST_BODY = 8_000_000
"""Bytes of a request."""
SHORTEST_TOKEN = 16
PAGES = ("/", "/series", "/series/view", "/alert", "/health")
"""Addresses that the page itself understands."""
OPEN_PATHS = ("/login", "/healthz", "/static/")
"""What is needed to log in."""

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Access:
    """Who may ask. ValueError where that would be everybody beyond this machine.

    `host` is the address that is listened on; `hosts` are further names of this server.
    `user_header` names a header in which a proxy at one of `proxies` tells the user.
    """

    host: str = "127.0.0.1"
    hosts: tuple[str, ...] = ()
    token: str | None = None
    user_header: str | None = None
    proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    salt: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    """Sessions end with the process."""

    def __post_init__(self) -> None:
        if self.token is not None and len(self.token) < SHORTEST_TOKEN:
            raise ValueError(f"token: {SHORTEST_TOKEN} characters at least are needed")
        if not is_loopback(self.host) and self.token is None and self.user_header is None:
            raise ValueError(
                f"--host {self.host}: others can reach this address, so --token-file or "
                "--user-header is needed"
            )

    @property
    def session(self) -> str:
        """What the cookie of a logged-in browser holds."""
        return hmac.new(self.salt, (self.token or "").encode(), hashlib.sha256).hexdigest()

    def is_token(self, given: str) -> bool:
        """Whether it is the token."""
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())

    def knows_host(self, name: str) -> bool:
        """Whether a Host header's name is one of this server's."""
        name = name.lower()
        if name in self.hosts or name == self.host.lower():
            return True
        return is_loopback(self.host) and name in _LOOPBACK

    def user(self, headers: Headers, client: str) -> str | None:
        """Who asks; None: nobody who may."""
        if self.user_header is not None and client in self.proxies:
            name = headers.get(self.user_header, "")
            if name:
                return name
        if self.token is not None:
            scheme, _, given = headers.get("authorization", "").partition(" ")
            if scheme.lower() == "bearer" and self.is_token(given.strip()):
                return "token"
            if hmac.compare_digest(_cookie(headers).encode(), self.session.encode()):
                return "page"
            return None
        return "page" if self.user_header is None else None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """Refuses what `Access` does not allow, and puts the headers on every answer."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, _with_headers(send))
            return
        await self._app(scope, _bounded(receive), _with_headers(send))

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        host = _host_name(headers.get("host", ""))
        if not self._access.knows_host(host):
            return _error(421, f"this server does not go by the name {host!r} (--allow-host)")
        if scope["method"] not in ("GET", "HEAD"):
            origin = headers.get("origin")
            if origin is not None and _netloc(origin) != headers.get("host"):
                return _error(403, "a request of another site")
            if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
                return _error(403, "a request of another site")
            if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
                return _error(415, "content-type: application/json is needed")
            length = headers.get("content-length", "0")
            if not length.isdecimal() or int(length) > MOST_BODY:
                return _error(413, f"more than {MOST_BODY:,} bytes")
        client = scope.get("client")
        user = self._access.user(headers, client[0] if client else "")
        if user is None:
            path = scope["path"]
            if not any(path == p or (p.endswith("/") and path.startswith(p)) for p in OPEN_PATHS):
                if path in PAGES and self._shows(scope, headers):
                    query = scope["query_string"].decode("latin-1")
                    back = quote(f"{path}?{query}" if query else path, safe="")
                    return RedirectResponse(f"/login?back={back}", 303)
                return _error(401, "log in, or send the token as Authorization: Bearer")
        scope.setdefault("state", {})["user"] = user or ""
        return None

    def _shows(self, scope: Scope, headers: Headers) -> bool:
        """Whether it is a browser that opens a page, which a person can log in to."""
        asked = scope["method"] == "GET" and "text/html" in headers.get("accept", "")
        return asked and self._access.token is not None


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _cookie(headers: Headers) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value


def _error(code: int, text: str) -> JSONResponse:
    return JSONResponse({"error": text}, code)


def _bounded(receive: Receive) -> Receive:
    """Cut a body of unknown length that grows too long."""
    taken = 0

    async def limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        return {"type": "http.disconnect"} if taken > MOST_BODY else message

    return limited


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, text in HEADERS.items():
                headers.setdefault(name, text)
            headers.setdefault("cache-control", "no-store")
        await send(message)

    return sending

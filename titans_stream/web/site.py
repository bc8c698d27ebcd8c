"""The page's files, and the way in."""

from __future__ import annotations

import hashlib
import mimetypes
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from titans_stream.web.security import COOKIE, PAGES, Access

_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html"}


class Login(BaseModel):
    """A token."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    token: str = Field(max_length=1000)


def build_site(access: Access) -> APIRouter:
    """Routes of the page: its shell at each of `PAGES`, its files, logging in and out."""
    router = APIRouter(include_in_schema=False)
    content = _contents()
    tags = {name: f'"{hashlib.sha256(body).hexdigest()[:20]}"' for name, body in content.items()}

    def file(name: str, request: Request) -> Response:
        if name not in content:
            return Response(status_code=404)
        headers = {"etag": tags[name], "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == tags[name]:
            return Response(status_code=304, headers=headers)
        suffix = name[name.rfind(".") :]
        kind = _TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Response(content[name], headers=headers, media_type=kind)

    @router.get("/static/{name:path}")
    async def static(name: str, request: Request) -> Response:
        return file(name, request)

    async def shell(request: Request) -> Response:
        return file("index.html", request)

    for path in PAGES:
        router.add_api_route(path, shell, methods=["GET"])

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/login")
    async def login_page(request: Request) -> Response:
        if access.token is None:
            return RedirectResponse("/", 303)
        return file("login.html", request)

    @router.post("/login")
    async def login(given: Login, request: Request) -> Response:
        if not access.is_token(given.token):
            return Response(
                '{"error": "that is not the token"}', 403, media_type="application/json"
            )
        answer = Response("{}", media_type="application/json")
        answer.set_cookie(
            COOKIE, access.session, httponly=True, samesite="strict", path="/",
            secure=request.url.scheme == "https", max_age=7 * 86_400,
        )  # fmt: skip
        return answer

    @router.post("/logout")
    async def logout() -> Response:
        answer = Response("{}", media_type="application/json")
        answer.delete_cookie(COOKIE, path="/")
        return answer

    return router


def _contents() -> dict[str, bytes]:
    """All files of the page by their name, in memory: no path of a request reaches the disk."""
    found: dict[str, bytes] = {}

    def walk(folder: Any, prefix: str) -> None:
        for one in folder.iterdir():
            if one.is_dir():
                walk(one, f"{prefix}{one.name}/")
            else:
                found[prefix + one.name] = one.read_bytes()

    walk(files("titans_stream") / "assets" / "web", "")
    return found

"""The API over HTTP; `/openapi.json` describes it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

import titans_stream
from titans_stream.printable import redacted
from titans_stream.stream.kafka.errors import ConnectError, FatalError
from titans_stream.web import models
from titans_stream.web.catalogue import STATES, Sort
from titans_stream.web.control import NoControlTopicError
from titans_stream.web.events import Events, TooManyError
from titans_stream.web.service import Service
from titans_stream.web.views import MOST_SHOWN, NotFoundError

Offset = Annotated[int, Query(ge=0, le=10_000_000, description="first one of the page, from 0")]
Limit = Annotated[int, Query(ge=1, le=500, description="most of them")]
Text = Annotated[str, Query(max_length=models.MOST_ID, description="words that the id holds")]
SeriesId = Annotated[
    str, Query(min_length=1, max_length=models.MOST_ID, description="id of a series or group")
]
Seconds = Annotated[float | None, Query(ge=0, le=9e9, description="time, seconds since 1970")]
State = Literal["normal", "learning", "silent", "warning", "critical"]
assert State.__args__ == STATES  # type: ignore[attr-defined]

_REFUSED: dict[int | str, dict[str, Any]] = {
    code: {"model": models.Problem, "description": text}
    for code, text in (
        (401, "nobody who may"),
        (404, "nothing of this name"),
        (422, "not as described here"),
        (503, "what it takes does not answer now"),
    )
}


class Answer(Response):
    """JSON; NaN is null."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The bytes."""
        return orjson.dumps(content)


def build_api(service: Service, events: Events) -> FastAPI:
    """The application with all routes of the API."""
    app = FastAPI(
        title="titans-stream",
        version=titans_stream.__version__,
        summary="Alerts, series and forecasts of one connector",
        description=models.__doc__ or "",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    app.include_router(_reading(service), prefix="/v1")
    app.include_router(_working(service, events), prefix="/v1")
    _add_errors(app)
    return app


def _answers(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": model}, **_REFUSED}


def _reading(service: Service) -> APIRouter:
    router, views = APIRouter(), service.views

    @router.get("/status", responses=_answers(models.Status), tags=["service"])
    def status() -> Answer:
        """What is served, and how far it has been read."""
        return Answer(views.status())

    @router.get("/health", responses=_answers(models.Health), tags=["service"])
    def health() -> Answer:
        """The worker's lag and snapshots, and alerts beside the budget."""
        return Answer(service.health())

    @router.get("/incidents", responses=_answers(models.Inbox), tags=["alerts"])
    def incidents(
        show: Literal["open", "resolved", "all"] = "all",
        q: Text = "",
        severity: Literal["", "warning", "critical"] = "",
        offset: Offset = 0,
        limit: Limit = 50,
    ) -> Answer:
        """Alerts by asset and time: open ones first, by how far they are over the budget."""
        return Answer(views.inbox(show, q, severity, offset, limit))

    @router.get("/alerts/{alert_id}", responses=_answers(models.Explanation), tags=["alerts"])
    def explain(alert_id: str) -> Answer:
        """Explain one alert."""
        return Answer(views.explain(alert_id))

    @router.get("/series", responses=_answers(models.SeriesPage), tags=["series"])
    def series(
        q: Text = "",
        state: Annotated[list[State], Query(max_length=len(STATES))] = [],  # noqa: B006
        sort: Sort = "state",
        order: Literal["asc", "desc"] = "desc",
        offset: Offset = 0,
        limit: Limit = 50,
    ) -> Answer:
        """The table of series."""
        return Answer(views.series(q, state, sort, order == "desc", offset, limit))

    @router.get("/readings", responses=_answers(models.Readings), tags=["series"])
    def readings(
        series: SeriesId, most: Annotated[int, Query(ge=30, le=100_000)] = MOST_SHOWN
    ) -> Answer:
        """The kept readings of one series, its forecast and episodes."""
        return Answer(views.readings(series, most))

    return router


def _working(service: Service, events: Events) -> APIRouter:
    router = APIRouter()

    @router.get("/channels", responses=_answers(models.SurpriseChannels), tags=["engine"])
    def channels(
        series: SeriesId,
        begin: Seconds = None,
        end: Seconds = None,
        most: Annotated[int, Query(ge=30, le=10_000)] = 400,
    ) -> Answer:
        """What a series' surprise is made of: the detector's channels over the kept history."""
        return Answer(service.trials.channels(series, begin, end, most))

    @router.post("/what-if", responses=_answers(models.WhatIf), tags=["engine"])
    def what_if(request: models.WhatIfRequest) -> Answer:
        """Alerts of the kept history under the present rules and changed ones."""
        return Answer(service.trials.what_if(request))

    @router.post("/score", responses=_answers(models.ScoreAnswer), tags=["engine"])
    def score(request: models.ScoreRequest) -> Answer:
        """Score readings with the connector's settings, from empty memories; nothing is kept."""
        return Answer(service.trials.score(request))

    @router.post(
        "/alerts/{alert_id}/verdict",
        responses={
            **_answers(models.VerdictAnswer),
            409: {"model": models.Problem, "description": "the connector has no control topic"},
        },
        tags=["alerts"],
    )
    def verdict(alert_id: str, body: models.VerdictRequest, request: Request) -> Answer:
        """Say what an alert was: a control message to the worker."""
        return Answer(service.say(alert_id, body, request.state.user))

    @router.get(
        "/events",
        responses={200: {"content": {"text/event-stream": {}}}, **_REFUSED},
        tags=["service"],
    )
    async def stream(request: Request) -> Response:
        """Server-sent events: `status`, with `versions` that rise when something changes."""
        return StreamingResponse(events.stream(request), media_type="text/event-stream")

    return router


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(NotFoundError)
    async def not_found(_: Request, error: NotFoundError) -> Response:
        return Answer({"error": str(error.args[0])}, 404)

    @app.exception_handler(NoControlTopicError)
    async def no_control(_: Request, error: NoControlTopicError) -> Response:
        return Answer({"error": str(error)}, 409)

    @app.exception_handler(TooManyError)
    async def too_many(_: Request, error: TooManyError) -> Response:
        return Answer({"error": str(error)}, 503)

    @app.exception_handler(ValueError)
    async def wrong(_: Request, error: ValueError) -> Response:
        return Answer({"error": str(error)}, 422)

    @app.exception_handler(OSError)
    @app.exception_handler(ConnectError)
    @app.exception_handler(FatalError)
    async def away(_: Request, error: Exception) -> Response:
        """The registry of the model, or Kafka."""
        return Answer({"error": redacted(str(error))}, 503)

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> Response:
        return Answer({"error": str(error.detail)}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, __: Exception) -> Response:
        """What the server then logs, with its traceback."""
        return Answer({"error": "an error of the page's program: its log tells more"}, 500)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        told = [
            f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors()[:5]
        ]
        return Answer({"error": "; ".join(told)}, 422)

"""What is served at the service's port, apart from how connections are bounded (`server`)."""

from __future__ import annotations

import re
import uuid
from datetime import datetime
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException

from jobyard import __version__
from jobyard.port import App, Message, Receive, Send, TooLong
from jobyard.service.served import Served
from jobyard.service.service import Service
from jobyard.supervise import Stage

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
PROBLEM = "application/problem+json"
NOT_READY = {"Retry-After": "5"}


class Held:
    """The service that is at work just now: a reload may put another in its place."""

    def __init__(self, service: Service | None = None) -> None:
        self.service = service


class Named:
    """An application whose every answer bears the id of its request: the caller's, where that is one."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"x-request-id"), "")
        id_ = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["id"] = id_

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-Id"] = id_
            await send(message)

        await self._app(scope, receive, named)


def make_app(held: Held, registry: CollectorRegistry) -> FastAPI:
    """The application."""
    app = FastAPI(title="Jobyard", version=__version__, docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.add_middleware(Named)

    @app.exception_handler(HTTPException)
    async def explain(request: Request, error: HTTPException) -> Response:
        return problem(request, error.status_code, str(error.detail), error.headers)

    @app.exception_handler(TooLong)
    async def refuse(request: Request, error: TooLong) -> Response:
        return problem(request, 413, str(error))

    @app.exception_handler(Exception)
    async def own_up(request: Request, error: Exception) -> Response:
        return problem(request, 500, "Internal Server Error", {"X-Request-Id": request.state.id})

    @app.get("/healthz")
    async def healthz() -> Response:
        # The event loop turns, or nobody would answer.
        return PlainTextResponse("ok\n")

    @app.api_route("/health", methods=["GET", "HEAD"])
    async def health() -> Response:
        return PlainTextResponse("OK!")

    @app.get("/readyz")
    async def readyz() -> Response:
        told = ready(held.service)
        return JSONResponse(told, status_code=200 if told["ready"] else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return app


def problem(request: Request, status: int, detail: str, headers: Any = None) -> Response:
    """An error as RFC 9457 has it."""
    body = {"type": "about:blank", "status": status, "detail": detail, "instance": str(request.url.path), "request": request.state.id}
    return JSONResponse(body, status_code=status, headers=headers, media_type=PROBLEM)


def ready(service: Service | None) -> dict[str, Any]:
    """Each connection and trigger by name, with its state in words. Ready means that it can serve, not that every source is up."""
    if service is None:
        return {"ready": False, "state": "starting"}
    away = service.engine.out_of_sight() if service.engine else {service.namespace: "not seen yet"}
    home = away.get(service.namespace, "")
    told: dict[str, Any] = {
        "ready": not home,
        "state": "leads" if service.leads else "stands by",
        "service": service.settings.name,
        "process": service.me,
        "namespaces": {name: away.get(name, "in sight") for name in (service.namespace, *service.settings.namespaces)},
        "triggers": {name: standing(served) for name, served in service.served.items()},
    }
    if service.election.trouble:
        told["lease"] = service.election.trouble
    elif (lease := service.election.leadership) is not None:
        told["lease"] = lease.trouble or f"held by {lease.holder or 'nobody'}"
    if service.trouble:
        told["trouble"] = dict(service.trouble)
    if service.mistakes:
        told["settings"] = service.mistakes
    return told


def standing(served: Served) -> dict[str, Any]:
    """How a trigger stands, for whoever asks."""
    health = served.report.health
    told: dict[str, Any] = {"state": str(health.stage), "since": _time(health.since)}
    if health.stage is Stage.PAUSED and served.paused_by:
        told["why"] = f"paused by {served.paused_by}"
    elif health.error and health.stage is not Stage.RUNNING:
        told["why"] = health.error
    if health.failures:
        told["failures"] = health.failures
    if health.until is not None:
        told["until"] = _time(health.until)
    return told


def _time(at: datetime) -> str:
    return at.isoformat(timespec="seconds")

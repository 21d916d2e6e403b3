"""Webhooks: /webhooks/TRIGGER/FORGE, and /webhooks/FORGE while one trigger takes any."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from jobyard.model.errors import JobyardError
from jobyard.service.served import Served
from jobyard.triggers.git import webhooks

READ = 64 * 1024
"""Bytes of a delivery that is read."""


class Listener(Protocol):
    """Whom webhooks are told to: a Service."""

    @property
    def served(self) -> Mapping[str, Served]: ...

    async def hear(self, trigger: str, commit: str) -> None:
        """A trigger's source has news; the commit where it is known. Raises what the cluster answers whoever can't hand it on."""
        ...


def add_webhooks(app: FastAPI, listener: Callable[[], Listener | None]) -> None:
    """Has the application take what forges tell. `listener`: who is told just now; None while there is nobody."""

    def there() -> Listener:
        found = listener()
        if found is None:
            raise HTTPException(503, "the service is starting; try again", {"Retry-After": "5"})
        return found

    @app.post("/webhooks/{trigger}/{forge}")
    @app.post("/webhooks/{trigger}/{forge}/")
    async def named(trigger: str, forge: str, request: Request) -> Response:
        found = there()
        served = found.served.get(trigger)
        if served is None:
            raise HTTPException(404, f"no trigger {trigger}; there are: {', '.join(found.served) or 'none'}")
        return await _take(found, served, forge, request)

    @app.post("/webhooks/{forge}")
    @app.post("/webhooks/{forge}/")
    async def only(forge: str, request: Request) -> Response:
        try:
            found = there()
            if len(found.served) != 1:
                raise HTTPException(404, f"say which trigger: /webhooks/TRIGGER/{forge}, one of: {', '.join(found.served) or 'none'}")
            return await _take(found, next(iter(found.served.values())), forge, request)
        except HTTPException as error:  # goji and `git watch` have always answered in a sentence here
            return PlainTextResponse(error.detail, error.status_code, error.headers)


async def _take(listener: Listener, served: Served, forge: str, request: Request) -> Response:
    try:
        delivery = await _hear(forge, request, served.settings.webhook_secret)
    except webhooks.Refused as refused:
        raise HTTPException(refused.status, refused.message) from None
    except ClientDisconnect:  # nobody is there to be answered
        raise HTTPException(400, "Bad Request") from None
    branch = served.source.branch()
    told = {"": ""} if delivery is None else delivery.branches
    commits = [commit for name, commit in told.items() if delivery is None or not branch or name == branch]
    for commit in commits:
        try:
            await listener.hear(served.settings.name, commit)
        except JobyardError as error:  # a standby can't hand it on just now: the forge comes again
            raise HTTPException(503, str(error), {"Retry-After": "10"}) from None
    return PlainTextResponse("OK")


async def _hear(forge: str, request: Request, secret: str) -> webhooks.Delivery | None:
    """A delivery whose proof holds, which is known once its last byte is here; None where it is too long to be read: somebody who knows the
    secret says that something was pushed. Raises Refused."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    proof = webhooks.proof(forge, headers, secret)
    body, is_whole = bytearray(), True
    async for piece in request.stream():
        proof.update(piece)
        is_whole = is_whole and len(body) + len(piece) <= READ
        if is_whole:
            body += piece
        else:
            body.clear()
    if not proof.holds():
        raise webhooks.Refused(status=400, message="Invalid webhook signature")
    return webhooks.understand(forge, headers, bytes(body)) if is_whole else None

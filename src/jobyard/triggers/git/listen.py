"""The small HTTP server that forges tell of pushes. An ASGI application, so that a service can mount it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn

from jobyard.triggers.git import webhooks
from jobyard.triggers.git.trigger import GitTrigger

Message = MutableMapping[str, Any]
_REMEMBERED = 1000
"""How many pushes are remembered, so that one that is told of twice is looked at once."""


class Webhooks:
    """`GET /health`, `POST /webhooks/FORGE`."""

    def __init__(self, trigger: GitTrigger, secret: str) -> None:
        self._trigger = trigger
        self._secret = secret
        self._seen: dict[str, None] = {}

    async def __call__(self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]) -> None:
        if scope["type"] != "http":
            return
        status, text = await self._answer(scope, receive)
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(text.encode())).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": text.encode()})

    async def _answer(self, scope: Message, receive: Callable[[], Awaitable[Message]]) -> tuple[int, str]:
        path, method = str(scope["path"]), str(scope["method"])
        if path == "/health":
            return (200, "OK!") if method in ("GET", "HEAD") else (405, "Method Not Allowed")
        if not path.startswith("/webhooks/"):
            return 404, "Not Found"
        if method != "POST":
            return 405, "Method Not Allowed"
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return 400, "Bad Request"
            body += message.get("body", b"")
            if len(body) > webhooks.BODY_LIMIT:
                return 413, "Payload Too Large"
            if not message.get("more_body"):
                break
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            delivery = webhooks.read(path.removeprefix("/webhooks/").rstrip("/"), headers, body, self._secret)
        except webhooks.Refused as refused:
            return refused.status, refused.message
        self._look(delivery)
        return 200, "OK"

    def _look(self, delivery: webhooks.Delivery) -> None:
        branch = self._trigger.repository.source.branch
        if branch not in delivery.branches:
            return
        commit = delivery.branches[branch]
        if commit and (commit in self._seen or commit == self._trigger.pushed):
            return  # told twice, or our own
        self._seen[commit] = None
        while len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        self._trigger.wanted.set()


class _Server(uvicorn.Server):
    """uvicorn, which leaves signals to whoever runs it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def listening(app: Webhooks, host: str, port: int) -> AsyncIterator[int]:
    """Serves the application; yields the port. Raises OSError when it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=2)
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield int(listener.getsockname()[1])
    finally:
        server.should_exit = True
        await asyncio.gather(serving, return_exceptions=True)
        listener.close()

"""The HTTP server itself: an application on a port, with bounds on what comes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn

from jobyard.model.errors import WrongInput

TAKEN_FOR = 30.0
"""Seconds for which a port may be taken by whoever had it before."""
TRY_EVERY = 0.5


class PortTaken(WrongInput):
    """The address to listen at can't be had."""

    sentence = "can't listen at {host}:{port} ({why}); name another place in the settings (`listen`)"
    host: str
    port: int
    why: str


class _Server(uvicorn.Server):
    """uvicorn, which leaves signals to whoever runs it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


async def _take(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    until = loop.time() + TAKEN_FOR
    while True:
        try:
            return _bind(host, port)
        except OSError as error:
            if loop.time() >= until:
                raise PortTaken(host=host, port=port, why=error.strerror or str(error)) from None
        await asyncio.sleep(TRY_EVERY)


@asynccontextmanager
async def listening(app: Any, host: str, port: int) -> AsyncIterator[int]:
    """Serves an ASGI application; yields the port. Raises PortTaken where it stays taken."""
    listener = await _take(host, port)
    config = uvicorn.Config(
        app, lifespan="off", log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=2, server_header=False
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield int(listener.getsockname()[1])
    finally:
        server.should_exit = True
        await asyncio.gather(serving, return_exceptions=True)
        listener.close()

"""The service's port: an application within bounds, and patience with whoever had the port before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from jobyard import port as ports
from jobyard.model.errors import WrongInput
from jobyard.port import MIB, App, Contained

TAKEN_FOR = 30.0
"""Seconds for which a port may be taken by whoever had it before."""
TRY_EVERY = 0.5
BODY_LIMIT = MIB
"""Bytes of a request's body: forges send at most 25 MB, and what is longer than this is not needed."""


class PortTaken(WrongInput):
    """The address to listen at can't be had."""

    sentence = "can't listen at {host}:{port} ({why}); {remedy}"
    host: str
    port: int
    why: str
    remedy: str = "name another place in the settings (`listen`)"


@asynccontextmanager
async def listening(
    app: App, host: str, port: int, *, body_limit: int = BODY_LIMIT, taken_for: float = TAKEN_FOR, remedy: str = PortTaken.remedy
) -> AsyncIterator[int]:
    """Serves an application; yields the port. `body_limit`: bytes; `taken_for`: seconds. Raises PortTaken, with the remedy, where it stays
    taken."""
    loop = asyncio.get_running_loop()
    until = loop.time() + taken_for
    async with AsyncExitStack() as stack:
        while True:
            try:
                got = await stack.enter_async_context(ports.listening(Contained(app, body_limit), host, port))
                break
            except OSError as error:
                if loop.time() >= until:
                    raise PortTaken(host=host, port=port, why=error.strerror or str(error), remedy=remedy) from None
            await asyncio.sleep(TRY_EVERY)
        yield got

"""A wire before a broker, that is cut: after so many bytes, by a seed; or goes silent."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_PIECE = 4096


class Wire:
    """What passes a port. Made by `open_wire`."""

    def __init__(self, target: int, seed: int) -> None:
        self._target = target
        self._chosen = random.Random(seed)
        self.port = 0
        self.budget: tuple[int, int] | None = None
        """Each connection is cut after a number of bytes between these two, in both directions together; None: never."""
        self.cuts = 0
        self.silent = False

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        left = [self._chosen.randint(*self.budget) if self.budget else 10**12]
        async with asyncio.TaskGroup() as tasks:
            ways = [tasks.create_task(self._one_way(reader, far_writer, left)), tasks.create_task(self._one_way(far_reader, writer, left))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
        for each in (writer, far_writer):
            each.transport.abort()

    async def _one_way(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: list[int]) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_PIECE):
                if self.silent:
                    continue
                writer.write(data[: left[0]])
                await writer.drain()
                left[0] -= len(data)
                if left[0] <= 0:
                    self.cuts += 1
                    return


@asynccontextmanager
async def open_wire(target: int, seed: int = 0) -> AsyncIterator[Wire]:
    wire = Wire(target, seed)
    server = await asyncio.start_server(wire.carry, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        server.close()

"""Many at once: calls are made a few at a time, awaited as long as something comes of it, and what goes wrong with one is told once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from typing import Any

AT_ONCE = 16
QUIET = timedelta(seconds=3)
"""How long nothing more must have become known before a single pass takes what is still going on for running, or for waiting."""


async def settle(tasks: Iterable[asyncio.Task[Any]], quiet: timedelta) -> None:
    """Waits until all are done, or none has become so for a while."""
    pending = {task for task in tasks if not task.done()}
    while pending:
        done, pending = await asyncio.wait(pending, timeout=quiet.total_seconds(), return_when=asyncio.FIRST_COMPLETED)
        if not done:
            return


async def at_once(calls: Iterable[Awaitable[None]]) -> None:
    """Makes calls, AT_ONCE at a time."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(call: Awaitable[None]) -> None:
        async with room:
            await call

    async with asyncio.TaskGroup() as group:
        for call in calls:
            group.create_task(one(call))


class Telling:
    """Tells what goes wrong with one file or run while the others go on: once, and again when it is something else."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._told: dict[str, str] = {}

    def tell(self, about: str, line: str) -> None:
        """Something is wrong with this one."""
        if self._told.get(about) != line:
            self._told[about] = line
            self._tell("".join(each if each.isprintable() else " " for each in line))

    def forget(self, about: str) -> None:
        """It is mended, or gone."""
        self._told.pop(about, None)

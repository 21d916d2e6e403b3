"""A queue's runs that were begun and not released: each is waited for, counts while it is unfinished, and is then let go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from jobyard.contracts import Engine
from jobyard.model.errors import JobyardError
from jobyard.model.run import Run

log = logging.getLogger("jobyard.amqp")

ASK_AGAIN = 10.0
"""Seconds until a run is asked about again that could not be told of, or released."""


class Following:
    """The runs of one queue. Its length is the number that is unfinished."""

    def __init__(self, engine: Engine, tasks: asyncio.TaskGroup, opened: asyncio.Event, news: Callable[[], None]) -> None:
        """`opened`: is set once the queue has been consumed: a message whose acknowledgement was lost must still find its run. `news`: is
        called when a run has ended."""
        self._engine = engine
        self._tasks = tasks
        self._opened = opened
        self._news = news
        self._followed: set[str] = set()
        self._unfinished: set[str] = set()

    def __len__(self) -> int:
        return len(self._unfinished)

    def has(self, run: Run) -> bool:
        """Whether the run counts already."""
        return run.uid in self._unfinished

    def follow(self, run: Run) -> None:
        """Sees to a run until it is released. Safe to repeat."""
        if run.uid in self._followed or run.released:
            return
        self._followed.add(run.uid)
        if not run.state.is_end:
            self._unfinished.add(run.uid)
        self._tasks.create_task(self._see_off(run), name=f"follows {run.name}")

    async def _see_off(self, run: Run) -> None:
        await self._until(self._has_ended, run)
        self._unfinished.discard(run.uid)
        self._news()
        await self._opened.wait()
        await self._until(self._is_released, run)
        self._followed.discard(run.uid)

    async def _until(self, holds: Callable[[Run], Awaitable[bool]], run: Run) -> None:
        while True:
            if await holds(run):
                return
            await asyncio.sleep(ASK_AGAIN)

    async def _has_ended(self, run: Run) -> bool:
        """Waits for the end. What can't be told (somebody damaged the record) counts as long as the cluster shows it unfinished."""
        try:
            await self._engine.outcome(run)
        except JobyardError as error:
            log.debug("the end of run %s can't be told", run.name, exc_info=error)
            there = await self._engine.runs(run.trigger, run.namespace)
            return not any(each.uid == run.uid and not each.state.is_end for each in there)
        return True

    async def _is_released(self, run: Run) -> bool:
        try:
            await self._engine.release(run)
        except JobyardError as error:
            log.debug("run %s can't be released yet", run.name, exc_info=error)
            return False
        return True

"""A controller's work queue: each key once, however often it is added, now or at a time to come."""

from __future__ import annotations

import asyncio
import heapq
from datetime import datetime
from typing import Generic, TypeVar

from jobyard.local import times

K = TypeVar("K", bound="tuple[str, ...]")


class WorkQueue(Generic[K]):
    def __init__(self) -> None:
        self._due: dict[K, None] = {}
        self._later: list[tuple[datetime, K]] = []
        self._news = asyncio.Event()

    def add(self, key: K) -> None:
        self._due[key] = None
        self._news.set()

    def add_at(self, key: K, then: datetime) -> None:
        heapq.heappush(self._later, (then, key))
        self._news.set()

    async def take(self) -> K:
        """The next key; waits until there is one."""
        while True:
            now = times.now()
            while self._later and self._later[0][0] <= now:
                self._due[heapq.heappop(self._later)[1]] = None
            if self._due:
                key = next(iter(self._due))
                del self._due[key]
                return key
            self._news.clear()
            wait = (self._later[0][0] - now).total_seconds() if self._later else None
            try:
                async with asyncio.timeout(wait):
                    await self._news.wait()
            except TimeoutError:
                continue

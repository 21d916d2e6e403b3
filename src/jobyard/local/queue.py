"""A controller's work queue: each key once, however often it is added, now or at a time to come; and not before its time, where it failed."""

from __future__ import annotations

import asyncio
import heapq
from datetime import datetime

from jobyard.local import times

Key = tuple[str, ...]
"""What tells an object from others: its name, its namespace, perhaps its kind."""

FIRST_BACK_OFF, LONGEST_BACK_OFF = 1.0, 300.0


class WorkQueue:
    def __init__(self) -> None:
        self._due: dict[Key, None] = {}
        self._later: list[tuple[datetime, Key]] = []
        self._when: dict[Key, datetime] = {}
        """The time of each key in `_later`; what is there with another time counts no more."""
        self._failures: dict[Key, tuple[int, datetime]] = {}
        """How often a key failed in a row, and before when it is not to be looked at again."""
        self._news = asyncio.Event()

    def add(self, key: Key) -> None:
        failed = self._failures.get(key)
        if failed is not None and failed[1] > times.now():
            self.add_at(key, failed[1])
            return
        self._due[key] = None
        self._news.set()

    def add_at(self, key: Key, then: datetime) -> None:
        known = self._when.get(key)
        if known is None or then < known:
            self._when[key] = then
            heapq.heappush(self._later, (then, key))
            self._news.set()

    def failed(self, key: Key) -> float:
        """Has the key looked at again after a while, not before; says after how many seconds. The while doubles each time."""
        count = self._failures.get(key, (0, times.now()))[0] + 1
        seconds: float = min(FIRST_BACK_OFF * 2 ** min(count - 1, 10), LONGEST_BACK_OFF)
        then = times.after(times.now(), seconds)
        self._failures[key] = (count, then)
        self._due.pop(key, None)
        self.add_at(key, then)
        return seconds

    def succeeded(self, key: Key) -> None:
        self._failures.pop(key, None)

    async def take(self) -> Key:
        """The next key; waits until there is one."""
        while True:
            now = times.now()
            while self._later and self._later[0][0] <= now:
                then, key = heapq.heappop(self._later)
                if self._when.get(key) == then:
                    del self._when[key]
                    self._due[key] = None
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

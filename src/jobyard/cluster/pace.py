"""How many calls are under way at once: fewer at once when the API server says 429 or takes long, and slowly more again.

Additive increase, multiplicative decrease: the rule that lets many clients share a server without a word between them. A 429 closes
the door for as long as it asks (Retry-After), and whoever waited comes back through a door that is narrow at first: no herd.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

WIDEST, NARROWEST = 32.0, 1.0
SLOW_FACTOR, SLOW_AT_LEAST = 8.0, 1.0
"""A call is slow when it takes so many times the usual, and at least so many seconds."""
ONE_CUT = 0.5
"""Seconds within which many signs of trouble are one: they are of the same moment."""


@dataclass(frozen=True, kw_only=True)
class Width:
    """How wide the door is. Pure: `after` says how it is next."""

    calls: float = WIDEST
    """How many calls may be under way."""
    usual: float = 0.0
    """Seconds that a call usually takes: a moving average of those that were not slow."""
    closed_until: float = 0.0
    last_cut: float = float("-inf")

    def after(self, *, seconds: float, refused: bool, retry_after: float | None, now: float) -> Width:
        """The door after a call that took `seconds`; `refused`: the answer was 429 (or 503 with Retry-After)."""
        slow = self.usual > 0 and seconds > max(SLOW_AT_LEAST, SLOW_FACTOR * self.usual)
        if refused or slow:
            closed = max(self.closed_until, now + (retry_after or 0.0)) if refused else self.closed_until
            if now - self.last_cut < ONE_CUT:
                return replace(self, closed_until=closed)
            return replace(self, calls=max(NARROWEST, self.calls / 2), closed_until=closed, last_cut=now)
        usual = seconds if not self.usual else 0.9 * self.usual + 0.1 * seconds
        return replace(self, calls=min(WIDEST, self.calls + 1 / self.calls), usual=usual)


class Pace:
    """The door itself: calls go through it one by one, in the order in which they came."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._under_way = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._opening: asyncio.TimerHandle | None = None
        self.width = Width()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Waits for a place, and keeps it as long as the context lasts."""
        if self._waiting or not self._is_open():
            place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(place)
            self._let_in()
            try:
                await place
            except asyncio.CancelledError:
                if place.done() and not place.cancelled():
                    self._leave()
                raise
        else:
            self._under_way += 1
        try:
            yield
        finally:
            self._leave()

    def note(self, seconds: float, *, refused: bool = False, retry_after: float | None = None) -> None:
        """Tells how a call went."""
        self.width = self.width.after(seconds=seconds, refused=refused, retry_after=retry_after, now=self._now())
        self._let_in()

    def _leave(self) -> None:
        self._under_way -= 1
        self._let_in()

    def _is_open(self) -> bool:
        return self._under_way < int(self.width.calls) and self._now() >= self.width.closed_until

    def _let_in(self) -> None:
        while self._waiting and (self._waiting[0].done() or self._is_open()):
            place = self._waiting.popleft()
            if not place.done():
                self._under_way += 1
                place.set_result(None)
        wait = self.width.closed_until - self._now()
        if self._waiting and wait > 0 and self._opening is None:
            self._opening = asyncio.get_running_loop().call_later(wait, self._open)

    def _open(self) -> None:
        self._opening = None
        self._let_in()

"""Who waits for a place in a limit: a line a scope. First come, first served; a place that comes free is offered to one, not to all."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Callable

PATIENCE = 10.0
"""Seconds after which the first of a line looks again though nobody told it of a place: one may have run out of time, unseen."""


class Lines:
    """The lines of one namespace. A turn is an offer to look: who has looked says so, and the next is offered what is left."""

    def __init__(self, free: Callable[[str], int]) -> None:
        """`free`: how many places of a scope are free, as far as is known."""
        self._free = free
        self._waiting: defaultdict[str, OrderedDict[str, asyncio.Event]] = defaultdict(OrderedDict)
        self._called: defaultdict[str, set[str]] = defaultdict(set)
        """Who was offered a place, and has not looked yet."""

    def __len__(self) -> int:
        """How many wait, in all lines."""
        return sum(map(len, self._waiting.values()))

    def has(self, scope: str) -> bool:
        """Whether somebody waits for a place of this scope."""
        return bool(self._waiting.get(scope))

    async def wait(self, scope: str, who: str) -> None:
        """Waits for a turn: returns when there may be a place. Whoever looked must say so by `looked`."""
        turn = self._waiting[scope].setdefault(who, asyncio.Event())
        self.settle(scope)
        try:
            while not turn.is_set():
                try:
                    async with asyncio.timeout(PATIENCE):
                        await turn.wait()
                except TimeoutError:
                    if next(iter(self._waiting[scope])) == who:
                        return
        except BaseException:
            self.leave(scope, who)
            raise

    def looked(self, scope: str, who: str, *, served: bool) -> None:
        """Who had a turn has looked. Unless `served`, it stays first in line."""
        self._called.get(scope, set()).discard(who)
        turn = self._waiting.get(scope, OrderedDict()).get(who)
        if served:
            self.leave(scope, who)
        elif turn is not None:
            turn.clear()

    def leave(self, scope: str, who: str) -> None:
        """Leaves the line, whatever for; a place that was offered is offered to the next."""
        self._waiting.get(scope, OrderedDict()).pop(who, None)
        self._called.get(scope, set()).discard(who)
        self.settle(scope)

    def settle(self, scope: str) -> None:
        """Offers the places that are free to as many as wait first."""
        line = self._waiting.get(scope)
        if not line:
            self._waiting.pop(scope, None)
            self._called.pop(scope, None)
            return
        called = self._called[scope]
        room = self._free(scope) - len(called)
        for who, turn in line.items():
            if room <= 0:
                return
            if who not in called:
                called.add(who)
                room -= 1
                turn.set()

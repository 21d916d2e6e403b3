"""Runs that wait for what nothing tells of, a quota or a right: they ask again, one after the other, and all of them together no more often
than so, however many they are."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta

A_SECOND = 20
"""How many of those that wait for the same ask again in a second."""
TOLD = 2
"""How many are told when one got through. If these get through, each tells as many more; if not, few have asked in vain."""


def pause(least: timedelta, waiting: int) -> timedelta:
    """How long one of so many that `waiting` are waits before it asks again."""
    spread = waiting / A_SECOND * random.uniform(0.5, 1.5)  # noqa: S311 - jitter, not a secret
    return max(least, timedelta(seconds=spread))


class Rounds:
    """Those of one namespace."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, Callable[[], None]] = OrderedDict()
        """How each is told to ask again, by the uid of its record; who has waited longest comes first."""

    def pause(self, least: timedelta) -> timedelta:
        return pause(least, len(self._waiting))

    def wait(self, run: str, again: Callable[[], None]) -> None:
        self._waiting.setdefault(run, again)

    def leave(self, run: str) -> None:
        self._waiting.pop(run, None)

    def one_got_through(self) -> None:
        """What kept others waiting may be over."""
        for _ in range(min(TOLD, len(self._waiting))):
            _, again = self._waiting.popitem(last=False)
            again()

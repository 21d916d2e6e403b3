"""An event loop whose time passes as fast as nothing is left to do: hours of waiting in milliseconds, the same each time.

For what stays in this process: whoever waits for a thread, a socket or another process would see time run away.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class _Skipping(selectors.DefaultSelector):
    """Waits for nothing: puts the loop's time forward instead."""

    passed = 0.0
    turn = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0 if timeout is not None else None)
        self.passed += self.turn if ready or not timeout else max(timeout, self.turn)
        return ready


class FakeTimeLoop(asyncio.SelectorEventLoop):
    """Begins at time 1000. `turn`: seconds that each turn takes; with none, who waits for less than the clock's resolution waits for ever."""

    def __init__(self, turn: float = 0.0) -> None:
        self._skipping = _Skipping()
        self._skipping.turn = turn
        super().__init__(self._skipping)

    def time(self) -> float:
        return 1000.0 + self._skipping.passed


def in_fake_time(test: Coroutine[Any, Any, Result], turn: float = 0.0) -> Result:
    """Runs a coroutine to its end in a time of its own; `turn`: as of the loop."""
    with asyncio.Runner(loop_factory=lambda: FakeTimeLoop(turn)) as runner:
        return runner.run(test)

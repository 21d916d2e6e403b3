"""An event loop whose time passes as fast as nothing is left to do: hours of waiting in milliseconds, the same each time.

For what stays in this process: whoever waits for a thread, a socket or another process would see time run away.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


_LEAST = 1e-6
"""Seconds that pass at least: of less, nothing might be left by the sum, and who looks at how long there is to wait would look for ever."""


class _Skipping(selectors.DefaultSelector):
    """Waits for nothing: puts the loop's time forward instead."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0 if timeout is not None else None)
        if not ready and timeout:
            self.passed += max(timeout, _LEAST)
        return ready


class FakeTimeLoop(asyncio.SelectorEventLoop):
    """Begins at time 1000."""

    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        return 1000.0 + self._skipping.passed


def in_fake_time(test: Coroutine[Any, Any, Result]) -> Result:
    """Runs a coroutine to its end in a time of its own."""
    with asyncio.Runner(loop_factory=FakeTimeLoop) as runner:
        return runner.run(test)

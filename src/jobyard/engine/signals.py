"""How those that watch runs are woken."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Generic, TypeVar

T = TypeVar("T")


class Signal:
    """Wakes whoever waits for the next change; many changes are one wake."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self, seconds: float | None = None) -> None:
        """Returns at the next `set`, or one that nobody has waited for yet, or after `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
        self._event.clear()


class Once(Generic[T]):
    """Something that comes once. Any number may wait for it, and each may be cancelled alone: whoever awaits a bare future takes it with them."""

    def __init__(self) -> None:
        self._came = asyncio.Event()
        self._is: list[T] = []

    @property
    def is_there(self) -> bool:
        return bool(self._is)

    def set(self, it: T) -> None:
        """It has come."""
        self._is[:] = [it]
        self._came.set()

    async def get(self) -> T:
        """Returns it once it is there."""
        await self._came.wait()
        return self._is[0]

"""How those that watch runs are woken."""

from __future__ import annotations

import asyncio
import contextlib


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

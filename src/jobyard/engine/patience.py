"""How a call is tried again: with back-off and full jitter, for a bounded time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from jobyard.model.errors import Conflict, Unavailable

PATIENCE = 60.0
"""Seconds for which a submit or a release is tried again by itself while the cluster is away."""

Answer = TypeVar("Answer")


async def patiently(call: Callable[[], Awaitable[Answer]]) -> Answer:
    """Makes a call that may be repeated, again and again while the cluster is away or others are faster, for a bounded time.

    Raises then what it was answered last: Unavailable or Conflict.
    """
    failures = 0
    loop = asyncio.get_running_loop()
    end = loop.time() + PATIENCE
    while True:
        try:
            return await call()
        except (Unavailable, Conflict) as error:
            failures += 1
            wait = retry_delay(failures, random.random, error.retry_after if isinstance(error, Unavailable) else None)
            if loop.time() + wait > end:
                raise
            await asyncio.sleep(wait)


def retry_delay(failures: int, random: Callable[[], float], asked: float | None) -> float:
    """Seconds to wait before the cluster is tried again after `failures` in a row: full jitter under a doubling bound, at least what it asked for."""
    bound: float = min(30.0, 0.2 * 2 ** min(failures, 10))
    return max(asked or 0.0, random() * bound)

"""How anything is tried again: after a wait with full jitter, for a bounded time.

Full jitter means any moment up to a bound that doubles: of many that failed in the same second, no two come back together.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from jobyard.model.errors import Conflict, InTheWay, JobyardError, NoAnswer, Unavailable

PATIENCE = 60.0
"""Seconds for which a submit or a release is tried again by itself while the cluster is away."""

LEAST = 2.0
"""Seconds that a call may take at least, however little is left."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """How long to wait after failures in a row: up to `first` seconds after one, up to twice that after two, never over `longest`."""

    first: float
    longest: float

    def delay(self, failures: int, chance: float, asked: float | None = None) -> float:
        """Seconds to wait after the `failures`-th in a row, counted from 1. `chance` is from 0 to 1; `asked`: the least that the other side asked for."""
        bound: float = min(self.longest, self.first * 2 ** min(failures - 1, 30))
        return max(asked or 0.0, chance * bound)

    def draw(self, failures: int, error: BaseException | None = None) -> float:
        """`delay` by lot; `error`: what was answered last, which may ask for a time."""
        asked = error.retry_after if isinstance(error, Unavailable) else None
        return self.delay(failures, random.random(), asked)  # noqa: S311 - jitter, not a secret


CLUSTER = Backoff(first=0.4, longest=30.0)


def trying_for(time: timedelta | None) -> str:
    """How long something is tried again, as a message goes on with it; '' where that is for ever."""
    return "" if time is None else f"; trying for {time.total_seconds():.0f} s, then giving up"


async def patiently(
    call: Callable[[], Awaitable[Answer]],
    *,
    over: tuple[type[JobyardError], ...] = (Unavailable, Conflict),
    backoff: Backoff = CLUSTER,
    seconds: float = PATIENCE,
) -> Answer:
    """Makes a call that may be repeated again and again while it fails with one of `over`, for a bounded time, however long a call hangs.

    Over Unavailable and Conflict: while the cluster is away, or others are faster. Raises then what it was answered last; NoAnswer where
    that was nothing; InTheWay for a Conflict: what may be called again, and was, is not refused for good.
    """
    failures = 0
    last: JobyardError | None = None
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while True:
        try:
            async with asyncio.timeout_at(max(end, loop.time() + LEAST)) as bound:
                return await call()
        except over as error:
            failures += 1
            last = error
            wait = backoff.draw(failures, error)
            if loop.time() + wait > end:
                raise _last_word(error, seconds) from error
        except TimeoutError:
            if not bound.expired():
                raise
            raise _last_word(last, seconds) from last
        await asyncio.sleep(wait)


def _last_word(last: JobyardError | None, seconds: float) -> JobyardError:
    match last:
        case None:
            return NoAnswer(what=f"there was no answer within {seconds:.0f} s")
        case Conflict():
            return InTheWay(action=last.action, message=last.message, seconds=seconds)
    return last

"""One process at a time: a lock on a file, which the processes that we start may keep for us."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from jobyard.model.errors import GitFailed
from jobyard.patience import Backoff

BOUND = 330.0
"""Seconds to wait for another: longer than one git command may take."""
_LOOK = Backoff(first=0.02, longest=0.5)


class Locked(GitFailed):
    """Another process had the lock for all the time that we wait."""

    sentence = "another process has locked {file} for {seconds:.0f} s: {who}. Waiting for it again; end it if it hangs"
    action: str = "lock"
    message: str = ""
    remedy: str = ""
    file: Path
    seconds: float
    who: str


@asynccontextmanager
async def alone(file: Path, seconds: float = BOUND) -> AsyncIterator[int]:
    """Holds the lock for as long as the context lasts; gives its descriptor. A child that keeps that open holds it on where we are killed.

    Raises Locked when another does not let go of it in time. There is no event for that: it is looked at again and again, so that the
    wait can be cancelled (a thread in flock can't).
    """
    with file.open("a+") as lock:
        await _take(lock.fileno(), file, seconds)
        os.truncate(lock.fileno(), 0)
        os.write(lock.fileno(), str(os.getpid()).encode())
        yield lock.fileno()


async def _take(lock: int, file: Path, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    end, looks = loop.time() + seconds, 0
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            looks += 1
        if loop.time() >= end:
            raise Locked(file=file, seconds=seconds, who=_who(os.pread(lock, 20, 0)))
        await asyncio.sleep(_LOOK.draw(looks))


def _who(written: bytes) -> str:
    """Whoever wrote its number into the file it locked, in words."""
    if not written.isdigit():
        return "which one is not known"
    pid = int(written)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return f"a git that process {pid} started, which is gone"
    except PermissionError:
        pass  # another user's, and alive
    return f"process {pid}"

"""What is done on a local cluster ends with it: a process of this machine that has ended does not come back by itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from jobyard.model.errors import JobyardError, innermost


class LocalClusterEnded(JobyardError):
    """The process of the local cluster is gone. `what_next` tells how to go on."""

    sentence = "the local cluster has ended, and with it the Jobs that ran on it. `jobyard local start` starts it again; {what_next}"
    exit_code = 3
    what_next: str = "then `jobyard run --local --resume RUN` goes on with a run"


@asynccontextmanager
async def while_it_runs(pid: int) -> AsyncIterator[Callable[[], bool]]:
    """Cancels the body when the process ends, and raises LocalClusterEnded in its place; yields whether it has ended.

    As `asyncio.timeout`, but for a process. Where the system can't tell of the end of a process that is no child of ours, the body goes on.
    """
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        raise LocalClusterEnded from None
    except (AttributeError, OSError):  # no Linux, or an old one
        yield lambda: False
        return
    ended = False

    def end() -> None:
        nonlocal ended
        loop.remove_reader(handle)
        ended = True
        if task is not None:
            task.cancel()

    loop.add_reader(handle, end)
    try:
        yield lambda: ended
    except BaseException as error:
        if not ended or isinstance(innermost(error), LocalClusterEnded):
            raise
        raise LocalClusterEnded from error
    finally:
        if ended and task is not None:
            task.uncancel()
        loop.remove_reader(handle)
        os.close(handle)

"""Keys for a source that has no items, only a level: a queue's depth, a folder's size. Pure.

The key is a number: one more than that of the newest run of the source. So who asks twice for the next run, after a crash or beside
another process, asks for the same one. It holds as long as the newest is there to be counted from: a source never releases its newest run
before there is a next, and keeps each older one for an hour after its successor was made. A leader that was paused for less, or whose
watch is behind, then asks for a run that is there, and gets that.

A source that has several levels, each with runs of its own, puts the level's name and a slash before the number.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import pairwise

from jobyard.model.run import Run
from jobyard.model.written import whole

KEPT = timedelta(hours=1)
"""How long a run is kept after its successor was made."""


def level(run: Run) -> str:
    """Which of a source's levels the run was for; '' where it has one."""
    return run.key.rpartition("/")[0]


def key(number: int, level: str = "") -> str:
    """The key of a level's run with this number."""
    return f"{level}/{number}" if level else str(number)


def generation(run: Run) -> int:
    """The run's number; 0 for a key that is none of ours."""
    return whole(run.key.rpartition("/")[2], 10**15) or 0


def newest(runs: Iterable[Run]) -> Run | None:
    """The run that the next is counted from."""
    return max(runs, key=generation, default=None)


def next_key(runs: Iterable[Run], level: str = "") -> str:
    """The key of the run that comes after all of these, which are of one level."""
    last = newest(runs)
    return key(generation(last) + 1 if last else 1, level)


def superseded(runs: Iterable[Run], now: datetime) -> list[Run]:
    """The runs that may be released: ended, and their successor made long enough ago. The newest is never one of them."""
    ordered = sorted(runs, key=generation)
    pairs = pairwise(ordered)
    return [run for run, successor in pairs if run.state.is_end and now - successor.created >= KEPT]

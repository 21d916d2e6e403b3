"""How much a queue holds, as one look at it said. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

MOST = 10**15
"""What nobody means who counts what waits."""
LONGEST = timedelta(days=3650)
"""A time farther off is none."""


@dataclass(frozen=True, kw_only=True)
class Depth:
    """What waits in a queue. Rows that are due later don't count until they are."""

    waiting: int
    more: bool = False
    """There are more than `waiting`: counting stopped there."""
    oldest: datetime | None = None
    """Since when the one waits that has waited longest."""
    next_due: datetime | None = None
    """When the next that waits for its time is due."""
    at: datetime
    """When we looked, by our own clock."""


def read(row: Sequence[Any], cap: int | None, at: datetime) -> Depth:
    """What a row says after its queue's name: how many wait, for how many seconds the oldest has, in how many seconds the next is due. A
    database may say anything: what is no number that somebody means counts as none. `cap`: where counting stopped."""
    waiting = _whole(row[0] if row else None)
    oldest, due = (_seconds(row[index] if len(row) > index else None) for index in (1, 2))
    return Depth(
        waiting=waiting,
        more=cap is not None and waiting >= cap,
        oldest=at - oldest if oldest is not None and waiting else None,
        next_due=at + due if due is not None else None,
        at=at,
    )


def by_queue(rows: Iterable[Sequence[Any]], queues: Iterable[str], cap: int | None, at: datetime) -> Mapping[str, Depth]:
    """The depth of each of these queues, from rows that begin with a queue's name. One that no row names is empty; rows of others say nothing;
    of several rows of one queue the counts add up."""
    found = dict.fromkeys(queues, Depth(waiting=0, at=at))
    seen: set[str] = set()
    for name, *row in rows:
        if not isinstance(name, str) or name not in found:
            continue
        depth = read(row, cap, at)
        found[name] = _both(found[name], depth) if name in seen else depth
        seen.add(name)
    return found


def _both(one: Depth, other: Depth) -> Depth:
    ages = [each.oldest for each in (one, other) if each.oldest is not None]
    dues = [each.next_due for each in (one, other) if each.next_due is not None]
    return Depth(
        waiting=min(one.waiting + other.waiting, MOST),
        more=one.more or other.more,
        oldest=min(ages, default=None),
        next_due=min(dues, default=None),
        at=one.at,
    )


def _whole(value: Any) -> int:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return 0
    return math.ceil(min(max(number, 0.0), float(MOST))) if math.isfinite(number) else 0


def _seconds(value: Any) -> timedelta | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return timedelta(seconds=max(number, 0.0)) if math.isfinite(number) and number < LONGEST.total_seconds() else None

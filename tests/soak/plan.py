"""What happens to a service in a soak, and when: by seed, the same each time. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum


class Deed(StrEnum):
    """What is done to it. Each that lasts ends by itself, after `Moment.lasts`."""

    COMMIT = "commit"
    KILL = "kill -9"
    STOP = "SIGTERM"
    NO_CLUSTER = "no API server"
    NO_CLUSTER_FOR_ONE = "no API server for the steady one"
    NO_REMOTE = "no remote"
    RELOAD = "reload"
    MISTAKE = "mistake in the settings"
    PAUSE = "pause"


LASTS: dict[Deed, tuple[float, float]] = {
    Deed.NO_CLUSTER: (1, 6),
    Deed.NO_CLUSTER_FOR_ONE: (9, 14),
    Deed.NO_REMOTE: (1, 6),
    Deed.MISTAKE: (3, 5),
    Deed.PAUSE: (2, 8),
}
"""Seconds, from and to."""
EVERY: dict[Deed, float] = {
    Deed.COMMIT: 1.5,
    Deed.KILL: 20,
    Deed.STOP: 25,
    Deed.NO_CLUSTER: 30,
    Deed.NO_CLUSTER_FOR_ONE: 45,
    Deed.NO_REMOTE: 25,
    Deed.RELOAD: 15,
    Deed.MISTAKE: 40,
    Deed.PAUSE: 20,
}
"""Seconds between two, on average."""


@dataclass(frozen=True, kw_only=True, order=True)
class Moment:
    """Something that happens."""

    at: float
    deed: Deed
    lasts: float = 0.0


def plan(seed: int, seconds: float) -> list[Moment]:
    """All that happens in so many seconds, in order. No two of a kind at once."""
    return sorted(moment for deed in Deed for moment in _of(deed, random.Random(f"{seed} {deed}"), seconds))


def _of(deed: Deed, chosen: random.Random, seconds: float) -> Iterator[Moment]:
    at = chosen.uniform(0, EVERY[deed])
    while at < seconds:
        lasts = chosen.uniform(*LASTS[deed]) if deed in LASTS else 0.0
        yield Moment(at=at, deed=deed, lasts=lasts)
        at += lasts + chosen.uniform(0.5, 1.5) * EVERY[deed]


def scripts(seed: int) -> Callable[[int], str]:
    """What the Job of the n-th file does: most end well, some at once, some badly."""

    def script(number: int) -> str:
        return random.Random(f"{seed} {number}").choice(["true", "true", "sleep 1", "exit 1"])

    return script

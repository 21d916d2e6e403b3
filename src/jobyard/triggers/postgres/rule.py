"""When to start Jobs for a queue: one pure function from how deep it is, the queue's runs, its settings and the time.

One run at a time, as job-chief does it, where nothing says `scale`. With it, as many as what waits needs, less what is starting (that will
take some of it), and no more than may be unfinished at once. What is not known starts nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from jobyard.triggers.postgres.depth import Depth
from jobyard.triggers.postgres.settings import QueueSettings, Scale, Waits

LONGEST_REST = timedelta(minutes=10)
"""Where failures or useless runs in a row double a wait, it ends here."""
STUCK_AFTER = 3
"""Runs in a row that took nothing."""


class End(StrEnum):
    """How a run ended, as far as the next wait depends on it."""

    SUCCESS = "success"
    FAILURE = "failure"
    ERROR = "error"
    """Its Job was refused, or its pods could not start."""
    START_TIMEOUT = "start timeout"


class Why(StrEnum):
    """What a queue waits for."""

    EMPTY = "QueueEmpty"
    RUNNING = "Running"
    """One run at a time, and it goes on."""
    ENOUGH = "Enough"
    """What is starting takes all that waits."""
    FULL = "MaxRunning"
    AFTER_SUCCESS = "AfterSuccess"
    AFTER_FAILURE = "AfterFailure"
    AFTER_ERROR = "AfterError"
    AFTER_START_TIMEOUT = "AfterStartTimeout"
    NO_PROGRESS = "NoProgress"
    """Runs succeed, and what waits stays: a worker that takes nothing, or a queue that lets nothing be taken just now."""
    UNKNOWN = "DepthUnknown"


@dataclass(frozen=True, kw_only=True)
class QueueRun:
    """A run of the queue, as the rule sees it."""

    end: End | None = None
    """None while it goes on."""
    ended: datetime | None = None
    running_since: datetime | None = None
    """When a pod of it was first seen to run; None before."""
    found: Depth | None = None
    """What waited when it was begun, as far as that is known."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """Begin so many runs."""

    count: int


@dataclass(frozen=True, kw_only=True)
class Wait:
    """Begin none. `until`: look again then; None: something will tell (the end of a run)."""

    until: datetime | None
    why: Why


def next_step(depth: Depth | None, runs: Sequence[QueueRun], settings: QueueSettings, now: datetime) -> Start | Wait:
    """What to do now for a queue. `depth`: None where it is not known."""
    if (wait := rest(runs, settings, now)) is not None:
        return wait
    if depth is None:
        return Wait(until=now + settings.waits.check, why=Why.UNKNOWN)
    if not depth.waiting:
        return Wait(until=_look_again(depth, settings, now), why=Why.EMPTY)
    if (stuck := _stuck(depth, runs, settings, now)) is not None:
        return stuck
    if settings.scale is None:
        return Start(count=1)
    return _scaled(depth, runs, settings, settings.scale, now)


def rest(runs: Sequence[QueueRun], settings: QueueSettings, now: datetime) -> Wait | None:
    """Why nothing is to be begun however deep the queue is; None where that decides."""
    if settings.scale is None and any(run.end is None for run in runs):
        return Wait(until=None, why=Why.RUNNING)
    ended = _ended(runs)
    if not ended:
        return None
    last = ended[-1]
    length, why = _rest_after(last.end, settings.waits)
    if settings.scale is not None:
        if last.end is End.SUCCESS:
            return None
        length = _doubled(length, _in_a_row(ended))
    until = _after(last, length, now)
    return Wait(until=until, why=why) if until > now else None


def _rest_after(end: End | None, waits: Waits) -> tuple[timedelta, Why]:
    return {
        End.SUCCESS: (waits.success, Why.AFTER_SUCCESS),
        End.FAILURE: (waits.failure, Why.AFTER_FAILURE),
        End.ERROR: (waits.error, Why.AFTER_ERROR),
        End.START_TIMEOUT: (waits.start_timeout, Why.AFTER_START_TIMEOUT),
    }[end or End.SUCCESS]


def _scaled(depth: Depth, runs: Sequence[QueueRun], settings: QueueSettings, scale: Scale, now: datetime) -> Start | Wait:
    unfinished = [run for run in runs if run.end is None]
    starting = [run for run in unfinished if run.running_since is None or now < run.running_since + scale.claim_grace]
    need = math.ceil(depth.waiting / (scale.per_pod * settings.pods)) - len(starting)
    if need <= 0:
        claims = [run.running_since + scale.claim_grace for run in starting if run.running_since is not None]
        return Wait(until=min([_look_again(depth, settings, now), *claims]), why=Why.ENOUGH)
    room = scale.most // settings.pods - len(unfinished)
    if room <= 0:
        return Wait(until=_look_again(depth, settings, now), why=Why.FULL)
    return Start(count=min(need, room, scale.most_at_once))


def _stuck(depth: Depth, runs: Sequence[QueueRun], settings: QueueSettings, now: datetime) -> Wait | None:
    """Whether the last runs succeeded and took nothing: as many wait as before each of them, and the oldest is the same. Where more wait
    than are counted nobody can tell: what came in one statement is all of one age, and a queue that is being drained must not be slowed."""
    if depth.more:
        return None
    useless = 0
    ended = _ended(runs)
    for run in reversed(ended):
        before = run.found
        if run.end is not End.SUCCESS or before is None or depth.oldest is None or before.oldest is None:
            break
        if depth.waiting != before.waiting or abs(depth.oldest - before.oldest) > timedelta(seconds=1):
            break
        useless += 1
    if useless < STUCK_AFTER:
        return None
    until = _after(ended[-1], _doubled(settings.waits.check, useless - STUCK_AFTER + 2), now)
    return Wait(until=until, why=Why.NO_PROGRESS) if until > now else None


def _look_again(depth: Depth, settings: QueueSettings, now: datetime) -> datetime:
    """When the check is over, or the next item is due; never at once."""
    times = [depth.at + settings.waits.check]
    if depth.next_due is not None and depth.next_due > depth.at:
        times.append(depth.next_due)
    return max(min(times), now + LEAST)


LEAST = timedelta(milliseconds=100)
"""Between two looks."""


def _ended(runs: Sequence[QueueRun]) -> list[QueueRun]:
    """The runs that have ended, the last to end last."""
    return sorted((run for run in runs if run.end is not None and run.ended is not None), key=lambda run: run.ended or datetime.min)


def _in_a_row(ended: Sequence[QueueRun]) -> int:
    """How many runs failed since one succeeded."""
    failures = 0
    for run in reversed(ended):
        if run.end is End.SUCCESS:
            break
        failures += 1
    return failures


def _doubled(length: timedelta, times: int) -> timedelta:
    """The wait after so many in a row."""
    if length >= LONGEST_REST:
        return length
    doubled: timedelta = length * 2 ** min(max(times - 1, 0), 20)
    return min(doubled, LONGEST_REST)


def _after(run: QueueRun, length: timedelta, now: datetime) -> datetime:
    """When a wait is over that began with the run's end; a clock of the cluster that is ahead of ours makes it no longer."""
    return min(run.ended or now, now) + length

"""The trigger of queues as a service has it, and how its queues stand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from jobyard.contracts import Clock
from jobyard.service.board import QUEUES_TOLD, Level
from jobyard.service.served import Source
from jobyard.triggers.postgres.rule import Why
from jobyard.triggers.postgres.settings import TriggerSettings
from jobyard.triggers.postgres.slot import Slot
from jobyard.triggers.postgres.trigger import QueueTrigger

NAME_SHOWN = 100
COARSE = 10
"""Seconds: times of what waits are told no finer, or each look would be news."""
_SOON = (Why.EMPTY, Why.ENOUGH, Why.FULL, Why.UNKNOWN)
"""What is looked at again so soon that the time is no news."""


def queue_source(name: str, settings: TriggerSettings, clock: Clock, tell: Callable[[str], None]) -> Source:
    """The queues of a database, as they are served. `tell`: as in QueueTrigger."""
    trigger = QueueTrigger(name, settings, clock, tell)
    return Source(
        trigger=trigger, wake=lambda _: trigger.look_soon(), branch=lambda: "", levels=lambda: levels(list(trigger.slots.values()))
    )


def levels(slots: list[Slot]) -> tuple[Level, ...]:
    """How the queues stand; of many, those that something is to be told of. Pure."""
    told = [_level(each) for each in slots]
    told.sort(key=lambda each: not (each.waiting or each.runs))  # stable: else in the order of the settings
    return tuple(told[:QUEUES_TOLD])


def _level(slot: Slot) -> Level:
    depth, step = slot.depth, slot.step
    return Level(
        queue=slot.queue[:NAME_SHOWN],
        waiting=depth.waiting if depth else None,
        more=depth.more if depth else False,
        oldest=_coarse(depth.oldest) if depth and depth.oldest else None,
        runs=sum(not run.state.is_end for run in slot.runs),
        waits=step.why if step else "",
        until=step.until if step and step.why not in _SOON else None,
    )


def _coarse(moment: datetime) -> datetime:
    return moment - timedelta(seconds=moment.second % COARSE, microseconds=moment.microsecond)

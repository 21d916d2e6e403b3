"""A trigger as a service has it: what makes it, how it stands, and who counts what it does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from jobyard.contracts import Engine, Trigger
from jobyard.model.run import Outcome, Run
from jobyard.service.board import Level
from jobyard.service.settings import TriggerSettings
from jobyard.supervise import Report, Switch


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is served under a trigger's name: the trigger itself, and what can be told to it."""

    trigger: Trigger
    wake: Callable[[str], None]
    """There is news; the commit where it is known."""
    branch: Callable[[], str]
    """What news may be about; '' while that is not known."""
    levels: Callable[[], tuple[Level, ...]] = lambda: ()
    """How the queues stand that it serves, if it does."""


Build = Callable[[TriggerSettings, str], Source]
"""Makes the trigger of settings; the second is the namespace in which its Jobs run."""


@dataclass(eq=False, kw_only=True)
class Served:
    """A trigger as it is served here."""

    settings: TriggerSettings
    source: Source
    report: Report
    switch: Switch = field(default_factory=Switch)
    worker: asyncio.Task[None] | None = None
    paused_by: str = ""


class Measures(Protocol):
    """Who counts what happens in a moment."""

    def note_end(self, run: Run, outcome: Outcome) -> None: ...

    def note_decision(self, seconds: float) -> None: ...

    def engine(self, engine: Engine, trigger: str) -> Engine:
        """An engine for this trigger, whose submits are measured."""
        ...


TOLD_BEFORE = timedelta(minutes=1)
"""A run that had ended so long ago when it was found was told of by whoever led then; what ended since may have been told by nobody."""


def is_news(run: Run, outcome: Outcome, now: datetime) -> bool:
    """Whether a run's end is to be told and counted. `run`: as it was found. One that had failed is kept while a budget counts it, and found
    by whoever leads next. Pure."""
    finished = outcome.view.finished
    return not run.state.is_end or finished is None or now - finished < TOLD_BEFORE

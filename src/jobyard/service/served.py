"""A trigger as a service has it: what makes it, how it stands, and who counts what it does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from jobyard.contracts import Engine, Trigger
from jobyard.model.run import Outcome, Run
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

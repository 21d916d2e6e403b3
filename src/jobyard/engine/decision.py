"""What a decision may depend on, and what it says: plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from jobyard.model.run import Role, State, StepResult, StepView

Slot = tuple[Role, str]
"""A step, or the revert of a step."""


@dataclass(frozen=True, kw_only=True)
class Attempt(StepResult):
    """One Job of the run, as observed."""

    role: Role
    step: str
    created: datetime
    has_run: bool = False
    """A pod of it ran, whatever became of it."""
    start_error: str = ""
    """Why a pod of it can't start, for a reason that seldom passes by itself; '' where none is known."""
    stopping: str = ""
    """Why we have asked for its end; '' when we have not."""
    resumed: bool = False
    """We have asked for its end, and somebody resumed it."""
    stop_deadline: datetime | None = None
    """When its pods must be gone; None while it is not being stopped."""
    deleting: bool = False


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """The cluster's answer to a create that it did not do. `until` is None when the answer is final."""

    reason: str
    message: str
    until: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Observed:
    """All that a decision may depend on, beside the workflow and the time."""

    created: datetime
    begun: datetime | None
    """Since when the run's timeout counts: its first Job. None before: what a run waits for (a place, its `begin`) is no time of its own."""
    state: State = State.PENDING
    reason: str = ""
    finished: datetime | None = None
    cancelled: bool = False
    waits: str = ""
    """Why nothing may start yet (Held, Incomplete); '' when it may."""
    keeps: bool = True
    """The record keeps results of its own. Without, the run is one Job, and that says everything."""
    recorded: Mapping[Slot, StepResult] = field(default_factory=dict)
    attempts: Mapping[Slot, tuple[Attempt, ...]] = field(default_factory=dict)
    vanished: Mapping[Slot, int] = field(default_factory=dict)
    """The newest attempt whose Job was seen to go before it had ended: it must not be made again."""
    refusals: Mapping[tuple[Role, str, int], Refusal] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Create:
    """Create the Job of this attempt."""

    role: Role
    step: str
    attempt: int


@dataclass(frozen=True, kw_only=True)
class Stop:
    """Suspend this Job, and write on it why."""

    job: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Kill:
    """Delete the pods of this Job by force: it was stopped, and they did not end in time."""

    job: str


@dataclass(frozen=True, kw_only=True)
class Write:
    """Write these results on the run's record; with `state`, that the run has ended."""

    results: Mapping[Slot, StepResult]
    state: State | None = None
    reason: str = ""
    finished: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Delete:
    """Delete these Jobs, pods and all: the run is over and wants no traces."""

    jobs: tuple[str, ...]


Action = Create | Stop | Kill | Write | Delete


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What to do, how the run stands, and when to look again though nothing changes."""

    actions: tuple[Action, ...]
    state: State
    reason: str
    finished: datetime | None
    steps: tuple[StepView, ...]
    wake_at: datetime | None

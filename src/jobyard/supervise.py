"""Triggers that wrap triggers: Supervised, LeaderOnly, Paused, FailureBudget. Each does one thing; a service stacks them.

    Supervised(LeaderOnly(Paused(FailureBudget(trigger, ...), ...), ...))

A trigger is a straight coroutine that may fail at any line. It is started again, it submits the same keys, and it gets the same runs:
so a restart needs no care, only patience (`Restarts`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from jobyard.contracts import Clock, Engine, Trigger
from jobyard.model import duration
from jobyard.model.errors import WrongInput, innermost
from jobyard.model.run import Outcome, Run, RunRequest, State, StepView
from jobyard.model.workflow import Workflow
from jobyard.patience import Backoff

log = logging.getLogger("jobyard.supervise")


class Stage(StrEnum):
    """What a supervised trigger is doing."""

    STARTING = "starting"
    RUNNING = "running"
    BACKING_OFF = "backing off"
    """It failed, and is started again at `until`."""
    STANDING_BY = "standing by"
    """Another process leads."""
    PAUSED = "paused"
    """Somebody paused it, or its budget of failures is used up; in the latter case until `until`."""
    ENDED = "ended"


@dataclass(frozen=True, kw_only=True)
class Health:
    """How a trigger does: for /readyz, the page and a metric."""

    trigger: str
    stage: Stage = Stage.STARTING
    since: datetime
    failures: int = 0
    """In a row."""
    error: str = ""
    """The last failure, in words for a person."""
    until: datetime | None = None

    @property
    def is_well(self) -> bool:
        return self.stage not in (Stage.BACKING_OFF, Stage.ENDED)


class Report:
    """One trigger's health, written by those that wrap it, read by whoever shows it."""

    def __init__(self, trigger: str, clock: Clock, told: Callable[[], None] = lambda: None) -> None:
        """`told`: is called whenever the health has changed."""
        self._clock = clock
        self._told = told
        self.restarts = 0
        """How often the trigger failed and was started again, ever."""
        self.health = Health(trigger=trigger, since=clock.now())
        self.changed = asyncio.Event()

    def set(self, stage: Stage, *, failures: int | None = None, error: str | None = None, until: datetime | None = None) -> None:
        """Notes what the trigger is doing now, and wakes whoever waits for `changed`."""
        old = self.health
        since = old.since if stage is old.stage else self._clock.now()
        self.health = replace(
            old,
            stage=stage,
            since=since,
            failures=old.failures if failures is None else failures,
            error=old.error if error is None else error,
            until=until,
        )
        self.changed.set()
        self.changed = asyncio.Event()
        self._told()


_RESTARTS = Backoff(first=1.0, longest=60.0)


@dataclass(frozen=True, kw_only=True)
class Restarts:
    """How patiently a failed trigger is started again."""

    backoff: Backoff = _RESTARTS
    steady: timedelta = timedelta(minutes=1)
    """Having run so long, a trigger that fails counts as one that fails for the first time."""


class Supervised:
    """Starts its trigger again whenever it fails or ends, and reports. Only a cancellation of who runs it ends it: one that comes out of the
    trigger itself (something that it awaited was cancelled) is a failure like any other."""

    def __init__(self, trigger: Trigger, report: Report, clock: Clock, restarts: Restarts = Restarts()) -> None:
        self._trigger = trigger
        self._report = report
        self._clock = clock
        self._restarts = restarts
        self.name = trigger.name

    async def run(self, engine: Engine) -> None:
        failures, told = 0, ""
        this = asyncio.current_task()
        try:
            while True:
                begun = self._clock.now()
                self._report.set(Stage.RUNNING, failures=failures)
                first: BaseException | None = None
                try:
                    await self._trigger.run(engine)
                    why = "it ended, which a trigger never should"
                except asyncio.CancelledError:
                    if this is None or this.cancelling():
                        raise
                    why = "something that it waited for was cancelled"
                except Exception as error:
                    first = innermost(error)
                    why = str(first) or type(first).__name__
                    log.debug("trigger %s failed", self.name, exc_info=error)
                if self._clock.now() - begun >= self._restarts.steady:
                    failures, told = 0, ""  # it went well in between: the same failure is news again
                failures += 1
                wait = self._restarts.backoff.draw(failures, first)
                if why != told:
                    log.warning("trigger %s failed: %s. It is tried again, less and less often", self.name, why)
                told = why
                self._report.restarts += 1
                self._report.set(Stage.BACKING_OFF, failures=failures, error=why, until=self._clock.now() + timedelta(seconds=wait))
                await asyncio.sleep(wait)
        finally:
            self._report.set(Stage.ENDED)


class Gate(Protocol):
    """A condition that comes and goes: leadership, or not being paused."""

    async def opened(self) -> None:
        """Returns once it holds."""
        ...

    async def closed(self) -> None:
        """Returns once it no longer holds."""
        ...


class Switch:
    """A Gate that somebody opens and closes by hand. Begins open."""

    def __init__(self) -> None:
        self._open, self._closed = asyncio.Event(), asyncio.Event()
        self.open()

    def open(self) -> None:
        self._open.set()
        self._closed.clear()

    def close(self) -> None:
        self._closed.set()
        self._open.clear()

    async def opened(self) -> None:
        await self._open.wait()

    async def closed(self) -> None:
        await self._closed.wait()


class _Gated:
    """Runs its trigger while a gate is open. Closing cancels it; opening starts it again."""

    shut: Stage

    def __init__(self, trigger: Trigger, gate: Gate, report: Report) -> None:
        self._trigger = trigger
        self._gate = gate
        self._report = report
        self.name = trigger.name

    async def run(self, engine: Engine) -> None:
        while True:
            self._report.set(self.shut)
            await self._gate.opened()
            self._report.set(Stage.RUNNING)
            running = asyncio.create_task(self._trigger.run(engine), name=f"trigger {self.name}")
            closing = asyncio.create_task(self._gate.closed())
            try:
                await asyncio.wait([running, closing], return_when=asyncio.FIRST_COMPLETED)
                if running.done():
                    return running.result()
            finally:
                for task in (running, closing):
                    task.cancel()
                await asyncio.gather(running, closing, return_exceptions=True)


class LeaderOnly(_Gated):
    """Runs its trigger only while this process leads (`cluster.lease`)."""

    shut = Stage.STANDING_BY


class Paused(_Gated):
    """Runs its trigger unless somebody has paused it. What it had submitted goes on: the engine drives it, and its source waits."""

    shut = Stage.PAUSED


class BudgetWrong(WrongInput):
    """A budget that nothing could keep to."""

    sentence = "a failure budget of {failures} failures within {within}; expected at least 1 failure, and a time longer than 0"
    failures: int
    within: timedelta


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How many runs of a trigger may fail within a time before it takes a rest. Raises BudgetWrong."""

    failures: int
    within: timedelta

    def __post_init__(self) -> None:
        if self.failures < 1 or self.within <= timedelta(0):
            raise BudgetWrong(failures=self.failures, within=self.within)

    def rest(self, failed: Iterable[datetime], now: datetime) -> datetime | None:
        """Until when to rest, given when runs failed; None to go on. The rest lasts until the budget has room again."""
        recent = sorted(each for each in failed if each > now - self.within)
        return recent[-self.failures] + self.within if len(recent) >= self.failures else None


class FailureBudget:
    """Submits nothing more while too many of the trigger's runs failed of late: a broken image should not burn a whole queue.

    The trigger itself goes on: its `submit` waits, so its source keeps what it has. What failed when is read from the cluster, so a restart
    forgets nothing: a failed run that still counts is not released before it does no more.
    """

    def __init__(self, trigger: Trigger, budget: Budget, report: Report, clock: Clock) -> None:
        self._trigger = trigger
        self._budget = budget
        self._report = report
        self._clock = clock
        self.name = trigger.name

    async def run(self, engine: Engine) -> None:
        await self._trigger.run(_Budgeted(engine, self.name, self._budget, self._report, self._clock))


class Through:
    """An engine that hands everything on: for those that change one thing."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def submit(self, request: RunRequest) -> Run:
        return await self._engine.submit(request)

    async def outcome(self, run: Run) -> Outcome:
        return await self._engine.outcome(run)

    async def runs(self, trigger: str, namespace: str = "") -> list[Run]:
        return await self._engine.runs(trigger, namespace)

    async def release(self, run: Run, until: datetime | None = None) -> None:
        await self._engine.release(run, until)

    async def begin(self, run: Run) -> None:
        await self._engine.begin(run)

    async def abandon(self, run: Run) -> None:
        await self._engine.abandon(run)

    async def room(self, workflow: Workflow, namespace: str = "") -> int:
        return await self._engine.room(workflow, namespace)

    async def try_out(self, request: RunRequest) -> None:
        await self._engine.try_out(request)

    async def find(self, run: str, namespace: str = "") -> Run:
        return await self._engine.find(run, namespace)

    async def last_lines(self, run: Run, step: StepView, count: int) -> list[str]:
        return await self._engine.last_lines(run, step, count)


class _Budgeted(Through):
    """An engine whose submit waits while the budget is used up."""

    def __init__(self, engine: Engine, trigger: str, budget: Budget, report: Report, clock: Clock) -> None:
        super().__init__(engine)
        self._trigger = trigger
        self._budget = budget
        self._report = report
        self._clock = clock

    async def submit(self, request: RunRequest) -> Run:
        while not await self._is_there(request) and (until := await self._rest(request.namespace)) is not None:
            why = f"{self._budget.failures} of its runs failed within {duration.write(self._budget.within)}"
            if self._report.health.stage is not Stage.PAUSED:
                rest = duration.show(until - self._clock.now())
                log.warning("trigger %s rests: %s. It goes on in %s; what comes stays in its source", self._trigger, why, rest)
            self._report.set(Stage.PAUSED, error=why, until=until)
            await asyncio.sleep((until - self._clock.now()).total_seconds())
            self._report.set(Stage.RUNNING)
        return await super().submit(request)

    async def release(self, run: Run, until: datetime | None = None) -> None:
        failed = next(
            (each.finished for each in await self.runs(self._trigger, run.namespace) if each.uid == run.uid and _failed(each)), None
        )
        counts = failed + self._budget.within if failed is not None else None
        await super().release(run, max(filter(None, (until, counts)), default=None))

    async def _is_there(self, request: RunRequest) -> bool:
        """Whether its run is there already: who asks for one again (after a restart) asks for nothing new."""
        return any(run.id == request.run_id for run in await self.runs(self._trigger, request.namespace))

    async def _rest(self, namespace: str) -> datetime | None:
        return self._budget.rest(await self._failed(namespace), self._clock.now())

    async def _failed(self, namespace: str) -> list[datetime]:
        """When runs failed, in all namespaces that are open and in this one, which after a restart may not be yet."""
        if namespace:
            await self.runs(self._trigger, namespace)
        return [run.finished for run in await self.runs(self._trigger) if _failed(run) and run.finished is not None]


def _failed(run: Run) -> bool:
    return run.state in (State.FAILED, State.LOST)

"""One process for every trigger: the engine, the election, the triggers stacked on both, and the board on which all this is told.

Whoever leads drives every open run and serves the triggers. A standby watches, answers, and hands on what it hears (webhooks) by the board.
Nothing here ends because something outside is away: it is told, and tried again.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from msgspec import structs

from jobyard.access import lacking, to
from jobyard.cluster.client import HttpCluster
from jobyard.cluster.lease import Leadership, open_leadership
from jobyard.contracts import Clock, Engine, Trigger
from jobyard.engine.engine import ClusterEngine, open_engine
from jobyard.engine.limit_settings import set_limit
from jobyard.engine.namespace import Options
from jobyard.engine.signals import Signal
from jobyard.model.errors import JobyardError
from jobyard.model.objects import LEASES
from jobyard.model.run import Outcome, Run
from jobyard.service.board import Board, Notes, Standing
from jobyard.service.obstacles import Obstacles
from jobyard.service.settings import Settings, TriggerSettings
from jobyard.supervise import FailureBudget, Gate, LeaderOnly, Paused, Report, Stage, Supervised, Switch

log = logging.getLogger("jobyard.service")

LEASE = to(LEASES, "create", "get", "patch", why="one of several replicas leads")
TELL_EVERY = 10.0
"""Seconds between two writes to the board at least."""
TRY_AGAIN = 10.0
"""Seconds until something about the board or the limits that failed is tried again."""


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


class Always:
    """A Gate that is open: where there is one replica, it leads."""

    async def opened(self) -> None:
        return

    async def closed(self) -> None:
        await asyncio.get_running_loop().create_future()


class Never:
    """A Gate that stays shut: we can't know whether another leads."""

    async def opened(self) -> None:
        await asyncio.get_running_loop().create_future()

    async def closed(self) -> None:
        return


class Service:
    """A service at work. Made by `open_service`."""

    def __init__(
        self,
        cluster: HttpCluster,
        clock: Clock,
        namespace: str,
        settings: Settings,
        me: str,
        build: Build,
        measures: Measures,
        obstacles: Obstacles,
    ) -> None:
        self._measures = measures
        self.cluster = cluster
        self.clock = clock
        self.namespace = namespace
        self.settings = settings
        self.me = me
        """This process, in the Lease and on the board."""
        self.mistakes = ""
        """Why the settings file, as it is now, was not taken; empty while it was."""
        self.engine: ClusterEngine | None = None
        self.leadership: Leadership | None = None
        self.served: dict[str, Served] = {}
        self.trouble: dict[str, str] = {}
        """By what was tried: why it does not work just now, for a person."""
        self.board = Board(cluster, namespace, settings.name)
        self.notes = Notes(service=settings.name)
        self.obstacles = obstacles
        self._build = build
        self._leads = False
        self._news = Signal()
        """How a trigger stands has changed, or who leads."""
        self._opened: asyncio.Future[ClusterEngine] = asyncio.get_running_loop().create_future()
        self._gate: asyncio.Future[Gate] = asyncio.get_running_loop().create_future()
        self._limits_wanted = Signal()
        self._told: dict[str, Standing] = {}
        self._tasks: asyncio.TaskGroup | None = None

    @property
    def leads(self) -> bool:
        """Whether this process drives the runs and serves the triggers."""
        return self._leads

    # --- what it does ---

    async def run(self) -> None:
        """Serves until cancelled. Raises InvalidKubeconfig alone: everything else passes by itself."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                for work in (
                    self._keep_engine(),
                    self._keep_electing(),
                    self._keep_leading(),
                    self._keep_listening(),
                    self._keep_telling(),
                    self._keep_limits(),
                ):
                    tasks.create_task(work)
                self.apply(self.settings)
        finally:
            self._tasks = None

    def apply(self, settings: Settings) -> list[str]:
        """Takes new settings: triggers that are other than before are started anew, those that are gone end; says which. The others do not
        notice. (What is about the service itself is for whoever runs it: `is_same_service`.)"""
        wanted = {each.name: each for each in settings.triggers}
        touched = [name for name, served in self.served.items() if wanted.get(name) != served.settings]
        for name in touched:
            worker = self.served.pop(name).worker
            if worker is not None:
                worker.cancel()
        for name, each in wanted.items():
            if name not in self.served:
                touched.append(name)
                self._serve(each)
        if settings.limits != self.settings.limits:
            self._limits_wanted.set()
        self.settings = settings
        self._limits_wanted.set()
        self._heed()
        self._news.set()
        return list(dict.fromkeys(touched))

    def _serve(self, settings: TriggerSettings) -> None:
        report = Report(settings.name, self.clock, self._news.set)
        served = Served(settings=settings, source=self._build(settings, self.namespace), report=report)
        self.served[settings.name] = served
        if self._tasks is not None:
            served.worker = self._tasks.create_task(self._work(served), name=f"trigger {settings.name}")

    async def _work(self, served: Served) -> None:
        """One trigger, stacked. It is cancelled alone, and its end is nobody else's."""
        report, trigger = served.report, served.source.trigger
        opened, gate = await self._opened, await self._gate
        engine = self._measures.engine(opened, trigger.name)
        if served.settings.budget is not None:
            trigger = FailureBudget(trigger, served.settings.budget, report, self.clock)
        paused = Paused(trigger, served.switch, report)
        await Supervised(LeaderOnly(paused, gate, report), report, self.clock).run(engine)

    async def _keep_engine(self) -> None:
        options = Options(
            retention=self.settings.retention,
            retention_failed=self.settings.retention_failed,
            triggers=self.served.keys(),
            service=self.settings.name,
            told=self.obstacles.note,
            ended=self._measures.note_end,
            looked=self._measures.note_decision,
        )
        async with open_engine(self.cluster, self.clock, self.namespace, options) as engine:
            self.engine = engine
            self._opened.set_result(engine)
            async with asyncio.TaskGroup() as tasks, self.obstacles.said(engine):
                for name in self.settings.namespaces:
                    tasks.create_task(_open(engine, name))  # one that can't be opened just now keeps nobody waiting
                await asyncio.get_running_loop().create_future()

    async def _keep_electing(self) -> None:
        if self.settings.replicas == 1:
            self._gate.set_result(Always())
            return
        await self._opened  # the cluster answers
        missing = await lacking(self.cluster, self.namespace, [LEASE])
        if missing:
            self.trouble["lease"] = (
                f"we may not {', '.join(missing)} in namespace {self.namespace}, so nobody knows who leads: "
                "give us the right (`jobyard manifests --rbac`), or say `replicas: 1` in the settings"
            )
            log.warning("%s", self.trouble["lease"])
            self._gate.set_result(Never())
            return
        async with open_leadership(self.cluster, self.clock, self.namespace, self.settings.name, self.me) as leadership:
            self.leadership = leadership
            self._gate.set_result(leadership)
            await asyncio.get_running_loop().create_future()

    async def _keep_leading(self) -> None:
        """Drives every open run while this process leads."""
        gate, engine = await self._gate, await self._opened
        while True:
            await gate.opened()
            self._leads = True
            self._limits_wanted.set()
            self._news.set()
            log.info("process %s leads", self.me)
            adopting = asyncio.create_task(engine.adopt(), name="adoption")
            closing = asyncio.create_task(gate.closed(), name="end of leadership")
            try:
                await asyncio.wait([adopting, closing], return_when=asyncio.FIRST_COMPLETED)
                if adopting.done():
                    adopting.result()
            finally:
                self._leads = False
                self._told.clear()
                for each in (adopting, closing):
                    each.cancel()
                await asyncio.gather(adopting, closing, return_exceptions=True)
            log.info("process %s leads no more", self.me)

    # --- the board ---

    async def _keep_listening(self) -> None:
        async for notes in self.board.watch():
            old, self.notes = self.notes, notes
            self._heed()
            if self._leads:
                for name, poke in notes.pokes.items():
                    if name in self.served and poke != old.pokes.get(name):
                        self.served[name].source.wake(poke.commit)

    def _heed(self) -> None:
        """Does what the board says about pauses."""
        for name, served in self.served.items():
            pause = self.notes.pauses.get(name)
            served.paused_by = pause.by if pause else ""
            if pause is not None:
                served.switch.close()
            else:
                served.switch.open()

    async def _keep_telling(self) -> None:
        """The leader writes how its triggers stand when that changes."""
        await self._opened
        while True:
            await self._news.wait()
            if not self._leads:
                continue
            standings = self.standings()
            gone = [name for name in self.notes.triggers if name not in standings]
            changed: dict[str, Standing | None] = {
                name: standing for name, standing in standings.items() if not _is_same(standing, self._told.get(name))
            }
            changed |= dict.fromkeys(gone)
            if not changed:
                continue
            if await self._try("tell how the triggers stand", functools.partial(self.board.tell, changed)):
                self._told = dict(standings)
                await asyncio.sleep(TELL_EVERY)
            else:
                await asyncio.sleep(TRY_AGAIN)
                self._news.set()

    def standings(self) -> dict[str, Standing]:
        """How each trigger stands here."""
        now = self.clock.now()
        found: dict[str, Standing] = {}
        for name, served in self.served.items():
            health = served.report.health
            why = f"paused by {served.paused_by}" if served.paused_by and health.stage is Stage.PAUSED else health.error
            found[name] = Standing(
                state=health.stage, since=health.since, said=now, by=self.me, failures=health.failures, error=why[:1000], until=health.until
            )
        return found

    async def _keep_limits(self) -> None:
        """The leader sets the limits that the settings name: they win over what people set."""
        await self._opened
        while True:
            await self._limits_wanted.wait()
            if self._leads and self.settings.limits and not await self._try("set the limits", self._set_limits):
                await asyncio.sleep(TRY_AGAIN)
                self._limits_wanted.set()

    async def _set_limits(self) -> None:
        for namespace in (self.namespace, *self.settings.namespaces):
            for name, places in self.settings.limits.items():
                await set_limit(self.cluster, namespace, name, str(places))

    async def _try(self, what: str, call: Callable[[], Awaitable[object]]) -> bool:
        """Whether it worked. What does not is told once, and tried again by whoever asks."""
        try:
            await call()
        except JobyardError as error:
            if self.trouble.get(what) != str(error):
                log.warning("can't %s: %s", what, error)
            self.trouble[what] = str(error)
            return False
        self.trouble.pop(what, None)
        return True

    # --- what is told to it ---

    async def hear(self, trigger: str, commit: str) -> None:
        """A source has news: whoever leads is told. Raises what the cluster answers a standby."""
        if self._leads:
            self.served[trigger].source.wake(commit)
        else:
            await self.board.poke(trigger, self.clock.now(), commit)


async def _open(engine: ClusterEngine, namespace: str) -> None:
    await engine.of(namespace)


def is_same_service(old: Settings, new: Settings) -> bool:
    """Whether only triggers, limits and the log differ: what a service takes while it runs."""
    return replace(old, triggers=(), limits={}, log_level="", log_format="") == replace(
        new, triggers=(), limits={}, log_level="", log_format=""
    )


def _is_same(new: Standing, old: Standing | None) -> bool:
    """Whether nothing is news but the time at which it is said."""
    return old is not None and structs.replace(new, said=old.said) == old


@asynccontextmanager
async def open_service(
    cluster: HttpCluster, clock: Clock, namespace: str, settings: Settings, me: str, build: Build, measures: Measures, obstacles: Obstacles
) -> AsyncIterator[Service]:
    """A service at work as long as the context lasts. Leaving takes nothing new, lets calls under way end, and gives the Lease back."""
    service = Service(cluster, clock, namespace, settings, me, build, measures, obstacles)
    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(service.run(), name="service")
        try:
            yield service
        finally:
            working.cancel()

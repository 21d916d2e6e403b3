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
from dataclasses import replace
from typing import Any

from msgspec import structs

from jobyard.access import RECORDS, lacking
from jobyard.cluster.client import HttpCluster
from jobyard.contracts import Clock
from jobyard.engine.engine import ClusterEngine, open_engine
from jobyard.engine.limit_settings import keep_limits
from jobyard.engine.namespace import Options
from jobyard.engine.signals import Once, Signal
from jobyard.model.errors import Forbidden, InvalidKubeconfig, JobyardError, NoAnswer, innermost, place_of
from jobyard.model.run import Outcome, Run, State
from jobyard.patience import Backoff
from jobyard.service.about import about
from jobyard.service.board import WORDS, Board, Notes, NotOurBoard, Standing
from jobyard.service.election import Election
from jobyard.service.obstacles import Obstacles
from jobyard.service.served import Build, Measures, Served, is_news
from jobyard.service.settings import Settings, TriggerSettings
from jobyard.supervise import FailureBudget, LeaderOnly, Paused, Report, Stage, Supervised

log = logging.getLogger("jobyard.service")

TELL_EVERY = 10.0
"""Seconds between two writes to the board at least."""
SETTLES = 1.0
"""Seconds from news until it is written: a source that is away is found to be so within the first, and would stand there as running for ten."""
TRY_AGAIN = 10.0
"""Seconds until something about the board or the limits that failed is tried again."""
HEAR_WITHIN = 5.0
"""Seconds in which a standby hands on what it heard: forges don't wait for long."""
DRAIN = 5.0
"""Seconds for which the triggers may end what they have begun, when the service ends."""
END_WITHIN = 10.0
"""Seconds for which a trigger with new settings waits for the one with the old to end."""
BOARD = "the board"
AGAIN = Backoff(first=1.0, longest=30.0)


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
        is_alone = settings.replicas == 1 or settings.only_triggers
        self.election = Election(cluster, clock, namespace, settings.name, me, is_alone=is_alone)
        self.served: dict[str, Served] = {}
        self.trouble: dict[str, str] = {}
        """By what was tried: why it does not work just now, for a person."""
        self.board = Board(cluster, namespace, settings.name)
        self.notes: Notes | None = Notes(service=settings.name) if settings.only_triggers else None
        """What the board says; None until we know: nothing is taken before, for a pause may stand there."""
        self.obstacles = obstacles
        self._build = build
        self._leads = False
        self._news = Signal()
        """How a trigger stands has changed, or who leads."""
        self._opened: Once[ClusterEngine] = Once()
        self._limits_wanted = Signal()
        self._tasks: asyncio.TaskGroup | None = None
        self._ending: dict[asyncio.Task[None], str] = {}
        """Who served a trigger of this name with settings of before, and has not ended yet."""

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
                tasks.create_task(self._keep_engine())
                works = [("take part in the election", self._keep_electing), ("drive the runs", self._keep_leading)]
                if not self.settings.only_triggers:
                    works += [
                        ("read the board", self._keep_listening),
                        ("write the board", self._keep_telling),
                        ("keep the limits", self._keep_limits),
                    ]
                for what, work in works:
                    tasks.create_task(self._keep(what, work))
                self.apply(self.settings)
                try:
                    await asyncio.Event().wait()
                finally:
                    await self._end_triggers()  # before the engine on which they end what they have begun
        finally:
            self._tasks = None

    async def _end_triggers(self) -> None:
        workers = [served.worker for served in self.served.values() if served.worker is not None]
        for worker in workers:
            worker.cancel()
        if workers:
            await asyncio.wait(workers, timeout=DRAIN)

    async def _keep(self, what: str, work: Callable[[], Awaitable[None]], before: Once[Any] | None = None) -> None:
        """Does one part of it. What breaks over it is told, and ends no other: it is begun again, where that does not have to be `before`
        something has come. Raises InvalidKubeconfig."""
        failures = 0
        while True:
            try:
                await work()
            except Exception as error:
                first = innermost(error)
                if isinstance(first, InvalidKubeconfig) or (before is not None and before.is_there):
                    raise first from error
                failures += 1
                is_ours = isinstance(first, JobyardError)
                self.trouble[what] = str(first) if is_ours else f"it broke ({place_of(first)}), which is a mistake of Jobyard's"
                log.warning("can't %s: %s", what, self.trouble[what], exc_info=None if is_ours else error)
                await asyncio.sleep(AGAIN.draw(failures, first))
                del self.trouble[what]
            else:
                return

    async def opened(self) -> ClusterEngine:
        """The engine, once its namespace is in sight: from then on triggers are served."""
        return await self._opened.get()

    def apply(self, settings: Settings) -> list[str]:
        """Takes new settings: triggers that are other than before are started anew, those that are gone end; says which. The others do not
        notice. (What is about the service itself is for whoever runs it: `is_same_service`.)"""
        wanted = {each.name: each for each in settings.triggers}
        touched = [name for name, served in self.served.items() if wanted.get(name) != served.settings]
        for name in touched:
            worker = self.served.pop(name).worker
            if worker is not None:
                worker.cancel()
                self._ending[worker] = name
                worker.add_done_callback(self._ending.pop)
        for name, each in wanted.items():
            if name not in self.served:
                touched.append(name)
                self._serve(each)
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
        if before := [worker for worker, name in self._ending.items() if name == trigger.name]:
            await asyncio.wait(before, timeout=END_WITHIN)
        with about(trigger=trigger.name):
            engine = self._measures.engine(await self._opened.get(), trigger.name)
            if served.settings.budget is not None:
                trigger = FailureBudget(trigger, served.settings.budget, report, self.clock)
            paused = Paused(trigger, served.switch, report)
            await Supervised(LeaderOnly(paused, self.election, report), report, self.clock).run(engine)

    async def _keep_engine(self) -> None:
        """Opens the engine; one that does not open is tried again, and one that broke afterwards is the end of all."""
        await self._keep("see the cluster", self._open_engine, self._opened)

    async def _open_engine(self) -> None:
        options = Options(
            retention=self.settings.retention,
            retention_failed=self.settings.retention_failed,
            triggers=self.served.keys(),
            service="" if self.settings.only_triggers else self.settings.name,
            told=self.obstacles.note,
            ended=self._note_end,
            looked=self._measures.note_decision,
            namespaces=100 + len(self.settings.namespaces),
        )
        async with open_engine(self.cluster, self.clock, self.namespace, options) as engine:
            self.engine = engine
            self._opened.set(engine)
            async with asyncio.TaskGroup() as tasks, self.obstacles.said(engine):
                for name in self.settings.namespaces:  # one that can't be opened just now keeps nobody waiting
                    tasks.create_task(self._keep(f"see namespace {name}", functools.partial(_open, engine, name)))
                await asyncio.Event().wait()

    def _note_end(self, run: Run, outcome: Outcome) -> None:
        if not is_news(run, outcome, self.clock.now()):
            return
        self._measures.note_end(run, outcome)
        failed = next((step for step in outcome.view.steps if step.state in (State.FAILED, State.LOST)), None)
        why = f": {failed.reason or outcome.reason}" if failed else ""
        with about(trigger=run.trigger, run=run.name, job=failed.job or "" if failed else ""):
            log.info("run %s has ended: %s%s", run.name, outcome.state, why)

    async def _keep_electing(self) -> None:
        await self._opened.get()  # the cluster answers
        await self.election.run()

    async def _keep_leading(self) -> None:
        """Drives every open run while this process leads."""
        gate, engine = self.election, await self._opened.get()
        while True:
            await gate.opened()
            self._leads = True
            self._limits_wanted.set()
            self._news.set()
            log.info("process %s leads", self.me)
            adopting = asyncio.create_task(asyncio.Event().wait() if self.settings.only_triggers else engine.adopt(), name="adoption")
            closing = asyncio.create_task(gate.closed(), name="end of leadership")
            try:
                await asyncio.wait([adopting, closing], return_when=asyncio.FIRST_COMPLETED)
                if adopting.done():
                    adopting.result()
            finally:
                self._leads = False
                for each in (adopting, closing):
                    each.cancel()
                await asyncio.gather(adopting, closing, return_exceptions=True)
            log.info("process %s leads no more", self.me)

    # --- the board ---

    async def _keep_listening(self) -> None:
        async for notes in self.board.watch():
            self._note_board(notes.trouble)
            if notes.trouble is not None and (self.notes is not None or not await self._may_never_see(notes.trouble)):
                continue  # what was said there last holds
            old, self.notes = self.notes, notes
            self._heed()
            self._news.set()  # who leads sees to it that what stands there is true
            if self._leads and old is not None:
                for name, poke in notes.pokes.items():
                    if name in self.served and poke != old.pokes.get(name):
                        self.served[name].source.wake(poke.commit)

    def _note_board(self, error: JobyardError | None) -> None:
        """Says once that the board can't be seen."""
        if error is None:
            self.trouble.pop(BOARD, None)
        elif self.trouble.get(BOARD) != (why := f"{error}; no trigger can be paused, and a standby can't hand on webhooks"):
            self.trouble[BOARD] = why
            log.warning("%s: %s", BOARD, why)

    async def _may_never_see(self, error: JobyardError) -> bool:
        """Whether the board is hidden for as long as our rights stay as they are: then we do without. A Role that is gone for a moment comes back."""
        if not isinstance(error, Forbidden):
            return True
        await self._opened.get()
        return await lacking(self.cluster, self.namespace, [RECORDS]) != []

    def _heed(self) -> None:
        """Does what the board says about pauses; nothing is taken while we don't know that."""
        for name, served in self.served.items():
            pause = self.notes.pauses.get(name) if self.notes else None
            by = pause.by if pause else ""
            if by and by != served.paused_by:
                log.info("trigger %s is paused by %s: it takes nothing new", name, by)
            elif served.paused_by and not by:
                log.info("trigger %s goes on", name)
            served.paused_by = by
            if pause is not None or self.notes is None:
                served.switch.close()
            else:
                served.switch.open()

    async def _keep_telling(self) -> None:
        """The leader writes how its triggers stand when that is not what the board says, whoever wrote that."""
        while True:
            await self._news.wait(TELL_EVERY)  # of queues nothing else tells
            await asyncio.sleep(SETTLES)
            if not self._leads or self.notes is None or isinstance(self.notes.trouble, NotOurBoard):
                continue
            standings = self.standings()
            gone = [name for name in self.notes.standings if name not in standings]
            changed: dict[str, Standing | None] = {
                name: standing for name, standing in standings.items() if not _is_same(standing, self.notes.standings.get(name))
            }
            changed |= dict.fromkeys(gone)
            if not changed:
                continue
            for name in gone:
                log.warning(
                    "trigger %s is served no more: its name is not in the settings. If it has another now, its source is read from the beginning under that",
                    name,
                )
            if await self._try("tell how the triggers stand", functools.partial(self.board.tell, changed)):
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
                state=health.stage,
                since=health.since,
                said=now,
                by=self.me,
                alone=self.settings.replicas == 1,
                failures=health.failures,
                error=why[:WORDS],
                until=health.until,
                queues=served.source.levels() if health.stage is Stage.RUNNING else (),
            )
        return found

    async def _keep_limits(self) -> None:
        """The leader sets the limits that the settings name: they win over what people set."""
        await self._opened.get()
        while True:
            await self._limits_wanted.wait()
            if self._leads and not await self._try("set the limits", self._set_limits):
                await asyncio.sleep(TRY_AGAIN)
                self._limits_wanted.set()

    async def _set_limits(self) -> None:
        for namespace in (self.namespace, *self.settings.namespaces):
            await keep_limits(self.cluster, namespace, self.settings.name, self.settings.limits)

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
        """A source has news: whoever leads is told. Raises what the cluster answers a standby, NoAnswer where that takes too long."""
        served = self.served.get(trigger)
        if served is None:  # new settings have come in the meantime
            return
        if self._leads:
            served.source.wake(commit)
            return
        try:
            async with asyncio.timeout(HEAR_WITHIN):
                await self.board.poke(trigger, self.clock.now(), commit)
        except TimeoutError:
            raise NoAnswer(what="the cluster did not answer", remedy="try again later") from None


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

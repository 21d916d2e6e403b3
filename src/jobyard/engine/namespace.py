"""The runs of one namespace: its watches, what they have seen, and what triggers and faces ask of its runs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from jobyard.contracts import Clock, Cluster, Inventory
from jobyard.engine import home
from jobyard.engine.admission import Admission
from jobyard.engine.adoption import Adoption
from jobyard.engine.driver import Driver, Tools
from jobyard.engine.drivers import Drivers
from jobyard.engine.home import End, Record
from jobyard.engine.incomplete import Incomplete
from jobyard.engine.ledger import Ledger
from jobyard.engine.limiter import Limiter
from jobyard.engine.logs import last_lines
from jobyard.engine.patching import patch_this
from jobyard.engine.run_sight import RunSight
from jobyard.engine.sight import Sight
from jobyard.engine.signals import Signal
from jobyard.engine.tidying import Tidying
from jobyard.engine.watches import Watches
from jobyard.model import names
from jobyard.model.errors import Conflict, Forbidden, NoSuchRun, NotEnded, NotFound, Unauthorized, Unavailable
from jobyard.model.objects import CONFIG_MAPS, JOBS, ConfigMap, Event, Job, Kind, Pod
from jobyard.model.parameters import resolve
from jobyard.model.retention import Keeping
from jobyard.model.run import Outcome, Run, RunRequest, RunView, StepView
from jobyard.model.workflow import Workflow
from jobyard.patience import PATIENCE, patiently

log = logging.getLogger("jobyard.engine")

Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class Options:
    """How an engine works, beside its cluster."""

    alone: bool = False
    """It leads, and starts what is to start in its namespaces, as who adopts does: limits are counted by what is seen, and no place is written
    where nobody else takes any (a person's `jobyard run`, another service)."""
    gives_up: timedelta | None = None
    """How long credentials or rights may be missing before who waits is told; None for ever, as a service wants it."""
    retention: timedelta | None = None
    """How long after their end runs are kept whose workflow does not say; None for ever."""
    retention_failed: timedelta | None = None
    """The same for runs that did not succeed; None: as for all."""
    triggers: Collection[str] = ()
    """The triggers that look after their own runs, as they are at any moment; of others, retention takes what was never released."""
    service: str = ""
    """Whose runs these are: what is submitted here bears the name; what bears another is not adopted, released or deleted. '' for nobody's."""
    namespaces: int = 100
    """How many may be open at once: each has four watches, and whoever may name one could name any number."""
    told: Callable[[Run], None] = lambda _: None
    """Is called with each run that is driven here whenever its view may have changed."""
    ended: Callable[[Run, Outcome], None] = lambda _run, _outcome: None
    """Is called once with each run that ends while it is driven here."""
    looked: Callable[[float], None] = lambda _: None
    """Is called with the seconds that each look at a run took."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """How much a namespace's part of an engine has to do."""

    driven: int
    """Runs that have a driver here."""
    waiting: int
    """Submits that wait for room in limits."""


COMMAND = Options(gives_up=timedelta(minutes=1))
"""How a command works, that somebody waits for."""


class Namespace:
    """One namespace's part of an engine. Made by `open_namespace`."""

    def __init__(self, cluster: Cluster, clock: Clock, name: str, tasks: asyncio.TaskGroup, options: Options) -> None:
        self._cluster = cluster
        self._clock = clock
        self._name = name
        self._tasks = tasks
        self._options = options
        self.sight = Sight()
        self.ledger = Ledger(cluster, clock, name, self.sight)
        self.limiter = Limiter(cluster, clock, name, self.sight, leads=self._leads, service=options.service)
        self._admission = Admission(cluster, name, self.sight, self.ledger, self.limiter, self._see, options.gives_up)
        self._watches = Watches(cluster, clock, name, self)
        self._open: set[asyncio.Task[None]] = set()
        tools = Tools(
            cluster=cluster,
            clock=clock,
            namespace=name,
            sight=self.sight,
            ledger=self.ledger,
            limiter=self.limiter,
            gives_up=options.gives_up,
            pods_heard=lambda: self._watches.pods_heard,
            unreachable=lambda: self._watches.unreachable,
            told=options.told,
            looked=options.looked,
            ended=self._ended,
        )
        self._drivers = Drivers(tools, self._spawn)
        self._tidying = Tidying(
            cluster,
            clock,
            name,
            self.sight,
            self._drivers,
            self.limiter.places,
            self.release,
            Keeping(runs=options.retention, failed=options.retention_failed),
            Incomplete(cluster, name, self.sight, self.ledger, self._admission, self._left, options.service),
            triggers=options.triggers,
            service=options.service,
        )
        self.adoption = Adoption(self.sight, self.ledger.elsewhere, self._drivers, self._tidying, options.service)

    @property
    def name(self) -> str:
        return self._name

    @property
    def unreachable(self) -> str:
        """Why the cluster can't be asked just now; '' while it can."""
        return self._watches.unreachable

    # --- submit ---

    async def submit(self, request: RunRequest) -> Run:
        values = resolve(request.workflow.parameters, request.inputs)
        request = replace(request, workflow=replace(request.workflow, values=values), service=self._options.service)
        known = self.sight.runs.get(request.run_id)
        if known is not None and not known.is_gone and home.same_request(known.record, request) and not _is_incomplete(known):
            record, existed = known.record, True
        else:
            record, existed = await self._admission.admit(request)
        seen = self.sight.of(record.metadata.uid) or self._aside(record)
        run = replace(seen.run(self._name), existed=existed)
        if request.held or run.released:
            return run
        driver = self._drivers.drive(seen)
        if request.accepted and isinstance(record, ConfigMap):
            await asyncio.shield(driver.launched)
        return run

    def _aside(self, record: Record) -> RunSight:
        """A run that is released already: nothing watches it, and whoever asks is told from its record."""
        seen = RunSight(record)
        seen.is_gone = True
        return seen

    async def room(self, workflow: Workflow) -> int:
        return await self.limiter.free(workflow)

    async def try_out(self, request: RunRequest) -> None:
        values = resolve(request.workflow.parameters, request.inputs)
        request = replace(request, workflow=replace(request.workflow, values=values), service=self._options.service)
        await self._admission.try_out(request)

    # --- the other questions of a trigger ---

    async def outcome(self, run: Run) -> Outcome:
        driver = self._drivers.of(run.uid) or self._drivers.drive(await self._seen(run))
        return await asyncio.shield(driver.outcome)

    async def _seen(self, run: Run) -> RunSight:
        """What is seen of a run that somebody knows. Raises NoSuchRun."""
        seen = self.sight.of(run.uid)
        if seen is not None:
            return seen
        record = await self.ledger.find(run.id)
        if record is None or record.metadata.uid != run.uid:
            raise NoSuchRun(run=run.name, namespace=self._name, hint="")
        return self._see(record) or self._aside(record)

    def runs(self, trigger: str) -> list[Run]:
        label = names.label_value(trigger)
        mine = [
            run.run(self._name)
            for run in self.sight.runs.values()
            if run.record.metadata.labels.get(names.TRIGGER) == label and not run.is_gone
        ]
        return sorted(mine, key=lambda run: (run.created, run.name))

    async def find(self, run: str) -> Run:
        record = await self.ledger.find(run)
        if record is None:
            raise NoSuchRun(run=names.shown(run), namespace=self._name, hint="")
        return home.read(record, self._name)

    async def release(self, run: Run, until: datetime | None = None) -> None:
        try:
            seen = await self._seen(run)
        except NoSuchRun:
            return
        if seen.released:
            return
        end = self._end(run, seen)
        if end is None:
            raise NotEnded(run=run.name, state=home.read(seen.record, self._name).state)
        now = self._clock.now()
        if until is not None and until > now:
            kept = {"metadata": {"annotations": {names.KEPT_UNTIL: until.isoformat()}}}
            with contextlib.suppress(NotFound):
                self._see(await self._patiently(lambda: self.ledger.change(seen.record, kept)))
            return
        for job in list(seen.jobs.values()) if seen.keeps else ():
            change = home.release_job(job, end, now)
            if change is not None:
                with contextlib.suppress(NotFound):
                    await self._patiently(functools.partial(patch_this, self._cluster, JOBS, self._name, job, change))
        change = home.release(seen.record, end, now)
        seen.is_leaving = True
        try:
            with contextlib.suppress(NotFound):
                self._see(await self._patiently(lambda: self.ledger.change(seen.record, change)))
        finally:
            seen.is_leaving = False
            self._left(seen)

    def _end(self, run: Run, seen: RunSight) -> End | None:
        driver = self._drivers.of(run.uid)
        if driver is not None and driver.outcome.done() and driver.outcome.exception() is None:
            told = driver.outcome.result()
            return End(state=told.state, reason=told.reason, finished=told.view.finished)
        return home.end(seen.record)

    async def begin(self, run: Run) -> None:
        seen = await self._seen(run)
        if names.HELD in seen.record.metadata.annotations:
            change = {"metadata": {"annotations": {names.HELD: None}}}
            self._see(await self._patiently(lambda: self.ledger.change(seen.record, change)))

    async def abandon(self, run: Run) -> None:
        with contextlib.suppress(NotFound, NoSuchRun):
            seen = await self._seen(run)
            record = await self._patiently(lambda: self.ledger.look_again(seen))
            if record is None or names.HELD not in record.metadata.annotations:
                return
            metadata = record.metadata
            with contextlib.suppress(Conflict):  # somebody has let it begin in the meantime
                await self._cluster.delete(CONFIG_MAPS, self._name, metadata.name, uid=run.uid, version=metadata.resource_version)
                self._left(self.sight.forget(run.uid))

    async def _patiently(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """Also over credentials and rights that are missing for a while. Raises what the cluster answered last."""
        seconds = PATIENCE if self._options.gives_up is None else min(PATIENCE, self._options.gives_up.total_seconds())
        return await patiently(call, over=(Unavailable, Conflict, Unauthorized, Forbidden), seconds=seconds)

    async def last_lines(self, run: Run, step: StepView, count: int) -> list[str]:
        seen = self.sight.of(run.uid)
        job = seen.jobs.get(step.job) if seen else None
        known = list(seen.pods.get(job.metadata.uid, {}).values()) if seen and job else []
        without = functools.partial(self._watches.do_without, "pod logs", "failures are reported without the last lines of their logs")
        return await last_lines(self._cluster, self._name, step, count, known=known, without=without)

    # --- the questions of a face ---

    async def cancel(self, run: Run) -> None:
        change = {"metadata": {"annotations": {names.CANCEL: self._clock.now().isoformat()}}}
        seen = await self._seen(run)
        if not seen.released:
            self._see(await self._patiently(lambda: self.ledger.change(seen.record, change)))

    def view(self, run: Run) -> RunView | None:
        """The run as it stood at the last look; None before the first, and where it is not driven."""
        driver = self._drivers.of(run.uid)
        return driver.view() if driver else None

    @asynccontextmanager
    async def changes(self, run: Run) -> AsyncIterator[Signal]:
        """A signal that is set whenever the run's view may have changed."""
        driver = self._drivers.drive(await self._seen(run))
        signal = Signal()
        signal.set()
        driver.watchers.add(signal)
        try:
            yield signal
        finally:
            driver.watchers.discard(signal)

    def _ended(self, driver: Driver) -> None:
        """A run has ended. One that has no source to wait for is released by who drives every run."""
        if not driver.outcome.exception():
            self._options.ended(driver.run, driver.outcome.result())
        is_ours = not home.is_anothers(driver.seen.record, self._options.service)
        if self.adoption.is_on and is_ours and driver.run.trigger in names.FACES:
            self._spawn(self._tidying.release(driver.run), f"release {driver.run.name}")

    def _leads(self) -> bool:
        """Whether every run that may start in the namespace starts here: then limits are counted by what is seen."""
        return self._options.alone or self.adoption.is_on

    def load(self) -> Load:
        """How much there is to do just now."""
        return Load(driven=len(self._drivers), waiting=len(self.limiter.lines))

    def open_runs(self) -> list[Run]:
        """The runs that were not released, whoever began them."""
        return [run.run(self._name) for run in self.sight.runs.values() if not run.is_gone]

    # --- what the watches tell ---

    def _see(self, seen: Job | Pod | Event | ConfigMap) -> RunSight | None:
        """Takes something in, and wakes whom it concerns."""
        run = self.sight.see(seen)
        self._left(run)
        return run

    def _left(self, run: RunSight | None) -> None:
        """Something of this run has changed, or is gone."""
        if run is not None:
            driver = self._drivers.of(run.uid)
            if driver is not None:
                driver.dirty.set()
            elif run.is_gone:
                self.sight.drop(run)
            else:
                self.adoption.consider(run)
        self.limiter.settle()

    def take_in(self, seen: Job | Pod | Event | ConfigMap) -> None:
        self._see(seen)

    def let_go(self, uid: str, version: str) -> None:
        self._left(self.sight.forget(uid, version))

    def runs_with_jobs_of_their_own(self) -> list[str]:
        return [run.id for run in self.sight.runs.values() if run.keeps]

    def note_inventory(self, kind: Kind[Any], inventory: Inventory) -> None:
        for uid in self.sight.gone_by(kind, inventory):
            self.let_go(uid, inventory.version)

    def note_config_maps(self, *, seen: bool) -> None:
        if self.sight.without_config_maps == seen:
            self.sight.without_config_maps = not seen
            self.ledger.elsewhere.ask_anew()

    def note_reach(self) -> None:
        self._drivers.note_reach()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self._tasks.create_task(work, name=name)
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        return task

    async def start(self) -> None:
        """Opens the watches; returns when all have told what there is. Raises what the cluster answers, where nobody waits for ever."""
        await self._watches.start(self._spawn, self._options.gives_up)

    def close(self) -> None:
        """Ends the watches and the workers. The runs' Jobs go on."""
        for task in list(self._open):
            if not task.cancelling():  # the group may have begun to: a second cancellation would cut short who is cleaning up
                task.cancel()


def _is_incomplete(seen: RunSight) -> bool:
    annotations = seen.record.metadata.annotations
    return names.INCOMPLETE in annotations or (isinstance(seen.record, Job) and names.OBJECTS in annotations)


@asynccontextmanager
async def open_namespace(cluster: Cluster, clock: Clock, name: str, options: Options) -> AsyncIterator[Namespace]:
    """A namespace with its watches open. Leaving ends its tasks; the runs' Jobs go on."""
    async with asyncio.TaskGroup() as tasks:
        namespace = Namespace(cluster, clock, name, tasks, options)
        try:
            await namespace.start()
            yield namespace
        finally:
            namespace.close()

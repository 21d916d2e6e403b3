"""The runs of one namespace: its watches, what they have seen, and the drivers of the runs that are driven here."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from jobyard.contracts import Change, Clock, Cluster
from jobyard.engine import home
from jobyard.engine.driver import Driver, Tools
from jobyard.engine.home import End, Record
from jobyard.engine.ledger import Ledger, kind_of
from jobyard.engine.limiter import Limiter
from jobyard.engine.logs import last_lines
from jobyard.engine.refusal import Verdict, judge
from jobyard.engine.rights import JOB_RECORDS, RECORDS, lacking
from jobyard.engine.run_sight import RunSight
from jobyard.engine.sight import Sight
from jobyard.engine.signals import Signal
from jobyard.engine.sweep import delete_stopped, sweep
from jobyard.model import names
from jobyard.model.errors import (
    Conflict,
    Forbidden,
    JobyardError,
    NoAnswer,
    NoSuchRun,
    NotEnded,
    NotFound,
    Rejected,
    RightsUnavailable,
    Unauthorized,
    Unavailable,
)
from jobyard.model.job import hand_back_ttl, moment
from jobyard.model.objects import CONFIG_MAPS, EVENTS, JOBS, PODS, ConfigMap, Event, Job, Kind, Pod
from jobyard.model.parameters import resolve
from jobyard.model.run import Outcome, Reason, Run, RunRequest, RunView, StepView
from jobyard.patience import CLUSTER, PATIENCE, patiently

log = logging.getLogger("jobyard.engine")

Seen = TypeVar("Seen", Job, Pod, Event, ConfigMap)
Answer = TypeVar("Answer")
TIDY_EVERY = timedelta(minutes=1)
"""How often what is over is looked through for what may go."""
SWEEP_EVERY = 10
"""After how many of those looks retention is seen to."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How an engine works, beside its cluster."""

    alone: bool = False
    """No other process starts runs in its namespaces (it leads): limits are counted, and no place need be written."""
    gives_up: timedelta | None = None
    """How long credentials or rights may be missing before who waits is told; None for ever, as a service wants it."""
    retention: timedelta | None = None
    """How long after their end runs are kept whose workflow does not say; None for ever."""
    triggers: Collection[str] = ()
    """The triggers that look after their own runs; of others, retention takes what was never released."""
    told: Callable[[Run], None] = lambda _: None
    """Is called with each run that is driven here whenever its view may have changed."""


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
        self.limiter = Limiter(cluster, clock, name, self.sight, alone=options.alone)
        self._drivers: dict[str, Driver] = {}
        """By the uid of the run's record."""
        self._working: dict[str, asyncio.Task[None]] = {}
        self._adopting = False
        self._out_of_touch: dict[str, JobyardError] = {}
        """By the kind of objects that nothing is heard of, in the plural."""
        self._config_maps_seen = asyncio.Event()
        self._missed: set[str] = set()
        """Rights that we do without, and have said so."""
        self._pods_heard = clock.now()
        self._open: set[asyncio.Task[None]] = set()
        self._tools = Tools(
            cluster=cluster,
            clock=clock,
            namespace=name,
            sight=self.sight,
            ledger=self.ledger,
            limiter=self.limiter,
            gives_up=options.gives_up,
            pods_heard=lambda: self._pods_heard,
            unreachable=self._unreachable,
            told=options.told,
            ended=self._ended,
        )

    # --- submit ---

    async def submit(self, request: RunRequest) -> Run:
        values = resolve(request.workflow.parameters, request.inputs)
        request = replace(request, workflow=replace(request.workflow, values=values))
        known = self.sight.runs.get(request.run_id)
        if known is not None and not known.is_gone and home.same_request(known.record, request) and not _is_incomplete(known):
            record, existed = known.record, True
        else:
            record, existed = await self._admit(request)
        seen = self.sight.of(record.metadata.uid) or self._aside(record)
        run = replace(seen.run(self._name), existed=existed)
        if request.held or run.released:
            return run
        driver = self._drive(seen)
        if request.accepted and isinstance(record, ConfigMap):
            await asyncio.shield(driver.launched)
        return run

    async def _admit(self, request: RunRequest) -> tuple[Record, bool]:
        """The request's record, made once there is room for its run."""
        run, flow = request.run_id, request.workflow
        failures = 0
        while True:
            if request.waits:
                await self.limiter.enter(run, flow)
            try:
                needs_place = request.waits and home.is_plain(request) and self.limiter.waits_for(flow)
                if not needs_place or await self.limiter.admit(run, flow) is None:
                    made, existed = await self._make(request)
                    self._see(made)
                    return made, existed
            finally:
                self.limiter.keep_promise(run)
            # Another process has the place, or has just had it: its ConfigMap says so before we can see whose it is.
            failures += 1
            await asyncio.sleep(CLUSTER.draw(failures))

    async def _make(self, request: RunRequest) -> tuple[Record, bool]:
        """The request's record in the home that is its own. A run that can't start at once is one that everybody can see to wait, or to have
        failed, unless its source wants to know. Raises Rejected, Unavailable."""
        tries, loop = 0, asyncio.get_running_loop()
        begun = loop.time()
        wants_to_know = request.waits or request.accepted
        as_job = wants_to_know or not self.limiter.waits_for(request.workflow)
        while True:
            try:
                made = await self.ledger.create_job(request) if as_job else None
                return made if made is not None else await self.ledger.create_record(request)
            except Rejected as refused:
                if refused.reason == Reason.NO_RIGHT:  # our own word: it can't be had in this namespace
                    raise
                tries += 1
                verdict = await self._judge(refused, request, tries)
                if as_job and not wants_to_know and home.is_plain(request) and not self.sight.without_config_maps:
                    as_job = False
                    continue
                is_barred = verdict.reason == Reason.NO_RIGHT
                if verdict.wait is None or not (wants_to_know or is_barred):
                    raise
                if is_barred and self._options.gives_up is None:
                    wait = verdict.wait.total_seconds()
                    raise RightsUnavailable(namespace=self._name, what=verdict.message, retry_after=wait) from refused
                if is_barred and self._options.gives_up is not None and loop.time() - begun >= self._options.gives_up.total_seconds():
                    raise
                await asyncio.sleep(CLUSTER.draw(tries) if is_barred else verdict.wait.total_seconds())

    async def _judge(self, refused: Rejected, request: RunRequest, tries: int) -> Verdict:
        """What the refusal of a record, or of what stands beside it, means. Names the rights that are missing."""
        if not isinstance(refused, Forbidden):
            return judge(refused, tries, None, self._name)
        wanted = [*JOB_RECORDS, *(() if self.sight.without_config_maps else RECORDS)]
        for each in request.objects:
            wanted.append(("create", await kind_of(self._cluster, each)))
        missing = await lacking(self._cluster, self._name, wanted)
        verdict = judge(refused, tries, None if missing is None else not missing, self._name)
        return replace(verdict, message=f"we may not {', '.join(missing)}") if missing else verdict

    def _aside(self, record: Record) -> RunSight:
        """A run that is released already: nothing watches it, and whoever asks is told from its record."""
        seen = RunSight(record)
        seen.is_gone = True
        return seen

    # --- the other questions of a trigger ---

    async def outcome(self, run: Run) -> Outcome:
        driver = self._drivers.get(run.uid)
        if driver is None:
            driver = self._drive(await self._seen(run))
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
            raise NoSuchRun(run=run, namespace=self._name, hint="")
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
            change = hand_back_ttl(job, end.finished, now)
            if change is not None:
                with contextlib.suppress(NotFound):
                    await self._patiently(functools.partial(self._cluster.patch, JOBS, self._name, job.metadata.name, change))
        change = home.release(seen.record, end, now)
        seen.is_leaving = True
        try:
            with contextlib.suppress(NotFound):
                self._see(await self._patiently(lambda: self.ledger.change(seen.record, change)))
        finally:
            seen.is_leaving = False
            self._left(seen)

    def _end(self, run: Run, seen: RunSight) -> End | None:
        driver = self._drivers.get(run.uid)
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
            await self._patiently(lambda: self._cluster.delete(CONFIG_MAPS, self._name, record.metadata.name, uid=run.uid))
            self._left(self.sight.forget(run.uid))

    async def _patiently(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """Also over credentials and rights that are missing for a while. Raises what the cluster answered last."""
        seconds = PATIENCE if self._options.gives_up is None else min(PATIENCE, self._options.gives_up.total_seconds())
        return await patiently(call, over=(Unavailable, Conflict, Unauthorized, Forbidden), seconds=seconds)

    async def last_lines(self, run: Run, step: StepView, count: int) -> list[str]:
        seen = self.sight.of(run.uid)
        job = seen.jobs.get(step.job) if seen else None
        known = list(seen.pods.get(job.metadata.uid, {}).values()) if seen and job else []
        without = functools.partial(self._do_without, "pod logs", "nobody is told the last lines of what failed")
        return await last_lines(self._cluster, self._name, step, count, known=known, without=without)

    # --- the questions of a face ---

    async def cancel(self, run: Run) -> None:
        change = {"metadata": {"annotations": {names.CANCEL: self._clock.now().isoformat()}}}
        seen = await self._seen(run)
        if not seen.released:
            self._see(await patiently(lambda: self.ledger.change(seen.record, change)))

    def view(self, run: Run) -> RunView | None:
        """The run as it stood at the last look; None before the first, and where it is not driven."""
        driver = self._drivers.get(run.uid)
        return driver.view() if driver else None

    @asynccontextmanager
    async def changes(self, run: Run) -> AsyncIterator[Signal]:
        """A signal that is set whenever the run's view may have changed."""
        driver = self._drive(await self._seen(run))
        signal = Signal()
        signal.set()
        driver.watchers.add(signal)
        try:
            yield signal
        finally:
            driver.watchers.discard(signal)

    # --- who drives ---

    def _drive(self, seen: RunSight) -> Driver:
        driver = self._drivers.get(seen.uid)
        if driver is None:
            driver = self._drivers[seen.uid] = Driver(self._tools, seen)
            self._working[seen.uid] = worker = self._tasks.create_task(self._work(driver), name=f"run {seen.record.metadata.name}")
            self._open.add(worker)
            worker.add_done_callback(self._open.discard)
        return driver

    async def _work(self, driver: Driver) -> None:
        uid = driver.seen.uid
        try:
            await driver.work()
        finally:
            if self._drivers.get(uid) is driver:
                del self._drivers[uid], self._working[uid]
            if driver.seen.is_gone:
                self.sight.drop(driver.seen)
                self.limiter.settle()

    def _ended(self, driver: Driver) -> None:
        """A run has ended. One that has no source to wait for is released by who drives every run."""
        if self._adopting and driver.run.trigger in names.FACES:
            self._spawn(self._release_quietly(driver.run), f"release {driver.run.name}")

    async def _release_quietly(self, run: Run) -> None:
        try:
            await self.release(run)
        except JobyardError as error:
            log.warning("run %s could not be released; whoever drives it next does: %s", run.name, error)

    async def adopt(self) -> None:
        """Drives every open run of the namespace, whoever began it, and sees to what is over; until cancelled. Then nothing more is done."""
        self._adopting = True
        try:
            for seen in list(self.sight.runs.values()):
                self._consider(seen)
            await self._tidy()
        finally:
            self._adopting = False
            workers = list(self._working.values())
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    def _consider(self, seen: RunSight) -> None:
        """Adopts a run, unless it is held: such a run is begun or abandoned by its trigger alone."""
        if not seen.is_gone and names.HELD not in seen.record.metadata.annotations:
            self._drive(seen)

    async def _release_kept(self) -> None:
        """Releases the runs whose sources have let go, and that are counted no more; and those that could not be released at their end."""
        for seen in list(self.sight.runs.values()):
            until = moment(seen.record.metadata.annotations.get(names.KEPT_UNTIL))
            is_due = until is not None and until <= self._clock.now()
            driver = self._drivers.get(seen.uid)
            has_ended = driver is not None and driver.run.trigger in names.FACES and driver.outcome.done()
            if (is_due or (until is None and has_ended)) and not (seen.is_gone or seen.is_leaving):
                await self.release(seen.run(self._name))

    async def _tidy(self) -> None:
        count = 0
        cared_for = {names.label_value(trigger) for trigger in self._options.triggers}
        while True:
            try:
                await self._release_kept()
                await delete_stopped(self._cluster, self._clock, self._name)
                if count % SWEEP_EVERY == 0:
                    await sweep(self._cluster, self._clock, self._name, self._options.retention, cared_for=cared_for)
            except JobyardError as error:
                log.warning("what is over in namespace %s could not be tidied; tried again: %s", self._name, error)
            count += 1
            await asyncio.sleep(TIDY_EVERY.total_seconds())

    # --- the watches ---

    def _see(self, seen: Job | Pod | Event | ConfigMap) -> RunSight | None:
        """Takes something in, and wakes whom it concerns."""
        run = self.sight.see(seen)
        self._left(run)
        return run

    def _left(self, run: RunSight | None) -> None:
        """Something of this run has changed, or is gone."""
        if run is not None:
            driver = self._drivers.get(run.uid)
            if driver is not None:
                driver.dirty.set()
            elif run.is_gone:
                self.sight.drop(run)
            elif self._adopting:
                self._consider(run)
        self.limiter.settle()

    async def _watch(self, kind: Kind[Seen], labels: str, fields: str, synced: asyncio.Future[JobyardError | None]) -> None:
        async for change in self._cluster.watch(kind, self._name, labels=labels, fields=fields):
            try:
                self._note(kind, change, synced)
            except Exception as error:  # what is in the namespace is input: nothing in it ends more than itself
                log.warning("a change of %s could not be taken in", kind.plural, exc_info=error)

    def _note(self, kind: Kind[Seen], change: Change[Seen], synced: asyncio.Future[JobyardError | None]) -> None:
        match change.type:
            case "SYNCED":
                if not synced.done():
                    synced.set_result(None)
                if kind is CONFIG_MAPS:
                    self._see_config_maps()
                self._touch(kind, None)
            case "LOST_TOUCH":
                is_barred = isinstance(change.error, Forbidden)
                if is_barred and (kind is EVENTS or (kind is CONFIG_MAPS and not self._config_maps_seen.is_set())):
                    self._touch(kind, None)
                    if kind is EVENTS:
                        self._do_without("events", "a diagnosis says less", change.why)
                    if not synced.done():
                        synced.set_result(change.error)
                else:
                    self._touch(kind, change.error)
            case "SEEN" if change.object is not None:
                if isinstance(change.object, Pod):
                    self._pods_heard = self._clock.now()
                self._see(change.object)
            case "GONE":
                self._left(self.sight.forget(change.uid))

    def _see_config_maps(self) -> None:
        self._config_maps_seen.set()
        if self.sight.without_config_maps:
            log.warning("namespace %s: we may see ConfigMaps now: they are used", self._name)
            self.sight.without_config_maps = False
            self.ledger.ask_anew()

    def _do_without(self, what: str, missed: str, why: str) -> None:
        """Says once what a right that may be left out would have been for."""
        if what not in self._missed:
            self._missed.add(what)
            log.warning("namespace %s: without %s, %s (%s)", self._name, what, missed, why)

    def _touch(self, kind: Kind[Any], error: JobyardError | None) -> None:
        """We are in touch with the objects of a kind, or have lost it, and why."""
        was = self._out_of_touch.pop(kind.plural, None)
        if error is not None:
            self._out_of_touch[kind.plural] = error
            if was is None:
                log.warning("namespace %s is out of sight: %s", self._name, error)
        elif was is not None:
            log.warning("namespace %s: %s are in sight again", self._name, kind.plural)
        if (was is None) != (error is None) or str(was) != str(error):
            self._reach()

    def _unreachable(self) -> str:
        return next((str(error) for error in self._out_of_touch.values()), "")

    def _reach(self) -> None:
        for driver in list(self._drivers.values()):
            driver.note_reach()

    def _spawn(self, work: object, name: str) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self._tasks.create_task(work, name=name)  # type: ignore[arg-type]
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        return task

    async def start(self) -> None:
        """Opens the watches, records first: what comes then is known to belong to one, or to none. Returns when all have told what there is.

        Raises what the cluster answers, where nobody waits for ever.
        """
        limit = self._options.gives_up.total_seconds() if self._options.gives_up else None
        try:
            async with asyncio.timeout(limit):
                refused = await self._begin_watch(CONFIG_MAPS, names.WATCHED)
                await self._begin_watch(JOBS, names.WATCHED)
                if refused is not None:
                    await self._ask_for_config_maps(refused)
                await self._begin_watch(PODS, names.SELECTOR)
                await self._begin_watch(EVENTS, "", "type=Warning")
        except TimeoutError:
            why = next(iter(self._out_of_touch.values()), None)
            raise why or NoAnswer(server="", what="gave no answer", remedy="try again later") from None

    async def _begin_watch(self, kind: Kind[Seen], labels: str, fields: str = "") -> JobyardError | None:
        """Returns when all that exists has been told; or says why it never will be."""
        synced: asyncio.Future[JobyardError | None] = asyncio.get_running_loop().create_future()
        self._spawn(self._watch(kind, labels, fields, synced), f"watch {kind.plural} of {self._name}")
        return await synced

    async def _ask_for_config_maps(self, refused: JobyardError) -> None:
        """We may see Jobs, and could not see ConfigMaps a moment ago: because our Role has none, or because there was no Role at all?"""
        missing = await patiently(lambda: lacking(self._cluster, self._name, RECORDS))
        if missing == []:
            await self._config_maps_seen.wait()
        elif not self._config_maps_seen.is_set():
            self.sight.without_config_maps = True
            missed = "only runs of one Job are taken that start at once, and the limits of the namespace do not count"
            self._do_without("ConfigMaps", missed, str(refused))

    def close(self) -> None:
        """Ends the watches and the workers. The runs' Jobs go on."""
        for task in list(self._open):
            if not task.cancelling():  # the group may have begun to: a second cancellation would cut short who is cleaning up
                task.cancel()


def _is_incomplete(seen: RunSight) -> bool:
    annotations = seen.record.metadata.annotations
    return names.INCOMPLETE in annotations or (names.OBJECTS in annotations)


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

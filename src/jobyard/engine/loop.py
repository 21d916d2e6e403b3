"""The engine: one watch per kind and namespace marks runs dirty; one worker a run looks, decides and acts."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeVar

from jobyard.contracts import Clock, Cluster
from jobyard.engine import record as records
from jobyard.engine.act import Actor, seconds_until
from jobyard.engine.decide import decide
from jobyard.engine.decision import Decision
from jobyard.engine.ledger import Ledger
from jobyard.engine.limiter import Limiter
from jobyard.engine.limits import LIMITS
from jobyard.engine.logs import last_lines
from jobyard.engine.observe import JOB_NAME_LABEL, Sight, show
from jobyard.engine.signals import Signal
from jobyard.model import names
from jobyard.model.errors import Conflict, JobyardError, NoSuchRun, NotFound, Rejected, Unavailable
from jobyard.model.job import read
from jobyard.model.objects import CONFIG_MAPS, EVENTS, JOBS, PODS, ConfigMap, Event, Job, Kind, Pod
from jobyard.model.parameters import resolve
from jobyard.model.run import Outcome, Reason, Run, RunRequest, RunView, State, StepView
from jobyard.patience import CLUSTER, patiently

PODS_LATE = timedelta(seconds=2)
"""How long the stream of pods must have been silent before a pod that it has not told of is asked for: two streams tell of a Job's end."""
PODS_AT_LAST = timedelta(seconds=30)
"""How long after the Job's end it is asked for in any case."""
REST = 3
"""How many times as long as a look took the changes that come meanwhile may gather before the next. A look takes time for each step of the
run, and a large run changes all the time: looking at each change would take a whole processor. A small run is looked at at once."""
Watched = TypeVar("Watched", Job, Pod, Event, ConfigMap)


@dataclass
class _Driven:
    """A run that this process drives."""

    run: Run
    actor: Actor
    dirty: Signal = field(default_factory=Signal)
    watchers: set[Signal] = field(default_factory=set)
    decision: Decision | None = None
    rested: float = 0.0
    """When it may be looked at again, by the event loop's clock."""
    unreachable: str = ""
    unexplained: dict[str, datetime] = field(default_factory=dict)
    """Jobs that ended before a pod of theirs was seen to, and since when."""
    asked: set[str] = field(default_factory=set)
    """Those whose pods were asked for."""
    outcome: asyncio.Future[Outcome] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class ClusterEngine:
    """The Engine whose memory is the cluster. Made by `open_engine`."""

    def __init__(self, cluster: Cluster, clock: Clock, namespace: str, tasks: asyncio.TaskGroup, told: Callable[[Run], None]) -> None:
        self._cluster = cluster
        self._clock = clock
        self._namespace = namespace
        self._tasks = tasks
        self._told = told
        self._sight = Sight()
        self._ledger = Ledger(cluster, clock, namespace, self._sight)
        self._limiter = Limiter(cluster, namespace, self._sight)
        self._room = asyncio.Event()
        self._admitting = asyncio.Lock()
        self._driven: dict[str, _Driven] = {}
        self._out_of_touch: dict[str, str] = {}
        self._pods_heard = clock.now()
        self._without_room: set[str] = set()
        """Runs that wait for a place in a limit."""
        self._open: set[asyncio.Task[None]] = set()

    # --- the waist ---

    async def submit(self, request: RunRequest) -> Run:
        values = resolve(request.workflow.parameters, request.inputs)
        request = replace(request, workflow=replace(request.workflow, values=values))
        made, existed = await self._admit(request)
        run = await self._ledger.run(made, existed)
        if run is None:
            raise Rejected(
                action=f"create the record {request.run_id}",
                status=409,
                reason=Reason.NAME_TAKEN,
                message="a ConfigMap of this name is there already and is not a run's record",
            )
        self._drive(run)
        return run

    async def _admit(self, request: RunRequest) -> tuple[ConfigMap, bool]:
        """The request's record, made once there is room for its run."""
        if not request.waits or request.run_id in self._sight.records or not self._limiter.limits(request.workflow):
            return await self._ledger.create(request)
        while True:
            room = self._room
            async with self._admitting:  # one after the other: else all that wait would see the same free place
                if self._limiter.full(request.run_id, request.workflow) is None:
                    made, existed = await self._ledger.create(request)
                    self._sight.see(made)
                    return made, existed
            await room.wait()

    async def outcome(self, run: Run) -> Outcome:
        return await asyncio.shield(self._drive(run).outcome)

    async def runs(self, trigger: str) -> list[Run]:
        selector = f"{names.RECORD_SELECTOR},{names.TRIGGER}={names.label_value(trigger)},{names.OPEN}"
        found = [
            await self._ledger.run(record, existed=True)
            for record in await self._cluster.list(CONFIG_MAPS, self._namespace, labels=selector)
        ]
        return sorted((run for run in found if run), key=lambda run: run.created)

    async def release(self, run: Run) -> None:
        for name, job in list(self._sight.jobs[run.id].items()):
            ttl = job.metadata.annotations.get(names.TTL)
            if ttl is None or not ttl.isdigit():
                continue
            change = {"metadata": {"annotations": {names.TTL: None}}, "spec": {"ttlSecondsAfterFinished": int(ttl)}}
            with contextlib.suppress(NotFound):
                await patiently(functools.partial(self._cluster.patch, JOBS, self._namespace, name, change))
        now = self._clock.now().isoformat()
        with contextlib.suppress(NotFound):
            change = {"metadata": {"annotations": {names.RELEASED: now}, "labels": {names.OPEN: None}}}
            await patiently(lambda: self._cluster.patch(CONFIG_MAPS, self._namespace, run.id, change))
        driven = self._driven.get(run.id)
        if driven is not None and driven.outcome.done() and not driven.watchers:
            del self._driven[run.id]  # whoever asks again finds it in the cluster

    async def begin(self, run: Run) -> None:
        change = {"metadata": {"annotations": {names.HELD: None}}}
        self._mark(self._sight.see(await patiently(lambda: self._cluster.patch(CONFIG_MAPS, self._namespace, run.id, change))))

    async def abandon(self, run: Run) -> None:
        with contextlib.suppress(NotFound):
            record = await patiently(lambda: self._cluster.get(CONFIG_MAPS, self._namespace, run.id))
            if names.HELD in record.metadata.annotations:
                await patiently(lambda: self._cluster.delete(CONFIG_MAPS, self._namespace, run.id, uid=run.uid))

    async def last_lines(self, run: Run, step: StepView, count: int) -> list[str]:
        job = self._sight.jobs[run.id].get(step.job)
        known = list(self._sight.pods.get(job.metadata.uid, {}).values()) if job else []
        return await last_lines(self._cluster, self._namespace, step, count, known=known)

    async def find(self, run_id: str, namespace: str = "") -> Run:
        try:
            record = await self._cluster.get(CONFIG_MAPS, self._namespace, run_id)
        except NotFound:
            raise NoSuchRun(run=run_id, namespace=self._namespace, hint="") from None
        run = await self._ledger.run(record, existed=True)
        if run is None:
            raise NoSuchRun(run=run_id, namespace=self._namespace, hint=": the ConfigMap of that name is no run's record")
        self._sight.see(record)
        return run

    # --- beside the waist: for a face that shows runs ---

    async def cancel(self, run: Run) -> None:
        """Asks for the run's end: whoever drives it stops its Jobs and starts no other. Safe to repeat."""
        change = {"metadata": {"annotations": {names.CANCEL: self._clock.now().isoformat()}}}
        self._mark(self._sight.see(await patiently(lambda: self._cluster.patch(CONFIG_MAPS, self._namespace, run.id, change))))

    def view(self, run: Run) -> RunView | None:
        """The run as it stood at the last look; None before the first."""
        driven = self._driven.get(run.id)
        if driven is None or driven.decision is None:
            return None
        return show(self._sight, run.id, run.workflow, self._namespace, driven.decision, run.created, driven.unreachable)

    @asynccontextmanager
    async def changes(self, run: Run) -> AsyncIterator[Signal]:
        """A signal that is set whenever the run's view may have changed."""
        driven = self._drive(run)
        signal = Signal()
        signal.set()
        driven.watchers.add(signal)
        try:
            yield signal
        finally:
            driven.watchers.discard(signal)

    # --- the loop ---

    def _drive(self, run: Run) -> _Driven:
        driven = self._driven.get(run.id)
        if driven is None:
            actor = Actor(self._cluster, self._clock, self._namespace, self._sight, self._limiter, run, self._without_room)
            driven = self._driven[run.id] = _Driven(run=run, actor=actor)
            worker = self._tasks.create_task(self._work(driven), name=f"run {run.id}")
            self._open.add(worker)
            worker.add_done_callback(self._open.discard)
        return driven

    async def _work(self, driven: _Driven) -> None:
        """One run's worker. What goes wrong with one run is told to whoever awaits it, and stops no other."""
        try:
            outcome = await self._until_the_end(driven)
        except JobyardError as error:
            del self._driven[driven.run.id]
            driven.outcome.set_exception(error)
        else:
            driven.outcome.set_result(outcome)
        driven.outcome.exception()  # nobody need be waiting
        self._tell(driven)

    async def _until_the_end(self, driven: _Driven) -> Outcome:
        """Looks, decides, acts, until the run has ended and all that was decided is done."""
        failures, loop = 0, asyncio.get_running_loop()
        while True:
            wait: float | None
            try:
                decision = await self._look(driven)
                refused = dict(driven.actor.refusals)
                left = await driven.actor.act(decision.actions)
                failures, driven.unreachable = 0, self._touch()
                if decision.state.is_end:
                    self._tell(driven)
                    view = show(self._sight, driven.run.id, driven.run.workflow, self._namespace, decision, driven.run.created)
                    return Outcome(state=decision.state, reason=decision.reason, view=view)
                wait = 0.0 if left or driven.actor.refusals != refused else seconds_until(decision.wake_at, self._clock.now())
            except Unavailable as error:
                failures += 1
                driven.unreachable = str(error)
                wait = CLUSTER.draw(failures, error)
            except (Conflict, NotFound):  # the cluster moved on meanwhile: look again
                failures += 1
                wait = CLUSTER.draw(failures)
            self._tell(driven)
            if wait != 0:
                await asyncio.sleep(driven.rested - loop.time())
            await driven.dirty.wait(wait)

    async def _look(self, driven: _Driven) -> Decision:
        now = self._clock.now()
        waiting = await self._explain(driven, now)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        observed = self._sight.observe(driven.run.id, driven.actor.refusals, waiting)
        if observed is None:
            # Somebody deleted the record: its Jobs go with it. There is nothing left to drive, and nothing to write on.
            last = driven.decision
            steps = last.steps if last else ()
            return Decision(actions=(), state=State.LOST, reason=Reason.JOB_VANISHED, finished=self._clock.now(), steps=steps, wake_at=None)
        decision = decide(driven.run.workflow, observed, now)
        driven.rested = loop.time() + REST * (loop.time() - begun)
        if waiting:
            again = now + PODS_LATE
            decision = replace(decision, wake_at=min(decision.wake_at or again, again))
        driven.decision = decision
        return decision

    async def _explain(self, driven: _Driven, now: datetime) -> set[str]:
        """The Jobs that have ended and whose pods are still to be seen. After a while they are asked for, once: perhaps they are gone."""
        waiting = set()
        for job in self._sight.unexplained(driven.run.id):
            name = job.metadata.name
            since = driven.unexplained.setdefault(name, now)
            if now - max(since, min(self._pods_heard, since + PODS_AT_LAST)) < PODS_LATE:
                waiting.add(name)
            elif name not in driven.asked:
                driven.asked.add(name)
                for pod in await self._cluster.list(PODS, self._namespace, labels=f"{JOB_NAME_LABEL}={name}"):
                    self._sight.see(pod)
        return waiting

    def _tell(self, driven: _Driven) -> None:
        self._told(driven.run)
        for watcher in driven.watchers:
            watcher.set()

    def _mark(self, run: str) -> None:
        driven = self._driven.get(run)
        if driven:
            driven.dirty.set()

    def _touch(self) -> str:
        return next(iter(self._out_of_touch.values()), "")

    async def _watch(self, kind: Kind[Watched], labels: str, fields: str, synced: asyncio.Event) -> None:
        async for change in self._cluster.watch(kind, self._namespace, labels=labels, fields=fields):
            match change.type:
                case "SYNCED":
                    synced.set()
                    if self._out_of_touch.pop(kind.plural, None) is not None:
                        self._reach()
                case "LOST_TOUCH":
                    self._out_of_touch[kind.plural] = change.why
                    self._reach()
                case "SEEN" if change.object is not None:
                    if isinstance(change.object, Pod):
                        self._pods_heard = self._clock.now()
                    self._mark(self._sight.see(change.object))
                    if _makes_room(change.object):
                        self._make_room()
                case "GONE" if change.object is not None:
                    self._mark(self._sight.forget(change.object))
                    if isinstance(change.object, ConfigMap | Job):
                        self._make_room()

    def _make_room(self) -> None:
        """Somebody may have left a place in a limit, or a limit is another: wakes whoever waits for one."""
        self._room.set()
        self._room = asyncio.Event()
        waiting = list(self._without_room)
        self._without_room.clear()
        for run in waiting:
            driven = self._driven.get(run)
            if driven is not None and driven.actor.room():
                driven.dirty.set()

    def _reach(self) -> None:
        for driven in self._driven.values():
            driven.unreachable = self._touch()
            self._tell(driven)

    async def start(self) -> None:
        """Opens the watches; returns when all have told what there is."""
        events = [asyncio.Event() for _ in range(4)]
        watches = [
            self._watch(CONFIG_MAPS, names.SELECTOR, "", events[0]),
            self._watch(JOBS, names.SELECTOR, "", events[1]),
            self._watch(PODS, names.SELECTOR, "", events[2]),
            self._watch(EVENTS, "", "type=Warning", events[3]),
        ]
        for watch in watches:
            self._open.add(self._tasks.create_task(watch))
        for event in events:
            await event.wait()

    def close(self) -> None:
        """Ends the watches and the workers. The runs' Jobs go on."""
        for task in list(self._open):
            if not task.cancelling():  # the group may have begun to: a second cancellation would cut short who is cleaning up
                task.cancel()


def _makes_room(seen: ConfigMap | Job | Pod | Event) -> bool:
    """Whether what was seen may mean that a limit has room again."""
    if isinstance(seen, Job):
        return read(seen).state.is_end
    return isinstance(seen, ConfigMap) and (records.end(seen) is not None or seen.metadata.name == LIMITS)


@asynccontextmanager
async def open_engine(
    cluster: Cluster, clock: Clock, namespace: str, told: Callable[[Run], None] = lambda _: None
) -> AsyncIterator[ClusterEngine]:
    """An engine for one namespace, its watches open. Leaving ends its tasks; the runs' Jobs go on.

    `told`: is called with each run that is driven here whenever its view may have changed.
    """
    async with asyncio.TaskGroup() as tasks:
        engine = ClusterEngine(cluster, clock, namespace, tasks, told)
        try:
            await engine.start()
            yield engine
        finally:
            engine.close()

"""Carries out a decision's actions. Each may be repeated at any time: a crash in between costs nothing but the repetition."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta

from jobyard.contracts import Clock, Cluster
from jobyard.engine import record as records
from jobyard.engine.decision import Action, Create, Delete, Kill, Record, Refusal, Stop
from jobyard.engine.limiter import Limiter
from jobyard.engine.observe import Sight
from jobyard.model import names
from jobyard.model.errors import Conflict, NamespaceTerminating, NoRoom, NotFound, PlaceholderUnknown, Rejected
from jobyard.model.job import Owner, is_ours, render
from jobyard.model.objects import CONFIG_MAPS, JOBS, PODS, Job
from jobyard.model.parameters import environment
from jobyard.model.run import Reason, Role, Run, State
from jobyard.model.template import lookup

IN_FLIGHT = 16
"""Calls of one run under way at once. More gain nothing on an API server (837/s at 32, 741/s at 8) and starve others."""

FRESH = 1.0
"""Seconds after which a decision is too old to create Jobs by."""

LOOK_FOR_NAME = timedelta(seconds=1)
"""How long to wait before asking again for a name that another Job of the same source still has."""

Outputs = Mapping[str, Mapping[str, object]]
"""What each step that succeeded gave, by its name."""

LOOK_FOR_ROOM = timedelta(seconds=5)
"""How long to wait before asking again a namespace whose quota is full: nothing tells us when room comes."""


class Actor:
    """Carries out the actions of one run, and remembers what the cluster refused."""

    def __init__(
        self, cluster: Cluster, clock: Clock, namespace: str, sight: Sight, limiter: Limiter, run: Run, without_room: set[str]
    ) -> None:
        """`without_room`: where the run is noted when it waits for a place in a limit."""
        self._cluster = cluster
        self._clock = clock
        self._namespace = namespace
        self._sight = sight
        self._limiter = limiter
        self._run = run
        self._without_room = without_room
        self.refusals: dict[tuple[Role, str, int], Refusal] = {}

    def room(self) -> bool:
        """There may be room in a limit again: forgets that there was none. Says whether that was so."""
        waiting = [slot for slot, refusal in self.refusals.items() if refusal.reason == Reason.WAITING_FOR_LIMIT]
        for slot in waiting:
            del self.refusals[slot]
        return bool(waiting)

    async def act(self, actions: tuple[Action, ...]) -> bool:
        """Does `actions`: what runs first, then the record, then what goes away. Raises Unavailable or Rejected.

        One that fails does not hold back the others; the first failure is raised once all were tried. A decision grows old while it is
        carried out: Jobs that were not yet created after a while are left for the next look, which may know of a cancel. Says whether
        some were.
        """
        loop = asyncio.get_running_loop()
        stale = loop.time() + FRESH
        left = False
        outputs = self._outputs() if any(isinstance(each, Create) for each in actions) else {}
        first: list[Action] = [each for each in actions if isinstance(each, Create | Stop | Kill)]
        room = asyncio.Semaphore(IN_FLIGHT)
        failures: list[Exception] = []

        async def one(action: Action) -> None:
            nonlocal left
            async with room:
                if isinstance(action, Create) and loop.time() > stale:
                    left = True
                    return
                try:
                    await self._do(action, outputs)
                except Exception as error:  # noqa: BLE001 - raised below, when the others are through
                    failures.append(error)

        async with asyncio.TaskGroup() as group:
            for action in first:
                group.create_task(one(action))
        for action in actions:
            if isinstance(action, Record | Delete):
                await one(action)
        if failures:
            raise failures[0]
        return left

    async def _do(self, action: Action, outputs: Outputs) -> None:
        match action:
            case Create():
                await self._create(action, outputs)
            case Stop():
                await self._stop(action.job, action.reason)
            case Kill():
                job = self._sight.jobs[self._run.id].get(action.job)
                for pod in list(self._sight.pods.get(job.metadata.uid, {}).values()) if job else ():
                    await self._cluster.delete(PODS, self._namespace, pod.metadata.name, uid=pod.metadata.uid, grace=0)
            case Record():
                await self._record(action)
            case Delete():
                for name in action.jobs:
                    job = self._sight.jobs[self._run.id].get(name)
                    await self._cluster.delete(JOBS, self._namespace, name, uid=job.metadata.uid if job else "")

    async def _create(self, action: Create, outputs: Outputs) -> None:
        run, slot = self._run, (action.role, action.step, action.attempt)
        step = run.workflow.by_name[action.step]
        template = step.job if action.role is Role.STEP else step.revert
        if template is None:
            return
        try:
            manifest = template.fill(lookup(run.workflow.values, outputs))
        except PlaceholderUnknown as error:
            self.refusals[slot] = Refusal(reason=Reason.OUTPUT_MISSING, message=str(error))
            return
        job = render(
            manifest,
            owner=Owner(run=run.id, uid=run.uid, trigger=run.trigger),
            role=action.role,
            step=action.step,
            attempt=action.attempt,
            env=environment(run.workflow.parameters, run.workflow.values),
            owns_retries=step.retry.limit > 0,
            keeps_name=run.workflow.keeps_names,
        )
        name = job["metadata"]["name"]
        full = await self._limiter.admit(run, step, name)
        if full is not None:
            until = self._clock.now() + LOOK_FOR_ROOM
            self.refusals[slot] = Refusal(reason=Reason.WAITING_FOR_LIMIT, message=str(full), until=until)
            self._without_room.add(run.id)
            return
        try:
            made = await self._cluster.create(JOBS, self._namespace, job)
        except Conflict as conflict:
            made = await self._adopt(name, conflict)
        except NoRoom as refused:
            until = self._clock.now() + LOOK_FOR_ROOM
            self.refusals[slot] = Refusal(reason=Reason.QUOTA_EXCEEDED, message=refused.message, until=until)
            return
        except NamespaceTerminating:
            why = f"Namespace {self._namespace} is being deleted: nothing can start in it any more."
            self.refusals[slot] = Refusal(reason=Reason.NAMESPACE_TERMINATING, message=why)
            return
        except Rejected as refused:
            self.refusals[slot] = Refusal(reason=Reason.REFUSED, message=refused.message)
            return
        if not is_ours(made, run.id, run.uid):
            self.refusals[slot] = await self._make_way(made)
            return
        # Into the cache at once: or a limit of N becomes N + 1 before the watch tells.
        if name not in self._sight.jobs[run.id]:
            self._sight.see(made)

    async def _make_way(self, other: Job) -> Refusal:
        """What to do about a Job that has the name that ours should have. A finished one of an earlier run of the same source goes, where
        names are kept; any other is left alone."""
        name, run, labels = other.metadata.name, self._run, other.metadata.labels
        theirs = labels.get(names.RUN, "")
        if not run.workflow.keeps_names or labels.get(names.MANAGED_BY) != names.JOBYARD or labels.get(names.TRIGGER) != run.trigger:
            message = f"A Job named {name} is there already and is not this run's: it is left alone."
            return Refusal(reason=Reason.NAME_TAKEN, message=message)
        soon = self._clock.now() + LOOK_FOR_NAME
        record = self._sight.records.get(theirs)
        if record is not None and names.RELEASED not in record.metadata.annotations:
            message = f"Job {name} of run {theirs} is still in use: this one starts when that run is over."
            return Refusal(reason=Reason.WAITING_FOR_NAME, message=message, until=soon)
        await self._cluster.delete(JOBS, self._namespace, name, uid=other.metadata.uid)
        return Refusal(reason=Reason.WAITING_FOR_NAME, message=f"Job {name} of run {theirs} is over and makes way.", until=soon)

    async def _record(self, action: Record) -> None:
        """Writes the pages first, then the record itself: with an end, everything that belongs to it is there before it."""
        run = self._run.id
        known = self._sight.records.get(run)
        if known is None:
            return  # deleted: the next look sees
        pages = records.pages(action.results, known, self._run.workflow)
        own = pages.pop(run, {})
        for name, data in pages.items():
            try:
                self._sight.see(await self._cluster.patch(CONFIG_MAPS, self._namespace, name, {"data": data}))
            except NotFound:
                made = await self._cluster.create(CONFIG_MAPS, self._namespace, records.page(run, self._run.uid, name, data))
                self._sight.see(made)
        change = records.change(action, own, known)
        if change is not None:
            self._sight.see(await self._cluster.patch(CONFIG_MAPS, self._namespace, run, change))

    async def _adopt(self, name: str, conflict: Conflict) -> Job:
        try:
            return await self._cluster.get(JOBS, self._namespace, name)
        except NotFound:
            raise conflict from None  # deleted between the two calls: the next look sees

    def _outputs(self) -> Outputs:
        """What the steps that succeeded gave, recorded or as their Jobs tell."""
        observed = self._sight.observe(self._run.id, {})
        found: dict[str, dict[str, object]] = {}
        if observed is None:
            return found
        for (role, step), attempts in observed.attempts.items():
            if role is Role.STEP and attempts[-1].outputs is not None:
                found[step] = dict(attempts[-1].outputs)
        for (role, step), result in observed.recorded.items():
            if role is Role.STEP and result.state is State.SUCCEEDED and result.outputs is not None:
                found[step] = dict(result.outputs)
        return found

    async def _stop(self, name: str, reason: Reason) -> None:
        annotations = {names.STOP: str(reason), names.STOPPED_AT: self._clock.now().isoformat()}
        change = {"metadata": {"annotations": annotations}, "spec": {"suspend": True}}
        try:
            self._sight.see(await self._cluster.patch(JOBS, self._namespace, name, change))
        except NotFound:
            return  # gone already: the watch tells


def seconds_until(then: datetime | None, now: datetime) -> float | None:
    """Seconds from now until then, not negative; None for never."""
    return None if then is None else max((then - now).total_seconds(), 0.0)
